package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrAddr says that the node does not have one of its configured addresses.
var ErrAddr = errors.New("this node does not have the address (yet): configure the interface, or correct the node's addresses; trying every second")

// LinkError says why a link is not probed.
type LinkError struct {
	Link int
	Addr netip.AddrPort
	Err  error
}

func (e *LinkError) Error() string {
	return fmt.Sprintf("link %d, %s: %v", e.Link, e.Addr, e.Err)
}

// Unwrap returns the cause.
func (e *LinkError) Unwrap() error { return e.Err }

// classControl is DSCP CS6, network control: probes go before bulk data.
const classControl = 0xc0

// receiveBuffer holds a long datagram of each of 32 nodes, at an MTU of 9000, while nobody reads.
const receiveBuffer = 1 << 20

// sendBuffer is half of what may wait to be sent, as the kernel doubles it: for each of 31 absent
// nodes what the kernel keeps until it gives up on its link address (unres_qlen_bytes in its
// Documentation/networking/ip-sysctl.rst, mostly 212992), or what is for the others would find no room.
const sendBuffer = 4 << 20

// openSocket returns a bound socket that never blocks, and the zone of a
// link-local address.
func openSocket(addr netip.AddrPort) (fd int, zone uint32, err error) {
	family, level, class := unix.AF_INET, unix.IPPROTO_IP, unix.IP_TOS
	if addr.Addr().Is6() {
		family, level, class = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	}
	if zone, err = zoneOf(addr.Addr()); err != nil {
		return -1, 0, err
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("socket: %w", err)
	}
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	_ = unix.SetsockoptInt(fd, level, class, classControl)
	whole(fd, family)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, 6)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) // with root's rights, else what there is has to do
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer)
	if err := unix.Bind(fd, sockaddr(addr, zone)); err != nil {
		_ = unix.Close(fd)
		return -1, 0, bindError(err)
	}
	return fd, zone, nil
}

// waiter is what a reader waits with until there is something to read on a socket. The runtime's
// poller, on the socket itself, would wait for room to write as well, and so be woken for each
// datagram that leaves, and for each that comes while nobody wants to know. So the socket is
// in an epoll instance of its own, and the poller waits for that.
type waiter struct {
	file *os.File // of that instance
	fd   int      // of the socket
}

func newWaiter(fd int, name string) (waiter, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return waiter{}, fmt.Errorf("epoll: %w", err)
	}
	err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN})
	if err == nil {
		err = unix.SetNonblock(epoll, true) // what the poller takes
	}
	if err != nil {
		_ = unix.Close(epoll)
		return waiter{}, fmt.Errorf("epoll: %w", err)
	}
	return waiter{file: os.NewFile(uintptr(epoll), name), fd: fd}, nil
}

// listen says whether anything that comes wakes who waits. What has come before does, too.
func (w *waiter) listen(yes bool) {
	event := unix.EpollEvent{}
	if yes {
		event.Events = unix.EPOLLIN
	}
	if conn, err := w.file.SyscallConn(); err == nil {
		_ = conn.Control(func(epoll uintptr) { _ = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_MOD, w.fd, &event) }) // unless it is closed
	}
}

func bindError(err error) error {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.ENODEV):
		return ErrAddr
	case errors.Is(err, unix.EADDRINUSE):
		return errors.New("another program has the UDP port: see \"ss -lunp\"; trying every second")
	}
	return fmt.Errorf("bind: %w", err)
}

func zoneOf(a netip.Addr) (uint32, error) {
	if a.Zone() == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(a.Zone(), 10, 32); err == nil {
		return uint32(n), nil
	}
	ifi, err := net.InterfaceByName(a.Zone())
	if err != nil {
		return 0, ErrAddr
	}
	return uint32(ifi.Index), nil
}

// sockaddr is the kernel's form of an address; the zone is for link-local ones.
func sockaddr(a netip.AddrPort, zone uint32) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	if !a.Addr().IsLinkLocalUnicast() {
		zone = 0
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: zone}
}
