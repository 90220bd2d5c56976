package cluster

import (
	"testing"

	"github.com/quorate/quorate/membership"
)

func TestADrainLastsAsLongAsItsIncarnation(t *testing.T) {
	y, _, _, c := three(t)
	drain, end := Command{Drain: &Drain{Incarnation: c, Who: "root"}}, Command{DrainEnd: &DrainEnd{Incarnation: c}}
	y.refused(end, "is not drained")
	if o := y.done(drain); o.Drained == nil || y.s.Draining(c) == nil {
		t.Fatal(o)
	}
	y.refused(drain, "already")
	if o := y.done(end); o.Undrained == nil || y.s.Draining(c) != nil {
		t.Fatal(o)
	}
	for _, out := range []Command{{Leave: &Leave{Incarnation: c}}, y.eviction(membership.ReasonRestarted, c)} {
		y, _, _, c := three(t)
		y.done(drain)
		y.done(out)
		y.refused(end, "is not drained")
		y.refused(drain, "not a member")
		back := y.admit(3, "c")
		if y.s.Draining(back) != nil || y.s.Draining(c) != nil {
			t.Fatal("it is drained still")
		}
	}
}

// A leave for a drain that was taken back while it was on its way is none; one that somebody
// asked for is.
func TestALeaveForADrainThatWasTakenBack(t *testing.T) {
	y, _, _, c := three(t)
	y.done(Command{Drain: &Drain{Incarnation: c, Who: "root"}})
	y.done(Command{DrainEnd: &DrainEnd{Incarnation: c}})
	y.refused(Command{Leave: &Leave{Incarnation: c, Drained: true}}, "not drained any more")
	if !y.s.Member(c) {
		t.Fatal("it has left")
	}
	y.done(Command{Drain: &Drain{Incarnation: c, Who: "root"}})
	y.done(Command{Leave: &Leave{Incarnation: c, Drained: true}})
	if y.s.Member(c) {
		t.Fatal("it is drained, and stays")
	}
	y, _, _, c = three(t)
	y.done(Command{Leave: &Leave{Incarnation: c}})
	if y.s.Member(c) {
		t.Fatal("it was asked to leave, and stays")
	}
}

func TestDrainsAreInTheSnapshot(t *testing.T) {
	y, _, b, c := three(t)
	y.done(Command{Drain: &Drain{Incarnation: c, Who: "root"}})
	y.done(Command{Drain: &Drain{Incarnation: b, Who: "root"}})
	data, err := y.s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	again := New()
	if err := again.Restore(data); err != nil || again.Draining(c) == nil || again.Drains[0].Incarnation != b {
		t.Fatal(err, again.Drains)
	}
}
