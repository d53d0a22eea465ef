/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services that choose a backend for each flow, and so remember them all: those with a scheduler
 * that does not follow from the flow, with affinity, or with backends that take a limited number of
 * connections. A choice is a glimpse until the flow is seen again, and a note from then on, as for
 * slots in transition: a flood from made-up sources makes no notes. It counts as a connection, and
 * others hear of it, when it is seen for the third time: no flood of pairs does. What is unknown is
 * where its slot says, as it is in services that remember nothing.
 */
#pragma once

#include "exceptions.h"

/* Instead of a place, or with one. */
#define PLACE_FULL 0x1000 /* backends are full */
#define PLACE_NEW 0x2000 /* the flow is new: somebody is to be chosen */
#define PLACE_AGAIN 0x4000 /* it is seen for the second time: to be noted there */
#define PLACE_BY_SLOT 0x8000 /* nothing is known of it */
#define PLACE_NOTED 0x10000 /* its note is to say more of it */

#define CROWDED_SECONDS 10 /* that new flows go by their slots after a note found no room */
#define TRIES 64 /* backends that are looked at for one that has room */
#define LOOK_AT_ALL 16 /* backends, or fewer, of which the least loaded is found; else ... */
#define DRAWS 3 /* as many are drawn */

/* The order of a pool: how many places it has, then four to a word. */
ALWAYS_INLINE __u64 order_word(__u32 pool, __u32 word)
{
	__u32 key = pool * ORDER_WORDS + word;
	__u64 *places = bpf_map_lookup_elem(&orders, &key);

	return places ? *(volatile __u64 *)places : 0;
}

ALWAYS_INLINE __u32 order_place(__u32 pool, __u32 index)
{
	return order_word(pool, 1 + index / 4) >> (index % 4 * 16) & SLOT_NOBODY;
}

ALWAYS_INLINE struct load *load_of(__u32 pool, __u32 place)
{
	__u32 key = pool * BACKENDS + place;

	return bpf_map_lookup_elem(&loads, &key);
}

/* A connection is opened, opens as far as a note, or closes. */
ALWAYS_INLINE void add_load(__u32 pool, __u32 place, int open, int opening)
{
	struct load *load = load_of(pool, place);

	if (!load)
		return;
	if (open)
		__sync_fetch_and_add(&load->open, open);
	if (opening)
		__sync_fetch_and_add(&load->opening, opening);
}

ALWAYS_INLINE __u64 positive(__u64 count)
{
	return (__s64)count < 0 ? 0 : count;
}

enum room { ROOM_NONE, ROOM_TIGHT, ROOM_PLENTY };

/*
 * Whether a backend has room for one more connection. Those that are only being opened are passed
 * over while others have plenty, but fill nothing: else a flood would.
 */
ALWAYS_INLINE enum room room_of(const struct load *load)
{
	__u64 open = positive(load->open);

	if (!load->maxconn)
		return ROOM_PLENTY;
	if (open >= load->maxconn)
		return ROOM_NONE;
	return open + positive(load->opening) >= load->maxconn ? ROOM_TIGHT : ROOM_PLENTY;
}

/* Where the search for a place begins: an index of the order. */
ALWAYS_INLINE __u32 first_index(const struct asked *asked, __u32 length)
{
	__u32 key = asked->pool;
	struct rota *rota;

	if (asked->scheduler == SCHEDULER_MAGLEV)
		return asked->slot % length;
	if (asked->scheduler == SCHEDULER_RANDOM)
		return (__u64)bpf_get_prandom_u32() * length >> 32;
	rota = bpf_map_lookup_elem(&turns, &key);
	if (!rota)
		return 0;
	return (tracing ? rota->next : __sync_fetch_and_add(&rota->next, 1)) % length;
}

/* Looks at the next place, and says whether there is more to do. Functions of their own, which the
 * verifier checks once. */
