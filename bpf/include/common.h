/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The short way for what nearly all traffic is: a TCP or UDP packet without VLAN tag, IP options,
 * extension headers or fragmentation, to a group MAC if it is for a VIP, whose VIP and service are
 * in the first slot looked at. It decides as the long way does, with a third of the instructions
 * and no call: a call costs 5 ns where returns are guarded against speculation.
 */
#pragma once

#include "count.h"
#include "decide.h"
#include "forward.h"
#include "lease.h"
#include "local.h"
#include "reverse.h"

/* Not decided here: the long way, or for a packet that is common but for its bucket, moving_way,
 * or but for its VIP, forward_way. */
#define UNCOMMON REASON_COUNT
#define UNSETTLED (REASON_COUNT + 1)
#define APART (REASON_COUNT + 2)
/* For no VIP, and there are backends whose replies we translate. */
#define NO_VIP (REASON_COUNT + 3)

/* The service in the first slot for a flow, or NULL: another slot may hold it, or a wider one. */
ALWAYS_INLINE struct service *common_service(__u64 published, const struct vip *vip, __u8 protocol,
					     __u16 port)
{
	__u32 lengths = protocol == PROTO_TCP ? vip->tcp_lengths : vip->udp_lengths;
	__u64 base = (__u64)vip->scope << 32 | (__u32)protocol << 24;
	/* one port, or all of them when no service of the VIP names fewer */
	__u64 selector = lengths == 1 ? base : base | PORT_BITS << 16 | port;
	__u32 slot = first_slot(published, selector, SERVICE_SLOT_BITS);
	__u64 index = index_of(live_half(published) * SERVICE_SLOTS, slot);
	struct service *service = &directory.services[index];

	return service->selector == selector ? service : NULL;
}

/* What the hot part of a table says about the bucket of a hash. */
ALWAYS_INLINE enum hot_layout hot_of(__u32 table, __u64 hash)
{
	__u32 bucket = hash & (BUCKETS - 1);
	__u32 key = table * (BUCKETS / HOT_BUCKETS) + bucket / HOT_BUCKETS;
	__u64 *word = bpf_map_lookup_elem(&hot, &key);

	if (!word)
		return HOT_SEE_WORD;
	return *(volatile __u64 *)word >> (bucket % HOT_BUCKETS * HOT_BITS) & HOT_MASK;
}

/* Of TCP; a segment that is cut short may be one. */
ALWAYS_INLINE int has_syn(const struct xdp_md *ctx, const struct ports *ports)
{
	const __u8 *flags = (const __u8 *)ports + TCP_FLAGS_OFFSET;

	return (void *)(flags + 1) > (void *)(long)ctx->data_end || *flags & TCP_SYN;
}

/* Whether a packet is taken only while the lease runs, or after a look at the sockets. */
ALWAYS_INLINE int needs_lease(const struct xdp_md *ctx, __u8 protocol, const struct ports *ports)
{
	__u64 until = lease_word();

	if (!until)
		return 0;
	if (until == LEASE_ENDED)
		return 1;
	return protocol == PROTO_TCP && has_syn(ctx, ports);
}

/* What is known of a common packet of a service. */
struct common {
	struct vip *vip;
	struct service *service;
	__u64 src_hi;
	__u64 src_lo;
	__u64 dst_hi;
	__u64 dst_lo;
	__u64 hash;
	__u32 ports; /* source << 16 | destination */
	__u8 protocol;
};

/* Who asks; which is known when this is compiled. */
enum way { WAY_SHORT, WAY_MOVING, WAY_FORWARD };

