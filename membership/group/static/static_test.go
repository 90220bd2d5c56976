package static_test

import (
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/grouptest"
	"github.com/quorate/quorate/membership/group/static"
)

func provider() grouptest.Provider {
	return grouptest.Provider{New: func(p grouptest.Params) (membership.Group, []membership.GroupEffect, error) {
		m, err := static.New(static.Config{Self: p.Self, Members: p.Nodes, Run: p.Seed, Keep: 50})
		return m, nil, err
	}}
}

func TestOneNodeDeliversAtOnce(t *testing.T) {
	m, err := static.New(static.Config{Self: 3, Members: []membership.NodeID{3}})
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i < 4; i++ {
		out := m.Step(0, membership.GroupPropose{Data: []byte("x")})
		if len(out) != 1 || out[0].(membership.GroupDeliver).Index != i {
			t.Fatalf("%+v", out)
		}
	}
	if st := m.Status(); st.Leader != 3 || !st.Voter || st.Applied != 3 || st.Waiting != "" {
		t.Fatalf("%+v", st)
	}
	if m.Deadline() != 0 {
		t.Fatal("a deadline")
	}
}

// TestConformance: without loss of the sequencer all promises of order hold,
// through cuts, and crashes of the others.
func TestConformance(t *testing.T) {
	for seed := range uint64(50) {
		s := grouptest.NewSim(provider(), grouptest.Options{
			Nodes: 3, Seed: seed + 1, MinDelay: time.Millisecond, // in order, as Comm promises …
			Loss: 0.03 * float64(seed%2), // … and dropped when a queue is full
		})
		s.StartAll()
		s.Run(20*time.Millisecond, nil)
		for i := range 200 {
			id := membership.NodeID(1 + s.Rand().IntN(3))
			s.Propose(id, string(rune('a'+i%26)))
			switch other := membership.NodeID(2 + s.Rand().IntN(2)); s.Rand().IntN(12) {
			case 0:
				s.Crash(other)
			case 1:
				s.Start(other)
			case 2:
				s.Isolate(other, true)
			case 3:
				s.Heal()
			}
			s.Run(3*time.Millisecond, nil)
		}
		s.Heal()
		s.StartAll()
		s.Run(50*time.Millisecond, nil)
		s.Opt.Loss = 0
		s.Propose(2, "last")
		if !s.Run(3*time.Second, func() bool { return s.Check.Agreed() }) || s.Check.Err != nil {
			t.Fatalf("seed %d: agreed %v, %v", seed+1, s.Check.Agreed(), s.Check.Err)
		}
	}
}

func TestFollowerWaitsForTheSequencer(t *testing.T) {
	m, err := static.New(static.Config{Self: 2, Members: []membership.NodeID{2, 1}, Run: 1})
	if err != nil {
		t.Fatal(err)
	}
	if out := m.Step(0, membership.GroupPropose{Data: []byte("x")}); len(out) != 0 {
		t.Fatalf("%+v", out)
	}
	if st := m.Status(); st.Waiting == "" || st.Leader != 1 || st.Voter {
		t.Fatalf("%+v", st)
	}
}

func TestMembers(t *testing.T) {
	m, err := static.New(static.Config{Self: 2, Members: []membership.NodeID{2, 1}, Run: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Members([]membership.NodeID{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	if err := m.Members([]membership.NodeID{2, 3}); err == nil {
		t.Fatal("the sequencer changed")
	}
	if err := m.Members([]membership.NodeID{1, 3}); err == nil {
		t.Fatal("this node is not in the list")
	}
	if st := m.Status(); !slices.Equal(st.Learners, []membership.NodeID{2, 3}) {
		t.Fatalf("%+v", st)
	}
}

// A node that is put on the list is given everything from the beginning, also
// what was ordered while the sequencer was alone.
func TestWhoIsPutOnTheListIsGivenEverything(t *testing.T) {
	seq, err := static.New(static.Config{Self: 1, Members: []membership.NodeID{1}, Run: 7})
	if err != nil {
		t.Fatal(err)
	}
	late, err := static.New(static.Config{Self: 2, Members: []membership.NodeID{1, 2}, Run: 8})
	if err != nil {
		t.Fatal(err)
	}
	seq.Step(0, membership.GroupPropose{Data: []byte("first")})
	seq.Step(0, membership.GroupLink{Peer: 2, Up: true})
	ask := late.Step(0, membership.GroupLink{Peer: 1, Up: true})
	for _, e := range ask { // it asks, and is not listed yet
		for _, r := range seq.Step(0, membership.GroupReceive{From: 2, Data: e.(membership.GroupSend).Data}) {
			if _, sent := r.(membership.GroupSend); sent {
				t.Fatalf("answered a stranger: %+v", r)
			}
		}
	}
	if err := seq.Members([]membership.NodeID{1, 2}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range seq.Step(0, membership.GroupPropose{Data: []byte("second")}) {
		if s, ok := e.(membership.GroupSend); ok {
			for _, d := range late.Step(0, membership.GroupReceive{From: 1, Data: s.Data}) {
				switch d := d.(type) {
				case membership.GroupDeliver:
					got = append(got, string(d.Data))
				case membership.GroupRestore:
					got = append(got, "restore")
				}
			}
		}
	}
	if !slices.Equal(got, []string{"restore", "first", "second"}) {
		t.Fatalf("%v", got)
	}
}

func TestOneWithoutARunStaysAlone(t *testing.T) {
	m, err := static.New(static.Config{Self: 1, Members: []membership.NodeID{1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Members([]membership.NodeID{1, 2}); err == nil {
		t.Fatal("the others could not tell its next life from this one")
	}
	if st := m.Status(); len(st.Learners) != 0 {
		t.Fatalf("%+v", st)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []static.Config{
		{Self: 1},
		{Self: 1, Members: []membership.NodeID{2, 3}, Run: 1},
		{Self: 1, Members: []membership.NodeID{1, 2}},
	} {
		if _, err := static.New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte{1, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 'x'})
	f.Fuzz(func(_ *testing.T, b []byte) {
		for _, self := range []membership.NodeID{1, 2} {
			m, _ := static.New(static.Config{Self: self, Members: []membership.NodeID{1, 2}, Run: 1})
			m.Step(0, membership.GroupLink{Peer: 3 - self, Up: true})
			m.Step(0, membership.GroupReceive{From: 3 - self, Data: b})
		}
	})
}
