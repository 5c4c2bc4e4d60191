/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Counters and the ring of events. */
#pragma once

/* The reader is woken each time another so much is pending, and drains on a timer besides: a wake-up
 * for each event would cost more than the flow does. */
#define WAKE_BYTES (64 * 1024)
#define RECORD_BYTES (sizeof(struct event) + BPF_RINGBUF_HDR_SZ)

static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&sl_counter, &counter);

	if (value)
		(*value)++;
}

static __always_inline void count_drop(__u32 reason)
{
	if (reason < SL_DROP_REASONS)
		count(SL_COUNT_DROPPED + reason);
}

/* A zeroed event to fill and hand to `publish`, NULL when events are off or the ring is full. */
static __always_inline struct event *new_event(__u8 type, __u32 now)
{
	struct event *e;

	if (!config(SL_CFG_EVENTS))
		return 0;
	e = bpf_ringbuf_reserve(&sl_event, sizeof(*e), 0);
	if (!e) {
		count(SL_COUNT_EVENTS_LOST);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = bpf_ktime_get_boot_ns();
	e->generation = now;
	e->type = type;
	return e;
}

static __always_inline void publish(struct event *e)
{
	bool wake = bpf_ringbuf_query(&sl_event, BPF_RB_AVAIL_DATA) % WAKE_BYTES < RECORD_BYTES;

	bpf_ringbuf_submit(e, wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}
