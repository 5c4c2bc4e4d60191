/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* TCP connections of pods that no Envoy carries (rule 25), counted at both ends when they are established
 * and when the application closes them: the socket knows its bytes, so packets cost nothing. (The callback
 * for changes of state would run five times for each end.) */
#pragma once

/* Marks a socket that was counted: a callback that we do not use, of a timer that seldom fires. */
#define COUNTED BPF_SOCK_OPS_RTO_CB_FLAG

/* Finds the row of a connection as its local end (src) sees it; 0: it is an Envoy's, or nobody knows who
 * opened it. */
SUBPROGRAM int find_traffic(const struct tuple *t, struct traffic_key *row)
{
	const struct flow_value *flow;
	struct peer peer = {};
	struct flow_key key;
	__u32 side;

	if (!t || !row)
		return 0;
	side = flow_key_of(t, &key);
	flow = bpf_map_lookup_elem(&sl_flow, &key);
	/* In a flood of SYNs answers are cookies, which bear no socket; `listener` is known all the same. */
	if (!flow || flow->listener || flow->flags & (SL_FLOW_BY_PROXY | SL_FLOW_TO_PROXY | SL_FLOW_MIDWAY))
		return 0;
	row->opener = !!(flow->flags & SL_FLOW_FROM_B) == side;
	if (side ? flow->ifindex[0] : flow->ifindex[1]) {
		row->peer = t->dst;
	} else {
		/* Another node knows whether an Envoy is at that end. The world is one peer. What the node opens
		 * are probes (rule 11), which go past Istio's proxy too. */
		find_peer(&t->dst, &peer, generation());
		if (peer.id >= SL_FIRST_WORKLOAD_ID || (peer.id == SL_HOST_ID && !row->opener))
			return 0;
	}
	row->pod = t->src;
	row->port_be = row->opener ? t->dst_port_be : t->src_port_be;
	return 1;
}

static __always_inline void name_dialled(const struct origin *origin, const struct tuple *t, struct traffic_key *row)
{
	if (origin && row->opener && !origin->accepted && !same(&origin->dialled, &t->dst))
		row->vip = origin->dialled;
}

static __always_inline struct traffic_value *traffic_at(const struct traffic_key *row)
{
	struct traffic_value *traffic = bpf_map_lookup_elem(&sl_traffic, row);
	struct traffic_value none = {};

	if (traffic)
		return traffic;
	bpf_map_update_elem(&sl_traffic, row, &none, BPF_NOEXIST);
	traffic = bpf_map_lookup_elem(&sl_traffic, row);
	if (!traffic)
		count(SL_COUNT_TRAFFIC_LOST);
	return traffic;
}

/* Of sock_ops, when a connection is established. */
static __always_inline void count_opened(struct bpf_sock_ops *ctx)
{
	struct tuple t = { .protocol = IPPROTO_TCP };
	struct traffic_value *traffic;
	struct bpf_sock *sk = ctx->sk;
	struct traffic_key row = {};

	if (!sk || !config(SL_CFG_TRAFFIC))
		return;
	t.src = ADDRESS_OF(ctx, local);
	t.dst = ADDRESS_OF(ctx, remote);
	t.src_port_be = bpf_htons(ctx->local_port);
	t.dst_port_be = ctx->remote_port >> 16;
	if (!find_traffic(&t, &row))
		return;
	name_dialled(bpf_sk_storage_get(&sl_origin, sk, 0, 0), &t, &row);
	traffic = traffic_at(&row);
	if (!traffic)
		return;
	__sync_fetch_and_add(&traffic->opened, 1);
	bpf_sock_ops_cb_flags_set(ctx, COUNTED);
}

/* What the application wrote: sent, or still to be sent. */
static __always_inline __u64 bytes_written(const struct tcp_sock *tcp, const struct sock_common *skc)
{
	__u64 sent = tcp->bytes_sent - tcp->bytes_retrans;

	return skc->skc_state == TCP_CLOSE ? sent : sent + (tcp->write_seq - tcp->snd_nxt);
}

/* For connection logs: src is the end that closes, whoever opened. */
static __always_inline void report_close(const struct tuple *t, const struct traffic_key *row, __u64 sent, __u64 received)
{
	struct event *e;

	if (!config(SL_CFG_CLOSES))
		return;
	e = new_event(SL_EVENT_CLOSE, generation());
	if (!e)
		return;
	e->src = t->src;
	e->dst = t->dst;
	e->vip = row->vip;
	e->src_port_be = t->src_port_be;
	e->dst_port_be = t->dst_port_be;
	e->protocol = IPPROTO_TCP;
	e->flags = row->opener ? SL_EV_EGRESS : 0;
	e->sent = sent;
	e->received = received;
	publish(e);
}

SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *ctx)
{
	struct tuple t = { .protocol = IPPROTO_TCP };
	struct traffic_value *traffic;
	struct traffic_key row = {};
	struct sock_common *skc;
	struct inet_sock *inet;
	struct tcp_sock *tcp;
	__u64 sent, received;

	if (ctx->protocol != IPPROTO_TCP)
		return 1;
	tcp = bpf_rdonly_cast(bpf_cast_to_kern_ctx(ctx), bpf_core_type_id_kernel(struct tcp_sock));
	if (!(tcp->bpf_sock_ops_cb_flags & COUNTED))
		return 1;
	skc = bpf_rdonly_cast(tcp, bpf_core_type_id_kernel(struct sock_common));
	if (!read_socket(skc, &t))
		return 1;
	/* The kernel has forgotten skc_num of a connection that was reset. */
	inet = bpf_rdonly_cast(tcp, bpf_core_type_id_kernel(struct inet_sock));
	t.src_port_be = inet->inet_sport;
	if (!find_traffic(&t, &row))
		return 1;
	name_dialled(bpf_sk_storage_get(&sl_origin, ctx, 0, 0), &t, &row);
	traffic = traffic_at(&row);
	if (!traffic)
		return 1;
	sent = bytes_written(tcp, skc);
	/* The peer's FIN counts as a byte in the kernel's number. */
	received = tcp->bytes_received - !!(skc->skc_flags & 1 << SOCK_DONE);
	__sync_fetch_and_add(&traffic->closed, 1);
	__sync_fetch_and_add(&traffic->sent, sent);
	__sync_fetch_and_add(&traffic->received, received);
	report_close(&t, &row, sent, received);
	return 1;
}
