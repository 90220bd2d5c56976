package probe

import "github.com/quorate/quorate/membership"

// Outstanding is for how many intervals a probe may wait for its answer; one that comes
// later does not count. It bounds how long held-back answers can make a dead peer look
// alive. Probes between two intervals, of a hurried peer, do not make others late: else
// a hint could have a peer that is slow called silent.
const Outstanding = 16

// outstanding are as many probes, with those between.
const outstanding = Outstanding * HurryBy

// Verdict is what Window says of a reply.
type Verdict uint8

// The verdicts.
const (
	Fresh   Verdict = iota // counts
	Unasked                // was never sent, or its stamp is not the one sent
	Late                   // was sent, but Outstanding intervals ago
	Old                    // answered already, or older than one that was
)

func (v Verdict) String() string {
	switch v {
	case Fresh:
		return "fresh"
	case Unasked:
		return "unasked"
	case Late:
		return "late"
	case Old:
		return "old"
	}
	return "unknown verdict"
}

// Window remembers the outstanding probes of one peer and link. The zero value
// has sent nothing.
type Window struct {
	last     uint64 // newest sequence sent
	answered uint64 // newest sequence answered
	interval uint64 // number of the present interval
	sent     [outstanding]sentProbe
}

type sentProbe struct {
	at       membership.Mono
	interval uint64
}

// From has the sequences begin after this one. It is called before anything is sent.
func (w *Window) From(seq uint64) { w.last, w.answered = seq, seq }

// Next returns the sequence for a probe that is sent now; between says that it is one
// besides that of its interval.
func (w *Window) Next(now membership.Mono, between bool) uint64 {
	w.last++
	if !between {
		w.interval++
	}
	w.sent[w.last%outstanding] = sentProbe{at: now, interval: w.interval}
	return w.last
}

// Sent returns the newest sequence.
func (w *Window) Sent() uint64 { return w.last }

// Accept judges a reply by the sequence and stamp that it echoes.
func (w *Window) Accept(seq uint64, sent membership.Mono) Verdict {
	switch {
	case seq == 0 || seq > w.last:
		return Unasked
	case seq <= w.answered:
		return Old
	case w.last-seq >= outstanding || w.interval-w.sent[seq%outstanding].interval >= Outstanding:
		return Late
	case w.sent[seq%outstanding].at != sent:
		return Unasked
	}
	w.answered = seq
	return Fresh
}

// Taken notes that the kernel took in the answer to this probe, and those to older ones.
// It returns when the probe was sent, 0 where that is forgotten, and the newest sequence that
// was answered before. ok is false when this is no news, or was never asked.
func (w *Window) Taken(seq uint64) (sent membership.Mono, before uint64, ok bool) {
	if seq <= w.answered || seq > w.last {
		return 0, w.answered, false
	}
	before, w.answered = w.answered, seq
	if w.last-seq < outstanding {
		sent = w.sent[seq%outstanding].at
	}
	return sent, before, true
}

// Replays remembers which probes of one run of a peer have come, so that a copy of
// one can be told from the next: copies need no answer, and must not use up
// what there is for honest probes. The zero value has seen nothing.
type Replays struct {
	newest uint64
	seen   uint64 // bit i: newest-i has come
}

// reordered is by how many newer ones a probe may be overtaken and still be new.
const reordered = 64

// Fresh says whether the sequence, of an authentic probe, has not come before. One
// that so many newer ones have overtaken counts as come.
func (r *Replays) Fresh(seq uint64) bool {
	switch ahead := seq - r.newest; {
	case seq == 0:
		return false
	case seq > r.newest:
		r.newest, r.seen = seq, r.seen<<ahead|1 // a shift of 64 or more leaves nothing
		return true
	}
	bit, behind := uint64(1), r.newest-seq
	if bit <<= behind; behind >= reordered || r.seen&bit != 0 {
		return false
	}
	r.seen |= bit
	return true
}
