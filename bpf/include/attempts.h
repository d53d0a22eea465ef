/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What becomes of connections that clients open to backends whose replies pass here: SYNs on their
 * way there, and what answers them. Nothing is remembered of a flow, and only segments that open or
 * refuse a connection are counted, so lbd has to add up what all directors saw.
 */
#pragma once

#include "icmp.h"
#include "maps.h"
#include "parse.h"
#include "transition.h"

/* Bits of the flags that do not say what a segment is for: RFC 3168 section 6.1.1, and pushing. */
#define TCP_PURPOSE (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)

enum attempt_end { ATTEMPT_OPENED, ATTEMPT_ANSWERED, ATTEMPT_REFUSED };

ALWAYS_INLINE void count_attempt(__u32 watched, enum attempt_end end)
{
	struct attempts *counts = bpf_map_lookup_elem(&attempts, &watched);

	if (!counts || tracing)
		return;
	if (end == ATTEMPT_OPENED)
		counts->opened++;
	else if (end == ATTEMPT_ANSWERED)
		counts->answered++;
	else
		counts->refused++;
}

/* A segment on its way to a backend. */
ALWAYS_INLINE void note_attempt(struct xdp_md *ctx, __u32 watched, __u32 l4)
{
	__u8 flags;

	if (!bpf_xdp_load_bytes(ctx, l4 + TCP_FLAGS_OFFSET, &flags, sizeof(flags)) &&
	    (flags & TCP_PURPOSE) == TCP_SYN)
		count_attempt(watched, ATTEMPT_OPENED);
}

/*
 * A segment from a backend. RFC 9293 section 3.10.7.1: who refuses a SYN sends a reset of sequence
 * 0 that acknowledges it. Other resets, those of a client, too, tell nothing of the backend.
 */
ALWAYS_INLINE void note_answer(__u32 watched, __u8 flags, __be32 sequence)
{
	if ((flags & TCP_PURPOSE) == (TCP_SYN | TCP_ACK))
		count_attempt(watched, ATTEMPT_ANSWERED);
	else if ((flags & TCP_PURPOSE) == (TCP_RST | TCP_ACK) && !sequence)
		count_attempt(watched, ATTEMPT_REFUSED);
}

/* The same of a common packet. */
ALWAYS_INLINE void note_common(__u32 watched, __u8 protocol, const struct tcp *tcp, void *end)
{
	if (protocol == PROTO_TCP && (void *)(tcp + 1) <= end)
		note_answer(watched, tcp->flags, tcp->sequence);
}

/* Whether an ICMP error says that the backend, or its port, cannot be reached. */
ALWAYS_INLINE int is_unreachable(__u8 protocol, const struct icmp *icmp)
{
	if (protocol == PROTO_ICMP)
		return icmp->type == ICMP_UNREACHABLE && icmp->code != ICMP_FRAGMENTATION_NEEDED;
	return icmp->type == ICMPV6_UNREACHABLE;
}

/* Any reply, or an error that a backend or a router before it sent, before it is translated. */
__attribute__((noinline)) int note_any(struct xdp_md *ctx, struct translation *to)
{
	struct quote quote = {};
	struct icmp icmp;
	struct tcp tcp;

	if (!to || !to->watched)
		return 0;
	if (!to->is_error) {
		if (to->l4 && to->protocol == PROTO_TCP &&
		    !bpf_xdp_load_bytes(ctx, to->l4, &tcp, sizeof(tcp)))
			note_answer(to->watched, tcp.flags, tcp.sequence);
		return 0;
	}
	quote.offset = to->l4 + sizeof(icmp);
	quote.icmp = to->protocol;
	if (bpf_xdp_load_bytes(ctx, to->l4, &icmp, sizeof(icmp)) ||
	    !is_unreachable(to->protocol, &icmp) || read_quote(ctx, &quote) ||
	    quote.protocol != PROTO_TCP ||
	    bpf_xdp_load_bytes(ctx, quote.l4 + TCP_FLAGS_OFFSET, &tcp.flags, sizeof(tcp.flags)))
		return 0;
	if ((tcp.flags & TCP_PURPOSE) == TCP_SYN)
		count_attempt(to->watched, ATTEMPT_REFUSED);
	return 0;
}
