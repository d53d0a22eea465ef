// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * A packet's journey through a node that shares its VIPs with others:
 *
 *   parse -> VIP -> addressee -> fragment, ICMP or ports -> service -> hash -> bucket -> one exit
 *
 * Most packets take the short way of common.h; handle() below is the long one, which knows all.
 * Decide first, write later: after the first byte is changed a frame is never passed up unfinished.
 */
#include "include/arp_ndp.h"
#include "include/common.h"
#include "include/count.h"
#include "include/decide.h"
#include "include/flow.h"
#include "include/forward.h"
#include "include/fragment.h"
#include "include/guard.h"
#include "include/held.h"
#include "include/icmp.h"
#include "include/lease.h"
#include "include/local.h"
#include "include/maps.h"
#include "include/parse.h"
#include "include/transition.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Tells a private instance what it found; nothing in the instance that carries traffic. */
ALWAYS_INLINE void trace_flow(const struct packet *pkt, const struct flow *flow, __u32 vip_scope,
			      __u32 flags)
{
	if (!tracing)
		return;
	traced.src_hi = flow->src_hi;
	traced.src_lo = flow->src_lo;
	traced.dst_hi = pkt->dst_hi;
	traced.dst_lo = pkt->dst_lo;
	traced.src_port = flow->src_port;
	traced.dst_port = flow->dst_port;
	traced.protocol = flow->protocol;
	traced.vlan = pkt->vlan;
	traced.vip_scope = vip_scope;
	traced.flags |= flags;
	if (pkt->first_fragment)
		traced.flags |= TRACE_FIRST_FRAGMENT;
	if (pkt->later_fragment)
		traced.flags |= TRACE_LATER_FRAGMENT;
}

/* An ICMP message to a VIP: errors are about the flow they quote, the rest about its sender. */
ALWAYS_INLINE enum question parse_icmp(struct xdp_md *ctx, struct cursor *cur,
				       const struct packet *pkt, struct flow *flow)
{
	struct icmp *icmp;

	if (!TAKE(cur, icmp))
		return ASK_UNNAMED;
	if (is_echo(pkt, icmp->type))
		return ASK_ECHO;
	if (!is_error(pkt, icmp->type))
		return ASK_SERVICE;
	if (tracing)
		traced.flags |= TRACE_ICMP_ERROR;
	if (!quoted_flow(ctx, cur, pkt, flow))
		return ASK_NOBODY;
	flow->icmp = (void *)icmp - (void *)(long)ctx->data;
	return flow->protocol == pkt->protocol ? ASK_ECHO_ERROR : ASK_ERROR;
}

/* The rest of a packet for a VIP, and what its owner follows from. */
ALWAYS_INLINE enum question parse_rest(struct xdp_md *ctx, struct cursor *cur, struct packet *pkt,
				       struct flow *flow)
{
	struct ports *ports;

	if (pkt->ethertype == ETHERTYPE_IPV6 && UNLIKELY(is_extension(pkt->protocol)) &&
	    parse_extensions(ctx, cur, pkt))
		return ASK_UNNAMED;
	flow->protocol = pkt->protocol;
	if (UNLIKELY(pkt->later_fragment))
		return ASK_FIRST_FRAGMENT;
	if (pkt->protocol == PROTO_TCP || pkt->protocol == PROTO_UDP) {
		if (!TAKE(cur, ports))
			return ASK_UNNAMED;
		flow->src_port = bpf_ntohs(ports->src);
		flow->dst_port = bpf_ntohs(ports->dst);
		flow->l4 = (void *)ports - (void *)(long)ctx->data;
		return ASK_SERVICE;
	}
	if (pkt->protocol == (pkt->ethertype == ETHERTYPE_IPV4 ? PROTO_ICMP : PROTO_ICMPV6))
		return parse_icmp(ctx, cur, pkt, flow);
	return ASK_SERVICE;
}

