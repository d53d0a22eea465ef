// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * A balancer as tutorials write them: a hash of VIPs, an LRU of flows, a ring of backends for
 * those that the LRU does not know. No fragments, no options, no ICMP, no way back.
 */
#include "../../../bpf/include/csum.h"

char _license[] SEC("license") = "Dual BSD/GPL";

enum { XDP_LRU_BACKENDS = 1024, XDP_LRU_FLOWS = 1 << 20, XDP_LRU_RING = 65537 };

volatile const __u8 translates; /* NAT; else direct routing */

struct endpoint {
	__be32 addr;
	__be16 port;
	__u16 protocol;
};

struct flow {
	struct ports ports;
	__be32 src;
	__be32 dst;
	__u32 protocol;
};

struct server {
	__be32 addr;
	__be16 port;
	__u8 mac[6];
	__u8 own[6]; /* our MAC on its link */
	__u16 pad;
};

struct count {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct endpoint);
	__type(value, __u32);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, XDP_LRU_FLOWS);
	__type(key, struct flow);
	__type(value, __u32);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, XDP_LRU_RING);
	__type(key, __u32);
	__type(value, __u32);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, XDP_LRU_BACKENDS);
	__type(key, __u32);
	__type(value, struct server);
} servers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDP_LRU_BACKENDS);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

/* FNV-1a over words, which is as cheap as hashes of tutorials get. */
ALWAYS_INLINE __u32 hash(const struct flow *flow)
{
	const __u32 *words = (const __u32 *)flow;
	__u32 sum = 2166136261;

#pragma unroll
	for (int i = 0; i < 4; i++)
		sum = (sum ^ words[i]) * 16777619;
	return sum;
}

ALWAYS_INLINE __u32 *choose(const struct flow *flow)
{
	__u32 *known = bpf_map_lookup_elem(&flows, flow), slot;

	if (known)
		return known;
	slot = hash(flow) % XDP_LRU_RING;
	known = bpf_map_lookup_elem(&ring, &slot);
	if (known)
		bpf_map_update_elem(&flows, flow, known, BPF_ANY);
	return known;
}

ALWAYS_INLINE void translate(struct ipv4 *ip, struct tcp *tcp, const struct server *to)
{
	__u64 change = change32(ip->dst, to->addr);

	ip->checksum = changed_by(ip->checksum, change);
	tcp->checksum = changed_by(tcp->checksum, change + change16(tcp->ports.dst, to->port));
	ip->dst = to->addr;
	tcp->ports.dst = to->port;
}

SEC("xdp.frags")
int lru(struct xdp_md *ctx)
{
	struct cursor cur = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	__u64 length = cur.end - cur.pos;
	struct endpoint vip = {.protocol = PROTO_TCP};
	struct flow flow = {.protocol = PROTO_TCP};
	struct server *to;
	struct count *count;
	struct eth *eth;
	struct ipv4 *ip;
	struct tcp *tcp;
	__u32 *place;

	if (!TAKE(&cur, eth) || eth->type != bpf_htons(ETHERTYPE_IPV4))
		return XDP_PASS;
	if (!TAKE(&cur, ip) || ip->version_ihl != 0x45 || ip->protocol != PROTO_TCP)
		return XDP_PASS;
	if (ip->fragment & bpf_htons(IPV4_MORE | IPV4_OFFSET) || ip->ttl <= 1)
		return XDP_PASS;
	if (!TAKE(&cur, tcp))
		return XDP_PASS;
	vip.addr = ip->dst;
	vip.port = tcp->ports.dst;
	if (!bpf_map_lookup_elem(&vips, &vip))
		return XDP_PASS;
	flow.ports = tcp->ports;
	flow.src = ip->src;
	flow.dst = ip->dst;
	place = choose(&flow);
	if (!place)
		return XDP_DROP;
	to = bpf_map_lookup_elem(&servers, place);
	count = bpf_map_lookup_elem(&counts, place);
	if (!to || !count)
		return XDP_DROP;
	count->packets++;
	count->bytes += length;
	if (translates)
		translate(ip, tcp, to);
	decrement_ttl(ip);
	__builtin_memcpy(eth->dst, to->mac, 6);
	__builtin_memcpy(eth->src, to->own, 6);
	return XDP_TX;
}
