package cluster

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// story drives a state by hand: three configured nodes, two are a quorum.
type story struct {
	t     *testing.T
	s     *State
	index uint64
	holds map[membership.Incarnation]bool
}

func newStory(t *testing.T) *story {
	return &story{t: t, s: New(), holds: map[membership.Incarnation]bool{}}
}

func inc(n membership.NodeID, boot string, session uint32) membership.Incarnation {
	return membership.Incarnation{Node: n, Boot: membership.BootID(boot), Session: session}
}

// apply sends every command through its encoding, as the log does.
func (y *story) apply(c Command) Outcome {
	y.t.Helper()
	d, err := Decode(c.Encode())
	if err != nil {
		y.t.Fatal(err)
	}
	y.index++
	return y.s.Apply(y.index, d, func(i membership.Incarnation) bool { return y.holds[i] },
		func(ids []membership.NodeID) bool { return len(ids) >= 2 })
}

func (y *story) done(c Command) Outcome {
	y.t.Helper()
	o := y.apply(c)
	if o.Refused != "" {
		y.t.Fatalf("refused: %s", o.Refused)
	}
	return o
}

func (y *story) refused(c Command, words string) {
	y.t.Helper()
	before, _ := y.s.Snapshot()
	o := y.apply(c)
	if !strings.Contains(o.Refused, words) || o.Refused == "" {
		y.t.Fatalf("refused with %q, want %q", o.Refused, words)
	}
	y.s.Index--
	after, _ := y.s.Snapshot()
	y.s.Index++
	if !bytes.Equal(before, after) {
		y.t.Fatalf("a refused entry changed the state:\n%s\n%s", before, after)
	}
}

func (y *story) admit(n membership.NodeID, boot string) membership.Incarnation {
	y.t.Helper()
	y.done(Command{Admit: &Admit{Incarnation: inc(n, boot, 0), Machine: "m" + string(rune('0'+n)), Instance: 1, View: y.s.View.Number}})
	m, _ := y.s.View.Find(n)
	return m
}

func (y *story) evict(reason membership.Reason, who ...membership.Incarnation) Outcome {
	y.t.Helper()
	return y.done(y.eviction(reason, who...))
}

func (y *story) eviction(reason membership.Reason, who ...membership.Incarnation) Command {
	e := &Evict{View: y.s.View.Number}
	for _, i := range who {
		e.Departures = append(e.Departures, membership.Departure{Incarnation: i, Reason: reason, Observers: []membership.NodeID{1}})
	}
	return Command{Evict: e}
}

func (y *story) start(victim, actor membership.Incarnation, attempt uint64) Command {
	return Command{FenceStart: &FenceStart{Victim: victim, Attempt: attempt, Actor: actor, Start: time.Second, Lease: 10 * time.Second}}
}

func three(t *testing.T) (y *story, a, b, c membership.Incarnation) {
	y = newStory(t)
	a, b, c = y.admit(1, "a"), y.admit(2, "b"), y.admit(3, "c")
	return y, a, b, c
}

func TestViewsGrowByOneAndSayWhetherTheyAreAQuorum(t *testing.T) {
	y := newStory(t)
	y.admit(2, "b")
	if v := y.s.View; v.Number != 1 || v.Quorate {
		t.Fatalf("one of three: %+v", v)
	}
	y.admit(1, "a")
	if v := y.s.View; v.Number != 2 || !v.Quorate || v.Members[0].Node != 1 || v.Joined[0] != 1 {
		t.Fatalf("two of three: %+v", v)
	}
}

func TestADecisionOfAnOlderViewChangesNothing(t *testing.T) {
	y, _, b, c := three(t)
	old := y.eviction(membership.ReasonSilent, b)
	y.evict(membership.ReasonSilent, c)
	y.refused(old, "decided in view 3, now 4")
	y.refused(Command{Admit: &Admit{Incarnation: inc(3, "c2", 0), View: 3}}, "decided in view 3")
}

func TestAnEvictionLeavesAQuorum(t *testing.T) {
	y, _, b, c := three(t)
	y.refused(y.eviction(membership.ReasonSilent, b, c), "no quorum")
	y.refused(y.eviction(membership.ReasonSilent, inc(3, "other", 0)), "not a member")
	// Nodes that came back by themselves cannot act elsewhere: no quorum is needed to see that.
	y.evict(membership.ReasonRebooted, b)
	y.evict(membership.ReasonRestarted, c)
}

