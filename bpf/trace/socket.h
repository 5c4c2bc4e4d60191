/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Who a socket is: its network namespace and its two ends. Compiled by bcc when `sluice trace` is asked for it.
 *
 * bcc takes the layout of kernel structs from header files, which need not be those of the running kernel. So no
 * struct of the kernel is named here: every offset (AT_...) is that of the running kernel's own BTF, and programs sit
 * at raw tracepoints, of which the first arguments have been the same since Linux 6.6. */

#define FAMILY_V4 2
#define FAMILY_V6 10

struct ends {
	u8 saddr[16]; /* IPv4: the first four bytes */
	u8 daddr[16];
	u32 netns; /* the number of the namespace's inode */
	u16 family;
	u16 sport; /* host order */
	u16 dport;
	u16 pad;
};

/* Namespaces that are asked about. */
BPF_HASH(wanted, u32, u8, 16384);
/* Events for which there was no room. */
BPF_ARRAY(lost, u64, 1);
BPF_RINGBUF_OUTPUT(events, 256);

#define FIELD(to, from, at) bpf_probe_read_kernel(&(to), sizeof(to), (const char *)(from) + (at))

static inline u32 netns_of_net(const void *net)
{
	u32 inode = 0;

	FIELD(inode, net, AT_NET_INODE);
	return inode;
}

static inline u32 netns_of(const void *sk)
{
	const void *net = 0;

	FIELD(net, sk, AT_SOCK_NET);
	return netns_of_net(net);
}

/* False if the socket's namespace is none that is asked about. */
static inline int ends_of(const void *sk, struct ends *e)
{
	u32 netns = netns_of(sk);
	u16 port = 0;

	if (!wanted.lookup(&netns))
		return 0;
	e->netns = netns;
	FIELD(e->family, sk, AT_SOCK_FAMILY);
	FIELD(e->sport, sk, AT_SOCK_SPORT);
	FIELD(port, sk, AT_SOCK_DPORT);
	e->dport = ntohs(port);
	if (e->family == FAMILY_V6) {
		bpf_probe_read_kernel(e->saddr, 16, (const char *)sk + AT_SOCK_SADDR6);
		bpf_probe_read_kernel(e->daddr, 16, (const char *)sk + AT_SOCK_DADDR6);
	} else {
		bpf_probe_read_kernel(e->saddr, 4, (const char *)sk + AT_SOCK_SADDR);
		bpf_probe_read_kernel(e->daddr, 4, (const char *)sk + AT_SOCK_DADDR);
	}
	return 1;
}
