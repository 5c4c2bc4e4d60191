/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Every map, and the structs that only the programs see. `layout.h` and this file make the layout
 * hash: what changes here cannot be adopted from the pins of an older agent. */
#pragma once

/* What a socket was translated from. On a client's socket since connect; on a socket that an
 * Envoy accepted from a steered client, copied from there. */
struct origin {
	struct addr dialled;  /* what the application asked for: what getpeername shows */
	struct addr original; /* what SO_ORIGINAL_DST answers to Envoy */
	struct addr target;   /* where the socket really goes */
	__u16 dialled_port_be;
	__u16 original_port_be;
	__u16 target_port_be;
	__u8 steered;  /* target is a listener of the pod's Envoy */
	__u8 accepted; /* this is Envoy's end */
};

/* A steered connection between connect and accept. Both ends are in one network namespace. */
struct steered_key {
	__u64 netns;
	struct addr src;
	struct addr dst;
	__u16 src_port_be;
	__u16 pad[3];
};

/* An unconnected datagram socket's peer, to name it by the service address it was sent to. */
struct reply_key {
	__u64 socket;
	struct addr backend;
	__u16 port_be;
	__u16 pad[3];
};

struct reply_value {
	struct addr vip;
	__u16 port_be;
	__u16 pad;
};

struct affinity_key {
	struct addr client;
	struct service_key service;
};

/* Valid while the service's slot is the same, which its generation says (a Maglev block may be used again, with
 * other backends); else the backend is looked for in the new one. */
struct affinity_value {
	struct addr backend;
	__u16 port_be;
	__u16 pad;
	__u32 generation;
	__u64 used_ns;
};

struct fragment_key {
	struct addr src;
	struct addr dst;
	__u32 id;
	__u32 protocol;
};

struct fragment_value {
	__u16 src_port_be;
	__u16 dst_port_be;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SL_CFG_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} sl_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1 << 18);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct addr_key);
	__type(value, struct addr_value);
} sl_addr SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct netns_value);
} sl_netns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct addr);
	__type(value, struct pod_value);
} sl_pod SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct service_key);
	__type(value, struct service_value);
} sl_service SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct backend);
} sl_maglev SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct addr);
	__type(value, __u32);
} sl_vip SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 17);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct route_key);
	__type(value, struct route_value);
} sl_route SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 19);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct peer_key);
	__type(value, struct peer_value);
} sl_peer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 17);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct rule_key);
	__type(value, struct rule_page);
} sl_rule SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 1 << 14);
	__type(key, struct listener_key);
	__type(value, __u64);
} sl_listener SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 17);
	__type(key, struct flow_key);
	__type(value, struct flow_value);
} sl_flow SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 13);
	__type(key, struct fragment_key);
	__type(value, struct fragment_value);
} sl_fragment SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct origin);
} sl_origin SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 15);
	__type(key, struct steered_key);
	__type(value, struct origin);
} sl_steered SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 15);
	__type(key, struct reply_key);
	__type(value, struct reply_value);
} sl_reply SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 15);
	__type(key, struct affinity_key);
	__type(value, struct affinity_value);
} sl_affinity SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 14);
	__type(key, struct traffic_key);
	__type(value, struct traffic_value);
} sl_traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} sl_event SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SL_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} sl_counter SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 16);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct bulk);
} sl_bulk SEC(".maps");
