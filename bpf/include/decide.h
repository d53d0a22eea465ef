/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a bucket's word makes of a packet: at once where it says accept or ignore and nothing else,
 * otherwise in a function of its own, so that buckets at rest do not pay for those that move.
 */
#pragma once

#include "lease.h"
#include "local.h"
#include "transition.h"

/* What decides who owns a packet of a VIP. */
enum question {
	ASK_SERVICE, /* a flow: the service that names it, else the VIP's rule */
	ASK_ECHO, /* its sender alone */
	ASK_UNNAMED, /* its sender alone, unless the VIP drops what no service names */
	ASK_ERROR, /* the flow that an ICMP error quotes */
	ASK_ECHO_ERROR, /* the client of a quoted echo reply */
	ASK_FIRST_FRAGMENT, /* what was decided about the first fragment */
	ASK_NOBODY, /* every node may take it: it is never answered */
};

/* A reason and, where the packet is sent on, the node or backend that is to have it. */
#define OUTCOME(reason, target) ((reason) | (target) << 8)

ALWAYS_INLINE enum reason reason_of(__u32 outcome)
{
	return outcome & 0xff;
}

ALWAYS_INLINE __u32 target_in(__u32 outcome)
{
	return outcome >> 8;
}

ALWAYS_INLINE enum reason reason_mine(enum question question)
{
	return question == ASK_SERVICE	 ? REASON_ACCEPTED
	       : question == ASK_ECHO	 ? REASON_ECHO_ACCEPTED
	       : question == ASK_UNNAMED ? REASON_UNNAMED_ACCEPTED
					 : REASON_ERROR_ACCEPTED;
}

ALWAYS_INLINE enum reason reason_others(enum question question)
{
	return question == ASK_SERVICE	 ? REASON_NOT_OWNER
	       : question == ASK_ECHO	 ? REASON_ECHO_NOT_OWNER
	       : question == ASK_UNNAMED ? REASON_UNNAMED_NOT_OWNER
					 : REASON_ERROR_NOT_OWNER;
}

/* Drops of what another node would take, had it come to all: it may have, or may be about to. */
ALWAYS_INLINE int is_others(enum reason reason)
{
	return reason == REASON_NOT_OWNER || reason == REASON_ECHO_NOT_OWNER ||
	       reason == REASON_UNNAMED_NOT_OWNER || reason == REASON_ERROR_NOT_OWNER ||
	       reason == REASON_FRAGMENT_NOT_OWNER || reason == REASON_UNKNOWN_FLOW ||
	       reason == REASON_UDP_AWAY || reason == REASON_LAPSED;
}

/*
 * Does what a switch does with the frames of a VIP that all nodes have. What came to a group, or
 * from a peer, is never handed on, so a frame is handed on once.
 */
ALWAYS_INLINE enum reason hand_on(struct eth *eth, const struct vip *vip)
{
	copy_mac(eth->dst, vip->nodes_mac);
	copy_mac(eth->src, vip->own_mac);
	return REASON_HANDED_ON;
}

/*
 * Whether a director is to send nothing on: another one does, and by newer slots than are known
 * here. What is under way has no other where nodes do not announce the VIP.
 */
ALWAYS_INLINE int is_relieved(const struct vip *vip, int is_under_way)
{
	if (!is_under_way)
		return lease_over();
	return lease_ended() && !(vip->flags & VIP_SILENT);
}

/* A packet whose bucket does not decide alone. */
struct moving {
	struct seek seek;
	__u64 word;
	__u8 question; /* enum question */
	__u8 direct; /* sent to our own MAC */
	__u8 pad[6];
};

/* Whether a socket of ours has a TCP flow. */
ALWAYS_INLINE enum sought ask_sockets(struct xdp_md *ctx, const struct seek *seek)
{
	enum sought sought = seek_socket(ctx, seek);

	if (tracing)
		traced.flags |=
			TRACE_ASKED | (sought == SOUGHT_FLOW	   ? TRACE_SOCKET
				       : sought == SOUGHT_LISTENER ? TRACE_LISTENER
				       : sought == SOUGHT_COOKIE   ? TRACE_LISTENER | TRACE_COOKIE
								   : 0);
	return sought;
}

/* TCP that opens nothing, where the bucket alone does not tell whose it is. */
ALWAYS_INLINE int is_for_sockets(enum verb verb, __u32 flags, int direct)
{
	return flags & (BUCKET_MAYBE_LOCAL | BUCKET_CONTESTED) || verb == VERB_DELEGATE ||
	       (direct && verb != VERB_ACCEPT);
}

