// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The reflector answers the liveness probes of known peers where they come in,
 * before the network stack and whatever the daemon does, and takes in the answers to
 * this node's own. See doc.go.
 *
 * There are no loops for the verifier to follow: what is repeated is unrolled.
 * The payload is copied to the stack and back by helpers, because it lies in
 * memory as it came: at an address that some machines cannot read words from,
 * and perhaps not in one piece.
 */
#include "kernel.h"
#include "maps.h"
#include "siphash.h"
#include "wire.h"

char licence[] SEC("license") = "Dual BSD/GPL";

/* What is known of a packet once its headers are read. */
struct packet {
	struct addr from, to;
	__be16 sport, dport;
	__u16 sum; /* of UDP, as it came */
	__u8 v6;
	__u8 sized; /* the lengths in its headers are those of a probe */
	__u32 l3;   /* where the IP header begins */
	__u32 l4;   /* and UDP's */
};

INLINE int count(__u32 reason, int verdict)
{
	__u64 *n = map_lookup(&counters, &reason);

	if (n)
		*n += 1;
	return verdict;
}

INLINE void map_v4(struct addr *a, __u32 v4)
{
	a->w[0] = 0;
	a->w[1] = 0;
	a->w[2] = le32(0xffff0000); /* the bytes 00 00 ff ff */
	a->w[3] = v4;
}

INLINE int same(const struct addr *a, const struct addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

/*
 * parse reads the headers of a UDP datagram; R_ANSWERED: it is one. Its length
 * is not looked at here, except that the headers are there.
 */
INLINE __u32 parse(struct xdp_md *ctx, struct packet *k)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	void *l3 = eth + 1;
	__be16 type;
	struct udp *udp;

	if (l3 > end)
		return R_OTHER;
	type = eth->type;
	if (type == ETH_VLAN || type == ETH_QINQ) {
		struct vlan *vlan = l3;

		if ((void *)(vlan + 1) > end)
			return R_OTHER;
		type = vlan->type;
		l3 = vlan + 1;
	}
	if (type == ETH_IPV4) {
		struct ipv4 *ip = l3;

		if ((void *)(ip + 1) > end || ip->proto != PROTO_UDP)
			return R_OTHER;
		if (ip->fragment & be16(0x3fff)) /* more to come, or not the first */
			return R_FRAGMENT;
		if (ip->version_length != 0x45)
			return R_HEADER;
		map_v4(&k->from, ip->from);
		map_v4(&k->to, ip->to);
		k->v6 = 0;
		k->sized = ip->length == be16(sizeof(*ip) + UDP_LENGTH);
		udp = (void *)(ip + 1);
	} else if (type == ETH_IPV6) {
		struct ipv6 *ip = l3;

		if ((void *)(ip + 1) > end)
			return R_OTHER;
		/* hop by hop, routing, fragment, AH, destination options, mobility */
		if (ip->next == 0 || ip->next == 43 || ip->next == 44 || ip->next == 51 || ip->next == 60 || ip->next == 135)
			return R_HEADER;
		if (ip->next != PROTO_UDP)
			return R_OTHER;
		UNROLL
		for (int i = 0; i < 4; i++) {
			k->from.w[i] = ip->from[i];
			k->to.w[i] = ip->to[i];
		}
		k->v6 = 1;
		k->sized = ip->length == be16(UDP_LENGTH);
		udp = (void *)(ip + 1);
	} else {
		return R_OTHER;
	}
	if ((void *)(udp + 1) > end)
		return R_OTHER;
	k->sport = udp->from;
	k->dport = udp->to;
	k->sum = udp->sum;
	k->sized = k->sized && udp->length == be16(UDP_LENGTH);
	k->l3 = l3 - data;
	k->l4 = (void *)udp - data;
	return R_ANSWERED;
}

/* has_daemon says whether a socket waits for these probes: a process has it open. */
INLINE int has_daemon(struct xdp_md *ctx, const struct packet *k)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;
	__u32 size;

	if (k->v6) {
		UNROLL
		for (int i = 0; i < 4; i++) {
			t.ipv6.saddr[i] = k->from.w[i];
			t.ipv6.daddr[i] = k->to.w[i];
		}
		t.ipv6.sport = k->sport;
		t.ipv6.dport = k->dport;
		size = sizeof(t.ipv6);
	} else {
		t.ipv4.saddr = k->from.w[3];
		t.ipv4.daddr = k->to.w[3];
		t.ipv4.sport = k->sport;
		t.ipv4.dport = k->dport;
		size = sizeof(t.ipv4);
	}
	sk = sk_lookup_udp(ctx, &t, size, CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	sk_release(sk);
	return 1;
}

