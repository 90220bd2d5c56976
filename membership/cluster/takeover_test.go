package cluster

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

func alone(c membership.NodeID, proofs ...TakeoverProof) Command {
	return Command{Takeover: &Takeover{Rule: "two_node", Survivors: []membership.NodeID{c}, Electorate: []membership.NodeID{c}, Proofs: proofs}}
}

func by(actor membership.NodeID, victim membership.Incarnation) TakeoverProof {
	return TakeoverProof{Victim: victim, How: "agent", Actor: actor, End: FenceEnd{Victim: victim, Attempt: 1, OK: true}}
}

func TestUnproved(t *testing.T) {
	y, a, b, c := three(t)
	want := func(survivors []membership.NodeID, out ...membership.Incarnation) {
		t.Helper()
		if got := y.s.Unproved(survivors); !slices.Equal(got, out) {
			t.Errorf("%v go on when %v are proved gone, want %v", survivors, got, out)
		}
	}
	want([]membership.NodeID{1}, b, c)
	want([]membership.NodeID{2, 1}, c)
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	want([]membership.NodeID{1}, b, c)
	want([]membership.NodeID{1, 2}, c)
	// Node 3 is there in another life: nobody shoots at it for the one before, whose end
	// is to be proved before anything starts.
	want([]membership.NodeID{1, 3}, b)
	y.done(Command{FenceAck: &FenceAck{Victim: c, Who: "root"}})
	want([]membership.NodeID{1, 2})
	y.done(Command{Leave: &Leave{Incarnation: b}})
	want([]membership.NodeID{1})
	_ = a
}

func TestATakeoverEvictsProvesAndSaysWhoCounts(t *testing.T) {
	y, a, b, c := three(t)
	y.holds[b], y.holds[c] = true, true
	o := y.done(alone(1, by(1, b), by(1, c)))
	if !slices.Equal(y.s.View.Members, []membership.Incarnation{a}) || o.View == nil || len(o.View.Left) != 2 || len(o.Evicted) != 2 {
		t.Fatalf("%+v", o)
	}
	if !slices.Equal(o.Proved, []membership.Incarnation{b, c}) || !slices.Equal(y.s.Electorate, []membership.NodeID{1}) || y.s.Generation != 1 {
		t.Errorf("proved %v, electorate %v, generation %d", o.Proved, y.s.Electorate, y.s.Generation)
	}
	if y.s.Blocked(2) != nil || y.s.Blocked(3) != nil {
		t.Error("who is proved gone may not come back")
	}
	y.admit(2, "b2")
	if !slices.Equal(y.s.Electorate, []membership.NodeID{1, 2}) {
		t.Errorf("who is admitted does not count: %v", y.s.Electorate)
	}
}

// TestATakeoverSaysWhyAndWhatWasTried: what failed before is in the history, and proves nothing.
func TestATakeoverSaysWhyAndWhatWasTried(t *testing.T) {
	y, _, b, c := three(t)
	cmd := alone(1, by(1, c))
	cmd.Takeover.Reason = membership.ReasonStalled
	cmd.Takeover.Tried = []Record{{Victim: b, How: "agent", Actor: 1, OK: true, End: FenceEnd{Victim: b, Attempt: 1, Err: "no answer"}}}
	o := y.done(cmd)
	for _, k := range o.Evicted {
		if k.Reason != membership.ReasonStalled {
			t.Errorf("%+v", k)
		}
	}
	if h := y.s.History; len(h) != 2 || h[0].Victim != b || h[0].OK || h[0].Index != y.s.Index || h[0].End.Err != "no answer" || !h[1].OK {
		t.Errorf("%+v", h)
	}
	if y.s.Proved(b) || y.s.View.Left[0].Reason != membership.ReasonStalled {
		t.Errorf("%+v", y.s.View)
	}
}

// TestWhatATakeoverDoesNotProveStaysOpen: whoever was admitted by the end of the log, say.
func TestWhatATakeoverDoesNotProveStaysOpen(t *testing.T) {
	y, _, b, c := three(t)
	o := y.done(alone(1, by(1, c), by(1, inc(2, "another life", 0))))
	if !slices.Equal(o.Proved, []membership.Incarnation{c}) || y.s.Proved(b) {
		t.Fatalf("%+v", o)
	}
	if k := y.s.Blocked(2); k == nil || !k.Open() {
		t.Errorf("%+v", k) // whether it held anything the survivor cannot know
	}
	y.refused(Command{Admit: &Admit{Incarnation: inc(2, "b2", 0), Machine: "m2", View: y.s.View.Number}}, "not proved gone")
}

func TestATakeoverClosesTheJobsThatItProves(t *testing.T) {
	y, a, b, c := three(t)
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	y.done(y.start(c, b, 1))
	o := y.done(alone(1, by(1, b), by(1, c)))
	if len(o.Ended) != 1 || o.Ended[0].Actor != b || !slices.Equal(o.Proved, []membership.Incarnation{b, c}) && !slices.Equal(o.Proved, []membership.Incarnation{c, b}) {
		t.Fatalf("%+v", o)
	}
	if y.s.Blocked(3) != nil || y.s.Blocked(2) != nil {
		t.Error("a job runs still")
	}
	if y.s.Case(a) != nil {
		t.Error("the survivor has a case")
	}
}

func TestADrop(t *testing.T) {
	y, _, _, c := three(t)
	all := []membership.NodeID{1, 2, 3}
	drop := Command{Drop: &Drop{Nodes: []membership.NodeID{3}, Why: "last_man_standing", Electorate: all}}
	y.refused(drop, "is a member")
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	y.refused(drop, "not proved gone")
	y.done(Command{FenceAck: &FenceAck{Victim: c, Who: "root"}})
	o := y.done(drop)
	if o.View == nil || !slices.Equal(y.s.Electorate, []membership.NodeID{1, 2}) {
		t.Fatalf("%+v %v", o, y.s.Electorate)
	}
	y.refused(drop, "decided when")
	y.admit(3, "c2")
	if !slices.Equal(y.s.Electorate, all) {
		t.Errorf("%v", y.s.Electorate)
	}
}

