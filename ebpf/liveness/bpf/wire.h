/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The probes' wire format: membership/probe/doc.go has what each field means. */
#ifndef QUORATE_WIRE_H
#define QUORATE_WIRE_H

#include "kernel.h"

#define PROBE_MAGIC 0x31425051 /* "QPB1" */
#define PROBE_VERSION 1

enum { PROBE_ASK = 1, PROBE_REPLY = 2 };
enum { FLAG_KERNEL = 1, FLAG_NO_DAEMON = 2 };

struct probe {
	__u32 magic;
	__u8 version, type, link, flags;
	__u32 source, destination;
	__u32 key_epoch, reserved;
	__u64 sequence;
	__u64 prober, sent;
	__u64 responder, stamp, progress, age, view;
	__u64 tag;
};

/* Its bytes, for what is done word by word. */
union payload {
	struct probe p;
	__u64 w64[12];
	__u32 w32[24];
};

#define TAGGED_WORDS 11

_Static_assert(sizeof(struct probe) == 96, "probe");
_Static_assert(sizeof(union payload) == 96, "payload");

#define ETH_IPV4 be16(0x0800)
#define ETH_IPV6 be16(0x86dd)
#define ETH_VLAN be16(0x8100)
#define ETH_QINQ be16(0x88a8)

enum { PROTO_UDP = 17 };
enum { HOPS = 64 }; /* of an answer */

struct eth {
	__u8 to[6], from[6];
	__be16 type;
} __attribute__((packed));

struct vlan {
	__be16 tag, type;
} __attribute__((packed));

/* Addresses are halves of words where a word would not be aligned everywhere. */
struct ipv4 {
	__u8 version_length, class;
	__be16 length, id, fragment;
	__u8 hops, proto;
	__u16 sum;
	__u32 from, to;
} __attribute__((packed, aligned(2)));

struct ipv6 {
	__u8 version_class, class_flow;
	__be16 flow, length;
	__u8 next, hops;
	__u32 from[4], to[4];
} __attribute__((packed, aligned(2)));

struct udp {
	__be16 from, to, length;
	__u16 sum;
} __attribute__((packed, aligned(2)));

enum { UDP_LENGTH = sizeof(struct udp) + sizeof(struct probe) };

#endif
