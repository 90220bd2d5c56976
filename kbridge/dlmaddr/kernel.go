package dlmaddr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const loopback = "lo" // which every kernel has

// Kernel is what a Keeper works on.
type Kernel interface {
	Read(Wanted) (Have, error)
	Apply(Op) error
	Close()
}

// kernel is this machine's, in the network namespace in which it was opened.
type kernel struct{ h *netlink.Handle }

// openKernel opens a netlink socket in the caller's network namespace.
func openKernel() (*kernel, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, opError("open", "netlink", err)
	}
	return &kernel{h}, nil
}

func (k *kernel) Close() { k.h.Close() }

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// Read reads addresses and routes.
func (k *kernel) Read(want Wanted) (Have, error) {
	have := Have{Links: map[netip.Addr]Link{}}
	if err := k.addresses(want, &have); err != nil {
		return Have{}, opError("list", "addresses", err)
	}
	all, err := k.h.RouteListFiltered(family(want.Self), &netlink.Route{Protocol: Protocol, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return Have{}, opError("list", "routes", err)
	}
	for _, r := range all {
		if r.Dst == nil {
			continue // a default route: not ours, whatever it says
		}
		if dst := prefix(r.Dst); dst == want.Network && r.Type == unix.RTN_UNREACHABLE {
			have.Guard = true
		} else {
			have.Routes = append(have.Routes, Installed{Dst: dst, Via: addr(r.Gw), Src: addr(r.Src), Link: r.LinkIndex, Metric: r.Priority})
		}
	}
	slices.SortFunc(have.Routes, func(a, b Installed) int { return a.Dst.Addr().Compare(b.Dst.Addr()) })
	return have, nil
}

func (k *kernel) addresses(want Wanted, have *Have) error {
	links, err := k.h.LinkList()
	if err != nil {
		return err
	}
	name, up := map[int]string{}, map[int]bool{}
	for _, l := range links {
		name[l.Attrs().Index], up[l.Attrs().Index] = l.Attrs().Name, l.Attrs().Flags&net.FlagUp != 0
	}
	all, err := k.h.AddrList(nil, family(want.Self))
	if err != nil {
		return err
	}
	for _, a := range all {
		p := prefix(a.IPNet)
		have.Links[p.Addr()] = Link{a.LinkIndex, up[a.LinkIndex]}
		switch ours := name[a.LinkIndex] == Interface; {
		case p.Addr() == want.Self && up[a.LinkIndex]:
			have.Holder = name[a.LinkIndex]
		case ours && p.Addr() != want.Self && !p.Addr().IsLinkLocalUnicast(): // the kernel's own in IPv6
			have.Strange = append(have.Strange, p)
		}
	}
	return nil
}

// Apply does one thing.
func (k *kernel) Apply(o Op) error {
	var err error
	switch o.Kind {
	case AddAddress:
		err = k.addAddress(o.Dst)
	case DelAddress:
		err = k.delAddress(o.Dst)
	case SetRoute:
		err = k.h.RouteReplace(&netlink.Route{Dst: ipNet(o.Dst), Gw: o.Via.AsSlice(), Src: o.Src.AsSlice(), LinkIndex: o.Link,
			Priority: o.Metric, Protocol: Protocol, Table: unix.RT_TABLE_MAIN})
	case AddGuard:
		err = k.h.RouteReplace(guard(o))
	case DelGuard:
		err = gone(k.h.RouteDel(guard(o)))
	case DelRoute:
		err = gone(k.h.RouteDel(&netlink.Route{Dst: ipNet(o.Dst), Priority: o.Metric, Protocol: Protocol, Table: unix.RT_TABLE_MAIN}))
	}
	return opError("set", o.String(), advice(o, err))
}

func guard(o Op) *netlink.Route {
	return &netlink.Route{Dst: ipNet(o.Dst), Type: unix.RTN_UNREACHABLE, Priority: o.Metric, Protocol: Protocol, Table: unix.RT_TABLE_MAIN}
}

// addAddress puts the address on the dummy interface, made first where it is missing, or
// on lo. In IPv6 nobody is asked whether somebody else has it: nobody could hear that.
func (k *kernel) addAddress(p netip.Prefix) error {
	link, err := k.holder()
	if err != nil {
		return err
	}
	if err := k.h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", link.Attrs().Name, err)
	}
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return k.h.AddrReplace(link, a)
}

func (k *kernel) holder() (netlink.Link, error) {
	link, err := k.h.LinkByName(Interface)
	var missing netlink.LinkNotFoundError
	if err == nil && link.Type() != "dummy" {
		return nil, fmt.Errorf("the interface %s is there and is no dummy but a %s: rename it", Interface, link.Type())
	}
	if err == nil || !errors.As(err, &missing) {
		return link, err
	}
	err = k.h.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: Interface}})
	if errors.Is(err, unix.EOPNOTSUPP) { // "unknown device type"
		return k.h.LinkByName(loopback)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make the dummy interface %s: %w", Interface, err)
	}
	return k.h.LinkByName(Interface)
}

// delAddress takes an address away, and the dummy interface with the last one.
func (k *kernel) delAddress(p netip.Prefix) error {
	for _, name := range []string{Interface, loopback} {
		link, err := k.h.LinkByName(name)
		if err != nil {
			continue
		}
		err = k.h.AddrDel(link, &netlink.Addr{IPNet: ipNet(p)})
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return err
		}
		if name != Interface {
			continue
		}
		left, err := k.h.AddrList(link, family(p.Addr()))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(left, func(a netlink.Addr) bool { return !a.IP.IsLinkLocalUnicast() }) {
			if err := k.h.LinkDel(link); err != nil {
				return err
			}
		}
	}
	return nil
}

// gone: what somebody else has removed already is removed.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// advice says what to do about an errno.
func advice(o Op, err error) error {
	switch {
	case o.Kind == SetRoute && (errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH)):
		return fmt.Errorf("%w: %s is not on the network of this node's interface: dlm_address = \"stable\" needs the addresses of a link within one network, without a router", err, o.Via)
	}
	return err
}

func prefix(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if a = a.Unmap(); size == 128 && a.Is4() {
		bits -= 96
	}
	return netip.PrefixFrom(a, bits)
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// OpError is a failure at the kernel's tables.
type OpError struct {
	Op   string
	What string
	Err  error
}

func (e *OpError) Error() string {
	return "stable address: " + e.Op + " " + e.What + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

func opError(op, what string, err error) error {
	if err == nil {
		return nil
	}
	return &OpError{op, what, err}
}
