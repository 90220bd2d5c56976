package raft_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/grouptest"
)

// electorate tells every node that lives who may vote.
func electorate(s *grouptest.Sim, nodes ...membership.NodeID) {
	for _, n := range s.Nodes {
		if n.Alive {
			machine(s, n.ID).SetElectorate(nodes)
		}
	}
}

func votersAre(s *grouptest.Sim, nodes ...membership.NodeID) func() bool {
	return func() bool {
		l := leader(s)
		return l != 0 && slices.Equal(s.Node(l).Group.Status().Voters, nodes)
	}
}

func TestTheElectorateShrinksAndTheRestGoesOn(t *testing.T) {
	s := formed(t, 5, nil)
	l := leader(s)
	rest := others(s, l)
	dead := rest[:2]
	for _, id := range dead {
		s.Crash(id)
	}
	order(t, s, l, 2)
	left := append([]membership.NodeID{l}, rest[2:]...)
	slices.Sort(left)
	electorate(s, left...)
	await(t, s, "three voters", votersAre(s, left...))
	s.Crash(rest[2]) // two of three are a majority, of five they were not
	order(t, s, l, 2)
}

func TestWhoLeftTheElectorateComesBackUnderAnotherID(t *testing.T) {
	s := formed(t, 3, nil)
	l := leader(s)
	rest := others(s, l)
	out := rest[0]
	was := machine(s, out).RaftID()
	s.Crash(out)
	left := []membership.NodeID{l, rest[1]}
	slices.Sort(left)
	electorate(s, left...)
	await(t, s, "two voters", votersAre(s, left...))
	s.Start(out)
	await(t, s, "a learner", func() bool { return slices.Contains(s.Node(l).Group.Status().Learners, out) })
	s.Run(2*time.Second, nil)
	if st := s.Node(l).Group.Status(); slices.Contains(st.Voters, out) {
		t.Fatalf("it votes outside the electorate: %+v", st)
	}
	electorate(s, 1, 2, 3)
	await(t, s, "three voters", votersAre(s, 1, 2, 3))
	if id := machine(s, out).RaftID(); id == was {
		t.Fatalf("it came back as %x", id)
	}
	order(t, s, out, 3)
}

func TestANodeThatIsNotConfiguredAnyMoreIsTakenOut(t *testing.T) {
	s := formed(t, 4, nil)
	l := leader(s)
	out := others(s, l)[0]
	left := slices.DeleteFunc([]membership.NodeID{1, 2, 3, 4}, func(n membership.NodeID) bool { return n == out })
	s.Crash(out)
	for _, id := range left {
		machine(s, id).SetNodes(left)
	}
	await(t, s, "three voters", votersAre(s, left...))
	order(t, s, l, 3)
	for _, id := range left {
		machine(s, id).SetNodes([]membership.NodeID{1, 2, 3, 4})
	}
	s.Start(out)
	await(t, s, "four voters", votersAre(s, 1, 2, 3, 4))
	order(t, s, out, 3)
}

// bereft are three of whom one has crashed: their leader, the other one, and the dead one.
func bereft(t *testing.T) (s *grouptest.Sim, l, other, dead membership.NodeID) {
	t.Helper()
	s = formed(t, 3, nil)
	l = leader(s)
	other, dead = others(s, l)[0], others(s, l)[1]
	s.Crash(dead)
	s.Run(time.Second, nil)
	return s, l, other, dead
}

// TestNoVoterIsTakenOutOfWhomTheRestHasNeed: of three one counts no longer, and is there
// all the same; another one, which counts, is not.
func TestNoVoterIsTakenOutOfWhomTheRestHasNeed(t *testing.T) {
	s, l, out, dead := bereft(t)
	left := []membership.NodeID{min(l, dead), max(l, dead)}
	electorate(s, left...)
	order(t, s, l, 3)
	s.Run(3*time.Second, nil)
	if st := s.Node(l).Group.Status(); st.Leader != l || !slices.Equal(st.Voters, []membership.NodeID{1, 2, 3}) {
		t.Fatalf("%+v", st)
	}
	s.Start(dead)
	electorate(s, left...)
	await(t, s, "two voters", votersAre(s, left...))
	electorate(s, 1, 2, 3)
	await(t, s, "three voters", votersAre(s, 1, 2, 3))
	order(t, s, out, 2)
}

