package raft_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/grouptest"
	"github.com/quorate/quorate/membership/group/raft"
)

// force has nodes go on without the others, from one of them.
func force(t *testing.T, s *grouptest.Sim, at membership.NodeID, nodes ...membership.NodeID) {
	t.Helper()
	s.Check.Forced = true
	if why := machine(s, at).MayForce(nodes); why != "" {
		t.Fatalf("node %d may not force %v: %s", at, nodes, why)
	}
	tryForce(s, at, nodes...)
}

// tryForce asks for the others' word until it has it, and goes on then.
func tryForce(s *grouptest.Sim, at membership.NodeID, nodes ...membership.NodeID) {
	s.Check.Forced = true
	if !s.Node(at).Alive {
		return
	}
	if !machine(s, at).Pledged(nodes) {
		s.Input(at, membership.GroupForce{Nodes: nodes})
		s.Run(time.Second, func() bool { return !s.Node(at).Alive || machine(s, at).Pledged(nodes) })
	}
	s.Input(at, membership.GroupForce{Nodes: nodes, Data: []byte("forced")})
}

// gone kills nodes, and waits until the others have missed them.
func gone(t *testing.T, s *grouptest.Sim, nodes ...membership.NodeID) {
	t.Helper()
	for _, id := range nodes {
		s.Crash(id)
	}
	s.Run(3*time.Second, nil)
}

func TestOneOfTwoGoesOn(t *testing.T) {
	s := formed(t, 2, nil)
	order(t, s, 1, 3)
	gone(t, s, 2)
	s.Propose(1, "uncommitted") // counts: node 2 may have seen it
	force(t, s, 1, 1)
	await(t, s, "a cluster of one", votersAre(s, 1))
	order(t, s, 1, 3)

	was := machine(s, 2).RaftID()
	s.Start(2) // with the old configuration in its log
	electorate(s, 1, 2)
	await(t, s, "two voters", votersAre(s, 1, 2))
	if id := machine(s, 2).RaftID(); id == was {
		t.Fatalf("node 2 is back with the log of the old generation")
	}
	order(t, s, 2, 3)
}

func TestAForcedGenerationIsDurable(t *testing.T) {
	s := formed(t, 2, nil)
	order(t, s, 1, 3)
	gone(t, s, 2)
	force(t, s, 1, 1)
	await(t, s, "a cluster of one", votersAre(s, 1))
	order(t, s, 1, 1)
	s.Crash(1)
	s.Start(1)
	await(t, s, "a cluster of one after a restart", votersAre(s, 1))
	order(t, s, 1, 1)
}

// TestTheOldOneWaits: whoever was left out has no majority and forces nothing by itself.
func TestTheOldOneWaits(t *testing.T) {
	s := formed(t, 2, nil)
	gone(t, s, 2)
	force(t, s, 1, 1)
	await(t, s, "a cluster of one", votersAre(s, 1))
	order(t, s, 1, 1)
	s.Crash(1)
	s.Start(2)
	s.Run(5*time.Second, nil)
	if st := s.Node(2).Group.Status(); st.Leader != 0 || !strings.Contains(st.Waiting, "node 1") {
		t.Fatalf("%+v", st)
	}
	s.Start(1)
	await(t, s, "node 1 to lead", func() bool { return leader(s) == 1 })
}

// TestMostCompleteOfTwoHalves: of four, two go on; what the dead ones had agreed with
// one of them is kept.
func TestHalfOfFourGoesOn(t *testing.T) {
	s := formed(t, 4, nil)
	l := leader(s)
	rest := others(s, l)
	behind := rest[0]
	s.Isolate(behind, true)
	order4(t, s, l) // agreed by three
	s.Isolate(behind, false)
	s.Crash(l)
	s.Crash(rest[1])
	s.Run(3*time.Second, nil)
	pair := []membership.NodeID{behind, rest[2]}
	slices.Sort(pair)
	force(t, s, rest[2], pair...)
	await(t, s, "a cluster of two", func() bool { return votersAre(s, pair...)() && settled(s) })
	order(t, s, behind, 3)
	for _, id := range []membership.NodeID{l, rest[1]} {
		s.Start(id)
	}
	electorate(s, 1, 2, 3, 4)
	await(t, s, "four voters", func() bool { return votersAre(s, 1, 2, 3, 4)() && settled(s) })
	order(t, s, l, 3)
}