func TestALeaveTakesTheVote(t *testing.T) {
	y, a, b, c := three(t)
	y.done(Command{Leave: &Leave{Incarnation: c}})
	if y.s.Electorate != nil {
		t.Fatalf("%v", y.s.Electorate)
	}
	y.done(Command{Leave: &Leave{Incarnation: b, Electorate: []membership.NodeID{1, 2, 3}}})
	if !slices.Equal(y.s.Electorate, []membership.NodeID{1, 3}) {
		t.Fatalf("%v", y.s.Electorate)
	}
	y.done(Command{Leave: &Leave{Incarnation: a, Electorate: []membership.NodeID{1}}})
	if !slices.Equal(y.s.Electorate, []membership.NodeID{3}) {
		t.Fatalf("%v", y.s.Electorate)
	}
	y.s.uncount(nil, []membership.NodeID{3})
	if len(y.s.Electorate) != 1 {
		t.Error("nobody counts, which stands for everybody")
	}
}

// TestATakeoverFitsIntoAnEntry: half of the nodes that there may be, each with the most
// that an agent may say.
func TestATakeoverFitsIntoAnEntry(t *testing.T) {
	var proofs []TakeoverProof
	for n := membership.NodeID(2); n <= 32; n++ {
		p := by(1, inc(n, strings.Repeat("b", 36), 1))
		p.End.Output, p.End.Agent = strings.Repeat("\u2028", 4<<10/3), strings.Repeat("a", 64)
		proofs = append(proofs, p)
	}
	b := alone(1, proofs...).Encode()
	if _, err := Decode(b); err != nil || len(b) > MaxCommand/2 {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
}

// TestTakeoversAreTheSameEverywhere: whatever is in it, the state is a function of the
// entries, none of the survivors is evicted, and all others are.
func TestTakeoversAreTheSameEverywhere(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		x, a, b, c := three(t)
		y, _, _, _ := three(t)
		some := rapid.SliceOfDistinct(rapid.SampledFrom([]membership.NodeID{1, 2, 3, 4}), rapid.ID[membership.NodeID])
		survivors, counting := some.Draw(r, "survivors"), some.Draw(r, "electorate")
		var proofs []TakeoverProof
		for _, v := range rapid.SliceOf(rapid.SampledFrom([]membership.Incarnation{a, b, c, inc(2, "x", 0), inc(9, "y", 1)})).Draw(r, "proofs") {
			proofs = append(proofs, by(1, v))
		}
		cmd := Command{Takeover: &Takeover{Rule: "votes", Survivors: survivors, Electorate: counting, Proofs: proofs}}
		x.done(cmd)
		y.done(cmd)
		one, _ := x.s.Snapshot()
		two, _ := y.s.Snapshot()
		if !bytes.Equal(one, two) {
			r.Fatalf("%s\n%s", one, two)
		}
		for _, m := range []membership.Incarnation{a, b, c} {
			if stays := slices.Contains(survivors, m.Node); stays != x.s.Member(m) || stays != (x.s.Case(m) == nil) {
				r.Fatalf("%v: member %v, case %+v", m, x.s.Member(m), x.s.Case(m))
			}
		}
		z := New()
		if err := z.Restore(one); err != nil {
			r.Fatal(err)
		}
		if again, _ := z.Snapshot(); !bytes.Equal(again, one) {
			r.Fatalf("restored: %s\nwas: %s", again, one)
		}
	})
}

// TestTheLastActorIsGone: all members have failed but one, and that one goes. Where nobody
// is admitted before the victim is proved gone, no other would ever come.
func TestTheLastActorIsGone(t *testing.T) {
	y, a, b, c := three(t)
	d := y.admit(4, "d")
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	for n, actor := range []membership.Incarnation{a, b} {
		y.done(y.start(c, actor, uint64(n+1)))
		y.done(Command{FenceEnd: &FenceEnd{Victim: c, Attempt: uint64(n + 1), Err: "no answer"}})
	}
	if got := y.s.Actor(y.s.Case(c)); got != 4 {
		t.Fatalf("node %d is next", got)
	}
	y.evict(membership.ReasonRebooted, d)
	k := y.s.Case(c)
	if got := y.s.Actor(k); got != 1 || k.Round != 1 {
		t.Fatalf("node %d is next, round %d", got, k.Round)
	}
}

// An operator may want off who was evicted and held nothing: that takes a proof, once.
func TestAProofIsAskedForLater(t *testing.T) {
	y := newStory(t)
	for i := range 3 {
		y.done(Command{Admit: &Admit{Incarnation: inc(membership.NodeID(i+1), "a", 0), Machine: "m", Instance: 1, View: uint64(i)}})
	}
	victim := inc(3, "a", 0)
	ask := Command{FenceNeed: &FenceNeed{Victim: victim, Who: "root"}}
	y.refused(ask, "is not evicted")
	y.done(Command{Evict: &Evict{View: 3, Departures: []membership.Departure{{Incarnation: victim, Reason: membership.ReasonSilent}}}})
	start := Command{FenceStart: &FenceStart{Victim: victim, Attempt: 1, Actor: inc(1, "a", 0)}}
	y.refused(start, "needs no proof")
	y.done(ask)
	y.refused(ask, "needed already")
	y.done(start)
	y.done(Command{FenceEnd: &FenceEnd{Victim: victim, Attempt: 1, OK: true}})
	y.refused(ask, "is proved gone")
}
