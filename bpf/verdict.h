/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* The verdict that every hook shares: what a policy set says of a peer, a protocol and a port. */
#pragma once

struct peer {
	__u64 cidrs;
	__u32 id;
	__u32 pad;
};

/* Who has an address. An address that nobody has is the world's. */
SUBPROGRAM int find_peer(const struct addr *address, struct peer *peer, __u32 now)
{
	struct addr_key key = { .prefixlen = 128 };
	const struct addr_slot *slot;
	struct addr_value *value;

	if (!address || !peer)
		return 0;
	key.addr = *address;
	value = bpf_map_lookup_elem(&sl_addr, &key);
	slot = slot_at(value, now);
	peer->id = slot && slot->id ? slot->id : SL_WORLD_ID;
	peer->cidrs = slot ? slot->cidrs : 0;
	peer->pad = 0;
	return 0;
}

static __always_inline __u64 class_of(const struct peer_key *key, __u32 now)
{
	struct peer_value *value = bpf_map_lookup_elem(&sl_peer, key);
	const struct peer_slot *slot = slot_at(value, now);

	return slot ? slot->class_id : 0;
}

/* A verdict without rules. As an initialiser it would become a constant in a section of its own. */
static __always_inline void answer_with(struct rule_value *answer, __u8 verdict)
{
	__builtin_memset(answer, 0, sizeof(*answer));
	answer->verdict = verdict;
}

/* Why the caller's side refuses: enum drop_reason. */
static __always_inline __u32 refused_egress(const struct rule_value *answer)
{
	return answer->listener == SL_DROP_REGISTRY_ONLY ? SL_DROP_REGISTRY_ONLY : SL_DROP_POLICY_EGRESS;
}

/* The last interval of a page that begins at `place` or before. Without branches, which the verifier
 * would follow one by one: what is negative has its highest bit set. */
static __always_inline __u32 interval_of(const struct rule_page *page, __u64 place)
{
	__u64 ahead, at = 0;

#pragma unroll
	for (__u32 step = SL_RULES_PAGE / 2; step; step /= 2) {
		ahead = page->start[(at + step) & (SL_RULES_PAGE - 1)];
		ahead -= place + 1;
		asm volatile("" : "+r"(ahead));
		at += (ahead >> 63) * step;
	}
	return at & (SL_RULES_PAGE - 1);
}

/* What a class says of `place`, protocol << 16 | port in host order. */
static __always_inline const struct rule_value *rule_at(__u64 class_id, __u32 place)
{
	struct rule_key key = { .class_id = class_id };
	const struct rule_value *rule;
	struct rule_page *page;

	for (int depth = 0; depth < SL_RULES_DEPTH; depth++) {
		page = bpf_map_lookup_elem(&sl_rule, &key);
		if (!page)
			return 0;
		rule = &page->rule[interval_of(page, place)];
		if (rule->verdict != SL_LOOK_BELOW)
			return rule;
		key.page = rule->listener;
	}
	return 0;
}

/* `service` is protocol << 16 | port in network order. Set 0: no policy selects, all is allowed. */
SUBPROGRAM int verdict(__u64 set, const struct peer *peer, __u32 service, __u32 now, struct rule_value *answer)
{
	struct peer_key key = { .set = set };
	const struct rule_value *found;
	__u64 class_id;

	if (!peer || !answer)
		return 0;
	answer_with(answer, set ? SL_DENY : SL_ALLOW);
	if (!set)
		return 0;
	key.cidrs = peer->cidrs;
	key.id = peer->id;
	class_id = class_of(&key, now);
	if (!class_id) {
		key.cidrs = 0;
		key.id = 0;
		class_id = class_of(&key, now);
	}
	if (!class_id)
		return 0;
	found = rule_at(class_id, (service & 0xff0000) | bpf_ntohs((__u16)service));
	if (found && !(found->verdict == SL_STEER && !found->listener))
		*answer = *found;
	return 0;
}

/* Rule 11: a node reaches its own pods. */
static __always_inline void ingress_verdict(const struct pod_slot *pod, const struct peer *from,
					    __u32 service, __u32 now, struct rule_value *answer)
{
	if (from->id == SL_HOST_ID && config(SL_CFG_HOST_REACHES))
		answer_with(answer, SL_ALLOW);
	else
		verdict(pod->ingress_set, from, service, now, answer);
}
