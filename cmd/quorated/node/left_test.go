package node

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/quorum"
)

// A daemon that has left cleanly is connected for a moment longer. It must not be
// admitted again: it would be missed, and evicted, when it ends.
func TestWhoHasLeftIsNotAdmittedAgain(t *testing.T) {
	n := &Node{st: cluster.New(), live: nil, peers: map[membership.NodeID]*peer{}, cfg: membership.Config{Self: 1, Nodes: []membership.Node{{ID: 1}, {ID: 2}}},
		id: Identity{Boot: "a", Instance: 1}, flights: map[string]flight{}, wished: map[string]bool{}}
	n.st.View = membership.View{Number: 3, Members: []membership.Incarnation{{Node: 1, Boot: "a"}}}
	n.st.Nodes = []cluster.NodeRecord{{Node: 1, Instance: 1, Last: membership.Incarnation{Node: 1, Boot: "a"}},
		{Node: 2, Instance: 7, Last: membership.Incarnation{Node: 2, Boot: "b"}, Left: true}}
	n.peers[2] = &peer{connected: true, hello: &Hello{Protocol: Protocol, Boot: "b", Instance: 7}}
	n.admitAll() // would ask liveness, which is not there, if it went on
	if len(n.wished) != 0 {
		t.Fatalf("proposed %v", n.wished)
	}
}

// Who leaves without a quorum is not agreed to have left, and must not wait for it
// for ever: the machine may be shutting down.
func TestALeaveWithoutAQuorumEnds(t *testing.T) {
	me := membership.Incarnation{Node: 1, Boot: "a"}
	n := &Node{st: cluster.New(), set: lockspace.New(), peers: map[membership.NodeID]*peer{}, cfg: membership.Config{Self: 1, Nodes: []membership.Node{{ID: 1}, {ID: 2}}},
		id: Identity{Boot: "a", Instance: 1}, flights: map[string]flight{}, wished: map[string]bool{}}
	n.st.View = membership.View{Number: 3, Members: []membership.Incarnation{me}}
	n.st.Nodes = []cluster.NodeRecord{{Node: 1, Instance: 1, Last: me}}
	if !n.Member() {
		t.Fatal("not a member")
	}
	n.leaving = &leaving{tokens: []uint64{7}, quiesced: true}
	for _, s := range []struct {
		after   time.Duration
		quorate bool
	}{{1, false}, {lonely - time.Second, false}, {lonely, true}, {lonely + 1, false}, {2*lonely - 1, false}} {
		n.now, n.quorate = 1000+membership.Mono(s.after), s.quorate
		if n.leaveWish(); n.leaving == nil || len(n.take()) != 0 {
			t.Fatalf("ended after %v, quorate %v", s.after, s.quorate)
		}
	}
	n.now = n.now.Add(lonely)
	n.leaveWish()
	out := n.take()
	if n.leaving != nil || len(out) != 2 {
		t.Fatalf("still waiting: %v", out)
	}
	if r, ok := out[0].(Reply); !ok || r.Token != 7 || r.Err != "" {
		t.Errorf("answered %+v", out[0])
	}
	if e, ok := out[1].(Exit); !ok || !e.Clean || !strings.Contains(e.Why, "quorum") {
		t.Errorf("ends with %+v", out[1])
	}
}

// Two of three are left, and the other one still has a file system mounted: to
// unmount it takes a quorum, which this node does not take away before.
func TestALeaveThatTakesTheQuorumAwayWaits(t *testing.T) {
	me, other := membership.Incarnation{Node: 1, Boot: "a"}, membership.Incarnation{Node: 2, Boot: "b"}
	n := &Node{st: cluster.New(), set: lockspace.New(), policy: quorum.Majority(1, 2, 3), quorate: true, leader: 2, now: 1000,
		peers: map[membership.NodeID]*peer{}, cfg: membership.Config{Self: 1, Nodes: []membership.Node{{ID: 1, Votes: 1}, {ID: 2, Votes: 1}, {ID: 3, Votes: 1}}},
		id: Identity{Boot: "a", Instance: 1}, flights: map[string]flight{}, wished: map[string]bool{}}
	n.st.View = membership.View{Number: 3, Members: []membership.Incarnation{me, other}}
	n.st.Nodes = []cluster.NodeRecord{{Node: 1, Instance: 1, Last: me}, {Node: 2, Instance: 1, Last: other}}
	n.set.Spaces = []*lockspace.Space{{Name: "gfs"}}
	proposes := func() bool {
		n.wished = map[string]bool{}
		n.leaveWish()
		return n.wished["leave"]
	}
	n.leaving = &leaving{tokens: []uint64{7}, quiesced: true, since: n.now}
	if proposes() || n.retryAt != n.now.Add(partner) {
		t.Fatal("leaves at once, or will not look again")
	}
	n.st.View.Members = append(n.st.View.Members, membership.Incarnation{Node: 3, Boot: "c"})
	if !proposes() {
		t.Fatal("waits although two others are a quorum")
	}
	n.st.View.Members = n.st.View.Members[:2]
	if n.set.Spaces = nil; !proposes() {
		t.Fatal("waits although nobody has a lockspace")
	}
	n.set.Spaces = []*lockspace.Space{{Name: "gfs"}}
	if n.now = n.now.Add(partner); !proposes() {
		t.Fatal("waits for ever")
	}
}

// A leave with lockspaces in use is refused, also when one slipped in late. It names
// the way by force only where there is one.
func TestALeaveInUseSaysWhatElseThereIs(t *testing.T) {
	for _, devices := range [][]membership.Device{nil, {{Nodes: []membership.NodeID{1}, Timeout: time.Second}}} {
		n := &Node{cfg: membership.Config{Self: 1, Nodes: []membership.Node{{ID: 1, Name: "alpha"}, {ID: 2, Name: "beta"}}, Devices: devices}}
		n.leaving = &leaving{tokens: []uint64{7}}
		n.onQuiesced(Quiesced{Held: []string{"gfs"}})
		out := n.take()
		r, ok := out[len(out)-1].(Reply)
		if !ok || r.Token != 7 || !strings.Contains(r.Err, "in use here: gfs; unmount") {
			t.Fatalf("%+v", out)
		}
		if strings.Contains(r.Err, "`quorate fence node alpha`") != (len(devices) > 0) {
			t.Errorf("%d devices: %s", len(devices), r.Err)
		}
	}
}
