/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The backend's side of a tunnel: what it shares with Go, its maps, and its one exit. */
#pragma once

#include "abi.h"
#include "parse.h"
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>

/* Why decap ended where it did; the verdict follows from it. */
enum decap_reason {
	/* XDP_PASS, the frame untouched */
	DECAP_NO_TUNNEL, /* no packet in a packet */
	DECAP_OTHER_HOST, /* a tunnel that ends at another machine's address */
	DECAP_STRANGER, /* a tunnel to us, but not from a director */
	/* XDP_PASS, what was around the packet is off */
	DECAP_UNWRAPPED,
	/* XDP_DROP */
	DECAP_MALFORMED, /* from a director, and no packet in it that we can read */
	DECAP_NO_VIP, /* what is in it is for no address that we serve */
	DECAP_CONGESTED, /* marked on its way, and what is in it cannot tell: RFC 6040 */
	DECAP_FAILED, /* the kernel did not move the start of the frame */
	DECAP_COUNT,
	DECAP_FIRST_DROP = DECAP_MALFORMED,
};

/* What an address is to this machine; it may be more than one. */
enum address_role {
	ADDRESS_OWN = 1, /* tunnels to it end here */
	ADDRESS_DIRECTOR = 2, /* tunnels from it are taken off */
	ADDRESS_VIP = 4, /* packets for it may come out of one */
};

/* In host order, high half first; IPv4 is ::ffff:a.b.c.d. */
struct address {
	__u64 hi;
	__u64 lo;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct address);
	__type(value, __u32); /* enum address_role */
	__uint(max_entries, 8192);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32); /* enum decap_reason */
	__type(value, struct counter);
	__uint(max_entries, DECAP_COUNT);
} unwrapped SEC(".maps");

/* Never read: brings the types that no map mentions into BTF. */
const struct {
	enum decap_reason reason;
	enum address_role role;
} *const volatile exported;

ALWAYS_INLINE int is_a(enum address_role role, __u64 hi, __u64 lo)
{
	struct address key = {.hi = hi, .lo = lo};
	__u32 *roles = bpf_map_lookup_elem(&addresses, &key);

	return roles && *roles & role;
}

ALWAYS_INLINE void count_decap(enum decap_reason reason, __u64 bytes)
{
	__u32 key = reason;
	struct counter *counter = bpf_map_lookup_elem(&unwrapped, &key);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}
