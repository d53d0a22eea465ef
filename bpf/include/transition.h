/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Buckets that change their owner. The kernel's sockets are the table of TCP flows, and tell the
 * old owner what it still has and the new one what is not its own; UDP flows are noted. New flows
 * go to the new owner, by a frame to its own MAC, before it holds the bucket.
 */
#pragma once

#include "flow.h"
#include "lease.h"
#include "local.h"

#define UDP_IDLE_NS (UDP_IDLE_SECONDS * 1000000000ULL)

enum tcp_flags { TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };
enum tcp_state { TCP_LISTEN = 10 };

/* A TCP flow to be found among the sockets. */
struct seek {
	__u64 src_hi;
	__u64 src_lo;
	__u64 vip_hi;
	__u64 vip_lo;
	__u16 src_port;
	__u16 dst_port;
	__u16 l3; /* offset of the IP header */
	__u16 l4; /* of the TCP header; 0 when the packet has none, as in an ICMP error */
	__u8 v4;
	__u8 pad[7];
};

enum sought { SOUGHT_NOTHING, SOUGHT_LISTENER, SOUGHT_COOKIE, SOUGHT_FLOW };

/* Whether the segment is the answer to a SYN cookie that the listener gave. */
ALWAYS_INLINE int has_cookie(struct xdp_md *ctx, const struct seek *seek, struct bpf_sock *listener)
{
	union {
		struct ipv4 v4;
		struct ipv6 v6;
	} ip = {};
	__u8 tcp[60] = {};
	__u32 length;

	if (!seek->l4 || bpf_xdp_load_bytes(ctx, seek->l4, tcp, 20) ||
	    bpf_xdp_load_bytes(ctx, seek->l3, &ip, seek->v4 ? sizeof(ip.v4) : sizeof(ip.v6)))
		return 0;
	length = tcp[12] >> 4 << 2;
	/* each bound of the very register that is passed, as in sample() */
	barrier_var(length);
	if (length < 20)
		return 0;
	barrier_var(length);
	if (length > sizeof(tcp) || bpf_xdp_load_bytes(ctx, seek->l4, tcp, length))
		return 0;
	if (seek->v4)
		return !bpf_tcp_check_syncookie(listener, &ip, sizeof(ip.v4), (void *)tcp, length);
	return !bpf_tcp_check_syncookie(listener, &ip, sizeof(ip.v6), (void *)tcp, length);
}

/* Asks the kernel's sockets, enum sought. A function of its own, like walk_extensions. */
__attribute__((noinline)) int seek_socket(struct xdp_md *ctx, struct seek *seek)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *socket;
	int sought = SOUGHT_FLOW;

	if (!seek)
		return SOUGHT_NOTHING;
	if (seek->v4) {
		tuple.ipv4.saddr = bpf_htonl(seek->src_lo);
		tuple.ipv4.daddr = bpf_htonl(seek->vip_lo);
		tuple.ipv4.sport = bpf_htons(seek->src_port);
		tuple.ipv4.dport = bpf_htons(seek->dst_port);
		socket = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), socket_netns, 0);
	} else {
		tuple.ipv6.saddr[0] = bpf_htonl(seek->src_hi >> 32);
		tuple.ipv6.saddr[1] = bpf_htonl(seek->src_hi);
		tuple.ipv6.saddr[2] = bpf_htonl(seek->src_lo >> 32);
		tuple.ipv6.saddr[3] = bpf_htonl(seek->src_lo);
		tuple.ipv6.daddr[0] = bpf_htonl(seek->vip_hi >> 32);
		tuple.ipv6.daddr[1] = bpf_htonl(seek->vip_hi);
		tuple.ipv6.daddr[2] = bpf_htonl(seek->vip_lo >> 32);
		tuple.ipv6.daddr[3] = bpf_htonl(seek->vip_lo);
		tuple.ipv6.sport = bpf_htons(seek->src_port);
		tuple.ipv6.dport = bpf_htons(seek->dst_port);
		socket = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), socket_netns, 0);
	}
	if (!socket)
		return SOUGHT_NOTHING;
	if (socket->state == TCP_LISTEN)
		sought = has_cookie(ctx, seek, socket) ? SOUGHT_COOKIE : SOUGHT_LISTENER;
	bpf_sk_release(socket);
	return sought;
}

/* Whether a UDP flow was noted and not silent for too long; notes what goes on, and all if told. */
__attribute__((noinline)) int note_udp(struct udp_flow *flow, __u32 all)
{
	struct udp_seen now = {.seen_ns = bpf_ktime_get_coarse_ns()};
	struct udp_seen *before;
	struct udp_flow key;
	int known;

	if (!flow)
		return 0;
	key = *flow; /* 6.1 takes no key from a caller's stack */
	before = bpf_map_lookup_elem(&flows, &key);
	known = before && now.seen_ns - before->seen_ns <= UDP_IDLE_NS;
	if (tracing)
		return known || all;
	if (known)
		before->seen_ns = now.seen_ns;
	else if (all)
		bpf_map_update_elem(&flows, &key, &now, BPF_ANY);
	return known || all;
}

/* The MAC of a node to send to; 0 when it is not known. */
ALWAYS_INLINE int find_next_hop(__u32 number, struct packet *pkt)
{
	struct node *node = bpf_map_lookup_elem(&nodes, &number);

	if (!node || !(*(__u16 *)node->mac | *(__u16 *)(node->mac + 2) | *(__u16 *)(node->mac + 4)))
		return 0;
	copy_mac(pkt->next_hop, node->mac);
	pkt->target = number;
	return 1;
}

/* A frame goes on as it is, but from our own MAC: the shared one is never a source. */
ALWAYS_INLINE void send_on(struct eth *eth, const struct packet *pkt, const struct vip *vip)
{
	copy_mac(eth->dst, pkt->next_hop);
	copy_mac(eth->src, vip->own_mac);
}