/* Fills in all of it; 0, or the reason why the packet is not a common one. */
ALWAYS_INLINE enum reason find_common(struct xdp_md *ctx, const struct eth *eth,
				      const struct ipv4 *v4, const struct ipv6 *v6,
				      const struct ports *ports, enum way way, struct common *found)
{
	__u64 published = read_word();
	__u64 dst_hi = v6 ? bpf_be64_to_cpu(v6->dst[0]) : 0;
	__u64 dst_lo = v6 ? bpf_be64_to_cpu(v6->dst[1]) : V4_MAPPED | bpf_ntohl(v4->dst);
	__u32 slot = first_slot(published, vip_key(dst_hi, dst_lo), VIP_SLOT_BITS);
	struct vip *vip = &directory.vips[index_of(live_half(published) * VIP_SLOTS, slot)];
	struct service *service;

	if (!vip->scope)
		return reverse_kinds() ? NO_VIP : REASON_NOT_VIP;
	if (vip->addr_lo != dst_lo || vip->addr_hi != dst_hi)
		return UNCOMMON;
	if (way == WAY_SHORT && vip->flags & VIP_APART)
		return APART;
	if (way == WAY_FORWARD && vip->flags & VIP_BY_BUCKET) {
		if (!same_mac(eth->dst, vip->mac) || is_peer(published, eth->src))
			return UNCOMMON;
	} else if (!(eth->dst[0] & 1)) {
		return UNCOMMON;
	}
	if (vip->ifindex != ctx->ingress_ifindex)
		return UNCOMMON;
	found->protocol = v6 ? v6->next : v4->protocol;
	service = common_service(published, vip, found->protocol, bpf_ntohs(ports->dst));
	if (!service)
		return UNCOMMON;
	found->vip = vip;
	found->service = service;
	found->dst_hi = dst_hi;
	found->dst_lo = dst_lo;
	found->src_hi = v6 ? bpf_be64_to_cpu(v6->src[0]) : 0;
	found->src_lo = v6 ? bpf_be64_to_cpu(v6->src[1]) : V4_MAPPED | bpf_ntohl(v4->src);
	found->ports = (__u32)bpf_ntohs(ports->src) << 16 | bpf_ntohs(ports->dst);
	found->hash = flow_hash(published, found->src_hi & service->source_mask_hi,
				found->src_lo & service->source_mask_lo,
				found->ports & service->ports_mask);
	return 0;
}
_Static_assert(REASON_NOT_IP == 0, "0 is a reason that no IP packet has");

/* By the bucket's word, and what it needs beyond. */
ALWAYS_INLINE enum reason moving_flow(struct xdp_md *ctx, struct eth *eth,
				      const struct common *found, int is_ipv4)
{
	struct moving moving = {
		.seek =
			{
				.src_hi = found->src_hi,
				.src_lo = found->src_lo,
				.vip_hi = found->dst_hi,
				.vip_lo = found->dst_lo,
				.src_port = found->ports >> 16,
				.dst_port = found->ports,
				.l4 = sizeof(*eth) +
				      (is_ipv4 ? sizeof(struct ipv4) : sizeof(struct ipv6)),
				.protocol = found->protocol,
				.is_ipv4 = is_ipv4,
			},
		.question = ASK_SERVICE,
		.word = bucket_of(found->service->table, found->hash),
	};
	__u32 outcome = decide_whole(ctx, &moving);

	if (verdict_of(reason_of(outcome)) == XDP_PASS)
		set_destination(eth, found->vip);
	else if (reason_of(outcome) == REASON_DELEGATED)
		send_on(eth, target_in(outcome), found->vip);
	return reason_of(outcome);
}

/* By the hot part of the table. */
ALWAYS_INLINE enum reason resting_flow(const struct xdp_md *ctx, struct eth *eth,
				       const struct common *found, const struct ports *ports)
{
	enum hot_layout state = hot_of(found->service->table, found->hash);

	if (state == HOT_IGNORE)
		return REASON_NOT_OWNER;
	if (state != HOT_ACCEPT || needs_lease(ctx, found->protocol, ports))
		return UNSETTLED;
	set_destination(eth, found->vip);
	return REASON_ACCEPTED;
}

