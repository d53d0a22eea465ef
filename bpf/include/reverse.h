/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The way back of forward: nat. A backend sends its replies to us, its gateway; they leave from the
 * VIP. Which VIP a backend's port serves is known beforehand, so no flow is remembered.
 */
#pragma once

#include "attempts.h"
#include "count.h"
#include "fragment.h"
#include "nat.h"
#include "routes.h"

/* enum reverse_kinds; 0 where no backend sends replies by us, and nothing more is looked at. */
ALWAYS_INLINE __u32 reverse_kinds(void)
{
	return *(volatile __u32 *)&directory.reverse;
}

/* What a backend's port serves, or NULL. */
ALWAYS_INLINE struct reverse *find_reverse(__u64 addr_hi, __u64 addr_lo, __u8 protocol, __u16 port)
{
	struct reverse_key key = {
		.addr_hi = addr_hi,
		.addr_lo = addr_lo,
		.port = port,
		.protocol = protocol,
	};
	struct reverse *found = bpf_map_lookup_elem(&reverse, &key);
	__u32 kinds = reverse_kinds();

	if (found || !(kinds & REVERSE_ALL))
		return found;
	key.port = 0;
	return bpf_map_lookup_elem(&reverse, &key);
}

/* The hot part's slot of a backend's port if it is there, or NULL. */
ALWAYS_INLINE struct reverse *hot_reverse(__u64 addr_hi, __u64 addr_lo, __u64 port)
{
	__u64 mixed = (addr_hi ^ addr_lo ^ port << 40) * 0x9e3779b97f4a7c15;
	__u32 slot = mixed >> (64 - REPLY_BITS);
	struct reply *reply = bpf_map_lookup_elem(&replies, &slot);

	return reply && reply->port == port && reply->addr_lo == addr_lo &&
			       reply->addr_hi == addr_hi
		       ? &reply->reverse
		       : NULL;
}

/* What find_reverse finds in most cases, or NULL. */
ALWAYS_INLINE struct reverse *common_reverse(__u64 addr_hi, __u64 addr_lo, __u8 protocol,
					     __u16 port)
{
	__u64 any = (__u64)protocol << 16;
	struct reverse *found = hot_reverse(addr_hi, addr_lo, any | port);

	if (found || !(reverse_kinds() & REVERSE_ALL))
		return found;
	return hot_reverse(addr_hi, addr_lo, any);
}

/* A frame that we are to route: sent to us, by the interface that the backend is at. */
ALWAYS_INLINE int is_routed(const struct xdp_md *ctx, const struct eth *eth,
			    const struct reverse *from)
{
	return same_mac(eth->dst, from->own_mac) && from->ifindex == ctx->ingress_ifindex;
}

/* What the next hop of a reply to a client follows from. */
ALWAYS_INLINE void fill_route4(const struct ipv4 *ip, __u64 vip_lo, struct bpf_fib_lookup *route)
{
	route->family = AF_INET;
	route->tos = ip->tos;
	route->l4_protocol = ip->protocol;
	route->tot_len = bpf_ntohs(ip->length);
	route->ipv4_src = bpf_htonl(vip_lo);
	route->ipv4_dst = ip->dst;
}

ALWAYS_INLINE void fill_route6(const struct ipv6 *ip, __u64 vip_hi, __u64 vip_lo,
			       struct bpf_fib_lookup *route)
{
	__be64 *src = (void *)route->ipv6_src, *dst = (void *)route->ipv6_dst;

	route->family = AF_INET6;
	route->l4_protocol = ip->next;
	route->tot_len = bpf_ntohs(ip->payload_length) + sizeof(*ip);
	src[0] = bpf_cpu_to_be64(vip_hi);
	src[1] = bpf_cpu_to_be64(vip_lo);
	dst[0] = ip->dst[0];
	dst[1] = ip->dst[1];
}

/* The next hop, as the kernel's tables have it; not 0 when there is none that XDP can use. */
ALWAYS_INLINE int find_route4(struct xdp_md *ctx, const struct ipv4 *ip, __u64 vip_lo,
			      struct bpf_fib_lookup *route)
{
	fill_route4(ip, vip_lo, route);
	route->ifindex = ctx->ingress_ifindex;
	return bpf_fib_lookup(ctx, route, sizeof(*route), 0);
}

ALWAYS_INLINE int find_route6(struct xdp_md *ctx, const struct ipv6 *ip, __u64 vip_hi, __u64 vip_lo,
			      struct bpf_fib_lookup *route)
{
	fill_route6(ip, vip_hi, vip_lo, route);
	route->ifindex = ctx->ingress_ifindex;
	return bpf_fib_lookup(ctx, route, sizeof(*route), 0);
}

