/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* forward: local. The owner of a bucket gives the packet to its own stack. */
#pragma once

#include "flow.h"

/* The bucket word of a hash in a table; 0, which is VERB_NONE, when there is no such table. */
ALWAYS_INLINE __u64 bucket_of(__u32 table, __u64 hash)
{
	__u32 key = table * BUCKETS + (hash & (BUCKETS - 1));
	__u64 *bucket = bpf_map_lookup_elem(&tables, &key);
	__u64 word = bucket ? *(volatile __u64 *)bucket : 0;

	if (tracing) {
		traced.flags |= TRACE_HASHED;
		traced.hash = hash;
		traced.table = table;
		traced.index = hash & (BUCKETS - 1);
		traced.bucket = word;
	}
	return word;
}

ALWAYS_INLINE enum verb verb_of(__u64 word)
{
	return word >> BUCKET_VERB_SHIFT & 0xff;
}

ALWAYS_INLINE __u32 flags_of(__u64 word)
{
	return word >> BUCKET_FLAGS_SHIFT & 0xff;
}

/* Whether the bucket's word makes us the one that forwards. */
ALWAYS_INLINE int is_ours(__u64 word)
{
	/* a bucket that is delegated is ours still: its new owner would choose alike */
	return verb_of(word) == VERB_ACCEPT || verb_of(word) == VERB_DELEGATE;
}

ALWAYS_INLINE __u32 target_of(__u64 word)
{
	return word >> BUCKET_TARGET_SHIFT & 0xffffff;
}

/* By the sender alone, in the VIP's table: ARP, ND, echo, and what no service names. */
ALWAYS_INLINE __u64 sender_bucket(__u64 published, const struct vip *vip, __u64 src_hi,
				  __u64 src_lo)
{
	return bucket_of(vip->table, flow_hash(published, src_hi, src_lo, 0));
}

ALWAYS_INLINE __u64 service_hash(__u64 published, const struct service *service,
				 const struct flow *flow)
{
	__u32 ports = (__u32)flow->src_port << 16 | flow->dst_port;

	return flow_hash(published, flow->src_hi & service->source_mask_hi,
			 flow->src_lo & service->source_mask_lo, ports & service->ports_mask);
}

/*
 * The stack must see a frame for this machine: TCP drops what a multicast MAC brought. Six bytes
 * as two stores; both ends are at even addresses.
 */
ALWAYS_INLINE void set_destination(struct eth *eth, const struct vip *vip)
{
	*(__u16 *)eth->dst = *(const __u16 *)vip->own_mac;
	*(__u16 *)(eth->dst + 2) = *(const __u16 *)(vip->own_mac + 2);
	*(__u16 *)(eth->dst + 4) = *(const __u16 *)(vip->own_mac + 4);
}

ALWAYS_INLINE void copy_mac(__u8 *to, const __u8 *from)
{
	*(__u16 *)to = *(const __u16 *)from;
	*(__u16 *)(to + 2) = *(const __u16 *)(from + 2);
	*(__u16 *)(to + 4) = *(const __u16 *)(from + 4);
}

/* Both MACs of a frame, from where they lie one behind the other. */
ALWAYS_INLINE void copy_macs(struct eth *eth, const __u8 *dst_src)
{
	*(__u64 *)eth->dst = *(const __u64 *)dst_src;
	*(__u32 *)(eth->src + 2) = *(const __u32 *)(dst_src + 8);
}

ALWAYS_INLINE int same_mac(const __u8 *a, const __u8 *b)
{
	return *(const __u16 *)a == *(const __u16 *)b &&
	       *(const __u16 *)(a + 2) == *(const __u16 *)(b + 2) &&
	       *(const __u16 *)(a + 4) == *(const __u16 *)(b + 4);
}

/* Whom a frame for a VIP was sent to. */
enum addressee { TO_ALL, TO_US, TO_OTHER };

ALWAYS_INLINE enum addressee addressee(const struct eth *eth, const struct vip *vip)
{
	if (eth->dst[0] & 1)
		return TO_ALL;
	if (same_mac(eth->dst, vip->own_mac))
		return TO_US;
	return same_mac(eth->dst, vip->mac) ? TO_ALL : TO_OTHER;
}

#define PEER_SLOT_BITS 8
_Static_assert(1 << PEER_SLOT_BITS == PEER_SLOTS, "");

ALWAYS_INLINE __u64 peer_key(const __u8 *mac)
{
	return *(const __u16 *)mac | (__u64) * (const __u16 *)(mac + 2) << 16 |
	       (__u64) * (const __u16 *)(mac + 4) << 32;
}

/* Whether another node of the cluster has a MAC. */
ALWAYS_INLINE int is_peer(__u64 published, const __u8 *mac)
{
	__u64 key = peer_key(mac);
	__u32 half = live_half(published) * PEER_SLOTS;
	__u32 slot = first_slot(published, key, PEER_SLOT_BITS);

#pragma unroll
	for (int i = 0; i < PROBES; i++) {
		__u64 index = index_of(half, (slot + i) & (PEER_SLOTS - 1));

		if (directory.peers[index] == key)
			return 1;
		if (!directory.peers[index])
			return 0;
	}
	return 0;
}

/* The same, by a look at one slot: it may err for a MAC that is no peer's, but for none that is. */
ALWAYS_INLINE int may_be_peer(__u64 published, const __u8 *mac)
{
	__u32 slot = first_slot(published, peer_key(mac), PEER_SLOT_BITS);

	return !!directory.peers[index_of(live_half(published) * PEER_SLOTS, slot)];
}

/*
 * Whether nobody else has a frame: it was sent to our own MAC, and where those of the VIP's clients
 * are, too, by a peer.
 */
ALWAYS_INLINE int is_direct(__u64 published, const struct eth *eth, const struct vip *vip,
			    enum addressee to)
{
	return to == TO_US && (!(vip->flags & VIP_BY_BUCKET) || is_peer(published, eth->src));
}
