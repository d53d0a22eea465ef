/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the kernel side and the Go side share. Go types are generated from the BTF of this
 * file; nothing here is typed a second time. Only enums and structs: a #define has no BTF.
 */
#pragma once

#include <linux/types.h>

enum limits {
	BUCKETS = 65536, /* of one ownership table; a power of two: a mask selects one */
	VIP_SLOTS = 4096, /* of one half of the VIPs, a power of two */
	SERVICE_SLOTS = 16384, /* of one half of the services, a power of two */
	PROBES = 4, /* slots after the first that a lookup may have to look at, plus one */
	HOT_BUCKETS = 32, /* in one word of the hot part of a table */
	UDP_IDLE_SECONDS = 60, /* a noted UDP flow that was silent for longer is new */
	HASH_KEYS = 6, /* one for each 32-bit word of the source and the ports, one that is added */
	PEER_SLOTS = 256, /* of one half of the peers' MACs, a power of two */
	SLOTS = 65537, /* of a service's choice of backends; a prime, as Maglev's table needs */
	CHOICE_WORDS = 32769, /* that they fill, two to a word */
	BACKENDS = 1024, /* places a service has */
	GLIMPSE_SETS = 65536, /* of flows of slots in transition; a power of two */
	GLIMPSE_WAYS = 7, /* in one */
	OPENING_SECONDS = 60, /* from a SYN to the next segment, at most; as in internal/balance */
	ANSWERS = 1000, /* ICMP errors that the program may send in about a second */
	ROUTES = 8, /* prefixes of a family in the summary of this machine's routes */
	NEAR_BITS = 11, /* 2^n sets of machines on our own links */
	NEAR_WAYS = 4, /* in one */
	TUNNEL_HOPS = 64, /* of the outer header of a tunnel */
	REPLY_BITS = 13, /* 2^n slots of the hot part of the map "reverse" */
	REVERSE_ENTRIES = 65536, /* ports of NAT backends, all services together */
	WATCHED_BACKENDS = 65536, /* whose connections are counted, all services together */
	ORDER_PLACES = 32768, /* at most, of the order in which backends get new flows */
	ORDER_WORDS = 8193, /* that it fills: its length, then four places to a word */
	SOURCE_PORTS = 32768, /* the first of those that full NAT leaves from, and how many */
	SOURCE_BLOCK = 64, /* ports, which one director has */
	SOURCE_BLOCKS = 512,
	SOURCE_TRIES = 16, /* ports that are looked at for a new flow */
	SOURCES = 262144, /* flows of full NAT that are established */
	SOURCES_NEW = 65536, /* and those that are not */
	PROVING_SECONDS = 2, /* what goes on for so long, or after it, is no pair of made-up packets
			      */
	QUARANTINE_SECONDS = 60, /* of a port whose flow ended: as long as TIME_WAIT lasts */
};

/*
 * Why the program ended where it did. The verdict follows from the reason: passes first, then
 * passes of a VIP's packet, drops, and frames sent back, with the last group counted by the
 * egress guard.
 */
