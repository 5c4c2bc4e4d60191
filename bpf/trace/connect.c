/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* How long connect() takes: from the SYN to the state that follows SYN_SENT. */

#define TCP 6
#define ESTABLISHED 1
#define SYN_SENT 2

struct beginning {
	u64 at; /* ns */
	char comm[16];
};

struct event {
	struct ends ends;
	u64 took; /* ns */
	u32 error; /* of errno, 0 if it is established */
	u32 established;
	char comm[16];
};

BPF_HASH(begun, u64, struct beginning, 65536);

/* (sk, old state, new state) */
RAW_TRACEPOINT_PROBE(inet_sock_set_state)
{
	u64 sk = ctx->args[0], from = ctx->args[1], to = ctx->args[2];
	struct beginning new = {}, *old;
	struct event e = {};
	u16 protocol = 0;

	if (from != SYN_SENT && to != SYN_SENT)
		return 0;
	FIELD(protocol, (const void *)sk, AT_SOCK_PROTOCOL);
	if (protocol != TCP)
		return 0;
	/* A change that interrupts this program is not seen, so the rest of the machine's go no further. */
	if (!ends_of((const void *)sk, &e.ends))
		return 0;
	if (to == SYN_SENT) {
		new.at = bpf_ktime_get_ns();
		bpf_get_current_comm(new.comm, sizeof(new.comm));
		begun.update(&sk, &new);
		return 0;
	}
	old = begun.lookup(&sk);
	if (!old)
		return 0;
	e.took = bpf_ktime_get_ns() - old->at;
	__builtin_memcpy(e.comm, old->comm, sizeof(e.comm));
	begun.delete(&sk);
	e.established = to == ESTABLISHED;
	FIELD(e.error, (const void *)sk, AT_SOCK_ERR);
	if (events.ringbuf_output(&e, sizeof(e), 0))
		lost.increment(0);
	return 0;
}
