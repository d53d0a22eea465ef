/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A flow's hash, and the VIP and service it is for. */
#pragma once

#include "maps.h"
#include "parse.h"

struct flow {
	__u64 src_hi;
	__u64 src_lo;
	__u16 src_port;
	__u16 dst_port;
	__u8 protocol;
	__u64 hash; /* by its service */
	__u16 l4; /* offset of the transport header; 0 when the packet is not of the flow itself */
	__u16 icmp; /* offset of the ICMP header where an error is about the flow, else 0 */
};

/*
 * The word that publishes everything. It is read once for each packet: a packet that meets two
 * of them would find nothing. lbd rewrites the other half only after an RCU grace period.
 */
ALWAYS_INLINE __u64 read_word(void)
{
	return *(volatile __u64 *)&directory.word;
}

ALWAYS_INLINE __u32 live_half(__u64 published)
{
	return (published >> 1) & 1;
}

/* First slot of a key in a half of 1 << bits slots. */
ALWAYS_INLINE __u32 first_slot(__u64 published, __u64 key, __u32 bits)
{
	return (key * published) >> (64 - bits);
}

/*
 * Keyed hash of the masked source address and ports: the multilinear family over 32-bit words
 * with 64-bit keys, which is strongly universal (Lemire and Kaser, "Strongly universal string
 * hashing is fast", 2014), so that nobody without the keys can aim at a node; then a bijective
 * finisher, because the ports of one client are a sequence and a linear map of a sequence is lumpy.
 * Words are numbers in host order: every machine gets the same hash. The Go twin is flowhash.Sum.
 */
ALWAYS_INLINE __u64 flow_hash(__u64 published, __u64 src_hi, __u64 src_lo, __u32 ports)
{
	const __u64 *key = directory.hash_keys + live_half(published) * HASH_KEYS;
	__u64 h = key[HASH_KEYS - 1];

	h += key[0] * (src_hi >> 32);
	h += key[1] * (__u32)src_hi;
	h += key[2] * (src_lo >> 32);
	h += key[3] * (__u32)src_lo;
	h += key[4] * ports;
	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15ULL; /* 2^64 over the golden ratio, odd */
	return h ^ (h >> 32);
}

#define VIP_SLOT_BITS 12
#define SERVICE_SLOT_BITS 14
#define PORT_BITS 16
_Static_assert(1 << VIP_SLOT_BITS == VIP_SLOTS, "");
_Static_assert(1 << SERVICE_SLOT_BITS == SERVICE_SLOTS, "");

/*
 * half + slot. In C, clang would make it an OR of 32 bits, because the two have no bits in common,
 * and 6.1's verifier loses the bounds of that.
 */
ALWAYS_INLINE __u64 index_of(__u64 half, __u64 slot)
{
	asm("%0 += %1" : "+r"(half) : "r"(slot));
	return half;
}

ALWAYS_INLINE __u64 vip_key(__u64 hi, __u64 lo)
{
	return lo ^ hi << 1;
}

/* The VIP that holds an address, or NULL. */
ALWAYS_INLINE struct vip *find_vip(__u64 published, __u64 hi, __u64 lo)
{
	__u32 half = live_half(published) * VIP_SLOTS;
	__u32 slot = first_slot(published, vip_key(hi, lo), VIP_SLOT_BITS);

#pragma unroll
	for (int i = 0; i < PROBES; i++) {
		__u64 index = index_of(half, (slot + i) & (VIP_SLOTS - 1));
		struct vip *vip = &directory.vips[index];

		if (!vip->scope)
			return NULL;
		if (vip->addr_lo == lo && vip->addr_hi == hi)
			return vip;
	}
	return NULL;
}

/* The index of a selector's slot, or -1. */
ALWAYS_INLINE int find_slot(__u64 published, __u64 selector)
{
	__u32 half = live_half(published) * SERVICE_SLOTS;
	__u32 slot = first_slot(published, selector, SERVICE_SLOT_BITS);

#pragma unroll
	for (int i = 0; i < PROBES; i++) {
		__u64 index = index_of(half, (slot + i) & (SERVICE_SLOTS - 1));

		if (!directory.services[index].selector)
			return -1;
		if (directory.services[index].selector == selector)
			return index;
	}
	return -1;
}

/*
 * The slot of the service that a range of ports, "all" or "any" names, or -1: the longest port
 * prefix wins. base is a selector without length and port. A function of its own, which the
 * verifier checks once.
 */
__attribute__((noinline)) int find_wide_service(__u64 published, __u64 base, __u32 port,
						__u32 lengths, __u32 has_any)
{
	int slot;

	for (int length = PORT_BITS - 1; length >= 0; length--) {
		if (!(lengths & (1 << length)))
			continue;
		slot = find_slot(published,
				 base | length << 16 | (port & (0xffff0000 >> length & 0xffff)));
		if (slot >= 0)
			return slot;
	}
	return has_any ? find_slot(published, base >> 32 << 32) : -1;
}

/* The service of a VIP that names a flow, or NULL: one port, a range, all ports, any protocol. */
ALWAYS_INLINE struct service *find_service(__u64 published, struct vip *vip,
					   const struct flow *flow)
{
	__u32 lengths = flow->protocol == PROTO_TCP   ? vip->tcp_lengths
			: flow->protocol == PROTO_UDP ? vip->udp_lengths
						      : 0;
	__u32 has_any = vip->flags & VIP_HAS_ANY;
	__u64 base = (__u64)vip->scope << 32 | (__u32)flow->protocol << 24;
	int slot = -1;

	if (lengths & (1 << PORT_BITS))
		slot = find_slot(published, base | PORT_BITS << 16 | flow->dst_port);
	if (slot < 0 && ((lengths & ((1 << PORT_BITS) - 1)) || has_any))
		slot = find_wide_service(published, base, flow->dst_port, lengths, has_any);
	if (slot < 0 || slot >= 2 * SERVICE_SLOTS)
		return NULL;
	return &directory.services[slot];
}
