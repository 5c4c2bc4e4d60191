/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Both directions of the host's end of a pod's veth: every packet of every protocol, in or out. */
#pragma once

enum direction {
	FROM_POD, /* tcx ingress of the host's end */
	TO_POD,   /* tcx egress of it */
};

static __always_inline bool by_proxy(struct __sk_buff *skb)
{
	__u64 proxies = config(SL_CFG_PROXY_CGROUP);

	return proxies && bpf_skb_ancestor_cgroup_id(skb, config(SL_CFG_PROXY_LEVEL)) == proxies;
}

/* The service address by which the sending socket knows its peer, where the socket is visible. */
static __always_inline void name_service(struct __sk_buff *skb, const struct tuple *t, struct event *e)
{
	struct reply_key key = { .backend = t->dst, .port_be = t->dst_port_be };
	struct bpf_sock *sk = skb->sk;
	struct reply_value *reply;
	struct origin *origin;

	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	origin = bpf_sk_storage_get(&sl_origin, sk, 0, 0);
	if (origin && !origin->accepted && !same(&origin->dialled, &t->dst)) {
		e->vip = origin->dialled;
		e->vip_port_be = origin->dialled_port_be;
		return;
	}
	if (t->protocol != IPPROTO_UDP)
		return;
	key.socket = bpf_get_socket_cookie(skb);
	reply = bpf_map_lookup_elem(&sl_reply, &key);
	if (reply) {
		e->vip = reply->vip;
		e->vip_port_be = reply->port_be;
	}
}

SUBPROGRAM int report(struct __sk_buff *skb, const struct tuple *t, const struct judgement *j, __u32 flags, __u32 now)
{
	struct audit audit = {};
	struct event *e;

	if (!t || !j)
		return 0;
	if (is_by_policy(j->reason))
		audit = j->audit;
	count_audit(audit.audit);
	e = new_event(j->reason ? SL_EVENT_DROP : SL_EVENT_FLOW, now);
	if (!e)
		return 0;
	e->src = t->src;
	e->dst = t->dst;
	e->src_port_be = t->src_port_be;
	e->dst_port_be = is_icmp(t->protocol) ? t->policy_port_be : t->dst_port_be;
	e->protocol = t->protocol;
	e->src_id = j->src_id;
	e->dst_id = j->dst_id;
	e->cookie = j->cookie;
	e->audit = audit.audit;
	e->audit_cookie = audit.cookie;
	e->reason = j->reason;
	e->verdict = j->reason ? SL_DENY : j->listener ? SL_STEER : SL_ALLOW;
	e->flags = (flags & SL_FLOW_BY_PROXY ? SL_EV_BY_PROXY : 0) |
		   (j->listener ? SL_EV_REDIRECTED :
		    j->ifindex[0] && j->reason != SL_DROP_POLICY_INGRESS ? SL_EV_EGRESS : 0);
	if (j->ifindex[0])
		name_service(skb, t, e);
	publish(e);
	return 0;
}

SUBPROGRAM int drop(struct __sk_buff *skb, const struct tuple *t, __u32 reason, __u32 now)
{
	struct judgement j = { .reason = reason };
	struct peer peer = {};

	if (!t)
		return TC_ACT_SHOT;
	count_drop(reason);
	find_peer(&t->src, &peer, now);
	j.src_id = peer.id;
	find_peer(&t->dst, &peer, now);
	j.dst_id = peer.id;
	report(skb, t, &j, 0, now);
	return TC_ACT_SHOT;
}

static __always_inline int pass(enum direction direction, __u32 dst_ifindex)
{
	if (direction == FROM_POD && dst_ifindex)
		return bpf_redirect_peer(dst_ifindex, 0);
	return TC_ACT_UNSPEC;
}

/* Whether a packet between these two is where it must come by: enum drop_reason, 0: yes. */
static __always_inline __u32 misplaced(enum direction direction, __u32 here, __u32 src_ifindex,
				       __u32 dst_ifindex)
{
	if (direction == FROM_POD)
		return src_ifindex == here ? 0 : SL_DROP_SPOOFED_SOURCE;
	/* A local pod's packets come by redirection, never by the host's stack. */
	if (src_ifindex)
		return SL_DROP_SPOOFED_SOURCE;
	return dst_ifindex == here ? 0 : SL_DROP_UNKNOWN_POD;
}

/* A packet that opens a flow, or of a flow whose entry is gone. */
struct opening {
	struct tuple t; /* as the opener asked */
	struct judgement j;
	__u8 direction;
	__u8 proxy;
	__u8 reversed; /* this packet is an answer */
	__u8 midway;   /* it does not open: who did is a guess */
	__u8 unknown;  /* whether an Envoy opened it will show when the opener sends */
	__u8 pad[3];
};

