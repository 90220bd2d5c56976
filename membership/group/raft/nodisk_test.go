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

// loses has a node's disk fail: no record of it is durable from now on.
func loses(t *testing.T, s *grouptest.Sim, id membership.NodeID) {
	t.Helper()
	if !machine(s, id).DiskLost("read-only file system") {
		t.Fatalf("node %d cannot go on", id)
	}
	s.Input(id, membership.GroupTimer{})
}

// follows: the node without a disk is a learner and delivers what all do.
func follows(s *grouptest.Sim, id membership.NodeID) func() bool {
	return func() bool {
		st := s.Node(id).Group.Status()
		return leader(s) != id && settled(s) && !st.Voter && slices.Equal(st.Learners, []membership.NodeID{id})
	}
}

// A node whose disk fails, leader or not, goes on as a learner from memory. When
// its disk is there again, as it was, its node joins anew.
func TestANodeWithoutADiskFollows(t *testing.T) {
	for _, leads := range []bool{false, true} {
		s := formed(t, 3, nil)
		order(t, s, 1, 5)
		victim := leader(s)
		if !leads {
			victim = others(s, victim)[0]
		}
		old, from := machine(s, victim).RaftID(), s.Now
		loses(t, s, victim)
		await(t, s, "it a learner", follows(s, victim))
		if took := s.Now.Sub(from); took > 2*time.Second {
			t.Errorf("leads %v: it took %v", leads, took)
		}
		records := len(s.Node(victim).Disk.Records)
		order(t, s, victim, 250) // over a compaction
		if n := len(s.Node(victim).Disk.Records); n != records {
			t.Fatalf("%d records were written without a disk", n-records)
		}
		s.Crash(victim)
		s.Start(victim)
		await(t, s, "it a voter again", func() bool {
			st := s.Node(victim).Group.Status()
			return s.Node(victim).Alive && settled(s) && st.Voter && len(st.Voters) == 3 && len(st.Learners) == 0
		})
		if machine(s, victim).RaftID() == old {
			t.Fatal("its log was older than what it had acknowledged, and it went on with it")
		}
		order(t, s, victim, 3)
	}
}

// It neither votes nor counts: the one voter that is left of three elects nobody.
func TestANodeWithoutADiskDoesNotVote(t *testing.T) {
	s := formed(t, 3, nil)
	l := leader(s)
	rest := others(s, l)
	loses(t, s, rest[0])
	s.Crash(l) // before it can have made a learner of it
	if s.Run(20*time.Second, func() bool { return leader(s) == rest[1] || leader(s) == rest[0] }) {
		t.Fatalf("node %d was elected by one that cannot remember its vote", leader(s))
	}
	s.Start(l)
	await(t, s, "a leader, and it a learner", follows(s, rest[0]))
}

// The second of three without a disk stays a voter that nothing is ordered by: one
// disk is not what three nodes agreed to keep things on.
func TestTwoNodesWithoutADiskStopTheOrder(t *testing.T) {
	s := formed(t, 3, nil)
	l := leader(s)
	rest := others(s, l)
	loses(t, s, rest[0])
	await(t, s, "a learner", follows(s, rest[0]))
	loses(t, s, rest[1])
	before := s.Check.Highest
	s.Propose(l, "not to be ordered")
	s.Run(5*time.Second, nil)
	if s.Check.Highest != before || s.Check.Err != nil {
		t.Fatalf("ordered %d with one disk (%v)", s.Check.Highest, s.Check.Err)
	}
	loses(t, s, l)
	s.Run(5*time.Second, nil)
	if w := s.Node(rest[0]).Group.Status().Waiting; leader(s) != 0 || !strings.Contains(w, "the log cannot be written on node") {
		t.Fatalf("node %d leads; it waits for %q", leader(s), w)
	}
}

