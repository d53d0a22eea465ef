/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The owner of a flow sends its packets to the backend of the flow's slot. All directors have equal
 * choices, so it does not matter which of them a packet meets, and none remembers a flow whose slot
 * is at rest.
 */
#pragma once

#include "attempts.h"
#include "count.h"
#include "decide.h"
#include "encap.h"
#include "exceptions.h"
#include "fragment.h"
#include "nat.h"
#include "routes.h"
#include "schedule.h"
#include "sources.h"

/* The slot of a flow, from other bits of its hash than the bucket. */
ALWAYS_INLINE __u32 slot_of(__u64 hash)
{
	return ((hash >> 32) * SLOTS) >> 32;
}

ALWAYS_INLINE __u32 slot_word(__u32 region, __u32 slot)
{
	__u32 key = region * CHOICE_WORDS + slot / 2;
	__u64 *pair = bpf_map_lookup_elem(&choices, &key);

	return pair ? *(volatile __u64 *)pair >> (slot % 2 * 32) : SLOT_NOBODY;
}

/* Leaves a packet of full NAT to take_source: it goes to a place if its flow is new. */
ALWAYS_INLINE __u32 choose_source(struct xdp_md *ctx, enum question question,
				  const struct packet *pkt, const struct flow *flow,
				  const struct service *service, __u32 place, __u64 word)
{
	struct tcp *tcp = TCP_HEADER(ctx, flow->l4, flags);
	struct wanted *want = find_wanted();

	if (!want)
		return REASON_NO_BACKEND;
	want->flow.src_hi = flow->src_hi;
	want->flow.src_lo = flow->src_lo;
	want->flow.region = service->region;
	want->flow.src_port = flow->src_port;
	want->flow.dst_port = flow->dst_port;
	want->flow.protocol = flow->protocol;
	want->place = place;
	want->scope = service->selector >> 32;
	want->quoted = question != ASK_SERVICE;
	want->tcp_flags = want->opens = 0;
	want->leaves = verb_of(word) == VERB_DELEGATE;
	if (flow->protocol == PROTO_TCP && !want->quoted && tcp) {
		want->number = bpf_ntohl(tcp->acknowledgment);
		want->tcp_flags = tcp->flags;
		want->opens = opens(ctx, flow->l4);
	}
	want->is_first_fragment = pkt->first_fragment;
	if (want->is_first_fragment)
		fragment_key(pkt, &want->fragment);
	return OUTCOME(REASON_FORWARDED, (service->region * BACKENDS) | SOURCED | WANTED);
}

/* The place of a packet, where its slot does not tell alone. */
ALWAYS_INLINE __u32 ask_flow(struct xdp_md *ctx, enum question question, const struct flow *flow,
			     const struct service *service, __u32 slot, __u32 choice, __u64 word,
			     int watched)
{
	__u32 first = 0;
	struct asked *asked = bpf_map_lookup_elem(&questions, &first);
	int is_segment = flow->protocol == PROTO_TCP && question == ASK_SERVICE, moves;

	if (!asked)
		return SLOT_NOBODY;
	asked->flow = (struct noted_flow){
		.src_hi = flow->src_hi,
		.src_lo = flow->src_lo,
		.region = service->region,
		.src_port = flow->src_port,
		.dst_port = flow->dst_port,
		.protocol = flow->protocol,
	};
	asked->slot = slot;
	asked->slot_word = choice;
	asked->idle = flow->protocol == PROTO_TCP ? service->tcp_idle : service->udp_idle;
	asked->opens = is_segment && opens(ctx, flow->l4);
	asked->closes = is_segment ? closes(ctx, flow->l4) : 0;
	asked->quoted = question != ASK_SERVICE;
	asked->watched = watched;
	if (!(choice >> SLOT_FLAGS_SHIFT & SLOT_SCHEDULED))
		return place_in_transition(asked);
	if (watched) /* its owner schedules it */
		return SLOT_NOBODY;
	/* two directors may get packets of a bucket that moves, and choose alike by slots only */
	moves = verb_of(word) != VERB_ACCEPT ||
		flags_of(word) & (flow->protocol == PROTO_TCP ? BUCKET_CONTESTED : 0xff);
	asked->scheduler = moves ? SCHEDULER_MAGLEV : service->scheduler;
	asked->client_hi = flow->src_hi & service->source_mask_hi;
	asked->client_lo = flow->src_lo & service->source_mask_lo;
	asked->pool = service->pool;
	asked->affinity = service->affinity;
	asked->sorry = service->sorry;
	asked->overflow = service->overflow;
	return scheduled_place(asked);
}

