/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* From bytes to a tuple. What cannot be read to the end is not let through. */
#pragma once

#define MAX_EXTENSIONS 6

enum packet_kind {
	PACKET_FLOW,       /* belongs to a flow that it may open */
	PACKET_REPLY,      /* belongs to a flow that it may not open: an echo reply */
	PACKET_STATELESS,  /* judged on its own: other ICMP messages */
	PACKET_ERROR,      /* an ICMP error: the tuple is the quoted packet's, turned round */
	PACKET_NEIGHBOUR,  /* ARP, neighbour solicitation and advertisement */
	PACKET_CHATTER,    /* what an idle IPv6 stack sends of itself: dropped without an event */
};

enum tcp_flag {
	TCP_FIN = 1,
	TCP_SYN = 2,
	TCP_RST = 4,
	TCP_ACK = 16,
};

struct packet {
	struct tuple t;
	struct addr sender; /* of an ICMP error or neighbour message: its own source */
	__u32 fragment_id;
	__u16 offset;       /* of what follows the IP header */
	__u8 kind;
	__u8 tcp_flags;
	__u8 more_fragments;
	__u8 later_fragment;
	__u8 hop_limit;
	__u8 pad;
};

static __always_inline bool is_syn(const struct packet *p)
{
	return p->t.protocol == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline __u32 read_ip4(struct __sk_buff *skb, __u32 offset, struct packet *p)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return SL_DROP_UNPARSABLE;
	p->t.src = mapped(ip.saddr);
	p->t.dst = mapped(ip.daddr);
	p->t.protocol = ip.protocol;
	p->offset = offset + ip.ihl * 4;
	p->fragment_id = ip.id;
	p->more_fragments = !!(ip.frag_off & bpf_htons(0x2000));
	p->later_fragment = !!(ip.frag_off & bpf_htons(0x1fff));
	p->hop_limit = ip.ttl;
	return 0;
}

/* One extension header: its type is in the tuple's protocol, and is replaced by the next. */
static __always_inline __u32 skip_extension(struct __sk_buff *skb, struct packet *p)
{
	struct {
		__u8 next;
		__u8 length;
		__be16 fragment;
		__be32 id;
	} header;

	if (bpf_skb_load_bytes(skb, p->offset, &header, sizeof(header)))
		return SL_DROP_UNPARSABLE;
	switch (p->t.protocol) {
	case IPPROTO_FRAGMENT:
		p->fragment_id = header.id;
		p->more_fragments = !!(header.fragment & bpf_htons(1));
		p->later_fragment = !!(header.fragment & bpf_htons(0xfff8));
		p->offset += 8;
		break;
	case IPPROTO_AH:
		p->offset += (header.length + 2) * 4;
		break;
	default:
		p->offset += (header.length + 1) * 8;
	}
	p->t.protocol = header.next;
	return 0;
}

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_DSTOPTS ||
	       protocol == IPPROTO_FRAGMENT || protocol == IPPROTO_AH;
}

static __always_inline __u32 read_ip6(struct __sk_buff *skb, __u32 offset, struct packet *p)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 6)
		return SL_DROP_UNPARSABLE;
	__builtin_memcpy(&p->t.src, &ip.saddr, sizeof(p->t.src));
	__builtin_memcpy(&p->t.dst, &ip.daddr, sizeof(p->t.dst));
	/* A mapped address on the wire would pass for an IPv4 one. */
	if (is_ip4(&p->t.src) || is_ip4(&p->t.dst))
		return SL_DROP_SPOOFED_SOURCE;
	p->t.protocol = ip.nexthdr;
	p->offset = offset + sizeof(ip);
	p->hop_limit = ip.hop_limit;
	for (int i = 0; i < MAX_EXTENSIONS && is_extension(p->t.protocol) && !p->later_fragment; i++)
		if (skip_extension(skb, p))
			return SL_DROP_UNPARSABLE;
	/* A routing header names another destination than the one that is judged. */
	if ((is_extension(p->t.protocol) && !p->later_fragment) || p->t.protocol == IPPROTO_ROUTING)
		return SL_DROP_UNPARSABLE;
	return 0;
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
	       protocol == IPPROTO_UDPLITE;
}

static __always_inline __u32 read_ports(struct __sk_buff *skb, struct packet *p)
{
	__be16 ports[2];

	if (bpf_skb_load_bytes(skb, p->offset, ports, sizeof(ports)))
		return SL_DROP_UNPARSABLE;
	p->t.src_port_be = ports[0];
	p->t.dst_port_be = p->t.policy_port_be = ports[1];
	if (p->t.protocol == IPPROTO_TCP &&
	    bpf_skb_load_bytes(skb, p->offset + 13, &p->tcp_flags, sizeof(p->tcp_flags)))
		return SL_DROP_UNPARSABLE;
	return 0;
}

struct icmp_head {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id;
	__be16 sequence;
};