enum reason {
	/* XDP_PASS, the frame untouched */
	REASON_NOT_IP, /* neither IPv4, IPv6 nor ARP */
	REASON_NOT_VIP, /* not for an address we serve */
	REASON_UNPARSED, /* a header is cut short or wrong: the stack knows best what to do */
	REASON_OTHER_HOST, /* for a VIP, but sent to another machine's link-layer address */
	REASON_OTHER_INTERFACE, /* for a VIP that is announced on another interface */
	REASON_REPLY_HELD, /* of a NAT backend, at its last hop or too big: the stack tells it so */
	/* XDP_PASS, the destination MAC rewritten to our own */
	REASON_ACCEPTED, /* the flow's bucket is ours */
	REASON_DIRECT, /* sent to our own MAC: nobody else has it */
	REASON_ECHO_ACCEPTED, /* ping, and the sender's bucket in the VIP's table is ours */
	REASON_UNNAMED_ACCEPTED, /* no service names it; the sender's bucket is ours */
	REASON_ERROR_ACCEPTED, /* an ICMP error about a flow of ours */
	REASON_ERROR_UNKNOWN, /* an ICMP error about no flow we can name; it is never answered */
	REASON_FRAGMENT_ACCEPTED, /* follows a first fragment that we accepted */
	REASON_FRAGMENT_UNKNOWN, /* its first fragment was not seen: only the owner completes it */
	REASON_SOCKET_ACCEPTED, /* a socket of ours has the flow, whoever owns its bucket now */
	REASON_COOKIE_ACCEPTED, /* a listener of ours knows the SYN cookie that it answers */
	REASON_UDP_KEPT, /* a noted UDP flow of a bucket that moves, or one that is noted now */
	/* XDP_DROP */
	REASON_NOT_OWNER, /* another node's flow */
	REASON_NO_OWNER, /* the bucket belongs to nobody: no node is eligible */
	REASON_ECHO_NOT_OWNER,
	REASON_UNNAMED_NOT_OWNER,
	REASON_UNNAMED_DROPPED, /* no service names it, and the VIP says drop */
	REASON_ERROR_NOT_OWNER,
	REASON_FRAGMENT_NOT_OWNER, /* follows a first fragment that we dropped */
	REASON_ARP_NOT_OWNER, /* another node answers this request */
	REASON_ARP_CONFLICT, /* another machine claims a VIP */
	REASON_ND_NOT_OWNER,
	REASON_ND_MALFORMED, /* hop limit below 255 or the like, RFC 4861 section 7.1.1 */
	REASON_ND_CONFLICT, /* another machine claims a VIP */
	REASON_UNKNOWN_FLOW, /* no socket of ours has it, and another node's may: no RST from here
			      */
	REASON_UDP_AWAY, /* ours, but the bucket's old owner still decides about UDP */
	REASON_LAPSED, /* after the lease ended: a new flow, or one that is forwarded */
	REASON_NOT_ANNOUNCED, /* ARP or ND for a VIP that nodes do not announce */
	REASON_NO_BACKEND, /* the flow's slot names none */
	REASON_NO_WAY, /* the next hop of its backend is not known */
	REASON_NO_PORT, /* full NAT: all ports that were looked at are taken */
	REASON_EXPIRED, /* its TTL or hop limit ends here */
	REASON_TOO_BIG, /* for the tunnel */
	REASON_NOT_TRANSLATED, /* NAT: a header is cut off before its checksum */
	REASON_FULL, /* a new flow, and all backends have as many connections as they may */
	/* XDP_TX */
	REASON_ARP_ANSWERED,
	REASON_ND_ANSWERED,
	REASON_EXPIRED_ANSWERED, /* by time exceeded */
	REASON_TOO_BIG_ANSWERED, /* by fragmentation needed, or packet too big */
	REASON_DELEGATED, /* sent on to the node that is to have the bucket */
	REASON_HANDED_ON, /* it came to this node alone: handed to all, because it is another's */
	REASON_FORWARDED, /* to a backend, by the interface that it came in by */
	REASON_REPLIED, /* a NAT backend's reply, from its VIP to the client */
	/* XDP_REDIRECT */
	REASON_REDIRECTED, /* to a backend, by another interface */
	REASON_REPLY_REDIRECTED, /* as REPLIED, by another interface */
	/* the egress guard */
	REASON_ARP_MASKED, /* our request would have taught our MAC for a VIP: sender cleared */
	REASON_ARP_SUPPRESSED, /* an announcement or reply of the stack for a VIP */
	REASON_ND_SUPPRESSED, /* the same for IPv6 */
	REASON_SHARED_SOURCE, /* a frame from the shared MAC */
	REASON_COUNT,
	REASON_FIRST_ACCEPT = REASON_ACCEPTED,
	REASON_FIRST_DROP = REASON_NOT_OWNER,
	REASON_FIRST_TX = REASON_ARP_ANSWERED,
	REASON_FIRST_DELEGATE = REASON_DELEGATED,
	REASON_FIRST_FORWARD = REASON_FORWARDED,
	REASON_FIRST_REDIRECT = REASON_REDIRECTED,
	REASON_FIRST_GUARD = REASON_ARP_MASKED,
};

/* What to do with a packet of a bucket. */
enum verb {
	VERB_NONE, /* nobody owns the bucket */
	VERB_ACCEPT,
	VERB_IGNORE,
	VERB_DELEGATE, /* ours until the target has taken it: new flows are sent on to it */
	VERB_COUNT,
};

