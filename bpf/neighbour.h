/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* ARP and neighbour discovery (rule 13): a pod speaks for its own addresses only. */
#pragma once

struct arp_ip4 {
	__be16 hardware;
	__be16 protocol;
	__u8 lengths[2];
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
} __attribute__((packed));

static __always_inline bool lives_at(const struct addr *address, __u32 ifindex, __u32 now)
{
	const struct pod_slot *pod = pod_at(address, now);

	return pod && pod->ifindex == ifindex;
}

static __always_inline bool is_link_local(const struct addr *a)
{
	return (a->w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* A pod's own address, one of its link-local ones, or none yet (probes). */
static __always_inline bool may_claim(const struct addr *address, __u32 ifindex, __u32 now)
{
	return is_zero(address) || is_link_local(address) || lives_at(address, ifindex, now);
}

SUBPROGRAM int neighbour_is_honest(struct __sk_buff *skb, const struct packet *p, __u32 now)
{
	struct {
		struct icmp_head head;
		struct addr target;
	} advertisement;
	struct arp_ip4 arp;
	struct addr sender;
	__be32 ip4;

	if (!p)
		return false;
	if (skb->protocol == bpf_htons(ETH_P_ARP)) {
		if (bpf_skb_load_bytes(skb, p->offset, &arp, sizeof(arp)))
			return false;
		if (arp.protocol != bpf_htons(ETH_P_IP))
			return false;
		__builtin_memcpy(&ip4, arp.sender, sizeof(ip4));
		sender = mapped(ip4);
		return !ip4 || lives_at(&sender, skb->ifindex, now);
	}
	if (!may_claim(&p->sender, skb->ifindex, now))
		return false;
	if (bpf_skb_load_bytes(skb, p->offset, &advertisement, sizeof(advertisement)))
		return false;
	return advertisement.head.type == ICMPV6_NEIGHBOUR_SOLICITATION || may_claim(&advertisement.target, skb->ifindex, now);
}
