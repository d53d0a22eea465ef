/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Every map, in the order a packet meets them. Sizes of 1 are set from Go before loading. */
#pragma once

#include "abi.h"
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>

/* Set in the private instance that traces; the verifier removes what it guards elsewhere. */
volatile const __u8 tracing;

/* Where the sockets are: a network namespace's id, or negative for the interface's own. */
volatile const __s32 socket_netns = -1;

/* Never read: brings the types that no map mentions into BTF, and so to Go. */
const struct {
	enum limits limits;
	enum reason reason;
	enum verb verb;
	enum bucket_layout bucket_layout;
	enum hot_layout hot_layout;
	enum vip_flags vip_flags;
	enum method method;
	enum encap encap;
	enum syn_care syn_care;
	enum slot_layout slot_layout;
	enum slot_flags slot_flags;
	enum scheduler scheduler;
	enum overflow overflow;
	enum noted_protocol noted_protocol;
	enum noted_flags noted_flags;
	enum returned_flags returned_flags;
	struct news_source news_source;
	enum reverse_kinds reverse_kinds;
	enum bucket_flags bucket_flags;
	enum trace_flags trace_flags;
	enum lease_answer lease_answer;
	enum news_kind news_kind;
	struct news_noted news_noted;
	struct lease_request lease_request;
	struct routes_request routes_request;
	struct drop drop;
} *const volatile exported;

/* In .bss: zero until Go fills it in. */
struct directory directory __attribute__((aligned(64)));
SEC(".data.trace") struct trace traced;

/* Table t's bucket b is at t * BUCKETS + b. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} tables SEC(".maps");

/* The hot part of the same tables: table t's bucket b is in word (t * BUCKETS + b) / HOT_BUCKETS.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} hot SEC(".maps");

/* Region r's slot s is in half s % 2 of word r * CHOICE_WORDS + s / 2. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} choices SEC(".maps");

/* Region r's backend at place p is at r * BACKENDS + p. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct backend);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} backends SEC(".maps");

/* A processor's own: what is left to do with its packet. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct translation);
	__uint(max_entries, 1);
} translations SEC(".maps");

/* What the long way leaves for send_away, which runs after it: together they need too much stack.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct sending);
	__uint(max_entries, 1);
} sendings SEC(".maps");

/* What is asked about a flow of a slot in transition, or that is scheduled: for the same reason. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct asked);
	__uint(max_entries, 1);
} questions SEC(".maps");

/* And for take_source. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct wanted);
	__uint(max_entries, 1);
} wanted SEC(".maps");

/* Whose the replies of backends are: written by lbd, as many as are in use. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct reverse_key);
	__type(value, struct reverse);
	__uint(max_entries, REVERSE_ENTRIES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} reverse SEC(".maps");

/* By region * BACKENDS + place + 1: lbd puts those there that a service watches. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__type(key, __u32);
	__type(value, struct attempts);
	__uint(max_entries, WATCHED_BACKENDS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} attempts SEC(".maps");

/* The hot part of "reverse", by a hash of the key: what is not in it is looked up there. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct reply);
	__uint(max_entries, 1 << REPLY_BITS);
	__uint(map_flags, BPF_F_MMAPABLE);
} replies SEC(".maps");

/* What directory.routes has no prefixes for; it counts only while that does. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct near_set);
	__uint(max_entries, 1 << NEAR_BITS);
	__uint(map_flags, BPF_F_MMAPABLE);
} near SEC(".maps");

/* Shared by all CPUs: the fragments of one datagram may arrive on several. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
	__uint(max_entries, 16384);
} fragments SEC(".maps");

/* The UDP flows that stay while their buckets move; empty in the steady state. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct udp_flow);
	__type(value, struct udp_seen);
	__uint(max_entries, 65536);
} flows SEC(".maps");

/*
 * What was seen once of flows of slots in transition: of fixed size, so that a flood overwrites and
 * adds nothing, the oldest first. Idle in the steady state, as the next one.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct glimpse_set);
	__uint(max_entries, GLIMPSE_SETS);
} glimpses SEC(".maps");

/*
 * Where flows are that are not, or may soon not be, at the current backend of their slot. lbd takes
 * out what is silent for too long; what is not, is never pushed out.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct noted_flow);
	__type(value, struct noted);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} exceptions SEC(".maps");

/* What was noted, for lbd to tell other directors. When it is full, they hear of it later. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} news SEC(".maps");
/*
 * Of services that schedule: the places of backends in the order in which they get new flows,
 * region r's from word r * ORDER_WORDS on; the connections of each; and whose turn it is.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} orders SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct load);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} loads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct rota);
	__uint(max_entries, 1);
} turns SEC(".maps");

/*
 * Flows of full NAT. What nobody has answered yet is in maps of its own, where what is new pushes
 * out what is old: a flood of new flows costs no established one. lbd takes out of the others what
 * has ended.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct noted_flow);
	__type(value, struct source);
	__uint(max_entries, SOURCES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct return_key);
	__type(value, struct returned);
	__uint(max_entries, SOURCES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} returns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct noted_flow);
	__type(value, struct source);
	__uint(max_entries, SOURCES_NEW);
} new_sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct return_key);
	__type(value, struct returned);
	__uint(max_entries, SOURCES_NEW);
} new_returns SEC(".maps");

/* A timer lives in a map, and for as long as the map is pinned. */
struct lease_clock {
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct lease_clock);
	__uint(max_entries, 1);
} lease SEC(".maps");

/* Scope s's counter for reason r is at s * REASON_COUNT + r. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct counter);
	__uint(max_entries, 1);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 262144);
} drops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct interface);
	__uint(max_entries, 256);
} interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct node);
	__uint(max_entries, 64);
} nodes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct label);
	__uint(max_entries, 1);
} labels SEC(".maps");
