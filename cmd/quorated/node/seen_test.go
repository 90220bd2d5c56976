package node

import (
	"encoding/json"
	"testing"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// still is a group that orders nothing and leads.
type still struct{}

func (still) Step(membership.Mono, ...membership.GroupInput) []membership.GroupEffect { return nil }
func (still) Deadline() membership.Mono                                               { return 0 }
func (still) Status() membership.GroupStatus {
	return membership.GroupStatus{Formed: true, Leader: 1, Term: 1}
}

func two(t *testing.T) *Node {
	t.Helper()
	cfg := membership.Config{Self: 1, Nodes: []membership.Node{{ID: 1}, {ID: 2}}}
	n, _ := New(1, Options{Config: cfg, Group: still{}, Identity: Identity{Boot: "a1", Instance: 1, Machine: "a"}})
	return n
}

func (n *Node) hears(t *testing.T, at membership.Mono, boot membership.BootID, instance uint64) {
	t.Helper()
	b, err := json.Marshal(Hello{Protocol: Protocol, Boot: boot, Instance: instance, Machine: "b"})
	if err != nil {
		t.Fatal(err)
	}
	n.Step(at, Received{From: 2, Data: envelope(kindHello, b)})
}

// A hello of an earlier boot, over a connection that nobody has noticed to be
// dead, is not a new boot of the node: it would prove the death of one that lives.
func TestAStaleHelloIsNoNewBoot(t *testing.T) { // S4
	n := two(t)
	n.Step(2, Connected{Peer: 2})
	n.hears(t, 3, "b1", 7)
	if boot, _, ok := n.seen(2); !ok || boot != "b1" {
		t.Fatal(boot, ok)
	}
	// Another leader admits the next boot, and evicts it while it lives.
	n.now = 4
	n.apply(1, cluster.Command{Admit: &cluster.Admit{Incarnation: membership.Incarnation{Node: 2, Boot: "b2"}, Machine: "b", Instance: 8}})
	if boot, _, ok := n.seen(2); ok {
		t.Fatalf("%s was heard before b2 was admitted", boot)
	}
	m, _ := n.st.View.Find(2)
	n.st.Cases = append(n.st.Cases, cluster.Case{Victim: m, Needed: true})
	if n.newBoot(&n.st.Cases[0]) {
		t.Fatal("b1 is taken as proof that b2 is dead")
	}
	n.hears(t, 5, "b3", 9)
	if !n.newBoot(&n.st.Cases[0]) {
		t.Fatal("b3 is a new boot")
	}
}

func TestAConnectionForgetsWhatWasSaidBefore(t *testing.T) {
	n := two(t)
	n.Step(2, Connected{Peer: 2})
	n.hears(t, 3, "b1", 7)
	n.Step(4, Disconnected{Peer: 2, Err: "reset"})
	n.Step(5, Connected{Peer: 2})
	if _, _, ok := n.seen(2); ok {
		t.Fatal("nobody has said anything on this connection")
	}
}

// TestHelloIsReadOnce: the same words are not read again; others, and those on a new
// connection, are; and what cannot be read leaves what was said before.
func TestHelloIsReadOnce(t *testing.T) {
	n := two(t)
	n.Step(2, Connected{Peer: 2})
	n.hears(t, 3, "b1", 7)
	first := n.peers[2].hello
	if n.hears(t, 4, "b1", 7); n.peers[2].hello != first || n.peers[2].helloAt != 4 {
		t.Errorf("%p %p at %d", first, n.peers[2].hello, n.peers[2].helloAt)
	}
	if n.hears(t, 5, "b1", 8); n.peers[2].hello.Instance != 8 {
		t.Errorf("%+v", n.peers[2].hello)
	}
	for range 2 { // the second time it is no better
		n.Step(6, Received{From: 2, Data: envelope(kindHello, []byte("{"))})
		if p := n.peers[2]; p.hello.Instance != 8 || p.helloAt != 5 || p.said == "" {
			t.Errorf("%+v at %d, %q", p.hello, p.helloAt, p.said)
		}
	}
	n.Step(7, Disconnected{Peer: 2, Err: "reset"})
	n.Step(8, Connected{Peer: 2})
	if n.hears(t, 9, "b1", 8); n.peers[2].hello == nil || n.peers[2].helloAt != 9 {
		t.Error("nothing was heard on the new connection")
	}
}

// TestFitFor: what a node found out about itself is in its hello and in the status of both;
// of one that is away nothing is known.
func TestFitFor(t *testing.T) {
	n := two(t)
	lan := func(want ...string) {
		t.Helper()
		for i, x := range n.Status(n.now, nil).Nodes {
			if x.Lan != want[i] {
				t.Errorf("of node %d: %q, want %q", x.ID, x.Lan, want[i])
			}
		}
	}
	lan("", "")
	n.Step(2, FitFor{Lan: Fit})
	n.Step(3, Connected{Peer: 2})
	h, err := DecodeHello(n.hello()[1:])
	if err != nil || h.Lan != Fit {
		t.Errorf("%+v, %v", h, err)
	}
	n.hears(t, 4, "b1", 7)
	lan(Fit, "")
	h = Hello{Protocol: Protocol, Boot: "b1", Instance: 7, Machine: "b", Lan: "it is a virtual machine"}
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	n.Step(5, Received{From: 2, Data: envelope(kindHello, b)})
	lan(Fit, "it is a virtual machine")
	n.Step(6, Disconnected{Peer: 2, Err: "reset"})
	lan(Fit, "")
}
