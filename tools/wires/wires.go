// Package wires is nodes in network namespaces of their own, with several links, for tests
// of one machine's kernel: node n has the address 10.80.l.n (fd80:0:0:l::n) on link l, which is its
// interface eth<l>. A link of a node can be cut without a word: what is sent is lost, and
// every interface keeps its carrier.
//
// Sockets made and programs started within Do are a node's. It needs root.
package wires

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/tools/netns"
)

// Wires are the nodes, from 1, and their links, from 0.
type Wires struct {
	t     testing.TB
	hub   *netns.Namespace // has a bridge for each link
	route *netlink.Handle
	nodes []*netns.Namespace
}

// Addr is a node's address on a link.
func Addr(node, link int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 80, byte(link), byte(node)})
}

// Addr6 is the same in IPv6.
func Addr6(node, link int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x80, 7: byte(link), 15: byte(node)})
}

func bridge(link int) string     { return fmt.Sprintf("link%d", link) }
func port(node, link int) string { return fmt.Sprintf("n%dl%d", node, link) }

// Interface is a node's on a link.
func Interface(link int) string { return fmt.Sprintf("eth%d", link) }

// New makes the nodes; they go with the test.
func New(t testing.TB, nodes, links int) *Wires {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	w := &Wires{t: t, nodes: make([]*netns.Namespace, nodes)}
	t.Cleanup(w.close)
	var err error
	if w.hub, err = netns.New(); err != nil {
		t.Fatal(err)
	}
	w.must(w.hub.Do(func() (err error) { w.route, err = netlink.NewHandle(unix.NETLINK_ROUTE); return err }))
	for l := range links {
		snoop := false
		b := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge(l), Flags: net.FlagUp}, MulticastSnooping: &snoop}
		w.must(w.route.LinkAdd(b))
		w.must(w.route.LinkSetUp(b))
	}
	for n := 1; n <= nodes; n++ {
		ns, err := netns.New()
		w.must(err)
		w.nodes[n-1] = ns
		w.must(w.Do(n, func() error { return errors.Join(noDAD(), up("lo")) }))
		for l := range links {
			w.plug(n, l)
		}
	}
	return w
}

// plug makes a node's link, with the far end on the bridge.
func (w *Wires) plug(n, l int) {
	w.t.Helper()
	w.must(w.route.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port(n, l), Flags: net.FlagUp},
		PeerName: Interface(l), PeerNamespace: netlink.NsFd(w.nodes[n-1].Fd())}))
	w.Heal(n, l)
	w.must(w.Do(n, func() error {
		return up(Interface(l), netip.PrefixFrom(Addr(n, l), 24), netip.PrefixFrom(Addr6(n, l), 64))
	}))
}

// noDAD lets new interfaces use IPv6 at once: else for a second they cannot ask for a
// neighbour.
func noDAD() error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
	if errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
		return nil
	}
	return err
}

func up(name string, addrs ...netip.Prefix) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		x := &netlink.Addr{IPNet: &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}}
		if a.Addr().Is6() {
			x.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrAdd(l, x); err != nil && !(a.Addr().Is6() && errors.Is(err, unix.EACCES)) { // a kernel without IPv6
			return fmt.Errorf("%s: address %s: %w", name, a, err)
		}
	}
	return h.LinkSetUp(l)
}

func (w *Wires) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// Do calls f on a thread in a node's namespace.
func (w *Wires) Do(node int, f func() error) error { return w.nodes[node-1].Do(f) }

// Cut loses all that a node sends and gets on a link, from now on.
func (w *Wires) Cut(node, link int) {
	w.t.Helper()
	p, err := w.route.LinkByName(port(node, link))
	w.must(err)
	w.must(w.route.LinkSetNoMaster(p))
}

// Heal has it pass again.
func (w *Wires) Heal(node, link int) {
	w.t.Helper()
	p, err := w.route.LinkByName(port(node, link))
	w.must(err)
	b, err := w.route.LinkByName(bridge(link))
	w.must(err)
	w.must(w.route.LinkSetMaster(p, b))
	w.must(w.route.LinkSetUp(p))
}

// SetMTU has the far end of a node's link, which the node does not see, lose all that is longer
// without a word, both ways.
func (w *Wires) SetMTU(node, link, mtu int) {
	w.t.Helper()
	p, err := w.route.LinkByName(port(node, link))
	w.must(err)
	w.must(w.route.LinkSetMTU(p, mtu))
}

// Down has a link of a node lose its carrier: its far end is set down.
func (w *Wires) Down(node, link int) {
	w.t.Helper()
	p, err := w.route.LinkByName(port(node, link))
	w.must(err)
	w.must(w.route.LinkSetDown(p))
}

func (w *Wires) close() {
	if w.route != nil {
		w.route.Close()
	}
	for _, ns := range append(w.nodes, w.hub) {
		if ns != nil {
			_ = ns.Close() // the descriptor is given up in any case
		}
	}
}
