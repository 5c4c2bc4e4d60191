/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* The socket hooks: where an application's address becomes the one that it talks to (rules 1, 2).
 * Refusing here is a courtesy, answered at once; tc enforces. */
#pragma once

/* What becomes of a call. */
struct dialling {
	struct origin origin;
	__u32 reason; /* enum drop_reason, 0: go to origin.target */
	__u32 cookie;
	struct audit audit;
	__u32 src_id;
	struct addr own; /* the caller's address of that family */
	__u8 protocol;
	__u8 proxy;
	__u8 ingress; /* the destination's policy decided */
};

static __always_inline bool is_proxy_task(void)
{
	__u64 proxies = config(SL_CFG_PROXY_CGROUP);

	return proxies && bpf_get_current_ancestor_cgroup_id(config(SL_CFG_PROXY_LEVEL)) == proxies;
}

static __always_inline void steer(struct dialling *d, __u32 listener, const struct addr *original,
				  __u16 original_port_be)
{
	d->origin.original = *original;
	d->origin.original_port_be = original_port_be;
	d->origin.target = listener_address(listener, is_ip4(original));
	d->origin.target_port_be = bpf_htons(EGRESS_PORT);
	d->origin.steered = 1;
}

/* Judges the chosen backend, which stands in origin.target. */
static __noinline int judge_backend(struct bpf_sock_addr *ctx, struct dialling *d, const struct pod_slot *pod,
				    __u32 now)
{
	struct addr to = d->origin.target;
	__u16 port_be = d->origin.target_port_be;
	__u32 service = (__u32)d->protocol << 16 | policy_port(d->protocol, port_be), listener;
	struct rule_value egress, ingress;
	const struct pod_slot *peer_pod;
	struct peer peer = {};

	if (pod->egress_set)
		find_peer(&to, &peer, now);
	answer_with(&ingress, SL_ALLOW);
	verdict(pod->egress_set, &peer, service, now, &egress);
	d->cookie = egress.cookie;
	if (egress.verdict == SL_DENY)
		d->reason = refused_egress(&egress);
	if (d->reason && !egress.audit)
		return 0;
	listener = egress.verdict == SL_STEER && !d->proxy ? egress.listener : 0;
	peer_pod = pod_at(&to, now);
	if (peer_pod && peer_pod->ingress_set) {
		find_peer(&d->own, &peer, now);
		ingress_verdict(peer_pod, &peer, service, now, &ingress);
		if (!d->reason && ingress.verdict == SL_DENY) {
			d->cookie = ingress.cookie;
			d->reason = SL_DROP_POLICY_INGRESS;
			d->ingress = 1;
		}
	}
	d->audit = audit_of(&egress, &ingress);
	if (d->reason || !listener)
		return 0;
	if (d->protocol != IPPROTO_TCP)
		d->reason = SL_DROP_NOT_PROXY;
	else if (ctx->sk && ctx->sk->bound_dev_if)
		d->reason = SL_DROP_BOUND_DEVICE;
	else
		steer(d, listener, &to, port_be);
	return 0;
}