/* Judges it, midway in both orientations: enum drop_reason, 0: pass. */
SUBPROGRAM int judge_opening(struct __sk_buff *skb, struct opening *o, __u32 now)
{
	__u32 reason;

	if (!o)
		return SL_DROP_UNPARSABLE;
	judge(&o->t, &o->j, now);
	reason = misplaced(o->direction, skb->ifindex, o->j.ifindex[0], o->j.ifindex[1]);
	if (reason)
		return reason;
	/* Rule 11 is for the node's own packets, not for what someone sends in its name. */
	if (o->direction == TO_POD && o->j.src_id == SL_HOST_ID && skb->ingress_ifindex)
		return SL_DROP_SPOOFED_SOURCE;
	o->proxy = o->direction == FROM_POD && by_proxy(skb);
	if (!o->j.reason && o->j.steer && !o->proxy) {
		o->j.listener = 0; /* it does not come so far, and the caller's rules are why */
		o->j.cookie = o->j.steer_cookie;
		return o->midway ? SL_DROP_NEEDS_PROXY : SL_DROP_NOT_PROXY;
	}
	if (!o->j.reason || !o->midway)
		return o->j.reason;
	turn_round(&o->t);
	judge(&o->t, &o->j, now);
	o->reversed = 1;
	o->unknown = !!o->j.steer;
	o->proxy = 0;
	return o->j.reason ? SL_DROP_NO_FLOW : 0;
}

SUBPROGRAM int remember(const struct opening *o, __u8 tcp_flags, __u32 now)
{
	struct flow_value flow = {};
	struct flow_key key;
	__u32 from_b;

	if (!o)
		return 0;
	from_b = flow_key_of(&o->t, &key);
	flow.seen_ns = bpf_ktime_get_coarse_ns();
	flow.generation = now;
	flow.flags = (from_b ? SL_FLOW_FROM_B : 0) | (o->proxy ? SL_FLOW_BY_PROXY : 0) |
		     (o->reversed ? SL_FLOW_REPLIED : 0) | (o->midway ? SL_FLOW_MIDWAY : 0) |
		     (tcp_flags & TCP_RST ? SL_FLOW_CLOSED : 0);
	flow.listener = o->j.listener;
	flow.ifindex[0] = from_b ? o->j.ifindex[1] : o->j.ifindex[0];
	flow.ifindex[1] = from_b ? o->j.ifindex[0] : o->j.ifindex[1];
	if (bpf_map_update_elem(&sl_flow, &key, &flow, BPF_ANY))
		count(SL_COUNT_FLOWS_LOST);
	return 0;
}

/* The action for a packet without a live entry. `again`: a SYN whose flow is known already. */
SUBPROGRAM int open_flow(struct __sk_buff *skb, const struct packet *p, __u32 direction, bool again, __u32 now)
{
	struct opening o = { .direction = direction };

	if (!p)
		return TC_ACT_SHOT;
	o.t = p->t;
	o.midway = p->t.protocol == IPPROTO_TCP && !is_syn(p);
	o.j.reason = judge_opening(skb, &o, now);
	if (o.j.reason) {
		count_drop(o.j.reason);
		report(skb, &o.t, &o.j, o.proxy ? SL_FLOW_BY_PROXY : 0, now);
		return TC_ACT_SHOT;
	}
	if (p->kind == PACKET_FLOW && !o.unknown) {
		remember(&o, p->tcp_flags, now);
		if (!again)
			report(skb, &o.t, &o.j, o.proxy ? SL_FLOW_BY_PROXY : 0, now);
	}
	return pass(direction, o.reversed ? o.j.ifindex[0] : o.j.ifindex[1]);
}

/* What the packet does to its flow's state. Who answers a SYN is asked here, once: even the SYN-ACK bears
 * the listener's cgroup. */
static __always_inline void note(struct __sk_buff *skb, struct flow_value *flow, const struct packet *p, __u32 side)
{
	__u32 flags = flow->flags;

	if (!(flags & SL_FLOW_REPLIED) && !!(flags & SL_FLOW_FROM_B) != side)
		flags |= SL_FLOW_REPLIED | (by_proxy(skb) ? SL_FLOW_TO_PROXY : 0);
	if (p->tcp_flags & TCP_FIN)
		flags |= side ? SL_FLOW_FIN_B : SL_FLOW_FIN_A;
	if (p->tcp_flags & TCP_RST || (flags & (SL_FLOW_FIN_A | SL_FLOW_FIN_B)) == (SL_FLOW_FIN_A | SL_FLOW_FIN_B))
		flags |= SL_FLOW_CLOSED;
	if (flags == flow->flags)
		return;
	flow->flags = flags;
	flow->seen_ns = bpf_ktime_get_ns(); /* the fine clock, a few times a connection: spans end here */
}

/* The action for a packet of a live flow. */
static __always_inline int follow_flow(struct __sk_buff *skb, const struct packet *p, struct flow_key *key,
				       struct flow_value *flow, __u32 side, enum direction direction, __u32 now)
{
	__u32 reason = 0, a_ifindex, b_ifindex;

