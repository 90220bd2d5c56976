package dlm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
)

// The tests below run as root inside a virtual node that has the dlm module and
// no lockspaces, with QUORATE_KERNEL=1:
//
//	go test -c -o dlm.test ./kbridge/dlm && QUORATE_KERNEL=1 ./dlm.test -test.run Kernel -test.v
func realKernel(t *testing.T) {
	t.Helper()
	if os.Getenv("QUORATE_KERNEL") != "1" {
		t.Skip("QUORATE_KERNEL=1 is not set: needs a kernel of its own")
	}
}

// A connection attempt that gets no answer ends when it is aborted.
func TestKernelAbortConnects(t *testing.T) {
	realKernel(t)
	to := ownAddr(t).As4()
	to[3] ^= 0x80
	failed := make(chan error, 1)
	defer func() { <-failed }()
	go func() {
		defer close(failed)
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(netip.AddrFrom4(to), 21999).String(), 20*time.Second)
		if err == nil {
			_ = c.Close()
		}
		failed <- err
	}()
	began := time.Now()
	for {
		n, err := dlm.AbortConnects(netip.AddrFrom4(to), 21999)
		if errors.Is(err, syscall.EOPNOTSUPP) {
			t.Skip("this kernel was built without CONFIG_INET_DIAG_DESTROY, or inet_diag and tcp_diag are not loaded")
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			break
		}
		if time.Since(began) > 2*time.Second {
			t.Fatal("the attempt is not to be seen")
		}
	}
	if err := <-failed; !errors.Is(err, syscall.ECONNABORTED) {
		t.Fatal(err)
	}
	if n, err := dlm.AbortConnects(netip.AddrFrom4(to), 21999); n != 0 || err != nil {
		t.Fatal(n, err)
	}
}

// A connection attempt to a neighbour that was known and is silent fails as soon as it is
// forgotten and asked for again, and so does one to an address behind it. An operator's
// entry stays.
func TestKernelForget(t *testing.T) {
	realKernel(t)
	to := ownAddr(t).As4()
	to[3] ^= 0x40
	silent, stable := netip.AddrFrom4(to), netip.MustParseAddr("10.255.99.9")
	routes, err := netlink.RouteGet(silent.AsSlice())
	if err != nil || len(routes) != 1 {
		t.Fatal(routes, err)
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		t.Fatal(err)
	}
	s := site{t, func(f func() error) error { return f() }, link.Attrs().Name}
	if err := s.forget(silent); err != nil {
		t.Fatalf("nobody that is known: %v", err)
	}
	s.knows(silent, netlink.NUD_REACHABLE)
	s.ends(silent)

	s.via(stable, silent)
	t.Cleanup(func() {
		if err := netlink.RouteDel(&netlink.Route{LinkIndex: s.index(), Dst: netlink.NewIPNet(stable.AsSlice())}); err != nil {
			t.Error(err)
		}
	})
	s.knows(silent, netlink.NUD_REACHABLE)
	s.stays("a gateway that is not the peer's", silent, stable, stable)
	s.ends(stable, stable, silent)

	s.knows(silent, netlink.NUD_PERMANENT)
	s.stays("permanent", silent, silent)
	s.stays("permanent gateway", silent, stable, silent)
	if err := netlink.NeighDel(&netlink.Neigh{LinkIndex: s.index(), IP: silent.AsSlice()}); err != nil {
		t.Error(err)
	}
}

// ownAddr is an address of this machine that is not the loopback's.
func ownAddr(t *testing.T) netip.Addr {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr()
		}
	}
	t.Fatal("no address")
	return netip.Addr{}
}

func openReal(t *testing.T) *node {
	t.Helper()
	realKernel(t)
	n := &node{t: t, events: make(chan dlm.Event, 1000)}
	o := options(n.events)
	own := ownAddr(t).As4()
	own[3] ^= 0x80 // on the same net, where nobody is
	o.Addrs = map[membership.NodeID][]netip.Addr{1: {ownAddr(t)}, 2: {netip.AddrFrom4(own)}}
	o.LogDebug = true
	o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	d, err := dlm.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	n.Driver = d
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
			_ = d.Halt("the test is over")
		}
	})
	t.Logf("features: %+v", d.Features())
	return n
}