/*
 * A bucket is one 64-bit word, so that a change is one store: the verb, flags, the target (the
 * index of the owning node) and the previous target.
 */
enum bucket_layout {
	BUCKET_VERB_SHIFT = 0, /* 8 bits */
	BUCKET_FLAGS_SHIFT = 8, /* 8 bits */
	BUCKET_TARGET_SHIFT = 16, /* 24 bits */
	BUCKET_PREVIOUS_SHIFT = 40, /* 24 bits */
};

/* Of a bucket in transition. */
enum bucket_flags {
	BUCKET_MAYBE_LOCAL = 1, /* not ours, but our sockets may have flows of it */
	BUCKET_CONTESTED = 2, /* ours, but sockets of other live nodes may have flows of it */
	BUCKET_UDP_NOTED = 4, /* its UDP is ours, and each flow is noted */
	BUCKET_UDP_KEPT =
		8, /* we decide about its UDP: noted flows are ours, others the target's */
	BUCKET_UDP_AWAY = 16, /* ours, but its UDP comes through the old owner */
};

/*
 * The hot part of a table: two bits for each bucket, 16 KiB, which stay in the first-level cache
 * where 512 KiB of words do not. A summary: what it says, the word says too.
 */
enum hot_layout {
	HOT_SEE_WORD, /* nothing: only the word tells */
	HOT_IGNORE, /* VERB_IGNORE and no flags */
	HOT_ACCEPT, /* VERB_ACCEPT and no flags */
	HOT_BITS = 2, /* bucket b is at bit b % HOT_BUCKETS * HOT_BITS of word b / HOT_BUCKETS */
	HOT_MASK = 3,
};

enum vip_flags {
	VIP_DROP_UNNAMED = 1, /* traffic that no service names is dropped */
	VIP_HAS_ANY = 2, /* a service of protocol "any" exists */
	VIP_BY_BUCKET = 4, /* frames to our own MAC may be another node's, but for those of peers */
	VIP_SILENT = 8, /* ARP and ND for it are not answered */
	VIP_HANDED_ON =
		16, /* what came to this node alone and may be another's goes to all nodes */
};

/* What the owner of a flow does with it; numbered as in the configuration. */
enum method {
	FORWARD_LOCAL,
	FORWARD_DR,
	FORWARD_NAT,
	FORWARD_TUNNEL,
	FORWARD_RETURN, /* nothing of the configuration: replies to the ports of full NAT */
};

enum encap { ENCAP_IP, ENCAP_GUE };

/* What is special about SYNs for a backend. */
enum syn_care {
	SYNS_CLAMPED = 1, /* their segment size may have to be cut */
	SYNS_COUNTED = 2, /* what becomes of them is counted */
};

/*
 * A slot of a choice, 32 bits: the place of the backend that new flows go to, of the one that older
 * ones may be at, and flags. A change is one store of the word of two.
 */
enum slot_layout {
	SLOT_CURRENT_SHIFT = 0, /* 12 bits */
	SLOT_PREVIOUS_SHIFT = 12, /* 12 bits */
	SLOT_FLAGS_SHIFT = 24, /* 8 bits */
	SLOT_NOBODY = 0xfff,
};

/* Of a slot in transition; none is set in one at rest. */
enum slot_flags {
	SLOT_MOVING = 1, /* segments of unknown flows go to the previous backend */
	SLOT_EXCEPTIONS = 2, /* some flows are known to be elsewhere */
	SLOT_NOTING = 4, /* flows are noted: it is about to move */
	SLOT_SOURCES = 8, /* full NAT, in every slot of the service */
	SLOT_SCHEDULED = 16, /* of a service that remembers its flows: all of its slots, always */
};

/* Who chooses the backend of a new flow; numbered as in internal/lb. */
enum scheduler { SCHEDULER_MAGLEV, SCHEDULER_ROUND_ROBIN, SCHEDULER_LEAST_CONN, SCHEDULER_RANDOM };

/* What becomes of a new flow whose backend is full. */
enum overflow { OVERFLOW_NEXT, OVERFLOW_DROP };

/*
 * A VIP's slot: open addressing by address. Addresses are 128-bit numbers in host
 * order, high half first; IPv4 is ::ffff:a.b.c.d. A slot with scope 0 is empty.
 */