/* Leaves a reply of full NAT, or an error about what went to the backend, to find_return. */
ALWAYS_INLINE __u32 leave_return(struct xdp_md *ctx, const struct flow *flow, const struct vip *vip,
				 int quoted, int direct)
{
	struct tcp *tcp = TCP_HEADER(ctx, flow->l4, flags);
	struct wanted *want = find_wanted();

	if (!want)
		return REASON_UNKNOWN_FLOW;
	want->key.addr_hi = flow->src_hi;
	want->key.addr_lo = flow->src_lo;
	want->key.port = flow->src_port;
	want->key.source = flow->dst_port;
	want->key.scope = vip->scope;
	want->key.protocol = flow->protocol;
	want->vip_hi = vip->addr_hi;
	want->vip_lo = vip->addr_lo;
	want->quoted = quoted;
	want->direct = direct;
	want->tcp_flags = 0;
	if (flow->protocol == PROTO_TCP && tcp) {
		want->number = bpf_ntohl(tcp->sequence);
		want->tcp_flags = tcp->flags;
	}
	return REASON_REPLIED;
}

/* The outcome by the bucket of the service or of the sender. */
ALWAYS_INLINE __u32 ask_bucket(struct xdp_md *ctx, enum question question, const struct packet *pkt,
			       struct flow *flow, struct vip *vip, __u64 published, int direct,
			       __u32 *scope)
{
	struct service *service = NULL;
	__u64 word;

	if (question == ASK_SERVICE || question == ASK_ERROR) {
		service = find_service(published, vip, flow);
		if (!service && question == ASK_SERVICE)
			question = ASK_UNNAMED;
	}
	if (service) {
		if (UNLIKELY(service->forward == FORWARD_RETURN))
			return leave_return(ctx, flow, vip, question == ASK_ERROR, direct);
		*scope = service->scope;
		if (tracing)
			traced.flags |= TRACE_SERVICE;
		flow->hash = service_hash(published, service, flow);
		word = bucket_of(service->table, flow->hash);
		/* what a peer sends to our own MAC is for us as a backend: it is never sent on */
		if (UNLIKELY(service->forward != FORWARD_LOCAL))
			return direct ? REASON_DIRECT
				      : choose(ctx, question, pkt, flow, vip, service, word);
	} else {
		if (question == ASK_UNNAMED && vip->flags & VIP_DROP_UNNAMED)
			return REASON_UNNAMED_DROPPED;
		word = sender_bucket(published, vip, flow->src_hi, flow->src_lo);
	}
	return decide(ctx, question, pkt, flow, word, direct);
}

/* An IP packet for a VIP, its fixed header parsed. */
ALWAYS_INLINE __u32 handle_vip(struct xdp_md *ctx, struct cursor *cur, struct packet *pkt,
			       struct flow *flow, struct vip *vip, __u64 published, int direct,
			       __u32 *scope)
{
	enum question question = parse_rest(ctx, cur, pkt, flow);
	__u32 outcome, ports;

	if (UNLIKELY(question == ASK_FIRST_FRAGMENT))
		flow->hash = flow_hash(published, flow->src_hi, flow->src_lo, pkt->fragment_id);
	trace_flow(pkt, flow, vip->scope, TRACE_VIP | (direct ? TRACE_DIRECT : 0));
	ports = (__u32)flow->src_port << 16 | flow->dst_port;
	if (UNLIKELY(question == ASK_FIRST_FRAGMENT)) {
		outcome = follow_fragment(pkt, flow, direct, scope);
		if (outcome == REASON_REPLIED)
			outcome = leave_return(ctx, flow, vip, 0, direct);
		else if (reason_of(outcome) == REASON_FORWARDED && is_relieved(vip, 1))
			outcome = REASON_FRAGMENT_NOT_OWNER;
		else if (reason_of(outcome) == REASON_FORWARDED && target_in(outcome) & WANTED)
			/* another processor looks for the first one's port */
			outcome = REASON_FRAGMENT_UNKNOWN;
	} else if (UNLIKELY(question == ASK_NOBODY))
		outcome = REASON_ERROR_UNKNOWN;
	else
		outcome = ask_bucket(ctx, question, pkt, flow, vip, published, direct, scope);
	if (UNLIKELY(pkt->first_fragment))
		remember_fragment(pkt, *scope, outcome, ports);
	return outcome;
}