__attribute__((noinline)) int try_next(struct asked *asked)
{
	struct search *search = &asked->search;
	__u32 i, index, place;
	struct load *load;
	enum room room;
	__u64 count;

	if (!asked || !search->length)
		return 0;
	i = search->tried++;
	if (i >= search->looks && (search->best_room == ROOM_PLENTY || i > search->length ||
				   (search->full && asked->overflow == OVERFLOW_DROP)))
		return 0;
	index = asked->scheduler == SCHEDULER_LEAST_CONN && search->length > LOOK_AT_ALL &&
				i < DRAWS
			? (__u64)bpf_get_prandom_u32() * search->length >> 32
			: (search->first + i) % search->length;
	place = order_place(asked->pool, index);
	if (!i && asked->scheduler == SCHEDULER_MAGLEV)
		place = asked->slot_word & SLOT_NOBODY;
	load = load_of(asked->pool, place);
	if (!load || !is_usable(asked->flow.region, place))
		return 1;
	room = room_of(load);
	search->full |= room == ROOM_NONE;
	if (room < search->best_room || room == ROOM_NONE)
		return 1;
	count = positive(load->open) + positive(load->opening);
	if (room == search->best_room &&
	    (asked->scheduler != SCHEDULER_LEAST_CONN ||
	     count * search->best_weight >= search->best_count * load->weight))
		return 1;
	search->best = place;
	search->best_room = room;
	search->best_count = count;
	search->best_weight = load->weight;
	return 1;
}

/* The place of a new flow: the scheduler's choice, or the next one that has room. */
__attribute__((noinline)) int pick_place(struct asked *asked)
{
	struct search *search = &asked->search;
	__u32 length;

	if (!asked)
		return SLOT_NOBODY;
	length = order_word(asked->pool, 0);
	if (!length)
		return asked->scheduler == SCHEDULER_MAGLEV ? asked->slot_word & SLOT_NOBODY
							    : SLOT_NOBODY;
	search->best = SLOT_NOBODY;
	search->best_room = ROOM_NONE;
	search->full = 0;
	search->tried = 0;
	search->looks = 1;
	search->length = length;
	search->first = first_index(asked, length);
	if (asked->scheduler == SCHEDULER_LEAST_CONN)
		search->looks = length <= LOOK_AT_ALL ? length : DRAWS;
	for (int i = 0; i < TRIES; i++)
		if (!try_next(asked))
			break;
	if (search->best != SLOT_NOBODY || !search->full)
		return search->best;
	if (asked->overflow == OVERFLOW_NEXT && is_usable(asked->flow.region, asked->sorry))
		return asked->sorry;
	return PLACE_FULL;
}

/* Whether a place takes new flows of those who were there before. */
ALWAYS_INLINE int takes_more(const struct asked *asked, __u32 place)
{
	struct load *load = load_of(asked->pool, place);

	return load && load->weight && room_of(load) != ROOM_NONE &&
	       is_usable(asked->flow.region, place);
}

/* The key of what is remembered of a client. */
ALWAYS_INLINE void client_key(const struct asked *asked, struct noted_flow *key)
{
	*key = (struct noted_flow){
		.src_hi = asked->client_hi,
		.src_lo = asked->client_lo,
		.region = asked->pool,
		.protocol = NOTED_CLIENT,
	};
}

/*
 * The place of the client's last new flow, if that was not too long ago. It is noted when a flow of
 * it is; who opens several at once is found by a glimpse.
 */
__attribute__((noinline)) int clients_place(struct asked *asked)
{
	__u64 now = bpf_ktime_get_coarse_ns(), tag, *glimpse, seen;
	struct noted_flow key;
	struct noted *noted;
	__u32 place;

	if (!asked)
		return SLOT_NOBODY;
	client_key(asked, &key);
	noted = bpf_map_lookup_elem(&exceptions, &key);
	if (noted && now - last_ns(noted) <= asked->affinity * NS_PER_S) {
		if (!takes_more(asked, noted->place))
			return SLOT_NOBODY;
		if (!tracing)
			noted->seen_ns = now;
		return noted->place;
	}
	glimpse = find_glimpse(&key, &tag);
	if (!glimpse)
		return SLOT_NOBODY;
	seen = *(volatile __u64 *)glimpse;
	place = seen >> GLIMPSE_PLACE_SHIFT & SLOT_NOBODY;
	if (!seen || (seen & GLIMPSE_TAG) != tag || glimpse_age(seen, now) > OPENING_SECONDS ||
	    glimpse_age(seen, now) > asked->affinity || !takes_more(asked, place))
		return SLOT_NOBODY;
	return place;
}