ALWAYS_INLINE enum reason reason_not_ours(enum question question, __u64 word)
{
	return verb_of(word) == VERB_IGNORE ? reason_others(question) : REASON_NO_OWNER;
}

/*
 * The outcome for a packet of a flow that a service forwards. Who may be next to have the bucket of
 * a connection that opens while slots move sees the SYN, too, and leaves a glimpse of it.
 */
ALWAYS_INLINE __u32 choose(struct xdp_md *ctx, enum question question, const struct packet *pkt,
			   const struct flow *flow, const struct vip *vip,
			   const struct service *service, __u64 word)
{
	__u32 slot = slot_of(flow->hash), choice, place, number;
	int watched = !is_ours(word);

	if (watched && (!service->watches || question != ASK_SERVICE || !opens(ctx, flow->l4)))
		return reason_not_ours(question, word);
	if (!watched && is_relieved(vip, flow->protocol == PROTO_TCP && question == ASK_SERVICE &&
						 !opens(ctx, flow->l4))) {
		if (tracing)
			traced.flags |= TRACE_LAPSED;
		return question == ASK_SERVICE ? REASON_LAPSED : reason_others(question);
	}
	choice = slot_word(service->region, slot);
	place = choice & SLOT_NOBODY;
	if (UNLIKELY(choice >> SLOT_FLAGS_SHIFT & ~SLOT_SOURCES)) {
		place = ask_flow(ctx, question, flow, service, slot, choice, word, watched);
		if (place == PLACE_FULL)
			return REASON_FULL;
		place &= SLOT_NOBODY;
	}
	if (watched)
		return reason_not_ours(question, word);
	number = service->region * BACKENDS + place;
	if (tracing) {
		traced.flags |= TRACE_SLOT | (place == SLOT_NOBODY ? 0 : TRACE_BACKEND);
		traced.slot = slot;
		traced.slot_word = choice;
		traced.backend = number;
	}
	if (UNLIKELY(choice >> SLOT_FLAGS_SHIFT & SLOT_SOURCES))
		return choose_source(ctx, question, pkt, flow, service, place, word);
	return place == SLOT_NOBODY ? REASON_NO_BACKEND : OUTCOME(REASON_FORWARDED, number);
}

/* Whether a common packet is a SYN, or may be; then there may be more to do with it. */
ALWAYS_INLINE int may_open(const struct xdp_md *ctx, int is_ipv4)
{
	struct eth *eth = (void *)(long)ctx->data;
	struct tcp *tcp = (void *)(eth + 1) + (is_ipv4 ? sizeof(struct ipv4) : sizeof(struct ipv6));

	return (void *)(tcp + 1) > (void *)(long)ctx->data_end || tcp->flags & TCP_SYN;
}

struct mss_option {
	__u8 kind;
	__u8 length;
	__be16 mss;
};

enum tcp_option { OPTION_END, OPTION_NOTHING, OPTION_MSS };

#define MAX_OPTIONS 40 /* bytes, and so options */

/*
 * Cuts the maximum segment size that a SYN offers, so that what the other side sends fits into the
 * tunnel. RFC 9293 section 3.2: it may be anywhere among the options.
 */
