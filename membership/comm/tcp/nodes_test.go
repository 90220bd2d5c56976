package tcp

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/comm/commtest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A node is added, removed and added again; the others do not notice.
func TestNodesComeAndGo(t *testing.T) {
	for _, added := range []membership.NodeID{1, 2, 3} { // who dials is by id
		r := &rig{}
		nodes, key := r.nodes(t, 3), commtest.Secret(t)
		rest := slices.DeleteFunc(slices.Clone(nodes), func(n membership.Node) bool { return n.ID == added })
		a, ca := r.start(t, commtest.Spec{Self: rest[0].ID, Nodes: rest, Secret: key}, nil)
		b, cb := r.start(t, commtest.Spec{Self: rest[1].ID, Nodes: rest, Secret: key}, nil)
		a.Await(commtest.Connected, rest[1].ID, 1)
		b.Await(commtest.Connected, rest[0].ID, 1)
		c, cc := r.start(t, commtest.Spec{Self: added, Nodes: nodes, Secret: key}, nil)
		for round := 1; round <= 2; round++ {
			must(t, ca.SetNodes(nodes))
			must(t, cb.SetNodes(nodes))
			a.Await(commtest.Connected, added, round)
			b.Await(commtest.Connected, added, round)
			c.Await(commtest.Connected, rest[0].ID, round)
			eventually(t, "a message to the new node", func() bool { return ca.Send(added, []byte{byte(round)}) })
			c.AwaitMessage(rest[0].ID, []byte{byte(round)})
			must(t, ca.SetNodes(rest))
			must(t, cb.SetNodes(rest))
			a.Await(commtest.Disconnected, added, round)
			b.Await(commtest.Disconnected, added, round)
			if ca.Send(added, []byte("x")) || len(ca.Status().Peers) != 1 {
				t.Fatal("a node that is not configured is a peer")
			}
		}
		must(t, cc.SetNodes(nodes)) // nothing changes
		if n := a.Count(commtest.Disconnected, rest[1].ID); n != 0 {
			t.Fatalf("the connection with another node ended %d times", n)
		}
		for _, call := range a.Calls() {
			if call.Kind == commtest.Disconnected && !errors.Is(call.Err, ErrUnconfigured) {
				t.Fatalf("it ended with %v", call.Err)
			}
		}
	}
}

// A node that is somewhere else is known there and no more where it was.
func TestANodeMoves(t *testing.T) {
	r := &rig{}
	nodes, key := r.nodes(t, 2), commtest.Secret(t)
	a, ca := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key}, nil)
	old, _ := r.start(t, commtest.Spec{Self: 2, Nodes: nodes, Secret: key}, nil)
	a.Await(commtest.Connected, 2, 1)
	moved := slices.Clone(nodes)
	ip := nodes[1].Addrs[0].As4()
	ip[3] = 77
	moved[1].Addrs = []netip.Addr{netip.AddrFrom4(ip)}
	must(t, ca.SetNodes(moved))
	a.Await(commtest.Disconnected, 2, 1)
	old.Stop()
	again, _ := r.start(t, commtest.Spec{Self: 2, Nodes: moved, Secret: key}, nil)
	again.Await(commtest.Connected, 1, 1)
	a.Await(commtest.Connected, 2, 2)
}

func TestNodesThatCannotBe(t *testing.T) {
	r := &rig{}
	nodes, key := r.nodes(t, 2), commtest.Secret(t)
	_, c := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key}, nil)
	if c.SetNodes(nodes[1:]) == nil {
		t.Error("without this node")
	}
	moved := slices.Clone(nodes)
	moved[0].Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.99")}
	if c.SetNodes(moved) == nil {
		t.Error("with this node elsewhere")
	}
	if c.SetNodes(append(slices.Clone(nodes), nodes[1])) == nil {
		t.Error("with a node twice")
	}
	must(t, c.SetNodes(nodes))
}