func order4(t *testing.T, s *grouptest.Sim, l membership.NodeID) {
	t.Helper()
	before := s.Check.Highest
	s.Propose(l, "of three")
	await(t, s, "agreement of three", func() bool { return s.Check.Highest > before })
}

// TestLessCompleteMayNotMake: the word is given to nobody whose log lacks something.
func TestTheLessCompleteGetsNoWord(t *testing.T) {
	s := formed(t, 4, nil)
	l := leader(s)
	rest := others(s, l)
	behind := rest[0]
	s.Isolate(behind, true)
	order4(t, s, l)
	s.Crash(l)
	s.Crash(rest[1])
	s.Run(3*time.Second, nil)
	s.Isolate(behind, false)
	s.Run(300*time.Millisecond, nil)
	tryForce(s, behind, behind, rest[2])
	s.Run(5*time.Second, nil)
	if leader(s) != 0 {
		t.Fatalf("node %d made a generation without an entry that was agreed", behind)
	}
}

// TestWordsAreTakenBack: the maker died before it had made anything; when it is back
// without, the one that gave its word is free.
func TestWordsAreTakenBack(t *testing.T) {
	for effects := 1; effects < 12; effects++ {
		s := formed(t, 4, nil)
		l := leader(s)
		rest := others(s, l)
		gone(t, s, l, rest[0])
		a, b := rest[1], rest[2]
		s.CrashIn(b, effects) // it gives its word, or dies before
		force(t, s, a, a, b)
		s.Run(300*time.Millisecond, nil)
		s.Crash(a)
		s.Run(time.Second, nil)
		for _, id := range []membership.NodeID{1, 2, 3, 4} {
			if !s.Node(id).Alive {
				s.Start(id)
			}
		}
		electorate(s, 1, 2, 3, 4)
		await(t, s, "all four", func() bool { return votersAre(s, 1, 2, 3, 4)() && settled(s) })
		order(t, s, b, 2)
	}
}

func TestMayForce(t *testing.T) {
	s := formed(t, 5, nil)
	l := leader(s)
	rest := others(s, l)
	if why := machine(s, l).MayForce([]membership.NodeID{l}); !strings.Contains(why, "majority") {
		t.Errorf("with everyone here: %q", why)
	}
	gone(t, s, rest[0], rest[1], rest[2])
	if why := machine(s, l).MayForce([]membership.NodeID{l, rest[3]}); !strings.Contains(why, "less than half of the 5 voters") {
		t.Errorf("two of five: %q", why)
	}
	s.Input(l, membership.GroupForce{Nodes: []membership.NodeID{l, rest[3]}, Data: []byte("no")})
	s.Run(time.Second, nil)
	if leader(s) != 0 {
		t.Error("two of five went on")
	}
}

// TestTheOldMajorityDoesNotFormAgain: of three one was taken out, and then one of two
// went on. The other two boot: one of them has the change in its log, and need not know
// that it was agreed.
func TestTheOldMajorityDoesNotFormAgain(t *testing.T) {
	for _, known := range []bool{false, true} {
		s := formed(t, 3, nil)
		l := leader(s)
		rest := others(s, l)
		out, kept := rest[0], rest[1]
		s.Crash(out)
		s.Run(time.Second, nil)
		electorate(s, min(l, kept), max(l, kept))
		await(t, s, "two voters", votersAre(s, min(l, kept), max(l, kept)))
		if known {
			s.Run(2*time.Second, nil)
		}
		s.Crash(kept)
		s.Run(3*time.Second, nil)
		why := machine(s, l).MayForce([]membership.NodeID{l})
		if !known {
			if !strings.Contains(why, "by the one before") {
				t.Errorf("at once: %q", why)
			}
			continue
		}
		force(t, s, l, l)
		await(t, s, "a cluster of one", votersAre(s, l))
		order(t, s, l, 2)
		s.Crash(l)
		s.Start(kept)
		s.Start(out)
		s.Run(10*time.Second, nil)
		if n := leader(s); n != 0 {
			t.Fatalf("node %d leads: the two that were left out", n)
		}
	}
}

