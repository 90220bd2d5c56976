package node

import (
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// What has to be started for a fencing is started as soon as a member could need
// it, again while it could, and for nobody else.
func TestFencingIsPreparedBeforeItIsNeeded(t *testing.T) {
	self, victim := membership.Incarnation{Node: 1, Boot: "a1"}, membership.Incarnation{Node: 2, Boot: "b1"}
	cfg := membership.Config{Self: 1, Nodes: []membership.Node{{ID: 1}, {ID: 2}},
		Devices: []membership.Device{{Nodes: []membership.NodeID{1, 2}, Agent: "x", Timeout: time.Second}}}
	n, _ := New(1, Options{Config: cfg, Group: still{}, Identity: Identity{Boot: "a1", Instance: 1, Machine: "a"}})
	n.leader = 1
	n.st.View = membership.View{Number: 2, Members: []membership.Incarnation{self, victim}}
	n.st.Nodes = []cluster.NodeRecord{{Node: 1, Instance: 1, Last: self}}
	prepared := func(at time.Duration) bool {
		n.now = membership.Mono(at)
		n.prepare()
		return slices.Contains(n.take(), Effect(PrepareFence{Victim: 2}))
	}
	if prepared(time.Second) {
		t.Fatal("for a member that holds nothing")
	}
	n.set.Spaces = []*lockspace.Space{{Name: "gfs", Live: []lockspace.Member{{Incarnation: victim}}}}
	for _, c := range []struct {
		at   time.Duration
		want bool
	}{{1100 * time.Millisecond, true}, {1200 * time.Millisecond, false}, {2200 * time.Millisecond, false}, {1100*time.Millisecond + prepareEvery, true}} {
		if got := prepared(c.at); got != c.want {
			t.Errorf("at %v: %v, want %v", c.at, got, c.want)
		}
	}
	n.st.View.Members[1].Boot = "b2" // it came back, and holds nothing yet
	if prepared(12 * time.Second) {
		t.Error("for a life that holds nothing")
	}
	n.set.Spaces[0].Live[0].Incarnation.Boot = "b2"
	n.set.Spaces[0].Change = &lockspace.Change{}
	if prepared(13 * time.Second) {
		t.Error("on the way of a change")
	}
	n.set.Spaces[0].Change = nil
	if !prepared(14 * time.Second) {
		t.Error("not for the next life")
	}
}
