package configfstest

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/quorate/quorate/configfs"
)

// Run is the contract: what configfs and the dlm subsystem do with a tree that no
// lockspace uses. It needs the module, clears the tree before and after, and
// passes on a Fake and on every kernel from 6.1 on.
func Run(t *testing.T, fs configfs.FS) {
	t.Helper()
	if err := configfs.Clear(fs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := configfs.Clear(fs); err != nil {
			t.Error(err)
		}
	})
	c := contract{fs}
	for _, s := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"directories", c.directories}, {"attributes", c.attributes}, {"comm", c.comm},
		{"addresses", c.addresses}, {"space", c.space}, {"plan", c.plan}, {"probe", c.probe},
	} {
		t.Run(s.name, func(t *testing.T) {
			defer func() {
				if err := configfs.Clear(fs); err != nil {
					t.Error(err)
				}
			}()
			if err := fs.Mkdir(cluster); err != nil {
				t.Fatal(err)
			}
			s.f(t)
		})
	}
}

const cluster = "dlm/cluster"

type contract struct{ fs configfs.FS }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	var op *configfs.OpError
	if !errors.As(err, &op) {
		t.Fatalf("%T is no OpError", err)
	}
}

func (c contract) reads(t *testing.T, path, want string) {
	t.Helper()
	b, err := c.fs.Read(path)
	must(t, err)
	if string(b) != want {
		t.Fatalf("%s reads %q, want %q", path, b, want)
	}
}

func (c contract) write(path, value string) error { return c.fs.Write(path, []byte(value)) }

func (c contract) directories(t *testing.T) {
	names, err := c.fs.List(cluster)
	must(t, err)
	for _, n := range []string{"comms", "spaces", "tcp_port", "cluster_name", "recover_callbacks", "log_debug", "mark", "protocol"} {
		if !slices.Contains(names, n) {
			t.Errorf("a new cluster has no %s", n)
		}
	}
	is(t, c.fs.Mkdir(cluster), syscall.EEXIST)
	is(t, c.fs.Rmdir(cluster+"/comms"), syscall.EPERM)
	is(t, c.fs.Rmdir(cluster+"/spaces"), syscall.EPERM)
	is(t, c.fs.Rmdir(cluster+"/nothing"), syscall.ENOENT)
	is(t, c.fs.Mkdir("nothing/x"), syscall.ENOENT)
	_, err = c.fs.List("dlm/nothing")
	is(t, err, syscall.ENOENT)
	_, err = c.fs.Read(cluster)
	is(t, err, syscall.EISDIR)
	_, err = c.fs.Read(cluster + "/nothing")
	is(t, err, syscall.ENOENT)
	must(t, c.fs.Rmdir(cluster))
	must(t, c.fs.Mkdir(cluster))
}

func (c contract) attributes(t *testing.T) {
	must(t, c.write(cluster+"/cluster_name", "lab"))
	c.reads(t, cluster+"/cluster_name", "lab\n")
	must(t, c.write(cluster+"/cluster_name", "lab\n"))
	c.reads(t, cluster+"/cluster_name", "lab\n\n") // why it is written without one
	must(t, c.write(cluster+"/recover_callbacks", "1\n"))
	c.reads(t, cluster+"/recover_callbacks", "1\n")
	is(t, c.write(cluster+"/protocol", "7"), syscall.EINVAL)
	is(t, c.write(cluster+"/tcp_port", "0"), syscall.EINVAL)
	is(t, c.write(cluster+"/tcp_port", "http"), syscall.EINVAL)
	must(t, c.write(cluster+"/tcp_port", "21065"))
	must(t, c.fs.Rmdir(cluster))
	must(t, c.fs.Mkdir(cluster))
	c.reads(t, cluster+"/tcp_port", "21065\n") // values outlive the directory
	must(t, c.write(cluster+"/tcp_port", "21064"))
}

func (c contract) comm(t *testing.T) {
	dir := configfs.CommPath(2)
	must(t, c.fs.Mkdir(dir))
	names, err := c.fs.List(dir)
	must(t, err)
	if want := []string{"addr", "addr_list", "local", "mark", "nodeid"}; !slices.Equal(names, want) {
		t.Fatalf("a comm has %q, want %q", names, want)
	}
	must(t, c.write(dir+"/nodeid", "2"))
	c.reads(t, dir+"/nodeid", "2\n")
	is(t, c.write(dir+"/mark", "5"), syscall.ENOENT)
	_, err = c.fs.Read(dir + "/addr")
	is(t, err, syscall.EACCES)
	c.reads(t, dir+"/local", "0\n")
	must(t, c.write(dir+"/local", "1"))
	c.reads(t, dir+"/local", "1\n")
	must(t, c.fs.Rmdir(dir))
	_, err = c.fs.List(dir)
	is(t, err, syscall.ENOENT)
}

