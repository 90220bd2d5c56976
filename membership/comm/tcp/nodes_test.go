package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

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

// A node that the agreed configuration has no more is told so, whoever of the two dials,
// and so is who refuses it.
func TestARemovedNodeIsTold(t *testing.T) {
	for _, gone := range []membership.NodeID{1, 2} {
		r := &rig{}
		nodes, key := r.nodes(t, 2), commtest.Secret(t)
		told, refused := make(chan error, 9), make(chan error, 9)
		stays := 3 - gone
		rest := nodes[stays-1 : stays]
		r.start(t, commtest.Spec{Self: stays, Nodes: rest, Secret: key, Refused: func(err error) { refused <- err }}, func(c *Comm) { c.SetVersion(7) })
		r.start(t, commtest.Spec{Self: gone, Nodes: nodes, Secret: key, Refused: func(err error) { told <- err }}, func(c *Comm) {
			c.askAfter, c.askEvery = 50*time.Millisecond, 50*time.Millisecond
		})
		for remote, ch := range map[bool]chan error{true: told, false: refused} {
			var x *RefusedError
			if err := <-ch; !errors.Is(err, ErrRemoved) || !errors.As(err, &x) || x.Remote != remote || !strings.HasPrefix(x.Text, fmt.Sprintf("version 7, at node %d, has no quorate://", stays)) {
				t.Errorf("%d: %v", gone, err)
			}
		}
	}
}

// Who is asked keeps its connection, and one that would talk refuses nobody.
func TestAnAskTakesNoConnection(t *testing.T) {
	r := &rig{}
	nodes, key := r.nodes(t, 2), commtest.Secret(t)
	tries := make(chan struct{}, 1000)
	b, cb := r.start(t, commtest.Spec{Self: 2, Nodes: nodes, Secret: key, Refused: func(err error) { t.Error(err) }}, func(c *Comm) {
		c.askAfter, c.askEvery = 20*time.Millisecond, 20*time.Millisecond
		dial := c.dial
		c.dial = func(ctx context.Context, l, r netip.AddrPort) (net.Conn, error) {
			tries <- struct{}{}
			return dial(ctx, l, r)
		}
	})
	<-tries // nobody is there
	r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key, Refused: func(err error) { t.Error(err) }}, nil)
	b.Await(commtest.Connected, 1, 1)
	time.Sleep(100 * time.Millisecond)
	if n := b.Count(commtest.Disconnected, 1); n != 0 || !cb.Status().Peers[0].Connected {
		t.Errorf("it ended %d times", n)
	}
}
