/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Every struct that the programs share with user space, and nothing else. `layout.py` mirrors this
 * file; a test holds both against the object's BTF. Addresses are 16 bytes everywhere (IPv4 as
 * ::ffff:a.b.c.d), ports are host order unless the name ends in _be.
 *
 * "Two slots" (semantics rule 8): an entry holds a value for the generation in force and one for
 * the next. A program reads the generation word once and takes the slot with the greatest
 * generation that is not above it; 0 means the slot was never written. */
#pragma once

/* Values with two slots end in a spin lock that no program ever takes: it makes the kernel update
 * them in place (BPF_F_LOCK). Replacing an element would let the memory of the old one be reused
 * for another key under a reader; in place, a reader of generation g cannot see anything change,
 * because the writer of g+1 touches only the slot that g does not read. */

struct addr {
	union {
		__u8 b[16];
		__u32 w[4]; /* network order */
	};
};

enum {
	SL_HOST_ID = 1,
	SL_WORLD_ID = 2,
	SL_FIRST_WORKLOAD_ID = 256,
};

enum sl_verdict {
	SL_DENY = 0,
	SL_ALLOW = 1,
	SL_STEER = 2,
	SL_LOOK_BELOW = 3, /* inside sl_rule only */
};

/* What the verdict would be if policies in audit mode counted: 1 + enum sl_verdict. */
enum sl_audit {
	SL_AUDIT_SAME = 0,
	SL_AUDIT_DENY = 1,
	SL_AUDIT_ALLOW = 2,
	SL_AUDIT_STEER = 3,
};

/* One 64-bit word of the array map sl_config each. */
enum sl_config {
	SL_CFG_GENERATION = 0,     /* the generation in force */
	SL_CFG_PROXY_CGROUP = 1,   /* id of the cgroup under which the mesh's Envoys run */
	SL_CFG_PROXY_LEVEL = 2,    /* its depth, for the ancestor helpers */
	SL_CFG_HOST_REACHES = 3,   /* 1: the node reaches its own pods (rule 11) */
	SL_CFG_EVENTS = 4,         /* 1: flow events are written */
	SL_CFG_TRAFFIC = 5,        /* 1: TCP connections are counted in sl_traffic */
	SL_CFG_CLOSES = 6,         /* 1: each of those is told when it is closed */
	SL_CFG_WORDS = 8,
};

/* sl_addr: LPM trie, who has an address. The most specific prefix wins. */
struct addr_key {
	__u32 prefixlen; /* 0..128 */
	struct addr addr;
};

struct addr_slot {
	__u32 generation;
	__u32 id;      /* security id; 0: nobody */
	__u64 cidrs;   /* id of the set of policy CIDRs that cover it, 0: none */
};

/* An LPM trie frees its nodes after a grace period, so it needs no lock. */
struct addr_value {
	struct addr_slot slot[2];
};

/* sl_netns: hash, network namespace cookie -> the pod's addresses (zero: it has none). */
struct netns_value {
	struct addr ip4;
	struct addr ip6;
};

/* sl_pod: hash, address of a local pod -> what is enforced for it. */
struct pod_slot {
	__u32 generation;
	__u32 id;          /* security id; 0: no such pod */
	__u64 ingress_set; /* 0: no policy selects it, everything is allowed */
	__u64 egress_set;
	__u64 view;        /* whose routes it sees: stable id of its namespace */
	__u32 ifindex;     /* of the host's end of its veth */
	__u32 flags;
};

enum pod_flags {
	SL_POD_PROXY = 1,   /* an Envoy runs in its namespace: apps must not dial proxy addresses */
	SL_POD_ROUTES = 2,  /* that Envoy serves the routing listener: routes may steer */
};

struct pod_value {
	struct pod_slot slot[2];
	struct bpf_spin_lock lock;
	__u32 pad;
};

/* sl_service: hash, service address and port -> backends. */
struct service_key {
	struct addr vip;
	__u16 port_be;
	__u8 protocol;
	__u8 pad;
};

struct service_slot {
	__u32 generation;
	__u32 size;      /* entries of the Maglev table; 0 with SL_SERVICE_PRESENT: refuse at once */
	__u32 offset;    /* its first entry in sl_maglev */
	__u32 affinity;  /* seconds, 0: none */
	__u32 flags;
	__u32 id;        /* for affinity and flow events: low half of the service's stable id */
};

enum service_flags {
	SL_SERVICE_PRESENT = 1,
	SL_SERVICE_ROUTED = 2, /* some view has an entry here: look into sl_route */
};

