/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* What a connection goes through: round-trip times, retransmitted segments, resets. Counted here, read at the end,
 * for a busy connection has an acknowledgement every few microseconds. */

struct counts {
	u64 samples;
	u64 sum; /* of smoothed round-trip times, us */
	u32 least;
	u32 most;
	u32 retransmits;
	u32 resets_sent;
	u32 resets_received;
	u32 pad;
};

BPF_TABLE("lru_hash", struct ends, struct counts, connections, 65536);

static inline struct counts *counts_of(const void *sk)
{
	struct counts none = {};
	struct ends e = {};

	if (!sk || !ends_of(sk, &e))
		return 0;
	return connections.lookup_or_try_init(&e, &none);
}

/* Each of these is called with the socket first, and under its lock. */
RAW_TRACEPOINT_PROBE(tcp_probe)
{
	const void *sk = (const void *)ctx->args[0];
	struct counts *found = counts_of(sk);
	u32 rtt = 0;

	FIELD(rtt, sk, AT_TCP_SRTT); /* in eighths */
	rtt >>= 3;
	if (!found || !rtt)
		return 0;
	if (!found->samples || rtt < found->least)
		found->least = rtt;
	if (rtt > found->most)
		found->most = rtt;
	found->samples++;
	found->sum += rtt;
	return 0;
}

RAW_TRACEPOINT_PROBE(tcp_retransmit_skb)
{
	struct counts *found = counts_of((const void *)ctx->args[0]);

	if (found)
		found->retransmits++;
	return 0;
}

RAW_TRACEPOINT_PROBE(tcp_send_reset)
{
	struct counts *found = counts_of((const void *)ctx->args[0]);

	if (found)
		found->resets_sent++;
	return 0;
}

RAW_TRACEPOINT_PROBE(tcp_receive_reset)
{
	struct counts *found = counts_of((const void *)ctx->args[0]);

	if (found)
		found->resets_received++;
	return 0;
}
