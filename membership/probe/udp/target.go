package udp

import (
	"net/netip"
	"sync"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// target is one peer on one link.
type target struct {
	peer membership.NodeID
	link *link
	addr netip.AddrPort
	// One address for each thread: sending writes into it.
	probeTo, replyTo *rawAddress

	mu     sync.Mutex
	window probe.Window
	sample membership.Sample
	seen   uint64 // instance of the last authentic reply, learnt or not

	replays probe.Replays // probes of the learnt instance that have come
	bucket  bucket        // answers to its probes
	others  bucket        // answers to those of instances not learnt: they may be copies of an earlier run's
}

func newTarget(peer membership.NodeID, l *link, addr netip.AddrPort, rate int) *target {
	return &target{
		peer: peer, link: l, addr: addr,
		probeTo: rawAddr(addr, 0), replyTo: rawAddr(addr, 0),
		sample: membership.Sample{Peer: peer, Link: l.index},
		bucket: bucket{rate: rate, level: int64(time.Second)},
		others: bucket{rate: rate, level: int64(time.Second)},
	}
}

func (t *target) learn(instance uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sample.Instance != instance {
		t.sample.Instance, t.replays = instance, probe.Replays{}
	}
}

func (t *target) snapshot() membership.Sample {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sample
}

// next returns the sequence of a probe that is sent now.
func (t *target) next(at membership.Mono) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	seq := t.window.Next(at)
	t.sample.Sent = seq
	return seq
}

// mayAnswer takes a place in the rate of answers for an authentic probe. Whoever
// has seen one on the network can send it again and again: a copy takes no place.
func (t *target) mayAnswer(q *probe.Packet, at membership.Mono) reason {
	t.mu.Lock()
	defer t.mu.Unlock()
	bucket := &t.others
	if q.Prober == t.sample.Instance {
		if !t.replays.Fresh(q.Seq) {
			return dropReplay
		}
		bucket = &t.bucket
	}
	if !bucket.take(at) {
		return dropRate
	}
	return answered
}

// accept judges an authentic reply to this instance.
func (t *target) accept(r *probe.Packet, at membership.Mono) reason {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = r.Responder
	switch {
	case t.sample.Instance == 0:
		return dropUnlearnt
	case t.sample.Instance != r.Responder:
		return dropInstance
	}
	switch t.window.Accept(r.Seq, r.Sent) {
	case probe.Unasked:
		return dropUnasked
	case probe.Late:
		return dropLate
	case probe.Old:
		return dropOld
	}
	t.sample.Heard = max(t.sample.Heard, at)
	t.sample.RTT = at.Sub(r.Sent)
	t.sample.DaemonAge = r.Age
	t.sample.View = r.View
	t.sample.Answered++
	return accepted
}

// bucket lets rate packets a second pass, and one second's worth at once.
type bucket struct {
	rate  int
	level int64 // nanoseconds of credit, at most a second; a packet costs second/rate
	last  membership.Mono
}

func (b *bucket) take(at membership.Mono) bool {
	b.level = min(b.level+max(int64(at.Sub(b.last)), 0), int64(time.Second))
	b.last = max(b.last, at)
	cost := int64(time.Second) / int64(b.rate)
	if b.level < cost {
		return false
	}
	b.level -= cost
	return true
}