ALWAYS_INLINE enum reason handle(struct xdp_md *ctx, __u32 *scope)
{
	struct cursor cur = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	__u64 published = read_word();
	struct packet pkt = {};
	struct eth *eth = cur.pos;
	void *l3;
	struct vip *vip;
	enum addressee to;
	struct flow flow = {};
	enum reason reason;
	int direct;
	__u32 outcome;

	if (parse_ethernet(&cur, &pkt))
		return REASON_UNPARSED;
	l3 = cur.pos;
	if (pkt.ethertype == ETHERTYPE_IPV4) {
		if (parse_ipv4(&cur, &pkt))
			return REASON_UNPARSED;
	} else if (pkt.ethertype == ETHERTYPE_IPV6) {
		if (parse_ipv6(&cur, &pkt))
			return REASON_UNPARSED;
		if (UNLIKELY(pkt.protocol == PROTO_ICMPV6)) {
			__u8 *type = cur.pos;

			if ((void *)(type + 1) <= cur.end &&
			    (*type == ICMPV6_SOLICITATION || *type == ICMPV6_ADVERTISEMENT))
				return handle_neighbor(ctx, &cur, eth, &pkt, l3, published,
						       ctx->ingress_ifindex, scope);
		}
	} else if (pkt.ethertype == ETHERTYPE_ARP) {
		return handle_arp(&cur, eth, &pkt, published, ctx->ingress_ifindex, scope);
	} else {
		return REASON_NOT_IP;
	}

	vip = find_vip(published, pkt.dst_hi, pkt.dst_lo);
	if (!vip)
		return REASON_NOT_VIP;
	if (vip->ifindex != ctx->ingress_ifindex)
		return REASON_OTHER_INTERFACE;
	*scope = vip->scope;
	to = addressee(eth, vip);
	if (to == TO_OTHER)
		return REASON_OTHER_HOST;
	direct = is_direct(published, eth, vip, to);
	flow.src_hi = pkt.src_hi;
	flow.src_lo = pkt.src_lo;
	outcome = handle_vip(ctx, &cur, &pkt, &flow, vip, published, direct, scope);
	reason = reason_of(outcome);
	if (UNLIKELY(reason == REASON_FORWARDED || reason == REASON_REPLIED)) {
		__u32 first = 0;
		struct sending *sending = bpf_map_lookup_elem(&sendings, &first);

		if (!sending)
			return REASON_NO_WAY;
		sending->hash = flow.hash;
		sending->backend = target_in(outcome) & (WANTED - 1);
		sending->returned = reason == REASON_REPLIED;
		sending->wanted = !!(target_in(outcome) & WANTED);
		sending->sourced = !!(target_in(outcome) & SOURCED);
		sending->l3 = l3 - (void *)eth;
		sending->l4 = flow.l4;
		sending->icmp = flow.icmp;
		sending->is_ipv4 = pkt.ethertype == ETHERTYPE_IPV4;
		sending->protocol = flow.protocol;
		copy_mac(sending->own_mac, vip->own_mac);
		return reason | TO_SEND;
	}
	if (verdict_of(reason) == XDP_PASS)
		set_destination(eth, vip);
	else if (UNLIKELY(reason == REASON_DELEGATED))
		send_on(eth, target_in(outcome), vip);
	else if (UNLIKELY(vip->flags & VIP_HANDED_ON) && !direct && !(eth->dst[0] & 1) &&
		 is_others(reason))
		reason = hand_on(eth, vip);
	return reason;
}

/* The long way; a function of its own, so that the short one has the registers to itself. */
__attribute__((noinline)) int long_way(struct xdp_md *ctx)
{
	__u32 scope = 0;
	enum reason reason = handle(ctx, &scope);

	if (tracing) {
		traced.reason = reason & 0xff;
		traced.scope = scope;
	}
	return (scope << 8 | (reason & 0xff)) | (reason & TO_SEND);
}

/* What the long way leaves: what is to be sent, translations, and what is for no VIP but may be a
 * NAT backend's reply.
 */
