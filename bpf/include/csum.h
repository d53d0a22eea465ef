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

/* What words that are replaced add to a sum; several changes add up. */
ALWAYS_INLINE __u64 change16(__u16 from, __u16 to)
{
	return (__u64)(__u16)~from + to;
}

ALWAYS_INLINE __u64 change32(__u32 from, __u32 to)
{
	return (__u64)(__u32)~from + to;
}

ALWAYS_INLINE __u64 change64(__u64 from, __u64 to)
{
	return change32(from, to) + change32(from >> 32, to >> 32);
}

/* A checksum after changes of what it covers: never 0xffff, which no sender writes but UDP. */
ALWAYS_INLINE __sum16 changed_by(__sum16 checksum, __u64 change)
{
	return fold((__u16)~checksum + change);
}

/* The same with a change that was added up and folded to 16 bits before. */
ALWAYS_INLINE __sum16 changed_by16(__sum16 checksum, __u16 change)
{
	__u32 sum = (__u16)~checksum + change;

	return ~((sum & 0xffff) + (sum >> 16));
}

/* The same for UDP, where 0 says that there is none, and 0xffff stands for 0. */
ALWAYS_INLINE __sum16 changed_udp(__sum16 checksum, __u64 change)
{
	__sum16 now;

	if (!checksum)
		return 0;
	now = changed_by(checksum, change);
	return now ? now : 0xffff;
}