__attribute__((noinline)) int clamp_mss(struct xdp_md *ctx, __u32 l4, __u32 mss)
{
	struct mss_option option;
	__u16 from, to = bpf_htons(mss);
	__sum16 checksum;
	struct tcp tcp;
	__u32 at, end;

	if (bpf_xdp_load_bytes(ctx, l4, &tcp, sizeof(tcp)) || !(tcp.flags & TCP_SYN))
		return 0;
	at = l4 + sizeof(tcp);
	end = l4 + (tcp.offset >> 4) * 4;
	for (int i = 0; i < MAX_OPTIONS; i++) {
		if (at + sizeof(option) > end ||
		    bpf_xdp_load_bytes(ctx, at, &option, sizeof(option)) ||
		    option.kind == OPTION_END)
			return 0;
		if (option.kind == OPTION_NOTHING) {
			at++;
			continue;
		}
		if (option.kind == OPTION_MSS && option.length == sizeof(option))
			break;
		if (option.length < 2)
			return 0;
		at += option.length;
	}
	if (option.kind != OPTION_MSS || bpf_ntohs(option.mss) <= mss)
		return 0;
	from = option.mss;
	checksum = tcp.checksum;
	bpf_xdp_store_bytes(ctx, at + __builtin_offsetof(struct mss_option, mss), &to, sizeof(to));
	/* the sum is over even places */
	if ((at - l4) % 2)
		checksum = changed(checksum, bpf_htons(from), bpf_htons(to));
	else
		checksum = changed(checksum, from, to);
	bpf_xdp_store_bytes(ctx, l4 + __builtin_offsetof(struct tcp, checksum), &checksum,
			    sizeof(checksum));
	return 0;
}

/*
 * What translate_way is to do when the stack of the long way is free again: in the outcome's bit,
 * and in memory of the processor's own.
 */
#define TO_TRANSLATE (1 << 24)
/* And that the packet is still to be sent to its backend. */
#define TO_SEND (1 << 25)

/* Whether all is there that a turn to a NAT backend changes. */
ALWAYS_INLINE int is_translatable(struct xdp_md *ctx, const struct sending *sending)
{
	__u32 sum = sum_offset(sending->protocol);

	return !sending->l4 || !sum ||
	       sending->l4 + sum + sizeof(__sum16) <=
		       packet_limit(ctx, sending->l3, sending->is_ipv4);
}

/* Leaves the turn to the backend of a packet of the flow, or of an error about it. */
ALWAYS_INLINE int leave_translation(struct xdp_md *ctx, const struct sending *sending,
				    const struct backend *backend)
{
	__u32 first = 0;
	__be64 vip6[2];
	__be32 vip4;
	struct translation *to = bpf_map_lookup_elem(&translations, &first);

	if (!to)
		return -1;
	to->addr_hi = backend->addr_hi;
	to->addr_lo = backend->addr_lo;
	to->l3 = sending->l3;
	to->l4 = sending->icmp ? sending->icmp : sending->l4;
	to->port = backend->port;
	to->is_ipv4 = sending->is_ipv4;
	to->end = END_DESTINATION;
	to->is_error = !!sending->icmp;
	to->protocol = !sending->icmp ? sending->protocol : to->is_ipv4 ? PROTO_ICMP : PROTO_ICMPV6;
	to->is_both = sending->sourced;
	if (!to->is_both)
		return 0;
	to->other_port = sending->source;
	if (to->is_ipv4) {
		if (bpf_xdp_load_bytes(ctx, to->l3 + __builtin_offsetof(struct ipv4, dst), &vip4,
				       sizeof(vip4)))
			return -1;
		to->other_lo = bpf_ntohl(vip4);
	} else {
		if (bpf_xdp_load_bytes(ctx, to->l3 + __builtin_offsetof(struct ipv6, dst), vip6,
				       sizeof(vip6)))
			return -1;
		to->other_hi = bpf_be64_to_cpu(vip6[0]);
		to->other_lo = bpf_be64_to_cpu(vip6[1]);
	}
	return 0;
}

/* The outcome of the long way, where a NAT backend's packet has its headers still to be turned. */
ALWAYS_INLINE int translate_way(struct xdp_md *ctx, int outcome)
{
	__u32 first = 0;
	struct translation *to;

	if (!(outcome & TO_TRANSLATE))
		return outcome;
	to = bpf_map_lookup_elem(&translations, &first);
	if (!to || translate_any(ctx, to))
		return (outcome & 0xffff00) | REASON_NOT_TRANSLATED;
	if (to->is_both) {
		to->addr_hi = to->other_hi;
		to->addr_lo = to->other_lo;
		to->port = to->other_port;
		to->end = to->end == END_SOURCE ? END_DESTINATION : END_SOURCE;
		if (translate_any(ctx, to))
			return (outcome & 0xffff00) | REASON_NOT_TRANSLATED;
	}
	return outcome & 0xffffff;
}

