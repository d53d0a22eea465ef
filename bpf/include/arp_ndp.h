/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ARP and neighbor discovery for VIPs, answered here with the shared MAC by the one node that
 * owns the sender's bucket. The stack never sees these: it would answer with its own MAC. No
 * frame ever leaves *from* the shared MAC, or switches would learn it at one port.
 */
#pragma once

#include "csum.h"
#include "lease.h"
#include "local.h"

/* Who answers a request that all nodes heard. */
ALWAYS_INLINE enum reason answerer(__u64 word, enum reason mine, enum reason others)
{
	enum verb verb = verb_of(word);

	/* a bucket that is delegated is still ours: an answer leaves nothing behind */
	if (verb != VERB_ACCEPT && verb != VERB_DELEGATE)
		return verb == VERB_IGNORE ? others : REASON_NO_OWNER;
	return lease_over() ? REASON_LAPSED : mine;
}

ALWAYS_INLINE int is_ipv4_arp(const struct arp *arp)
{
	return arp->hardware == bpf_htons(1) && arp->protocol == bpf_htons(ETHERTYPE_IPV4) &&
	       arp->hardware_length == 6 && arp->protocol_length == 4;
}

/* The node that had a VIP, or has it now, says so with its own MAC. */
ALWAYS_INLINE int is_claim_of_peer(__u64 published, const struct vip *vip, const __u8 *mac)
{
	return vip->flags & VIP_BY_BUCKET && is_peer(published, mac);
}

ALWAYS_INLINE enum reason handle_arp(struct cursor *cur, struct eth *eth, struct packet *pkt,
				     __u64 published, __u32 ifindex, __u32 *scope)
{
	struct arp *arp;
	struct vip *vip, *claimed;
	enum addressee to;
	__be32 sender;
	__u64 sender_lo;

	if (!TAKE(cur, arp) || !is_ipv4_arp(arp))
		return REASON_UNPARSED;
	sender = arp->sender;
	sender_lo = V4_MAPPED | bpf_ntohl(sender);
	pkt->src_lo = sender_lo;
	pkt->dst_lo = V4_MAPPED | bpf_ntohl(arp->target);

	claimed = find_vip(published, 0, sender_lo);
	if (claimed && claimed->ifindex == ifindex && !(claimed->flags & VIP_SILENT) &&
	    !same_mac(arp->sender_mac, claimed->mac)) {
		*scope = claimed->scope;
		return is_claim_of_peer(published, claimed, arp->sender_mac) ? REASON_ARP_NOT_OWNER
									     : REASON_ARP_CONFLICT;
	}
	if (arp->operation != bpf_htons(ARP_REQUEST))
		return REASON_NOT_VIP;
	vip = find_vip(published, 0, pkt->dst_lo);
	if (!vip)
		return REASON_NOT_VIP;
	if (vip->ifindex != ifindex)
		return REASON_OTHER_INTERFACE;
	*scope = vip->scope;
	if (vip->flags & VIP_SILENT)
		return REASON_NOT_ANNOUNCED;
	to = addressee(eth, vip);
	if (to == TO_OTHER)
		return REASON_OTHER_HOST;
	if (to == TO_ALL || vip->flags & VIP_BY_BUCKET) {
		enum reason reason = answerer(sender_bucket(published, vip, 0, sender_lo),
					      REASON_ARP_ANSWERED, REASON_ARP_NOT_OWNER);
		if (reason != REASON_ARP_ANSWERED)
			return reason;
	} else if (lease_over()) {
		return REASON_LAPSED;
	}
	copy_mac(eth->dst, eth->src);
	copy_mac(eth->src, vip->own_mac);
	arp->operation = bpf_htons(ARP_REPLY);
	copy_mac(arp->target_mac, arp->sender_mac);
	copy_mac(arp->sender_mac, vip->mac);
	arp->sender = arp->target;
	arp->target = sender;
	return REASON_ARP_ANSWERED;
}

struct advertisement {
	struct ipv6 ip;
	struct neighbor nd;
	struct neighbor_link link;
};

#define ADVERTISEMENT_BODY (sizeof(struct neighbor) + sizeof(struct neighbor_link))
#define FLAG_SOLICITED 0x40000000
#define FLAG_OVERRIDE 0x20000000

ALWAYS_INLINE __sum16 advertisement_checksum(struct advertisement *na)
{
	__u32 *word = (void *)na + __builtin_offsetof(struct advertisement, ip.src);
	__u64 sum = bpf_htonl(ADVERTISEMENT_BODY) + bpf_htonl(PROTO_ICMPV6);

	/* both addresses, then the message, as they lie; the fixed header's end is the start */
#pragma unroll
	for (__u32 i = 0; i < (2 * 16 + ADVERTISEMENT_BODY) / 4; i++)
		sum += word[i];
	return fold(sum);
}

