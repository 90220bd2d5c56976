// Package freeport picks ports for tests that have to know them before they listen.
//
// They are below the ephemeral ones: what the kernel gives to a connection, of this
// test or of one that runs beside it, is never one of them, so that a test may close
// a listener and open it again.
package freeport

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// given are those that this process was given: closed again, they are free only by their looks.
var given struct {
	sync.Mutex
	ports map[uint16]bool
}

// On is a port that is free for TCP and for UDP at each of the addresses, 127.0.0.1 if there are none.
func On(t testing.TB, addrs ...netip.Addr) int {
	t.Helper()
	if len(addrs) == 0 {
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	given.Lock()
	defer given.Unlock()
	for range 1000 {
		port := uint16(20000 + rand.IntN(12000))
		if given.ports[port] || !free(addrs, port) {
			continue
		}
		if given.ports == nil {
			given.ports = map[uint16]bool{}
		}
		given.ports[port] = true
		return int(port)
	}
	t.Fatalf("no free port on %v", addrs)
	return 0
}

func free(addrs []netip.Addr, port uint16) bool {
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, port)
		l, err := net.Listen("tcp", at.String())
		if err != nil {
			return false
		}
		_ = l.Close()
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return false
		}
		_ = c.Close()
	}
	return true
}