// shrunk has two of five nodes taken out one by one while a third is away; then one of the
// three that are left dies, so that the last one can do nothing alone.
func shrunk(t *testing.T) (s *grouptest.Sim, stays, away, dead membership.NodeID, left []membership.NodeID) {
	t.Helper()
	s = formed(t, 5, nil)
	stays = leader(s)
	rest := others(s, stays)
	away, dead = rest[0], rest[1]
	s.Crash(away)
	left = []membership.NodeID{1, 2, 3, 4, 5}
	for _, out := range rest[2:] {
		left = membership.Without(left, out)
		electorate(s, left...)
		await(t, s, "fewer voters", votersAre(s, left...))
		s.Run(time.Second, nil) // who was taken out is back, under another raft id
	}
	s.Crash(dead)
	s.Run(2*time.Second, nil)
	if l := leader(s); l != 0 {
		t.Fatalf("node %d leads alone", l)
	}
	return s, stays, away, dead, left
}

// TestWhoWasAwayWhileTheVotersChanged takes part again: of the five voters in its log one
// answers, and two are no more and never will.
func TestWhoWasAwayWhileTheVotersChanged(t *testing.T) {
	for _, restart := range []bool{false, true} {
		s, stays, away, dead, left := shrunk(t)
		if restart { // it says what its log knows to be ordered
			s.Crash(stays)
			s.Start(stays)
			s.Run(2*time.Second, nil)
		}
		s.Start(away)
		await(t, s, "a leader of the two", votersAre(s, left...))
		order(t, s, stays, 2)
		s.Start(dead)
		electorate(s, 1, 2, 3, 4, 5)
		await(t, s, "five voters", votersAre(s, 1, 2, 3, 4, 5))
		order(t, s, away, 2)
	}
}

// TestWhoWasAwayAsksTheVotersThatThereAre: others who know of them are not enough.
func TestWhoWasAwayAsksTheVotersThatThereAre(t *testing.T) {
	s, stays, away, dead, left := shrunk(t)
	s.Crash(stays)
	s.Start(away)
	s.Run(5*time.Second, nil)
	want := fmt.Sprintf("restarted: asking a majority of the voters what they saw from this node; missing node %d, node %d", min(stays, dead), max(stays, dead))
	if st := s.Node(away).Group.Status(); st.Leader != 0 || st.Waiting != want {
		t.Fatalf("%+v, want %q", st, want)
	}
	s.Start(stays)
	await(t, s, "a leader of the two", votersAre(s, left...))
}

// TestItIsToldWhenTheVotersKeepAChange: the moment from which the last of them may go on alone.
func TestItIsToldWhenTheVotersKeepAChange(t *testing.T) {
	s, l, stays, _ := bereft(t)
	left := []membership.NodeID{min(l, stays), max(l, stays)}
	told := map[string]int{}
	s.Trace = func(format string, v ...any) {
		_, text, _ := strings.Cut(fmt.Sprintf(format, v...), " ")
		told[text]++
	}
	keeps := func(id membership.NodeID) int {
		return told[fmt.Sprintf("node %d: config: voters %v: all of them keep it", id, left)]
	}
	electorate(s, left...)
	await(t, s, "two voters who keep it", func() bool { return keeps(l) > 0 && keeps(stays) > 0 })
	may := func() string {
		return s.Node(l).Group.(membership.Forcer).MayForce([]membership.NodeID{l})
	}
	s.Crash(stays)
	await(t, s, "the last one may go on", func() bool { return may() == "" })
	if keeps(l) != 1 {
		t.Errorf("told %d times", keeps(l))
	}
	s.Crash(l) // it need not ask the others again what they keep
	s.Start(l)
	await(t, s, "the last one may go on after a restart", func() bool { return may() == "" })
	if keeps(l) != 1 {
		t.Errorf("told %d times", keeps(l))
	}
}
