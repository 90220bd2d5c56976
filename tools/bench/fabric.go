package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/netns"
)

// Fabric is the network of a run: a bridge in a namespace of its own, and for
// each node a namespace with one link to it. Nodes are numbered from 1.
type Fabric struct {
	hub   *netns.Namespace
	route *netlink.Handle // in the hub
	nodes []*netns.Namespace
}

const (
	bridgeName = "hub"
	linkName   = "eth0" // of each node
)

// portDisabled is a state of a bridge's port: it takes nothing and passes nothing
// on (BR_STATE_DISABLED of linux/if_bridge.h). Without spanning tree the bridge
// takes BLOCKING back at once (br_port_state_selection, Linux 6.18).
const portDisabled = 0

// Addr is the address of a node.
func Addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 79, 0, byte(n)}) }

// hardware is the same in every life of a node.
func hardware(n int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0x79, 0, byte(n)} }

func portName(n int) string { return fmt.Sprintf("n%d", n) }

// NewFabric makes the namespaces of so many nodes.
func NewFabric(nodes int) (_ *Fabric, err error) {
	f := &Fabric{nodes: make([]*netns.Namespace, nodes)}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if f.hub, err = netns.New(); err != nil {
		return nil, err
	}
	if err := f.hub.Do(f.makeHub); err != nil {
		return nil, fmt.Errorf("make the bridge: %w", err)
	}
	for n := 1; n <= nodes; n++ {
		if err := f.plug(n); err != nil {
			return nil, fmt.Errorf("make the link of node %d: %w", n, err)
		}
	}
	return f, nil
}

func (f *Fabric) makeHub() (err error) {
	if err := quiet(); err != nil {
		return err
	}
	if f.route, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return err
	}
	snoop := false
	b := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}, MulticastSnooping: &snoop}
	if err := f.route.LinkAdd(b); err != nil {
		return err
	}
	return f.route.LinkSetUp(b)
}

// plug makes a node's namespace and its link, with the far end on the bridge.
func (f *Fabric) plug(n int) error {
	ns, err := netns.New()
	if err != nil {
		return err
	}
	f.nodes[n-1] = ns
	bridge, err := f.route.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	port := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: portName(n), MasterIndex: bridge.Attrs().Index, Flags: net.FlagUp},
		PeerName:  linkName, PeerHardwareAddr: hardware(n), PeerNamespace: netlink.NsFd(ns.Fd()),
	}
	if err := f.route.LinkAdd(port); err != nil {
		return err
	}
	return ns.Do(func() error { return configure(n) })
}

// configure runs inside the node's namespace.
func configure(n int) error {
	if err := quiet(); err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, name := range []string{"lo", linkName} {
		l, err := h.LinkByName(name)
		if err == nil {
			err = h.LinkSetUp(l)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if name == linkName {
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: Addr(n).AsSlice(), Mask: net.CIDRMask(24, 32)}}
			if err := h.AddrAdd(l, addr); err != nil {
				return fmt.Errorf("address of %s: %w", name, err)
			}
		}
	}
	return nil
}

// quiet turns IPv6 off in the namespace of the calling thread: only what the
// measured programs send is to be counted.
func quiet() error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Do calls fn on a thread inside the node's namespace.
func (f *Fabric) Do(n int, fn func() error) error { return f.nodes[n-1].Do(fn) }

// Cut drops every packet of a node from now on, both ways, and says when it
// began to. Both ends of the node's link keep their carrier.
func (f *Fabric) Cut(n int) (membership.Mono, error) {
	port, err := f.route.LinkByName(portName(n))
	if err != nil {
		return 0, fmt.Errorf("cut node %d: %w", n, err)
	}
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(port.Attrs().Index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	info.AddRtAttr(nl.IFLA_BRPORT_STATE, []byte{portDisabled})
	req.AddData(info)
	var at membership.Mono
	err = f.hub.Do(func() error {
		at = boottime()
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("cut node %d: %w", n, err)
	}
	// A late carrier event of the port would enable it again, were it still one.
	if err := f.route.LinkSetNoMaster(port); err != nil {
		return 0, fmt.Errorf("cut node %d: %w", n, err)
	}
	return at, nil
}

// Renew gives a node that was cut a new namespace and link, as a boot does. No
// program may be left in the old one.
func (f *Fabric) Renew(n int) error {
	old := f.nodes[n-1]
	port, err := f.route.LinkByName(portName(n))
	if err == nil {
		err = f.route.LinkDel(port)
	}
	if err != nil {
		return fmt.Errorf("unplug node %d: %w", n, err)
	}
	if err := old.Close(); err != nil {
		return err
	}
	f.nodes[n-1] = nil
	if err := f.plug(n); err != nil {
		return fmt.Errorf("plug node %d in again: %w", n, err)
	}
	return nil
}

// Packets counts what a node has sent and received in this life, as the bridge's
// side of its link saw it.
func (f *Fabric) Packets(n int) (uint64, error) {
	port, err := f.route.LinkByName(portName(n))
	if err != nil {
		return 0, fmt.Errorf("packets of node %d: %w", n, err)
	}
	s := port.Attrs().Statistics
	if s == nil {
		return 0, fmt.Errorf("packets of node %d: the kernel does not count them", n)
	}
	return s.RxPackets + s.TxPackets, nil
}

// Close removes everything. The programs in the namespaces must have ended.
func (f *Fabric) Close() error {
	var errs []error
	if f.route != nil {
		f.route.Close()
	}
	for _, ns := range append(f.nodes, f.hub) {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	f.nodes, f.hub, f.route = nil, nil, nil
	return errors.Join(errs...)
}