// control asks /dev/dlm-control to create (4) or remove (5) a user lockspace and
// returns what the kernel answered (fs/dlm/user.c, device version 6.0).
func control(cmd byte, flags, minor uint32, name string) (int, error) {
	b := make([]byte, 24, 120+len(name)+1)
	binary.NativeEndian.PutUint32(b, 6)
	b[12], b[13] = cmd, 1
	binary.NativeEndian.PutUint32(b[16:], flags)
	binary.NativeEndian.PutUint32(b[20:], minor)
	b = append(append(b, name...), 0)
	b = append(b, make([]byte, 120+len(name)+1-len(b))...)
	fd, err := syscall.Open("/dev/dlm-control", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = syscall.Close(fd) }()
	return syscall.Write(fd, b)
}

type created struct {
	minor int
	err   error
}

// create asks for a user lockspace, as a program does, and waits elsewhere.
func create(name string) <-chan created {
	res := make(chan created, 1)
	go func() {
		n, err := control(4, 0, 0, name)
		res <- created{n, err}
	}()
	return res
}

func (n *node) await(res <-chan created) created {
	n.t.Helper()
	select {
	case c := <-res:
		return c
	case <-time.After(20 * time.Second):
		n.t.Fatalf("the create does not end; busy: %v", n.Busy())
		return created{}
	}
}

// leave removes a user lockspace and sees it off.
func (n *node) leave(name string, minor int) {
	n.t.Helper()
	res := make(chan error, 1)
	go func() { _, err := control(5, 2, uint32(minor), ""); res <- err }()
	n.equal(next[dlm.Offline](n).Lockspace, name, "offline")
	n.must(n.FinishLeave(name, 77))
	n.must(next[dlm.LeaveDone](n).Err)
	n.equal(next[dlm.Removed](n).Lockspace, name, "removed")
	n.must(<-res)
}

func TestKernelLife(t *testing.T) {
	n := openReal(t)
	me := members(inc(1, "a"))
	res := create("quorate-test")
	n.equal(next[dlm.Added](n).Lockspace, "quorate-test", "added")
	n.equal(next[dlm.Online](n).Lockspace, "quorate-test", "online")
	j := n.job("quorate-test", me)
	j.Join = true
	n.must(n.Start(j))
	s := next[dlm.StartDone](n)
	n.must(s.Err)
	r := next[dlm.Recovered](n)
	n.must(r.Err)
	c := n.await(res)
	n.must(c.err)
	t.Logf("start %s, recovered %s after it with %#x, minor %d", s.Took, r.Took, r.Status, c.minor)
	n.is(n.Close(), dlm.ErrHeld)
	for range 3 {
		n.must(n.Stop("quorate-test", 5))
		st := next[dlm.StopDone](n)
		n.must(st.Err)
		n.start(n.job("quorate-test", me))
		r = next[dlm.Recovered](n)
		t.Logf("stop %s, recovered %s", st.Took, r.Took)
	}
	b, err := os.ReadFile("/sys/kernel/dlm/quorate-test/id")
	n.must(err)
	n.equal(strings.TrimSpace(string(b)), strconv.FormatUint(uint64(lockspace.ID("quorate-test")), 10), "id")
	n.leave("quorate-test", c.minor)
}

// A join can be refused before it was started, and after.
func TestKernelRefusedJoin(t *testing.T) {
	n := openReal(t)
	res := create("quorate-no")
	next[dlm.Online](n)
	n.must(n.FailJoin("quorate-no", syscall.EHOSTDOWN, 1))
	n.must(next[dlm.JoinFailed](n).Err)
	n.is(n.await(res).err, syscall.EHOSTDOWN)
	next[dlm.Removed](n)

	ghost := inc(2, "ghost") // an address that nobody has
	n.setPeer(ghost)
	res = create("quorate-no")
	next[dlm.Online](n)
	j := n.job("quorate-no", members(inc(1, "a"), ghost))
	j.Join = true
	n.start(j)
	began := time.Now()
	n.must(n.Stop("quorate-no", 2))
	n.must(next[dlm.StopDone](n).Err)
	t.Logf("stop of a recovery that gets no answer: %s", time.Since(began))
	n.must(n.FailJoin("quorate-no", syscall.ETIMEDOUT, 3))
	n.must(next[dlm.JoinFailed](n).Err)
	next[dlm.Removed](n)
	began = time.Now()
	n.must(n.RemovePeer(ghost))
	p := next[dlm.PeerRemoved](n)
	n.must(p.Err)
	t.Logf("comms entry of a peer that does not answer removed in %s", p.Took)
	n.is(n.await(res).err, syscall.ETIMEDOUT)
	t.Logf("the create ended after %s", time.Since(began))
	n.mountReal("quorate-no")
}

