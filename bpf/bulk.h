/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* The verdict for many questions at once, attached nowhere: tests run it to compare the kernel with
 * the reference. `mark` is the number of questions in sl_bulk. */
#pragma once

static long answer_one(__u32 index, __u32 *now)
{
	struct bulk *question = bpf_map_lookup_elem(&sl_bulk, &index);
	struct rule_value answer = {};
	struct peer peer = {};

	if (!question)
		return 1;
	peer.id = question->id;
	peer.cidrs = question->cidrs;
	verdict(question->set, &peer, (__u32)question->protocol << 16 | question->port_be, *now, &answer);
	question->answer = answer;
	return 0;
}

SEC("tc")
int bulk_verdict(struct __sk_buff *skb)
{
	__u32 now = generation();

	return bpf_loop(skb->mark, answer_one, &now, 0);
}
