/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A summary of this machine's routes: asking the kernel costs some 200 ns. lbd writes what it heard
 * of them, takes it back as soon as it hears that anything changed, and renews it while it listens:
 * of an lbd that is dead or hangs, nothing counts soon.
 */
#pragma once

#include "maps.h"
#include "parse.h"

ALWAYS_INLINE int routes_count(void)
{
	__u64 until = *(volatile __u64 *)&directory.routes.until;

	return (__s64)(until - bpf_jiffies64()) > 0;
}

ALWAYS_INLINE int forwards(__u64 interfaces, __u32 ifindex)
{
	return interfaces >> (ifindex % 64) & 1;
}

/* A hop that is to be used for a packet of that length, or NULL: the kernel is to be asked. */
ALWAYS_INLINE const struct hop *usable_hop(const struct hop *hop, __u32 length)
{
	return length <= hop->mtu ? hop : NULL;
}

/*
 * The hop of a machine on a link of our own. That packets go there is noted: the kernel does not
 * see them, and would never ask whether it is there still.
 */
ALWAYS_INLINE const struct hop *near_hop(__u64 addr_hi, __u64 addr_lo, __u32 length)
{
	__u32 key = (addr_hi ^ addr_lo) * 0x9e3779b97f4a7c15 >> (64 - NEAR_BITS);
	struct near_set *set = bpf_map_lookup_elem(&near, &key);

	if (!set)
		return NULL;
#pragma unroll
	for (int i = 0; i < NEAR_WAYS; i++) {
		struct neighbour *found = &set->ways[i];

		if (found->addr_lo != addr_lo || found->addr_hi != addr_hi)
			continue;
		if (!tracing && !found->used)
			found->used = 1;
		return usable_hop(&found->hop, length);
	}
	return NULL;
}

ALWAYS_INLINE const struct hop *known_hop4(__u32 ifindex, __be32 to, __u32 length)
{
	if (!routes_count() || !forwards(directory.routes.forwards4, ifindex))
		return NULL;
#pragma unroll
	for (int i = 0; i < ROUTES; i++) {
		if ((to & directory.routes.prefixes4[i].mask) != directory.routes.prefixes4[i].addr)
			continue;
		if (directory.routes.hops4[i].ifindex)
			return usable_hop(&directory.routes.hops4[i], length);
		break;
	}
	return near_hop(0, V4_MAPPED | bpf_ntohl(to), length);
}

ALWAYS_INLINE const struct hop *known_hop6(__u32 ifindex, const __be64 *to, __u32 length)
{
	__u64 hi = to[0], lo = to[1];

	if (!routes_count() || !forwards(directory.routes.forwards6, ifindex))
		return NULL;
#pragma unroll
	for (int i = 0; i < ROUTES; i++) {
		const struct prefix6 *prefix = &directory.routes.prefixes6[i];

		if ((hi & prefix->mask[0]) != prefix->addr[0] ||
		    (lo & prefix->mask[1]) != prefix->addr[1])
			continue;
		if (directory.routes.hops6[i].ifindex)
			return usable_hop(&directory.routes.hops6[i], length);
		break;
	}
	return near_hop(bpf_be64_to_cpu(hi), bpf_be64_to_cpu(lo), length);
}
