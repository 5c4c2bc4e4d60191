/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Fragments (rule 13): the first one carries the ports and is judged, later ones follow it. */
#pragma once

static __always_inline void fragment_key_of(const struct packet *p, struct fragment_key *key)
{
	key->src = p->t.src;
	key->dst = p->t.dst;
	key->id = p->fragment_id;
	key->protocol = p->t.protocol;
}

/* Gives a later fragment its first one's ports; false when that was not seen. */
SUBPROGRAM int follow_first_fragment(struct packet *p)
{
	struct fragment_value *first;
	struct fragment_key key;

	if (!p)
		return false;
	fragment_key_of(p, &key);
	first = bpf_map_lookup_elem(&sl_fragment, &key);
	if (!first)
		return false;
	p->t.src_port_be = first->src_port_be;
	p->t.dst_port_be = p->t.policy_port_be = first->dst_port_be;
	p->tcp_flags = TCP_ACK;
	p->kind = PACKET_REPLY;
	return true;
}

SUBPROGRAM int remember_first_fragment(const struct packet *p)
{
	struct fragment_value first;
	struct fragment_key key;

	if (!p)
		return 0;
	first.src_port_be = p->t.src_port_be;
	first.dst_port_be = p->t.dst_port_be;
	fragment_key_of(p, &key);
	return bpf_map_update_elem(&sl_fragment, &key, &first, BPF_ANY);
}
