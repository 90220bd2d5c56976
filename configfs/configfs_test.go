package configfs_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/quorate/quorate/configfs"
	"github.com/quorate/quorate/configfs/configfstest"
)

func TestContractFake(t *testing.T) {
	for name, k := range map[string]configfstest.Kernel{"6.1": configfstest.Linux6_1, "6.17": configfstest.Linux6_17, "6.18": configfstest.Linux6_18} {
		t.Run(name, func(t *testing.T) { configfstest.Run(t, configfstest.NewFake(k)) })
	}
}

// TestContractKernel runs as root inside a virtual node with the dlm module and
// no lockspaces.
func TestContractKernel(t *testing.T) {
	if os.Getenv("QUORATE_KERNEL") != "1" {
		t.Skip("QUORATE_KERNEL=1 is not set: needs a kernel of its own")
	}
	r, err := configfs.OpenRoot("/sys/kernel/config")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // after the contract's own
	configfstest.Run(t, r)
}

// What a kernel swallows and regrets, the fake refuses.
func TestFakeIsStrict(t *testing.T) {
	f := configfstest.NewFake(configfstest.Linux6_1)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(f.Mkdir("dlm/cluster"))
	if err := f.Mkdir("dlm/second"); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("a second cluster: %v", err)
	}
	ok(f.Mkdir("dlm/cluster/comms/2"))
	addr, err := configfs.Sockaddr(netip.MustParseAddr("10.0.0.2"))
	ok(err)
	if err := f.Write("dlm/cluster/comms/2/addr", addr); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("an address before the node id: %v", err)
	}
	if _, _, err := f.Sample("gfs"); err == nil {
		t.Error("a start without members was taken")
	}
	ok(f.Mkdir("dlm/cluster/spaces/gfs"))
	ok(f.Mkdir("dlm/cluster/spaces/gfs/nodes/2"))
	if _, _, err := f.Sample("gfs"); err == nil {
		t.Error("a member without a node id was taken")
	}
	ok(f.Write("dlm/cluster/spaces/gfs/nodes/2/nodeid", []byte("2")))
	if _, _, err := f.Sample("gfs"); err == nil {
		t.Error("a member without a comm was taken")
	}
}

// The real file access, on files that are not a kernel's.
func TestRoot(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "attr"), []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := configfs.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := r.Write("attr", []byte("9")); err != nil {
		t.Fatal(err)
	}
	if b, err := r.Read("attr"); err != nil || string(b) != "92345" { // no O_TRUNC
		t.Errorf("read %q, %v", b, err)
	}
	if err := r.Write("new", []byte("9")); !errors.Is(err, syscall.ENOENT) { // no O_CREATE
		t.Errorf("write to what is not there: %v", err)
	}
	if err := errors.Join(r.Mkdir("d"), r.Mkdir("d/e")); err != nil {
		t.Fatal(err)
	}
	if err := r.Rmdir("d"); !errors.Is(err, syscall.ENOTEMPTY) {
		t.Errorf("rmdir of a full directory: %v", err)
	}
	if err := errors.Join(r.Rmdir("d/e"), r.Rmdir("d")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read("../attr"); err == nil {
		t.Error("a path left the root")
	}
	if n, err := r.List("."); err != nil || !slices.Equal(n, []string{"attr"}) {
		t.Errorf("list: %q, %v", n, err)
	}
	if _, err := configfs.OpenRoot(filepath.Join(dir, "none")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("open: %v", err)
	}
}

func TestSockaddr(t *testing.T) {
	for _, s := range []string{"10.0.0.1", "fd00::1", "fe80::1%3", "::ffff:10.0.0.9"} {
		a := netip.MustParseAddr(s)
		b, err := configfs.Sockaddr(a)
		if err != nil {
			t.Fatal(err)
		}
		back, err := configfs.ParseSockaddr(b)
		if err != nil || back != a.Unmap() {
			t.Errorf("%s came back as %s, %v", a, back, err)
		}
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("fe80::1%no-such-interface")} {
		if _, err := configfs.Sockaddr(a); !errors.Is(err, configfs.ErrAddr) {
			t.Errorf("%s: %v", a, err)
		}
	}
}

func TestApplyReadsBack(t *testing.T) {
	f := configfstest.NewFake(configfstest.Linux6_1)
	lies := lying{f}
	ops := []configfs.Op{
		{Kind: configfs.Mkdir, Path: "dlm/cluster"},
		{Kind: configfs.Write, Path: "dlm/cluster/log_debug", Value: []byte("1")},
	}
	if err := configfs.Apply(lies, ops); !errors.Is(err, configfs.ErrReadBack) {
		t.Errorf("a value that was not taken: %v", err)
	}
}

// lying takes every value and keeps none.
type lying struct{ *configfstest.Fake }

func (lying) Write(string, []byte) error { return nil }

func TestCheckName(t *testing.T) {
	for _, n := range []string{"", ".", "..", "a/b", "a\x00b", strings.Repeat("x", 65)} {
		if err := configfs.CheckName(n); !errors.Is(err, configfs.ErrName) {
			t.Errorf("%q: %v", n, err)
		}
	}
	for _, n := range []string{"gfs", "a!b", "clvmd", strings.Repeat("x", 64), "..."} {
		if err := configfs.CheckName(n); err != nil {
			t.Error(err)
		}
	}
}