func (c contract) addresses(t *testing.T) {
	dir := configfs.CommPath(3)
	must(t, c.fs.Mkdir(dir))
	must(t, c.write(dir+"/nodeid", "3"))
	v4, err := configfs.Sockaddr(netip.MustParseAddr("10.0.0.3"))
	must(t, err)
	is(t, c.fs.Write(dir+"/addr", v4[:16]), syscall.EINVAL)
	must(t, c.fs.Write(dir+"/addr", v4))
	is(t, c.fs.Write(dir+"/addr", v4), syscall.EEXIST)
	v6, err := configfs.Sockaddr(netip.MustParseAddr("fd00::3"))
	must(t, err)
	must(t, c.fs.Write(dir+"/addr", v6))
	got, ok, err := configfs.ReadComm(c.fs, 3)
	must(t, err)
	if want := []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("fd00::3")}; !ok || !slices.Equal(got.Addrs, want) {
		t.Fatalf("addresses %v, want %v", got.Addrs, want)
	}
	must(t, c.write(dir+"/mark", "5"))
	c.reads(t, dir+"/mark", "5\n")
	n := 2
	for a := netip.MustParseAddr("10.0.1.1"); ; a = a.Next() {
		b, err := configfs.Sockaddr(a)
		must(t, err)
		if err := c.fs.Write(dir+"/addr", b); err != nil {
			is(t, err, syscall.ENOSPC)
			break
		}
		n++
	}
	if n != 3 && n != 8 {
		t.Fatalf("a comm takes %d addresses", n)
	}
}

func (c contract) space(t *testing.T) {
	must(t, c.write(cluster+"/cluster_name", "lab"))
	must(t, c.fs.Mkdir(configfs.CommPath(1)))
	must(t, c.write(configfs.CommPath(1)+"/nodeid", "1"))
	dir := configfs.SpacePath("gfs")
	must(t, c.fs.Mkdir(dir))
	is(t, c.fs.Rmdir(dir+"/nodes"), syscall.EPERM)
	node := configfs.MemberPath("gfs", 1)
	must(t, c.fs.Mkdir(node))
	c.reads(t, node+"/weight", "1\n")
	must(t, c.write(node+"/nodeid", "1"))
	must(t, c.write(node+"/weight", "3"))
	is(t, c.fs.Rmdir(dir), syscall.ENOTEMPTY)
	s, ok, err := configfs.ReadSpace(c.fs, "gfs")
	must(t, err)
	if !ok || s.Members[1].Weight != 3 {
		t.Fatalf("space %v, %v", s, ok)
	}
	if _, ok, err = configfs.ReadSpace(c.fs, "none"); ok || err != nil {
		t.Fatalf("a space that is not there: %v, %v", ok, err)
	}
	must(t, c.fs.Rmdir(node))
	must(t, c.fs.Rmdir(dir))
}

// plan: a wanted tree is there after it was applied, twice is as good as once,
// and there is nothing left to do.
func (c contract) plan(t *testing.T) {
	want := configfs.Tree{
		Present: true,
		Attrs:   map[string]string{"cluster_name": "lab", "recover_callbacks": "1", "log_debug": "0"},
		Comms: map[uint32]configfs.Comm{
			1: {Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Local: true},
			2: {Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.1.0.2")}, Mark: 7},
		},
		Spaces: map[string]configfs.Space{"gfs": {Members: map[uint32]configfs.Member{1: {Weight: 1}, 2: {Weight: 2}}}},
	}
	have, err := configfs.ReadTree(c.fs)
	must(t, err)
	ops, err := configfs.Plan(have, want)
	must(t, err)
	must(t, configfs.Apply(c.fs, ops))
	must(t, configfs.Apply(c.fs, ops))
	have, err = configfs.ReadTree(c.fs)
	must(t, err)
	ops, err = configfs.Plan(have, want)
	must(t, err)
	if len(ops) != 0 {
		t.Fatalf("the second plan is not empty:\n%s", configfs.Text(ops))
	}
	ops, err = configfs.Plan(have, configfs.Tree{})
	must(t, err)
	must(t, configfs.Apply(c.fs, ops))
	if have, err = configfs.ReadTree(c.fs); err != nil || have.Present {
		t.Fatalf("the tree is still there: %v, %v", have, err)
	}
}

func (c contract) probe(t *testing.T) {
	f, err := configfs.Probe(c.fs, 1)
	must(t, err)
	if f.NumericDirs == configfs.Unknown || f.ReleaseRecover == configfs.Unknown {
		t.Fatalf("the probe could not tell: %+v", f)
	}
	if f.ReleaseRecover == configfs.Yes && f.NumericDirs == configfs.No {
		t.Fatalf("no kernel has these: %+v", f)
	}
	names, err := c.fs.List(cluster + "/spaces")
	must(t, err)
	if len(names) > 0 {
		t.Fatalf("the probe left %s", strings.Join(names, ", "))
	}
	err = c.fs.Mkdir(cluster + "/comms/x")
	if f.NumericDirs == configfs.Yes {
		is(t, err, syscall.EINVAL)
		return
	}
	must(t, err)
	must(t, c.fs.Rmdir(cluster+"/comms/x"))
}
