package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRealNodes boots three kernels once, for everything that can share them.
func TestRealNodes(t *testing.T) {
	host := filepath.Join(t.TempDir(), "given")
	if err := os.WriteFile(host, []byte("given\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	l := ForTest(t, Config{Nodes: 3, Links: 2, Files: map[string]string{"/opt/given": host}})
	t.Logf("three nodes up after %.1f s", time.Since(begin).Seconds())
	for _, sub := range []struct {
		name string
		run  func(*testing.T, *Lab)
	}{
		{"Guest", testGuest}, {"Exec", testExec}, {"Put", testPut}, {"Cuts", testCuts}, {"Hang", testHang},
		{"Locks", testAppend}, {"WritesStop", testWritesStop}, {"Reboot", testReboot},
		{"Redfish", testRedfish}, {"FenceLab", testFenceLab}, {"EndsItself", testEndsItself},
	} {
		if !t.Run(sub.name, func(t *testing.T) { sub.run(t, l) }) {
			t.Logf("stopping after %s", sub.name)
			break
		}
	}
	if !t.Failed() {
		testNothingLeft(t, l)
	}
}

func mustRun(t *testing.T, n *Node, script string) string {
	t.Helper()
	out, err := n.Run(t.Context(), script)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func testGuest(t *testing.T, l *Lab) {
	n := l.Node(2)
	for script, want := range map[string]string{
		"hostname":                       "node2",
		"cat /opt/given":                 "given",
		"stat -c %a /opt/given":          "640",
		"uname -r":                       n.KernelVersion(),
		"stat -fc %T /var/lib/quorate":   "ext2/ext3",
		"blockdev --getsize64 /dev/ubda": fmt.Sprint(1 << 30),
		"ls /dev/misc":                   "dlm-control\ndlm-monitor\ndlm_plock",
		"ls -d /sys/kernel/config/dlm":   "/sys/kernel/config/dlm",
		"grep -c gfs2 /proc/filesystems": "2",
		"pgrep dlm_controld || echo no":  "no",
	} {
		if got := mustRun(t, n, script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	for _, addr := range []string{"node1", "node3", "10.77.0.1", "10.77.1.13", "10.78.0.1", "10.78.0.13"} {
		mustRun(t, n, "ping -c1 -W3 "+addr)
	}
}

func testExec(t *testing.T, l *Lab) {
	n := l.Node(1)
	r, err := n.ExecInput(t.Context(), strings.NewReader("in"), "cat; echo err >&2; exit 7")
	if err != nil || r != (Result{"in", "err\n", 7}) {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := n.Exec(t.Context(), "kill -9 $$"); err != nil || r.Code != 137 {
		t.Errorf("killed: %+v, %v", r, err)
	}
	if _, err := n.Start(t.Context(), Cmd{Args: []string{"/no/such"}}); err == nil {
		t.Error("a program that is not there was started")
	}
	begin := time.Now()
	const times = 10
	for range times {
		mustRun(t, n, ":")
	}
	t.Logf("a command takes %v", time.Since(begin)/times)

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := n.Exec(ctx, "sleep 4321"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("context ended: %v", err)
	}
	mustRun(t, n, "for i in 1 2 3 4 5 6 7 8 9 10; do pgrep -f 'sleep 4321$' >/dev/null || exit 0; sleep 0.1; done; exit 1")

	if _, err := n.Daemon(t.Context(), "/tmp/out", "sh", "-c", "echo one; sleep 4322"); err != nil {
		t.Fatal(err)
	}
	mustRun(t, n, "sleep 0.3; pgrep -f 'sleep 4322' && grep one /tmp/out")
}

func testPut(t *testing.T, l *Lab) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	begin := time.Now()
	if err := l.Node(1).PutReader(t.Context(), bytes.NewReader(big), "/tmp/deep/er/big", 0o750); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes in %v", len(big), time.Since(begin))
	want := fmt.Sprintf("%x", sha256.Sum256(big))
	if got := mustRun(t, l.Node(1), "sha256sum </tmp/deep/er/big; stat -c %a /tmp/deep/er/big"); got != want+"  -\n750" {
		t.Errorf("got %s", got)
	}
	if err := l.Node(1).Put(t.Context(), "/no/such", "/tmp/x", 0o600); err == nil {
		t.Error("a file that is not there was put")
	}
}

// reaches says whether a datagram from one node gets to another.
func reaches(t *testing.T, from, to *Node, link int) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	addr := to.LinkAddr(link) + ":5555"
	pr, pw := io.Pipe()
	p, err := to.Start(ctx, Cmd{Args: []string{"labnode", "udp", "recv", addr, "--limit", "8s"}, Stdout: pw})
	if err != nil {
		t.Fatal(err)
	}
	var ready string
	if _, err := fmt.Fscan(pr, &ready); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, pr)
	defer pw.Close()
	mustRun(t, from, "labnode udp send "+addr)
	code, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return code == 0
}

func testCuts(t *testing.T, l *Lab) {
	a, b, c := l.Node(1), l.Node(2), l.Node(3)
	pings := func(n *Node, addr string) bool {
		r, err := n.Exec(t.Context(), "ping -c2 -i0.2 -W1 "+addr)
		if err != nil {
			t.Fatal(err)
		}
		return r.Code == 0
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	must(l.Cut(1, 2))
	expect("1 pings 2, cut", pings(a, b.Addr()), false)
	expect("1 pings 2 on the other link, cut", pings(a, b.LinkAddr(1)), false)
	expect("1 pings 3", pings(a, c.Addr()), true)
	expect("1 pings the host", pings(a, "10.77.0.1"), true)
	expect("1 pings 2 by management", pings(a, b.MgmtAddr()), true)
	must(l.Heal())
	expect("1 pings 2, healed", pings(a, b.Addr()), true)

	must(l.CutOneWay(1, 2))
	expect("1 pings 2, cut one way", pings(a, b.Addr()), false)
	expect("datagram 1 to 2, cut that way", reaches(t, a, b, 0), false)
	expect("datagram 2 to 1, cut the other way", reaches(t, b, a, 0), true)
	must(l.Heal())

	must(l.CutNode(3))
	expect("3 pings 1, cut off", pings(c, a.Addr()), false)
	expect("2 pings 3, cut off", pings(b, c.Addr()), false)
	expect("1 pings 2, third cut off", pings(a, b.Addr()), true)
	must(l.Heal())

	must(l.CutLink(1, 1, 2))
	expect("1 pings 2 on link 0", pings(a, b.LinkAddr(0)), true)
	expect("1 pings 2 on link 1, cut", pings(a, b.LinkAddr(1)), false)
	must(l.Heal())
	if err := l.Cut(1, 4); err == nil {
		t.Error("a node that is not there was cut off")
	}
}

func testHang(t *testing.T, l *Lab) {
	n := l.Node(2)
	if _, err := n.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := n.Exec(ctx, "true"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen node answered: %v", err)
	}
	if s := n.State(); s != "frozen" || !n.Powered() {
		t.Errorf("state %s", s)
	}
	if err := n.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustRun(t, n, "true")
}

// testAppend checks append, verify and flock on a node's own disk.
func testAppend(t *testing.T, l *Lab) {
	n := l.Node(1)
	const f = "/var/lib/quorate/lines"
	mustRun(t, n, "labnode append "+f+" --id 7 --count 20 --rate 200")
	_, err := l.Collector.Wait(t.Context(), func(e Ev) bool { return e.Event == "append" && e.ID == 7 && e.Seq == 20 })
	if err != nil {
		t.Fatal(err)
	}
	mustRun(t, n, "labnode verify "+f+" --want 7:20")
	if r, err := n.Exec(t.Context(), "labnode verify "+f+" --want 7:21"); err != nil || r.Code == 0 {
		t.Errorf("a lost line was not missed: %+v, %v", r, err)
	}

	hold, err := n.Start(t.Context(), Cmd{Args: []string{"labnode", "flock", "hold", f}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	event := func(name string) func(Ev) bool {
		return func(e Ev) bool { return e.Event == name && e.File == f && e.FromNode() == 1 }
	}
	if _, err := l.Collector.Wait(ctx, event("held")); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Start(ctx, Cmd{Args: []string{"flock", "wait", f, "--notify", "10.77.0.1:9999"}, Inside: true}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	released := time.Now()
	hold.Stop()
	ev, err := l.Collector.Wait(ctx, event("granted"))
	if err != nil {
		t.Fatal(err)
	}
	if stall := ev.At.Sub(released); stall < 0 || stall > 5*time.Second {
		t.Errorf("granted %v after the release", stall)
	}
}

func testReboot(t *testing.T, l *Lab) {
	n := l.Node(3) // dead from the last test
	if err := n.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := n.BootID()
	mustRun(t, n, "echo kept >/var/lib/quorate/f; echo lost >/root/f; sync /var/lib/quorate/f")
	begin := time.Now()
	if err := n.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("reboot took %v", time.Since(begin))
	if got := mustRun(t, n, "cat /var/lib/quorate/f; test -e /root/f || echo gone"); got != "kept\ngone" {
		t.Errorf("after the reboot: %q", got)
	}
	if n.BootID() == id || n.BootID() == "" {
		t.Errorf("boot id %q again", id)
	}
	if err := n.Boot(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("second boot: %v", err)
	}
	// A reboot that the node itself asks for is the end of this life.
	if _, err := n.Exec(t.Context(), "echo b >/proc/sysrq-trigger; sleep 60"); err == nil {
		t.Error("a node that reboots goes on")
	}
	for limit := time.Now().Add(time.Minute); n.Powered(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("a node that rebooted is not off")
		}
	}
	if err := n.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// testEndsItself powers a node off from inside: the lab notices.
func testEndsItself(t *testing.T, l *Lab) {
	n := l.Node(3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n.Exec(ctx, "echo o >/proc/sysrq-trigger; sleep 5")
	for n.State() != "off" && ctx.Err() == nil {
		time.Sleep(50 * time.Millisecond)
	}
	if s := n.State(); s != "off" {
		t.Errorf("state %s", s)
	}
	if _, err := n.Exec(ctx, "true"); !errors.Is(err, ErrDown) {
		t.Errorf("exec in a dead node: %v", err)
	}
}

func testNothingLeft(t *testing.T, l *Lab) {
	begin := time.Now()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("close took %v", time.Since(begin))
	if left := leftovers(l.Name()); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}

// leftovers looks for anything that has a lab's name.
func leftovers(name string) (left []string) {
	root, _ := cgroupRoot()
	for _, p := range []string{filepath.Join(root, name), filepath.Join(netnsDir, name),
		filepath.Join(defaultDir, name), filepath.Join(socketDir, name)} {
		if exists(p) {
			left = append(left, p)
		}
	}
	ps, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range ps {
		if b, _ := os.ReadFile(p); bytes.Contains(b, []byte("/"+name+"/")) {
			left = append(left, p)
		}
	}
	return left
}

// TestRealSweep kills a process that runs a lab, and cleans up after it.
func TestRealSweep(t *testing.T) {
	if os.Getenv("QUORATE_LAB_CHILD") == "1" {
		l := ForTest(t, Config{Nodes: 1})
		fmt.Printf("NAME %s\n", l.Name())
		time.Sleep(time.Minute)
		return
	}
	if os.Getenv(EnvGate) != "1" {
		t.Skip(EnvGate + " is not 1: this test boots real kernels, as root")
	}
	c := exec.Command(os.Args[0], "-test.run=^TestRealSweep$")
	c.Env = append(os.Environ(), "QUORATE_LAB_CHILD=1")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var name string
	if _, err := fmt.Fscanf(out, "NAME %s\n", &name); err != nil {
		t.Errorf("the child has no lab: %v", err)
	}
	c.Process.Kill()
	c.Wait()
	if name != "" && len(leftovers(name)) < 4 {
		t.Errorf("the killed process left only %s", leftovers(name))
	}
	if err := Sweep(t.Context(), defaultDir); err != nil {
		t.Error(err)
	}
	if left := leftovers(name); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}