/* take is udp.bucket.take: one answer out of a second's worth. */
INLINE int take(struct bucket *b, __u64 cost, __u64 now)
{
	__u64 gone = now > b->last ? now - b->last : 0;
	__u64 level = b->level + (gone > 1000000000ULL ? 1000000000ULL : gone);

	if (level > 1000000000ULL)
		level = 1000000000ULL;
	if (now > b->last)
		b->last = now;
	b->level = level;
	if (level < cost)
		return 0;
	b->level = level - cost;
	return 1;
}

/* fresh is probe.Replays.Fresh. */
INLINE int fresh(struct state *s, __u64 seq)
{
	__u64 apart, bit;

	if (seq == 0)
		return 0;
	if (seq > s->newest) {
		apart = seq - s->newest;
		s->seen = (apart < 64 ? s->seen << apart : 0) | 1;
		s->newest = seq;
		return 1;
	}
	apart = s->newest - seq;
	if (apart >= 64)
		return 0;
	bit = 1ULL << apart;
	if (s->seen & bit)
		return 0;
	s->seen |= bit;
	return 1;
}

/* admit judges an authentic probe of a known peer. */
INLINE __u32 admit(struct state *s, const struct peer *peer, const struct probe *p, __u64 now)
{
	__u64 stamp = le64(p->stamp), seq = le64(p->sequence), instance = peer->instance, cost = peer->cost, trust = peer->trust;
	__u32 kernel = p->flags & FLAG_KERNEL, learnt = instance && le64(p->prober) == instance, why = R_ANSWERED;

	spin_lock(&s->lock);
	s->asked = now;
	if (learnt) {
		if (s->instance != instance) {
			s->instance = instance;
			s->newest = 0;
			s->seen = 0;
		}
		if (!fresh(s, seq)) {
			why = R_REPLAY;
		} else if (stamp && stamp <= now) {
			if (kernel && stamp > s->acked)
				s->acked = stamp;
			if (!kernel && stamp > s->acked_user)
				s->acked_user = stamp;
		}
	}
	/*
	 * A driver may take a frame back and never send it. As long as the peer has not
	 * shown that it hears this kernel, every other probe is the daemon's to answer. A
	 * peer that asks late shows it late: it is no sign of that if it has heard one of
	 * the last two.
	 */
	if (why == R_ANSWERED && !(seq & 1) && (!s->acked || (now - s->acked > trust && s->acked < s->last_but_one)))
		why = R_TRIAL;
	if (why == R_ANSWERED) {
		if (!take(learnt ? &s->known : &s->others, cost, now)) {
			why = R_RATE;
		} else {
			s->answers++;
			s->last_but_one = s->newest_answer;
			s->newest_answer = now;
		}
	}
	spin_unlock(&s->lock);
	return why;
}

/*
 * turn_over makes a version odd, or even again, after all that was written before and
 * before all that is written next: an add whose result is used orders both.
 */
INLINE void turn_over(__u64 *version)
{
	__u64 was = __sync_fetch_and_add(version, 1);

	asm volatile("" : : "r"(was) : "memory");
}

/* note writes the stamp of an answer; one processor at a time does. */
INLINE void note(struct stamp *a, const struct probe *p, __u64 run, __u64 answered, __u64 now)
{
	turn_over(&a->version);
	a->at = now;
	a->sequence = le64(p->sequence);
	a->age = le64(p->age);
	a->run = run;
	a->node = le32(p->source);
	a->link = p->link;
	a->answered = answered;
	a->epoch = le64(p->responder);
	a->responder = le64(p->stamp);
	a->view = le64(p->view);
	a->kernel = p->flags & FLAG_KERNEL;
	turn_over(&a->version);
}

/*
 * hear judges an authentic answer of a known peer as the daemon does those that nobody
 * stamps (udp.target.accept); R_HEARD: it counts, and its stamp has all that the daemon
 * wants of it. The daemon looks up when the probe that it echoes was sent, and here the
 * echo is believed: it was authenticated.
 */
INLINE __u32 hear(struct state *s, struct stamp *a, const struct peer *peer, const struct self *me, const struct probe *p, __u64 now)
{
	__u64 run = me->run, epoch = peer->epoch, late = me->late, seq = le64(p->sequence), sent = le64(p->sent);
	__u32 ours = run && le64(p->prober) == run && epoch && le64(p->responder) == epoch, why = R_REPLY;

	spin_lock(&s->lock);
	s->replied = now;
	if (ours && s->run != run) {
		s->run = run;
		s->heard = 0;
		s->answered = 0;
	}
	if (ours && seq > s->heard && sent <= now + late && now <= sent + late) {
		s->answered = seq - s->heard < 64 ? s->answered << (seq - s->heard) : 0;
		s->heard = seq;
		if (!(p->flags & FLAG_NO_DAEMON)) {
			s->answered |= 1;
			note(a, p, run, s->answered, now);
			why = R_HEARD;
		}
	}
	spin_unlock(&s->lock);
	return why;
}

