package dlm_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/tools/wires"
)

// site is a network namespace in which neighbours are forgotten.
type site struct {
	t    *testing.T
	in   func(func() error) error
	link string
}

func (s site) do(f func() error) {
	s.t.Helper()
	if err := s.in(f); err != nil {
		s.t.Fatal(err)
	}
}

func (s site) index() int {
	s.t.Helper()
	l, err := netlink.LinkByName(s.link)
	if err != nil {
		s.t.Fatal(err)
	}
	return l.Attrs().Index
}

// knows makes a neighbour entry, of a machine that is not there.
func (s site) knows(a netip.Addr, state int) {
	s.t.Helper()
	s.do(func() error {
		return netlink.NeighSet(&netlink.Neigh{LinkIndex: s.index(), IP: a.AsSlice(), State: state, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}})
	})
}

// via makes a route to one address.
func (s site) via(to, gw netip.Addr) {
	s.t.Helper()
	s.do(func() error {
		r := netlink.Route{LinkIndex: s.index(), Dst: &net.IPNet{IP: to.AsSlice(), Mask: net.CIDRMask(to.BitLen(), to.BitLen())}}
		if r.Gw = gw.AsSlice(); gw.Is6() && to.Is4() {
			r.Gw, r.Via = nil, &netlink.Via{AddrFamily: unix.AF_INET6, Addr: gw.AsSlice()}
		}
		return netlink.RouteReplace(&r)
	})
}

func (s site) forget(to netip.Addr, own ...netip.Addr) error {
	return s.in(func() error { return dlm.Forget(to, own) })
}

// has says whether there is a neighbour entry.
func (s site) has(a netip.Addr) (there bool) {
	s.t.Helper()
	s.do(func() error {
		all, err := netlink.NeighList(s.index(), 0)
		for _, n := range all {
			there = there || n.IP.Equal(a.AsSlice())
		}
		return err
	})
	return there
}

// stays checks that an entry is not to be forgotten.
func (s site) stays(what string, entry, to netip.Addr, own ...netip.Addr) {
	s.t.Helper()
	if err := s.forget(to, own...); !errors.Is(err, dlm.ErrNeighbour) {
		s.t.Errorf("%s: %v, want %v", what, err, dlm.ErrNeighbour)
	}
	if !s.has(entry) {
		s.t.Errorf("%s: the entry of %s is gone", what, entry)
	}
}

// connects begins to connect to an address; the socket does not block.
func (s site) connects(to netip.Addr) (fd int) {
	s.t.Helper()
	s.do(func() (err error) {
		family, at := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: 21999, Addr: to.As16()})
		if to.Is4() {
			family, at = unix.AF_INET, &unix.SockaddrInet4{Port: 21999, Addr: to.As4()}
		}
		if fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err = unix.Connect(fd, at); errors.Is(err, unix.EINPROGRESS) {
			return nil
		}
		return err
	})
	return fd
}

// ends checks that an attempt to connect fails soon while its neighbour is forgotten, and
// not when all repetitions are sent (131 s).
func (s site) ends(to netip.Addr, own ...netip.Addr) {
	s.t.Helper()
	fd := s.connects(to)
	defer func() { _ = unix.Close(fd) }()
	for began := time.Now(); time.Since(began) < 15*time.Second; {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 200); n == 0 || errors.Is(err, unix.EINTR) {
			if err := s.forget(to, own...); err != nil {
				s.t.Fatal(err)
			}
			continue
		}
		errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil || unix.Errno(errno) != unix.EHOSTUNREACH {
			s.t.Errorf("%s: after %v: %v, %v", to, time.Since(began), unix.Errno(errno), err)
		}
		s.t.Logf("%s: the attempt ended after %v", to, time.Since(began).Round(time.Millisecond))
		return
	}
	s.t.Errorf("the attempt to connect to %s did not end", to)
}

func TestForget(t *testing.T) {
	families := map[string]struct{ peer, router, stable netip.Addr }{
		"IPv4": {wires.Addr(2, 0), wires.Addr(9, 0), netip.MustParseAddr("10.99.0.2")},
		"IPv6": {wires.Addr6(2, 0), wires.Addr6(9, 0), netip.MustParseAddr("fd99::2")},
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		delete(families, "IPv6")
	}
	for name, f := range families {
		t.Run(name, func(t *testing.T) {
			w := wires.New(t, 1, 1)
			s := site{t, func(f func() error) error { return w.Do(1, f) }, wires.Interface(0)}
			if err := s.forget(f.peer); err != nil {
				t.Errorf("nobody that is known: %v", err)
			}
			if err := s.forget(f.stable); !errors.Is(err, unix.ENETUNREACH) {
				t.Errorf("no route: %v", err)
			}
			s.knows(f.peer, netlink.NUD_REACHABLE)
			s.ends(f.peer)

			s.via(f.stable, f.peer)
			s.knows(f.peer, netlink.NUD_REACHABLE)
			s.stays("a gateway that is not the peer's", f.peer, f.stable, f.stable, f.router)
			s.ends(f.stable, f.stable, f.router, f.peer)

			for what, state := range map[string]int{"permanent": netlink.NUD_PERMANENT, "noarp": netlink.NUD_NOARP} {
				s.knows(f.peer, state)
				s.stays(what, f.peer, f.peer)
				s.stays(what+" gateway", f.peer, f.stable, f.peer)
			}
			s.do(func() error {
				l, err := netlink.LinkByName(s.link)
				if err != nil {
					return err
				}
				return netlink.LinkSetARPOff(l)
			})
			if err := s.forget(f.router); !errors.Is(err, dlm.ErrNeighbour) {
				t.Errorf("an interface without neighbours: %v", err)
			}
		})
	}
}

// A gateway may be of the other family.
func TestForgetAcrossFamilies(t *testing.T) {
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		t.Skip("this kernel has no IPv6")
	}
	w := wires.New(t, 1, 1)
	s := site{t, func(f func() error) error { return w.Do(1, f) }, wires.Interface(0)}
	to, gw := netip.MustParseAddr("10.99.0.2"), wires.Addr6(2, 0)
	s.via(to, gw)
	s.knows(gw, netlink.NUD_REACHABLE)
	s.stays("a gateway that is not the peer's", gw, to, to)
	if err := s.forget(to, to, gw); err != nil || s.has(gw) {
		t.Errorf("%v, the entry is there: %v", err, s.has(gw))
	}
}
