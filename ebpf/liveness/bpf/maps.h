/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the daemon tells the reflector and what that tells the daemon. The daemon
 * owns self, owns, peers and keys; the program owns states, stamps, deadlines, silences
 * and counters. All are pinned: they outlive the daemon. values.go has the same in Go, and a change of what
 * they mean a new number of the layout.
 */
#ifndef QUORATE_MAPS_H
#define QUORATE_MAPS_H

#include "kernel.h"

/* An IPv4 address is written as ::ffff:a.b.c.d. */
struct addr {
	__u32 w[4];
};

/* self has what answers say of this node. It is mapped into the daemon's memory. */
struct self {
	__u64 epoch;    /* 0: nothing is answered */
	__u64 ticked;   /* boot clock of the daemon's last progress, ns */
	__u64 progress; /* number of its ticks */
	__u64 view;
	__u32 node;
	__be16 port; /* of the probes */
	__u16 pad;
	__u64 run;    /* of this node's prober, whose answers are stamped; 0: none are */
	__u64 late;   /* how old a probe is at most whose answer counts, ns */
	__u64 silent; /* how long after its answer a peer's deadline is, ns; 0: there is none */
};

struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(max_entries, 1);
	MAP_UINT(map_flags, MAP_MMAPABLE);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct self);
} self SEC(".maps");

/* owns has the links of this node, by its own addresses. */
struct own {
	__u32 link;
	__u32 generic; /* not 0: the program is attached to the stack, not to the driver */
	__u32 ifindex; /* of the one interface whose frames are to it; 0: any's */
};

struct {
	MAP_UINT(type, MAP_HASH);
	MAP_UINT(max_entries, 256);
	MAP_TYPE(key, struct addr);
	MAP_TYPE(value, struct own);
} owns SEC(".maps");

/* keys has the keys that are accepted, by their epoch. */
struct key {
	__u64 k0, k1;
};

struct {
	MAP_UINT(type, MAP_HASH);
	MAP_UINT(max_entries, 16);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct key);
} keys SEC(".maps");

struct peer_key {
	__u32 node;
	__u32 link;
};

struct peer {
	struct addr addr;
	__u64 instance; /* of its prober, learnt from its authenticated connection; 0: unknown */
	__u64 cost;     /* a second over the answers that it may have in one, ns */
	__u64 trust;    /* for how long an answer that has arrived shows that the next will, ns */
	__be16 port;
	__u16 pad;
	__u32 slot;  /* in stamps and deadlines */
	__u64 epoch; /* of its answers, learnt like its instance; 0: unknown, and none is stamped */
};

struct {
	MAP_UINT(type, MAP_HASH);
	MAP_UINT(max_entries, 2048);
	MAP_TYPE(key, struct peer_key);
	MAP_TYPE(value, struct peer);
} peers SEC(".maps");

/* A bucket lets a second's worth of answers pass at once. */
struct bucket {
	__u64 level; /* ns of credit */
	__u64 last;
};

struct state {
	struct bpf_spin_lock lock;
	__u32 pad;
	__u64 instance;       /* whose probes newest and seen are of */
	__u64 newest;         /* sequence */
	__u64 seen;           /* bit i: newest-i has come */
	struct bucket known;  /* answers to the instance that is learnt */
	struct bucket others; /* answers to all others: copies of an earlier run, perhaps */
	__u64 asked;          /* boot clock of the last authentic probe, ns */
	__u64 replied;        /* and of the last authentic reply */
	__u64 acked;          /* stamp of the last answer of this kernel that the peer has heard */
	__u64 acked_user;     /* and of this node's daemon */
	__u64 answers;        /* by this kernel */
	__u64 newest_answer;  /* stamp of the last one */
	__u64 last_but_one;   /* and of the one before */
	__u64 run;            /* whose probes heard is of */
	__u64 heard;          /* sequence of the newest probe whose answer counted */
	__u64 answered;       /* bit i: that to heard-i is stamped */
};

struct {
	MAP_UINT(type, MAP_HASH);
	MAP_UINT(max_entries, 2048);
	MAP_TYPE(key, struct peer_key);
	MAP_TYPE(value, struct state);
} states SEC(".maps");

/*
 * stamps have the newest answer of each peer and link that counts, when it came, and what it
 * said: the daemon gets it by no other way. They are mapped into its memory, which an odd
 * version tells to look again.
 */
struct stamp {
	__u64 version;
	__u64 at;       /* boot clock, ns */
	__u64 sequence; /* of the probe */
	__u64 age;      /* of its daemon's last progress, as the answer says */
	__u64 run;      /* that had asked */
	__u32 node, link;
	__u64 answered;  /* bit i: that to sequence-i was stamped */
	__u64 epoch;     /* of the answer */
	__u64 responder; /* the answer's own stamp, by the clock of its node */
	__u64 view;
	__u64 kernel; /* not 0: its kernel answered */
};

struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(max_entries, 2048);
	MAP_UINT(map_flags, MAP_MMAPABLE);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct stamp);
} stamps SEC(".maps");

/* deadlines are timers that each answer winds up again. */
struct deadline {
	struct bpf_timer timer;
};

struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(max_entries, 2048);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct deadline);
} deadlines SEC(".maps");

/* silences tell of the timers that ran down. What does not fit is lost: nobody reads. */
struct silence {
	__u64 at; /* of the newest answer */
	__u64 run;
	__u32 node, link;
};

struct {
	MAP_UINT(type, MAP_RINGBUF);
	MAP_UINT(max_entries, 65536);
} silences SEC(".maps");

/* What became of a packet; reasons.go has the names, in this order. */
enum reason {
	R_OTHER,    /* pass: no probe by its protocol or port */
	R_FRAGMENT, /* pass */
	R_HEADER,   /* pass: IP options, or an extension header */
	R_ADDRESS,  /* pass: to an address that is not this node's, or not this interface's */
	R_LENGTH,   /* pass */
	R_FORM,     /* pass: not the first bytes of a probe */
	R_UNREADY,  /* pass: there is no epoch yet */
	R_KEY,      /* pass: the daemon may know the key */
	R_TAG,      /* drop */
	R_DST,      /* drop: for another node */
	R_LINK,     /* drop: says another link than the one it came on */
	R_SOURCE,   /* pass: the daemon may know the node */
	R_SPOOFED,  /* drop: not from the address of its source */
	R_PORT,     /* pass: from another port, which the daemon does not answer to */
	R_REPLY,    /* pass: an answer that is not stamped; the daemon may know why it counts */
	R_REPLAY,   /* drop */
	R_RATE,     /* drop */
	R_TRIAL,    /* pass: it is not known yet whether this kernel's answers arrive */
	R_BROKEN,   /* pass: the kernel refused a step */
	R_HEARD,    /* drop: an answer that counts: its stamp says all of it */
	R_ANSWERED, /* sent back */
	REASONS
};

struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_UINT(max_entries, REASONS);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
} counters SEC(".maps");

#endif