/* silent is what a timer does that ran down. An answer may come meanwhile: the reader looks. */
CALLBACK int silent(void *map, __u32 *slot, struct deadline *d)
{
	__u32 at = *slot;
	struct stamp *a = map_lookup(&stamps, &at);
	struct silence s = {};

	(void)map;
	(void)d;
	if (!a)
		return 0;
	s.at = a->at;
	s.run = a->run;
	s.node = a->node;
	s.link = a->link;
	ringbuf_output(&silences, &s, sizeof(s), FORCE_WAKEUP);
	return 0;
}

/* wind has a peer's timer run from now. */
INLINE void wind(__u32 slot, __u64 after)
{
	struct deadline *d = map_lookup(&deadlines, &slot);

	if (!d || !after)
		return;
	timer_init(&d->timer, &deadlines, BOOT_CLOCK); /* EBUSY from the second time on */
	timer_set_callback(&d->timer, silent);         /* it was another program's before an upgrade */
	timer_start(&d->timer, after, 0);
}

/* fill makes the answer out of the probe. */
INLINE void fill(struct probe *p, const struct self *me, __u64 now, int daemon, const struct key *key, const __u64 *words)
{
	__u32 source = p->source;
	__u64 ticked = me->ticked;

	p->type = PROBE_REPLY;
	p->flags = FLAG_KERNEL | (daemon ? 0 : FLAG_NO_DAEMON);
	p->source = p->destination;
	p->destination = source;
	p->reserved = 0;
	p->responder = le64(me->epoch);
	p->stamp = le64(now);
	p->progress = le64(me->progress);
	p->age = le64(now > ticked ? now - ticked : 0);
	p->view = le64(me->view);
	p->tag = le64(siphash(words, TAGGED_WORDS, key->k0, key->k1));
}

INLINE __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* pseudo is the sum of what UDP's checksum covers besides UDP itself. */
INLINE __u64 pseudo(const struct packet *k)
{
	__u64 sum = (__u64)be16(PROTO_UDP) + be16(UDP_LENGTH);

	if (!k->v6)
		return sum + k->from.w[3] + k->to.w[3];
	UNROLL
	for (int i = 0; i < 4; i++)
		sum += (__u64)k->from.w[i] + k->to.w[i];
	return sum;
}

/*
 * checksum is the answer's. A frame that has never left this machine, or come from
 * a virtual one, may have the sum of the pseudo header alone there, for a device to
 * finish. The socket buffer of generic XDP keeps that mark: then it has to stay.
 */
INLINE __u16 checksum(const struct packet *k, const union payload *w, int generic)
{
	__u64 sum = pseudo(k);
	__u16 out;

	if (generic && k->sum == fold(sum))
		return k->sum;
	sum += (__u64)k->sport + k->dport + be16(UDP_LENGTH);
	UNROLL
	for (int i = 0; i < 24; i++)
		sum += w->w32[i];
	out = ~fold(sum);
	return out ? out : 0xffff;
}

/* turn swaps both ends of the headers. */
INLINE int turn(struct xdp_md *ctx, const struct packet *k, __u16 sum)
{
	struct udp udp = {.from = k->dport, .to = k->sport, .length = be16(UDP_LENGTH), .sum = sum};
	struct eth eth;

	if (xdp_load(ctx, 0, &eth, sizeof(eth)))
		return 0;
	UNROLL
	for (int i = 0; i < 6; i++) {
		__u8 b = eth.to[i];

		eth.to[i] = eth.from[i];
		eth.from[i] = b;
	}
	if (k->v6) {
		struct ipv6 ip;

		if (xdp_load(ctx, k->l3, &ip, sizeof(ip)))
			return 0;
		UNROLL
		for (int i = 0; i < 4; i++) {
			ip.from[i] = k->to.w[i];
			ip.to[i] = k->from.w[i];
		}
		ip.hops = HOPS;
		if (xdp_store(ctx, k->l3, &ip, sizeof(ip)))
			return 0;
	} else {
		struct ipv4 ip;
		__u16 *half = (void *)&ip;
		__u64 all = 0;

		if (xdp_load(ctx, k->l3, &ip, sizeof(ip)))
			return 0;
		ip.from = k->to.w[3];
		ip.to = k->from.w[3];
		ip.hops = HOPS;
		ip.sum = 0;
		UNROLL
		for (int i = 0; i < 10; i++)
			all += half[i];
		ip.sum = ~fold(all);
		if (xdp_store(ctx, k->l3, &ip, sizeof(ip)))
			return 0;
	}
	return !xdp_store(ctx, k->l4, &udp, sizeof(udp)) && !xdp_store(ctx, 0, &eth, sizeof(eth));
}

