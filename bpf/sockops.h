/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Hands what a steered client dialled to the socket that its Envoy accepts, which answers
 * SO_ORIGINAL_DST with it. An ordinary connection costs a few comparisons, and what `traffic.h` counts. */
#pragma once

static __always_inline void hand_over(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct steered_key key = {};
	struct origin *origin;

	if (!sk)
		return;
	key.netns = bpf_get_netns_cookie(ctx);
	key.src = ADDRESS_OF(ctx, local);
	key.dst = ADDRESS_OF(ctx, remote);
	key.src_port_be = bpf_htons(ctx->local_port);
	origin = bpf_sk_storage_get(&sl_origin, sk, 0, 0);
	/* Not steered, but to such a port: nobody may inherit what an earlier user of it dialled. */
	if (origin && origin->steered && !origin->accepted)
		bpf_map_update_elem(&sl_steered, &key, origin, BPF_ANY);
	else
		bpf_map_delete_elem(&sl_steered, &key);
}

static __always_inline void take_over(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct steered_key key = {};
	struct origin *origin, *kept;

	if (!sk)
		return;
	key.netns = bpf_get_netns_cookie(ctx);
	key.src = ADDRESS_OF(ctx, remote);
	key.dst = ADDRESS_OF(ctx, local);
	key.src_port_be = ctx->remote_port >> 16;
	origin = bpf_map_lookup_elem(&sl_steered, &key);
	if (!origin)
		return;
	kept = bpf_sk_storage_get(&sl_origin, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (kept) {
		*kept = *origin;
		kept->accepted = 1;
	}
	bpf_map_delete_elem(&sl_steered, &key);
}

SEC("sockops")
int sock_ops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB && ctx->remote_port == bpf_htonl(EGRESS_PORT))
		hand_over(ctx);
	else if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && ctx->local_port == EGRESS_PORT)
		take_over(ctx);
	else if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		count_opened(ctx);
	return 1;
}

SEC("cgroup/getsockopt")
int original_dst(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct sockaddr_in6 *ip6;
	struct sockaddr_in *ip4;
	struct origin *origin;
	void *end = ctx->optval_end;

	if (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6) || !sk)
		return 1;
	origin = bpf_sk_storage_get(&sl_origin, sk, 0, 0);
	if (!origin || !origin->accepted || is_ip4(&origin->original) != (ctx->level == SOL_IP))
		return 1;
	if (ctx->level == SOL_IP) {
		ip4 = ctx->optval;
		if ((void *)(ip4 + 1) > end)
			return 1;
		__builtin_memset(ip4, 0, sizeof(*ip4));
		ip4->sin_family = AF_INET;
		ip4->sin_port = origin->original_port_be;
		ip4->sin_addr.s_addr = origin->original.w[3];
		ctx->optlen = sizeof(*ip4);
	} else {
		ip6 = ctx->optval;
		if ((void *)(ip6 + 1) > end)
			return 1;
		__builtin_memset(ip6, 0, sizeof(*ip6));
		ip6->sin6_family = AF_INET6;
		ip6->sin6_port = origin->original_port_be;
		__builtin_memcpy(&ip6->sin6_addr, &origin->original, sizeof(ip6->sin6_addr));
		ctx->optlen = sizeof(*ip6);
	}
	ctx->retval = 0;
	return 1;
}
