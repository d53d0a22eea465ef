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

/* Besides UNCOMMON: a packet that is common but for its bucket, for moving_way; and one that goes
 * to a backend, for forward_way. */
#define UNSETTLED (REASON_COUNT + 1)
#define FORWARDS (REASON_COUNT + 2)
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
	__u8 handed_on; /* to all nodes, if it is another's */
};

/* Whether a frame to a single MAC may be a client's, and another node's. */
ALWAYS_INLINE int is_clients_own(__u64 published, const struct eth *eth, const struct vip *vip)
{
	return vip->flags & VIP_BY_BUCKET && same_mac(eth->dst, vip->mac) &&
	       !may_be_peer(published, eth->src);
}

/* Fills in all of it; 0, or the reason why the packet is not a common one. */
ALWAYS_INLINE enum reason find_common(struct xdp_md *ctx, const struct eth *eth,
				      const struct ipv4 *v4, const struct ipv6 *v6,
				      const struct ports *ports, struct common *found)
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
	if (!(eth->dst[0] & 1)) {
		if (!is_clients_own(published, eth, vip))
			return UNCOMMON;
		found->handed_on = vip->flags & VIP_HANDED_ON;
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
	__u32 outcome;

	if (found->service->forward || found->handed_on)
		return UNCOMMON;
	outcome = decide_whole(ctx, &moving);
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

	if (state == HOT_IGNORE) {
		if (UNLIKELY(found->service->watches) && has_syn(ctx, ports))
			return UNCOMMON;
		return found->handed_on ? UNCOMMON : REASON_NOT_OWNER;
	}
	if (state != HOT_ACCEPT || needs_lease(ctx, found->protocol, ports))
		return UNSETTLED;
	if (found->service->forward)
		return FORWARDS;
	set_destination(eth, found->vip);
	return REASON_ACCEPTED;
}

/* What the caller learns of a packet: counters, and what decides about its backend. */
struct found {
	__u64 hash;
	__u32 scope;
	__u32 region;
};

/*
 * The packet behind eth, whose fixed IP header and ports were checked: by the hot part of the
 * table, or by the bucket's word where moving is set, which is known when this is compiled.
 */
ALWAYS_INLINE enum reason common_flow(struct xdp_md *ctx, struct eth *eth, const struct ipv4 *v4,
				      const struct ipv6 *v6, const struct ports *ports,
				      struct found *found, int moving)
{
	struct common common = {};
	enum reason reason = find_common(ctx, eth, v4, v6, ports, &common);

	if (reason)
		return reason;
	found->scope = common.service->scope;
	if (moving)
		return moving_flow(ctx, eth, &common, !!v4);
	found->hash = common.hash;
	found->region = common.service->region;
	return resting_flow(ctx, eth, &common, ports);
}

ALWAYS_INLINE enum reason common_way(struct xdp_md *ctx, struct found *found, int moving)
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
		return common_flow(ctx, eth, ip, NULL, ports, found, moving);
	}
	if (eth->type == bpf_htons(ETHERTYPE_IPV6)) {
		struct ipv6 *ip = (void *)(eth + 1);

		ports = (void *)(ip + 1);
		if ((void *)(ports + 1) > end || bpf_ntohl(ip->version_class_flow) >> 28 != 6 ||
		    (ip->next != PROTO_TCP && ip->next != PROTO_UDP))
			return UNCOMMON;
		return common_flow(ctx, eth, NULL, ip, ports, found, moving);
	}
	return UNCOMMON;
}

/*
 * The short way again, for a packet whose bucket or lease is to be looked at more closely. A
 * function of its own, or the call would take the short way's registers.
 */
__attribute__((noinline)) int moving_way(struct xdp_md *ctx)
{
	struct found found = {};
	enum reason reason = common_way(ctx, &found, 1);

	return found.scope << 8 | reason;
}