struct service_value {
	struct service_slot slot[2];
	struct bpf_spin_lock lock;
};

/* sl_maglev: mmapable array. A block belongs to one slot and is never changed while used. Port 0: refuse. */
struct backend {
	struct addr addr;
	__u16 port_be;
	__u16 pad;
	__u32 pad2;
};

/* sl_vip: hash, every service address -> 1, so that tc drops what was not translated (rule 14). */

/* sl_route: hash, (view, service address, port) -> what a route or DestinationRule makes of a connection.
 * view 0: all; the entry of the caller's own view counts before it. */
struct route_key {
	__u64 view;
	struct service_key service;
	__u32 pad;
};

enum route_action {
	SL_ROUTE_NONE = 0,
	SL_ROUTE_STEER = 1,   /* to the routing listener */
	SL_ROUTE_BALANCE = 2, /* to backends of its own, in the shares of its look-up table */
};

enum route_flags {
	SL_ROUTE_BY_CLIENT = 1, /* the client's address alone chooses among them */
};

struct route_slot {
	__u32 generation;
	__u32 action;    /* enum route_action */
	__u32 size;      /* as of a service slot */
	__u32 offset;
	__u32 flags;     /* enum route_flags */
};

struct route_value {
	struct route_slot slot[2];
	struct bpf_spin_lock lock;
};

/* sl_peer: hash, (policy set, peer) -> class. id and cidrs 0: the set's default class. */
struct peer_key {
	__u64 set;
	__u64 cidrs;
	__u32 id;
	__u32 pad;
};

struct peer_slot {
	__u64 class_id; /* 0: absent, fall back to the default */
	__u32 generation;
	__u32 pad;
};

struct peer_value {
	struct peer_slot slot[2];
	struct bpf_spin_lock lock;
	__u32 pad;
};

/* sl_rule: hash, (class, page) -> sixteen intervals of (protocol, port), sorted. Page 0 is the root of
 * a search tree that covers them all. Classes are immutable, so one slot will do. */
struct rule_key {
	__u64 class_id;
	__u32 page;
	__u32 pad;
};

enum rule_tree {
	SL_RULES_PAGE = 16,
	SL_RULES_DEPTH = 6, /* 16^6 is every protocol and port */
};

struct rule_value {
	__u8 verdict;   /* enum sl_verdict */
	__u8 audit;     /* enum sl_audit */
	__u16 pad;
	__u32 listener; /* L7 class, 24 bits: the listener's address ends in it; SL_LOOK_BELOW: a page;
			 * SL_DENY: enum drop_reason, 0: the direction's own */
	__u32 cookie;   /* which rules decided: low half of their stable id, for flow events */
	__u32 audit_cookie; /* which would, where `audit` says otherwise */
};

struct rule_page {
	__u32 start[SL_RULES_PAGE]; /* protocol << 16 | port, host order; ~0: unused */
	struct rule_value rule[SL_RULES_PAGE];
};

/* sl_listener: sockhash, (pod address, L7 class, family) -> Envoy's transparent listening socket. */
struct listener_key {
	struct addr pod;
	__u32 listener;
	__u32 family; /* AF_INET or AF_INET6 of the listening socket */
};

/* sl_flow: LRU hash. The key is in canonical order (the lesser address and port first). */
struct flow_key {
	struct addr a;
	struct addr b;
	__u16 a_port_be;
	__u16 b_port_be;
	__u8 protocol;
	__u8 pad[3];
};

enum flow_flags {
	SL_FLOW_FROM_B = 1,   /* b opened it */
	SL_FLOW_BY_PROXY = 2, /* opened by an Envoy of ours */
	SL_FLOW_REPLIED = 4,
	SL_FLOW_FIN_A = 8,
	SL_FLOW_FIN_B = 16,
	SL_FLOW_CLOSED = 32,  /* RST, or both FINs */
	SL_FLOW_MIDWAY = 64,  /* made by a segment that does not open: who opened it is a guess */
	SL_FLOW_TO_PROXY = 128, /* an Envoy of ours answered */
};

struct flow_value {
	__u64 seen_ns;       /* CLOCK_MONOTONIC of the last packet that was judged or changed state */
	__u32 generation;    /* by which it was judged last */
	__u32 flags;
	__u32 listener;      /* ingress L7 class it was handed to, 0: none */
	__u32 ifindex[2];    /* host's end of a's and b's veth where they are local pods, else 0 */
	__u32 pad;
};

/* sl_traffic: hash, one end of TCP connections that no Envoy carries -> how many, and their bytes as this
 * end's sockets had sent and received them when they closed. */
