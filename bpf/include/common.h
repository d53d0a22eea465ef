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
#include "lease.h"
#include "local.h"

/* Not decided here: the long way, or for a packet that is common but for its bucket, moving_way. */
#define UNCOMMON REASON_COUNT
#define UNSETTLED (REASON_COUNT + 1)

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

/* Whether a packet is taken only while the lease runs, or after a look at the sockets. */
ALWAYS_INLINE int needs_lease(const struct xdp_md *ctx, __u8 protocol, const struct ports *ports)
{
	const __u8 *flags = (const __u8 *)ports + TCP_FLAGS_OFFSET;
	__u64 until = lease_word();

	if (!until)
		return 0;
	if (until == LEASE_ENDED)
		return 1;
	if (protocol != PROTO_TCP)
		return 0;
	return (void *)(flags + 1) > (void *)(long)ctx->data_end || *flags & TCP_SYN;
}

/*
 * The packet behind eth, whose fixed IP header and ports were checked: by the hot part of the
 * table, or by the bucket's word where moving is not NULL, which is known when this is compiled.
 */
ALWAYS_INLINE enum reason common_flow(struct xdp_md *ctx, struct eth *eth, const struct ipv4 *v4,
				      const struct ipv6 *v6, const struct ports *ports,
				      __u32 *scope, struct moving *moving)
{
	__u64 published = read_word();
	__u64 dst_hi = v6 ? bpf_be64_to_cpu(v6->dst[0]) : 0;
	__u64 dst_lo = v6 ? bpf_be64_to_cpu(v6->dst[1]) : V4_MAPPED | bpf_ntohl(v4->dst);
	__u32 slot = first_slot(published, vip_key(dst_hi, dst_lo), VIP_SLOT_BITS);
	struct vip *vip = &directory.vips[index_of(live_half(published) * VIP_SLOTS, slot)];
	struct service *service;
	__u64 src_hi, src_lo, hash;
	enum hot_layout state;
	__u32 both, outcome;

	if (!vip->scope)
		return REASON_NOT_VIP;
	if (vip->addr_lo != dst_lo || vip->addr_hi != dst_hi || !(eth->dst[0] & 1) ||
	    vip->ifindex != ctx->ingress_ifindex)
		return UNCOMMON;
	service =
		common_service(published, vip, v6 ? v6->next : v4->protocol, bpf_ntohs(ports->dst));
	if (!service)
		return UNCOMMON;
	src_hi = v6 ? bpf_be64_to_cpu(v6->src[0]) : 0;
	src_lo = v6 ? bpf_be64_to_cpu(v6->src[1]) : V4_MAPPED | bpf_ntohl(v4->src);
	both = (__u32)bpf_ntohs(ports->src) << 16 | bpf_ntohs(ports->dst);
	hash = flow_hash(published, src_hi & service->source_mask_hi,
			 src_lo & service->source_mask_lo, both & service->ports_mask);
	*scope = service->scope;
	if (moving) {
		moving->seek.src_hi = src_hi;
		moving->seek.src_lo = src_lo;
		moving->seek.vip_hi = dst_hi;
		moving->seek.vip_lo = dst_lo;
		moving->seek.src_port = both >> 16;
		moving->seek.dst_port = both;
		moving->seek.l4 = sizeof(*eth) + (v6 ? sizeof(*v6) : sizeof(*v4));
		moving->seek.protocol = v6 ? v6->next : v4->protocol;
		moving->seek.is_ipv4 = !v6;
		moving->question = ASK_SERVICE;
		moving->word = bucket_of(service->table, hash);
		outcome = decide_whole(ctx, moving);
		if (verdict_of(reason_of(outcome)) == XDP_PASS)
			set_destination(eth, vip);
		else if (reason_of(outcome) == REASON_DELEGATED)
			send_on(eth, next_node(outcome), vip);
		return reason_of(outcome);
	}
	state = hot_of(service->table, hash);
	if (state == HOT_IGNORE)
		return REASON_NOT_OWNER;
	if (state != HOT_ACCEPT || needs_lease(ctx, v6 ? v6->next : v4->protocol, ports))
		return UNSETTLED;
	set_destination(eth, vip);
	return REASON_ACCEPTED;
}

ALWAYS_INLINE enum reason common_way(struct xdp_md *ctx, __u32 *scope, struct moving *moving)
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
		return common_flow(ctx, eth, ip, NULL, ports, scope, moving);
	}
	if (eth->type == bpf_htons(ETHERTYPE_IPV6)) {
		struct ipv6 *ip = (void *)(eth + 1);

		ports = (void *)(ip + 1);
		if ((void *)(ports + 1) > end || bpf_ntohl(ip->version_class_flow) >> 28 != 6 ||
		    (ip->next != PROTO_TCP && ip->next != PROTO_UDP))
			return UNCOMMON;
		return common_flow(ctx, eth, NULL, ip, ports, scope, moving);
	}
	return UNCOMMON;
}

/*
 * The short way again, for a packet whose bucket or lease is to be looked at more closely. A
 * function of its own, or the call would take the short way's registers.
 */
__attribute__((noinline)) int moving_way(struct xdp_md *ctx)
{
	struct moving moving = {};
	__u32 scope = 0;
	enum reason reason = common_way(ctx, &scope, &moving);

	return scope << 8 | reason;
}
