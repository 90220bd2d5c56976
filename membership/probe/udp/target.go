package udp

import (
	"net/netip"
	"sync"
	"sync/atomic"
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

	due  membership.Mono // of the next probe, of an interval; the sender's own
	turn int             // of LongEvery, when a round of long probes begins; the sender's own
	mtu  atomic.Int32    // of the way to the peer, as the kernel knows it; 0: it does not

	extra   membership.Mono // when one besides is due, while the peer is hurried; the sender's own
	between bool            // the probe that is sent now is such a one; the sender's own
	hurried atomic.Int64    // until then

	first uint64 // the sequence before that of its first probe

	mu       sync.Mutex
	window   probe.Window
	hurry    probe.Hurry
	recent   probe.Recent
	counts   uint64 // the probe, after first, from which recent counts: the first that this run of the peer answered; 0: none
	sample   membership.Sample
	asked    membership.Mono // Asked, as of the probe before
	seen     uint64          // instance of the last authentic reply, learnt or not
	kernel   bool            // the last reply in time was the peer's kernel's
	gone     bool            // and said that it has no daemon
	kernelAt membership.Mono // when the kernel gave the last one
	prober   uint64          // the peer's run whose probes are told from copies
	stamp    membership.Mono // its stamp, of the peer's clock; 0: none has come

	replays probe.Replays // probes of the learnt instance that have come
	bucket  bucket        // answers to its probes
	others  bucket        // answers to those of instances not learnt: they may be copies of an earlier run's

	longs       probe.Longs
	longReplays probe.Replays // long probes of the learnt instance that have come
}

// newTarget numbers its probes from the time on, in microseconds, which is beyond all that
// this run may have sent to the peer before, elsewhere or until it was taken out of the
// configuration: what remembers those, at the peer or in the kernel, takes none of the new
// ones for a copy.
func newTarget(peer membership.NodeID, l *link, addr netip.AddrPort, rate int, at membership.Mono) *target {
	t := &target{
		first: uint64(at) / uint64(time.Microsecond),
		peer:  peer, link: l, addr: addr,
		probeTo: rawAddr(addr, 0), replyTo: rawAddr(addr, 0),
		sample: membership.Sample{Peer: peer, Link: l.index},
		bucket: bucket{rate: rate, level: int64(time.Second)},
		others: bucket{rate: rate, level: int64(time.Second)},
	}
	t.window.From(t.first)
	t.longs.From(t.first)
	return t
}

func (t *target) learn(prober, epoch uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.prober != prober {
		t.prober, t.replays, t.longReplays, t.counts = prober, probe.Replays{}, probe.Replays{}, 0
	}
	if t.sample.Instance != epoch {
		t.sample.Instance = epoch
		t.stamp, t.kernel, t.gone, t.kernelAt = 0, false, false, 0
	}
}

// setRate changes how many probes a second are answered.
func (t *target) setRate(rate int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bucket.rate, t.others.rate = rate, rate
}

func (t *target) snapshot() membership.Sample {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sampleLocked()
}

// take counts the answers that this kernel has taken in since it was looked at last, and
// returns how many. Of all but the newest it is known only that they came: they have no
// round trip.
func (t *target) take(came probe.Arrival) (n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if came.Epoch == 0 || came.Epoch != t.sample.Instance {
		return 0
	}
	t.hear(came.At, came.Age)
	sent, before, ok := t.window.Taken(came.Seq)
	if !ok {
		return 0
	}
	was := t.sample.Answered
	for behind := min(came.Seq-before, 64) - 1; behind > 0; behind-- {
		if came.Answered>>behind&1 != 0 {
			t.recent.AnsweredSometime(came.Seq - behind - t.first)
			t.answered(came.Seq - behind)
		}
	}
	if sent != 0 {
		t.sample.RTT = came.At.Sub(sent)
		t.recent.Answered(came.Seq-t.first, t.sample.RTT)
	} else {
		t.recent.AnsweredSometime(came.Seq - t.first)
	}
	t.answered(came.Seq)
	t.seen, t.gone, t.sample.View = came.Epoch, false, came.View
	t.said(came.Kernel, came.Stamp, came.At)
	return t.sample.Answered - was
}

// answered counts the answer to a probe.
func (t *target) answered(seq uint64) {
	if t.sample.Answered++; t.counts == 0 {
		t.counts = seq - t.first
	}
}

// said notes by whom the newest answer was given, and when.
func (t *target) said(kernel bool, stamp, at membership.Mono) {
	if t.kernel, t.stamp = kernel, stamp; kernel {
		t.kernelAt = max(t.kernelAt, at)
	}
}

func (t *target) sampleLocked() membership.Sample {
	s := t.sample
	s.Alive = max(s.Heard, t.kernelAt)
	if s.Long = t.longs.Loss(); s.Long.Size != 0 {
		s.Long.Size += t.headers()
	}
	return s
}

// hear notes an answer, unless a newer one is known.
func (t *target) hear(at membership.Mono, age time.Duration) {
	if at >= t.sample.Heard && at != 0 {
		t.sample.Heard, t.sample.DaemonAge = at, age
	}
}

// next numbers a probe that is sent now, and says in it what was heard last.
func (t *target) next(q *probe.Packet, at membership.Mono) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q.Seq, q.Sent, q.Stamp = t.window.Next(at, t.between), at, t.stamp
	if t.kernel {
		q.Flags = probe.FlagKernel
	}
	t.sample.Sent++
	t.asked, t.sample.Asked = t.sample.Asked, at
	t.recent.Sent(q.Seq - t.first)
}

// unasked: there was no room in this node for the last probe, which it has not sent.
func (t *target) unasked() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sample.Asked = t.asked
}

// mayAnswer takes a place in the rate of answers for an authentic probe. Whoever
// has seen one on the network can send it again and again: a copy takes no place.
func (t *target) mayAnswer(q *probe.Packet, at membership.Mono) reason {
	t.mu.Lock()
	defer t.mu.Unlock()
	bucket := &t.others
	if q.Prober == t.prober {
		replays := &t.replays
		if q.Type == probe.TypeLong {
			replays = &t.longReplays
		}
		if !replays.Fresh(q.Seq) {
			return dropReplay
		}
		bucket = &t.bucket
	}
	if !bucket.take(at) {
		return dropRate
	}
	if q.Type == probe.TypeProbe {
		t.sample.Served = at
	}
	return answered
}

// accept judges an authentic reply to this instance that this kernel has not taken in.
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
	rtt := at.Sub(r.Sent)
	t.recent.Answered(r.Seq-t.first, rtt)
	t.said(r.Flags&probe.FlagKernel != 0, r.Stamp, at)
	if t.gone = r.Flags&probe.FlagNoDaemon != 0; t.gone {
		return dropNoDaemon
	}
	t.answered(r.Seq)
	t.hear(at, r.Age)
	t.sample.RTT = rtt
	t.sample.View = r.View
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