struct vip {
	__u64 addr_hi;
	__u64 addr_lo;
	__u8 mac[6]; /* the shared MAC */
	__u8 own_mac[6]; /* of the interface it is announced on */
	__u32 ifindex;
	__u16 scope; /* of its counters */
	__u16 flags; /* enum vip_flags */
	__u32 table;
	__u32 tcp_lengths; /* bit n: a TCP service exists whose ports share their first n bits */
	__u32 udp_lengths;
	__u8 nodes_mac[6]; /* of a group that all nodes hear */
	__u8 pad[10];
};

/*
 * A service's slot: open addressing by selector, (scope of the VIP) << 32 |
 * protocol << 24 | prefix length << 16 | port prefix. A range of ports is several slots, one for
 * each aligned power of two of ports in it. A slot with selector 0 is empty.
 */
struct service {
	__u64 selector;
	__u64 source_mask_hi;
	__u64 source_mask_lo;
	__u32 ports_mask; /* of source port << 16 | destination port */
	__u32 table;
	__u16 scope; /* of its counters */
	__u8 forward; /* enum method */
	__u8 scheduler; /* enum scheduler */
	__u32 region; /* of the choices and the backends, when it forwards */
	__u32 tcp_idle; /* seconds for which a connection may be silent and is still kept */
	__u32 udp_idle; /* the same of a flow of anything else */
	/* Where slots are SLOT_SCHEDULED: */
	__u32 pool; /* region of the order and the loads, which all VIPs of a service share */
	__u32 affinity; /* seconds for which a client keeps its backend; 0: it doesn't */
	__u16 sorry; /* the place that gets what the others have no room for, or SLOT_NOBODY */
	__u8 overflow; /* enum overflow */
	__u8 watches; /* what others' connections open, as every director sees them all */
};

/* A real server, at region * BACKENDS + its place. */
struct backend {
	__u64 addr_hi;
	__u64 addr_lo;
	__u64 own_hi; /* outer source of a tunnel */
	__u64 own_lo;
	__u8 mac[6]; /* of the next hop */
	__u8 own_mac[6]; /* of the interface towards it */
	__u32 ifindex; /* 0: the way there is not known */
	__u16 port; /* FORWARD_NAT: 0 for the packet's own */
	__u16 mtu; /* of that interface: bytes of an IP packet */
	__u8 method; /* enum method */
	__u8 encap; /* enum encap */
	__u8 is_ipv4;
	__u8 syns; /* enum syn_care; if any, they take the long way */
	__u16 mss; /* what a larger one of a SYN is cut to; 0: it stays */
	/* what the constant words of an outer IPv4 header add up to; FORWARD_NAT: what a hop and
	 * the other address change of the client's header */
	__u16 header_sum;
	__u16 change; /* FORWARD_NAT: of the transport's checksum */
	__u8 pad2[2];
};

/* What a backend has to do, as far as its director knows; a look of lbd corrects the counts. */
struct load {
	__u64 open; /* of three segments or more, and not closed */
	__u64 opening; /* of fewer; below 0 when more were seen again than were counted */
	__u32 maxconn; /* 0: as many as come */
	__u32 weight; /* 0: it gets no new flows */
};

/* Of one service, for its new flows. */
struct rota {
	__u64 next; /* in its order */
	__u64 crowded; /* CLOCK_MONOTONIC_COARSE when a flow last found no room in `exceptions` */
};

/* Where packets to the addresses of a prefix go. */
struct hop {
	__u8 mac[6]; /* of the gateway */
	__u8 own_mac[6]; /* of the interface towards it */
	__u32 ifindex; /* 0: the kernel is to be asked */
	__u16 mtu; /* of that interface */
	__u8 pad[14];
};

/* As addresses lie in packets. One that is nobody's has an address outside of its mask. */
struct prefix4 {
	__u32 addr;
	__u32 mask;
};

struct prefix6 {
	__u64 addr[2];
	__u64 mask[2];
};

/*
 * This machine's routes, as far as they are simple: the first prefix that has an address counts,
 * and an address in none is the kernel's to find. Written by lbd while until is 0.
 */
