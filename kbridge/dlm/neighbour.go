package dlm

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Forget implements Sockets. While the kernel asks for a neighbour that is forgotten,
// what waits for the answer fails with EHOSTUNREACH; one that is known and silent is
// asked for by the next packet. A router's entry is everybody's and stays, and so does
// one that an operator made (permanent, noarp): the kernel would not make it again.
func (sockDiag) Forget(to netip.Addr, own []netip.Addr) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("netlink", err)
	}
	defer h.Close()
	to = bare(to)
	link, next, err := nextHop(h, to)
	if err != nil {
		return err
	}
	if next != to && !slices.ContainsFunc(own, func(a netip.Addr) bool { return bare(a) == next }) {
		return fmt.Errorf("%w: %s is behind the router %s", ErrNeighbour, to, next)
	}
	return forget(h, link, next)
}

func bare(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// nextHop is the neighbour through which an address is reached: its own, or a gateway.
func nextHop(h *netlink.Handle, to netip.Addr) (link int, next netip.Addr, err error) {
	routes, err := h.RouteGet(to.AsSlice())
	if err != nil {
		return 0, to, os.NewSyscallError("get route", err)
	}
	if len(routes) == 0 {
		return 0, to, fmt.Errorf("%w: no route to %s", ErrNeighbour, to)
	}
	gw := routes[0].Gw
	if v, ok := routes[0].Via.(*netlink.Via); ok { // of the other family
		gw = v.Addr
	}
	if a, ok := netip.AddrFromSlice(gw); ok {
		to = bare(a)
	}
	return routes[0].LinkIndex, to, nil
}

// forget deletes the neighbour's entry that the kernel made by asking, if there is one.
func forget(h *netlink.Handle, link int, a netip.Addr) error {
	family := netlink.FAMILY_V6
	if a.Is4() {
		family = netlink.FAMILY_V4
	}
	all, err := h.NeighList(link, family)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return os.NewSyscallError("list neighbours", err)
	}
	i := slices.IndexFunc(all, func(n netlink.Neigh) bool { return n.IP.Equal(a.AsSlice()) })
	if i < 0 {
		return asks(h, link)
	}
	if all[i].State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 {
		return fmt.Errorf("%w: that of %s is permanent", ErrNeighbour, a)
	}
	err = h.NeighDel(&netlink.Neigh{LinkIndex: link, IP: a.AsSlice()})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return os.NewSyscallError("delete neighbour", err)
}

// asks is an error for an interface without neighbours, such as a tunnel's.
func asks(h *netlink.Handle, link int) error {
	l, err := h.LinkByIndex(link)
	if err != nil {
		return os.NewSyscallError("get link", err)
	}
	if l.Attrs().RawFlags&unix.IFF_NOARP != 0 {
		return fmt.Errorf("%w: the interface %s has none", ErrNeighbour, l.Attrs().Name)
	}
	return nil
}
