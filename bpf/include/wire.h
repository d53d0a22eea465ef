/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The headers on the wire, each as its RFC draws it. */
#pragma once

#include <linux/types.h>

enum ethertype {
	ETHERTYPE_IPV4 = 0x0800,
	ETHERTYPE_ARP = 0x0806,
	ETHERTYPE_VLAN = 0x8100, /* IEEE 802.1Q */
	ETHERTYPE_QINQ = 0x88a8, /* IEEE 802.1ad */
	ETHERTYPE_IPV6 = 0x86dd,
};

enum ip_protocol {
	PROTO_HOP_BY_HOP = 0,
	PROTO_ICMP = 1,
	PROTO_IPIP = 4,
	PROTO_TCP = 6,
	PROTO_UDP = 17,
	PROTO_IPV6 = 41,
	PROTO_ROUTING = 43,
	PROTO_FRAGMENT = 44,
	PROTO_AH = 51,
	PROTO_ICMPV6 = 58,
	PROTO_DESTINATION = 60,
};

struct eth {
	__u8 dst[6];
	__u8 src[6];
	__be16 type;
};

struct vlan {
	__be16 tci;
	__be16 type;
};

struct ipv4 { /* RFC 791 */
	__u8 version_ihl;
	__u8 tos;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 src;
	__be32 dst;
};

enum ipv4_fragment { IPV4_DONT = 0x4000, IPV4_MORE = 0x2000, IPV4_OFFSET = 0x1fff };

struct ipv6 { /* RFC 8200 */
	__be32 version_class_flow;
	__be16 payload_length;
	__u8 next;
	__u8 hop_limit;
	__be64 src[2];
	__be64 dst[2];
};

/* The fragment header. Other extension headers start with the same two bytes. */
struct ipv6_fragment {
	__u8 next;
	__u8 length; /* in 8 bytes, the first not counted; AH: in 4 bytes, two not counted */
	__be16 offset;
	__be32 id;
};

enum ipv6_fragment_bits { IPV6_MORE = 0x0001, IPV6_OFFSET = 0xfff8 };

struct ports { /* the start of TCP and UDP alike */
	__be16 src;
	__be16 dst;
};

struct udp { /* RFC 768 */
	struct ports ports;
	__be16 length;
	__be16 checksum;
};

/* draft-ietf-intarea-gue-09 section 3, version 0 without optional fields */
struct gue {
	__u8 version_length;
	__u8 protocol;
	__be16 flags;
};

enum gue_port { GUE_PORT = 6080 };

struct tcp { /* RFC 9293 section 3.1, without options */
	struct ports ports;
	__be32 sequence;
	__be32 acknowledgment;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

enum tcp_offsets { TCP_FLAGS_OFFSET = 13 };

struct icmp { /* RFC 792, RFC 4443 */
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

enum icmp_type {
	ICMP_UNREACHABLE = 3,
	ICMP_SOURCE_QUENCH = 4,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER = 12,
};

enum icmp_code { ICMP_FRAGMENTATION_NEEDED = 4 };

enum icmpv6_type {
	ICMPV6_UNREACHABLE = 1,
	ICMPV6_TOO_BIG = 2,
	ICMPV6_TIME_EXCEEDED = 3,
	ICMPV6_PARAMETER = 4, /* 1 to 4 are the errors */
	ICMPV6_ECHO = 128,
	ICMPV6_SOLICITATION = 135,
	ICMPV6_ADVERTISEMENT = 136,
};

struct arp { /* RFC 826, Ethernet and IPv4 */
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__be32 sender;
	__u8 target_mac[6];
	__be32 target;
} __attribute__((packed, aligned(2)));

enum arp_operation { ARP_REQUEST = 1, ARP_REPLY = 2 };

struct neighbor { /* RFC 4861 sections 4.3 and 4.4: solicitation and advertisement alike */
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 flags;
	__be64 target[2];
};

struct neighbor_link { /* RFC 4861 section 4.6.1 */
	__u8 type;
	__u8 length; /* in 8 bytes */
	__u8 mac[6];
};

enum neighbor_option { OPTION_SOURCE_LINK = 1, OPTION_TARGET_LINK = 2 };

_Static_assert(sizeof(struct eth) == 14, "IEEE 802.3");
_Static_assert(sizeof(struct ipv4) == 20, "RFC 791");
_Static_assert(sizeof(struct ipv6) == 40, "RFC 8200");
_Static_assert(sizeof(struct tcp) == 20, "RFC 9293");
_Static_assert(__builtin_offsetof(struct tcp, flags) == TCP_FLAGS_OFFSET, "");
_Static_assert(sizeof(struct arp) == 28, "RFC 826");
_Static_assert(sizeof(struct neighbor) == 24, "RFC 4861");