static __always_inline bool is_echo(__u8 protocol, __u8 type, bool reply)
{
	if (protocol == IPPROTO_ICMP)
		return type == (reply ? ICMP_ECHOREPLY : ICMP_ECHO);
	return type == (reply ? ICMPV6_ECHO_REPLY : ICMPV6_ECHO_REQUEST);
}

/* Turns the tuple round, so that the quoted packet's flow is found as one of the error's own. */
static __noinline __u32 read_quote(struct __sk_buff *skb, struct packet *p, bool ip4)
{
	__u32 offset = p->offset + sizeof(struct icmp_head);
	struct addr receiver = p->t.dst, swap;
	struct icmp_head icmp;
	__be16 ports[2] = {};

	p->sender = p->t.src;
	if (ip4 ? read_ip4(skb, offset, p) : read_ip6(skb, offset, p))
		return SL_DROP_UNRELATED_ICMP;
	if (!same(&p->t.src, &receiver) || p->later_fragment)
		return SL_DROP_UNRELATED_ICMP;
	if (has_ports(p->t.protocol)) {
		if (bpf_skb_load_bytes(skb, p->offset, ports, sizeof(ports)))
			return SL_DROP_UNRELATED_ICMP;
	} else if (is_icmp(p->t.protocol)) {
		if (bpf_skb_load_bytes(skb, p->offset, &icmp, sizeof(icmp)))
			return SL_DROP_UNRELATED_ICMP;
		ports[0] = ports[1] = icmp.id;
	}
	swap = p->t.src;
	p->t.src = p->t.dst;
	p->t.dst = swap;
	p->t.src_port_be = ports[1];
	p->t.dst_port_be = ports[0];
	p->more_fragments = 0;
	p->kind = PACKET_ERROR;
	return 0;
}

static __always_inline __u32 read_icmp(struct __sk_buff *skb, struct packet *p, bool ip4)
{
	struct icmp_head icmp;

	if (bpf_skb_load_bytes(skb, p->offset, &icmp, sizeof(icmp)))
		return SL_DROP_UNPARSABLE;
	p->t.policy_port_be = bpf_htons(icmp.type);
	if (is_echo(p->t.protocol, icmp.type, false) || is_echo(p->t.protocol, icmp.type, true)) {
		p->t.src_port_be = p->t.dst_port_be = icmp.id;
		p->kind = is_echo(p->t.protocol, icmp.type, true) ? PACKET_REPLY : PACKET_FLOW;
		return 0;
	}
	p->kind = PACKET_STATELESS;
	if (ip4) {
		if (icmp.type == ICMP_REDIRECT)
			return SL_DROP_UNRELATED_ICMP;
		if (icmp.type == ICMP_DEST_UNREACH || icmp.type == ICMP_SOURCE_QUENCH ||
		    icmp.type == ICMP_TIME_EXCEEDED || icmp.type == ICMP_PARAMETERPROB)
			return read_quote(skb, p, true);
		return 0;
	}
	if (icmp.type < ICMPV6_FIRST_QUERY)
		return read_quote(skb, p, false);
	switch (icmp.type) {
	case ICMPV6_NEIGHBOUR_SOLICITATION: /* RFC 4861 7.1: from this link only */
	case ICMPV6_NEIGHBOUR_ADVERTISEMENT:
		p->sender = p->t.src;
		p->kind = PACKET_NEIGHBOUR;
		return p->hop_limit == 255 ? 0 : SL_DROP_UNPARSABLE;
	case ICMPV6_MLD_QUERY:
	case ICMPV6_MLD_REPORT:
	case ICMPV6_MLD_DONE:
	case ICMPV6_ROUTER_SOLICITATION:
	case ICMPV6_ROUTER_ADVERTISEMENT:
	case ICMPV6_REDIRECT:
	case ICMPV6_MLD2_REPORT:
		p->kind = PACKET_CHATTER;
	}
	return 0;
}

/* enum drop_reason, 0: read. Ports of a later fragment stay 0. */
SUBPROGRAM int read_packet(struct __sk_buff *skb, struct packet *p)
{
	bool ip4 = skb->protocol == bpf_htons(ETH_P_IP);
	__u32 reason;

	if (!p)
		return SL_DROP_UNPARSABLE;
	if (skb->protocol == bpf_htons(ETH_P_ARP)) {
		p->kind = PACKET_NEIGHBOUR;
		p->offset = ETH_HLEN;
		return 0;
	}
	if (skb->vlan_present || (!ip4 && skb->protocol != bpf_htons(ETH_P_IPV6)))
		return SL_DROP_UNPARSABLE;
	reason = ip4 ? read_ip4(skb, ETH_HLEN, p) : read_ip6(skb, ETH_HLEN, p);
	if (reason || p->later_fragment)
		return reason;
	if (has_ports(p->t.protocol))
		return read_ports(skb, p);
	if (p->t.protocol == (ip4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return read_icmp(skb, p, ip4);
	return 0;
}
