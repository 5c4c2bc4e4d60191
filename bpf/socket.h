/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* What a socket of the kernel's is about. */
#pragma once

/* Its connection, as it would send. */
static __always_inline bool read_socket(struct sock_common *skc, struct tuple *t)
{
	__u16 family = skc->skc_family;

	if (family == AF_INET6) {
		BPF_CORE_READ_INTO(&t->src, skc, skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&t->dst, skc, skc_v6_daddr);
	} else if (family == AF_INET) {
		t->src = mapped(skc->skc_rcv_saddr);
		t->dst = mapped(skc->skc_daddr);
	} else {
		return false;
	}
	t->src_port_be = bpf_htons(skc->skc_num);
	t->dst_port_be = t->policy_port_be = skc->skc_dport;
	t->protocol = IPPROTO_TCP;
	return true;
}
