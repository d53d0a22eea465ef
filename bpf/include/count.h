/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The one exit: counts {scope, reason}, samples drops, returns the verdict that follows. */
#pragma once

#include "maps.h"
#include "parse.h"

/* Not decided by who was asked: the long way knows. */
#define UNCOMMON REASON_COUNT

/*
 * A call costs more than the rest of the count, so it is made only for frames that are long enough
 * to lie in more than one buffer.
 */
ALWAYS_INLINE __u64 frame_length(struct xdp_md *ctx)
{
	__u64 linear = ctx->data_end - ctx->data;

	return linear > 2048 ? bpf_xdp_get_buff_len(ctx) : linear;
}

ALWAYS_INLINE int verdict_of(enum reason reason)
{
	return reason < REASON_FIRST_DROP	? XDP_PASS
	       : reason < REASON_FIRST_TX	? XDP_DROP
	       : reason < REASON_FIRST_REDIRECT ? XDP_TX
						: XDP_REDIRECT;
}

ALWAYS_INLINE void count(__u32 scope, enum reason reason, __u64 bytes)
{
	__u32 key = scope * REASON_COUNT + reason;
	struct counter *counter = bpf_map_lookup_elem(&counters, &key);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

/* That another node takes a flow is the normal course; it would drown what is worth seeing. */
ALWAYS_INLINE int worth_sampling(enum reason reason)
{
	return reason >= REASON_FIRST_DROP && reason < REASON_FIRST_TX &&
	       reason != REASON_NOT_OWNER && reason != REASON_ECHO_NOT_OWNER &&
	       reason != REASON_UNNAMED_NOT_OWNER && reason != REASON_ERROR_NOT_OWNER &&
	       reason != REASON_UDP_AWAY && reason != REASON_FRAGMENT_NOT_OWNER &&
	       reason != REASON_ARP_NOT_OWNER && reason != REASON_ND_NOT_OWNER &&
	       reason != REASON_NOT_ANNOUNCED;
}

static __attribute__((noinline)) int sample(struct xdp_md *ctx, __u32 scope, __u32 reason)
{
	__u32 length, captured;
	struct drop *drop;

	/* a claim is rare, and somebody will want to know whose it is */
	if (reason != REASON_ARP_CONFLICT && reason != REASON_ND_CONFLICT &&
	    bpf_get_prandom_u32() % directory.sample)
		return 0;
	drop = bpf_ringbuf_reserve(&drops, sizeof(*drop), 0);
	if (!drop)
		return 0;
	length = bpf_xdp_get_buff_len(ctx);
	captured = length < SAMPLE_BYTES ? length : SAMPLE_BYTES;
	drop->time_ns = bpf_ktime_get_ns();
	drop->length = length;
	drop->ifindex = ctx->ingress_ifindex;
	drop->scope = scope;
	drop->reason = reason;
	drop->captured = 0;
	/*
	 * The verifier must see the bounds of the very register that is passed, each in a
	 * comparison of its own: clang would make one of both, of a difference in another
	 * register. 6.1 learns nothing from "not 0", but no frame is shorter than its header
	 * either.
	 */
	barrier_var(captured);
	if (captured >= sizeof(struct eth)) {
		barrier_var(captured);
		if (captured <= SAMPLE_BYTES && !bpf_xdp_load_bytes(ctx, 0, drop->frame, captured))
			drop->captured = captured;
	}
	bpf_ringbuf_submit(drop, 0);
	return 0;
}