	if (flow->generation != now && !(p->tcp_flags & TCP_RST)) /* rule 7 */
		reason = rejudge(key, flow, now);
	a_ifindex = flow->ifindex[0];
	b_ifindex = flow->ifindex[1];
	if (!reason)
		reason = misplaced(direction, skb->ifindex, side ? b_ifindex : a_ifindex, side ? a_ifindex : b_ifindex);
	if (reason)
		return drop(skb, &p->t, reason, now);
	note(skb, flow, p, side);
	return pass(direction, side ? a_ifindex : b_ifindex);
}

/* An ICMP error passes to an end of a live flow that it quotes, and a pod sends it of itself only. */
static __noinline int pass_error(struct __sk_buff *skb, const struct packet *p, struct flow_value *flow,
				 __u32 far_and_direction, __u32 now)
{
	enum direction direction = far_and_direction >> 1;
	__u32 a_ifindex = flow->ifindex[0], b_ifindex = flow->ifindex[1];
	__u32 near_ifindex = far_and_direction & 1 ? a_ifindex : b_ifindex;
	__u32 far_ifindex = far_and_direction & 1 ? b_ifindex : a_ifindex;
	bool honest;

	if (direction == FROM_POD)
		honest = far_ifindex == skb->ifindex && lives_at(&p->sender, skb->ifindex, now);
	else
		honest = near_ifindex == skb->ifindex && !pod_at(&p->sender, now) && !is_reserved(&p->sender);
	if (!honest || flow->generation != now)
		return drop(skb, &p->t, SL_DROP_UNRELATED_ICMP, now);
	return pass(direction, near_ifindex);
}

/* An echo reply from the end that asks passes only if the other end may ask too: both may have
 * chosen one identifier. enum drop_reason, 0: pass. */
SUBPROGRAM int judge_crossing_reply(const struct flow_key *key, const struct flow_value *flow, __u32 now)
{
	struct judgement j = {};
	struct tuple t;

	if (!key || !flow)
		return SL_DROP_NO_FLOW;
	opening_of(key, flow->flags ^ SL_FLOW_FROM_B, &t);
	judge(&t, &j, now);
	return j.reason ? SL_DROP_NO_FLOW : 0;
}

static __always_inline int enforce(struct __sk_buff *skb, enum direction direction)
{
	struct packet p = {};
	struct flow_value *flow;
	struct flow_key key;
	__u32 now, reason, side;
	bool live, mine, opens;
	__u64 since = 0;

	reason = read_packet(skb, &p);
	now = generation();
	if (p.kind == PACKET_CHATTER) {
		count_drop(SL_DROP_UNPARSABLE);
		return TC_ACT_SHOT;
	}
	if (!reason && p.kind == PACKET_NEIGHBOUR) {
		if (direction == TO_POD || neighbour_is_honest(skb, &p, now))
			return TC_ACT_UNSPEC;
		reason = SL_DROP_SPOOFED_SOURCE;
	}
	if (!reason && p.later_fragment && !follow_first_fragment(&p))
		reason = SL_DROP_FRAGMENT;
	if (reason)
		return drop(skb, &p.t, reason, now);

	side = flow_key_of(&p.t, &key);
	flow = bpf_map_lookup_elem(&sl_flow, &key);
	if (flow && (p.t.protocol != IPPROTO_TCP || flow->flags & SL_FLOW_CLOSED))
		since = silence_of(flow);
	live = flow && is_live(flow, p.t.protocol, since);
	mine = live && !!(flow->flags & SL_FLOW_FROM_B) == side;
	opens = p.kind == PACKET_FLOW && (is_syn(&p) || (is_icmp(p.t.protocol) && !mine));

	if (p.kind == PACKET_ERROR)
		return live ? pass_error(skb, &p, flow, side | direction << 1, now)
			    : drop(skb, &p.t, SL_DROP_UNRELATED_ICMP, now);
	if (!live && p.kind == PACKET_REPLY)
		return drop(skb, &p.t, p.later_fragment ? SL_DROP_FRAGMENT : SL_DROP_NO_FLOW, now);
	if (mine && p.kind == PACKET_REPLY && !p.later_fragment && judge_crossing_reply(&key, flow, now))
		return drop(skb, &p.t, SL_DROP_NO_FLOW, now);
	if (p.more_fragments && !p.later_fragment)
		remember_first_fragment(&p);
	if (!live || opens || p.kind == PACKET_STATELESS)
		return open_flow(skb, &p, direction, mine && !(flow->flags & (SL_FLOW_REPLIED | SL_FLOW_CLOSED)), now);
	if (since > SECOND && p.t.protocol != IPPROTO_TCP)
		flow->seen_ns += since;
	return follow_flow(skb, &p, &key, flow, side, direction, now);
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	return enforce(skb, FROM_POD);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return enforce(skb, TO_POD);
}
