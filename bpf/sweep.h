/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* The sweep (rule 8): run over the TCP sockets of a pod's namespace after a flip, it ends those
 * that the new generation does not allow. It writes one byte for each. */
#pragma once

/* Reads whether a full socket belongs to an Envoy of ours, as tc would learn from its packets. */
static __always_inline bool is_proxy_socket(struct sock_common *skc)
{
	struct cgroup **ancestors, *ancestor = 0, *cgroup;
	__u64 proxies = config(SL_CFG_PROXY_CGROUP);
	__u32 level = config(SL_CFG_PROXY_LEVEL);

	if (skc->skc_state == TCP_NEW_SYN_RECV || !proxies)
		return false;
	cgroup = BPF_CORE_READ((struct sock *)skc, sk_cgrp_data.cgroup);
	if (!cgroup || BPF_CORE_READ(cgroup, level) < (int)level)
		return false;
	ancestors = __builtin_preserve_access_index(&cgroup->ancestors[0]);
	bpf_probe_read_kernel(&ancestor, sizeof(ancestor), &ancestors[level]);
	return ancestor && BPF_CORE_READ(ancestor, kn, id) == proxies;
}

/* Without an entry nobody knows who opened it: both ways are tried, as tc does. */
SUBPROGRAM int judge_stray(const struct tuple *t, bool proxy, __u32 now)
{
	struct judgement j = {};
	struct tuple reverse;

	if (!t)
		return 0;
	judge(t, &j, now);
	if (!j.reason)
		return j.steer && !proxy ? SL_DROP_NEEDS_PROXY : 0;
	reverse = *t;
	turn_round(&reverse);
	judge(&reverse, &j, now);
	return j.reason ? SL_DROP_NO_FLOW : 0;
}

SUBPROGRAM int report_end(const struct tuple *t, __u32 reason, __u32 now)
{
	struct peer peer = {};
	struct event *e;

	if (!t)
		return 0;
	e = new_event(SL_EVENT_END, now);
	if (!e)
		return 0;
	e->src = t->src;
	e->dst = t->dst;
	e->src_port_be = t->src_port_be;
	e->dst_port_be = t->dst_port_be;
	e->protocol = t->protocol;
	e->verdict = SL_DENY;
	e->reason = reason;
	find_peer(&t->src, &peer, now);
	e->src_id = peer.id;
	find_peer(&t->dst, &peer, now);
	e->dst_id = peer.id;
	publish(e);
	return 0;
}

/* The peer must hear of it: tc lets a RST pass that has an entry. */
static __noinline int admit_reset(const struct flow_key *key, __u32 now)
{
	struct flow_value closed = { .seen_ns = bpf_ktime_get_ns(), .flags = SL_FLOW_CLOSED };
	const struct pod_slot *pod = pod_at(&key->a, now);

	closed.ifindex[0] = pod ? pod->ifindex : 0;
	pod = pod_at(&key->b, now);
	closed.ifindex[1] = pod ? pod->ifindex : 0;
	return bpf_map_update_elem(&sl_flow, key, &closed, BPF_NOEXIST);
}

SEC("iter/tcp")
int sweep(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct flow_value *flow;
	struct flow_key key;
	struct tuple t = {};
	__u32 now, reason;
	char one = 1;

	if (!skc || skc->skc_state == TCP_TIME_WAIT || skc->skc_state == TCP_LISTEN || !read_socket(skc, &t))
		return 0;
	if (is_loopback(&t.src) || is_loopback(&t.dst) || is_listener_block(&t.dst) || is_listener_block(&t.src) ||
	    same(&t.src, &t.dst))
		return 0;
	now = generation();
	flow_key_of(&t, &key);
	flow = bpf_map_lookup_elem(&sl_flow, &key);
	if (flow && flow->generation == now)
		return 0;
	reason = flow ? rejudge(&key, flow, now) : judge_stray(&t, is_proxy_socket(skc), now);
	if (!reason)
		return 0;
	if (!flow)
		admit_reset(&key, now);
	if (bpf_sock_destroy(skc))
		return 0;
	report_end(&t, reason, now);
	bpf_seq_write(ctx->meta->seq, &one, sizeof(one));
	return 0;
}
