package udp

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/tools/netns"
)

// What is sent to nodes that are not there waits in the kernel for their link addresses, at
// the expense of the socket: it must not hold up what is sent to those who are there.
func TestAbsentPeersHoldUpNobody(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes a network namespace")
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	own, there := netip.MustParseAddrPort("10.0.0.1:9"), netip.MustParseAddr("10.0.0.100")
	fd := -1
	err = ns.Do(func() error {
		a := netlink.NewLinkAttrs()
		a.Name = "v0"
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "v1"}); err != nil {
			return err
		}
		for _, name := range []string{"v0", "v1"} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
			if name == "v1" {
				break
			}
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: own.Addr().AsSlice(), Mask: net.CIDRMask(24, 32)}}
			neigh := &netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: there.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 100}}
			if err := netlink.AddrAdd(l, addr); err != nil {
				return err
			}
			if err := netlink.NeighAdd(neigh); err != nil {
				return err
			}
		}
		var err error
		fd, _, err = openSocket(own)
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
			_ = sendTo(fd, long, peer(netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + i)})))
		}
		sent++
		if !sendTo(fd, short, peer(there)) {
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
	x, o := target{probeTo: peer(netip.MustParseAddr("10.0.0.200"))}, outbox{}
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
