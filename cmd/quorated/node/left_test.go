package node

import (
	"testing"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
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