ALWAYS_INLINE void take_hop(struct hop *hop, const struct bpf_fib_lookup *route)
{
	copy_mac(hop->mac, route->dmac);
	copy_mac(hop->own_mac, route->smac);
	hop->ifindex = route->ifindex;
}

/* The way of any reply. */
struct route {
	__u64 vip_hi;
	__u64 vip_lo;
	struct hop hop;
};

/* Finds the next hop; -1 where its hops or its way end. A function of its own for its stack. */
__attribute__((noinline)) int find_route(struct xdp_md *ctx, struct route *route)
{
	void *end = (void *)(long)ctx->data_end;
	struct eth *eth = (void *)(long)ctx->data;
	struct ipv4 *v4 = (void *)(eth + 1);
	struct ipv6 *v6 = (void *)(eth + 1);
	struct bpf_fib_lookup fib = {};

	if (!route || (void *)(v4 + 1) > end)
		return -1;
	if (eth->type == bpf_htons(ETHERTYPE_IPV4)) {
		if (v4->ttl <= 1 || find_route4(ctx, v4, route->vip_lo, &fib))
			return -1;
	} else if ((void *)(v6 + 1) > end || v6->hop_limit <= 1 ||
		   find_route6(ctx, v6, route->vip_hi, route->vip_lo, &fib)) {
		return -1;
	}
	take_hop(&route->hop, &fib);
	return 0;
}

/* The hop, found beforehand or asked for here; NULL when there is none that XDP can use. */
ALWAYS_INLINE const struct hop *next_hop(struct xdp_md *ctx, const struct hop *known,
					 const struct reverse *from, struct route *asked)
{
	if (known)
		return known;
	asked->vip_hi = from->vip_hi;
	asked->vip_lo = from->vip_lo;
	return find_route(ctx, asked) ? NULL : &asked->hop;
}

ALWAYS_INLINE struct turn turn_of(const struct reverse *from)
{
	return (struct turn){
		.addr_hi = from->vip_hi,
		.addr_lo = from->vip_lo,
		.port = from->port,
		.header_change = from->header_change,
		.change = from->change,
	};
}

/* Turns a reply round whose hop is known, and sends it off. */
ALWAYS_INLINE enum reason reply4(struct xdp_md *ctx, struct eth *eth, struct ipv4 *ip,
				 const struct reverse *from, const struct hop *hop)
{
	struct ports *ports = (void *)(ip + 1);
	__sum16 *sum = transport_sum(ports, ip->protocol, (void *)(long)ctx->data_end);
	struct turn turn = turn_of(from);

	if (!sum || ip->ttl <= 1 || !hop)
		return REASON_REPLY_HELD;
	turn4(ip, ports, sum, END_SOURCE, &turn);
	return send_reply(ctx, eth, hop->mac, hop->own_mac, hop->ifindex);
}

ALWAYS_INLINE enum reason reply6(struct xdp_md *ctx, struct eth *eth, struct ipv6 *ip,
				 const struct reverse *from, const struct hop *hop)
{
	struct ports *ports = (void *)(ip + 1);
	__sum16 *sum = transport_sum(ports, ip->next, (void *)(long)ctx->data_end);
	struct turn turn = turn_of(from);

	if (!sum || ip->hop_limit <= 1 || !hop)
		return REASON_REPLY_HELD;
	turn6(ip, ports, sum, END_SOURCE, &turn);
	return send_reply(ctx, eth, hop->mac, hop->own_mac, hop->ifindex);
}

/* Whether nothing is to be noted of a reply. */
ALWAYS_INLINE int tells_nothing(const struct reverse *from, __u8 protocol, const struct tcp *tcp,
				void *end)
{
	return !from->watched || protocol != PROTO_TCP ||
	       ((void *)(tcp + 1) <= end && !(tcp->flags & (TCP_SYN | TCP_RST)));
}

/*
 * The rest of the short way for what came for no VIP: a reply of which backend and next hop are
 * known without a call, or UNCOMMON.
 */
