/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Full NAT: a flow leaves for its backend from a port of the VIP, so the backend's replies come to
 * the VIP by themselves. The one method that needs state for every flow. A port of the VIP is one
 * flow's for each port of each backend; each director gives out the ports of its own blocks, so two
 * never give out the same.
 *
 * A flow is established when the client has answered what the backend sent: of TCP, by the number
 * that the backend chose. So no flood from made-up sources makes state that stays. Of UDP nothing
 * proves that; what goes on for PROVING_SECONDS is established, and makes room if need be.
 */
#pragma once

#include "exceptions.h"
#include "fragment.h"
#include "local.h"

/* In a number of a backend, where it is an outcome's target: the packet leaves from the VIP. */
#define SOURCED (1 << 23)

/* And is still to be given its place and its port, by take_source. */
#define WANTED (1 << 22)

ALWAYS_INLINE __u32 tag_of(const struct backend *backend)
{
	__u64 tag = (backend->addr_hi ^ backend->addr_lo ^ (__u64)backend->port << 48) *
		    0x9e3779b97f4a7c15ULL;

	return tag >> 32;
}

ALWAYS_INLINE __u32 place_tag(__u32 region, __u32 place)
{
	__u32 number = region * BACKENDS + place;
	struct backend *backend = bpf_map_lookup_elem(&backends, &number);

	return backend ? tag_of(backend) : 0;
}

/* Nothing but what is late comes of a flow any more. */
ALWAYS_INLINE int is_over(const struct returned *returned)
{
	__u8 both = RETURNED_CLIENT_FIN | RETURNED_BACKEND_FIN;

	return returned->flags & RETURNED_RESET || (returned->flags & both) == both;
}

ALWAYS_INLINE int is_of(const struct returned *returned, const struct noted_flow *flow)
{
	return returned->src_lo == flow->src_lo && returned->src_hi == flow->src_hi &&
	       returned->region == flow->region && returned->src_port == flow->src_port &&
	       returned->dst_port == flow->dst_port;
}

/* A moment, for what has 32 bits: in 2^20 ns, about a millisecond. */
ALWAYS_INLINE __u32 moment_of(__u64 now)
{
	return now >> 20;
}

/* Whether it is PROVING_SECONDS since a moment. */
ALWAYS_INLINE int is_past(__u32 moment, __u64 now)
{
	return moment_of(now) - moment >= moment_of(PROVING_SECONDS * NS_PER_S);
}

ALWAYS_INLINE struct noted_flow flow_of(const struct return_key *key,
					const struct returned *returned)
{
	return (struct noted_flow){
		.src_hi = returned->src_hi,
		.src_lo = returned->src_lo,
		.region = returned->region,
		.src_port = returned->src_port,
		.dst_port = returned->dst_port,
		.protocol = key->protocol,
	};
}

/* The port of an own block that a random number names; 0 when there is no block. */
ALWAYS_INLINE __u16 port_by(__u32 random)
{
	__u32 blocks = *(volatile __u64 *)&directory.source_blocks;
	__u32 index = ((random & 0xffff) * blocks >> 16) & (SOURCE_BLOCKS - 1);

	if (!blocks)
		return 0;
	barrier_var(index);
	return SOURCE_PORTS + *(volatile __u16 *)&directory.own_blocks[index] * SOURCE_BLOCK +
	       (random >> 16) % SOURCE_BLOCK;
}

/* Forgets a flow that is over, so that its port can be another's. */
ALWAYS_INLINE void forget_returned(const struct return_key *key)
{
	struct returned *old = bpf_map_lookup_elem(&returns, key);
	struct noted_flow flow;

	if (!old)
		return;
	flow = flow_of(key, old);
	bpf_map_delete_elem(&sources, &flow);
	bpf_map_delete_elem(&returns, key);
}

/*
 * For how long an established flow has been silent whose port may be another's: 0 if it may not, as
 * that of a connection that lives.
 */
ALWAYS_INLINE __u64 spare_ns(const struct return_key *key, const struct returned *found, __u64 now)
{
	__u64 last = found->seen_ns;
	struct noted_flow flow;
	struct source *source;

	if (key->protocol == PROTO_TCP) {
		if (!is_over(found) || last + PROVING_SECONDS * NS_PER_S > now)
			return 0;
	} else {
		flow = flow_of(key, found);
		source = bpf_map_lookup_elem(&sources, &flow);
		if (source && source->seen_ns > last)
			last = source->seen_ns;
		if (source && source->heard_ns > last)
			last = source->heard_ns;
	}
	return now > last ? now - last : 0;
}

