package raft_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/grouptest"
	"github.com/quorate/quorate/membership/group/raft"
)

// withWitness is a cluster whose last member is a witness.
func withWitness(nodes int, tune func(*raft.Config)) grouptest.Provider {
	return provider(func(c *raft.Config) {
		c.Witness = int(c.Self) == nodes
		if tune != nil {
			tune(c)
		}
	})
}

// TestWitnessConformance: with a witness among them they keep every promise of a group.
func TestWitnessConformance(t *testing.T) {
	n := max(*seeds/2, 1)
	if testing.Short() || raced {
		n = min(n, 10)
	}
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprint(nodes-1, " and a witness"), func(t *testing.T) {
			for seed := range uint64(n) {
				o := grouptest.Stormy(nodes, seed+1)
				if seed%4 == 3 {
					o.Detect = 0
				}
				grouptest.Storm(t, withWitness(nodes, nil), o)
			}
		})
	}
}

// pair starts two nodes and a witness, node 3.
func pair(t *testing.T, tune func(*raft.Config)) *grouptest.Sim {
	t.Helper()
	s := grouptest.NewSim(withWitness(3, tune), calm(3))
	s.Trace = t.Logf
	s.StartAll()
	await(t, s, "a leader", func() bool { return leader(s) != 0 && settled(s) })
	return s
}

// TestWitnessHandsItsLogOn: a node that dies leaves an entry with the witness alone; the
// other node cannot lead before it has it, and then leads.
func TestWitnessHandsItsLogOn(t *testing.T) {
	s := pair(t, nil)
	l := leader(s)
	other := 3 - l
	s.Crash(other)
	s.Run(100*time.Millisecond, nil)
	before := s.Check.Highest
	s.Propose(l, "only the witness has it")
	if !s.Run(5*time.Second, func() bool { return s.Check.Highest > before }) {
		t.Fatal("a node and the witness order nothing")
	}
	s.Crash(l)
	s.Start(other)
	began := s.Now
	await(t, s, "the other leads, complete", func() bool { return leader(s) == other && settled(s) })
	if took := s.Now.Sub(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	order(t, s, other, 3)
	s.Start(l)
	await(t, s, "both", func() bool { return settled(s) })
}

// TestWitnessNeverLeadsForLong: whatever dies and comes back, in peace a node leads.
func TestWitnessNeverLeadsForLong(t *testing.T) {
	s := pair(t, nil)
	for range 6 {
		l := leader(s)
		s.Crash(l)
		await(t, s, "the other", func() bool { n := leader(s); return n != 0 && n != l && n != 3 })
		s.Start(l)
		await(t, s, "peace", func() bool { return settled(s) })
		if l := leader(s); l == 3 {
			t.Fatal("the witness leads")
		}
		s.Input(l, membership.GroupHandOver{To: 3})
		s.Run(300*time.Millisecond, nil)
		await(t, s, "peace", func() bool { return settled(s) && leader(s) != 3 })
	}
}

// TestWitnessLogIsBounded: the leader gives it the state, and its log is dropped.
func TestWitnessLogIsBounded(t *testing.T) {
	for _, away := range []bool{false, true} { // at the time of a snapshot, or not
		t.Run(fmt.Sprint("away ", away), func(t *testing.T) {
			s := pair(t, func(c *raft.Config) { c.CompactEntries = 20 })
			l := leader(s)
			for range 12 {
				if away {
					s.Crash(3)
				}
				order10(t, s, l)
				s.Start(3)
				await(t, s, "the witness", func() bool { return settled(s) })
			}
			s.Run(3*time.Second, nil)
			r, err := load(s.Node(3).Disk)
			if err != nil {
				t.Fatal(err)
			}
			if n, at := len(r.Entries), r.Snapshot.GetMetadata().GetIndex(); n > 60 || at < 60 {
				t.Fatalf("%d entries after a snapshot at %d", n, at)
			}
		})
	}
}

func order10(t *testing.T, s *grouptest.Sim, at membership.NodeID) {
	t.Helper()
	before := s.Check.Highest
	for i := range 10 {
		s.Propose(at, fmt.Sprintf("%d at %d", i, before))
	}
	await(t, s, "delivery", func() bool { return s.Check.Highest >= before+10 })
}

// TestWitnessLostItsDisk: it joins as any node that lost its log.
func TestWitnessLostItsDisk(t *testing.T) {
	s := pair(t, nil)
	was := machine(s, 3).RaftID()
	s.Crash(3)
	s.Wipe(3)
	s.Start(3)
	await(t, s, "a voter again", func() bool { st := machine(s, 3).Status(); return st.Voter && settled(s) })
	if machine(s, 3).RaftID() == was {
		t.Fatal("under its old id")
	}
	l := leader(s)
	s.Crash(3 - l)
	order10(t, s, l)
}

// TestTwoAndAWitnessOutliveEither, and a witness that is lost alone stops nobody.
func TestTwoAndAWitnessOutliveEither(t *testing.T) {
	for dead := membership.NodeID(1); dead <= 3; dead++ {
		s := pair(t, nil)
		s.Crash(dead)
		await(t, s, "a leader", func() bool { l := leader(s); return l != 0 && l != 3 && l != dead })
		order10(t, s, leader(s))
	}
}

// The leader's daemon stood still, and before the survivor had the votes for another it
// died: the witness follows it still and answers no pre-vote. The survivor asks for its
// vote at once all the same, and does not wait for the backstop.
func TestALeaderThatStandsStillDies(t *testing.T) {
	for _, pause := range []time.Duration{0, 50 * time.Millisecond, 300 * time.Millisecond} {
		o := calm(3)
		o.Detect = time.Minute // nobody judges but by what is put in here
		s := grouptest.NewSim(withWitness(3, nil), o)
		s.StartAll()
		await(t, s, "a leader", func() bool { return leader(s) != 0 && settled(s) })
		order10(t, s, 1)
		l := leader(s)
		left := 3 - l
		s.Crash(l)
		s.Input(left, membership.GroupJudge{Hears: []membership.NodeID{l, 3}, LeaderStalled: true})
		s.Run(pause, nil)
		if pause == 50*time.Millisecond { // it went on for a moment
			s.Input(left, membership.GroupJudge{Hears: []membership.NodeID{l, 3}})
		}
		from := s.Now
		s.Input(left, membership.GroupJudge{Hears: []membership.NodeID{3}, LeaderDead: true})
		await(t, s, "another leader", func() bool { return leader(s) == left })
		if took := s.Now.Sub(from); took > 50*time.Millisecond {
			t.Errorf("%v after it stood still, it took %v", pause, took)
		}
	}
}
