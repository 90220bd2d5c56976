/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the programs need of the kernel's interface, and no more: the numbers are
 * those of include/uapi/linux/bpf.h and never change. No header of the build
 * machine is read, so that the same compiler gives the same bytes everywhere.
 */
#ifndef QUORATE_KERNEL_H
#define QUORATE_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef __u16 __be16;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define CALLBACK static __attribute__((noinline))
#define UNROLL _Pragma("clang loop unroll(full)")

/* A map's definition, as loaders read it out of BTF. */
#define MAP_UINT(name, val) int(*name)[val]
#define MAP_TYPE(name, val) typeof(val) *name

enum { MAP_HASH = 1, MAP_ARRAY = 2, MAP_PERCPU_ARRAY = 6, MAP_RINGBUF = 27 };
enum { MAP_MMAPABLE = 1 << 10 };
enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX };

struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

struct bpf_spin_lock {
	__u32 val;
};

struct bpf_timer {
	__u64 opaque[2];
} __attribute__((aligned(8)));

struct bpf_sock;

struct bpf_sock_tuple {
	union {
		struct {
			__u32 saddr, daddr;
			__be16 sport, dport;
		} ipv4;
		struct {
			__u32 saddr[4], daddr[4];
			__be16 sport, dport;
		} ipv6;
	};
};

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static struct bpf_sock *(*const sk_lookup_udp)(void *ctx, struct bpf_sock_tuple *t, __u32 size, __u64 netns, __u64 flags) = (void *)85;
static long (*const sk_release)(void *sk) = (void *)86;
static long (*const spin_lock)(struct bpf_spin_lock *l) = (void *)93;
static long (*const spin_unlock)(struct bpf_spin_lock *l) = (void *)94;
static __u64 (*const boot_ns)(void) = (void *)125;
static long (*const ringbuf_output)(void *ringbuf, void *data, __u64 size, __u64 flags) = (void *)130;
static long (*const timer_init)(struct bpf_timer *t, void *map, __u64 clock) = (void *)169;
static long (*const timer_set_callback)(struct bpf_timer *t, void *callback) = (void *)170;
static long (*const timer_start)(struct bpf_timer *t, __u64 ns, __u64 flags) = (void *)171;
static __u64 (*const xdp_buff_len)(struct xdp_md *x) = (void *)188;
static long (*const xdp_load)(struct xdp_md *x, __u32 off, void *buf, __u32 len) = (void *)189;
static long (*const xdp_store)(struct xdp_md *x, __u32 off, void *buf, __u32 len) = (void *)190;

#define CURRENT_NETNS ((__u64)-1)
#define FORCE_WAKEUP 2 /* of ringbuf_output */
#define BOOT_CLOCK 7

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define be16(x) ((__be16)__builtin_bswap16(x))
#define le32(x) (x)
#define le64(x) (x)
#else
#define be16(x) ((__be16)(x))
#define le32(x) ((__u32)__builtin_bswap32(x))
#define le64(x) ((__u64)__builtin_bswap64(x))
#endif

#endif
