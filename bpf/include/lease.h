/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The lease: lbd renews it while it may serve. When it ends, no new flow is taken and nothing is
 * forwarded, and only lbd can begin anew. Established flows never pay for it: they do not look at a
 * clock.
 */
#pragma once

#include "maps.h"
#include "parse.h"

#define CLOCK_MONOTONIC 1
#define LEASE_ENDED 1 /* a time that is long over */

ALWAYS_INLINE __u64 lease_word(void)
{
	return *(volatile __u64 *)&directory.lease;
}

/* As the timer says: for packets that do not look at the clock. */
ALWAYS_INLINE int lease_ended(void)
{
	return lease_word() == LEASE_ENDED;
}

/* Exact at any moment, also where the timer is late. */
ALWAYS_INLINE int lease_over(void)
{
	__u64 until = lease_word();

	if (!until)
		return 0;
	return until == LEASE_ENDED || bpf_ktime_get_ns() >= until;
}

/* An order that loads keep on every processor: after what was written before. */
ALWAYS_INLINE __u64 latest_lease_word(void)
{
	return __sync_fetch_and_add(&directory.lease, 0);
}

/* How often the lease may change while the timer is set, until the next to change it sets it. */
#define LEASE_CHANGES 4

/*
 * The timer's: for packets that do not look at the clock. Whoever changes the word does so only
 * if it is still what the decision was made on, so a lease that has ended cannot be renewed and
 * one that was renewed does not end.
 */
static int lease_ends(void *map, __u32 *key, struct lease_clock *clock)
{
	__u64 until = lease_word();

	(void)map;
	(void)key;
	for (int i = 0; i < LEASE_CHANGES; i++) {
		__u64 now = bpf_ktime_get_ns();

		if (until <= LEASE_ENDED)
			return 0;
		if (now >= until) {
			__sync_val_compare_and_swap(&directory.lease, until, LEASE_ENDED);
			return 0;
		}
		bpf_timer_start(&clock->timer, until - now, 0);
		/* a shorter lease that was set meanwhile is not to wait for this one's end */
		if (latest_lease_word() == until)
			return 0;
		until = lease_word();
	}
	return 0;
}

/* Makes the timer ring at until, whether or not it did anything before. */
ALWAYS_INLINE int set_clock(__u64 until)
{
	__u32 first = 0;
	struct lease_clock *clock = bpf_map_lookup_elem(&lease, &first);
	__u64 now = bpf_ktime_get_ns();

	if (!clock)
		return -1;
	/* refused when it was done before */
	bpf_timer_init(&clock->timer, &lease, CLOCK_MONOTONIC);
	/* each time: the callback is the newest program's */
	if (bpf_timer_set_callback(&clock->timer, lease_ends))
		return -1;
	return bpf_timer_start(&clock->timer, until > now ? until - now : 0, 0);
}

ALWAYS_INLINE enum lease_answer renew_lease(__u64 until, int anew)
{
	__u64 before = lease_word();
	__u64 now = bpf_ktime_get_ns();

	if (!anew && before && (before == LEASE_ENDED || now >= before))
		return LEASE_LAPSED;
	/* before the word: a lease that nothing would end must not begin */
	if (until && set_clock(until))
		return LEASE_FAILED;
	if (anew)
		__sync_lock_test_and_set(&directory.lease, until);
	else if (__sync_val_compare_and_swap(&directory.lease, before, until) != before)
		return LEASE_LAPSED;
	/* and after it: the clock may have rung in between, and found nothing to do */
	if (until && set_clock(until))
		return LEASE_FAILED;
	return until && now >= until ? LEASE_LAPSED : LEASE_RUNS;
}