func TestANodeThatHeldNothingReturnsWithAHigherSession(t *testing.T) { // S3, S14
	y, _, _, c := three(t)
	o := y.evict(membership.ReasonSilent, c)
	if o.Evicted[0].Needed || !y.s.Proved(c) {
		t.Fatal("it held no lockspace: nothing is to be proved")
	}
	if got := y.admit(3, "c"); got != inc(3, "c", 1) {
		t.Fatalf("back as %v", got)
	}
	if got := y.s.Case(c); got != nil {
		t.Fatalf("the case is settled by its return: %+v", got)
	}
}

func TestAHolderStaysOutUntilItIsProvedGone(t *testing.T) { // I3, S12
	y, a, _, c := three(t)
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	y.refused(Command{Admit: &Admit{Incarnation: inc(3, "c2", 0), View: y.s.View.Number}}, "not proved gone")
	y.refused(y.start(c, a, 2), "attempt 2, expected 1")
	y.refused(y.start(c, inc(1, "dead", 0), 1), "not a member")
	y.done(y.start(c, a, 1))
	y.refused(y.start(c, a, 2), "node 1 is fencing it")
	y.refused(Command{FenceEnd: &FenceEnd{Victim: c, Attempt: 7, OK: true}}, "no such job")
	o := y.done(Command{FenceEnd: &FenceEnd{Victim: c, Attempt: 1, OK: true}})
	if len(o.Proved) != 1 || o.Proved[0] != c || !y.s.Proved(c) {
		t.Fatalf("%+v", o)
	}
	y.refused(y.start(c, a, 2), "needs no proof")
	y.admit(3, "c2")
}

func TestFailedActorsAreTriedInTurnAndThenAgain(t *testing.T) {
	y, a, b, c := three(t)
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	for i, want := range []membership.Incarnation{a, b, a} {
		k := y.s.Case(c)
		if got := y.s.Actor(k); got != want.Node {
			t.Fatalf("attempt %d by %d, want %d", i+1, got, want.Node)
		}
		y.done(y.start(c, want, uint64(i+1)))
		y.done(Command{FenceEnd: &FenceEnd{Victim: c, Attempt: uint64(i + 1), Err: "no route"}})
	}
	if k := y.s.Case(c); k.Round != 1 || k.LastErr != "no route" || !k.Open() {
		t.Fatalf("%+v", k)
	}
}

func TestALevelThatLiedIsKnown(t *testing.T) {
	y, a, b, c := three(t)
	y.holds[c] = true
	y.evict(membership.ReasonStalled, c)
	for i, lied := range []int{0, 2, 1} {
		y.done(y.start(c, []membership.Incarnation{a, b, a}[i], uint64(i+1)))
		y.done(Command{FenceEnd: &FenceEnd{Victim: c, Attempt: uint64(i + 1), Lied: lied, Err: "it lies"}})
	}
	if k := y.s.Case(c); k.Lied != 2 || k.Proof != nil {
		t.Fatalf("%+v", k)
	}
}

func TestAnExpiredJobProvesNothing(t *testing.T) {
	y, a, _, c := three(t)
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	y.done(y.start(c, a, 1))
	y.done(Command{FenceExpire: &FenceExpire{Victim: c, Attempt: 1}})
	if k := y.s.Case(c); k.Proof != nil || k.Job != nil {
		t.Fatalf("%+v", k)
	}
	y.refused(Command{FenceEnd: &FenceEnd{Victim: c, Attempt: 1, OK: true}}, "no such job") // too late to count
}

func TestANewBootOfTheSameMachineIsProof(t *testing.T) { // S4
	y, a, _, c := three(t)
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	y.refused(Command{NewBoot: &NewBoot{Victim: c, Boot: "c2", Machine: "other"}}, "another machine")
	y.refused(Command{NewBoot: &NewBoot{Victim: c, Boot: "c", Machine: "m3"}}, "is that boot")
	y.done(y.start(c, a, 1))
	o := y.done(Command{NewBoot: &NewBoot{Victim: c, Boot: "c2", Machine: "m3"}})
	if len(o.Proved) != 1 {
		t.Fatalf("%+v", o)
	}
	// The agent that was started may still cut the power: nobody is let in under it.
	y.refused(Command{Admit: &Admit{Incarnation: inc(3, "c2", 0), Machine: "m3", View: y.s.View.Number}}, "being fenced")
	y.done(Command{FenceExpire: &FenceExpire{Victim: c, Attempt: 1}})
	y.admit(3, "c2")
}

