/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which flow an ICMP error is about: the packet it quotes was sent by the VIP. */
#pragma once

#include "flow.h"

ALWAYS_INLINE int is_error(const struct packet *pkt, __u8 type)
{
	if (pkt->protocol == PROTO_ICMP)
		return type == ICMP_UNREACHABLE || type == ICMP_SOURCE_QUENCH ||
		       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER;
	return type >= ICMPV6_UNREACHABLE && type <= ICMPV6_PARAMETER;
}

ALWAYS_INLINE int is_echo(const struct packet *pkt, __u8 type)
{
	return type == (pkt->protocol == PROTO_ICMP ? ICMP_ECHO : ICMPV6_ECHO);
}

/* The flow of a quoted packet, turned round: the client is its destination. */
struct quote {
	__u32 offset; /* of the quoted packet, from the start of the frame */
	__u8 icmp; /* the protocol that quotes: PROTO_ICMP or PROTO_ICMPV6 */
	__u8 protocol;
	__u16 src_port;
	__u16 dst_port;
	__u8 pad[2];
	__u32 l4; /* offset of its transport header */
	__u64 vip_hi; /* who sent the quoted packet */
	__u64 vip_lo;
	__u64 src_hi;
	__u64 src_lo;
};

/*
 * Fills in the quote; -1 when its ports are missing, as in a later fragment. A quoted echo reply
 * has none. A function of its own, like walk_extensions.
 */
__attribute__((noinline)) int read_quote(struct xdp_md *ctx, struct quote *quote)
{
	struct packet inner = {};
	struct chain chain = {};
	struct ports ports;
	union {
		struct ipv4 v4;
		struct ipv6 v6;
	} ip;

	if (!quote)
		return -1;
	chain.offset = quote->offset;
	if (quote->icmp == PROTO_ICMP) {
		if (bpf_xdp_load_bytes(ctx, chain.offset, &ip.v4, sizeof(ip.v4)))
			return -1;
		chain.offset += read_ipv4(&ip.v4, &inner);
		if (chain.offset == quote->offset)
			return -1;
	} else {
		if (bpf_xdp_load_bytes(ctx, chain.offset, &ip.v6, sizeof(ip.v6)) ||
		    !read_ipv6(&ip.v6, &inner))
			return -1;
		chain.offset += sizeof(ip.v6);
		chain.protocol = inner.protocol;
		if (walk_extensions(ctx, &chain))
			return -1;
		inner.protocol = chain.protocol;
		inner.later_fragment = chain.later_fragment;
	}
	if (inner.later_fragment)
		return -1;
	quote->vip_hi = inner.src_hi;
	quote->vip_lo = inner.src_lo;
	quote->src_hi = inner.dst_hi;
	quote->src_lo = inner.dst_lo;
	quote->protocol = inner.protocol;
	quote->l4 = chain.offset;
	if (inner.protocol != PROTO_TCP && inner.protocol != PROTO_UDP)
		return 0;
	if (bpf_xdp_load_bytes(ctx, chain.offset, &ports, sizeof(ports)))
		return -1;
	quote->src_port = bpf_ntohs(ports.dst);
	quote->dst_port = bpf_ntohs(ports.src);
	return 0;
}

/* The flow that the ICMP error before cur is about; 0 when there is none of the VIP's. */
ALWAYS_INLINE int quoted_flow(struct xdp_md *ctx, struct cursor *cur, const struct packet *pkt,
			      struct flow *flow)
{
	struct quote quote = {
		.offset = cur->pos - (void *)(long)ctx->data,
		.icmp = pkt->protocol,
	};

	if (read_quote(ctx, &quote) || quote.vip_hi != pkt->dst_hi || quote.vip_lo != pkt->dst_lo)
		return 0;
	flow->src_hi = quote.src_hi;
	flow->src_lo = quote.src_lo;
	flow->protocol = quote.protocol;
	flow->src_port = quote.src_port;
	flow->dst_port = quote.dst_port;
	return 1;
}