/* To the backend of its slot, if it is one at rest and nothing else is special. */
ALWAYS_INLINE enum reason forward_flow(struct xdp_md *ctx, struct eth *eth, struct ipv4 *v4,
				       struct ipv6 *v6, struct ports *ports,
				       const struct common *found)
{
	const struct service *service = found->service;
	struct backend *backend;
	enum hot_layout state;
	struct inner inner = {};
	__u32 choice, key;
	__sum16 *sum = NULL;

	/* what is local goes as any other, but that its frames may come to our own MAC */
	if (service->forward == FORWARD_LOCAL)
		return found->vip->flags & VIP_BY_BUCKET ? UNCOMMON : UNSETTLED;
	state = hot_of(service->table, found->hash);
	if (state == HOT_IGNORE)
		return found->vip->flags & VIP_HANDED_ON ? UNCOMMON : REASON_NOT_OWNER;
	if (state != HOT_ACCEPT && !is_ours(bucket_of(service->table, found->hash)))
		return UNCOMMON;
	if (needs_lease(ctx, found->protocol, ports) && lease_over())
		return UNCOMMON;
	if (service->mss && found->protocol == PROTO_TCP && has_syn(ctx, ports))
		return UNCOMMON;
	choice = slot_word(service->region, slot_of(found->hash));
	key = service->region * BACKENDS + (choice & SLOT_NOBODY);
	if (choice >> SLOT_FLAGS_SHIFT || (choice & SLOT_NOBODY) == SLOT_NOBODY)
		return UNCOMMON;
	backend = bpf_map_lookup_elem(&backends, &key);
	if (!backend || !backend->ifindex || (v6 ? v6->hop_limit : v4->ttl) <= 1)
		return UNCOMMON;
	if (backend->method == FORWARD_TUNNEL) {
		inner.hash = found->hash;
		inner.protocol = v6 ? PROTO_IPV6 : PROTO_IPIP;
		inner.tos = v6 ? bpf_ntohl(v6->version_class_flow) >> 20 : v4->tos;
		inner.length =
			v6 ? sizeof(*v6) + bpf_ntohs(v6->payload_length) : bpf_ntohs(v4->length);
		if (inner.length + tunnel_headers(backend) > backend->mtu)
			return UNCOMMON;
	} else if (backend->method == FORWARD_NAT) {
		sum = transport_sum(ports, found->protocol, (void *)(long)ctx->data_end);
		if (!sum)
			return UNCOMMON;
		if (v6)
			translate6(v6, ports, sum, END_DESTINATION, backend->addr_hi,
				   backend->addr_lo, backend->port);
		else
			translate4(v4, ports, sum, END_DESTINATION, backend->addr_lo,
				   backend->port);
	}
	if (v6)
		v6->hop_limit--;
	else
		decrement_ttl(v4);
	if (backend->method != FORWARD_TUNNEL) {
		copy_mac(eth->dst, backend->mac);
		copy_mac(eth->src, backend->own_mac);
	} else if (encapsulate(ctx, backend, sizeof(*eth), &inner)) {
		return REASON_TOO_BIG;
	}
	return leave(ctx, backend);
}

/* The packet behind eth, whose fixed IP header and ports were checked. */
ALWAYS_INLINE enum reason common_flow(struct xdp_md *ctx, struct eth *eth, struct ipv4 *v4,
				      struct ipv6 *v6, struct ports *ports, __u32 *scope,
				      enum way way)
{
	struct common found = {};
	enum reason reason = find_common(ctx, eth, v4, v6, ports, way, &found);

	if (reason)
		return reason;
	*scope = found.service->scope;
	if (way == WAY_MOVING)
		return moving_flow(ctx, eth, &found, !!v4);
	if (way == WAY_FORWARD)
		return forward_flow(ctx, eth, v4, v6, ports, &found);
	return resting_flow(ctx, eth, &found, ports);
}

ALWAYS_INLINE enum reason common_way(struct xdp_md *ctx, __u32 *scope, enum way way)
{
	void *end = (void *)(long)ctx->data_end;
	struct eth *eth = (void *)(long)ctx->data;
	struct ports *ports;

	if ((void *)(eth + 1) > end)
		return UNCOMMON;
	if (eth->type == bpf_htons(ETHERTYPE_IPV4)) {
		struct ipv4 *ip = (void *)(eth + 1);

		ports = (void *)(ip + 1);
		if ((void *)(ports + 1) > end || ip->version_ihl != 0x45 ||
		    ip->fragment & bpf_htons(IPV4_MORE | IPV4_OFFSET) ||
		    (ip->protocol != PROTO_TCP && ip->protocol != PROTO_UDP))
			return UNCOMMON;
		return common_flow(ctx, eth, ip, NULL, ports, scope, way);
	}
	if (eth->type == bpf_htons(ETHERTYPE_IPV6)) {
		struct ipv6 *ip = (void *)(eth + 1);

		ports = (void *)(ip + 1);
		if ((void *)(ports + 1) > end || bpf_ntohl(ip->version_class_flow) >> 28 != 6 ||
		    (ip->next != PROTO_TCP && ip->next != PROTO_UDP))
			return UNCOMMON;
		return common_flow(ctx, eth, NULL, ip, ports, scope, way);
	}
	return UNCOMMON;
}

/*
 * The short way again, for a packet whose bucket or lease is to be looked at more closely. A
 * function of its own, or the call would take the short way's registers.
 */
__attribute__((noinline)) int moving_way(struct xdp_md *ctx)
{
	__u32 scope = 0;
	enum reason reason = common_way(ctx, &scope, WAY_MOVING);

	return scope << 8 | reason;
}

/* And again, for a packet of a VIP whose services forward, or whose frames come to our own MAC. */
__attribute__((noinline)) int forward_way(struct xdp_md *ctx)
{
	__u32 scope = 0;
	enum reason reason = common_way(ctx, &scope, WAY_FORWARD);

	return scope << 8 | reason;
}