struct routes {
	__u64 until; /* jiffies; 0: all of it is out of date */
	__u64 forwards4; /* bit n: the interfaces whose index ends in these six bits forward IPv4 */
	__u64 forwards6;
	__u8 pad[40];
	struct prefix4 prefixes4[ROUTES];
	struct prefix6 prefixes6[ROUTES];
	struct hop hops4[ROUTES];
	struct hop hops6[ROUTES];
};

/*
 * A machine on a link of our own, of which the summary of routes says that the kernel is to be
 * asked. lbd changes nothing but addr_lo of what packets may look at.
 */
struct neighbour {
	__u64 addr_hi;
	__u64 addr_lo; /* 0: free */
	__u64 used; /* something was sent there since lbd last looked */
	__u8 pad[8];
	struct hop hop; /* whose MAC is its own */
};

/* Those of one hash of their addresses. */
struct near_set {
	struct neighbour ways[NEAR_WAYS];
};

/*
 * What is served. All but sample has two halves, and one word publishes a half: an odd multiplier,
 * whose bit 1 says which half is live. The other is free to be written until the word changes.
 * Memory that the programs address directly: a lookup by helper costs them their registers.
 */
struct directory {
	__u64 word;
	__u64 hash_keys[2 * HASH_KEYS];
	__u64 lease; /* CLOCK_MONOTONIC at which it ends; 0: none is needed; 1: it ended */
	__u32 sample; /* one of so many drops goes to the ring buffer; 0: none */
	__u32 reverse; /* enum reverse_kinds */
	__u64 answers; /* a coarse second << 32 | ICMP errors sent in it */
	__u64 peers[2 * PEER_SLOTS]; /* MACs of other nodes, the first byte lowest; 0: none */
	struct routes routes;
	struct vip vips[2 * VIP_SLOTS];
	struct service services[2 * SERVICE_SLOTS];
	__u64 unnoted; /* flows of slots in transition that there was no room for */
	__u64 untold; /* news that there was no room for */
	__u64 source_blocks; /* how many of own_blocks there are; 0: no service is full NAT */
	__u16 own_blocks[SOURCE_BLOCKS]; /* of source ports, those that this director gives out */
	__u64 pad[5];
};

/* A frame counted at the one exit; per CPU. */
struct counter {
	__u64 packets;
	__u64 bytes;
};

/* What is served, by scope: "192.0.2.80", "web 192.0.2.80"; never read by the programs. */
struct label {
	char text[64];
};

/* A node of the cluster, by index; read by people and tools when lbd does not run. */
struct node {
	char name[64];
	__u64 addr_hi;
	__u64 addr_lo;
	__u8 mac[6];
	__u16 weight;
	__u8 local;
	__u8 used;
	__u8 pad[6];
};

/* An interface that carries a VIP, by ifindex. */
struct interface {
	__u8 mac[6];
	__u8 pad[2];
};

/* What there is in the map "reverse". */
enum reverse_kinds {
	REVERSE_PORTS = 1, /* backends by their ports */
	REVERSE_ALL = 2, /* and by port 0, with all of their ports */
};

/* Where the replies of a NAT service come from. */
struct reverse_key {
	__u64 addr_hi; /* of the backend */
	__u64 addr_lo;
	__u16 port;
	__u8 protocol;
	__u8 pad[5];
};

/* As what they leave. */
struct reverse {
	__u64 vip_hi;
	__u64 vip_lo;
	__u32 ifindex; /* of the interface towards the backend */
	__u16 port; /* 0: the backend's own */
	__u16 scope;
	__u8 own_mac[6]; /* of that interface */
	__u16 header_change; /* of an IPv4 header's checksum, a hop included */
	__u16 change; /* of the transport's checksum */
	__u8 pad[2];
	__u32 watched; /* of the backend in the map "attempts"; 0: its replies are not counted */
};

/* Both, in the hot part of the map "reverse". Free where the protocol is 0. */
struct reply {
	__u64 addr_hi;
	__u64 addr_lo;
	__u64 port; /* and protocol << 16 */
	struct reverse reverse;
};

/* What became of connections that clients opened to a backend; per CPU. */
struct attempts {
	__u64 opened; /* SYNs that were sent there */
	__u64 answered; /* SYNs that it acknowledged, those of other directors, too */
	__u64 refused; /* those that it, or a router before it, refused */
};

