// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Drives a program with distinct packets inside one BPF_PROG_TEST_RUN, which repeats one frame:
 * makes the next flow out of the last, then tail-calls what is measured. The floors run the same
 * way.
 */
#include "../include/parse.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define OUTER 72 /* bytes: Ethernet, IPv6, UDP, GUE and some to spare */

volatile const __u32 flows; /* distinct sources, a power of two, at most 2^20 */
volatile const __u32 addresses = ~0U; /* that these have, a power of two, less one */
volatile const __u32 length; /* of the frame, which is put into another one; 0: it is not */
volatile const __u8 outer[OUTER]; /* what is before that, for a program that takes it off */
volatile const __u32 outer_length; /* of it, an even number */
volatile const __u8 replies; /* the destination is what changes, not the source */
volatile const __be32 fixed4; /* address and port of the other end, for a program that translates */
volatile const __be64 fixed6[2];
volatile const __be64 net6; /* of the end that changes */
volatile const __be16 fixed_port;
volatile const __u8 destination[6]; /* MAC of every frame; an accepted frame's was rewritten */

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct transport {
	struct ports ports;
	__be32 sequence; /* of TCP, or the rest of UDP's header: which flow this was */
};

/* Low bits of the address and all of the port change, as with many clients. */
ALWAYS_INLINE __u32 next_flow(struct eth *eth, struct transport *transport)
{
	__u32 flow = (transport->sequence + 1) & (flows - 1);

	transport->sequence = flow;
	*(replies ? &transport->ports.dst : &transport->ports.src) = (flow * 40503) | 4;
	*(replies ? &transport->ports.src : &transport->ports.dst) = fixed_port;
	*(__u16 *)eth->dst = *(const volatile __u16 *)destination;
	*(__u16 *)(eth->dst + 2) = *(const volatile __u16 *)(destination + 2);
	*(__u16 *)(eth->dst + 4) = *(const volatile __u16 *)(destination + 4);
	return flow;
}

/* Takes off what a tunnel put before the frame, or nothing at the same cost. */
ALWAYS_INLINE int unwrap(struct xdp_md *ctx)
{
	long grown = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	barrier_var(grown); /* not a difference of pointers in 32 bits */
	return length && bpf_xdp_adjust_head(ctx, grown - length);
}

SEC("xdp.frags")
int generate4(struct xdp_md *ctx)
{
	struct transport *transport;
	struct ipv4 *ip;
	struct eth *eth;

	if (unwrap(ctx))
		return XDP_ABORTED;
	eth = (void *)(long)ctx->data;
	ip = (void *)(eth + 1);
	transport = (void *)(ip + 1);
	if ((void *)(transport + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	eth->type = bpf_htons(ETHERTYPE_IPV4);
	ip->ttl = 64;
	*(replies ? &ip->dst : &ip->src) =
		bpf_htonl(0x0a000000 | (next_flow(eth, transport) & addresses));
	*(replies ? &ip->src : &ip->dst) = fixed4;
	bpf_tail_call(ctx, &target, 0);
	return XDP_ABORTED;
}

SEC("xdp.frags")
int generate6(struct xdp_md *ctx)
{
	struct transport *transport;
	__be64 *changing, *fixed;
	struct ipv6 *ip;
	struct eth *eth;

	if (unwrap(ctx))
		return XDP_ABORTED;
	eth = (void *)(long)ctx->data;
	ip = (void *)(eth + 1);
	transport = (void *)(ip + 1);
	if ((void *)(transport + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	eth->type = bpf_htons(ETHERTYPE_IPV6);
	ip->hop_limit = 64;
	changing = replies ? ip->dst : ip->src;
	changing[0] = net6;
	changing[1] = bpf_cpu_to_be64(1ULL << 32 | (next_flow(eth, transport) & addresses));
	fixed = replies ? ip->src : ip->dst;
	fixed[0] = fixed6[0];
	fixed[1] = fixed6[1];
	bpf_tail_call(ctx, &target, 0);
	return XDP_ABORTED;
}

/* An IPv4 packet in a tunnel, whose outer headers the last run took off. */
SEC("xdp.frags")
int generate_wrapped(struct xdp_md *ctx)
{
	struct transport *transport;
	struct ipv4 *ip;
	struct eth *eth;
	__u8 *at;

	if (unwrap(ctx))
		return XDP_ABORTED;
	at = (void *)(long)ctx->data;
	if ((void *)(at + OUTER) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	for (__u32 i = 0; i < OUTER; i += sizeof(__u16))
		if (i < outer_length)
			*(__u16 *)(at + i) = *(const volatile __u16 *)(outer + i);
	eth = (void *)at;
	ip = (void *)at + (outer_length & 127);
	transport = (void *)(ip + 1);
	if ((void *)(transport + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	ip->src = bpf_htonl(0x0a000000 | next_flow(eth, transport));
	bpf_tail_call(ctx, &target, 0);
	return XDP_ABORTED;
}

/* What a tunnel costs at least: room for an IPv4 header, and none for what is in it. */
SEC("xdp.frags")
int floor_grow(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -(int)sizeof(struct ipv4)) ? XDP_ABORTED : XDP_TX;
}

SEC("xdp.frags")
int floor_drop(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_DROP;
}

/* The least that any program does to tell a VIP's packets from others: find addresses and ports. */
SEC("xdp.frags")
int floor_parse(struct xdp_md *ctx)
{
	struct cursor cur = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	struct packet pkt = {};
	struct ports *ports;

	if (parse_ethernet(&cur, &pkt))
		return XDP_ABORTED;
	if (pkt.ethertype == ETHERTYPE_IPV4 ? parse_ipv4(&cur, &pkt) : parse_ipv6(&cur, &pkt))
		return XDP_ABORTED;
	if (!TAKE(&cur, ports))
		return XDP_ABORTED;
	/* used, or the compiler would not read them */
	return (pkt.dst_lo ^ pkt.dst_hi ^ pkt.src_hi ^ pkt.src_lo ^ ports->src ^ ports->dst) == 1
		       ? XDP_DROP
		       : XDP_PASS;
}
