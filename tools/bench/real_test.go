package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	ebpf "github.com/quorate/quorate/ebpf/liveness"
)

// fabric makes one, or skips the test where there can be none.
func fabric(t *testing.T, nodes int) *Fabric {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: this test makes network namespaces")
	}
	f, err := NewFabric(nodes)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skipf("no network namespaces with bridges here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// unheld fails the test if a network namespace that is not the machine's is held
// by this process, or if a process still runs the program.
func unheld(t *testing.T, program string) {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	err = until(t.Context(), 10*time.Second, func(context.Context) error { // a thread ends a little after its goroutine
		var found []string
		for _, pattern := range []string{"/proc/self/task/*/ns/net", "/proc/self/fd/*"} {
			links, _ := filepath.Glob(pattern) // the pattern is well-formed
			for _, l := range links {
				if to, _ := os.Readlink(l); strings.HasPrefix(to, "net:[") && to != own { // it may have gone since
					found = append(found, l)
				}
			}
		}
		exes, _ := filepath.Glob("/proc/[0-9]*/exe") // as above
		for _, e := range exes {
			if to, _ := os.Readlink(e); program != "" && to == program { // as above
				found = append(found, e)
			}
		}
		if found != nil {
			return fmt.Errorf("left behind: %v", found)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// connect makes a TCP connection from node 2 to node 1.
func connect(t *testing.T, f *Fabric, l net.Listener) (from, to net.Conn) {
	t.Helper()
	d := net.Dialer{FallbackDelay: -1, Timeout: 10 * time.Second}
	err := f.Do(2, func() (err error) { from, err = d.DialContext(t.Context(), "tcp", l.Addr().String()); return })
	if err != nil {
		t.Fatal(err)
	}
	if to, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return from, to
}

func running(t *testing.T, f *Fabric, n int) {
	t.Helper()
	err := f.Do(n, func() error {
		l, err := netlink.LinkByName(linkName)
		if err == nil && l.Attrs().RawFlags&unix.IFF_LOWER_UP == 0 {
			err = errors.New("no carrier")
		}
		return err
	})
	if err != nil {
		t.Errorf("link of node %d: %v", n, err)
	}
}

// TestCutIsSilent: what a dying program's kernel sends does not arrive, no
// carrier changes, and a renewed node has the same address and is heard.
func TestCutIsSilent(t *testing.T) {
	f := fabric(t, 2)
	var l net.Listener
	if err := f.Do(1, func() (err error) { l, err = net.Listen("tcp", Addr(1).String()+":7000"); return }); err != nil {
		t.Fatal(err)
	}
	from, to := connect(t, f, l)
	buf := make([]byte, 8)
	if _, err := from.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if n, err := to.Read(buf); err != nil || string(buf[:n]) != "hello" {
		t.Fatalf("%q %v", buf[:n], err)
	}
	if n, err := f.Packets(2); err != nil || n < 4 {
		t.Errorf("%d packets, %v", n, err)
	}
	before := boottime()
	if at, err := f.Cut(2); err != nil || at < before || at > boottime() {
		t.Fatalf("%d %v", at, err)
	}
	_ = from.(*net.TCPConn).SetLinger(0) // its close is a reset
	_ = from.Close()
	_ = to.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if n, err := to.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the peer heard of the end: %q %v", buf[:n], err)
	}
	running(t, f, 1)
	running(t, f, 2)
	_ = to.Close()
	if err := f.Renew(2); err != nil {
		t.Fatal(err)
	}
	from, to = connect(t, f, l)
	for _, c := range []io.Closer{from, to, l, f} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	unheld(t, "")
}

// TestCloseTwice: and a node that was not cut may be renewed too.
func TestCloseTwice(t *testing.T) {
	f := fabric(t, 3)
	if err := errors.Join(f.Renew(3), f.Close(), f.Close()); err != nil {
		t.Error(err)
	}
	unheld(t, "")
}

// daemon builds quorated.
func daemon(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "quorated")
	c := exec.CommandContext(t.Context(), "go", "build", "-o", out, "github.com/quorate/quorate/cmd/quorated")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return out
}

// TestRealDaemons: three daemons, one death. The profile is safe, since a machine that
// runs tests is busy.
func TestRealDaemons(t *testing.T) {
	if err := fabric(t, 1).Close(); err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	o := options{nodes: []int{3}, profile: "safe", kills: 1, idle: 500 * time.Millisecond, rest: 100 * time.Millisecond,
		daemon: daemon(t), out: filepath.Join(t.TempDir(), "view.json")}
	_, err := exec.LookPath("strace")
	o.fsyncs = err == nil
	var out, log bytes.Buffer
	if err := o.run(t.Context(), &out, &log); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	t.Logf("\n%s", out.String())
	if _, err := os.Stat(o.out); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("files are left: %v %v", left, err)
	}
	unheld(t, o.daemon)
}

// TestRealInterrupt: Ctrl-C in the middle leaves nothing.
func TestRealInterrupt(t *testing.T) {
	if err := fabric(t, 1).Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := options{nodes: []int{3}, profile: "safe", idle: time.Hour, daemon: daemon(t), out: filepath.Join(t.TempDir(), "view.json")}
	log := writer(func(line string) {
		if strings.Contains(line, "idle for") {
			cancel()
		}
	})
	if err := o.run(ctx, io.Discard, log); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	unheld(t, o.daemon)
}

type writer func(string)

func (w writer) Write(b []byte) (int, error) { w(string(b)); return len(b), nil }

// TestRealFailure: a daemon that ends by itself ends the run, with its last words.
func TestRealFailure(t *testing.T) {
	if err := fabric(t, 1).Close(); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho my last words\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	o := options{nodes: []int{3}, profile: "safe", daemon: program, out: filepath.Join(t.TempDir(), "view.json")}
	if err := o.run(t.Context(), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "my last words") {
		t.Error(err)
	}
	unheld(t, "")
}

// TestRealLiveness: a round of bench liveness, with one death. The profile is safe, as above.
func TestRealLiveness(t *testing.T) {
	if err := fabric(t, 1).Close(); err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	o := liveOptions{kinds: []kind{{"quorate", "safe"}}, nodes: []int{3}, kills: 1, idle: 500 * time.Millisecond, rest: 100 * time.Millisecond,
		budget: time.Minute, daemon: daemon(t), out: filepath.Join(t.TempDir(), "liveness.json")}
	var out, log bytes.Buffer
	if err := o.run(t.Context(), &out, &log); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	t.Logf("\n%s", out.String())
	if _, err := os.Stat(o.out); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("files are left: %v %v", left, err)
	}
	unheld(t, o.daemon)
}

// TestRealLivenessInterrupt: Ctrl-C leaves nothing of the cluster, keeps what was measured, and the run has failed.
func TestRealLivenessInterrupt(t *testing.T) {
	if err := fabric(t, 1).Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := liveOptions{kinds: []kind{{"quorate", "safe"}}, nodes: []int{3, 4}, kills: 1, idle: time.Hour, budget: time.Hour, daemon: daemon(t), out: filepath.Join(t.TempDir(), "liveness.json")}
	log := writer(func(line string) {
		if strings.Contains(line, "forming") {
			cancel()
		}
	})
	var out bytes.Buffer
	if err := o.run(ctx, &out, log); !errors.Is(err, context.Canceled) || strings.Count(out.String(), "quorate/safe, 3 nodes: 0 of 1 deaths") != 1 {
		t.Errorf("%v\n%s", err, out.String())
	}
	if _, err := os.Stat(o.out); err != nil {
		t.Error(err)
	}
	unheld(t, o.daemon)
	if pinned, err := filepath.Glob(ebpf.Root + "/bench@*"); err != nil || len(pinned) > 0 {
		t.Errorf("still pinned: %v %v", pinned, err)
	}
}

// TestRealSoak: one round of each fault that needs no other package, or more. Under safe
// half a second is no silence; but on a machine that runs tests somebody may be convicted all
// the same, which is for the soak to find, and not for this test.
func TestRealSoak(t *testing.T) {
	if err := fabric(t, 1).Close(); err != nil {
		t.Fatal(err)
	}
	o := soakOptions{kinds: []kind{{"quorate", "safe"}}, nodes: 3, time: time.Second, least: 3, seed: 1, faults: []string{faultGarbage, faultHogs, faultStop}, length: 500 * time.Millisecond,
		rest: 100 * time.Millisecond, stop: [2]time.Duration{500 * time.Millisecond, 600 * time.Millisecond}, daemon: daemon(t), out: filepath.Join(t.TempDir(), "soak.json")}
	var out, log bytes.Buffer
	if err := o.run(t.Context(), &out, &log); err != nil && !errors.Is(err, errConvicted) {
		t.Fatalf("%v\n%s", err, log.String())
	}
	t.Logf("\n%s", out.String())
	if n := strings.Count(log.String(), "\nround "); n < len(o.faults) {
		t.Errorf("%d rounds:\n%s", n, log.String())
	}
	if _, err := os.Stat(o.out); err != nil {
		t.Error(err)
	}
	unheld(t, o.daemon)
}

// TestLose: some packets arrive and some do not, and all when it has ended.
func TestLose(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed: make bench-soak installs it")
	}
	f := fabric(t, 2)
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	var from net.Conn
	var l net.PacketConn
	err := f.Do(1, func() (err error) { l, err = net.ListenPacket("udp", Addr(1).String()+":7000"); return })
	if err == nil {
		err = f.Do(2, func() (err error) { from, err = net.Dial("udp", Addr(1).String()+":7000"); return })
	}
	if err != nil {
		t.Fatal(err)
	}
	const sent = 400
	arrive := func() (n int) {
		for range sent {
			if _, err := from.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			_ = l.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if _, _, err := l.ReadFrom(make([]byte, 1)); err == nil {
				n++
			}
		}
		return n
	}
	if _, err := from.Write([]byte("x")); err != nil { // until the neighbour is known
		t.Fatal(err)
	}
	if _, _, err := l.ReadFrom(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for percent, some := range map[int]bool{5: true, 0: false} {
		if err := f.Lose(percent); err != nil {
			t.Fatal(err)
		}
		if n := arrive(); n < sent/2 || some != (n < sent) {
			t.Errorf("%d percent are lost: %d of %d arrive", percent, n, sent)
		}
	}
	for _, c := range []io.Closer{from, l} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