/* A packet that is sent to a backend, or back to the client with an error. */
struct sending {
	__u64 hash; /* of its flow */
	__u32 backend; /* region * BACKENDS + place */
	__u16 l3; /* offset of the IP header */
	__u16 l4; /* of the transport header; 0 when the packet is not of the flow itself */
	__u8 is_ipv4;
	__u8 protocol; /* of l4 */
	__u8 own_mac[6]; /* of the interface that the packet came in by */
	__u16 icmp; /* offset of the ICMP header where an error is about the flow, else 0 */
	__u16 source; /* the port that a packet of full NAT leaves from */
	__u8 sourced; /* it is of full NAT: from the VIP */
	__u8 wanted; /* and what there is in the map of that name is to be decided yet */
	__u8 returned; /* or it is a reply, and what there is tells of it */
	__u8 pad[7];
};

/* Which datagram a fragment belongs to. IPv4's 16-bit identification is in the low half. */
struct fragment_key {
	__u64 src_hi;
	__u64 src_lo;
	__u64 dst_hi;
	__u64 dst_lo;
	__u32 id;
	__u32 protocol;
};

/* A flow of a slot in transition. */
struct noted_flow {
	__u64 src_hi;
	__u64 src_lo;
	__u32 region; /* of its service */
	__u16 src_port;
	__u16 dst_port;
	__u8 protocol;
	__u8 pad[7];
};

/* What a reply of full NAT is known by. */
struct return_key {
	__u64 addr_hi; /* of the backend */
	__u64 addr_lo;
	__u16 port;
	__u16 source; /* of the VIP, that the flow left from */
	__u16 scope; /* of the VIP */
	__u8 protocol;
	__u8 pad;
};

enum returned_flags {
	RETURNED_ANSWERED = 1, /* the backend sent something */
	RETURNED_CLIENT_FIN = 2,
	RETURNED_BACKEND_FIN = 4,
	RETURNED_RESET = 8,
};

/* As what it goes to the client. With its key's protocol, it names the flow. */
struct returned {
	/* CLOCK_MONOTONIC_COARSE, of a reply or of what closes the flow; of UDP that is not
	 * established, of any packet */
	__u64 seen_ns;
	__u64 src_hi;
	__u64 src_lo;
	__u32 region;
	/* The acknowledgment of the backend's SYN. Of UDP when the flow began, and of a flow that
	 * was reset when that was: moment_of. */
	__u32 expects;
	__u16 src_port;
	__u16 dst_port; /* of the VIP */
	__u8 flags; /* enum returned_flags */
	__u8 pad;
	__u16 place; /* of the backend */
};

/* Where a flow of full NAT is, by struct noted_flow. */
struct source {
	__u64 seen_ns; /* CLOCK_MONOTONIC_COARSE, of a packet of the client */
	__u64 heard_ns; /* the same, of what another director told: of a packet of either side */
	__u32 tag; /* of the backend: a place may have been given to another */
	__u16 place;
	__u16 port; /* that it leaves from */
};

/* A packet of full NAT, whose place and port are to be found, or given to it; or a reply. */
struct wanted {
	struct noted_flow flow;
	struct fragment_key fragment; /* of a first fragment */
	struct return_key key; /* and what take_source needs no stack for */
	struct returned returned;
	struct source source;
	__u64 vip_hi; /* of a reply */
	__u64 vip_lo;
	__u32 number; /* of TCP: what the client acknowledges, or the backend's sequence */
	__u16 place; /* where the flow goes if it is new */
	__u16 scope; /* of the VIP */
	__u16 port; /* the answer: that it leaves from */
	__u8 tcp_flags;
	__u8 opens;
	__u8 quoted; /* by an ICMP error: it tells nothing of the flow */
	__u8 is_first_fragment;
	__u8 direct; /* a reply that nobody else has */
	__u8 leaves; /* its bucket is on its way to another director, which is to open what is new
		      */
};

