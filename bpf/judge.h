/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* May this opener talk to that service? Both ends are asked, as far as they are pods of this node. */
#pragma once

struct tuple {
	struct addr src;
	struct addr dst;
	__u16 src_port_be; /* ICMP echo: the identifier, at both ends */
	__u16 dst_port_be;
	__u16 policy_port_be; /* what rules name: the destination port, or the ICMP type */
	__u8 protocol;
	__u8 pad;
};

struct judgement {
	__u32 reason;    /* enum drop_reason, 0: allowed */
	__u32 steer;     /* egress L7 class: only an Envoy may open it; 0: none */
	__u32 listener;  /* ingress L7 class, 0: none */
	__u32 cookie;
	__u32 steer_cookie; /* the rules behind `steer`, where `cookie` is the destination's */
	struct audit audit;
	__u32 src_id;
	__u32 dst_id;
	__u32 ifindex[2]; /* host's end of src's and dst's veth, 0: not a pod of this node */
};

static __always_inline __u32 service_of(const struct tuple *t)
{
	return (__u32)t->protocol << 16 | t->policy_port_be;
}

SUBPROGRAM int judge(const struct tuple *t, struct judgement *j, __u32 now)
{
	struct rule_value egress, ingress;
	const struct pod_slot *src, *dst;
	struct peer from = {}, to = {};

	if (!t || !j)
		return 0;
	src = pod_at(&t->src, now);
	dst = pod_at(&t->dst, now);
	from.id = src ? src->id : 0;
	to.id = dst ? dst->id : 0;
	__builtin_memset(j, 0, sizeof(*j));
	j->ifindex[0] = src ? src->ifindex : 0;
	j->ifindex[1] = dst ? dst->ifindex : 0;
	if (is_reserved(&t->src) || is_reserved(&t->dst)) {
		j->reason = is_reserved(&t->src) ? SL_DROP_SPOOFED_SOURCE : SL_DROP_PROXY_ADDRESS;
		return 0;
	}
	if (!from.id && !to.id) {
		j->reason = SL_DROP_UNKNOWN_POD;
		return 0;
	}
	if (!src || (dst && dst->ingress_set))
		find_peer(&t->src, &from, now);
	if (!dst || (src && src->egress_set))
		find_peer(&t->dst, &to, now);
	j->src_id = from.id;
	j->dst_id = to.id;
	if (src && dst && src->ifindex == dst->ifindex) /* rule 10 */
		return 0;
	answer_with(&egress, SL_ALLOW);
	answer_with(&ingress, SL_ALLOW);
	if (src) {
		if (!dst && bpf_map_lookup_elem(&sl_vip, &t->dst)) {
			j->reason = SL_DROP_UNTRANSLATED;
			return 0;
		}
		verdict(src->egress_set, &to, service_of(t), now, &egress);
		j->cookie = egress.cookie;
		if (egress.verdict == SL_DENY && !egress.audit) {
			j->reason = refused_egress(&egress);
			return 0;
		}
		j->steer = egress.verdict == SL_STEER ? egress.listener : 0;
		j->steer_cookie = egress.cookie;
	}
	if (dst)
		ingress_verdict(dst, &from, service_of(t), now, &ingress);
	j->audit = audit_of(&egress, &ingress);
	if (egress.verdict == SL_DENY) {
		j->reason = refused_egress(&egress);
		return 0;
	}
	j->cookie = ingress.cookie ? ingress.cookie : j->cookie;
	if (ingress.verdict == SL_DENY)
		j->reason = SL_DROP_POLICY_INGRESS;
	else if (ingress.verdict == SL_STEER)
		j->listener = ingress.listener;
	return 0;
}

static __always_inline void turn_round(struct tuple *t)
{
	struct tuple was = *t;

	t->src = was.dst;
	t->dst = was.src;
	t->src_port_be = was.dst_port_be;
	t->dst_port_be = t->policy_port_be = was.src_port_be;
}
