package grouptest

import (
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// Stormy is a bad network with a detector.
func Stormy(nodes int, seed uint64) Options {
	return Options{
		Nodes: nodes, Seed: seed, MinDelay: 200 * time.Microsecond, MaxDelay: 8 * time.Millisecond,
		Loss: 0.03, Duplicate: 0.03, Reorder: true, Write: 2 * time.Millisecond, Detect: 30 * time.Millisecond,
	}
}

// Run is the conformance suite of a provider that promises fault tolerance.
func Run(t *testing.T, p Provider, seeds int) {
	t.Helper()
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprintf("storm/%d", nodes), func(t *testing.T) {
			for seed := range uint64(seeds) {
				o := Stormy(nodes, seed+1)
				if seed%4 == 3 {
					o.Detect = 0 // the backstop alone
				}
				Storm(t, p, o)
			}
		})
	}
	t.Run("deterministic", func(t *testing.T) {
		for seed := range uint64(max(1, seeds/20)) {
			a, b := Storm(t, p, Stormy(3, seed+1)), Storm(t, p, Stormy(3, seed+1))
			if a.Digest() != b.Digest() || a.Sends != b.Sends {
				t.Fatalf("seed %d: two runs differ: %x (%d sends), %x (%d)", seed+1, a.Digest(), a.Sends, b.Digest(), b.Sends)
			}
		}
	})
}

// Storm runs one seed: trouble for some seconds, then peace, in which all nodes
// must come to agree and go on.
func Storm(t *testing.T, p Provider, o Options) *Sim {
	t.Helper()
	s := NewSim(p, o)
	Weather(s)
	if s.Check.Err != nil {
		t.Fatalf("%d nodes, seed %d: %v", o.Nodes, o.Seed, s.Check.Err)
	}
	return s
}

// Weather is a storm and the peace after it; Check.Err tells what broke.
func Weather(s *Sim) {
	s.StartAll()
	stop := false
	s.proposals(&stop)
	s.trouble(&stop)
	s.Run(8*time.Second, nil)
	stop = true
	s.Heal()
	s.StartAll()
	if s.Check.Err == nil {
		s.progress()
	}
}

// proposals asks random nodes to order things.
func (s *Sim) proposals(stop *bool) {
	k := 0
	var next func()
	next = func() {
		if *stop {
			return
		}
		k++
		s.Propose(s.ids[s.rand.IntN(len(s.ids))], fmt.Sprintf("entry %d of seed %d", k, s.Opt.Seed))
		s.After(time.Duration(1+s.rand.IntN(20))*time.Millisecond, next)
	}
	next()
}

// trouble crashes, cuts and heals at random.
func (s *Sim) trouble(stop *bool) {
	var next func()
	next = func() {
		if *stop {
			return
		}
		id := s.ids[s.rand.IntN(len(s.ids))]
		other := s.ids[s.rand.IntN(len(s.ids))]
		s.strike(id, other)
		s.After(time.Duration(30+s.rand.IntN(500))*time.Millisecond, next)
	}
	s.After(300*time.Millisecond, next)
}

func (s *Sim) strike(id, other membership.NodeID) {
	switch s.rand.IntN(10) {
	case 0, 1:
		s.Crash(id)
		s.After(time.Duration(s.rand.IntN(1500))*time.Millisecond, func() { s.Start(id) })
	case 2, 3:
		s.CrashIn(id, 1+s.rand.IntN(60))
		s.After(time.Duration(500+s.rand.IntN(1000))*time.Millisecond, func() { s.Start(id) })
	case 4:
		s.Isolate(id, true)
	case 5:
		if id != other {
			s.Cut(id, other, true)
		}
	case 6, 7:
		s.Heal()
	case 8:
		s.Input(id, membership.GroupHandOver{To: other})
	case 9:
		for _, n := range s.ids { // the whole room
			s.Crash(n)
			s.After(time.Duration(s.rand.IntN(300))*time.Millisecond, func() { s.Start(n) })
		}
	}
}

// progress: with everything healed, what each node proposes is ordered, and all
// nodes get there.
func (s *Sim) progress() {
	s.Run(3*time.Second, nil)
	s.StartAll() // those that were to start again later, or refused their disk
	for _, n := range s.Nodes {
		n.crashIn = 0
	}
	before := s.Check.Highest
	s.proposeAll()
	if !s.Run(12*time.Second, func() bool { return s.Check.Highest > before && s.Check.Agreed() }) && s.Check.Err == nil {
		text := ""
		for _, n := range s.Nodes {
			text += fmt.Sprintf("\n  node %d alive %v at %d: %+v", n.ID, n.Alive, n.state.last, n.Group.Status())
		}
		s.Check.fail("no agreement in peace; %d before, %d now%s", before, s.Check.Highest, text)
	}
}

// proposeAll has every node propose again and again until something was ordered.
func (s *Sim) proposeAll() {
	before := s.Check.Highest
	k := 0
	var next func()
	next = func() {
		k++
		if s.Check.Highest > before || k > 100 {
			return
		}
		for _, id := range s.ids {
			s.Propose(id, fmt.Sprintf("peace %d of %d", k, id))
		}
		s.After(100*time.Millisecond, next)
	}
	next()
}
