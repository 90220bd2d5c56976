package liveness

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

// reconfigure gives the machine other nodes and times.
func (r *rig) reconfigure(profileName string, ids ...membership.NodeID) {
	r.ids = ids
	r.out = append(r.out, r.m.Step(r.now, ConfigIn{Nodes: ids, Timing: profile(profileName), Policy: quorum.Majority(ids...)})...)
}

func (r *rig) wantQuiet(what string) {
	r.t.Helper()
	if n := count[Suspected](r.out); n > 0 || len(r.m.Suspects()) > 0 {
		r.t.Fatalf("%s: %d suspicions, %v", what, n, r.m.Suspects())
	}
	if ids, said := convicted(r.out); said && len(ids) > 0 {
		r.t.Fatalf("%s: convicted %v", what, ids)
	}
}

func TestShorterTimesSuspectNobodyAtOnce(t *testing.T) {
	r := newRig(t, 3)
	r.reconfigure("safe", 1, 2, 3)
	r.run(3 * time.Second)
	for _, id := range r.ids[1:] {
		r.silence(id) // until the next probe of the long interval would have been answered
	}
	r.now = r.now.Add(300 * ms)
	r.m.due = r.now
	r.reconfigure("lan", 1, 2, 3)
	clear(r.mute)
	r.run(time.Second)
	r.wantQuiet("from safe to lan")
	r.silence(3)
	r.tell = map[membership.NodeID][]membership.NodeID{2: {3}}
	r.run(time.Second)
	r.wantVerdict(3)
}

func TestLongerTimesHoldFromThenOn(t *testing.T) {
	r := newRig(t, 3)
	r.reconfigure("safe", 1, 2, 3)
	r.silence(3)
	r.tell = map[membership.NodeID][]membership.NodeID{2: nil}
	r.run(time.Second)
	r.wantQuiet("half of dead_after")
}

func TestANewNodeIsAsOneThatHasNotAnswered(t *testing.T) {
	r := newRig(t, 3)
	r.mute[4] = 0
	r.reconfigure("lan", 1, 2, 3, 4)
	r.run(2 * time.Second)
	r.wantQuiet("a node that is not there yet")
	if a := r.m.Age(4); a != never {
		t.Fatalf("age %v", a)
	}
	if got := r.m.Linked(); !slices.Equal(got, []membership.NodeID{1, 2, 3}) {
		t.Fatalf("linked with %v", got)
	}
	delete(r.mute, 4)
	r.run(time.Second)
	r.m.Step(r.now, ViewIn{View: r.view(2, 1, 2, 3, 4)})
	r.run(time.Second)
	if got := r.m.Linked(); !slices.Equal(got, []membership.NodeID{1, 2, 3, 4}) || !r.m.Steady(4) {
		t.Fatalf("linked with %v, steady %v", got, r.m.Steady(4))
	}
	r.wantQuiet("a node that came")
}

func TestARemovedNodeIsForgottenAndTheOthersAreNot(t *testing.T) {
	r := newRig(t, 4)
	r.m.Step(r.now, ViewIn{View: r.view(2, 2, 3, 4)}) // node 1 is another one
	r.m.Step(r.now, ViewIn{View: r.view(3, 1, 3, 4)})
	before := r.m.Age(4)
	r.reconfigure("lan", 1, 3, 4)
	if r.m.Age(2) != never || r.m.Age(4) != before || len(r.m.Hears()) != 2 {
		t.Fatalf("ages %v and %v, hears %v", r.m.Age(2), r.m.Age(4), r.m.Hears())
	}
	r.row(3, 2) // of a node that still has the old configuration
	r.silence(4)
	r.tell = map[membership.NodeID][]membership.NodeID{3: {4}}
	r.run(time.Second)
	r.wantVerdict(4)
}

// A rule that is changed counts at once: what was chosen by the old one is not remembered.
func TestAPolicyIsNotRemembered(t *testing.T) {
	r := newRig(t, 3)
	had := false
	for _, e := range r.m.Step(r.now, PolicyIn{Policy: quorum.Policy{Votes: map[membership.NodeID]int{2: 5, 3: 5}}}) {
		_ = e
	}
	r.run(500 * ms)
	r.silence(2)
	r.silence(3)
	r.run(500 * ms)
	for _, e := range r.out {
		if q, ok := e.(QuorumChanged); ok {
			had = true
			if q.Have {
				t.Fatal("a quorum without votes")
			}
		}
	}
	if !had {
		t.Fatal("nothing was said")
	}
}

// Whatever the order of configurations and looks: no panic, and all that is kept by
// place fits the nodes.
func TestAnyConfigurationFollowsAnyOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := New(Config{Self: 1, Nodes: []membership.NodeID{1, 2, 3}, Timing: profile("round"), Policy: quorum.Majority(1, 2, 3)}, 1)
		now := membership.Mono(time.Hour)
		node := func() membership.NodeID { return membership.NodeID(rapid.IntRange(1, 6).Draw(t, "node")) }
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "ms")) * ms)
			var in Input
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				ids := []membership.NodeID{1, node(), node(), node()}
				in = ConfigIn{Nodes: ids, Timing: profile(rapid.SampledFrom([]string{"fast", "lan", "safe"}).Draw(t, "profile")), Policy: quorum.Majority(ids...)}
			case 1:
				in = Observed{Samples: []membership.Sample{{Peer: node(), Heard: now}, {Peer: node(), Heard: now}}}
			case 2:
				in = RowIn{Row: Row{From: node(), Ages: []Age{{Peer: node(), Age: 300 * ms, Path: 300 * ms}, {Peer: node()}}}}
			case 3:
				v := membership.View{Number: uint64(now), Members: []membership.Incarnation{{Node: 1}, {Node: node()}}}
				in = ViewIn{View: v}
			case 4:
				in = Leader{Node: node()}
			}
			m.Step(now, in)
			n := len(m.ids)
			if len(m.peers) != n || len(m.own) != n || len(m.down) != n || m.ids[m.self] != 1 || !slices.IsSorted(m.ids) {
				t.Fatalf("%d nodes, %d peers, %d own cells, %d rows", n, len(m.peers), len(m.own), len(m.down))
			}
			for i, p := range m.peers {
				if p.id != m.ids[i] || p.cells != nil && len(p.cells) != n || p.accuses != nil && len(p.accuses) != n {
					t.Fatalf("peer %d is not whole: %+v", i, p)
				}
			}
			m.Hears()
			m.Matrix()
		}
	})
}