/* What is to become of one end of a packet's flow, and where its headers are. */
struct translation {
	__u64 addr_hi;
	__u64 addr_lo;
	__u32 l3;
	__u32 l4; /* 0: none, as in a later fragment */
	__u16 port; /* 0: it stays */
	__u8 protocol;
	__u8 is_ipv4;
	__u8 end; /* the source 0, the destination 1 */
	__u8 is_error; /* an ICMP error: the flow is that of the quoted packet, turned round */
	__u8 is_both; /* the other end, too, as in full NAT: */
	__u8 pad;
	__u32 watched; /* as in struct reverse */
	__u16 other_port;
	__u8 pad2[2];
	__u64 other_hi;
	__u64 other_lo;
};

enum fragment_outcome {
	FRAGMENT_DROPPED,
	FRAGMENT_ACCEPTED,
	FRAGMENT_DELEGATED,
	FRAGMENT_FORWARDED,
	FRAGMENT_REPLIED,
	FRAGMENT_RETURNED, /* of full NAT */
};

/* What became of the first fragment. */
struct fragment {
	__u64 seen_ns; /* CLOCK_MONOTONIC_COARSE */
	__u16 scope;
	__u8 outcome; /* enum fragment_outcome */
	__u8 protocol; /* FRAGMENT_REPLIED: of the reply */
	__u32 target; /* the node it was sent on to, the number of the backend, or the reply's ports
		       */
};

/* What lb_lease is asked, as the bytes of the packet of a test run. */
struct lease_request {
	__u64 until; /* as in struct directory; 0: no lease is needed */
	__u32 anew; /* begin a new life, whatever became of the last lease */
	__u32 pad;
};

/* What lb_routes is asked, in the same way. */
struct routes_request {
	__u64 ticks; /* jiffies for which the summary counts */
	__u64 pad;
};

enum lease_answer {
	LEASE_RUNS,
	LEASE_LAPSED, /* it ended before: nothing was changed */
	LEASE_FAILED, /* no timer */
};

/* A UDP flow to a VIP. */
struct udp_flow {
	__u64 src_hi;
	__u64 src_lo;
	__u64 dst_hi;
	__u64 dst_lo;
	__u16 src_port;
	__u16 dst_port;
	__u32 pad;
};

struct udp_seen {
	__u64 seen_ns; /* CLOCK_MONOTONIC_COARSE */
};

/* The protocol of a note about a client and not one flow of it: ports are 0. */
enum noted_protocol { NOTED_CLIENT = 255 };

enum noted_flags {
	NOTED_CLOSING = 1, /* the client sent FIN or RST */
	NOTED_RESET = 2, /* RST: if it goes on, somebody else did */
	NOTED_OPEN = 4, /* it was seen three times, or more: it counts among connections */
	NOTED_PROVEN = 8, /* it was seen PROVING_SECONDS after since_ns, or later */
};

/*
 * Glimpses whose place would be the same. The way that was written longest ago is the next one to
 * be; the turn is its number and, as in the glimpse, the tag that it had when it became that.
 */
struct glimpse_set {
	__u64 turn;
	__u64 ways[GLIMPSE_WAYS];
};

/* Where it is. */
struct noted {
	__u64 seen_ns; /* by this director; CLOCK_MONOTONIC_COARSE, as the next */
	__u64 heard_ns; /* by another one, as it told us; written by lbd */
	__u64 since_ns; /* when it was noted; of one that is closing, when it was closed */
	__u32 slot;
	__u16 place; /* of its backend; SLOT_NOBODY in news of one that is forgotten */
	__u16 flags; /* enum noted_flags */
};

/* A search for a place with room: how far it is, and the best so far. */
struct search {
	__u64 best_count; /* connections */
	__u32 best_weight;
	__u32 length; /* of the order */
	__u32 first; /* index */
	__u32 looks; /* so many are compared; more only while none has room */
	__u32 tried;
	__u16 best; /* place */
	__u8 best_room; /* enum room */
	__u8 full; /* one was */
};

/* What is asked about a packet of a slot in transition, or of a service that schedules. */
struct asked {
	struct noted_flow flow;
	__u32 slot;
	__u32 slot_word;
	__u32 idle; /* seconds for which the flow may be silent */
	__u8 opens; /* it is a SYN */
	__u8 quoted; /* by an ICMP error: it tells nothing of the flow */
	__u8 watched; /* it is another director's, and opens */
	__u8 closes; /* FIN and RST, as it has them */
	/* the rest is of services that schedule, as in struct service */
	__u8 scheduler;
	__u64 client_hi; /* the part of the source that affinity goes by */
	__u64 client_lo;
	__u32 pool;
	__u32 affinity;
	__u16 sorry;
	__u8 overflow;
	__u8 pad[5];
	struct search search;
};

