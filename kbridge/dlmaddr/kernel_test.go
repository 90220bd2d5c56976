package dlmaddr

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/tools/wires"
)

// end is a node with a stable address.
type end struct {
	*Keeper
	n int
}

func stable(six bool, n int) netip.Addr {
	if six {
		return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x99, 15: byte(n)})
	}
	return netip.AddrFrom4([4]byte{10, 99, 0, byte(n)})
}

func netOf(six bool) netip.Prefix {
	if six {
		return netip.MustParsePrefix("fd99::/64")
	}
	return netip.MustParsePrefix("10.99.0.0/24")
}

func to(six bool, from, peer, link int) Route {
	if six {
		return Route{To: stable(six, peer), Via: wires.Addr6(peer, link), From: wires.Addr6(from, link)}
	}
	return Route{To: stable(six, peer), Via: wires.Addr(peer, link), From: wires.Addr(from, link)}
}

func start(t *testing.T, w *wires.Wires, six bool, n int) *end {
	t.Helper()
	e := &end{n: n}
	err := w.Do(n, func() (err error) {
		e.Keeper, err = Open(Options{Self: stable(six, n), Network: netOf(six)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// over takes a link to the other node.
func (e *end) over(t *testing.T, six bool, link int) {
	t.Helper()
	e.Set([]Route{to(six, e.n, 3-e.n, link)})
	if err := e.Sync(); err != nil {
		t.Fatal(err)
	}
}

// A TCP connection between the stable addresses, made as the kernel's DLM makes it, goes
// on over the second link when the first one loses everything without a word, and back.
// Of what was sent nothing is lost.
func TestConnectionSurvives(t *testing.T) {
	for name, six := range families(t) {
		t.Run(name, func(t *testing.T) {
			w := wires.New(t, 2, 2)
			a, b := start(t, w, six, 1), start(t, w, six, 2)
			a.over(t, six, 0)
			b.over(t, six, 0)
			ca, cb := connect(t, w, six)
			if at := cb.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(); at != a.o.Self {
				t.Errorf("the connection comes from %v", at)
			}
			var sent, got bytes.Buffer
			say := func(word string) {
				t.Helper()
				_, err := ca.Write([]byte(word))
				if err == nil {
					sent.WriteString(word)
					_, err = io.CopyN(&got, cb, int64(len(word)))
				}
				if err == nil {
					_, err = cb.Write([]byte{'.'})
				}
				if err == nil {
					_, err = io.ReadFull(ca, make([]byte, 1))
				}
				if err != nil {
					t.Fatalf("%s: %v", word, err)
				}
			}
			say("over the first link")
			w.Cut(2, 0)
			began := time.Now()
			time.AfterFunc(50*time.Millisecond, func() { // somebody has noticed
				a.Set([]Route{to(six, 1, 2, 1)})
				b.Set([]Route{to(six, 2, 1, 1)})
				_, _ = a.Sync(), b.Sync()
			})
			say("over the second one")
			t.Logf("it stood still for %v", time.Since(began).Round(time.Millisecond))
			w.Heal(2, 0)
			w.Cut(1, 1)
			a.over(t, six, 0)
			b.over(t, six, 0)
			say("and back")
			if sent.String() != got.String() {
				t.Errorf("sent %q, got %q", sent.String(), got.String())
			}
			for _, e := range []*end{a, b} {
				if err := e.Remove(); err != nil {
					t.Error(err)
				}
				have, err := e.k.Read(Wanted{Self: e.o.Self, Network: e.o.Network})
				if err != nil || have.Holder != "" || have.Guard || len(have.Routes) != 0 || len(have.Strange) != 0 {
					t.Errorf("left: %+v, %v", have, err)
				}
			}
		})
	}
}

func families(t *testing.T) map[string]bool {
	all := map[string]bool{"IPv4": false}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		all["IPv6"] = true
	} else {
		t.Log("this kernel has no IPv6")
	}
	return all
}

// connect makes a connection between the nodes' stable addresses.
func connect(t *testing.T, w *wires.Wires, six bool) (a, b net.Conn) {
	t.Helper()
	var l net.Listener
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.Do(2, func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", netip.AddrPortFrom(stable(six, 2), 21064).String())
		return err
	}))
	defer l.Close()
	must(w.Do(1, func() (err error) {
		d := net.Dialer{FallbackDelay: -1, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(stable(six, 1), 0)), Timeout: 10 * time.Second}
		a, err = d.DialContext(context.Background(), "tcp", l.Addr().String())
		return err
	}))
	b, err := l.Accept()
	must(err)
	for _, c := range []net.Conn{a, b} {
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return a, b
}

// At no moment is there no route, or another than one of the two.
func TestReplaceIsAtomic(t *testing.T) {
	w := wires.New(t, 2, 2)
	a := start(t, w, false, 1)
	a.over(t, false, 0)
	stop, looked := make(chan struct{}), make(chan error, 1)
	var h *netlink.Handle
	if err := w.Do(1, func() (err error) { h, err = netlink.NewHandle(unix.NETLINK_ROUTE); return err }); err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	seen := map[string]int{}
	go func() {
		for {
			select {
			case <-stop:
				looked <- nil
				return
			default:
			}
			r, err := h.RouteGet(stable(false, 2).AsSlice())
			if err != nil || len(r) != 1 {
				looked <- errors.Join(errors.New("no route"), err)
				return
			}
			seen[r[0].Gw.String()+" from "+r[0].Src.String()]++
		}
	}()
	for i := range 300 {
		a.over(t, false, 1-i%2)
	}
	close(stop)
	if err := <-looked; err != nil {
		t.Error(err)
	}
	for _, link := range []int{0, 1} {
		key := wires.Addr(2, link).String() + " from 10.99.0.1"
		if seen[key] == 0 {
			t.Errorf("never seen over link %d: %v", link, seen)
		}
		delete(seen, key)
	}
	if len(seen) > 0 {
		t.Errorf("other ways: %v", seen)
	}
}

// An interface that is set down takes its routes along; what is sent then does not follow
// the default route. The Keeper says what is missing, and puts it back.
func TestInterfaceGoesDown(t *testing.T) {
	w := wires.New(t, 2, 2)
	a := start(t, w, false, 1)
	a.over(t, false, 0)
	var h *netlink.Handle
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.Do(1, func() (err error) { h, err = netlink.NewHandle(unix.NETLINK_ROUTE); return err }))
	defer h.Close()
	must(h.RouteAdd(&netlink.Route{Gw: wires.Addr(2, 1).AsSlice()}))
	eth0, err := h.LinkByName(wires.Interface(0))
	must(err)
	must(h.LinkSetDown(eth0))
	if _, err := h.RouteGet(stable(false, 2).AsSlice()); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("the guard: %v", err)
	}
	if err := a.Sync(); err == nil || !strings.Contains(a.Status().Err, "has set the interface down that has its address 10.80.0.1") || len(a.Status().Routes) != 0 {
		t.Errorf("%v, %+v", err, a.Status())
	}
	must(h.LinkSetUp(eth0))
	must(a.Sync())
	if s := a.Status(); s.Err != "" || len(s.Routes) != 1 {
		t.Errorf("%+v", s)
	}
	a.Set([]Route{{To: stable(false, 2), Via: netip.MustParseAddr("10.200.0.1"), From: wires.Addr(1, 0)}})
	if err := a.Sync(); err == nil || !strings.Contains(err.Error(), "within one network, without a router") {
		t.Errorf("a peer behind a router: %v", err)
	}
}

// A daemon that starts finds what its predecessor left.
func TestKernelAdopts(t *testing.T) {
	w := wires.New(t, 2, 2)
	a := start(t, w, false, 1)
	a.over(t, false, 1)
	again := start(t, w, false, 1)
	if got := again.Adopted(); len(got) != 1 || got[0].To != stable(false, 2) || got[0].Via != wires.Addr(2, 1) {
		t.Errorf("%+v", got)
	}
	if s := again.Status(); s.Holder != Interface && s.Holder != loopback {
		t.Errorf("%+v", s)
	}
}

// An interface of the same name that is something else is not touched.
func TestNameIsTaken(t *testing.T) {
	w := wires.New(t, 1, 1)
	err := w.Do(1, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: Interface}}); err != nil {
			return err
		}
		_, err = Open(Options{Self: self, Network: network})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "is no dummy but a bridge") {
		t.Error(err)
	}
}
