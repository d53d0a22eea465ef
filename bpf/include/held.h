/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A reply whose next hop the kernel has no MAC for yet: XDP cannot wait for an answer, the stack
 * can. Passed up as it is it would leave with the backend's address, so it is translated here.
 */
#pragma once

#include "reverse.h"

/* Both ends of what is to be replaced, as they lie in the packet. */
struct replaced {
	__be32 from[4];
	__be32 to[4];
};

/* Replaces words at an offset, and corrects the checksum at another. */
ALWAYS_INLINE void replace_address(struct __sk_buff *skb, struct replaced *words, __u32 at,
				   __u32 length, __u32 sum_at, __u32 flags)
{
	bpf_skb_load_bytes(skb, at, words->from, length);
	for (__u32 i = 0; i < length / sizeof(__be32); i++)
		bpf_l4_csum_replace(skb, sum_at, words->from[i], words->to[i],
				    flags | BPF_F_PSEUDO_HDR | sizeof(__be32));
	bpf_skb_store_bytes(skb, at, words->to, length, 0);
}

/* Where the headers of a common reply are, and what it becomes. */
struct held {
	struct reverse *from;
	__u32 l4;
	__u32 ifindex; /* to leave by */
	__u16 port; /* of the backend */
	__u8 protocol;
	__u8 is_ipv4;
};

/* Whether the next hop of a reply is known or can be asked for. */
ALWAYS_INLINE int can_leave(long result)
{
	return result == BPF_FIB_LKUP_RET_SUCCESS || result == BPF_FIB_LKUP_RET_NO_NEIGH;
}

ALWAYS_INLINE int find_held(struct __sk_buff *skb, struct held *held)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct bpf_fib_lookup fib = {.ifindex = skb->ifindex};
	struct eth *eth = data;
	struct ipv4 *v4 = (void *)(eth + 1);
	struct ipv6 *v6 = (void *)(eth + 1);
	struct ports *ports;
	__u64 hi, lo;

	if ((void *)(v4 + 1) > end)
		return -1;
	held->is_ipv4 = eth->type == bpf_htons(ETHERTYPE_IPV4);
	if (held->is_ipv4) {
		if (v4->version_ihl != 0x45 || v4->ttl <= 1 ||
		    v4->fragment & bpf_htons(IPV4_MORE | IPV4_OFFSET))
			return -1;
		held->protocol = v4->protocol;
		hi = 0;
		lo = V4_MAPPED | bpf_ntohl(v4->src);
		ports = (void *)(v4 + 1);
	} else {
		if (eth->type != bpf_htons(ETHERTYPE_IPV6) || (void *)(v6 + 1) > end ||
		    v6->hop_limit <= 1)
			return -1;
		held->protocol = v6->next;
		hi = bpf_be64_to_cpu(v6->src[0]);
		lo = bpf_be64_to_cpu(v6->src[1]);
		ports = (void *)(v6 + 1);
	}
	if ((held->protocol != PROTO_TCP && held->protocol != PROTO_UDP) ||
	    !transport_sum(ports, held->protocol, end))
		return -1;
	held->l4 = sizeof(*eth) + (held->is_ipv4 ? sizeof(*v4) : sizeof(*v6));
	held->port = bpf_ntohs(ports->src);
	held->from = find_reverse(hi, lo, held->protocol, held->port);
	if (!held->from || !same_mac(eth->dst, held->from->own_mac) ||
	    held->from->ifindex != skb->ifindex)
		return -1;
	if (held->is_ipv4)
		fill_route4(v4, held->from->vip_lo, &fib);
	else
		fill_route6(v6, held->from->vip_hi, held->from->vip_lo, &fib);
	fib.tot_len = 0; /* of several segments in one: the device cuts them */
	if (!can_leave(bpf_fib_lookup(skb, &fib, sizeof(fib), 0)))
		return -1;
	held->ifindex = fib.ifindex;
	return 0;
}