/* Whether notes found no room just now. */
ALWAYS_INLINE int is_crowded(__u32 pool, __u64 now)
{
	struct rota *rota = bpf_map_lookup_elem(&turns, &pool);

	return rota && rota->crowded && now - rota->crowded < CROWDED_SECONDS * NS_PER_S;
}

/*
 * Whether a noted flow stays at its place when a SYN comes. Of a connection that lives it is old,
 * or made up; and so may be what closed it just now.
 */
ALWAYS_INLINE int is_kept(const struct asked *asked, const struct noted *noted, __u64 now)
{
	__u64 most = noted->flags & NOTED_CLOSING ? PROVING_SECONDS : asked->idle;
	__s64 silent = now - last_ns(noted);

	return !asked->opens || silent <= (__s64)(most * NS_PER_S);
}

/* Whether a note counts among the connections of its backend. */
ALWAYS_INLINE int is_counted(__u16 flags)
{
	return (flags & (NOTED_OPEN | NOTED_CLOSING)) == NOTED_OPEN;
}

/* What a packet of a noted flow says of it, where that is more than was known. */
__attribute__((noinline)) int see_noted(struct asked *asked)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct noted fresh = {};
	struct noted_flow key;
	struct noted *noted;
	__u16 before, flags;

	if (!asked)
		return 0;
	key = asked->flow;
	noted = bpf_map_lookup_elem(&exceptions, &key);
	if (!noted)
		return 0;
	before = flags = noted->flags;
	noted->seen_ns = now;
	if (asked->closes) {
		if (!(before & NOTED_CLOSING)) {
			flags &= ~NOTED_PROVEN;
			noted->since_ns = now;
		}
		flags |= asked->closes & TCP_RST ? NOTED_CLOSING | NOTED_RESET : NOTED_CLOSING;
	} else if (!asked->opens) {
		flags = flags_on(noted, now);
		if ((flags & (NOTED_RESET | NOTED_PROVEN)) == (NOTED_RESET | NOTED_PROVEN))
			flags &= ~(NOTED_RESET | NOTED_CLOSING);
	} else if (before & NOTED_CLOSING) {
		flags &= ~(NOTED_RESET | NOTED_CLOSING | NOTED_PROVEN);
		noted->since_ns = now;
	}
	if (flags == before)
		return 0;
	noted->flags = flags;
	add_load(asked->pool, noted->place, is_counted(flags) - is_counted(before),
		 -!!(flags & ~before & NOTED_OPEN));
	if (!((flags ^ before) & (NOTED_OPEN | NOTED_CLOSING)))
		return 0;
	tell_noted(&key, noted);
	if (!asked->affinity || !(flags & ~before & NOTED_OPEN))
		return 0;
	fresh = (struct noted){.seen_ns = now, .since_ns = now, .place = noted->place};
	fresh.slot = noted->slot;
	client_key(asked, &key);
	return note_flow(&key, &fresh);
}