/* What take_source and its parts work on: Linux 6.1 takes keys from the stack or a map only. */
ALWAYS_INLINE struct wanted *find_wanted(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&wanted, &first);
}

/*
 * The port that a new flow leaves from, which is noted then: one that nobody has, or else that of
 * the oldest flow seen that is not established, or else of one that is over, or of UDP that is
 * silent. 0: there is none.
 */
__attribute__((noinline)) int take_port(__u64 now)
{
	struct wanted *want = find_wanted();
	__u64 oldest = 0, spare = 0, age;
	__u16 waiting = 0, over = 0;
	struct returned *found;

	if (!want)
		return 0;
	want->returned.seen_ns = now;
	want->returned.src_hi = want->flow.src_hi;
	want->returned.src_lo = want->flow.src_lo;
	want->returned.region = want->flow.region;
	want->returned.expects = moment_of(now);
	want->returned.src_port = want->flow.src_port;
	want->returned.dst_port = want->flow.dst_port;
	want->returned.flags = 0;
	want->returned.place = want->place;
	for (int i = 0; i < SOURCE_TRIES; i++) {
		__u16 port = port_by(bpf_get_prandom_u32());

		if (!port)
			return 0;
		want->key.source = port;
		found = bpf_map_lookup_elem(&returns, &want->key);
		if (found) {
			age = spare_ns(&want->key, found, now);
			if (age > spare) {
				spare = age;
				over = port;
			}
			continue;
		}
		found = bpf_map_lookup_elem(&new_returns, &want->key);
		if (found) {
			age = now > found->seen_ns ? now - found->seen_ns : 0;
			if (age >= oldest) {
				oldest = age;
				waiting = port;
			}
			continue;
		}
		if (tracing ||
		    !bpf_map_update_elem(&new_returns, &want->key, &want->returned, BPF_NOEXIST))
			return port;
	}
	want->key.source = waiting ? waiting : over;
	if (!want->key.source || tracing)
		return want->key.source;
	if (!waiting)
		forget_returned(&want->key);
	return bpf_map_update_elem(&new_returns, &want->key, &want->returned, BPF_ANY)
		       ? 0
		       : want->key.source;
}

/*
 * A flow is established: it stays until it ends or is silent for too long. Without room it goes on
 * as one that is not.
 */
ALWAYS_INLINE void promote(struct wanted *want)
{
	struct news_source *item;

	if (bpf_map_update_elem(&returns, &want->key, &want->returned, BPF_ANY))
		return;
	if (bpf_map_update_elem(&sources, &want->flow, &want->source, BPF_ANY)) {
		bpf_map_delete_elem(&returns, &want->key);
		return;
	}
	item = bpf_ringbuf_reserve(&news, sizeof(*item), 0);
	if (item) {
		item->kind = NEWS_SOURCE;
		item->key = want->key;
		item->returned = want->returned;
		item->source = want->source;
		bpf_ringbuf_submit(item, BPF_RB_NO_WAKEUP);
	} else {
		__sync_fetch_and_add(&directory.untold, 1);
	}
	bpf_map_delete_elem(&new_sources, &want->flow);
	bpf_map_delete_elem(&new_returns, &want->key);
}

/* What a packet of the client means for a flow whose reply is known. */
ALWAYS_INLINE void note_closing(struct returned *returned, __u8 tcp_flags, __u8 fin, __u64 now)
{
	if (tcp_flags & TCP_FIN)
		returned->flags |= fin;
	if (tcp_flags & TCP_RST && !(returned->flags & RETURNED_RESET)) {
		returned->flags |= RETURNED_RESET;
		returned->expects = moment_of(now);
	}
	if (tcp_flags & (TCP_FIN | TCP_RST))
		returned->seen_ns = now;
}

/* Whether what the client sends proves that it heard the backend. */
ALWAYS_INLINE int proves(const struct wanted *want, const struct returned *returned, __u64 now)
{
	if (!(returned->flags & RETURNED_ANSWERED))
		return 0;
	if (want->flow.protocol != PROTO_TCP)
		return is_past(returned->expects, now);
	return want->tcp_flags & TCP_ACK && want->number == returned->expects;
}

