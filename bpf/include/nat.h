/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * forward: nat. One end of a flow gets another address and port: the destination on its way to a
 * backend, the source on the way back. Sums are changed by what changed (RFC 1624), so a packet
 * that was damaged on its way does not come out right.
 */
#pragma once

#include "csum.h"
#include "icmp.h"
#include "local.h"

#define AF_INET 2
#define AF_INET6 10

enum end { END_SOURCE, END_DESTINATION };

/* The checksum of a TCP or UDP header, or NULL when it is cut off. */
ALWAYS_INLINE __sum16 *transport_sum(struct ports *ports, __u8 protocol, void *end)
{
	__u32 at = protocol == PROTO_TCP ? __builtin_offsetof(struct tcp, checksum)
					 : __builtin_offsetof(struct udp, checksum);
	__sum16 *sum = (void *)ports + at;

	return (void *)(sum + 1) <= end ? sum : NULL;
}

ALWAYS_INLINE __sum16 changed_transport(__sum16 sum, __u64 change, __u8 protocol)
{
	return protocol == PROTO_UDP ? changed_udp(sum, change) : changed_by(sum, change);
}

/* The same with a change that was folded before. */
ALWAYS_INLINE __sum16 changed_transport16(__sum16 sum, __u16 change, __u8 protocol)
{
	__sum16 now;

	if (protocol != PROTO_UDP)
		return changed_by16(sum, change);
	if (!sum)
		return 0;
	now = changed_by16(sum, change);
	return now ? now : 0xffff;
}

/* What becomes of one end of a common packet; what follows of the checksums is known beforehand. */
struct turn {
	__u64 addr_hi;
	__u64 addr_lo;
	__u16 port; /* 0: it stays */
	__u16 header_change; /* of an IPv4 header, a hop included */
	__u16 change; /* of what is behind the IP header */
};

/* A packet that is common: its headers were checked, and sum is transport_sum's. One hop older. */
ALWAYS_INLINE void turn4(struct ipv4 *ip, struct ports *ports, __sum16 *sum, enum end end,
			 const struct turn *turn)
{
	*(end == END_SOURCE ? &ip->src : &ip->dst) = bpf_htonl(turn->addr_lo);
	ip->ttl--;
	ip->checksum = changed_by16(ip->checksum, turn->header_change);
	if (turn->port)
		*(end == END_SOURCE ? &ports->src : &ports->dst) = bpf_htons(turn->port);
	*sum = changed_transport16(*sum, turn->change, ip->protocol);
}

ALWAYS_INLINE void turn6(struct ipv6 *ip, struct ports *ports, __sum16 *sum, enum end end,
			 const struct turn *turn)
{
	__be64 *field = end == END_SOURCE ? ip->src : ip->dst;

	field[0] = bpf_cpu_to_be64(turn->addr_hi);
	field[1] = bpf_cpu_to_be64(turn->addr_lo);
	ip->hop_limit--;
	if (turn->port)
		*(end == END_SOURCE ? &ports->src : &ports->dst) = bpf_htons(turn->port);
	*sum = changed_transport16(*sum, turn->change, ip->next);
}

/* One end of a packet anywhere in a frame, whatever its headers. */
struct edit {
	__u64 addr_hi; /* to become */
	__u64 addr_lo;
	__u64 change; /* in: of what the transport's checksum covers besides; out: of all bytes */
	__u32 l3; /* offsets of the headers */
	__u32 l4; /* 0: none, as in a later fragment */
	__u32 limit; /* offset of the first byte behind the packet */
	__u16 port; /* to become, 0: it stays */
	__u8 protocol;
	__u8 is_ipv4;
	__u8 end; /* enum end */
	__u8 quoted; /* its transport header may end before the checksum */
	__u8 pad[6];
};

/* Where the checksum of a transport header is in it, or 0. */
ALWAYS_INLINE __u32 sum_offset(__u8 protocol)
{
	switch (protocol) {
	case PROTO_TCP:
		return __builtin_offsetof(struct tcp, checksum);
	case PROTO_UDP:
		return __builtin_offsetof(struct udp, checksum);
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		return __builtin_offsetof(struct icmp, checksum);
	}
	return 0;
}

/* Replaces the address; *change becomes what that changes, of the header's checksum, too. */
ALWAYS_INLINE int edit_address(struct xdp_md *ctx, const struct edit *edit, __u64 *address,
			       __u64 *header)
{
	__be64 from6[2], to6[2] = {bpf_cpu_to_be64(edit->addr_hi), bpf_cpu_to_be64(edit->addr_lo)};
	__be32 from4, to4 = bpf_htonl(edit->addr_lo);
	__u32 at = edit->l3, sum_at = edit->l3 + __builtin_offsetof(struct ipv4, checksum);
	__sum16 sum, now;

	*header = 0;
	if (!edit->is_ipv4) {
		at += edit->end == END_SOURCE ? __builtin_offsetof(struct ipv6, src)
					      : __builtin_offsetof(struct ipv6, dst);
		if (bpf_xdp_load_bytes(ctx, at, from6, sizeof(from6)) ||
		    bpf_xdp_store_bytes(ctx, at, to6, sizeof(to6)))
			return -1;
		*address = change64(from6[0], to6[0]) + change64(from6[1], to6[1]);
		return 0;
	}
	at += edit->end == END_SOURCE ? __builtin_offsetof(struct ipv4, src)
				      : __builtin_offsetof(struct ipv4, dst);
	if (bpf_xdp_load_bytes(ctx, at, &from4, sizeof(from4)) ||
	    bpf_xdp_load_bytes(ctx, sum_at, &sum, sizeof(sum)) ||
	    bpf_xdp_store_bytes(ctx, at, &to4, sizeof(to4)))
		return -1;
	*address = change32(from4, to4);
	now = changed_by(sum, *address);
	*header = change16(sum, now);
	return bpf_xdp_store_bytes(ctx, sum_at, &now, sizeof(now)) ? -1 : 0;
}

