/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Packets that the kernel gives up, and why (enum skb_drop_reason). */

#define ETH_IPV4 0x0800
#define ETH_IPV6 0x86dd

struct event {
	struct ends ends;
	u64 at; /* the address of the code that dropped it */
	u32 reason;
	u32 protocol; /* of IP; of IPv6 its first header, behind which extensions may stand */
};

static inline u32 netns_of_skb(const void *skb)
{
	const void *holder = 0, *net = 0;

	FIELD(holder, skb, AT_SKB_DEV);
	if (holder) {
		FIELD(net, holder, AT_DEV_NET);
		return netns_of_net(net);
	}
	FIELD(holder, skb, AT_SKB_SOCK);
	return holder ? netns_of(holder) : 0;
}

/* (skb, location, reason) */
RAW_TRACEPOINT_PROBE(kfree_skb)
{
	const char *skb = (const char *)ctx->args[0], *ip = 0, *ports;
	u16 at = 0, protocol = 0, port[2] = {};
	u8 first = 0, next = 0;
	struct event e = {};

	e.ends.netns = netns_of_skb(skb);
	if (!wanted.lookup(&e.ends.netns))
		return 0;
	FIELD(protocol, skb, AT_SKB_PROTOCOL);
	protocol = ntohs(protocol);
	FIELD(ip, skb, AT_SKB_HEAD);
	FIELD(at, skb, AT_SKB_NETWORK);
	ip += at;
	FIELD(first, ip, 0);
	if (protocol == ETH_IPV4 && first >> 4 == 4) {
		e.ends.family = FAMILY_V4;
		FIELD(next, ip, 9);
		bpf_probe_read_kernel(e.ends.saddr, 4, ip + 12);
		bpf_probe_read_kernel(e.ends.daddr, 4, ip + 16);
		ports = ip + (first & 15) * 4;
	} else if (protocol == ETH_IPV6 && first >> 4 == 6) {
		e.ends.family = FAMILY_V6;
		FIELD(next, ip, 6);
		bpf_probe_read_kernel(e.ends.saddr, 16, ip + 8);
		bpf_probe_read_kernel(e.ends.daddr, 16, ip + 24);
		ports = ip + 40;
	} else {
		return 0; /* ARP, and what has no header yet */
	}
	if (next == 6 || next == 17 || next == 132) {
		FIELD(port, ports, 0);
		e.ends.sport = ntohs(port[0]);
		e.ends.dport = ntohs(port[1]);
	}
	e.protocol = next;
	e.reason = ctx->args[2];
	e.at = ctx->args[1];
	if (events.ringbuf_output(&e, sizeof(e), 0))
		lost.increment(0);
	return 0;
}