ALWAYS_INLINE int finish_long(struct xdp_md *ctx, int outcome)
{
	outcome = translate_way(ctx, send_way(ctx, outcome));
	if (tracing)
		traced.reason = outcome;
	if ((outcome & 0xff) != REASON_NOT_VIP || !reverse_kinds())
		return outcome;
	outcome = reverse_any(ctx);
	if (tracing) {
		traced.reason = outcome;
		traced.scope = outcome >> 8;
	}
	return outcome;
}

SEC("xdp.frags")
int lb_xdp(struct xdp_md *ctx)
{
	__u64 bytes = frame_length(ctx);
	struct found found = {};
	enum reason reason = common_way(ctx, &found, 0);
	__u32 scope = found.scope;

	if (UNLIKELY(reason >= UNCOMMON)) {
		int outcome = reason == FORWARDS    ? forward_way(ctx, found.region, found.hash)
			      : reason == UNSETTLED ? moving_way(ctx)
						    : UNCOMMON;

		if (reason == NO_VIP) {
			outcome = reply_way(ctx);
			if (outcome == UNCOMMON)
				outcome = reverse_way(ctx);
		}
		if (reason == FORWARDS && outcome != UNCOMMON)
			outcome |= scope << 8;
		/* what is served may change between two looks */
		else if ((outcome & 0xff) >= UNCOMMON)
			outcome = finish_long(ctx, long_way(ctx));
		scope = outcome >> 8 & 0xffff;
		reason = outcome & 0xff;
		if (directory.sample && worth_sampling(reason))
			sample(ctx, scope, reason);
	}
	count(scope, reason, bytes);
	return verdict_of(reason);
}

/*
 * Renews the lease: run by hand, attached to nothing. What lbd asks is the packet, the answer is
 * the verdict. A program, because a timer is armed by one, and because check and change must be
 * one.
 */
SEC("xdp")
int lb_lease(struct xdp_md *ctx)
{
	struct lease_request *request = (void *)(long)ctx->data;

	if ((void *)(request + 1) > (void *)(long)ctx->data_end)
		return LEASE_FAILED;
	return renew_lease(request->until, request->anew);
}

/*
 * Lets the summary of routes count for a while, run by hand as the lease is: a program, because
 * nothing else knows what time it is in jiffies.
 */
SEC("xdp")
int lb_routes(struct xdp_md *ctx)
{
	struct routes_request *request = (void *)(long)ctx->data;

	if ((void *)(request + 1) > (void *)(long)ctx->data_end)
		return LEASE_FAILED;
	*(volatile __u64 *)&directory.routes.until = bpf_jiffies64() + request->ticks;
	return LEASE_RUNS;
}

/* For a private instance: the long way only, which tells what it decides. */
SEC("xdp.frags")
int lb_trace(struct xdp_md *ctx)
{
	return verdict_of(finish_long(ctx, long_way(ctx)) & 0xff);
}

/*
 * Native XDP on a veth runs after the frame's packet type was taken from its multicast MAC, and
 * TCP drops what is not for this host. A frame whose MAC is ours now is for this host.
 */
SEC("tc")
int lb_ingress(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 ifindex = skb->ifindex;
	struct interface *interface;
	struct eth *eth = data;

	if (UNLIKELY(directory.source_blocks)) {
		int verdict = send_from_vip(skb);

		if (verdict != TC_NEXT)
			return verdict;
	}
	if (skb->pkt_type == 0 /* PACKET_HOST */)
		return reverse_kinds() ? send_held(skb) : TC_NEXT;
	if ((void *)(eth + 1) > end || eth->dst[0] & 1)
		return TC_NEXT;
	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if (interface && same_mac(eth->dst, interface->mac))
		bpf_skb_change_type(skb, 0);
	return TC_NEXT;
}

SEC("tc")
int lb_egress(struct __sk_buff *skb)
{
	__u32 scope = 0;
	enum reason reason = guard(skb, &scope);

	if (reason == GUARD_PASS)
		return TC_NEXT;
	count(scope, reason, skb->len);
	return reason == REASON_ARP_MASKED ? TC_NEXT : TC_DROP;
}
