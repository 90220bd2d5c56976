package dlm

import (
	"errors"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Forget implements Sockets. While the kernel asks for a neighbour that is forgotten,
// what waits for the answer fails with EHOSTUNREACH; one that is known and silent is
// asked for by the next packet. An address behind a router has no neighbour of its own.
func (sockDiag) Forget(to netip.Addr, _ []netip.Addr) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("netlink", err)
	}
	defer h.Close()
	to = to.Unmap().WithZone("")
	routes, err := h.RouteGet(to.AsSlice())
	if err != nil || len(routes) == 0 || routes[0].Gw != nil {
		return os.NewSyscallError("get route", err)
	}
	err = h.NeighDel(&netlink.Neigh{LinkIndex: routes[0].LinkIndex, IP: to.AsSlice()})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return os.NewSyscallError("delete neighbour", err)
}