// mountReal joins and leaves once more: nothing was left behind.
func (n *node) mountReal(name string) {
	n.t.Helper()
	res := create(name)
	next[dlm.Online](n)
	j := n.job(name, members(inc(1, "a")))
	j.Join = true
	n.start(j)
	n.recovered(j)
	c := n.await(res)
	n.must(c.err)
	n.leave(name, c.minor)
}

// A member fails: the lockspace is stopped, started without it, and recovers.
func TestKernelMemberFails(t *testing.T) {
	n := openReal(t)
	me, ghost := inc(1, "a"), inc(2, "ghost")
	res := create("quorate-two")
	next[dlm.Online](n)
	j := n.job("quorate-two", members(me))
	j.Join = true
	n.start(j)
	n.recovered(j)
	c := n.await(res)
	n.must(c.err)
	n.setPeer(ghost)
	n.stop("quorate-two")
	n.start(n.job("quorate-two", members(me, ghost)))
	n.stop("quorate-two")
	n.must(n.RemovePeer(ghost))
	p := next[dlm.PeerRemoved](n)
	n.must(p.Err)
	j = n.job("quorate-two", members(me), dlm.Gone{Incarnation: ghost, Failed: true})
	n.start(j)
	n.recovered(j)
	t.Logf("comms entry removed in %s", p.Took)
	n.leave("quorate-two", c.minor)
}

// dlm-monitor closed: a create is refused at once.
func TestKernelQuiesce(t *testing.T) {
	n := openReal(t)
	n.must(n.Quiesce())
	n.is(n.await(create("quorate-quiet")).err, syscall.EUNATCH)
	n.must(n.Resume())
	n.mountReal("quorate-quiet")
}

// A name with a slash is refused by the driver itself.
func TestKernelSlash(t *testing.T) {
	n := openReal(t)
	n.is(n.await(create("a/b")).err, syscall.EINVAL)
	n.is(next[dlm.JoinFailed](n).Err, dlm.ErrName)
}

// Halt stops what runs; a driver that comes later refuses to take it over. It is
// the last test: the kernel is left with a lockspace.
func TestKernelZHalt(t *testing.T) {
	n := openReal(t)
	res := create("quorate-halt")
	next[dlm.Online](n)
	j := n.job("quorate-halt", members(inc(1, "a")))
	j.Join = true
	n.start(j)
	n.recovered(j)
	n.must(n.await(res).err)
	n.must(n.Halt("a test"))
	b, err := os.ReadFile("/sys/kernel/dlm/quorate-halt/recover_status")
	n.must(err)
	n.equal(strings.TrimSpace(string(b)), "0", "recover_status")
	o := options(n.events)
	o.Addrs = map[membership.NodeID][]netip.Addr{1: {ownAddr(t)}}
	_, err = dlm.Open(o)
	n.is(err, dlm.ErrUncontrolled)
	if dev, err := filepath.Glob("/dev/dlm*"); err == nil {
		t.Log(dev)
	}
}

// fcntl locks of GFS2 are refused, not left hanging. It needs a formatted disk:
// QUORATE_GFS2 names it (lock table lab:gfs).
func TestKernelGFS2(t *testing.T) {
	n := openReal(t)
	disk := os.Getenv("QUORATE_GFS2")
	if disk == "" {
		t.Skip("QUORATE_GFS2 names no disk")
	}
	dir := t.TempDir()
	mounted := make(chan error, 1)
	go func() { mounted <- syscall.Mount(disk, dir, "gfs2", 0, "") }()
	next[dlm.Online](n)
	j := n.job("gfs", members(inc(1, "a")))
	j.Join = true
	n.start(j)
	n.recovered(j)
	n.must(<-mounted)
	t.Logf("mounted: %+v", next[dlm.Mounted](n))
	f, err := os.Create(filepath.Join(dir, "file"))
	n.must(err)
	err = syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK})
	n.is(err, syscall.ENOSYS)
	n.must(syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	_, err = f.Write(bytes.Repeat([]byte("x"), 8192))
	n.must(errors.Join(err, f.Close()))
	unmounted := make(chan error, 1)
	go func() { unmounted <- syscall.Unmount(dir, 0) }()
	next[dlm.Offline](n)
	n.must(n.FinishLeave("gfs", 9))
	n.must(next[dlm.LeaveDone](n).Err)
	n.must(<-unmounted)
	next[dlm.Removed](n)
}
