package netdev

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	rtnl "github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer is what the kernel sends: an interface's number, its features, and what is not asked.
func answer(t testing.TB, index uint32, features uint64) []byte {
	t.Helper()
	e := netlink.NewAttributeEncoder()
	e.Uint32(attrIfindex, index)
	e.Uint64(attrXDPFeatures, features)
	e.Uint64(5, 1<<40)
	e.Uint32(99, 7)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	good := answer(t, 3, 0x7f)
	if index, is, err := parse(good); index != 3 || is != 0x7f || err != nil {
		t.Errorf("%d, %x, %v", index, is, err)
	}
	if index, is, err := parse(answer(t, 1<<31-1, 0)); index != 1<<31-1 || is != 0 || err != nil {
		t.Errorf("%d, %x, %v", index, is, err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "no interface": answer(t, 0, 1), "a number below zero": answer(t, 1<<31, 1),
		"no features": good[:8], "a length past the end": {0xff, 0, 1, 0, 1, 0, 0, 0}, "a length of nothing": {0, 0, 1, 0},
		"an interface of two bytes": {6, 0, 1, 0, 3, 0, 0, 0}, "features of four bytes": append(good[:8:8], 8, 0, 3, 0, 1, 0, 0, 0),
	} {
		if index, is, err := parse(b); err == nil {
			t.Errorf("%s: %d, %x", name, index, is)
		}
	}
	for n := range len(good) { // whatever is cut off, nothing else is read from it
		if index, is, err := parse(good[:n]); err == nil && (index != 3 || is != 0x7f) {
			t.Errorf("%d bytes: %d, %x", n, index, is)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(answer(f, 3, 1))
	f.Add(answer(f, 3, 1)[:10])
	f.Add([]byte{0xff, 0xff, 3, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if index, is, err := parse(b); err != nil && (index != 0 || is != 0) || err == nil && index <= 0 {
			t.Errorf("%d, %x, %v", index, is, err)
		}
	})
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		features uint64
		err      error
		want     Device
	}{
		{0x7f, nil, Device{"x", Yes, ""}},
		{0x7e, nil, Device{"x", No, ""}},
		{0, nil, Device{"x", No, ""}},
		{1, fmt.Errorf("netdev family: %w", unix.ENOENT), Device{"x", Unknown, "this kernel has no netdev family, which Linux has since 6.3"}},
		{1, unix.EPERM, Device{"x", Unknown, unix.EPERM.Error()}},
	} {
		if got := judge("x", c.features, c.err); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
}

// A family that no kernel has is missing as "netdev" is where it is.
func TestNoFamily(t *testing.T) {
	c, err := genetlink.Dial(nil)
	if err != nil {
		t.Skip(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.GetFamily("quorate-none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestAsk: kinds of interfaces whose drivers are in every kernel, in a namespace of their own.
func TestAsk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes a network namespace")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	a, b := rtnl.NewLinkAttrs(), rtnl.NewLinkAttrs()
	a.Name, b.Name = "v0", "b0"
	for _, l := range []rtnl.Link{&rtnl.Veth{LinkAttrs: a, PeerName: "v1"}, &rtnl.Bridge{LinkAttrs: b}} {
		if err := rtnl.LinkAdd(l); err != nil {
			t.Fatal(err)
		}
	}
	_, err := features(1)
	known := err == nil
	if !known && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for _, c := range []struct {
		name, driver string
		xdp          Answer
	}{{"v0", "veth", Yes}, {"b0", "bridge", No}, {"lo", "", No}} {
		l, err := rtnl.LinkByName(c.name)
		if err != nil {
			t.Fatal(err)
		}
		d := Ask(l.Attrs().Index, c.name)
		t.Logf("%s: %+v", c.name, d)
		if !known {
			c.xdp = Unknown
		}
		if d.Driver != c.driver || d.XDP != c.xdp || (d.Why == "") != known {
			t.Errorf("%s: %+v, want %s, %s", c.name, d, c.driver, c.xdp)
		}
	}
	if d := Ask(4711, "none"); d.Driver != "" || d.XDP != Unknown || known && !strings.Contains(d.Why, unix.ENODEV.Error()) {
		t.Errorf("no interface: %+v", d)
	}
}
