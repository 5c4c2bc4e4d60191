/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* One generation per verdict (rule 8): it is read once, and every table is asked for it. */
#pragma once

/* A function of its own that the verifier checks once, whoever calls it: its pointers may be NULL
 * as far as the verifier knows. */
#define SUBPROGRAM __noinline

static __always_inline __u64 config(__u32 word)
{
	__u64 *value = bpf_map_lookup_elem(&sl_config, &word);

	return value ? READ_ONCE(*value) : 0;
}

static __always_inline __u32 generation(void)
{
	return config(SL_CFG_GENERATION);
}

/* The slot with the greatest generation not above `now`, NULL when none was written. */
#define slot_at(value, now)                                             \
	({                                                              \
		typeof(&(value)->slot[0]) slot_ = 0;                    \
		if (value) {                                            \
			__u32 g0_ = READ_ONCE((value)->slot[0].generation); \
			__u32 g1_ = READ_ONCE((value)->slot[1].generation); \
			g0_ = g0_ > (now) ? 0 : g0_;                    \
			g1_ = g1_ > (now) ? 0 : g1_;                    \
			if (g1_ > g0_)                                  \
				slot_ = &(value)->slot[1];              \
			else if (g0_)                                   \
				slot_ = &(value)->slot[0];              \
		}                                                       \
		slot_;                                                  \
	})

static __always_inline const struct pod_slot *pod_at(const struct addr *address, __u32 now)
{
	struct pod_value *value = bpf_map_lookup_elem(&sl_pod, address);
	const struct pod_slot *pod = slot_at(value, now);

	return pod && pod->id ? pod : 0;
}