/* UDP of a bucket whose UDP we decide about, whoever has its TCP. */
ALWAYS_INLINE __u32 decide_udp(const struct moving *packet, int over)
{
	__u32 target = target_of(packet->word);
	int is_error = packet->question == ASK_ERROR;

	if (over)
		return is_error ? REASON_ERROR_NOT_OWNER : REASON_LAPSED;
	if (keep_udp(&packet->seek, flags_of(packet->word) & BUCKET_UDP_NOTED && !is_error))
		return is_error ? REASON_ERROR_ACCEPTED : REASON_UDP_KEPT;
	if (is_error)
		return REASON_ERROR_NOT_OWNER;
	if (verb_of(packet->word) != VERB_ACCEPT && find_node(target))
		return OUTCOME(REASON_DELEGATED, target);
	return REASON_UDP_KEPT;
}

/*
 * The whole of the rules. A frame to our own MAC was sent on to us by the bucket's holder, or is
 * for nobody else anyway: it is never sent on, and is ours unless it belongs to a connection that
 * we do not have.
 */
ALWAYS_INLINE __u32 decide_whole(struct xdp_md *ctx, const struct moving *packet)
{
	enum question question = packet->question;
	int is_error, is_flow, is_udp, is_tcp, opening, direct, over, asked;
	enum sought sought;
	enum verb verb;
	__u32 flags;

	direct = packet->direct;
	verb = verb_of(packet->word);
	flags = flags_of(packet->word);
	is_error = question == ASK_ERROR;
	is_flow = is_error || question == ASK_SERVICE || question == ASK_UNNAMED;
	is_udp = is_flow && packet->seek.protocol == PROTO_UDP;
	is_tcp = is_flow && packet->seek.protocol == PROTO_TCP;
	opening = is_tcp && opens(ctx, packet->seek.l4);
	asked = is_tcp && !opening && is_for_sockets(verb, flags, direct);
	/* what a socket has does not depend on the lease, and is not to pay for the clock */
	over = asked && !tracing ? 0 : lease_over();
	if (tracing && over)
		traced.flags |= TRACE_LAPSED;
	if (tracing && opening)
		traced.flags |= TRACE_OPENS;
	if (verb == VERB_IGNORE && !flags && !direct)
		return reason_others(question);
	if (asked || (over && is_tcp && !opening && (direct || verb == VERB_ACCEPT))) {
		sought = ask_sockets(ctx, &packet->seek);
		if (sought == SOUGHT_FLOW)
			return direct	  ? REASON_DIRECT
			       : is_error ? REASON_ERROR_ACCEPTED
					  : REASON_SOCKET_ACCEPTED;
		if (sought == SOUGHT_COOKIE)
			return REASON_COOKIE_ACCEPTED;
		over = lease_over();
		if (!is_error && (direct || verb == VERB_ACCEPT))
			return over ? REASON_LAPSED : REASON_UNKNOWN_FLOW;
	}
	if (direct)
		return over && !is_error ? REASON_LAPSED : REASON_DIRECT;
	if (is_udp && flags & (BUCKET_UDP_NOTED | BUCKET_UDP_KEPT))
		return decide_udp(packet, over);
	if (verb != VERB_ACCEPT && verb != VERB_DELEGATE)
		return verb == VERB_IGNORE ? reason_others(question) : REASON_NO_OWNER;
	if (over)
		return is_error ? REASON_ERROR_NOT_OWNER : REASON_LAPSED;
	if (is_udp && !is_error && flags & BUCKET_UDP_AWAY)
		return REASON_UDP_AWAY;
	if (verb == VERB_DELEGATE && is_error)
		return REASON_ERROR_NOT_OWNER;
	if (verb == VERB_DELEGATE && (is_tcp || is_udp) && find_node(target_of(packet->word)))
		return OUTCOME(REASON_DELEGATED, target_of(packet->word));
	/* a listener's reset would end what another node's socket has */
	if (is_tcp && !opening && !is_error && flags & BUCKET_CONTESTED)
		return REASON_UNKNOWN_FLOW;
	return reason_mine(question);
}

/* The same, so that the long way does not pay for what it does not need. */
__attribute__((noinline)) int decide_moving(struct xdp_md *ctx, struct moving *packet)
{
	return packet ? decide_whole(ctx, packet) : REASON_NO_OWNER;
}

/* The outcome for a packet by its bucket's word. */
ALWAYS_INLINE __u32 decide(struct xdp_md *ctx, enum question question, const struct packet *pkt,
			   const struct flow *flow, __u64 word, int direct)
{
	__u16 state = word; /* verb and flags */

	if (!tracing && !direct) {
		if (state == VERB_IGNORE)
			return reason_others(question);
		if (state == VERB_ACCEPT && !lease_over())
			return reason_mine(question);
	}
	struct moving packet = {
		.seek =
			{
				.src_hi = flow->src_hi,
				.src_lo = flow->src_lo,
				.vip_hi = pkt->dst_hi,
				.vip_lo = pkt->dst_lo,
				.src_port = flow->src_port,
				.dst_port = flow->dst_port,
				.l4 = flow->l4,
				.protocol = flow->protocol,
				.is_ipv4 = pkt->ethertype == ETHERTYPE_IPV4,
			},
		.word = word,
		.question = question,
		.direct = direct,
	};

	return decide_moving(ctx, &packet);
}