/* By which interface a frame leaves that is finished. */
ALWAYS_INLINE enum reason leave(const struct xdp_md *ctx, const struct backend *backend)
{
	if (backend->ifindex == ctx->ingress_ifindex)
		return REASON_FORWARDED;
	bpf_redirect(backend->ifindex, 0);
	return REASON_REDIRECTED;
}

/*
 * Sends any packet to a backend, or an error to the client. All of it is decided before the first
 * byte changes. A function of its own, which the verifier checks once.
 */
__attribute__((noinline)) int send_away(struct xdp_md *ctx, struct sending *sending)
{
	struct inner inner = {};
	struct backend *backend;
	struct ipv4 *v4;
	struct ipv6 *v6;
	struct eth *eth;
	__u32 l3, key, headers = 0;
	__u8 hops;

	if (!sending)
		return REASON_NO_WAY;
	key = sending->backend;
	backend = bpf_map_lookup_elem(&backends, &key);
	l3 = sending->l3;
	if (!backend || !backend->ifindex)
		return REASON_NO_WAY;
	eth = (void *)(long)ctx->data;
	v4 = (void *)(type_before(eth, l3) + 1);
	v6 = (void *)v4;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return REASON_NO_WAY;
	inner.hash = sending->hash;
	if (sending->is_ipv4) {
		if ((void *)(v4 + 1) > (void *)(long)ctx->data_end)
			return REASON_NO_WAY;
		hops = v4->ttl;
		inner.protocol = PROTO_IPIP;
		inner.tos = v4->tos;
		inner.length = bpf_ntohs(v4->length);
	} else {
		if ((void *)(v6 + 1) > (void *)(long)ctx->data_end)
			return REASON_NO_WAY;
		hops = v6->hop_limit;
		inner.protocol = PROTO_IPV6;
		inner.tos = bpf_ntohl(v6->version_class_flow) >> 20;
		inner.length = sizeof(*v6) + bpf_ntohs(v6->payload_length);
	}
	if (hops <= 1)
		return answer_expired(ctx, sending);
	if (backend->method == FORWARD_NAT && !is_translatable(ctx, sending))
		return REASON_NOT_TRANSLATED;
	if (backend->method == FORWARD_TUNNEL)
		headers = tunnel_headers(backend);
	if (headers && inner.length + headers > backend->mtu)
		return answer_too_big(ctx, sending, backend->mtu - headers);
	if (sending->is_ipv4)
		decrement_ttl(v4);
	else
		v6->hop_limit--;
	copy_macs(eth, backend->mac);
	if (backend->mss && sending->l4 && sending->protocol == PROTO_TCP)
		clamp_mss(ctx, sending->l4, backend->mss);
	if (backend->syns & SYNS_COUNTED && sending->l4 && sending->protocol == PROTO_TCP)
		note_attempt(ctx, key + 1, sending->l4);
	if (headers && encapsulate(ctx, backend, l3, &inner))
		return REASON_TOO_BIG;
	if (backend->method == FORWARD_NAT)
		return leave_translation(ctx, sending, backend)
			       ? REASON_NO_WAY
			       : TO_TRANSLATE | leave(ctx, backend);
	return leave(ctx, backend);
}

/* The next hop of a reply of full NAT, before it is translated: what bpf_fib_lookup says of it. */
ALWAYS_INLINE long find_client(struct xdp_md *ctx, const struct translation *to,
			       const struct ipv4 *v4, const struct ipv6 *v6,
			       struct bpf_fib_lookup *route)
{
	__be64 *src = (void *)route->ipv6_src, *dst = (void *)route->ipv6_dst;
	const struct hop *hop;

	route->ifindex = ctx->ingress_ifindex;
	route->l4_protocol = to->protocol;
	if (v4) {
		route->family = AF_INET;
		route->tos = v4->tos;
		route->tot_len = bpf_ntohs(v4->length);
		route->ipv4_src = bpf_htonl(to->other_lo);
		route->ipv4_dst = bpf_htonl(to->addr_lo);
		hop = known_hop4(ctx->ingress_ifindex, route->ipv4_dst, route->tot_len);
	} else {
		route->family = AF_INET6;
		route->tot_len = bpf_ntohs(v6->payload_length) + sizeof(*v6);
		src[0] = bpf_cpu_to_be64(to->other_hi);
		src[1] = bpf_cpu_to_be64(to->other_lo);
		dst[0] = bpf_cpu_to_be64(to->addr_hi);
		dst[1] = bpf_cpu_to_be64(to->addr_lo);
		hop = known_hop6(ctx->ingress_ifindex, dst, route->tot_len);
	}
	if (!hop)
		return bpf_fib_lookup(ctx, route, sizeof(*route), 0);
	copy_mac(route->dmac, hop->mac);
	copy_mac(route->smac, hop->own_mac);
	route->ifindex = hop->ifindex;
	return BPF_FIB_LKUP_RET_SUCCESS;
}

