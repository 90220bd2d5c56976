package raft_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/grouptest"
)

// rivals are two that each went on without the other, and hear each other again.
func rivals(t *testing.T) *grouptest.Sim {
	t.Helper()
	s := formed(t, 2, nil)
	s.Isolate(2, true)
	s.Run(3*time.Second, nil)
	force(t, s, 1, 1)
	force(t, s, 2, 2)
	s.Run(2*time.Second, nil)
	s.Isolate(2, false)
	s.Run(2*time.Second, nil)
	return s
}

func rivalsAre(s *grouptest.Sim, at membership.NodeID, want ...membership.NodeID) bool {
	return slices.Equal(s.Node(at).Group.Status().Rivals, want)
}

// TestRivals: if both of two went on without the other (a device lied), they refuse
// each other, also when they are cut again, until one gives up its log.
func TestRivals(t *testing.T) {
	s := rivals(t)
	for _, cut := range []bool{false, true, false} {
		s.Isolate(2, cut)
		s.Run(5*time.Second, nil)
		for _, id := range []membership.NodeID{1, 2} {
			w := s.Node(id).Group.Status().Waiting
			if !strings.Contains(w, "went on without the other") || machine(s, id).Fault() != nil || !rivalsAre(s, id, 3-id) {
				t.Errorf("cut %v, node %d: %+v, %v", cut, id, s.Node(id).Group.Status(), machine(s, id).Fault())
			}
			if why := machine(s, id).MayForce([]membership.NodeID{id}); why == "" {
				t.Errorf("node %d may go on in another generation", id)
			}
		}
		if cut && machine(s, 1).Rejoin() {
			t.Fatal("node 1 gives up its log, and hears nobody who has one")
		}
	}
	if machine(s, 1).Rejoin(); machine(s, 1).Fault() == nil {
		t.Fatal("node 1 was not told to give up its log")
	}
	electorate(s, 1, 2)
	await(t, s, "two voters", votersAre(s, 1, 2))
	if !rivalsAre(s, 1) || !rivalsAre(s, 2) {
		t.Fatal("they are rivals still")
	}
}

// TestARivalIsGone: an operator's word ends it, of one that is not heard.
func TestARivalIsGone(t *testing.T) {
	s := rivals(t)
	if machine(s, 1).RivalGone(2) || machine(s, 1).RivalGone(1) || machine(s, 1).RivalGone(7) {
		t.Fatal("it is heard, this node itself, or unknown")
	}
	gone(t, s, 2)
	if !rivalsAre(s, 1, 2) || !machine(s, 1).RivalGone(2) || !rivalsAre(s, 1) {
		t.Fatalf("%+v", s.Node(1).Group.Status())
	}
	s.Start(2)
	await(t, s, "that it is back, with its log", func() bool { return rivalsAre(s, 1, 2) && rivalsAre(s, 2, 1) })
}

// TestASideRejoinsNodeByNode: who has given up its log joins neither side before all of
// its own have, and then both join the other.
func TestASideRejoinsNodeByNode(t *testing.T) {
	s := formed(t, 4, nil)
	for _, a := range []membership.NodeID{1, 2} {
		for _, b := range []membership.NodeID{3, 4} {
			s.Cut(a, b, true)
		}
	}
	s.Run(3*time.Second, nil)
	s.Check.Forced = true
	for _, side := range [][]membership.NodeID{{1, 2}, {3, 4}} {
		var maker membership.NodeID
		for _, id := range side {
			s.Input(id, membership.GroupForce{Nodes: side})
		}
		if !s.Run(time.Second, func() bool {
			k := slices.IndexFunc(side, func(id membership.NodeID) bool { return machine(s, id).Pledged(side) })
			if k >= 0 {
				maker = side[k]
			}
			return k >= 0
		}) {
			t.Fatal("no word was given")
		}
		s.Input(maker, membership.GroupForce{Nodes: side, Data: []byte("forced")})
		await(t, s, "a side", func() bool {
			return !slices.ContainsFunc(side, func(id membership.NodeID) bool { return !slices.Equal(s.Node(id).Group.Status().Voters, side) })
		})
	}
	s.Heal()
	for _, id := range []membership.NodeID{1, 2} {
		await(t, s, "rivals", func() bool { return rivalsAre(s, id, 3, 4) && rivalsAre(s, id+2, 1, 2) })
	}
	machine(s, 3).Rejoin()
	electorate(s, 1, 2, 3, 4)
	await(t, s, "that one has no log", func() bool { return machine(s, 3).Fault() == nil && !s.Node(3).Group.Status().Formed })
	s.Run(5*time.Second, nil)
	if s.Node(3).Group.Status().Formed || !rivalsAre(s, 1, 4) || !rivalsAre(s, 4, 1, 2) {
		t.Fatalf("%+v, %+v, %+v", s.Node(3).Group.Status(), s.Node(1).Group.Status(), s.Node(4).Group.Status())
	}
	machine(s, 4).Rejoin()
	await(t, s, "four voters", func() bool {
		electorate(s, 1, 2, 3, 4)
		return votersAre(s, 1, 2, 3, 4)()
	})
}