/* Turns the solicitation at byte l3 of the frame into its answer. Decided before: only writes. */
static __attribute__((noinline)) int answer_solicitation(struct xdp_md *ctx, __u32 l3,
							 struct vip *vip)
{
	struct advertisement *na;
	struct eth *eth;
	__u8 to[6];
	int grow, to_nobody;

	if (!vip || l3 > sizeof(struct eth) + MAX_VLANS * sizeof(struct vlan))
		return -1;
	grow = (int)(l3 + sizeof(*na)) - (int)bpf_xdp_get_buff_len(ctx);
	if (grow && bpf_xdp_adjust_tail(ctx, grow))
		return -1;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return -1;
	barrier_var(l3); /* or the check above is folded into the one below, which is of na alone */
	na = (void *)eth + l3;
	if ((void *)(na + 1) > (void *)(long)ctx->data_end)
		return -1;
	/* RFC 4861 section 7.2.4: who asks from no address asks for all to hear */
	to_nobody = !na->ip.src[0] && !na->ip.src[1];
	copy_mac(to, eth->src);
	if (to_nobody) {
		na->ip.dst[0] = bpf_cpu_to_be64(0xff02000000000000);
		na->ip.dst[1] = bpf_cpu_to_be64(1);
		*(__u16 *)to = bpf_htons(0x3333);
		*(__u16 *)(to + 2) = 0;
		*(__u16 *)(to + 4) = bpf_htons(1);
	} else {
		na->ip.dst[0] = na->ip.src[0];
		na->ip.dst[1] = na->ip.src[1];
	}
	na->ip.src[0] = na->nd.target[0];
	na->ip.src[1] = na->nd.target[1];
	na->ip.payload_length = bpf_htons(ADVERTISEMENT_BODY);
	na->ip.hop_limit = 255;
	na->nd.type = ICMPV6_ADVERTISEMENT;
	na->nd.code = 0;
	na->nd.flags = bpf_htonl(to_nobody ? FLAG_OVERRIDE : FLAG_SOLICITED | FLAG_OVERRIDE);
	na->link.type = OPTION_TARGET_LINK;
	na->link.length = 1;
	copy_mac(na->link.mac, vip->mac);
	na->nd.checksum = 0;
	na->nd.checksum = advertisement_checksum(na);
	copy_mac(eth->dst, to);
	copy_mac(eth->src, vip->own_mac);
	return 0;
}

/* A peer's answer to all nodes names the shared MAC; anything else claims the VIP. */
ALWAYS_INLINE enum reason judge_advertisement(struct cursor *cur, __u64 published,
					      const struct vip *vip)
{
	struct neighbor_link *link;

	if (TAKE(cur, link) && link->type == OPTION_TARGET_LINK &&
	    (same_mac(link->mac, vip->mac) || is_claim_of_peer(published, vip, link->mac)))
		return REASON_ND_NOT_OWNER;
	return REASON_ND_CONFLICT;
}

/*
 * A solicitation or advertisement whose ICMPv6 header is at cur, or REASON_NOT_VIP for the
 * stack. l3 is where the IPv6 header is; extension headers are refused, as RFC 6980 does with
 * fragments.
 */
ALWAYS_INLINE enum reason handle_neighbor(struct xdp_md *ctx, struct cursor *cur, struct eth *eth,
					  struct packet *pkt, struct ipv6 *ip, __u64 published,
					  __u32 ifindex, __u32 *scope)
{
	struct neighbor *nd;
	struct vip *vip;
	enum addressee to;
	__u8 type;

	if (!TAKE(cur, nd))
		return REASON_NOT_VIP;
	type = nd->type;
	vip = find_vip(published, bpf_be64_to_cpu(nd->target[0]), bpf_be64_to_cpu(nd->target[1]));
	if (!vip)
		return REASON_NOT_VIP;
	if (vip->ifindex != ifindex)
		return REASON_OTHER_INTERFACE;
	*scope = vip->scope;
	if (vip->flags & VIP_SILENT)
		return REASON_NOT_ANNOUNCED;
	if (nd->code || ip->hop_limit != 255 || ip->next != PROTO_ICMPV6)
		return REASON_ND_MALFORMED;
	if (type == ICMPV6_ADVERTISEMENT)
		return judge_advertisement(cur, published, vip);
	to = addressee(eth, vip);
	if (to == TO_OTHER)
		return REASON_OTHER_HOST;
	if (to == TO_ALL || vip->flags & VIP_BY_BUCKET) {
		enum reason reason =
			answerer(sender_bucket(published, vip, pkt->src_hi, pkt->src_lo),
				 REASON_ND_ANSWERED, REASON_ND_NOT_OWNER);
		if (reason != REASON_ND_ANSWERED)
			return reason;
	} else if (lease_over()) {
		return REASON_LAPSED;
	}
	if (answer_solicitation(ctx, (void *)ip - (void *)eth, vip))
		return REASON_ND_MALFORMED;
	return REASON_ND_ANSWERED;
}
