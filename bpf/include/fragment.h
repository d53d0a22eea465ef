/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The first fragment of a datagram decides for those that follow, which carry no ports. */
#pragma once

#include "count.h"
#include "decide.h"

/* As long as the stack keeps the parts of a datagram: net.ipv4.ipfrag_time. */
#define FRAGMENT_NS 30000000000ULL

ALWAYS_INLINE void fragment_key(const struct packet *pkt, struct fragment_key *key)
{
	key->src_hi = pkt->src_hi;
	key->src_lo = pkt->src_lo;
	key->dst_hi = pkt->dst_hi;
	key->dst_lo = pkt->dst_lo;
	key->id = pkt->fragment_id;
	/* RFC 8200 section 4.5: later fragments of IPv6 may name another next header than the first
	 */
	key->protocol = pkt->ethertype == ETHERTYPE_IPV6 ? PROTO_FRAGMENT : pkt->protocol;
}

ALWAYS_INLINE void remember_fragment(const struct packet *pkt, __u16 scope, __u32 outcome,
				     __u32 ports)
{
	enum reason reason = reason_of(outcome);
	struct fragment_key key;
	struct fragment value = {
		.seen_ns = bpf_ktime_get_coarse_ns(),
		.scope = scope,
		.outcome = reason < REASON_FIRST_DROP	   ? FRAGMENT_ACCEPTED
			   : reason < REASON_FIRST_TX	   ? FRAGMENT_DROPPED
			   : reason < REASON_FIRST_FORWARD ? FRAGMENT_DELEGATED
			   : reason == REASON_REPLIED	   ? FRAGMENT_RETURNED
							   : FRAGMENT_FORWARDED,
		.protocol = pkt->protocol,
		.target = reason == REASON_REPLIED ? ports : target_in(outcome),
	};

	fragment_key(pkt, &key);
	bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
}

/* The outcome for a later fragment. That of a reply of full NAT has the ports that it is known by.
 */
ALWAYS_INLINE __u32 follow_fragment(const struct packet *pkt, struct flow *flow, int direct,
				    __u32 *scope)
{
	struct fragment_key key;
	struct fragment *first;

	fragment_key(pkt, &key);
	first = bpf_map_lookup_elem(&fragments, &key);
	if (!first || bpf_ktime_get_coarse_ns() - first->seen_ns > FRAGMENT_NS)
		return REASON_FRAGMENT_UNKNOWN;
	*scope = first->scope;
	if (first->outcome == FRAGMENT_ACCEPTED)
		return REASON_FRAGMENT_ACCEPTED;
	if (first->outcome == FRAGMENT_RETURNED) {
		flow->protocol = first->protocol;
		flow->src_port = first->target >> 16;
		flow->dst_port = first->target;
		return REASON_REPLIED;
	}
	/* what is sent on to us also came to all, when we dropped it */
	if (direct)
		return REASON_DIRECT;
	if (first->outcome == FRAGMENT_FORWARDED)
		return OUTCOME(REASON_FORWARDED, first->target);
	if (first->outcome == FRAGMENT_DELEGATED && find_node(first->target))
		return OUTCOME(REASON_DELEGATED, first->target);
	return REASON_FRAGMENT_NOT_OWNER;
}
