package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

func held(who membership.Incarnation, ask string) Command {
	return Command{Hold: &Hold{Incarnation: who, For: 30 * time.Second, Who: "root", Ask: ask}}
}

func (y *story) heldIs(who membership.Incarnation, want bool) {
	y.t.Helper()
	if got := y.s.Held(who) != nil; got != want {
		y.t.Fatalf("%v is held: %v, want %v", who, got, want)
	}
}

// An eviction that was on its way when the hold was ordered comes too late.
func TestAHeldMemberIsNotEvictedForItsSilence(t *testing.T) { // S27
	y, _, b, c := three(t)
	for _, r := range []membership.Reason{membership.ReasonSilent, membership.ReasonUnlinked, membership.ReasonStalled, membership.ReasonStuck} {
		late := y.eviction(r, c)
		h := y.done(held(c, string(r))).Held
		y.refused(late, "is held")
		y.done(Command{HoldEnd: &HoldEnd{Incarnation: c, Index: h.Index}})
	}
	y.done(held(c, "again"))
	y.evict(membership.ReasonSilent, b) // the others are as they were
	y.heldIs(c, true)
}

func TestAHoldEndsWithItsIncarnation(t *testing.T) {
	for name, end := range map[string]func(y *story, c membership.Incarnation) Command{
		"rebooted": func(y *story, c membership.Incarnation) Command { return y.eviction(membership.ReasonRebooted, c) },
		"operator": func(y *story, c membership.Incarnation) Command { return y.eviction(membership.ReasonOperator, c) },
		"left":     func(_ *story, c membership.Incarnation) Command { return Command{Leave: &Leave{Incarnation: c}} },
		"unlisted": func(_ *story, _ membership.Incarnation) Command {
			return Command{List: &List{Nodes: []membership.NodeID{1, 2}, Who: "file"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			y, _, _, c := three(t)
			y.done(held(c, "1"))
			y.done(end(y, c))
			y.heldIs(c, false)
			y.refused(held(c, "2"), "not a member")
		})
	}
}

// A second announcement counts anew; the end of the first does not end it, and
// one request that is proposed twice counts once.
func TestALaterHoldStands(t *testing.T) {
	y, _, _, c := three(t)
	first := y.done(held(c, "1")).Held
	y.refused(held(c, "1"), "already")
	second := y.done(held(c, "2")).Held
	y.refused(Command{HoldEnd: &HoldEnd{Incarnation: c, Index: first.Index}}, "no hold of index")
	y.heldIs(c, true)
	if o := y.done(Command{HoldEnd: &HoldEnd{Incarnation: c, Index: second.Index, Who: "root"}}); o.Unheld == nil || o.Unheld.Ask != "2" {
		t.Fatalf("ended %+v", o.Unheld)
	}
	y.heldIs(c, false)
	y.evict(membership.ReasonSilent, c)
}

// Whoever announced a hold relies on all of it: a shorter one does not shorten it.
func TestAShorterHoldDoesNotShorten(t *testing.T) {
	y, _, _, c := three(t)
	y.done(held(c, "1"))
	short := held(c, "2")
	long := short.Hold.For
	short.Hold.For = MinHold
	if got := y.done(short).Held.For; got != long || long <= MinHold {
		t.Fatalf("%v after %v", got, long)
	}
}

// The group may deliver an entry twice: a late copy of a hold begins it no more,
// whether it has ended or was replaced, and at a node that began with a snapshot too.
func TestALateCopyOfAHoldIsRefused(t *testing.T) {
	y, _, b, c := three(t)
	y.done(held(c, "1"))
	last := y.done(held(c, "2")).Held
	y.refused(held(c, "1"), "is over")
	y.done(Command{HoldEnd: &HoldEnd{Incarnation: c, Index: last.Index}})
	bytes, err := y.s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := y.s.Restore(bytes); err != nil {
		t.Fatal(err)
	}
	for _, ask := range []string{"1", "2"} {
		y.refused(held(c, ask), "is over")
	}
	y.heldIs(c, false)
	y.done(held(b, "1")) // of another node
	for k := range 2 * MaxHoldAsks {
		y.done(held(c, fmt.Sprint("more ", k)))
	}
	if n := len(y.s.Node(c.Node).HoldAsks); n != MaxHoldAsks {
		t.Fatalf("%d are kept", n)
	}
}

func TestAHoldIsBounded(t *testing.T) {
	y, _, _, c := three(t)
	for _, d := range []time.Duration{-time.Second, 0, MinHold - 1, MaxHold + 1} {
		h := held(c, "1")
		h.Hold.For = d
		y.refused(h, "a hold of")
	}
}

func TestHoldsAreInTheSnapshot(t *testing.T) {
	y, _, b, c := three(t)
	y.done(held(c, "1"))
	y.done(held(b, "2"))
	bytes, err := y.s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	s := New()
	if err := s.Restore(bytes); err != nil {
		t.Fatal(err)
	}
	if len(s.Holds) != 2 || s.Holds[0].Incarnation != b || s.Held(c) == nil {
		t.Fatalf("%+v", s.Holds)
	}
}