/* Where a flow is that is known, if its backend still is; the key of its replies, too. */
ALWAYS_INLINE int is_reachable(struct wanted *want, const struct source *source)
{
	__u32 number = want->flow.region * BACKENDS + source->place;
	struct backend *backend = bpf_map_lookup_elem(&backends, &number);

	if (!backend || !backend->ifindex || tag_of(backend) != source->tag)
		return 0;
	want->key.addr_hi = backend->addr_hi;
	want->key.addr_lo = backend->addr_lo;
	want->key.port = backend->port ? backend->port : want->flow.dst_port;
	want->key.source = source->port;
	return 1;
}

/* Goes on with a flow that is known; not 0 when it begins anew. */
ALWAYS_INLINE int go_on(struct wanted *want, struct source *source, int is_new, __u64 now)
{
	struct returned *returned;

	if (!is_reachable(want, source))
		return -1;
	want->port = source->port;
	if (!is_new && !want->opens && !(want->tcp_flags & (TCP_FIN | TCP_RST))) {
		if (!tracing && !want->quoted)
			source->seen_ns = now;
		return 0;
	}
	returned = is_new ? bpf_map_lookup_elem(&new_returns, &want->key)
			  : bpf_map_lookup_elem(&returns, &want->key);
	if (!returned || !is_of(returned, &want->flow))
		return -1;
	if (want->opens && is_over(returned)) {
		/* the client opens it again; elsewhere, if new flows go elsewhere */
		if (source->place != want->place)
			return -1;
		if (!tracing)
			returned->flags = 0;
	}
	if (want->quoted || tracing)
		return 0;
	source->seen_ns = now;
	if (!is_new && !want->opens)
		note_closing(returned, want->tcp_flags, RETURNED_CLIENT_FIN, now);
	if (is_new && want->flow.protocol != PROTO_TCP)
		returned->seen_ns = now;
	if (is_new && !want->opens && proves(want, returned, now)) {
		want->source = *source;
		want->returned = *returned;
		promote(want);
	}
	return 0;
}

/*
 * The place of a packet's backend, and the port that it leaves from; or -reason. A function of its
 * own, which the verifier checks once, and which runs after the long way: together they need too
 * much stack.
 */
__attribute__((noinline)) int take_source(void)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct wanted *want = find_wanted();
	struct source *source;
	int is_new = 0, known, port;

	if (!want)
		return -REASON_NO_BACKEND;
	want->key.scope = want->scope;
	want->key.protocol = want->flow.protocol;
	source = bpf_map_lookup_elem(&sources, &want->flow);
	if (!source) {
		source = bpf_map_lookup_elem(&new_sources, &want->flow);
		is_new = 1;
	}
	known = !!source;
	if (source) {
		/* before the flow is forgotten that it was read from */
		__u16 place = source->place;

		if (!go_on(want, source, is_new, now))
			return place;
	}
	/* of a connection that another director may know, or that is long forgotten; were two
	 * directors to open one, its client would hear of two */
	if (want->quoted || want->leaves ||
	    (!known && want->flow.protocol == PROTO_TCP && !want->opens))
		return -REASON_UNKNOWN_FLOW;
	if (want->place == SLOT_NOBODY)
		return -REASON_NO_BACKEND;
	want->source.seen_ns = now;
	want->source.heard_ns = 0;
	want->source.place = want->place;
	want->source.tag = place_tag(want->flow.region, want->place);
	if (!is_reachable(want, &want->source))
		return -REASON_NO_WAY;
	port = take_port(now);
	if (!port)
		return -REASON_NO_PORT;
	want->source.port = want->port = port;
	if (tracing)
		return want->place;
	if (known && !is_new)
		bpf_map_delete_elem(&sources, &want->flow);
	bpf_map_update_elem(&new_sources, &want->flow, &want->source, BPF_ANY);
	return want->place;
}

/* The later fragments go where the first one goes. A function of its own for its stack. */
__attribute__((noinline)) int follow_source(int place)
{
	struct wanted *want = find_wanted();
	struct fragment *first;

	if (!want)
		return 0;
	first = bpf_map_lookup_elem(&fragments, &want->fragment);
	if (!first)
		return 0;
	/* one store, as another processor may look */
	if (place < 0)
		first->outcome = FRAGMENT_DROPPED;
	else
		first->target = (want->flow.region * BACKENDS + (place & (BACKENDS - 1))) | SOURCED;
	return 0;
}