/*
 * What is new is read by lbd, which tells other directors: its kind, then the key and the value of
 * an entry of that kind.
 */
enum news_kind {
	NEWS_NOTED = 1, /* struct noted_flow, struct noted */
	NEWS_SOURCE = 2, /* a flow of full NAT is established: both of its entries */
};

struct news_noted {
	__u64 kind; /* enum news_kind */
	struct noted_flow flow;
	struct noted noted;
};

struct news_source {
	__u64 kind; /* enum news_kind */
	struct return_key key;
	struct returned returned;
	struct source source;
};

enum sample_size { SAMPLE_BYTES = 96 };

/* A dropped frame, as far as it matters for telling why. */
struct drop {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u32 length; /* of the frame */
	__u32 ifindex;
	__u16 scope;
	__u16 reason;
	__u32 captured; /* bytes in frame */
	__u8 frame[SAMPLE_BYTES];
};

enum trace_flags {
	TRACE_VIP = 1, /* the destination is a VIP */
	TRACE_SERVICE = 2, /* a service names it */
	TRACE_HASHED = 4, /* a bucket was looked up */
	TRACE_FIRST_FRAGMENT = 8,
	TRACE_LATER_FRAGMENT = 16,
	TRACE_ICMP_ERROR = 32,
	TRACE_DIRECT = 64, /* sent to our own MAC */
	TRACE_OPENS = 128, /* a SYN: it opens a connection */
	TRACE_ASKED = 256, /* the sockets were asked, and ... */
	TRACE_SOCKET = 512, /* one has the flow */
	TRACE_LISTENER = 1024, /* only a listener is there */
	TRACE_COOKIE = 2048, /* which knows the SYN cookie */
	TRACE_LAPSED = 4096, /* the lease has ended */
	TRACE_SLOT = 8192, /* a slot was looked up */
	TRACE_BACKEND = 16384, /* and names a backend */
};

/* Every decision of one run, written only by a private instance of the program. */
struct trace {
	__u64 src_hi; /* of the flow: for an ICMP error, of the client in the inner header */
	__u64 src_lo;
	__u64 dst_hi;
	__u64 dst_lo;
	__u64 hash;
	__u64 bucket; /* the word found */
	__u32 index; /* of the bucket */
	__u32 table;
	__u16 src_port;
	__u16 dst_port;
	__u16 scope; /* counted under */
	__u16 vip_scope;
	__u16 flags; /* enum trace_flags */
	__u16 vlan; /* outermost tag, 0: none */
	__u8 protocol;
	__u8 reason;
	__u16 source; /* the port that full NAT gives it */
	__u32 slot;
	__u32 slot_word; /* enum slot_layout */
	__u32 backend; /* region * BACKENDS + place */
};

_Static_assert(sizeof(struct vip) == 64, "a VIP is one cache line");
_Static_assert(sizeof(struct service) == 64, "a service is one cache line");
_Static_assert(sizeof(struct backend) == 64, "a backend is one cache line");
_Static_assert(sizeof(struct hop) == 32, "a hop is not split between cache lines");
_Static_assert(sizeof(struct neighbour) == 64, "a neighbour is one cache line");
_Static_assert(sizeof(struct routes) % 64 == 0, "what follows keeps its cache lines");
_Static_assert(sizeof(struct reply) == 64, "a reply is one cache line");
_Static_assert(sizeof(struct directory) % 64 == 0, "slots are not split between cache lines");
_Static_assert(sizeof(struct fragment_key) == 40, "no holes in a key");
_Static_assert(sizeof(struct reverse_key) == 24, "no holes in a key");
_Static_assert(sizeof(struct glimpse_set) == 64, "a set is one cache line");
_Static_assert(sizeof(struct noted_flow) == 32, "no holes in a key");
_Static_assert(sizeof(struct return_key) == 24, "no holes in a key");
_Static_assert(REASON_COUNT <= 64, "counters are laid out for 64 reasons");
