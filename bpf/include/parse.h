/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From bytes to a packet: a cursor walks the headers, each step checks, advances and says what
 * comes next. Nothing is written.
 */
#pragma once

#include "wire.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* The address family's place in a 128-bit address: ::ffff:0:0/96, RFC 4291 section 2.5.5.2. */
#define V4_MAPPED 0xffff00000000ULL

#define MAX_VLANS 2
#define MAX_EXTENSIONS 8
/* As far as a transport header can be from the start of a frame. */
#define MAX_HEADERS 1024

struct cursor {
	void *pos;
	void *end;
};

/* A packet in host byte order, as far as it was parsed. */
struct packet {
	__u64 src_hi;
	__u64 src_lo;
	__u64 dst_hi;
	__u64 dst_lo;
	__u32 fragment_id;
	__u16 ethertype;
	__u16 vlan; /* outermost tag, 0: none */
	__u8 protocol; /* after IPv6 extension headers */
	__u8 first_fragment;
	__u8 later_fragment;
};

/* The next sizeof(*to) bytes as *to, or a jump to where a short packet goes. */
#define TAKE(cur, to)                                                                              \
	({                                                                                         \
		(to) = (cur)->pos;                                                                 \
		(void *)((to) + 1) <= (cur)->end ? ((cur)->pos = (to) + 1, 1) : 0;                 \
	})

ALWAYS_INLINE int parse_ethernet(struct cursor *cur, struct packet *pkt)
{
	struct eth *eth;
	struct vlan *vlan;

	if (!TAKE(cur, eth))
		return -1;
	pkt->ethertype = bpf_ntohs(eth->type);
#pragma unroll
	for (int i = 0; i < MAX_VLANS; i++) {
		if (pkt->ethertype != ETHERTYPE_VLAN && pkt->ethertype != ETHERTYPE_QINQ)
			break;
		if (!TAKE(cur, vlan))
			return -1;
		if (!i)
			pkt->vlan = bpf_ntohs(vlan->tci) & 0xfff;
		pkt->ethertype = bpf_ntohs(vlan->type);
	}
	return 0;
}

/* The fields of an IPv4 header; its length in bytes, or 0 when it is not one. */
ALWAYS_INLINE __u32 read_ipv4(const struct ipv4 *ip, struct packet *pkt)
{
	__u32 length = (ip->version_ihl & 0xf) * 4;
	__u16 fragment = bpf_ntohs(ip->fragment);

	if (ip->version_ihl >> 4 != 4 || length < sizeof(*ip))
		return 0;
	pkt->src_hi = 0;
	pkt->src_lo = V4_MAPPED | bpf_ntohl(ip->src);
	pkt->dst_hi = 0;
	pkt->dst_lo = V4_MAPPED | bpf_ntohl(ip->dst);
	pkt->protocol = ip->protocol;
	if (UNLIKELY(fragment & (IPV4_MORE | IPV4_OFFSET))) {
		pkt->fragment_id = bpf_ntohs(ip->id);
		pkt->later_fragment = !!(fragment & IPV4_OFFSET);
		pkt->first_fragment = !pkt->later_fragment;
	}
	return length;
}

ALWAYS_INLINE int parse_ipv4(struct cursor *cur, struct packet *pkt)
{
	struct ipv4 *ip;
	__u32 length;

	if (!TAKE(cur, ip))
		return -1;
	length = read_ipv4(ip, pkt);
	if (!length)
		return -1;
	cur->pos = (void *)ip + length;
	return cur->pos > cur->end ? -1 : 0;
}

/* The fields of IPv6's fixed header; 0 when it is not one. */
ALWAYS_INLINE int read_ipv6(const struct ipv6 *ip, struct packet *pkt)
{
	if (bpf_ntohl(ip->version_class_flow) >> 28 != 6)
		return 0;
	pkt->src_hi = bpf_be64_to_cpu(ip->src[0]);
	pkt->src_lo = bpf_be64_to_cpu(ip->src[1]);
	pkt->dst_hi = bpf_be64_to_cpu(ip->dst[0]);
	pkt->dst_lo = bpf_be64_to_cpu(ip->dst[1]);
	pkt->protocol = ip->next;
	return 1;
}

/* The fixed header only: whether a VIP is meant is known before the extensions are walked. */
ALWAYS_INLINE int parse_ipv6(struct cursor *cur, struct packet *pkt)
{
	struct ipv6 *ip;

	return TAKE(cur, ip) && read_ipv6(ip, pkt) ? 0 : -1;
}

ALWAYS_INLINE int is_extension(__u8 protocol)
{
	return protocol == PROTO_HOP_BY_HOP || protocol == PROTO_ROUTING ||
	       protocol == PROTO_FRAGMENT || protocol == PROTO_AH || protocol == PROTO_DESTINATION;
}

/* Where a chain of IPv6 extension headers has led. */
struct chain {
	__u32 offset; /* of the next header, from the start of the frame */
	__u32 fragment_id;
	__u8 protocol; /* of the next header */
	__u8 first_fragment;
	__u8 later_fragment;
	__u8 pad;
};

/*
 * Walks IPv6 extension headers (RFC 8200 section 4) up to the transport header, or to the payload
 * of a later fragment. -1 for a chain that is cut short or longer than MAX_EXTENSIONS. A function
 * of its own, which the verifier checks once: the packets that need it are few.
 */
__attribute__((noinline)) int walk_extensions(struct xdp_md *ctx, struct chain *chain)
{
	struct ipv6_fragment header; /* all extensions start alike */
	__u16 offset;

	if (!chain)
		return -1;
	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		if (!is_extension(chain->protocol))
			return 0;
		if (bpf_xdp_load_bytes(ctx, chain->offset, &header, sizeof(header)))
			return -1;
		if (chain->protocol == PROTO_FRAGMENT) {
			offset = bpf_ntohs(header.offset);
			/* RFC 6946: an atomic fragment is a whole packet */
			if (offset & (IPV6_MORE | IPV6_OFFSET)) {
				chain->fragment_id = bpf_ntohl(header.id);
				chain->later_fragment = !!(offset & IPV6_OFFSET);
				chain->first_fragment = !chain->later_fragment;
			}
			chain->offset += sizeof(header);
		} else if (chain->protocol == PROTO_AH) {
			chain->offset += (header.length + 2) * 4;
		} else {
			chain->offset += (header.length + 1) * 8;
		}
		chain->protocol = header.next;
		if (chain->later_fragment)
			return 0;
	}
	return -1;
}

/* The extensions of the packet at cur, which is left at the transport header. */
ALWAYS_INLINE int parse_extensions(struct xdp_md *ctx, struct cursor *cur, struct packet *pkt)
{
	void *data = (void *)(long)ctx->data;
	struct chain chain = {.offset = cur->pos - data, .protocol = pkt->protocol};

	if (walk_extensions(ctx, &chain) || chain.offset > MAX_HEADERS)
		return -1;
	cur->pos = data + chain.offset;
	pkt->protocol = chain.protocol;
	pkt->fragment_id = chain.fragment_id;
	pkt->first_fragment = chain.first_fragment;
	pkt->later_fragment = chain.later_fragment;
	return 0;
}