/* A function of its own, which the verifier checks once: the packets that need it are few. */
__attribute__((noinline)) int edit_packet(struct xdp_md *ctx, struct edit *edit)
{
	__u64 address, header, ports = 0;
	__u32 sum_at, port_at;
	__be16 from, to;
	__sum16 sum = 0, now;
	int has_port, has_sum;

	if (!edit)
		return -1;
	sum_at = edit->l4 + sum_offset(edit->protocol);
	port_at = edit->l4 + (edit->end == END_SOURCE ? 0 : sizeof(from));
	has_port = edit->l4 && edit->port &&
		   (edit->protocol == PROTO_TCP || edit->protocol == PROTO_UDP);
	has_sum = edit->l4 && sum_at != edit->l4 && sum_at + sizeof(sum) <= edit->limit;
	/* all that could be missing is looked for before the first byte is changed */
	if (has_sum && bpf_xdp_load_bytes(ctx, sum_at, &sum, sizeof(sum)))
		return -1;
	if (edit->l4 && sum_at != edit->l4 && !has_sum && !edit->quoted)
		return -1;
	if (has_port && bpf_xdp_load_bytes(ctx, port_at, &from, sizeof(from)))
		return -1;
	if (edit_address(ctx, edit, &address, &header))
		return -1;
	if (has_port) {
		to = bpf_htons(edit->port);
		ports = change16(from, to);
		if (bpf_xdp_store_bytes(ctx, port_at, &to, sizeof(to)))
			return -1;
	}
	if (!has_sum) {
		edit->change = address + header + ports;
		return 0;
	}
	/* ICMP of IPv4 is the one without a pseudo-header */
	now = changed_transport(sum,
				edit->change + ports + (edit->protocol == PROTO_ICMP ? 0 : address),
				edit->protocol);
	edit->change = address + header + ports + change16(sum, now);
	return bpf_xdp_store_bytes(ctx, sum_at, &now, sizeof(now)) ? -1 : 0;
}

/* The offset behind an IP packet, or 0. */
ALWAYS_INLINE __u32 packet_limit(struct xdp_md *ctx, __u32 l3, int is_ipv4)
{
	__be16 length;

	if (bpf_xdp_load_bytes(ctx,
			       l3 + (is_ipv4 ? __builtin_offsetof(struct ipv4, length)
					     : __builtin_offsetof(struct ipv6, payload_length)),
			       &length, sizeof(length)))
		return 0;
	return l3 + bpf_ntohs(length) + (is_ipv4 ? 0 : sizeof(struct ipv6));
}

/*
 * Translates a frame with any headers; an ICMP error in both of its packets. -1, and nothing was
 * changed, when a part that has to be is missing.
 */
__attribute__((noinline)) int translate_any(struct xdp_md *ctx, struct translation *to)
{
	struct edit edit = {};
	struct quote quote = {};
	__u32 limit;

	if (!to)
		return -1;
	limit = packet_limit(ctx, to->l3, to->is_ipv4);
	edit.addr_hi = to->addr_hi;
	edit.addr_lo = to->addr_lo;
	edit.limit = limit;
	edit.is_ipv4 = to->is_ipv4;
	if (to->is_error) {
		quote.offset = to->l4 + sizeof(struct icmp);
		quote.icmp = to->protocol;
		if (!limit || read_quote(ctx, &quote))
			return -1;
		edit.l3 = quote.offset;
		edit.l4 = quote.l4;
		edit.protocol = quote.protocol;
		edit.port = to->port;
		edit.end = to->end == END_SOURCE ? END_DESTINATION : END_SOURCE;
		edit.quoted = 1;
		if (edit_packet(ctx, &edit))
			return -1;
	} else {
		edit.port = to->port;
	}
	edit.l3 = to->l3;
	edit.l4 = to->l4;
	edit.protocol = to->protocol;
	edit.end = to->end;
	edit.quoted = 0;
	return edit_packet(ctx, &edit);
}

/* Where a reply leaves: back by the interface that it came in by, or by another one. */
ALWAYS_INLINE enum reason send_reply(struct xdp_md *ctx, struct eth *eth, const __u8 *mac,
				     const __u8 *own_mac, __u32 ifindex)
{
	copy_mac(eth->dst, mac);
	copy_mac(eth->src, own_mac);
	if (ifindex == ctx->ingress_ifindex)
		return REASON_REPLIED;
	bpf_redirect(ifindex, 0);
	return REASON_REPLY_REDIRECTED;
}