/*
 * Sends a reply of full NAT to its client, or an error to the backend. All of it is decided before
 * the first byte changes. Where the kernel has no MAC for the next hop yet, lb_ingress sends it.
 */
__attribute__((noinline)) int send_back(struct xdp_md *ctx, struct sending *sending)
{
	struct bpf_fib_lookup route = {};
	struct translation *to;
	__u32 first = 0;
	struct ipv4 *v4;
	struct ipv6 *v6;
	struct eth *eth;
	long found;

	if (!sending)
		return REASON_NO_WAY;
	to = bpf_map_lookup_elem(&translations, &first);
	if (!to)
		return REASON_NO_WAY;
	to->l3 = sending->l3;
	to->l4 = sending->icmp ? sending->icmp : sending->l4;
	to->is_ipv4 = sending->is_ipv4;
	to->end = END_DESTINATION;
	to->is_error = !!sending->icmp;
	to->protocol = !sending->icmp ? sending->protocol : to->is_ipv4 ? PROTO_ICMP : PROTO_ICMPV6;
	if (to->watched)
		note_any(ctx, to);
	eth = (void *)(long)ctx->data;
	v4 = (void *)(type_before(eth, sending->l3) + 1);
	v6 = (void *)v4;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end ||
	    (void *)(v4 + 1) > (void *)(long)ctx->data_end)
		return REASON_NO_WAY;
	if (!is_translatable(ctx, sending))
		return REASON_NOT_TRANSLATED;
	if (sending->is_ipv4) {
		if (v4->ttl <= 1)
			return answer_expired(ctx, sending);
		found = find_client(ctx, to, v4, NULL, &route);
	} else {
		if ((void *)(v6 + 1) > (void *)(long)ctx->data_end)
			return REASON_NO_WAY;
		if (v6->hop_limit <= 1)
			return answer_expired(ctx, sending);
		found = find_client(ctx, to, NULL, v6, &route);
	}
	if (found == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return answer_too_big(ctx, sending, route.mtu_result);
	if (found && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return REASON_NO_WAY;
	if (sending->is_ipv4)
		decrement_ttl(v4);
	else
		v6->hop_limit--;
	if (found) {
		copy_mac(eth->dst, sending->own_mac);
		return TO_TRANSLATE | REASON_REPLY_HELD;
	}
	return TO_TRANSLATE | send_reply(ctx, eth, route.dmac, route.smac, route.ifindex);
}

/* Gives a packet of full NAT its backend and its port; 0, or the reason why it has none. */
ALWAYS_INLINE int source_way(struct sending *sending)
{
	struct wanted *want = find_wanted();
	int place;

	if (!want)
		return REASON_NO_BACKEND;
	place = take_source();
	if (place >= 0) {
		sending->backend = want->flow.region * BACKENDS + place;
		sending->source = want->port;
	}
	if (tracing && place >= 0) {
		traced.flags |= TRACE_BACKEND;
		traced.backend = sending->backend;
		traced.source = want->port;
	}
	if (want->is_first_fragment)
		follow_source(place);
	return place < 0 ? -place : 0;
}

/* What becomes of a reply of full NAT: its scope << 8 | the reason. */
ALWAYS_INLINE int return_way(struct xdp_md *ctx, struct sending *sending)
{
	int found = find_return(), scope = found & 0xffff00, reason = found & 0xff;

	reason = reason == REASON_REPLIED ? send_back(ctx, sending) : hand_on_return(ctx, reason);
	if (tracing)
		traced.scope = scope >> 8;
	return scope | reason;
}

/* The rest of the long way, if it says so. */
ALWAYS_INLINE int send_way(struct xdp_md *ctx, int outcome)
{
	__u32 first = 0;
	struct sending *sending;
	int result = 0;

	if (!(outcome & TO_SEND))
		return outcome;
	outcome &= 0xffff00;
	sending = bpf_map_lookup_elem(&sendings, &first);
	if (!sending)
		return outcome | REASON_NO_WAY;
	if (sending->returned)
		return return_way(ctx, sending);
	if (sending->wanted)
		result = source_way(sending);
	if (!result)
		result = send_away(ctx, sending);
	return outcome | result;
}

/* What a tunnel takes from a common packet. */
ALWAYS_INLINE void describe_inner(struct inner *inner, const struct ipv4 *v4, const struct ipv6 *v6)
{
	inner->protocol = v4 ? PROTO_IPIP : PROTO_IPV6;
	inner->tos = v4 ? v4->tos : bpf_ntohl(v6->version_class_flow) >> 20;
	inner->length = v4 ? bpf_ntohs(v4->length) : sizeof(*v6) + bpf_ntohs(v6->payload_length);
}

/* A common packet, one of v4 and v6 NULL, which is known when this is compiled. */
ALWAYS_INLINE enum reason send_common(struct xdp_md *ctx, const struct backend *backend,
				      struct eth *eth, struct ipv4 *v4, struct ipv6 *v6, __u64 hash)
{
	struct ports *ports = v4 ? (void *)(v4 + 1) : (void *)(v6 + 1);
	__u8 protocol = v4 ? v4->protocol : v6->next;
	__sum16 *sum;

	if (backend->method == FORWARD_TUNNEL) {
		struct inner inner = {.hash = hash};

		describe_inner(&inner, v4, v6);
		if (inner.length + tunnel_headers(backend) > backend->mtu)
			return UNCOMMON;
		if (v4)
			decrement_ttl(v4);
		else
			v6->hop_limit--;
		if (encapsulate(ctx, backend, sizeof(*eth), &inner))
			return REASON_TOO_BIG;
		return leave(ctx, backend);
	}
	if (backend->method == FORWARD_NAT) {
		struct turn turn = {
			.addr_hi = backend->addr_hi,
			.addr_lo = backend->addr_lo,
			.port = backend->port,
			.header_change = backend->header_sum,
			.change = backend->change,
		};

		sum = transport_sum(ports, protocol, (void *)(long)ctx->data_end);
		if (!sum)
			return UNCOMMON;
		if (v4)
			turn4(v4, ports, sum, END_DESTINATION, &turn);
		else
			turn6(v6, ports, sum, END_DESTINATION, &turn);
	} else if (v4) {
		decrement_ttl(v4);
	} else {
		v6->hop_limit--;
	}
	copy_macs(eth, backend->mac);
	return leave(ctx, backend);
}

/*
 * The rest of the short way, for a common packet that goes to a backend: the one of its slot, if
 * that is at rest and nothing else is special; else UNCOMMON. Not a function of its own: a call is
 * a third of what all of it costs.
 */
ALWAYS_INLINE int forward_way(struct xdp_md *ctx, __u32 region, __u64 hash)
{
	struct eth *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ipv4 *v4 = (void *)(eth + 1);
	struct ipv6 *v6 = (void *)(eth + 1);
	__u32 choice = slot_word(region, slot_of(hash)), key;
	struct backend *backend;
	int is_ipv4;

	/* flags, or nobody's place */
	if (choice >> SLOT_FLAGS_SHIFT || (choice & SLOT_NOBODY) == SLOT_NOBODY)
		return UNCOMMON;
	key = region * BACKENDS + (choice & SLOT_NOBODY);
	backend = bpf_map_lookup_elem(&backends, &key);
	if (!backend || !backend->ifindex || (void *)(v4 + 1) + sizeof(struct ports) > end)
		return UNCOMMON;
	is_ipv4 = eth->type == bpf_htons(ETHERTYPE_IPV4);
	if (backend->syns && may_open(ctx, is_ipv4))
		return UNCOMMON;
	if (is_ipv4)
		return v4->ttl <= 1 ? UNCOMMON : send_common(ctx, backend, eth, v4, NULL, hash);
	if ((void *)(v6 + 1) + sizeof(struct ports) > end || v6->hop_limit <= 1)
		return UNCOMMON;
	return send_common(ctx, backend, eth, NULL, v6, hash);
}
