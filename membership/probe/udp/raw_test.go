package udp

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// What one system call sends arrives as what it was, each where it was to go; one that the
// kernel does not take holds up no other, and what is sent once is not sent again.
func TestOutbox(t *testing.T) {
	lo := netip.MustParseAddr("127.0.0.1")
	from, _, err := openSocket(netip.AddrPortFrom(lo, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(from) }()
	var to [2]int
	var addrs [2]*rawAddress
	for i := range to {
		if to[i], _, err = openSocket(netip.AddrPortFrom(lo, 0)); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(to[i]) }()
		addrs[i] = rawAddr(netip.AddrPortFrom(lo, portOf(t, to[i])), 0)
	}
	nowhere := rawAddr(netip.MustParseAddrPort("255.255.255.255:9"), 0) // EACCES: nobody asked to broadcast
	var o outbox
	for _, c := range []struct {
		name string
		to   []*rawAddress
	}{
		{"none", nil},
		{"one", []*rawAddress{addrs[0]}},
		{"none of them", []*rawAddress{nowhere, nowhere}},
		{"all around", []*rawAddress{nowhere, addrs[0], addrs[1], nowhere, nowhere, addrs[1], addrs[0], nowhere}},
		{"one again", []*rawAddress{addrs[1]}},
	} {
		var want [2][]byte
		fails := 0
		for i, a := range c.to {
			o.add(&target{probeTo: a})[0] = byte(i)
			switch a {
			case addrs[0]:
				want[0] = append(want[0], byte(i))
			case addrs[1]:
				want[1] = append(want[1], byte(i))
			default:
				fails++
			}
		}
		if sent, failed := o.flush(from); int(failed) != fails || int(sent) != len(c.to)-fails || o.n != 0 {
			t.Errorf("%s: %d sent and %d failed of %d", c.name, sent, failed, len(c.to))
		}
		for i, fd := range to {
			var got []byte
			var b [256]byte
			for n, ok := recv(fd, b[:]); ok; n, ok = recv(fd, b[:]) {
				if got = append(got, b[0]); n != len(o.probes[0]) {
					t.Errorf("%s: %d bytes", c.name, n)
				}
			}
			if string(got) != string(want[i]) {
				t.Errorf("%s: %d got %v, want %v", c.name, i, got, want[i])
			}
		}
	}
	for !o.full() {
		o.add(&target{probeTo: addrs[0]})
	}
	if sent, failed := o.flush(-1); sent != 0 || failed != outboxSize {
		t.Errorf("without a socket %d were sent and %d failed", sent, failed)
	}
}
