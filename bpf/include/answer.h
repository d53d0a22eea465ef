/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP errors that the owner of a flow sends in the VIP's name, about packets that it cannot send
 * on: no stack would, because for it they are at their end.
 */
#pragma once

#include "csum.h"
#include "local.h"

#define MAX_L3 (sizeof(struct eth) + MAX_VLANS * sizeof(struct vlan))

/* Where the type is that says what is at l3; masked, so that the verifier knows its bounds. */
ALWAYS_INLINE __be16 *type_before(struct eth *eth, __u32 l3)
{
	__u32 at = (l3 - sizeof(__be16)) & 31;

	barrier_var(at);
	return (void *)eth + at;
}
_Static_assert(MAX_L3 < 32, "an offset is not changed by the mask");

/* At most ANSWERS in about a second, all processors together. */
ALWAYS_INLINE int may_answer(void)
{
	__u64 second = bpf_ktime_get_coarse_ns() >> 30 << 32;
	__u64 answers = *(volatile __u64 *)&directory.answers;

	if (tracing)
		return 1;
	if (answers >> 32 << 32 != second) {
		*(volatile __u64 *)&directory.answers = second + 1;
		return 1;
	}
	if ((__u32)answers >= ANSWERS)
		return 0;
	__sync_fetch_and_add(&directory.answers, 1);
	return 1;
}

/* The tags of a frame whose data were moved by some bytes; its new Ethernet header is at eth. */
ALWAYS_INLINE void move_tags(struct eth *eth, __u32 by, __u32 l3)
{
	const __u32 *from = (void *)&eth->type + by;
	__u32 *to = (void *)&eth->type;

	if (l3 > sizeof(*eth))
		to[0] = from[0];
	if (l3 > sizeof(*eth) + sizeof(struct vlan))
		to[1] = from[1];
}

struct error {
	__u8 type;
	__u8 code;
	__u32 rest; /* of the header */
};

struct error4 {
	struct ipv4 ip;
	struct icmp icmp;
	struct ipv4 quoted;
};

struct error6 {
	struct ipv6 ip;
	struct icmp icmp;
	struct ipv6 quoted;
};

#define ERROR_HEADERS4 (sizeof(struct ipv4) + sizeof(struct icmp))
#define ERROR_HEADERS6 (sizeof(struct ipv6) + sizeof(struct icmp))

/*
 * Makes room for the headers of an error before the first bytes of the packet, how many is known
 * when this is compiled, and writes the Ethernet header: NULL when there is no room or too little
 * to quote.
 */
ALWAYS_INLINE struct eth *make_room(struct xdp_md *ctx, const struct sending *sending, __u32 l3,
				    __u32 headers, __u32 quote)
{
	int shrink = (int)(l3 + quote) - (int)bpf_xdp_get_buff_len(ctx);
	struct eth *eth;

	if (shrink > 0 || bpf_xdp_adjust_tail(ctx, shrink) ||
	    bpf_xdp_adjust_head(ctx, -(int)headers))
		return NULL;
	eth = (void *)(long)ctx->data;
	if ((void *)eth + headers + MAX_L3 > (void *)(long)ctx->data_end)
		return NULL;
	copy_mac(eth->dst, ((struct eth *)((void *)eth + headers))->src);
	copy_mac(eth->src, sending->own_mac);
	move_tags(eth, headers, l3);
	return eth;
}

ALWAYS_INLINE int answer4(struct xdp_md *ctx, const struct sending *sending, __u32 l3,
			  const struct error *error, __u32 quote)
{
	struct eth *eth = make_room(ctx, sending, l3, ERROR_HEADERS4, quote);
	struct error4 *out;
	__be16 *type;

	if (!eth)
		return -1;
	type = type_before(eth, l3);
	out = (void *)(type + 1);
	if ((void *)out + ERROR_HEADERS4 + quote > (void *)(long)ctx->data_end)
		return -1;
	*type = bpf_htons(ETHERTYPE_IPV4);
	out->ip.version_ihl = 0x45;
	out->ip.tos = 0xc0; /* internetwork control: RFC 1812 section 4.3.2.5 */
	out->ip.length = bpf_htons(ERROR_HEADERS4 + quote);
	out->ip.id = 0;
	out->ip.fragment = bpf_htons(IPV4_DONT);
	out->ip.ttl = 64;
	out->ip.protocol = PROTO_ICMP;
	out->ip.src = out->quoted.dst;
	out->ip.dst = out->quoted.src;
	out->ip.checksum = 0;
	out->ip.checksum = fold(bpf_csum_diff(NULL, 0, (void *)&out->ip, sizeof(out->ip), 0));
	out->icmp.type = error->type;
	out->icmp.code = error->code;
	out->icmp.rest = bpf_htonl(error->rest);
	out->icmp.checksum = 0;
	out->icmp.checksum =
		fold(bpf_csum_diff(NULL, 0, (void *)&out->icmp, sizeof(out->icmp) + quote, 0));
	return 0;
}