/* Decides where the call goes; origin.dialled is given, origin.target is the answer. */
static __noinline int dial(struct bpf_sock_addr *ctx, struct dialling *d, __u32 hash, __u32 now)
{
	struct service_key key = { d->origin.dialled, d->origin.dialled_port_be, d->protocol };
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct netns_value *netns = bpf_map_lookup_elem(&sl_netns, &cookie);
	const struct service_slot *service;
	const struct route_slot *route;
	struct service_slot shares = {};
	const struct pod_slot *pod;
	struct endpoint backend = {};

	d->origin.target = d->origin.dialled;
	d->origin.target_port_be = d->origin.dialled_port_be;
	d->proxy = is_proxy_task();
	if (!netns) {
		d->reason = SL_DROP_UNKNOWN_POD;
		return 0;
	}
	d->own = is_ip4(&d->origin.dialled) ? netns->ip4 : netns->ip6;
	pod = pod_at(is_zero(&d->own) ? is_ip4(&d->origin.dialled) ? &netns->ip6 : &netns->ip4 : &d->own, now);
	d->src_id = pod ? pod->id : 0;
	if (is_proxy_address(&key.vip, key.port_be) && (!pod || pod->flags & SL_POD_PROXY)) {
		d->reason = SL_DROP_PROXY_ADDRESS;
		return 0;
	}
	if (is_loopback(&key.vip) || same(&key.vip, &d->own)) /* rule 10 */
		return 0;
	if (!pod) {
		d->reason = SL_DROP_UNKNOWN_POD;
		return 0;
	}
	service = service_at(&key, now);
	if (service) {
		route = service->flags & SL_SERVICE_ROUTED ? route_at(&key, pod->view, now) : 0;
		if (route && route->action == SL_ROUTE_STEER && pod->flags & SL_POD_ROUTES && !d->proxy &&
		    d->protocol == IPPROTO_TCP) {
			if (ctx->sk && ctx->sk->bound_dev_if)
				d->reason = SL_DROP_BOUND_DEVICE;
			else
				steer(d, ROUTING_LISTENER, &key.vip, key.port_be);
			return 0;
		}
		if (route && route->action == SL_ROUTE_BALANCE) {
			if (route->flags & SL_ROUTE_BY_CLIENT)
				hash = hash_of(&d->own);
			shares.size = route->size;
			shares.offset = route->offset;
			shares.generation = route->generation;
			shares.affinity = service->affinity;
		} else {
			shares = *service;
		}
		if (!pick_backend(&key, &shares, &d->own, hash, &backend) || !backend.port_be) {
			d->reason = SL_DROP_NO_BACKEND;
			return 0;
		}
		d->origin.target = backend.addr;
		d->origin.target_port_be = backend.port_be;
		if (same(&backend.addr, &d->own)) /* rule 10 */
			return 0;
	} else if (bpf_map_lookup_elem(&sl_vip, &key.vip)) {
		/* A service has no such port. Resolvers connect datagram sockets to any port just to see
		 * whether there is a way: what they would send is dropped at tc. */
		d->reason = d->protocol == IPPROTO_UDP ? 0 : SL_DROP_NO_BACKEND;
		return 0;
	}
	return judge_backend(ctx, d, pod, now);
}

static __noinline int report_dialling(const struct dialling *d, __u32 now)
{
	struct audit audit = {};
	struct peer peer = {};
	struct event *e;
	struct addr dst;

	if (is_by_policy(d->reason))
		audit = d->audit;
	count_audit(audit.audit);
	e = new_event(SL_EVENT_CONNECT, now);
	if (!e)
		return 0;
	dst = d->origin.steered ? d->origin.original : d->origin.target;
	find_peer(&dst, &peer, now);
	e->dst_id = peer.id;
	e->src = d->own;
	e->dst = dst;
	e->dst_port_be = d->origin.steered ? d->origin.original_port_be : d->origin.target_port_be;
	if (!same(&d->origin.dialled, &e->dst)) {
		e->vip = d->origin.dialled;
		e->vip_port_be = d->origin.dialled_port_be;
	}
	e->src_id = d->src_id;
	e->cookie = d->cookie;
	e->audit = audit.audit;
	e->audit_cookie = audit.cookie;
	e->protocol = d->protocol;
	e->verdict = d->reason ? SL_DENY : SL_STEER;
	e->reason = d->reason;
	e->flags = (d->ingress ? 0 : SL_EV_EGRESS) | (d->proxy ? SL_EV_BY_PROXY : 0) |
		   (d->origin.steered ? SL_EV_REDIRECTED : 0);
	publish(e);
	return 0;
}

static __always_inline __u8 protocol_of(const struct bpf_sock_addr *ctx)
{
	return ctx->protocol == IPPROTO_MPTCP ? IPPROTO_TCP : ctx->protocol;
}

