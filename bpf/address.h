/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Addresses: 16 bytes, IPv4 as ::ffff:a.b.c.d, so that every question is asked once. */
#pragma once

#define EGRESS_PORT 15001 /* of every listener on loopback that a client is steered to */
#define ROUTING_LISTENER 1

#define MAPPED bpf_htonl(0x0000ffff)
#define OURS_0 bpf_htonl(0xfd5100ce) /* fd51:ce:1::/96 listens for egress, fd51:ce:2::/96 for ingress */

static __always_inline struct addr mapped(__be32 ip4)
{
	return (struct addr){ .w = { 0, 0, MAPPED, ip4 } };
}

static __always_inline bool is_ip4(const struct addr *a)
{
	return !a->w[0] && !a->w[1] && a->w[2] == MAPPED;
}

static __always_inline bool is_zero(const struct addr *a)
{
	return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

static __always_inline bool same(const struct addr *a, const struct addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

/* As memcmp: network order is the order of bytes. */
static __always_inline int compare(const struct addr *a, const struct addr *b)
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (a->w[i] != b->w[i])
			return bpf_ntohl(a->w[i]) < bpf_ntohl(b->w[i]) ? -1 : 1;
	return 0;
}

/* 127/8, 0.0.0.0, ::1, ::, and ::6 from which an Envoy calls the application beside it: connecting
 * to the unspecified address reaches this host. */
static __always_inline bool is_loopback(const struct addr *a)
{
	if (is_ip4(a))
		return !a->w[3] || (a->w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !a->w[0] && !a->w[1] && !a->w[2] &&
	       (!a->w[3] || a->w[3] == bpf_htonl(1) || a->w[3] == bpf_htonl(6));
}

/* fd51:ce:1::/96 and fd51:ce:2::/96. */
static __always_inline bool is_listener_block(const struct addr *a)
{
	return a->w[0] == OURS_0 && !a->w[2] &&
	       (a->w[1] == bpf_htonl(0x00010000) || a->w[1] == bpf_htonl(0x00020000));
}

/* An address that no packet between hosts may carry. */
static __always_inline bool is_reserved(const struct addr *a)
{
	if (is_ip4(a))
		return is_loopback(a) || (a->w[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xf0000000);
	return is_loopback(a) || is_listener_block(a);
}

/* Where the listener of an L7 class listens for the pod's own clients: 127.a.b.c, fd51:ce:1::a:bc. */
static __always_inline struct addr listener_address(__u32 listener, bool ip4)
{
	if (ip4)
		return mapped(bpf_htonl(0x7f000000 | (listener & 0xffffff)));
	return (struct addr){ .w = { OURS_0, bpf_htonl(0x00010000), 0, bpf_htonl(listener & 0xffffff) } };
}

/* What an application has no business with where an Envoy runs beside it. */
static __always_inline bool is_proxy_address(const struct addr *a, __u16 port_be)
{
	return is_listener_block(a) || (port_be == bpf_htons(EGRESS_PORT) && is_loopback(a));
}

/* All fields are read before one is chosen: the verifier refuses a chosen pointer into the context.
 * An IPv6 socket that talks IPv4 has its addresses in the IPv4 fields. */
#define ADDRESS_OF(ctx, end)                                                               \
	({                                                                                 \
		__be32 ip4_ = READ_ONCE((ctx)->end##_ip4);                                 \
		struct addr ip6_ = { .w = { READ_ONCE((ctx)->end##_ip6[0]),                \
					    READ_ONCE((ctx)->end##_ip6[1]),                \
					    READ_ONCE((ctx)->end##_ip6[2]),                \
					    READ_ONCE((ctx)->end##_ip6[3]) } };            \
		READ_ONCE((ctx)->family) == AF_INET || is_ip4(&ip6_) ? mapped(ip4_) : ip6_; \
	})
