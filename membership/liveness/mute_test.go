package liveness

import (
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

// A node whose prober stands still has asked nobody: it suspects nobody, keeps what it had, and
// tells that it does.
func TestWhoAsksNobodyAccusesNobody(t *testing.T) {
	for _, n := range []int{2, 3} {
		r := newRig(t, n)
		r.asks = r.now
		r.run(5 * time.Second)
		if count[Suspected](r.out) != 0 || count[QuorumChanged](r.out) != 0 || count[Paused](r.out) != 1 || !r.m.Mute() {
			t.Errorf("of %d, in 5 s: %v", n, r.out)
		}
		r.wantVerdict()
		for _, e := range r.out {
			if p, is := e.(Paused); is && (!p.Mute || p.For <= r.m.cfg.Timing.Interval || p.For >= r.m.cfg.Timing.DeadAfter) {
				t.Errorf("%+v", p)
			}
		}
		r.asks = 0
		r.run(time.Second)
		if len(r.out) != count[SendRow](r.out)+count[JudgeChanged](r.out) || r.m.Mute() {
			t.Errorf("of %d, after it: %v", n, r.out)
		}
	}
}

// Who died meanwhile is found out within dead_after and two looks, once this node asks again.
func TestWhoDiedWhileNobodyAsked(t *testing.T) {
	r := newRig(t, 2)
	r.m.Step(r.now, PolicyIn{Policy: quorum.Majority(1)})
	r.asks = r.now
	r.run(time.Second)
	r.silence(2)
	r.run(time.Second)
	if count[Suspected](r.out) != 0 {
		t.Errorf("suspected of nothing: %v", r.out)
	}
	r.asks = 0
	dead := r.m.cfg.Timing.DeadAfter
	r.run(dead - r.m.cfg.Timing.Interval - r.m.slack() - ms)
	r.wantVerdict()
	r.run(3 * r.m.watch())
	r.wantVerdict(2)
}

// A row of a node that asks nobody says of nobody whether it answers.
func TestRowOfWhoAsksNobody(t *testing.T) {
	r := newRig(t, 3)
	r.asks = r.now
	r.run(2 * time.Second)
	var last Row
	for _, e := range r.out {
		if s, is := e.(SendRow); is {
			last = s.Row
		}
	}
	if len(last.Ages) != 2 || slices.ContainsFunc(last.Ages, func(a Age) bool { return a.Age != never || a.Path != never }) {
		t.Errorf("%+v", last)
	}
	// The other two are told so, and one of them is dead: it goes without this node's word.
	w := newRig(t, 3)
	w.silence(3)
	last.From = 2
	for _, a := range last.Ages {
		if a.Peer == 2 {
			last.Ages = append(last.Ages, Age{Peer: 1, Age: never, Path: never})
		}
	}
	last.Ages = slices.DeleteFunc(last.Ages, func(a Age) bool { return a.Peer == 2 })
	for end := w.now.Add(w.m.cfg.Timing.DeadAfter + w.m.cfg.Timing.LinkSettle + 4*w.m.cfg.Timing.Interval); w.now < end; {
		w.run(40 * ms)
		last.Round++
		w.m.Step(w.now, RowIn{Row: last})
	}
	w.wantVerdict(3)
}

// After stall_limit it is connected with nobody, so that it knows of no quorum, and accuses nobody.
func TestMuteForLong(t *testing.T) {
	r := newRig(t, 3)
	r.asks = r.now
	limit := r.m.cfg.Timing.StallLimit
	r.run(limit - ms)
	if !r.m.quorate || len(r.m.Hears()) != 2 {
		t.Errorf("before: %v, hears %v", r.m.quorate, r.m.Hears())
	}
	r.run(time.Second)
	if r.m.quorate || len(r.m.Hears()) != 0 || count[Suspected](r.out) != 0 {
		t.Errorf("after: %v, hears %v, %v", r.m.quorate, r.m.Hears(), r.out)
	}
	r.wantVerdict()
	r.asks = 0
	r.run(time.Second)
	if !r.m.quorate || len(r.m.Hears()) != 2 || count[Suspected](r.out) != 0 {
		t.Errorf("back: %v, hears %v, %v", r.m.quorate, r.m.Hears(), r.out)
	}
}

// Probes that are late by less than half of dead_after are nothing.
func TestLateProbes(t *testing.T) {
	r := newRig(t, 2)
	r.asks = r.now
	half := r.m.cfg.Timing.DeadAfter / 2
	r.run(half)
	if r.look(); r.m.Mute() || len(r.out) != count[SendRow](r.out) {
		t.Errorf("%v", r.out)
	}
	r.run(r.m.watch())
	if r.look(); !r.m.Mute() {
		t.Errorf("%v", r.out)
	}
}

// After an own pause the prober has time to go on.
func TestAPauseOfBoth(t *testing.T) {
	r := newRig(t, 2)
	r.asks = r.now
	r.now = r.now.Add(3 * time.Second)
	out := r.look()
	r.asks = 0
	r.run(time.Second)
	if out = append(out, r.out...); count[Paused](out) != 1 || count[Suspected](out) != 0 {
		t.Errorf("%v", out)
	}
}

// A probe of the old interval is not late by the new one.
func TestShorterTimesAskInTime(t *testing.T) {
	r := newRig(t, 2)
	r.reconfigure("safe", 1, 2)
	r.run(3 * time.Second)
	r.asks = r.now
	r.now = r.now.Add(300 * ms)
	r.reconfigure("round", 1, 2)
	r.look()
	r.asks = 0
	r.run(time.Second)
	if count[Paused](r.out) != 0 {
		t.Errorf("%v", r.out)
	}
	r.asks = r.now
	r.run(time.Second)
	if count[Paused](r.out) != 1 || !r.m.Mute() {
		t.Errorf("it asks nobody: %v", r.out)
	}
}

// A prober of which it is not known when it asked is believed.
func TestNotKnownWhenAsked(t *testing.T) {
	r := newRig(t, 2)
	since := r.now
	for range 60 {
		r.now = max(r.m.Deadline(), r.now.Add(10*ms))
		r.out = append(r.out, r.m.Step(r.now, Observed{Samples: []membership.Sample{{Peer: 2, Heard: since}}})...)
	}
	if count[Suspected](r.out) != 1 {
		t.Errorf("%v", r.out)
	}
}