static __always_inline bool is_translated(const struct origin *origin)
{
	return origin->target_port_be != origin->dialled_port_be || !same(&origin->target, &origin->dialled);
}

/* A datagram that answers one: the flow is the other end's, and tc follows it whoever may open one. */
static __noinline int is_answer(struct bpf_sock_addr *ctx, const struct dialling *d)
{
	struct bpf_sock *sk = ctx->sk;
	struct flow_value *flow;
	struct flow_key key;
	struct tuple t = {};
	__u32 side;

	if (!sk || !sk->src_port || d->protocol == IPPROTO_TCP || is_translated(&d->origin))
		return false;
	t.src = d->own;
	t.dst = d->origin.target;
	t.src_port_be = bpf_htons(sk->src_port);
	t.dst_port_be = d->origin.target_port_be;
	t.protocol = d->protocol;
	side = flow_key_of(&t, &key);
	flow = bpf_map_lookup_elem(&sl_flow, &key);
	return flow && !!(flow->flags & SL_FLOW_FROM_B) != side && is_live(flow, d->protocol, silence_of(flow));
}

/* What bpf_set_retval cannot say by itself: 0 ends the call with EPERM. */
static __always_inline bool refuse(const struct dialling *d, __u32 now)
{
	count_drop(d->reason);
	report_dialling(d, now);
	if (d->reason == SL_DROP_NO_BACKEND)
		bpf_set_retval(-ECONNREFUSED);
	return false;
}

/* Its Envoy sees whose connection it is, and the application its own address, as it would without one. An
 * application that has bound the socket to a port keeps what it chose. */
static __always_inline void call_from_own_address(struct bpf_sock_addr *ctx, const struct addr *own)
{
	struct sockaddr_in6 ip6 = {};
	struct sockaddr_in ip4 = {};

	if (is_zero(own))
		return;
	if (ctx->family == AF_INET) {
		ip4.sin_family = AF_INET;
		ip4.sin_addr.s_addr = own->w[3];
		bpf_bind(ctx, (struct sockaddr *)&ip4, sizeof(ip4));
	} else {
		ip6.sin6_family = AF_INET6;
		__builtin_memcpy(&ip6.sin6_addr, own, sizeof(ip6.sin6_addr));
		bpf_bind(ctx, (struct sockaddr *)&ip6, sizeof(ip6));
	}
}

/* connect(): the socket remembers, for getpeername and for its Envoy. */
static __always_inline bool dial_connected(struct bpf_sock_addr *ctx, struct dialling *d)
{
	__u32 now = generation();
	struct bpf_sock *sk = ctx->sk;
	struct origin *kept;

	d->protocol = protocol_of(ctx);
	dial(ctx, d, bpf_get_prandom_u32(), now);
	if (d->reason && !is_answer(ctx, d))
		return refuse(d, now);
	if (!sk)
		return false;
	kept = bpf_sk_storage_get(&sl_origin, sk, 0, is_translated(&d->origin) ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (kept)
		*kept = d->origin;
	else if (is_translated(&d->origin))
		return false;
	if (d->origin.steered) {
		report_dialling(d, now);
		call_from_own_address(ctx, &d->own);
	}
	return true;
}

/* sendmsg() with an address: one socket talks to many, a map remembers for recvmsg. */
static __always_inline bool dial_message(struct bpf_sock_addr *ctx, struct dialling *d)
{
	struct reply_key key = {};
	struct reply_value value = {};
	__u32 now = generation();

	key.socket = bpf_get_socket_cookie(ctx);
	d->protocol = protocol_of(ctx);
	dial(ctx, d, key.socket * 2654435761u >> 7, now);
	if (d->reason && !is_answer(ctx, d))
		return refuse(d, now);
	if (!is_translated(&d->origin))
		return true;
	key.backend = d->origin.target;
	key.port_be = d->origin.target_port_be;
	value.vip = d->origin.dialled;
	value.port_be = d->origin.dialled_port_be;
	return !bpf_map_update_elem(&sl_reply, &key, &value, BPF_ANY);
}

/* The name of a translated peer, for getpeername and recvmsg: false when it is not translated. */
static __always_inline bool name_of_peer(struct bpf_sock_addr *ctx, struct endpoint *peer, bool message)
{
	struct bpf_sock *sk = ctx->sk;
	struct reply_key key = {};
	struct reply_value *reply;
	struct origin *origin;

	if (!sk)
		return false;
	origin = bpf_sk_storage_get(&sl_origin, sk, 0, 0);
	if (origin && !origin->accepted && origin->target_port_be == peer->port_be &&
	    same(&origin->target, &peer->addr)) {
		peer->addr = origin->dialled;
		peer->port_be = origin->dialled_port_be;
		return true;
	}
	if (!message)
		return false;
	key.socket = bpf_get_socket_cookie(ctx);
	key.backend = peer->addr;
	key.port_be = peer->port_be;
	reply = bpf_map_lookup_elem(&sl_reply, &key);
	if (!reply)
		return false;
	peer->addr = reply->vip;
	peer->port_be = reply->port_be;
	return true;
}

static __always_inline struct addr read_ip6_of(struct bpf_sock_addr *ctx)
{
	return (struct addr){ .w = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } };
}

