/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Slots that change their backend. While one does, its flows are not all at the same; those that
 * are elsewhere, or soon may be, are noted. internal/balance says which slot is in which state, and
 * its simulation has the rules of this file in Go.
 *
 * A flow is noted when it is seen for the second time: what is sent once, as a flood from made-up
 * sources is, leaves an eight-byte glimpse in a table of fixed size, and no more. A note says, too,
 * whether it was seen a third time, and seconds later: what was not is the first to be forgotten.
 */
#pragma once

#include "flow.h"
#include "transition.h"

/* A glimpse: the flow's tag, whether a SYN was all of it, the place, and a coarse second. */
#define GLIMPSE_TAG (0xffffffffULL << 32)
#define GLIMPSE_SYN (1ULL << 31)
#define GLIMPSE_PLACE_SHIFT 19
#define GLIMPSE_SECONDS ((1ULL << GLIMPSE_PLACE_SHIFT) - 1)
#define NS_PER_S 1000000000ULL

/* A noted connection that was silent for no longer lives; others' are told of again in that time.
 */
#define LIVE_SECONDS 20

ALWAYS_INLINE __u64 glimpse_of(__u64 tag, __u64 syn, __u64 place, __u64 now)
{
	return tag | syn | place << GLIMPSE_PLACE_SHIFT | (now / NS_PER_S & GLIMPSE_SECONDS);
}

ALWAYS_INLINE __u64 glimpse_age(__u64 glimpse, __u64 now)
{
	return (now / NS_PER_S - glimpse) & GLIMPSE_SECONDS;
}

/* The glimpse of a flow, or the one whose turn it is to be overwritten; and the flow's tag. */
ALWAYS_INLINE __u64 *find_glimpse(const struct noted_flow *flow, __u64 *tag)
{
	__u64 hash = flow_hash(read_word(), flow->src_hi, flow->src_lo,
			       (__u32)flow->src_port << 16 | flow->dst_port) ^
		     ((__u64)flow->region << 8 | flow->protocol) * 0x9e3779b97f4a7c15ULL;
	__u32 index = hash & (GLIMPSE_SETS - 1), way;
	struct glimpse_set *set = bpf_map_lookup_elem(&glimpses, &index);
	__u64 turn, next;

	*tag = hash & GLIMPSE_TAG;
	if (!set)
		return NULL;
#pragma unroll
	for (int i = 0; i < GLIMPSE_WAYS; i++) {
		__u64 seen = *(volatile __u64 *)&set->ways[i];

		if (seen && (seen & GLIMPSE_TAG) == *tag)
			return &set->ways[i];
	}
	turn = *(volatile __u64 *)&set->turn;
	way = turn & 7;
	barrier_var(way); /* Linux 6.1 follows a bound only in the register that is compared */
	if (way >= GLIMPSE_WAYS)
		return NULL;
	if (!((*(volatile __u64 *)&set->ways[way] ^ turn) & GLIMPSE_TAG))
		return &set->ways[way];
	/* it was written since */
	way = way + 1 < GLIMPSE_WAYS ? way + 1 : 0;
	barrier_var(way);
	if (way >= GLIMPSE_WAYS)
		return NULL;
	next = *(volatile __u64 *)&set->ways[way];
	if (!tracing)
		*(volatile __u64 *)&set->turn = (next & GLIMPSE_TAG) | way;
	return &set->ways[way];
}

/* A place is of use if there is a way to it. */
ALWAYS_INLINE int is_usable(__u32 region, __u32 place)
{
	__u32 key = region * BACKENDS + place;
	struct backend *backend = bpf_map_lookup_elem(&backends, &key);

	return place != SLOT_NOBODY && backend && backend->ifindex;
}

/* Has lbd tell other directors of an entry that is new, or gone: never of what was seen once. */
ALWAYS_INLINE void tell_noted(const struct noted_flow *flow, const struct noted *noted)
{
	struct news_noted *item = bpf_ringbuf_reserve(&news, sizeof(*item), 0);

	if (!item) {
		__sync_fetch_and_add(&directory.untold, 1);
		return;
	}
	item->kind = NEWS_NOTED;
	item->flow = *flow;
	item->noted = *noted;
	bpf_ringbuf_submit(item, BPF_RB_NO_WAKEUP); /* lbd looks often enough */
}

/* Notes where a flow is; says whether there was room. */
ALWAYS_INLINE int store_noted(const struct noted_flow *flow, const struct noted *noted)
{
	if (!bpf_map_update_elem(&exceptions, flow, noted, BPF_ANY))
		return 1;
	__sync_fetch_and_add(&directory.unnoted, 1);
	return 0;
}