// An actor that was evicted and may wake up keeps its job: no time ends it, and
// its victim's node is not let in (S12).
func TestAnEvictedActorsJobDoesNotExpire(t *testing.T) {
	y, a, b, c := three(t)
	y.admit(4, "d")
	y.holds[c] = true // the actor holds nothing: it has to be proved gone for its agent's sake
	y.evict(membership.ReasonSilent, c)
	y.done(y.start(c, a, 1))
	y.evict(membership.ReasonSilent, a)
	y.done(Command{NewBoot: &NewBoot{Victim: c, Boot: "c2", Machine: "m3"}})
	y.refused(Command{FenceExpire: &FenceExpire{Victim: c, Attempt: 1}}, "not proved gone")
	y.refused(Command{Admit: &Admit{Incarnation: inc(3, "c2", 0), Machine: "m3", View: y.s.View.Number}}, "being fenced")
	y.done(y.start(a, b, 1))
	o := y.done(Command{FenceEnd: &FenceEnd{Victim: a, Attempt: 1, OK: true}})
	if len(o.Ended) != 2 || o.Ended[1].Victim != c {
		t.Fatalf("%+v", o.Ended)
	}
	y.admit(3, "c2")
}

// The agents of a daemon died with it: one that starts anew need not be fenced for them.
func TestARestartedActorNeedsNoProof(t *testing.T) {
	y, a, _, c := three(t)
	y.admit(4, "d")
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	y.done(y.start(c, a, 1))
	y.evict(membership.ReasonRestarted, a)
	y.done(Command{FenceExpire: &FenceExpire{Victim: c, Attempt: 1}})
}

func TestAnActorThatIsProvedGoneRunsNothingMore(t *testing.T) {
	y, a, b, c := three(t)
	d := y.admit(4, "d")
	y.holds[c], y.holds[a] = true, true
	y.evict(membership.ReasonSilent, c)
	y.done(y.start(c, a, 1))
	y.evict(membership.ReasonSilent, a)
	y.done(y.start(a, b, 1))
	y.done(Command{FenceEnd: &FenceEnd{Victim: a, Attempt: 1, OK: true}})
	k := y.s.Case(c)
	if k.Job != nil || k.Proof != nil || y.s.Actor(k) != b.Node {
		t.Fatalf("%+v", k)
	}
	_ = d
}

// A proof that is ordered late speaks of the life that it was given for, and
// never of the next one of the same node.
func TestALateProofDoesNotReachTheNextIncarnation(t *testing.T) {
	y, _, _, c := three(t)
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	boot := Command{NewBoot: &NewBoot{Victim: c, Boot: "c2", Machine: "m3"}}
	ack := Command{FenceAck: &FenceAck{Victim: c, Who: "root"}}
	y.done(boot)
	c2 := y.admit(3, "c2")
	y.holds[c2] = true
	y.evict(membership.ReasonSilent, c2)
	y.refused(boot, "nothing of")
	y.refused(ack, "nothing of")
	if !y.s.Case(c2).Open() {
		t.Fatal("the second incarnation is taken as gone")
	}
}

func TestAnAcknowledgementProvesTheLostIncarnation(t *testing.T) {
	y, _, _, c := three(t)
	y.holds[c] = true
	y.refused(Command{FenceAck: &FenceAck{Victim: c, Who: "root"}}, "nothing of")
	y.evict(membership.ReasonSilent, c)
	y.done(Command{FenceAck: &FenceAck{Victim: c, Who: "root"}, Wall: "today"})
	h := y.s.History
	if len(h) != 1 || h[0].How != "manual" || h[0].Who != "root" || h[0].Wall != "today" || !h[0].OK {
		t.Fatalf("%+v", h)
	}
}

func TestACleanLeaveNeedsEmptyHands(t *testing.T) {
	y, _, _, c := three(t)
	y.holds[c] = true
	y.refused(Command{Leave: &Leave{Incarnation: c}}, "holds lockspaces")
	y.holds[c] = false
	y.done(Command{Leave: &Leave{Incarnation: c}})
	if n := y.s.Node(3); !n.Left || y.s.View.Left[0].Reason != membership.ReasonLeft || len(y.s.Cases) != 0 {
		t.Fatalf("%+v", y.s)
	}
	y.refused(Command{Leave: &Leave{Incarnation: c}}, "not a member")
}