static __always_inline void write_ip6_of(struct bpf_sock_addr *ctx, const struct addr *a)
{
	ctx->user_ip6[0] = a->w[0];
	ctx->user_ip6[1] = a->w[1];
	ctx->user_ip6[2] = a->w[2];
	ctx->user_ip6[3] = a->w[3];
}

#define DIAL4(ctx, call)                                                             \
	({                                                                           \
		struct dialling d = {};                                              \
		d.origin.dialled = mapped((ctx)->user_ip4);                          \
		d.origin.dialled_port_be = (ctx)->user_port;                         \
		bool ok_ = call(ctx, &d);                                            \
		if (ok_ && is_translated(&d.origin)) {                               \
			(ctx)->user_ip4 = d.origin.target.w[3];                      \
			(ctx)->user_port = d.origin.target_port_be;                  \
		}                                                                    \
		ok_;                                                                 \
	})

#define DIAL6(ctx, call)                                                             \
	({                                                                           \
		struct dialling d = {};                                              \
		d.origin.dialled = read_ip6_of(ctx);                                 \
		d.origin.dialled_port_be = (ctx)->user_port;                         \
		bool ok_ = call(ctx, &d);                                            \
		if (ok_ && is_translated(&d.origin)) {                               \
			write_ip6_of(ctx, &d.origin.target);                         \
			(ctx)->user_port = d.origin.target_port_be;                  \
		}                                                                    \
		ok_;                                                                 \
	})

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return DIAL4(ctx, dial_connected);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return DIAL6(ctx, dial_connected);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return DIAL4(ctx, dial_message);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return DIAL6(ctx, dial_message);
}

static __always_inline int name4(struct bpf_sock_addr *ctx, bool message)
{
	struct endpoint peer = { mapped(ctx->user_ip4), ctx->user_port };

	if (name_of_peer(ctx, &peer, message)) {
		ctx->user_ip4 = peer.addr.w[3];
		ctx->user_port = peer.port_be;
	}
	return 1;
}

static __always_inline int name6(struct bpf_sock_addr *ctx, bool message)
{
	struct endpoint peer = { read_ip6_of(ctx), ctx->user_port };

	if (name_of_peer(ctx, &peer, message)) {
		write_ip6_of(ctx, &peer.addr);
		ctx->user_port = peer.port_be;
	}
	return 1;
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	return name4(ctx, true);
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	return name6(ctx, true);
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	return name4(ctx, false);
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	return name6(ctx, false);
}