/* trusted says what of an authentic packet fits what is known: R_ANSWERED: all of it. */
INLINE __u32 trusted(const struct packet *k, const struct probe *p, const struct self *me, __u32 link, struct peer **peer, struct state **state)
{
	struct peer_key who = {.node = le32(p->source), .link = link};

	if (le32(p->destination) != me->node)
		return R_DST;
	if (p->link != link)
		return R_LINK;
	*peer = map_lookup(&peers, &who);
	*state = map_lookup(&states, &who);
	if (!*peer || !*state)
		return R_SOURCE;
	if (!same(&k->from, &(*peer)->addr))
		return R_SPOOFED;
	return R_ANSWERED;
}

/* judge is the program; timed: answers wind up a timer. */
INLINE int judge(struct xdp_md *ctx, int timed)
{
	struct packet k;
	union payload w;
	struct peer *peer = 0;
	struct state *state = 0;
	struct self *me;
	struct key *key;
	struct own *own;
	struct stamp *stamp;
	__u32 zero = 0, epoch, slot, why;
	__u64 now;

	why = parse(ctx, &k);
	if (why != R_ANSWERED)
		return count(why, XDP_PASS);
	me = map_lookup(&self, &zero);
	if (!me || k.dport != me->port)
		return count(R_OTHER, XDP_PASS);
	own = map_lookup(&owns, &k.to);
	if (!own || (own->ifindex && own->ifindex != ctx->ingress_ifindex))
		return count(R_ADDRESS, XDP_PASS);
	if (!k.sized || xdp_buff_len(ctx) != k.l4 + UDP_LENGTH)
		return count(R_LENGTH, XDP_PASS);
	if (xdp_load(ctx, k.l4 + sizeof(struct udp), &w, sizeof(w)))
		return count(R_BROKEN, XDP_PASS);
	if (le32(w.p.magic) != PROBE_MAGIC || w.p.version != PROBE_VERSION || (w.p.type != PROBE_ASK && w.p.type != PROBE_REPLY))
		return count(R_FORM, XDP_PASS);
	if (!me->epoch)
		return count(R_UNREADY, XDP_PASS);
	epoch = le32(w.p.key_epoch);
	key = map_lookup(&keys, &epoch);
	if (!key)
		return count(R_KEY, XDP_PASS);
	if (le64(w.p.tag) != siphash(w.w64, TAGGED_WORDS, key->k0, key->k1))
		return count(R_TAG, XDP_DROP);

	why = trusted(&k, &w.p, me, own->link, &peer, &state);
	if (why != R_ANSWERED)
		return count(why, why == R_SOURCE ? XDP_PASS : XDP_DROP);
	if (!peer || !state) /* for the verifier */
		return count(R_BROKEN, XDP_PASS);
	now = boot_ns();
	if (w.p.type == PROBE_REPLY) {
		slot = peer->slot;
		stamp = map_lookup(&stamps, &slot);
		if (!stamp)
			return count(R_BROKEN, XDP_PASS);
		why = hear(state, stamp, peer, me, &w.p, now);
		if (timed && why == R_HEARD)
			wind(slot, me->silent);
		return count(why, why == R_HEARD ? XDP_DROP : XDP_PASS);
	}
	if (k.sport != peer->port)
		return count(R_PORT, XDP_PASS);
	why = admit(state, peer, &w.p, now);
	if (why != R_ANSWERED)
		return count(why, why == R_TRIAL ? XDP_PASS : XDP_DROP);
	fill(&w.p, me, now, has_daemon(ctx, &k), key, w.w64);
	if (xdp_store(ctx, k.l4 + sizeof(struct udp), &w, sizeof(w)))
		return count(R_BROKEN, XDP_PASS);
	if (!turn(ctx, &k, checksum(&k, &w, own->generic)))
		return count(R_BROKEN, XDP_DROP);
	return count(R_ANSWERED, XDP_TX);
}

SEC("xdp.frags")
int reflect(struct xdp_md *ctx)
{
	return judge(ctx, 0);
}

/* A kernel without a JIT has no callbacks, and refuses this one. */
SEC("xdp.frags")
int reflect_timed(struct xdp_md *ctx)
{
	return judge(ctx, 1);
}
