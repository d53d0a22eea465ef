/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* forward: tunnel. A packet of our own around the client's, of either family around either. */
#pragma once

#include "answer.h"

/* What an outer header takes from the packet inside. */
struct inner {
	__u64 hash; /* of its flow */
	__u32 length; /* as its IP header has it: not padding */
	__u8 protocol; /* PROTO_IPIP or PROTO_IPV6 */
	__u8 tos; /* or traffic class; ECN is copied too, RFC 6040 section 4.1 */
};

#define GUE_HEADERS (sizeof(struct udp) + sizeof(struct gue))

/* What a tunnel adds. */
ALWAYS_INLINE __u32 tunnel_headers(const struct backend *backend)
{
	return (backend->is_ipv4 ? sizeof(struct ipv4) : sizeof(struct ipv6)) +
	       (backend->encap == ENCAP_GUE ? GUE_HEADERS : 0);
}

ALWAYS_INLINE void put_ipv4(struct ipv4 *ip, const struct backend *backend,
			    const struct inner *inner, __u8 protocol, __u32 length)
{
	/* the rest of the header is the same for all packets to the backend */
	__u32 sum = backend->header_sum + bpf_htons(inner->tos) + bpf_htons(length);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->version_ihl = 0x45;
	ip->tos = inner->tos;
	ip->length = bpf_htons(length);
	ip->id = 0; /* it means nothing in what is never fragmented: RFC 6864 */
	ip->fragment = bpf_htons(IPV4_DONT);
	ip->ttl = TUNNEL_HOPS;
	ip->protocol = protocol;
	ip->checksum = ~sum;
	ip->src = bpf_htonl(backend->own_lo);
	ip->dst = bpf_htonl(backend->addr_lo);
}

ALWAYS_INLINE void put_ipv6(struct ipv6 *ip, const struct backend *backend,
			    const struct inner *inner, __u8 protocol, __u32 length)
{
	ip->version_class_flow = bpf_htonl(6U << 28 | (__u32)inner->tos << 20);
	ip->payload_length = bpf_htons(length);
	ip->next = protocol;
	ip->hop_limit = TUNNEL_HOPS;
	ip->src[0] = bpf_cpu_to_be64(backend->own_hi);
	ip->src[1] = bpf_cpu_to_be64(backend->own_lo);
	ip->dst[0] = bpf_cpu_to_be64(backend->addr_hi);
	ip->dst[1] = bpf_cpu_to_be64(backend->addr_lo);
}

/*
 * UDP in front of the packet, so that switches and receive queues see ports: the source port tells
 * flows apart. No checksum in either family, RFC 6935: the packet inside has its own.
 */
ALWAYS_INLINE void put_gue(struct udp *udp, const struct inner *inner)
{
	struct gue *gue = (void *)(udp + 1);

	udp->ports.src = bpf_htons(0xc000 | (inner->hash >> 16 & 0x3fff));
	udp->ports.dst = bpf_htons(GUE_PORT);
	udp->length = bpf_htons(GUE_HEADERS + inner->length);
	udp->checksum = 0;
	gue->version_length = 0;
	gue->protocol = inner->protocol;
	gue->flags = 0;
}

/* One kind of tunnel, which is known when this is compiled. */
ALWAYS_INLINE int wrap(struct xdp_md *ctx, const struct backend *backend, __u32 l3,
		       const struct inner *inner, int ipv4, int gue)
{
	__u32 ip_header = ipv4 ? sizeof(struct ipv4) : sizeof(struct ipv6);
	__u32 headers = ip_header + (gue ? GUE_HEADERS : 0);
	__u32 payload = inner->length + (gue ? GUE_HEADERS : 0);
	__u8 protocol = gue ? PROTO_UDP : inner->protocol;
	struct eth *eth;
	__be16 *type;
	void *outer;

	if (bpf_xdp_adjust_head(ctx, -(int)headers))
		return -1;
	eth = (void *)(long)ctx->data;
	if ((void *)eth + headers + MAX_L3 > (void *)(long)ctx->data_end)
		return -1;
	if (l3 != sizeof(*eth))
		move_tags(eth, headers, l3);
	copy_macs(eth, backend->mac);
	/* the short way's is known when this is compiled */
	type = l3 == sizeof(*eth) ? &eth->type : type_before(eth, l3);
	outer = type + 1;
	if (outer + headers > (void *)(long)ctx->data_end)
		return -1;
	*type = bpf_htons(ipv4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
	if (ipv4)
		put_ipv4(outer, backend, inner, protocol, sizeof(struct ipv4) + payload);
	else
		put_ipv6(outer, backend, inner, protocol, payload);
	if (gue)
		put_gue(outer + ip_header, inner);
	return 0;
}

/* Puts the packet at l3 into one to the backend: -1 when there is no room before it. */
ALWAYS_INLINE int encapsulate(struct xdp_md *ctx, const struct backend *backend, __u32 l3,
			      const struct inner *inner)
{
	if (backend->is_ipv4)
		return backend->encap == ENCAP_GUE ? wrap(ctx, backend, l3, inner, 1, 1)
						   : wrap(ctx, backend, l3, inner, 1, 0);
	return backend->encap == ENCAP_GUE ? wrap(ctx, backend, l3, inner, 0, 1)
					   : wrap(ctx, backend, l3, inner, 0, 0);
}
