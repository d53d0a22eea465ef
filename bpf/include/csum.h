/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The Internet checksum, RFC 1071, and what changes of a packet make of it, RFC 1624. */
#pragma once

#include "parse.h"

/* The checksum of what adds up to sum, in whole 32-bit words as they lie. */
ALWAYS_INLINE __sum16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* A checksum after a 16-bit word, as it lies, became another. */
ALWAYS_INLINE __sum16 changed(__sum16 checksum, __u16 from, __u16 to)
{
	__u32 sum = (__u16)~checksum + (__u16)~from + to;

	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

/* The header's last word but one is TTL and protocol. */
ALWAYS_INLINE void decrement_ttl(struct ipv4 *ip)
{
	__u32 sum = ip->checksum + bpf_htons(0x0100);

	ip->checksum = sum + (sum >= 0xffff);
	ip->ttl--;
}
