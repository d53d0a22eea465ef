/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What leaves this machine must not teach clients its own MAC for a VIP, and nothing leaves from
 * a shared MAC. The sysctls that lbd sets already see to most of it; others may change those.
 */
#pragma once

#include "arp_ndp.h"
#include "count.h"

/* The same numbers for tcx and for a clsact filter in direct-action mode. */
enum tc_verdict { TC_NEXT = -1, TC_DROP = 2 };

#define GUARD_PASS REASON_COUNT

/*
 * Whether a VIP's MAC is told by who has the VIP, as lbd does with one that one node at a time has.
 * All its buckets are alike.
 */
ALWAYS_INLINE int is_ours_to_tell(const struct vip *vip, const __u8 *mac)
{
	enum verb verb;

	if (vip->flags & VIP_SILENT || !same_mac(mac, vip->mac))
		return 0;
	if (!(vip->flags & VIP_BY_BUCKET))
		return 1;
	verb = verb_of(bucket_of(vip->table, 0));
	return (verb == VERB_ACCEPT || verb == VERB_DELEGATE) && !lease_over();
}

ALWAYS_INLINE enum reason guard_arp(struct cursor *cur, __u64 published, __u32 *scope)
{
	struct arp *arp;
	struct vip *vip;

	if (!TAKE(cur, arp) || !is_ipv4_arp(arp))
		return GUARD_PASS;
	vip = find_vip(published, 0, V4_MAPPED | bpf_ntohl(arp->sender));
	if (!vip || is_ours_to_tell(vip, arp->sender_mac))
		return GUARD_PASS;
	*scope = vip->scope;
	if (arp->operation != bpf_htons(ARP_REQUEST) || arp->sender == arp->target)
		return REASON_ARP_SUPPRESSED;
	/* a request from nobody is answered all the same and teaches nothing: RFC 5227 */
	arp->sender = 0;
	return REASON_ARP_MASKED;
}

ALWAYS_INLINE enum reason guard_neighbor(struct cursor *cur, __u64 published, __u32 *scope)
{
	struct packet pkt = {};
	struct neighbor_link *link;
	struct neighbor *nd;
	struct vip *vip;

	if (parse_ipv6(cur, &pkt) || pkt.protocol != PROTO_ICMPV6 || !TAKE(cur, nd))
		return GUARD_PASS;
	if (nd->type == ICMPV6_SOLICITATION)
		vip = find_vip(published, pkt.src_hi, pkt.src_lo);
	else if (nd->type == ICMPV6_ADVERTISEMENT)
		vip = find_vip(published, bpf_be64_to_cpu(nd->target[0]),
			       bpf_be64_to_cpu(nd->target[1]));
	else
		return GUARD_PASS;
	if (!vip ||
	    (vip->flags & VIP_BY_BUCKET && nd->type == ICMPV6_ADVERTISEMENT && TAKE(cur, link) &&
	     link->type == OPTION_TARGET_LINK && is_ours_to_tell(vip, link->mac)))
		return GUARD_PASS;
	*scope = vip->scope;
	return REASON_ND_SUPPRESSED;
}

ALWAYS_INLINE enum reason guard(struct __sk_buff *skb, __u32 *scope)
{
	struct cursor cur = {(void *)(long)skb->data, (void *)(long)skb->data_end};
	__u64 published = read_word();
	struct packet pkt = {};
	struct eth *eth = cur.pos;

	if (parse_ethernet(&cur, &pkt))
		return GUARD_PASS;
	if (eth->src[0] & 1)
		return REASON_SHARED_SOURCE;
	if (pkt.ethertype == ETHERTYPE_ARP)
		return guard_arp(&cur, published, scope);
	if (pkt.ethertype == ETHERTYPE_IPV6)
		return guard_neighbor(&cur, published, scope);
	return GUARD_PASS;
}