/* And others hear of it. */
ALWAYS_INLINE int note_flow(const struct noted_flow *flow, const struct noted *noted)
{
	if (!store_noted(flow, noted))
		return 0;
	tell_noted(flow, noted);
	return 1;
}

/* The flags of a note whose flow goes on. */
ALWAYS_INLINE __u16 flags_on(const struct noted *noted, __u64 now)
{
	__s64 age = now - noted->since_ns;

	return noted->flags | NOTED_OPEN |
	       (age >= (__s64)(PROVING_SECONDS * NS_PER_S) ? NOTED_PROVEN : 0);
}

/* Forgets where a flow was: its ports are used again. */
ALWAYS_INLINE void forget_flow(const struct noted_flow *flow, __u32 slot)
{
	struct noted gone = {.slot = slot, .place = SLOT_NOBODY};

	if (!bpf_map_delete_elem(&exceptions, flow))
		tell_noted(flow, &gone);
}

/* When a packet of a noted flow last came by, here or at another director. */
ALWAYS_INLINE __u64 last_ns(const struct noted *noted)
{
	return noted->seen_ns > noted->heard_ns ? noted->seen_ns : noted->heard_ns;
}

/*
 * The place of a packet's backend, where its slot is in transition. A function of its own, which
 * the verifier checks once.
 */
__attribute__((noinline)) int place_in_transition(struct asked *asked)
{
	struct noted_flow key;
	struct noted *noted;
	struct noted fresh = {};
	__u64 now, tag, *glimpse, seen;
	__u32 flags, place, previous;

	if (!asked)
		return SLOT_NOBODY;
	key = asked->flow; /* Linux 6.1 takes keys from the stack only */
	flags = asked->slot_word >> SLOT_FLAGS_SHIFT;
	place = asked->slot_word >> SLOT_CURRENT_SHIFT & SLOT_NOBODY;
	now = bpf_ktime_get_coarse_ns();
	glimpse = find_glimpse(&key, &tag);
	if (!glimpse)
		return place;
	seen = *(volatile __u64 *)glimpse;

	if (asked->opens) {
		noted = bpf_map_lookup_elem(&exceptions, &key);
		/* late or made up; a port is not used again so soon, and if it is, this one does */
		if (noted && is_usable(key.region, noted->place) &&
		    now - last_ns(noted) <= LIVE_SECONDS * NS_PER_S)
			return noted->place;
		if (tracing)
			return place;
		if (asked->watched)
			bpf_map_delete_elem(&exceptions, &key); /* its director tells of it */
		else
			forget_flow(&key, asked->slot);
		if (flags & SLOT_MOVING && place != SLOT_NOBODY)
			*(volatile __u64 *)glimpse = glimpse_of(tag, GLIMPSE_SYN, place, now);
		else if ((seen & GLIMPSE_TAG) == tag)
			*(volatile __u64 *)glimpse = 0;
		return place;
	}

	noted = bpf_map_lookup_elem(&exceptions, &key);
	if (noted && is_usable(key.region, noted->place)) {
		if (!tracing && !asked->quoted) {
			noted->seen_ns = now;
			noted->flags = flags_on(noted, now);
		}
		return noted->place;
	}
	if (seen && (seen & GLIMPSE_TAG) == tag && (!(seen & GLIMPSE_SYN) || flags & SLOT_MOVING) &&
	    glimpse_age(seen, now) <= (seen & GLIMPSE_SYN ? OPENING_SECONDS : asked->idle)) {
		fresh.place = seen >> GLIMPSE_PLACE_SHIFT & SLOT_NOBODY;
		if (is_usable(key.region, fresh.place)) {
			fresh.seen_ns = fresh.since_ns = now;
			fresh.slot = asked->slot;
			if (!(seen & GLIMPSE_SYN) && glimpse_age(seen, now) > PROVING_SECONDS)
				fresh.flags = NOTED_PROVEN;
			/* when there is no room, the glimpse goes on deciding */
			if (!tracing && !asked->quoted && !note_flow(&key, &fresh))
				*(volatile __u64 *)glimpse = glimpse_of(tag, 0, fresh.place, now);
			return fresh.place;
		}
	}
	/* not before: the stack ends here */
	previous = asked->slot_word >> SLOT_PREVIOUS_SHIFT & SLOT_NOBODY;
	if (key.protocol == PROTO_TCP && flags & SLOT_MOVING && previous != SLOT_NOBODY)
		place = previous;
	if (flags & (key.protocol == PROTO_TCP ? SLOT_MOVING : SLOT_NOTING) &&
	    place != SLOT_NOBODY && !tracing && !asked->quoted)
		*(volatile __u64 *)glimpse = glimpse_of(tag, 0, place, now);
	return place;
}
