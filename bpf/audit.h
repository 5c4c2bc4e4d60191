/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Audit mode: what both ends together would say if the policies in it counted. It is told and
 * counted; nothing acts on it. */
#pragma once

struct audit {
	__u32 audit; /* enum sl_audit */
	__u32 cookie;
};

static __always_inline __u32 would_be(const struct rule_value *answer)
{
	return answer->audit ? answer->audit - 1 : answer->verdict;
}

static __always_inline __u32 stricter(__u32 one, __u32 other)
{
	if (one == SL_DENY || other == SL_DENY)
		return SL_DENY;
	return one == SL_STEER ? one : other;
}

/* An end that is not asked allows. Where it would be stricter, the rules of the end that would be
 * so are named; where it would be laxer, those of the end that is strict now. */
static __always_inline struct audit audit_of(const struct rule_value *egress, const struct rule_value *ingress)
{
	__u32 is = stricter(egress->verdict, ingress->verdict);
	__u32 would = stricter(would_be(egress), would_be(ingress));
	struct audit audit = {};

	if (would == is)
		return audit;
	audit.audit = would + 1;
	if (stricter(is, would) == would ? would_be(egress) == would : egress->verdict == is)
		audit.cookie = egress->audit_cookie;
	else
		audit.cookie = ingress->audit_cookie;
	return audit;
}

/* What is dropped for another reason than policy would be dropped anyway. */
static __always_inline bool is_by_policy(__u32 reason)
{
	return !reason || reason == SL_DROP_POLICY_EGRESS || reason == SL_DROP_POLICY_INGRESS ||
	       reason == SL_DROP_REGISTRY_ONLY;
}

static __always_inline void count_audit(__u32 audit)
{
	if (audit)
		count(SL_COUNT_AUDITED + ((audit - 1) & 3));
}
