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

enum tcp_flags { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };
enum tcp_state { TCP_LISTEN = 10 };

/* A flow to be found: TCP's among the sockets, UDP's among those that were noted. */
struct seek {
	__u64 src_hi;
	__u64 src_lo;
	__u64 vip_hi;
	__u64 vip_lo;
	__u16 src_port;
	__u16 dst_port;
	__u16 l4; /* offset of the transport header; 0 when there is none, as in an ICMP error */
	__u8 protocol;
	__u8 is_ipv4;
};

/* The segment's header, as far as it is there up to a field; NULL when it is not. */
#define TCP_HEADER(ctx, l4, field)                                                                 \
	({                                                                                         \
		struct tcp *tcp_ = (void *)(long)(ctx)->data + ((l4) & (2 * MAX_HEADERS - 1));     \
		(l4) && (void *)(&tcp_->field + 1) <= (void *)(long)(ctx)->data_end ? tcp_ : NULL; \
	})

/* A SYN opens a connection; with ACK it answers one. A segment that is cut short opens nothing. */
ALWAYS_INLINE int opens(struct xdp_md *ctx, __u16 l4)
{
	struct tcp *tcp = TCP_HEADER(ctx, l4, flags);

	return tcp && (tcp->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
}

/* FIN and RST, as the segment has them: who sent it will send no more. */
ALWAYS_INLINE int closes(struct xdp_md *ctx, __u16 l4)
{
	struct tcp *tcp = TCP_HEADER(ctx, l4, flags);

	return tcp ? tcp->flags & (TCP_FIN | TCP_RST) : 0;
}

enum sought { SOUGHT_NOTHING, SOUGHT_LISTENER, SOUGHT_COOKIE, SOUGHT_FLOW };

/* Whether the segment is the answer to a SYN cookie that the listener gave. */
ALWAYS_INLINE int has_cookie(struct xdp_md *ctx, const struct seek *seek, struct bpf_sock *listener)
{
	struct tcp *tcp = TCP_HEADER(ctx, seek->l4, urgent);
	struct cursor cur = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	struct packet pkt = {};
	struct ipv4 *v4;
	struct ipv6 *v6;

	if (!tcp || parse_ethernet(&cur, &pkt))
		return 0;
	v4 = cur.pos;
	v6 = cur.pos;
	if (seek->is_ipv4)
		return (void *)(v4 + 1) <= (void *)(long)ctx->data_end &&
		       !bpf_tcp_check_syncookie(listener, v4, sizeof(*v4), (void *)tcp,
						sizeof(*tcp));
	return (void *)(v6 + 1) <= (void *)(long)ctx->data_end &&
	       !bpf_tcp_check_syncookie(listener, v6, sizeof(*v6), (void *)tcp, sizeof(*tcp));
}

/* Asks the kernel's sockets. */
ALWAYS_INLINE enum sought seek_socket(struct xdp_md *ctx, const struct seek *seek)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *socket;
	enum sought sought = SOUGHT_FLOW;

	if (seek->is_ipv4) {
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
ALWAYS_INLINE int keep_udp(const struct seek *seek, int all)
{
	struct udp_flow key = {
		.src_hi = seek->src_hi,
		.src_lo = seek->src_lo,
		.dst_hi = seek->vip_hi,
		.dst_lo = seek->vip_lo,
		.src_port = seek->src_port,
		.dst_port = seek->dst_port,
	};
	struct udp_seen now = {.seen_ns = bpf_ktime_get_coarse_ns()};
	struct udp_seen *before = bpf_map_lookup_elem(&flows, &key);
	int known = before && now.seen_ns - before->seen_ns <= UDP_IDLE_NS;

	if (tracing)
		return known || all;
	if (known)
		before->seen_ns = now.seen_ns;
	else if (all)
		bpf_map_update_elem(&flows, &key, &now, BPF_ANY);
	return known || all;
}

/* The node to send to, or NULL while its MAC is not known. */
ALWAYS_INLINE struct node *find_node(__u32 number)
{
	struct node *node = bpf_map_lookup_elem(&nodes, &number);

	if (!node || !(*(__u16 *)node->mac | *(__u16 *)(node->mac + 2) | *(__u16 *)(node->mac + 4)))
		return NULL;
	return node;
}

/* A frame goes on as it is, but from our own MAC: the shared one is never a source. */
ALWAYS_INLINE void send_on(struct eth *eth, __u32 number, const struct vip *vip)
{
	struct node *node = find_node(number);

	if (node)
		copy_mac(eth->dst, node->mac);
	copy_mac(eth->src, vip->own_mac);
}