/* What is remembered of a packet's flow: a note, or a glimpse of its first packet. */
__attribute__((noinline)) int recall_place(struct asked *asked)
{
	__u64 now = bpf_ktime_get_coarse_ns(), tag, *glimpse, seen;
	struct noted_flow key;
	struct noted *noted;
	__u32 place;

	if (!asked)
		return SLOT_NOBODY;
	key = asked->flow; /* Linux 6.1 takes keys from the stack only */
	noted = bpf_map_lookup_elem(&exceptions, &key);
	if (noted && is_usable(key.region, noted->place) && is_kept(asked, noted, now)) {
		place = noted->place;
		if (tracing || asked->quoted)
			return place;
		if (asked->opens || asked->closes || noted->flags & NOTED_RESET ||
		    flags_on(noted, now) != noted->flags)
			return place | PLACE_NOTED;
		noted->seen_ns = now;
		return place;
	}
	glimpse = find_glimpse(&key, &tag);
	if (!glimpse)
		return PLACE_BY_SLOT;
	seen = *(volatile __u64 *)glimpse;
	place = seen >> GLIMPSE_PLACE_SHIFT & SLOT_NOBODY;
	if (seen && (seen & GLIMPSE_TAG) == tag && (!asked->opens || seen & GLIMPSE_SYN) &&
	    glimpse_age(seen, now) <= (seen & GLIMPSE_SYN ? OPENING_SECONDS : asked->idle) &&
	    is_usable(key.region, place))
		return tracing || asked->quoted || asked->opens || asked->closes
			       ? place
			       : place | PLACE_AGAIN;
	/* of TCP, what is no SYN was forgotten */
	if (asked->quoted || (key.protocol == PROTO_TCP && !asked->opens) ||
	    is_crowded(asked->pool, now))
		return PLACE_BY_SLOT;
	if (noted && !tracing) {
		if (is_counted(noted->flags))
			add_load(asked->pool, noted->place, -1, 0);
		forget_flow(&key, asked->slot);
	}
	return PLACE_NEW;
}

/* A flow was given a place: a glimpse of it, and of the client. */
__attribute__((noinline)) int glimpse_place(struct asked *asked, __u32 place)
{
	__u64 now = bpf_ktime_get_coarse_ns(), tag, *glimpse, syn;
	struct noted_flow key;

	if (!asked)
		return 0;
	key = asked->flow;
	syn = key.protocol == PROTO_TCP ? GLIMPSE_SYN : 0;
	glimpse = find_glimpse(&key, &tag);
	if (glimpse)
		*(volatile __u64 *)glimpse = glimpse_of(tag, syn, place, now);
	add_load(asked->pool, place, 0, 1);
	if (!asked->affinity)
		return 0;
	client_key(asked, &key);
	glimpse = find_glimpse(&key, &tag);
	if (glimpse)
		*(volatile __u64 *)glimpse = glimpse_of(tag, GLIMPSE_SYN, place, now);
	return 0;
}

/* A flow that was seen once is seen again: it is noted. Others hear of it when it goes on. */
__attribute__((noinline)) int note_place(struct asked *asked, __u32 place)
{
	struct noted fresh = {};
	struct noted_flow key;
	struct rota *rota;
	__u64 tag, *glimpse;
	__u32 pool;

	if (!asked)
		return 0;
	key = asked->flow;
	pool = asked->pool;
	fresh.seen_ns = fresh.since_ns = bpf_ktime_get_coarse_ns();
	fresh.slot = asked->slot;
	fresh.place = place;
	glimpse = find_glimpse(&key, &tag);
	if (!glimpse)
		return 0;
	if (!store_noted(&key, &fresh)) {
		/* the glimpse goes on deciding */
		*(volatile __u64 *)glimpse = glimpse_of(tag, 0, place, fresh.seen_ns);
		rota = bpf_map_lookup_elem(&turns, &pool);
		if (rota)
			rota->crowded = fresh.seen_ns;
		return 0;
	}
	*(volatile __u64 *)glimpse = 0;
	return 1;
}

/*
 * The place of a packet's backend. It calls one after the other: what they need of the stack does
 * not add up.
 */
ALWAYS_INLINE __u32 scheduled_place(struct asked *asked)
{
	__u32 place = recall_place(asked);

	if (place == PLACE_NEW) {
		place = asked->affinity ? clients_place(asked) : SLOT_NOBODY;
		if (place == SLOT_NOBODY)
			place = pick_place(asked);
		if (!tracing && place < SLOT_NOBODY)
			glimpse_place(asked, place);
		return place;
	}
	if (place & PLACE_AGAIN) {
		place &= SLOT_NOBODY;
		note_place(asked, place);
	}
	if (place & PLACE_NOTED) {
		place &= SLOT_NOBODY;
		see_noted(asked);
	}
	if (place != PLACE_BY_SLOT)
		return place;
	if (asked->slot_word >> SLOT_FLAGS_SHIFT & ~(SLOT_SCHEDULED | SLOT_SOURCES))
		return place_in_transition(asked);
	return asked->slot_word & SLOT_NOBODY;
}