func TestCarelessLosesTheGeneration(t *testing.T) {
	s := formed(t, 2, func(c *raft.Config) { c.Careless = true })
	gone(t, s, 2)
	force(t, s, 1, 1)
	await(t, s, "a cluster of one", votersAre(s, 1))
	s.Crash(1)
	s.Start(1)
	s.Run(3*time.Second, nil)
	if leader(s) != 0 {
		t.Fatal("the generation was durable")
	}
}

// TestAFormerConfigurationIsNotForgotten: node 3 was taken out, node 2 has not seen that
// this is ordered, and the two are started anew: by the former configuration they are a
// majority. So node 1 does not go on alone before it is known that they cannot.
func TestAFormerConfigurationIsNotForgotten(t *testing.T) {
	went := 0
	for cut := range 40 {
		s := formed(t, 3, nil)
		l := leader(s)
		rest := others(s, l)
		kept, out := rest[0], rest[1]
		s.Crash(out)
		s.Check.Forced = true
		left := []membership.NodeID{l, kept}
		slices.Sort(left)
		electorate(s, left...)
		s.Input(l, membership.GroupTimer{})
		s.Run(time.Duration(cut)*500*time.Microsecond, nil)
		gone(t, s, kept)
		if why := machine(s, l).MayForce([]membership.NodeID{l}); why != "" {
			continue // and so nobody goes on alone
		}
		force(t, s, l, l)
		await(t, s, "a cluster of one", votersAre(s, l))
		order(t, s, l, 1)
		went++
		s.Crash(l)
		s.Start(kept)
		s.Start(out)
		if s.Run(5*time.Second, func() bool { return leader(s) != 0 }) {
			t.Fatalf("cut after %d: node %d leads by the former configuration, and node %d has gone on without it", cut, leader(s), l)
		}
	}
	if went == 0 {
		t.Fatal("nobody ever went on alone")
	}
}

// half has three of six give their word to the first of them, which goes on; the last one
// does not hear of it.
func half(t *testing.T) (s *grouptest.Sim, made, told, untold membership.NodeID, left []membership.NodeID) {
	t.Helper()
	s = formed(t, 6, nil)
	l := leader(s)
	rest := others(s, l)
	gone(t, s, rest[2:]...)
	made, told, untold = l, rest[0], rest[1]
	left = []membership.NodeID{made, told, untold}
	slices.Sort(left)
	s.Check.Forced = true
	s.Input(made, membership.GroupForce{Nodes: left})
	if !s.Run(time.Second, func() bool { return machine(s, made).Pledged(left) }) {
		t.Fatal("not all gave their word")
	}
	s.Cut(untold, made, true) // which it notices later
	s.Cut(untold, told, true)
	s.Input(made, membership.GroupForce{Nodes: left, Data: []byte("forced")})
	return s, made, told, untold, left
}

// TestTheGenerationOutlivesItsMaker: whoever gave its word goes on with anybody who is in
// the generation, when its maker has died.
func TestTheGenerationOutlivesItsMaker(t *testing.T) {
	s, made, told, untold, left := half(t)
	await(t, s, "a cluster of three", votersAre(s, left...))
	order4(t, s, made)
	s.Crash(made)
	s.Heal()
	await(t, s, "a leader of the two that are left", func() bool { l := leader(s); return l == told || l == untold })
	order4(t, s, leader(s))
}

// TestWhoGaveItsWordAndWasTakenOut comes back under another id.
func TestWhoGaveItsWordAndWasTakenOut(t *testing.T) {
	s, made, told, untold, left := half(t)
	await(t, s, "a cluster of three", votersAre(s, left...))
	s.Crash(untold)
	electorate(s, made, told)
	pair := slices.DeleteFunc(slices.Clone(left), func(n membership.NodeID) bool { return n == untold })
	await(t, s, "a cluster of two", votersAre(s, pair...))
	s.Heal()
	s.Start(untold)
	electorate(s, left...)
	await(t, s, "three voters", votersAre(s, left...))
	order(t, s, untold, 2)
}
