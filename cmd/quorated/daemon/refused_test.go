package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/comm/tcp"
	"github.com/quorate/quorate/membership/secret"
)

// nobody takes what a Comm reports, and does nothing.
type nobody struct{}

func (nobody) Connected(membership.NodeID)           {}
func (nobody) Message(membership.NodeID, []byte)     {}
func (nobody) Disconnected(membership.NodeID, error) {}

// TestARefusedPeerIsTheCause: a peer with another secret runs, and status says why there is
// no connection with it, and what to do.
func TestARefusedPeerIsTheCause(t *testing.T) {
	a := newAlone(t)
	if err := secret.WriteFile(a.path("other")); err != nil {
		t.Fatal(err)
	}
	key, err := secret.Load(a.path("other"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := tcp.New(tcp.Options{Self: 2, Cluster: "tank", Nodes: a.cfg.Nodes, Secret: key, Handler: nobody{}, Instance: 7, Port: int(a.cfg.Port)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		r, err := a.ask("status")
		if err == nil && slices.ContainsFunc(r.Status.Waits, func(w control.Wait) bool {
			return w.For == "config" && w.Owner == 2 && w.Reason == "beta is refused: "+tcp.ErrKey.Error()
		}) && r.Status.Nodes[1].State == "refused" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%v %+v", err, r.Status)
		}
	}
}

// Whoever is refused before it says who it is is known by its address.
func TestNodeAt(t *testing.T) {
	nodes := []membership.Node{{ID: 1, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}, {ID: 2, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fe80::2%1")}}}
	for addr, want := range map[string]membership.NodeID{"::ffff:10.0.0.2": 2, "fe80::2%7": 2, "10.0.0.9": 0} {
		if got := nodeAt(nodes, netip.MustParseAddr(addr)); got != want {
			t.Error(addr, got)
		}
	}
	in := met(2, &tcp.RefusedError{Reason: tcp.ErrRemoved, Text: "version 7, at node 2, has no x", Remote: true})
	if !in.Removed || !strings.Contains(in.Why, "this node was removed from the cluster") || !strings.Contains(in.Why, "version 7") || !strings.Contains(in.Do, "quorate node add") {
		t.Errorf("%+v", in)
	}
	for _, err := range []error{tcp.ErrKey, tcp.ErrCluster, tcp.ErrNode, tcp.ErrRemoved, tcp.ErrProtocol, tcp.ErrGarbage} {
		if in := met(2, &tcp.RefusedError{Reason: err, Text: "x"}); in.Why == "" || in.Do == "" || in.Removed || (in.Why == "the secrets differ") != errors.Is(err, tcp.ErrKey) {
			t.Errorf("%v: %+v", err, in)
		}
	}
}