/* What the backend says means for its flow. */
ALWAYS_INLINE void note_reply(struct returned *returned, const struct wanted *want, int is_new)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	if (!is_new) {
		returned->seen_ns = now;
		/* somebody else said that it was, in the client's name */
		if (returned->flags & RETURNED_RESET && is_past(returned->expects, now))
			returned->flags &= ~RETURNED_RESET;
		note_closing(returned, want->tcp_flags, RETURNED_BACKEND_FIN, now);
	} else if (want->key.protocol != PROTO_TCP) {
		returned->seen_ns = now;
		returned->flags |= RETURNED_ANSWERED;
	} else if ((want->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
		returned->expects = want->number + 1;
		returned->flags |= RETURNED_ANSWERED;
	}
}

/* As what the backend's answers are counted; 0: they are not. */
ALWAYS_INLINE __u32 watched_by(const struct returned *returned)
{
	__u32 number = returned->region * BACKENDS + returned->place;
	struct backend *backend = bpf_map_lookup_elem(&backends, &number);

	return backend && backend->syns & SYNS_COUNTED ? number + 1 : 0;
}

/*
 * Whose reply it is, and in memory of the processor's own what becomes of it: the owner of the
 * client's bucket sends it on. The scope of its service << 8 | the reason; 0 when it is none of a
 * VIP's. A function of its own, which runs after the long way, as take_source does.
 */
__attribute__((noinline)) int find_return(void)
{
	struct wanted *want = find_wanted();
	__u64 published = read_word(), word;
	struct returned *returned;
	struct service *service;
	struct translation *to;
	struct flow flow = {};
	struct vip *vip;
	__u32 first = 0;
	int is_new = 0;

	if (!want)
		return 0;
	vip = find_vip(published, want->vip_hi, want->vip_lo);
	to = bpf_map_lookup_elem(&translations, &first);
	if (!vip || !to)
		return 0;
	returned = bpf_map_lookup_elem(&returns, &want->key);
	if (!returned) {
		returned = bpf_map_lookup_elem(&new_returns, &want->key);
		is_new = 1;
	}
	if (!returned)
		return vip->scope << 8 | REASON_UNKNOWN_FLOW;
	flow.src_hi = returned->src_hi;
	flow.src_lo = returned->src_lo;
	flow.src_port = returned->src_port;
	flow.dst_port = returned->dst_port;
	flow.protocol = want->key.protocol;
	service = find_service(published, vip, &flow);
	if (!service || service->forward == FORWARD_RETURN)
		return vip->scope << 8 | REASON_UNKNOWN_FLOW;
	word = bucket_of(service->table, service_hash(published, service, &flow));
	if (!want->direct && !is_ours(word))
		return service->scope << 8 |
		       (want->quoted ? REASON_ERROR_NOT_OWNER : REASON_NOT_OWNER);
	if (!want->direct && is_relieved(vip, 1))
		return service->scope << 8 |
		       (want->quoted ? REASON_ERROR_NOT_OWNER : REASON_LAPSED);
	if (!tracing && !want->quoted)
		note_reply(returned, want, is_new);
	to->addr_hi = flow.src_hi;
	to->addr_lo = flow.src_lo;
	to->port = flow.src_port;
	to->other_hi = vip->addr_hi;
	to->other_lo = vip->addr_lo;
	to->other_port = flow.dst_port;
	to->is_both = 1;
	to->watched = watched_by(returned);
	return service->scope << 8 | REASON_REPLIED;
}

/* What came to this node alone, and is another's: as for what clients send. */
__attribute__((noinline)) int hand_on_return(struct xdp_md *ctx, __u32 reason)
{
	struct eth *eth = (void *)(long)ctx->data;
	struct wanted *want = find_wanted();
	struct vip *vip;

	if (!want || want->direct || !is_others(reason) ||
	    (void *)(eth + 1) > (void *)(long)ctx->data_end)
		return reason;
	vip = find_vip(read_word(), want->vip_hi, want->vip_lo);
	if (!vip || !(vip->flags & VIP_HANDED_ON) || eth->dst[0] & 1)
		return reason;
	return hand_on(eth, vip);
}