ALWAYS_INLINE int answer6(struct xdp_md *ctx, const struct sending *sending, __u32 l3,
			  const struct error *error, __u32 quote)
{
	struct eth *eth = make_room(ctx, sending, l3, ERROR_HEADERS6, quote);
	struct error6 *out;
	__be16 *type;
	__u64 sum;

	if (!eth)
		return -1;
	type = type_before(eth, l3);
	out = (void *)(type + 1);
	if ((void *)out + ERROR_HEADERS6 + quote > (void *)(long)ctx->data_end)
		return -1;
	*type = bpf_htons(ETHERTYPE_IPV6);
	out->ip.version_class_flow = bpf_htonl(6U << 28);
	out->ip.payload_length = bpf_htons(sizeof(out->icmp) + quote);
	out->ip.next = PROTO_ICMPV6;
	out->ip.hop_limit = 64;
	out->ip.src[0] = out->quoted.dst[0];
	out->ip.src[1] = out->quoted.dst[1];
	out->ip.dst[0] = out->quoted.src[0];
	out->ip.dst[1] = out->quoted.src[1];
	out->icmp.type = error->type;
	out->icmp.code = error->code;
	out->icmp.rest = bpf_htonl(error->rest);
	out->icmp.checksum = 0;
	sum = (__u64)bpf_htonl(sizeof(out->icmp) + quote) + bpf_htonl(PROTO_ICMPV6);
	sum += (__u32)bpf_csum_diff(NULL, 0, (void *)out->ip.src, 2 * sizeof(out->ip.src), 0);
	sum += (__u32)bpf_csum_diff(NULL, 0, (void *)&out->icmp, sizeof(out->icmp) + quote, 0);
	out->icmp.checksum = fold(sum);
	return 0;
}

/* What is quoted: a multiple of 4, with the ICMP header at most the 512 bytes that are summed. */
#define QUOTE_LONG 504
#define QUOTE_SHORT4 (sizeof(struct ipv4) + 8) /* RFC 792 */
#define QUOTE_SHORT6 (sizeof(struct ipv6) + 8)

/* The packet's way ends here: time exceeded. Of its own, like all that few packets need. */
__attribute__((noinline)) int answer_expired(struct xdp_md *ctx, struct sending *sending)
{
	struct error error = {};
	int failed;

	if (!sending || !may_answer())
		return REASON_EXPIRED;
	if (sending->is_ipv4) {
		error.type = ICMP_TIME_EXCEEDED;
		failed = answer4(ctx, sending, sending->l3, &error, QUOTE_SHORT4);
	} else {
		error.type = ICMPV6_TIME_EXCEEDED;
		failed = answer6(ctx, sending, sending->l3, &error, QUOTE_SHORT6);
	}
	return failed ? REASON_EXPIRED : REASON_EXPIRED_ANSWERED;
}

/* The packet does not fit: what does is mtu bytes long. */
__attribute__((noinline)) int answer_too_big(struct xdp_md *ctx, struct sending *sending, __u32 mtu)
{
	struct error error = {.rest = mtu};
	int failed;

	if (!sending || !may_answer())
		return REASON_TOO_BIG;
	if (sending->is_ipv4) {
		error.type = ICMP_UNREACHABLE;
		error.code = ICMP_FRAGMENTATION_NEEDED;
		failed = answer4(ctx, sending, sending->l3, &error, QUOTE_LONG);
	} else {
		error.type = ICMPV6_TOO_BIG;
		failed = answer6(ctx, sending, sending->l3, &error, QUOTE_LONG);
	}
	return failed ? REASON_TOO_BIG : REASON_TOO_BIG_ANSWERED;
}
