package udp

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/tools/wires"
)

// What is sent to nodes that are not there waits in the kernel for their link addresses, at
// the expense of the socket: it must not hold up what is sent to those who are there.
func TestAbsentPeersHoldUpNobody(t *testing.T) {
	w, fd := wires.New(t, 2, 1), -1
	err := w.Do(1, func() (err error) {
		fd, _, err = openSocket(netip.AddrPortFrom(wires.Addr(1, 0), 9))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	peer := func(a netip.Addr) *rawAddress { return rawAddr(netip.AddrPortFrom(a, 9), 0) }
	short, long := make([]byte, 100), make([]byte, 1400)
	const absent = 31
	sent, failed := 0, 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for i := range absent {
			_ = sendTo(fd, long, peer(wires.Addr(3+i, 0)))
		}
		sent++
		if !sendTo(fd, short, peer(wires.Addr(2, 0))) {
			failed++
		}
	}
	if failed > 0 || sent == 0 {
		t.Errorf("%d of %d probes to who is there were not taken", failed, sent)
	}

	// Without room a probe has not been sent, and its peer not been asked.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 0); err != nil {
		t.Fatal(err)
	}
	x, o := target{probeTo: peer(wires.Addr(200, 0))}, outbox{}
	var asked membership.Mono
	for at := range membership.Mono(100) {
		var q probe.Packet
		x.next(&q, at+1)
		o.add(&x)
		if _, failed := o.flush(fd); failed > 0 {
			if x.sample.Asked != asked {
				t.Errorf("asked last at %d, and %d is said", asked, x.sample.Asked)
			}
			return
		}
		asked = at + 1
	}
	t.Error("there was always room")
}
