// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The backend's side of a tunnel, for kernels with or without tunnel devices: what a director put
 * before a client's packet is taken off, and the packet goes up as if it had come by itself.
 *
 *   parse the outer headers -> is it for us, from a director -> what is in it -> a VIP -> cut
 *
 * IPv4 or IPv6 in either, by protocol 4 or 41 or in GUE (UDP). The frame's MACs and VLAN tags stay.
 * Decide first, write later: what is not taken off goes up byte for byte.
 */
#include "include/decap.h"
#include "include/parse.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* All that can be before the outer IP header. */
struct link {
	struct eth eth;
	struct vlan tags[MAX_VLANS];
};

/* Congestion notification, the low two bits of the traffic class: RFC 3168 section 5. */
enum ecn { ECN_INCAPABLE, ECN_CAPABLE_1, ECN_CAPABLE_0, ECN_CONGESTED };

/* The IP header at cur, IPv4 or IPv6 as the protocol number of a tunnel says; 0 when it is none. */
ALWAYS_INLINE int parse_inner(struct cursor *cur, __u8 protocol, struct packet *inner)
{
	if (protocol == PROTO_IPIP) {
		inner->ethertype = ETHERTYPE_IPV4;
		return !parse_ipv4(cur, inner);
	}
	inner->ethertype = ETHERTYPE_IPV6;
	return protocol == PROTO_IPV6 && !parse_ipv6(cur, inner);
}

/*
 * The protocol of what GUE carries, cur behind its header; 0 for control messages and options.
 * In variant 1 an IP header stands in its place: the version of that one tells.
 */
ALWAYS_INLINE __u8 parse_gue(struct cursor *cur)
{
	__u8 *first = cur->pos;
	struct gue *gue;

	if ((void *)(first + 1) > cur->end)
		return 0;
	if (*first >> 4 == 4)
		return PROTO_IPIP;
	if (*first >> 4 == 6)
		return PROTO_IPV6;
	if (!TAKE(cur, gue) || gue->version_length || gue->flags)
		return 0;
	return gue->protocol;
}

/*
 * Congestion that routers marked on the outer header is told to the inner one, which its sender
 * looks at: RFC 6040 section 4.2. -1 when that one cannot say it: then the packet has to be lost.
 */
ALWAYS_INLINE int carry_congestion(void *inner, void *end, __u16 ethertype)
{
	struct ipv4 *ip4 = inner;
	struct ipv6 *ip6 = inner;
	__u32 ecn, sum;

	if (ethertype == ETHERTYPE_IPV6) {
		if ((void *)(ip6 + 1) > end || !(bpf_ntohl(ip6->version_class_flow) >> 20 & 3))
			return -1;
		ip6->version_class_flow |= bpf_htonl(ECN_CONGESTED << 20);
		return 0;
	}
	if ((void *)(ip4 + 1) > end)
		return -1;
	ecn = ip4->tos & 3;
	if (ecn == ECN_INCAPABLE)
		return -1;
	/* the sum is a complement: it falls by what the header grows, RFC 1624 */
	sum = bpf_ntohs(ip4->checksum) + 0xffff - (ECN_CONGESTED - ecn);
	ip4->checksum = bpf_htons((sum & 0xffff) + (sum >> 16));
	ip4->tos |= ECN_CONGESTED;
	return 0;
}

ALWAYS_INLINE int is_vlan(__be16 type)
{
	return type == bpf_htons(ETHERTYPE_VLAN) || type == bpf_htons(ETHERTYPE_QINQ);
}

/* Takes bytes out of the frame, between the link's headers and what follows them. */
ALWAYS_INLINE enum decap_reason cut(struct xdp_md *ctx, int bytes, __u16 ethertype)
{
	struct link *link = (void *)(long)ctx->data, saved;
	int tagged, twice;

	if ((void *)(link + 1) > (void *)(long)ctx->data_end)
		return DECAP_FAILED;
	saved = *link;
	tagged = is_vlan(saved.eth.type);
	twice = tagged && is_vlan(saved.tags[0].type);
	if (twice)
		saved.tags[1].type = bpf_htons(ethertype);
	else if (tagged)
		saved.tags[0].type = bpf_htons(ethertype);
	else
		saved.eth.type = bpf_htons(ethertype);
	if (bpf_xdp_adjust_head(ctx, bytes))
		return DECAP_FAILED;
	link = (void *)(long)ctx->data;
	if ((void *)(link + 1) > (void *)(long)ctx->data_end)
		return DECAP_FAILED;
	link->eth = saved.eth;
	if (tagged)
		link->tags[0] = saved.tags[0];
	if (twice)
		link->tags[1] = saved.tags[1];
	return DECAP_UNWRAPPED;
}

ALWAYS_INLINE enum decap_reason unwrap(struct xdp_md *ctx)
{
	struct cursor cur = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	struct packet outer = {}, inner = {};
	void *header, *content;
	__u8 protocol, congested;
	struct udp *udp = NULL;

	if (parse_ethernet(&cur, &outer))
		return DECAP_NO_TUNNEL;
	header = cur.pos;
	if (outer.ethertype == ETHERTYPE_IPV4) {
		if (parse_ipv4(&cur, &outer))
			return DECAP_NO_TUNNEL;
		congested = (((struct ipv4 *)header)->tos & 3) == ECN_CONGESTED;
	} else if (outer.ethertype == ETHERTYPE_IPV6) {
		if (parse_ipv6(&cur, &outer))
			return DECAP_NO_TUNNEL;
		congested = (bpf_ntohl(((struct ipv6 *)header)->version_class_flow) >> 20 & 3) ==
			    ECN_CONGESTED;
	} else {
		return DECAP_NO_TUNNEL;
	}
	/* a piece of one is none: directors do not let theirs be cut */
	if (outer.first_fragment || outer.later_fragment)
		return DECAP_NO_TUNNEL;
	protocol = outer.protocol;
	if (protocol == PROTO_UDP) {
		if (!TAKE(&cur, udp) || udp->ports.dst != bpf_htons(GUE_PORT))
			return DECAP_NO_TUNNEL;
	} else if (protocol != PROTO_IPIP && protocol != PROTO_IPV6) {
		return DECAP_NO_TUNNEL;
	}
	if (!is_a(ADDRESS_OWN, outer.dst_hi, outer.dst_lo))
		return DECAP_OTHER_HOST;
	if (!is_a(ADDRESS_DIRECTOR, outer.src_hi, outer.src_lo))
		return DECAP_STRANGER;

	if (udp)
		protocol = parse_gue(&cur);
	content = cur.pos;
	if (!parse_inner(&cur, protocol, &inner))
		return DECAP_MALFORMED;
	if (!is_a(ADDRESS_VIP, inner.dst_hi, inner.dst_lo))
		return DECAP_NO_VIP;
	if (congested && carry_congestion(content, cur.end, inner.ethertype))
		return DECAP_CONGESTED;
	return cut(ctx, content - header, inner.ethertype);
}

SEC("xdp.frags")
int lb_decap(struct xdp_md *ctx)
{
	__u64 bytes = bpf_xdp_get_buff_len(ctx);
	enum decap_reason reason = unwrap(ctx);

	count_decap(reason, bytes);
	return reason < DECAP_FIRST_DROP ? XDP_PASS : XDP_DROP;
}
