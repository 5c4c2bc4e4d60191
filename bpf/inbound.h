/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* sk_lookup of a pod's namespace (rule 5): a new connection goes to the listener of its caller's
 * policy class, or to the application where only the kernel judges. */
#pragma once

/* What was decided here is what happens to the connection: the entry that tc made follows it. */
static __always_inline void correct_flow(const struct tuple *t, __u32 listener, __u32 now)
{
	struct flow_value *flow;
	struct flow_key key;

	flow_key_of(t, &key);
	flow = bpf_map_lookup_elem(&sl_flow, &key);
	if (flow && flow->listener != listener)
		flow->listener = listener;
}

static __noinline int refuse_inbound(const struct tuple *t, __u32 id, const struct rule_value *answer, __u32 reason,
				     __u32 now)
{
	__u32 audit = is_by_policy(reason) ? answer->audit : SL_AUDIT_SAME;
	struct event *e;

	count_drop(reason);
	count_audit(audit);
	e = new_event(SL_EVENT_DROP, now);
	if (!e)
		return SK_DROP;
	e->src = t->src;
	e->dst = t->dst;
	e->src_port_be = t->src_port_be;
	e->dst_port_be = t->dst_port_be;
	e->protocol = t->protocol;
	e->src_id = id;
	e->cookie = answer->cookie;
	e->audit = audit;
	e->audit_cookie = audit ? answer->audit_cookie : 0;
	e->verdict = SL_DENY;
	e->reason = reason;
	publish(e);
	return SK_DROP;
}

SEC("sk_lookup")
int inbound(struct bpf_sk_lookup *ctx)
{
	struct tuple t = { .protocol = ctx->protocol };
	struct listener_key key = {};
	const struct pod_slot *pod;
	struct rule_value answer = {};
	struct bpf_sock *sk;
	struct peer peer = {};
	__u32 now;
	long failed;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	t.src = ADDRESS_OF(ctx, remote);
	t.dst = ADDRESS_OF(ctx, local);
	t.src_port_be = ctx->remote_port;
	t.dst_port_be = t.policy_port_be = bpf_htons(ctx->local_port);
	if (is_loopback(&t.src) || same(&t.src, &t.dst)) /* rule 10 */
		return SK_PASS;
	now = generation();
	pod = pod_at(&t.dst, now);
	if (!pod)
		return SK_PASS;
	find_peer(&t.src, &peer, now);
	ingress_verdict(pod, &peer, service_of(&t), now, &answer);
	if (answer.verdict == SL_DENY)
		return refuse_inbound(&t, peer.id, &answer, SL_DROP_POLICY_INGRESS, now);
	if (answer.verdict == SL_ALLOW) {
		correct_flow(&t, 0, now);
		return SK_PASS;
	}
	key.pod = t.dst;
	key.listener = answer.listener;
	key.family = ctx->family;
	sk = bpf_map_lookup_elem(&sl_listener, &key);
	if (!sk)
		return refuse_inbound(&t, peer.id, &answer, SL_DROP_NO_LISTENER, now);
	failed = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	if (failed)
		return refuse_inbound(&t, peer.id, &answer, SL_DROP_NO_LISTENER, now);
	correct_flow(&t, answer.listener, now);
	return SK_PASS;
}