// A voter that said it has no disk is offered no leadership: it would not take it,
// and the order stood still until the hand-over was given up.
func TestANodeWithoutADiskIsOfferedNoLeadership(t *testing.T) {
	s := formed(t, 5, nil)
	order(t, s, 1, 5)
	l := leader(s)
	rest := others(s, l)
	bare, heir := rest[0], rest[3]
	for k, id := range []membership.NodeID{rest[1], rest[2]} {
		loses(t, s, id)
		await(t, s, "a learner", func() bool { return settled(s) && len(s.Node(l).Group.Status().Learners) == k+1 })
	}
	loses(t, s, bare) // as complete as the heir, and one too many to be made a learner
	s.Run(time.Second, nil)
	if st := s.Node(l).Group.Status(); leader(s) != l || !slices.Contains(st.Voters, bare) {
		t.Fatalf("%+v", st)
	}
	s.Node(l).Barred = true
	s.Input(l, membership.GroupJudge{Hears: rest, Barred: true})
	if !s.Run(50*time.Millisecond, func() bool { return leader(s) == heir }) {
		t.Fatalf("node %d leads, not %d", leader(s), heir)
	}
	await(t, s, "all to follow it", func() bool { return settled(s) })
	before := s.Check.Highest
	s.Input(heir, membership.GroupHandOver{To: bare})
	s.Propose(heir, "taken at once")
	s.Run(50*time.Millisecond, nil)
	if leader(s) != heir || s.Check.Highest == before {
		t.Fatalf("node %d leads, delivered up to %d, as before", leader(s), before)
	}
}

// A voter without a disk that cannot be made a learner, one too many, follows a leader
// that is elected after the loss all the same: it acknowledges what is ordered without it.
// When it said nothing it was stuck once a part of an append was ordered, and a
// lockspace waited for it for ever.
func TestAVoterWithoutADiskFollowsANewLeader(t *testing.T) {
	s := formed(t, 5, nil)
	order(t, s, 1, 5)
	l := leader(s)
	rest := others(s, l)
	for k, id := range rest[:2] {
		loses(t, s, id)
		await(t, s, "a learner", func() bool { return settled(s) && len(s.Node(l).Group.Status().Learners) == k+1 })
	}
	bare, heir := rest[2], rest[3]
	loses(t, s, bare)
	s.Input(l, membership.GroupHandOver{To: heir})
	await(t, s, "another leader", func() bool { return leader(s) == heir })
	for i := range 10 {
		before := s.Check.Highest
		s.Propose(heir, fmt.Sprintf("%d", i))
		if from := s.Now; !s.Run(500*time.Millisecond, func() bool { return s.Check.Highest > before && settled(s) }) {
			t.Fatalf("entry %d: node %d does not follow (%v; %v): %+v; the leader: %+v", i, bare, s.Now.Sub(from), s.Check.Err, s.Node(bare).Group.Status(), s.Node(heir).Group.Status())
		}
	}
	if st := s.Node(heir).Group.Status(); !slices.Contains(st.Voters, bare) || s.Check.Err != nil {
		t.Fatalf("%+v (%v)", st, s.Check.Err)
	}
}

// A learner loses its disk while the leader makes it a voter, and counts on it by what it
// acknowledged before it knew: the other voter dies with the next entry on its way.
func TestALearnerWithoutADiskIsNotCountedOnWhenPromoted(t *testing.T) {
	for seed := range uint64(6) {
		for first := range 8 {
			o := calm(3)
			o.Seed = seed + 1
			s := grouptest.NewSim(provider(nil), o)
			s.StartAll()
			await(t, s, "a leader", func() bool { return leader(s) != 0 && settled(s) })
			l := leader(s)
			voter, bare := others(s, l)[0], others(s, l)[1]
			elect := func(nodes ...membership.NodeID) {
				for _, n := range s.Nodes {
					machine(s, n.ID).SetElectorate(nodes)
				}
			}
			elect(l, voter)
			s.Input(l, membership.GroupTimer{})
			await(t, s, "a learner", func() bool { return leader(s) == l && follows(s, bare)() })
			order(t, s, l, 8+first)
			s.Run(2*time.Second, nil)
			elect()
			loses(t, s, bare)
			s.Input(l, membership.GroupTimer{})
			s.Propose(l, "with one disk")
			records := len(s.Node(voter).Disk.Records)
			if !s.Run(10*time.Millisecond, func() bool { return len(s.Node(voter).Disk.Records) > records }) {
				t.Fatal("no promotion")
			}
			s.Run(150*time.Microsecond, nil) // it is acknowledged
			s.Crash(voter)
			s.Run(time.Second, nil)
			if s.Check.Err != nil {
				t.Fatalf("seed %d, %d entries: %v", seed, first, s.Check.Err)
			}
		}
	}
}

func TestTheOnlyVoterCannotGoOnWithoutADisk(t *testing.T) {
	s := formed(t, 1, nil)
	if machine(s, 1).DiskLost("full") {
		t.Fatal("it goes on without a log")
	}
}