func TestAnOperatorMayFenceWhoHoldsNothing(t *testing.T) {
	y, _, _, c := three(t)
	e := y.eviction(membership.ReasonOperator, c)
	e.Evict.Fence = true
	y.done(e)
	if !y.s.Case(c).Open() {
		t.Fatal("asked to be fenced")
	}
}

// Who writes the list answers for those that are not on it.
func TestAListIsProofOfWhoIsNotOnIt(t *testing.T) {
	y, a, b, c := three(t)
	y.holds[b], y.holds[c] = true, true
	y.evict(membership.ReasonRestarted, b)
	view := y.s.View.Number
	y.refused(Command{List: &List{Who: "file"}}, "nobody")
	o := y.done(Command{List: &List{Nodes: []membership.NodeID{4, 1, 4}, Who: "file"}, Wall: "today"})
	if !slices.Equal(y.s.Listed, []membership.NodeID{1, 4}) || !slices.Equal(y.s.View.IDs(), []membership.NodeID{1}) || o.View.Number != view+1 {
		t.Fatalf("%+v", y.s)
	}
	if len(o.Evicted) != 1 || o.Evicted[0].Victim != c || o.Evicted[0].Reason != membership.ReasonOperator || !slices.Equal(o.Proved, []membership.Incarnation{b, c}) {
		t.Fatalf("%+v", o)
	}
	if h := y.s.History; len(h) != 2 || h[1].How != "manual" || h[1].Who != "file" || h[1].Wall != "today" {
		t.Fatalf("%+v", h)
	}
	y.refused(Command{List: &List{Nodes: []membership.NodeID{1, 4}, Who: "file"}}, "already")
	o = y.done(Command{List: &List{Nodes: []membership.NodeID{1, 2, 3}, Who: "file"}})
	if o.View == nil || len(o.Evicted)+len(o.Proved) != 0 {
		t.Fatalf("nobody went: %+v", o)
	}
	y.admit(3, "c") // the same boot, with empty hands: a later session
	if m, _ := y.s.View.Find(3); m.Session != c.Session+1 {
		t.Fatalf("%v after %v", m, c)
	}
	_ = a
}

func TestSnapshotsAreWhole(t *testing.T) {
	y, a, _, c := three(t)
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	y.done(y.start(c, a, 1))
	b, err := y.s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	r := New()
	if err := r.Restore(b); err != nil {
		t.Fatal(err)
	}
	again, _ := r.Snapshot()
	if !bytes.Equal(b, again) {
		t.Fatalf("%s\n%s", b, again)
	}
	if err := r.Restore([]byte(`{"feature":99}`)); !errors.Is(err, ErrEntry) {
		t.Fatalf("a snapshot of the future: %v", err)
	}
	if err := r.Restore(nil); err != nil || r.View.Number != 0 {
		t.Fatalf("the beginning: %v %+v", err, r)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	y, _, _, _ := three(t)
	for range 3 * MaxHistory {
		y.s.record(Record{})
	}
	if len(y.s.History) != MaxHistory {
		t.Fatal(len(y.s.History))
	}
}

func TestEntriesOfAnotherVersionStopTheDaemon(t *testing.T) {
	for _, b := range []string{``, `{`, `{"v":1}`, `{"v":0,"leave":{}}`, `{"v":2,"leave":{}}`, `{"v":1,"leave":{},"admit":{}}`, `[]`,
		`{"v":1,"leave":{"incarnation":{"node":"x"}}}`} {
		if _, err := Decode([]byte(b)); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", b, err)
		}
	}
	if _, err := Decode(make([]byte, MaxCommand+1)); !errors.Is(err, ErrEntry) {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Command{Leave: &Leave{Incarnation: inc(1, "a", 2)}}.Encode())
	f.Add(Command{Evict: &Evict{View: 3, Departures: []membership.Departure{{Incarnation: inc(1, "a", 0), Reason: membership.ReasonSilent}}}}.Encode())
	f.Add([]byte(`{"v":1,"msg":{"consumer":"lockspace","data":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			return
		}
		s := New() // whatever an entry says, applying it must not panic
		s.Apply(1, c, func(membership.Incarnation) bool { return true }, func([]membership.NodeID) bool { return true })
		if d, err := Decode(c.Encode()); err != nil || d.count() != 1 {
			t.Fatalf("%v %+v", err, d)
		}
	})
}