ALWAYS_INLINE int reply_way(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct eth *eth = (void *)(long)ctx->data;
	const struct reverse *from;
	const struct hop *hop;
	enum reason reason;

	if ((void *)(eth + 1) + sizeof(struct ipv4) + sizeof(struct ports) > end)
		return UNCOMMON;
	if (eth->type == bpf_htons(ETHERTYPE_IPV4)) {
		struct ipv4 *ip = (void *)(eth + 1);
		struct ports *ports = (void *)(ip + 1);

		from = common_reverse(0, V4_MAPPED | bpf_ntohl(ip->src), ip->protocol,
				      bpf_ntohs(ports->src));
		if (!from || !is_routed(ctx, eth, from) ||
		    !tells_nothing(from, ip->protocol, (void *)ports, end))
			return UNCOMMON;
		hop = known_hop4(ctx->ingress_ifindex, ip->dst, bpf_ntohs(ip->length));
		if (!hop)
			return UNCOMMON;
		reason = reply4(ctx, eth, ip, from, hop);
	} else {
		struct ipv6 *ip = (void *)(eth + 1);
		struct ports *ports = (void *)(ip + 1);

		if ((void *)(ports + 1) > end)
			return UNCOMMON;
		from = common_reverse(bpf_be64_to_cpu(ip->src[0]), bpf_be64_to_cpu(ip->src[1]),
				      ip->next, bpf_ntohs(ports->src));
		if (!from || !is_routed(ctx, eth, from) ||
		    !tells_nothing(from, ip->next, (void *)ports, end))
			return UNCOMMON;
		hop = known_hop6(ctx->ingress_ifindex, ip->dst,
				 bpf_ntohs(ip->payload_length) + sizeof(*ip));
		if (!hop)
			return UNCOMMON;
		reason = reply6(ctx, eth, ip, from, hop);
	}
	return from->scope << 8 | reason;
}

/* What reply_way did not know. A function of its own, as moving_way is. */
__attribute__((noinline)) int reverse_way(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct eth *eth = (void *)(long)ctx->data;
	struct ipv4 *v4 = (void *)(eth + 1);
	struct ipv6 *v6 = (void *)(eth + 1);
	const struct reverse *from;
	struct route route = {};
	const struct hop *hop;
	enum reason reason;

	if ((void *)(v4 + 1) + sizeof(struct ports) > end)
		return REASON_NOT_VIP;
	if (eth->type == bpf_htons(ETHERTYPE_IPV4)) {
		from = find_reverse(0, V4_MAPPED | bpf_ntohl(v4->src), v4->protocol,
				    bpf_ntohs(((struct ports *)(v4 + 1))->src));
		if (!from || !is_routed(ctx, eth, from))
			return REASON_NOT_VIP;
		if (UNLIKELY(from->watched))
			note_common(from->watched, v4->protocol, (void *)(v4 + 1), end);
		hop = next_hop(ctx,
			       known_hop4(ctx->ingress_ifindex, v4->dst, bpf_ntohs(v4->length)),
			       from, &route);
		reason = reply4(ctx, eth, v4, from, hop);
	} else {
		if ((void *)(v6 + 1) + sizeof(struct ports) > end)
			return REASON_NOT_VIP;
		from = find_reverse(bpf_be64_to_cpu(v6->src[0]), bpf_be64_to_cpu(v6->src[1]),
				    v6->next, bpf_ntohs(((struct ports *)(v6 + 1))->src));
		if (!from || !is_routed(ctx, eth, from))
			return REASON_NOT_VIP;
		if (UNLIKELY(from->watched))
			note_common(from->watched, v6->next, (void *)(v6 + 1), end);
		hop = next_hop(ctx,
			       known_hop6(ctx->ingress_ifindex, v6->dst,
					  bpf_ntohs(v6->payload_length) + sizeof(*v6)),
			       from, &route);
		reason = reply6(ctx, eth, v6, from, hop);
	}
	return from->scope << 8 | reason;
}

/* What is behind a frame that no VIP is named by: the backend's end of its flow. */
struct origin {
	__u64 addr_hi;
	__u64 addr_lo;
	__u16 port;
	__u8 protocol;
};

/* The first fragment says which of a backend's ports the later ones are of. */
ALWAYS_INLINE int follow_reply(const struct packet *pkt, struct origin *origin)
{
	struct fragment_key key;
	struct fragment *first;

	fragment_key(pkt, &key);
	first = bpf_map_lookup_elem(&fragments, &key);
	if (!first || first->outcome != FRAGMENT_REPLIED ||
	    bpf_ktime_get_coarse_ns() - first->seen_ns > FRAGMENT_NS)
		return -1;
	origin->port = first->target;
	origin->protocol = first->protocol;
	return 0;
}

ALWAYS_INLINE void remember_reply(const struct packet *pkt, __u16 scope, __u16 port)
{
	struct fragment_key key;
	struct fragment value = {
		.seen_ns = bpf_ktime_get_coarse_ns(),
		.scope = scope,
		.outcome = FRAGMENT_REPLIED,
		.protocol = pkt->protocol,
		.target = port,
	};

	fragment_key(pkt, &key);
	bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
}