struct traffic_key {
	struct addr pod;
	struct addr peer;    /* zero: outside the mesh */
	struct addr vip;     /* service address that the pod dialled, or zero */
	__u16 port_be;       /* of the end that did not open */
	__u8 opener;         /* 1: the pod opened them */
	__u8 pad;
};

struct traffic_value {
	__u64 opened;
	__u64 closed;
	__u64 sent;
	__u64 received;
};

/* sl_event: ring buffer of struct event. */
enum event_type {
	SL_EVENT_CONNECT = 1, /* verdict of a connect or sendmsg hook (denied or steered) */
	SL_EVENT_FLOW = 2,    /* a new flow at tc */
	SL_EVENT_DROP = 3,    /* a packet dropped at tc or refused by sk_lookup */
	SL_EVENT_END = 4,     /* a TCP connection that a sweep ended */
	SL_EVENT_CLOSE = 5,   /* a pod has closed its end of a TCP connection that sl_traffic counts: src is that end */
};

enum drop_reason {
	SL_DROP_NONE = 0,
	SL_DROP_POLICY_EGRESS = 1,
	SL_DROP_POLICY_INGRESS = 2,
	SL_DROP_SPOOFED_SOURCE = 3,
	SL_DROP_UNKNOWN_POD = 4,
	SL_DROP_NO_BACKEND = 5,
	SL_DROP_UNTRANSLATED = 6,     /* a packet to a service address */
	SL_DROP_NOT_PROXY = 7,        /* verdict steer, but the socket is not Envoy's */
	SL_DROP_PROXY_ADDRESS = 8,    /* an app dialled a proxy's address */
	SL_DROP_BOUND_DEVICE = 9,     /* verdict steer on a socket bound to a device */
	SL_DROP_NO_LISTENER = 10,     /* the Envoy that must judge it is not there */
	SL_DROP_UNPARSABLE = 11,      /* extension headers, short packets, unknown ethertypes */
	SL_DROP_FRAGMENT = 12,        /* a fragment whose first was not seen */
	SL_DROP_UNRELATED_ICMP = 13,  /* an ICMP error that quotes no live flow */
	SL_DROP_NO_FLOW = 14,         /* a segment without a flow that no verdict would allow */
	SL_DROP_NEEDS_PROXY = 15,     /* a direct flow that a new L7 policy must judge */
	SL_DROP_REGISTRY_ONLY = 16,   /* no service that the pod sees names the peer (REGISTRY_ONLY) */
	SL_DROP_REASONS = 17,
};

enum event_flags {
	SL_EV_BY_PROXY = 1,  /* opened by an Envoy of ours */
	SL_EV_REDIRECTED = 2, /* goes to an Envoy: at the caller (SL_EV_EGRESS) or the destination */
	SL_EV_EGRESS = 4,    /* decided at the caller's side, else at the destination's */
};

struct event {
	__u64 time_ns;       /* CLOCK_BOOTTIME */
	struct addr src;
	struct addr dst;     /* the backend, or what was dialled where none was chosen */
	struct addr vip;     /* service address that was dialled, or zero */
	__u32 src_id;
	__u32 dst_id;
	__u32 cookie;        /* rules that decided, 0: none did */
	__u32 audit_cookie;  /* rules behind `audit` */
	__u32 generation;
	__u16 src_port_be;
	__u16 dst_port_be;
	__u16 vip_port_be;
	__u8 protocol;
	__u8 type;           /* enum event_type */
	__u8 verdict;        /* enum sl_verdict */
	__u8 reason;         /* enum drop_reason */
	__u8 flags;          /* enum event_flags */
	__u8 audit;          /* enum sl_audit: what the verdict would be */
	__u64 sent;          /* bytes, of SL_EVENT_CLOSE */
	__u64 received;
};

/* sl_counter: per-CPU array of __u64. */
enum counter {
	SL_COUNT_EVENTS_LOST = 0,
	SL_COUNT_FLOWS_LOST = 1,  /* flow entries that could not be written */
	SL_COUNT_DROPPED = 2,     /* + enum drop_reason */
	SL_COUNT_AUDITED = 19,    /* + enum sl_verdict that it would be: events, told or not */
	SL_COUNT_TRAFFIC_LOST = 22, /* connections for which sl_traffic had no room */
	SL_COUNTERS = 23,
};

/* sl_bulk: mmapable array, questions and answers of the program bulk_verdict (tests only). */
struct bulk {
	__u64 set;
	__u64 cidrs;
	__u32 id;
	__u16 port_be;
	__u8 protocol;
	__u8 pad;
	struct rule_value answer;
};
