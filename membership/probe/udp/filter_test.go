package udp

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/probetest"
)

// Others, and garbage from peers, take no room from what a peer sends: with nobody
// reading all along, the first that can be read is the peer's probe.
func TestFilter(t *testing.T) {
	for name, at := range map[string][3]string{ // the socket's, a peer's, and a stranger's address
		"IPv4": {"127.9.0.1", "127.9.0.2", "127.9.0.3"},
		"IPv6": {"::1", "::1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			own, peer := netip.MustParseAddr(at[0]), netip.MustParseAddr(at[1])
			fd, _, err := openSocket(netip.AddrPortFrom(own, 0))
			if err != nil {
				t.Skip(err)
			}
			defer unix.Close(fd)
			others := []netip.Addr{netip.MustParseAddr("127.8.0.1"), netip.MustParseAddr("127.8.0.2")}
			if own.Is6() {
				others = []netip.Addr{netip.MustParseAddr("::2"), netip.MustParseAddr("fd00::1")}
			}
			setFilter(fd, filter(own.Is4(), append(others, peer)))
			to := portOf(t, fd)
			var good [probe.Size]byte
			(&probe.Packet{Type: probe.TypeProbe, Seq: 42}).Marshal(&good, probetest.Key(1))
			if at[2] != "" {
				send(t, at[2], own, to, good[:], 3000)
			}
			send(t, at[1], own, to, make([]byte, probe.Size), 3000)
			send(t, at[1], own, to, good[:probe.Size-1], 3000)
			send(t, at[1], own, to, slices.Concat(good[:], make([]byte, probe.MinLong-probe.Size-1)), 3000)
			send(t, at[1], own, to, slices.Concat(good[:], make([]byte, probe.MaxLong-probe.Size+1)), 300)
			send(t, at[1], own, to, good[:], 1)
			send(t, at[1], own, to, slices.Concat(good[:], make([]byte, probe.MinLong-probe.Size)), 1)
			send(t, at[1], own, to, slices.Concat(good[:], make([]byte, probe.MaxLong-probe.Size)), 1)
			var b [probe.MaxLong + 1]byte
			n, ok := recv(fd, b[:])
			if pkt, err := probe.Parse(b[:n]); !ok || err != nil || pkt.Seq != 42 {
				t.Errorf("%v, %d bytes, %+v, %v", ok, n, pkt, err)
			}
			for _, want := range []int{probe.MinLong, probe.MaxLong} {
				if n, ok := recv(fd, b[:]); !ok || n != want {
					t.Errorf("%v, %d bytes, want %d", ok, n, want)
				}
			}
			if _, ok := recv(fd, b[:]); ok {
				t.Error("and something else")
			}
		})
	}
}

func portOf(t *testing.T, fd int) uint16 {
	t.Helper()
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if v4, ok := sa.(*unix.SockaddrInet4); ok {
		return uint16(v4.Port)
	}
	return uint16(sa.(*unix.SockaddrInet6).Port)
}

func send(t *testing.T, from string, to netip.Addr, port uint16, b []byte, times int) {
	t.Helper()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, port)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range times {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
}