/* Whose reply the packet at cur is; -1 when it cannot be one. */
ALWAYS_INLINE int find_origin(struct xdp_md *ctx, struct cursor *cur, const struct packet *pkt,
			      struct origin *origin, __u8 *is_quote)
{
	struct flow quoted;
	struct ports *ports;
	struct icmp *icmp;

	origin->addr_hi = pkt->src_hi;
	origin->addr_lo = pkt->src_lo;
	origin->protocol = pkt->protocol;
	if (pkt->later_fragment)
		return follow_reply(pkt, origin);
	if (pkt->protocol == PROTO_TCP || pkt->protocol == PROTO_UDP) {
		if (!TAKE(cur, ports))
			return -1;
		origin->port = bpf_ntohs(ports->src);
		return 0;
	}
	if (pkt->protocol != (pkt->ethertype == ETHERTYPE_IPV4 ? PROTO_ICMP : PROTO_ICMPV6) ||
	    !TAKE(cur, icmp) || !is_error(pkt, icmp->type) || !quoted_flow(ctx, cur, pkt, &quoted))
		return -1;
	/* the client sent what is quoted, to the backend */
	origin->addr_hi = quoted.src_hi;
	origin->addr_lo = quoted.src_lo;
	origin->port = quoted.src_port;
	origin->protocol = quoted.protocol;
	*is_quote = 1;
	return 0;
}

/* The reply, translated, one hop older and on its way. */
ALWAYS_INLINE enum reason finish_reply(struct xdp_md *ctx, const struct route *route)
{
	void *end = (void *)(long)ctx->data_end;
	struct eth *eth = (void *)(long)ctx->data;
	struct ipv4 *v4 = (void *)(eth + 1);
	struct ipv6 *v6 = (void *)(eth + 1);

	if ((void *)(v4 + 1) > end)
		return REASON_REPLY_HELD;
	if (eth->type == bpf_htons(ETHERTYPE_IPV4))
		decrement_ttl(v4);
	else if ((void *)(v6 + 1) <= end)
		v6->hop_limit--;
	return send_reply(ctx, eth, route->hop.mac, route->hop.own_mac, route->hop.ifindex);
}

/* Finds what a frame with any headers becomes: its scope, or 0 when it is no reply to translate. */
__attribute__((noinline)) int find_reply(struct xdp_md *ctx, struct translation *to)
{
	struct cursor cur = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	struct origin origin = {};
	struct packet pkt = {};
	struct reverse *from;
	struct eth *eth = cur.pos;
	__u64 l4;

	if (!to || parse_ethernet(&cur, &pkt) || pkt.vlan)
		return 0;
	if (pkt.ethertype == ETHERTYPE_IPV4) {
		if (parse_ipv4(&cur, &pkt))
			return 0;
	} else if (pkt.ethertype != ETHERTYPE_IPV6 || parse_ipv6(&cur, &pkt) ||
		   (is_extension(pkt.protocol) && parse_extensions(ctx, &cur, &pkt))) {
		return 0;
	}
	l4 = cur.pos - (void *)(long)ctx->data;
	barrier_var(l4); /* or clang would keep 32 bits of both pointers, and they would be none */
	if (find_origin(ctx, &cur, &pkt, &origin, &to->is_error))
		return 0;
	from = find_reverse(origin.addr_hi, origin.addr_lo, origin.protocol, origin.port);
	if (!from || !is_routed(ctx, eth, from))
		return 0;
	to->addr_hi = from->vip_hi;
	to->addr_lo = from->vip_lo;
	to->l3 = sizeof(*eth);
	to->l4 = pkt.later_fragment ? 0 : l4;
	to->port = from->port;
	to->protocol = pkt.protocol;
	to->is_ipv4 = pkt.ethertype == ETHERTYPE_IPV4;
	to->end = END_SOURCE;
	to->watched = from->watched;
	if (pkt.first_fragment)
		remember_reply(&pkt, from->scope, origin.port);
	return from->scope;
}

/*
 * What came for no VIP, whatever its headers: options, fragments, ICMP errors of backends and of
 * routers before them. A function of its own, as long_way is.
 */
__attribute__((noinline)) int reverse_any(struct xdp_md *ctx)
{
	struct translation to = {};
	struct route route = {};
	__u32 scope = find_reply(ctx, &to);

	if (!scope)
		return REASON_NOT_VIP;
	if (to.watched)
		note_any(ctx, &to);
	route.vip_hi = to.addr_hi;
	route.vip_lo = to.addr_lo;
	if (find_route(ctx, &route) || translate_any(ctx, &to))
		return scope << 8 | REASON_REPLY_HELD;
	return scope << 8 | finish_reply(ctx, &route);
}
