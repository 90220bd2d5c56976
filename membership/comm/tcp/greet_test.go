package tcp

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/comm/commtest"
)

// Whoever greets learns whether it would be talked to, and takes no connection's place.
func TestGreet(t *testing.T) {
	r := &rig{}
	nodes, key := r.nodes(t, 2), commtest.Secret(t)
	a, ca := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key}, nil)
	b, cb := r.start(t, commtest.Spec{Self: 2, Nodes: nodes, Secret: key}, nil)
	a.Await(commtest.Connected, 2, 1)
	b.Await(commtest.Connected, 1, 1)
	since := ca.Status().Peers[0]
	greet := func(edit func(*Options)) error {
		t.Helper()
		opt := ca.opt
		edit(&opt)
		to := netip.AddrPortFrom(nodes[1].Addrs[0], cb.port(2))
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(nodes[0].Addrs[0], 0))}
		c, err := d.DialContext(t.Context(), "tcp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		return Greet(t.Context(), opt, c, 2)
	}
	if err := greet(func(*Options) {}); err != nil {
		t.Error(err)
	}
	if err := greet(func(o *Options) { o.Secret = commtest.Secret(t) }); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
	if err := greet(func(o *Options) { o.Cluster = "another" }); !errors.Is(err, ErrCluster) {
		t.Error(err)
	}
	if err := greet(func(o *Options) { o.Nodes = []membership.Node{nodes[0]} }); !errors.Is(err, ErrNode) {
		t.Error(err)
	}
	if now := ca.Status().Peers[0]; now.Addr != since.Addr || !now.Connected {
		t.Errorf("%+v, was %+v", now, since)
	}
}
