/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Flow entries (rule 7): who opened what, judged by which generation. */
#pragma once

#define SECOND 1000000000ULL
#define UDP_IDLE (60 * SECOND)
#define ICMP_IDLE (30 * SECOND)
#define CLOSED_LINGER (120 * SECOND)

/* Fills the key of both directions; returns which end sent: 0 for a, 1 for b. */
static __always_inline __u32 flow_key_of(const struct tuple *t, struct flow_key *key)
{
	int order = compare(&t->src, &t->dst);
	bool swap = order > 0 || (!order && bpf_ntohs(t->src_port_be) > bpf_ntohs(t->dst_port_be));

	key->a = swap ? t->dst : t->src;
	key->b = swap ? t->src : t->dst;
	key->a_port_be = swap ? t->dst_port_be : t->src_port_be;
	key->b_port_be = swap ? t->src_port_be : t->dst_port_be;
	key->protocol = t->protocol;
	key->pad[0] = key->pad[1] = key->pad[2] = 0;
	return swap;
}

static __always_inline bool is_icmp(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/* What rules name of a flow that goes to this port: that of ICMP begins with an echo request. */
static __always_inline __u16 policy_port(__u8 protocol, __u16 port_be)
{
	if (protocol == IPPROTO_ICMP)
		return bpf_htons(ICMP_ECHO);
	return protocol == IPPROTO_ICMPV6 ? bpf_htons(ICMPV6_ECHO_REQUEST) : port_be;
}

/* The question that opened the flow, as the opener asked it. */
static __always_inline void opening_of(const struct flow_key *key, __u32 flags, struct tuple *t)
{
	bool from_b = flags & SL_FLOW_FROM_B;

	t->src = from_b ? key->b : key->a;
	t->dst = from_b ? key->a : key->b;
	t->src_port_be = from_b ? key->b_port_be : key->a_port_be;
	t->dst_port_be = from_b ? key->a_port_be : key->b_port_be;
	t->protocol = key->protocol;
	t->pad = 0;
	t->policy_port_be = policy_port(key->protocol, t->dst_port_be);
}

/* How long ago its last packet was, ns. A sweep and a change of flags write the fine clock, which is
 * ahead of the coarse. */
static __always_inline __u64 silence_of(const struct flow_value *flow)
{
	__u64 now_ns = bpf_ktime_get_coarse_ns();

	return now_ns > flow->seen_ns ? now_ns - flow->seen_ns : 0;
}

/* `since` ns after the last packet that changed it, is this still the same conversation? */
static __always_inline bool is_live(const struct flow_value *flow, __u8 protocol, __u64 since)
{
	if (protocol == IPPROTO_TCP)
		return !(flow->flags & SL_FLOW_CLOSED) || since < CLOSED_LINGER;
	return since < (is_icmp(protocol) ? ICMP_IDLE : UDP_IDLE);
}

/* What a judgement means for a flow that exists: a new L7 policy must judge it, or another class of
 * rules, and their Envoy never saw it. */
static __always_inline __u32 outcome(const struct judgement *j, const struct flow_value *flow)
{
	if (j->reason)
		return j->reason;
	if (j->steer && !(flow->flags & SL_FLOW_BY_PROXY))
		return SL_DROP_NEEDS_PROXY;
	return j->listener && j->listener != flow->listener ? SL_DROP_NEEDS_PROXY : 0;
}

/* Judges a live flow by the generation in force: enum drop_reason, 0: it may go on. */
SUBPROGRAM int rejudge(const struct flow_key *key, struct flow_value *flow, __u32 now)
{
	struct judgement j = {};
	struct tuple t;
	__u32 reason, flags;

	if (!key || !flow)
		return SL_DROP_NO_FLOW;
	flags = flow->flags;
	opening_of(key, flags, &t);
	judge(&t, &j, now);
	reason = outcome(&j, flow);
	if (reason && reason != SL_DROP_NEEDS_PROXY && flags & SL_FLOW_MIDWAY) {
		turn_round(&t);
		judge(&t, &j, now);
		reason = outcome(&j, flow);
		flags ^= SL_FLOW_FROM_B;
	}
	if (reason)
		return reason;
	flow->ifindex[0] = flags & SL_FLOW_FROM_B ? j.ifindex[1] : j.ifindex[0];
	flow->ifindex[1] = flags & SL_FLOW_FROM_B ? j.ifindex[0] : j.ifindex[1];
	flow->flags = flags;
	WRITE_ONCE(flow->generation, now);
	return 0;
}
