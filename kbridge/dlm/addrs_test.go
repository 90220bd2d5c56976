package dlm_test

import (
	"maps"
	"net/netip"
	"syscall"
	"testing"

	"github.com/quorate/quorate/configfs/configfstest"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/membership"
)

func (n *node) noPeer(want error) {
	n.t.Helper()
	n.must(n.SetPeer(inc(4, "d")))
	n.is(next[dlm.PeerSet](n).Err, want)
}

func TestAddressesOfANewNode(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	b := inc(2, "b")
	n.setPeer(b)
	entry := n.k.Configfs.Comm(2)
	n.noPeer(dlm.ErrPeer)

	more := maps.Clone(addrs)
	more[4] = []netip.Addr{netip.MustParseAddr("10.0.0.4")}
	via := map[membership.NodeID][]netip.Addr{4: {netip.MustParseAddr("10.80.0.4")}}
	n.must(n.SetAddrs(more, via))
	delete(more, 4) // the driver keeps its own
	delete(via, 4)
	n.setPeer(inc(4, "d"))
	if n.k.Configfs.Comm(4) == 0 {
		t.Fatal("no entry of the new node")
	}
	if n.k.Configfs.Comm(2) != entry {
		t.Fatal("the entry of another node was made anew")
	}
	n.k.AbortFails(syscall.EOPNOTSUPP)
	n.removePeer(inc(4, "d"))
	four := netip.MustParseAddr("10.0.0.4")
	n.equal(n.k.Own(four), []netip.Addr{four, netip.MustParseAddr("10.80.0.4")}, "what node 4 has")
	n.must(n.SetAddrs(addrs, nil))
	n.noPeer(dlm.ErrPeer)
}

func TestAddressesThatCannotBe(t *testing.T) {
	n := open(t, configfstest.Linux6_1)
	for what, change := range map[string][]netip.Addr{
		"own":    {netip.MustParseAddr("10.0.0.9")},
		"none":   nil,
		"family": {netip.MustParseAddr("fd00::4")},
	} {
		all := maps.Clone(addrs)
		if what == "own" {
			all[1] = change
		} else {
			all[4] = change
		}
		n.is(n.SetAddrs(all, nil), dlm.ErrMembers)
	}
	n.setPeer(inc(2, "b"))
}