/* TC_NEXT, or the verdict of a reply that leaves as soon as its next hop is known. */
ALWAYS_INLINE int send_held(struct __sk_buff *skb)
{
	struct replaced words = {};
	struct held held = {};
	__u32 sum_at, flags;
	__be16 port;
	__u16 ttl, older;

	if (find_held(skb, &held))
		return TC_NEXT;
	sum_at = held.l4 + sum_offset(held.protocol);
	flags = held.protocol == PROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	if (held.is_ipv4) {
		words.to[0] = bpf_htonl(held.from->vip_lo);
		replace_address(skb, &words,
				sizeof(struct eth) + __builtin_offsetof(struct ipv4, src),
				sizeof(__be32), sum_at, flags);
		bpf_l3_csum_replace(skb,
				    sizeof(struct eth) + __builtin_offsetof(struct ipv4, checksum),
				    words.from[0], words.to[0], sizeof(__be32));
		bpf_skb_load_bytes(skb, sizeof(struct eth) + __builtin_offsetof(struct ipv4, ttl),
				   &ttl, sizeof(ttl));
		older = ttl - 1; /* the first of two bytes, as they lie */
		bpf_l3_csum_replace(skb,
				    sizeof(struct eth) + __builtin_offsetof(struct ipv4, checksum),
				    ttl, older, sizeof(ttl));
		bpf_skb_store_bytes(skb, sizeof(struct eth) + __builtin_offsetof(struct ipv4, ttl),
				    &older, sizeof(older), 0);
	} else {
		__u8 hops;

		words.to[0] = bpf_htonl(held.from->vip_hi >> 32);
		words.to[1] = bpf_htonl(held.from->vip_hi);
		words.to[2] = bpf_htonl(held.from->vip_lo >> 32);
		words.to[3] = bpf_htonl(held.from->vip_lo);
		replace_address(skb, &words,
				sizeof(struct eth) + __builtin_offsetof(struct ipv6, src),
				sizeof(words.to), sum_at, flags);
		bpf_skb_load_bytes(skb,
				   sizeof(struct eth) + __builtin_offsetof(struct ipv6, hop_limit),
				   &hops, sizeof(hops));
		hops--;
		bpf_skb_store_bytes(skb,
				    sizeof(struct eth) + __builtin_offsetof(struct ipv6, hop_limit),
				    &hops, sizeof(hops), 0);
	}
	if (held.from->port) {
		port = bpf_htons(held.from->port);
		bpf_l4_csum_replace(skb, sum_at, bpf_htons(held.port), port, flags | sizeof(port));
		bpf_skb_store_bytes(skb, held.l4, &port, sizeof(port), 0);
	}
	return bpf_redirect_neigh(held.ifindex, NULL, 0, 0);
}

/*
 * A reply of full NAT that XDP has translated, and only lacks the MAC of its next hop: nothing else
 * comes in from a VIP, to our own MAC. TC_NEXT for anything else.
 */
ALWAYS_INLINE int send_from_vip(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct bpf_fib_lookup fib = {.ifindex = skb->ifindex};
	struct eth *eth = data;
	struct ipv4 *v4 = (void *)(eth + 1);
	struct ipv6 *v6 = (void *)(eth + 1);
	__u64 published = read_word();
	struct vip *vip;

	if ((void *)(v4 + 1) > end)
		return TC_NEXT;
	if (eth->type == bpf_htons(ETHERTYPE_IPV4)) {
		vip = find_vip(published, 0, V4_MAPPED | bpf_ntohl(v4->src));
		if (vip)
			fill_route4(v4, vip->addr_lo, &fib);
	} else if (eth->type == bpf_htons(ETHERTYPE_IPV6) && (void *)(v6 + 1) <= end) {
		vip = find_vip(published, bpf_be64_to_cpu(v6->src[0]), bpf_be64_to_cpu(v6->src[1]));
		if (vip)
			fill_route6(v6, vip->addr_hi, vip->addr_lo, &fib);
	} else {
		return TC_NEXT;
	}
	if (!vip || vip->ifindex != skb->ifindex || !same_mac(eth->dst, vip->own_mac))
		return TC_NEXT;
	fib.tot_len = 0;
	if (!can_leave(bpf_fib_lookup(skb, &fib, sizeof(fib), 0)))
		return TC_DROP;
	return bpf_redirect_neigh(fib.ifindex, NULL, 0, 0);
}
