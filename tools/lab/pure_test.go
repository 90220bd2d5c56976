package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/tools/lab/internal/wire"
)

func TestFindCgroup2(t *testing.T) {
	for mounts, want := range map[string]string{
		"tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n": "/sys/fs/cgroup/unified",
		"cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n": "/sys/fs/cgroup",
		"cgroup /sys/fs/cgroup/cpu cgroup rw 0 0": "",
	} {
		got, err := findCgroup2(strings.NewReader(mounts))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", mounts, got, err)
		}
	}
}

func TestParseEvents(t *testing.T) {
	got := parseEvents([]byte("populated 1\nfrozen 0\n"))
	if len(got) != 2 || !got["populated"] || got["frozen"] {
		t.Error(got)
	}
}

func TestWritesAdd(t *testing.T) {
	var w Writes
	for range 2 {
		w.add("rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 6\ncancelled_write_bytes: 7\n")
	}
	if w != (Writes{Calls: 8, Chars: 4, Bytes: 12}) {
		t.Errorf("%+v", w)
	}
}

func TestOwner(t *testing.T) {
	me := self(3)
	got, ok := parseOwner(me.String())
	if !ok || got != me || !got.alive() {
		t.Errorf("%v: %v %v", me, got, ok)
	}
	again := me
	again.start++ // the pid of a process that ended, used by another
	if again.alive() {
		t.Error("a process that started at another time passes for the owner")
	}
	elsewhere := me
	elsewhere.space++ // nobody lives there, which only the first namespace knows
	if got, first := elsewhere.alive(), me.space == firstPidSpace; got == first {
		t.Errorf("a lab of another pid namespace is alive: %v; first namespace: %v", got, first)
	}
	for _, s := range []string{"", "qlab", "qlab-1-2", "qlab-1-x-2-3", "other-1-2-3-4", "qlab-1-2-3", "qlab-1-2-3-4-5"} {
		if _, ok := parseOwner(s); ok {
			t.Errorf("%q passes for a lab's name", s)
		}
	}
}

func TestDead(t *testing.T) {
	dir := t.TempDir()
	gone := owner{pidSpace(os.Getpid()), os.Getpid(), 1, 1}.String()
	for _, name := range []string{gone, self(1).String(), "else"} {
		if err := os.Mkdir(dir+"/"+name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if got := dead(dir); len(got) != 1 || got[0] != gone {
		t.Errorf("%q", got)
	}
}

func TestRuleset(t *testing.T) {
	c := cuts{}.clone()
	c.paths = map[path]bool{{0, 2, 1}: true, {0, 1, 2}: true, {1, 3, 1}: true}
	c.ports[port{end{0, 2}, 21064}] = true
	c.mtu[end{1, 3}] = 1300
	got := c.ruleset()
	want := `table bridge lab
delete table bridge lab
table bridge lab {
 chain cut {
  type filter hook forward priority 0; policy accept;
  iifname "n1l0" oifname "n2l0" counter drop
  iifname "n2l0" oifname "n1l0" counter drop
  iifname "n3l1" oifname "n1l1" ether type != arp counter drop
  iifname "n2l0" tcp sport 21064 counter drop
  oifname "n2l0" tcp sport 21064 counter drop
  iifname "n2l0" tcp dport 21064 counter drop
  oifname "n2l0" tcp dport 21064 counter drop
  iifname "n3l1" meta length > 1300 counter drop
  oifname "n3l1" meta length > 1300 counter drop
 }
}
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestLayout(t *testing.T) {
	want := `link set lo up
link add mgmt type bridge stp_state 0 mcast_snooping 0
addr add 10.78.0.1/24 dev mgmt
link set mgmt up
link add cluster0 type bridge stp_state 0 mcast_snooping 0
addr add 10.77.0.1/24 dev cluster0
link set cluster0 up
tuntap add dev n1m mode tap
link set n1m master mgmt up
tuntap add dev n1l0 mode tap
link set n1l0 master cluster0 up
`
	if got := layout(1, 1); got != want {
		t.Errorf("got\n%s", got)
	}
	for n := 1; n <= 32; n++ {
		if name := linkTap(n, 3); len(name) > 15 {
			t.Errorf("%s is too long for an interface", name)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Setenv(EnvKernel, "")
	var c Config
	if err := c.fill(); err != nil || c.Nodes != 3 || c.Links != 1 || c.Mem != 0 || c.kernels[2].name != DefaultKernel || c.SharedSize != 1<<30 || c.Log == nil {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []Config{{Nodes: 33}, {Nodes: -1}, {Links: 5}, {Mem: 64}, {Kernels: []string{"uml-1"}}} {
		if err := bad.fill(); err == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}

func TestReason(t *testing.T) {
	consequence := errors.New("i/o timeout")
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	if err := reason(ctx, consequence); err != consequence {
		t.Error(err)
	}
	cancel()
	if err := reason(ctx, consequence); err != context.Canceled {
		t.Error(err)
	}
	for range 100 { // the clock is there before the timer
		end := time.Now().Add(100 * time.Microsecond)
		ctx, cancel := context.WithDeadline(t.Context(), end)
		for time.Now().Before(end) {
		}
		if err := reason(ctx, consequence); err != context.DeadlineExceeded {
			t.Error(err)
		}
		cancel()
	}
}

func TestNumeric(t *testing.T) {
	for addr, ok := range map[string]bool{"10.77.0.1:9": true, ":9": true, "[::1]:9": true, "host:9": false, "10.77.0.1": false} {
		if err := numeric(addr); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestRecipe(t *testing.T) {
	a := recipe{suite: "bookworm", arch: "amd64", packages: []string{"x"}}
	b := a
	b.packages = []string{"x", "y"}
	if a.key() == b.key() || len(a.key()) != 16 {
		t.Errorf("keys %s %s", a.key(), b.key())
	}
	if got := codename(strings.NewReader("ID=debian\nVERSION_CODENAME=bookworm\n")); got != "bookworm" {
		t.Errorf("codename %q", got)
	}
	targets := "bookworm deb http://m/debian/ bookworm main\nbookworm-security deb http://m/s/ bookworm-security main\n" +
		"nodistro deb http://else/ nodistro main\ntrixie deb http://m/debian/ trixie main\n"
	want := "deb http://m/debian/ bookworm main\ndeb http://m/s/ bookworm-security main\n"
	if got := sourcesOf(targets, "bookworm"); got != want {
		t.Errorf("got %q", got)
	}
}

func TestMemAvailable(t *testing.T) {
	if got := memAvailable(strings.NewReader("MemTotal: 9 kB\nMemAvailable:    2048000 kB\n")); got != 2000 {
		t.Error(got)
	}
}

func TestLackingKnowsSbin(t *testing.T) {
	need := []program{{"sh", "dash"}, {"no-such-program-here", "nowhere"}}
	if got := lacking(need); len(got) != 1 || got[0] != "nowhere" {
		t.Error(got)
	}
}

func TestCollector(t *testing.T) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := newCollector(conn)
	out, err := net.Dial("udp4", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	before := time.Now()
	go fmt.Fprint(out, `{"node":"node2","event":"append","id":7,"seq":3}`+"\n"+`{"event":"granted","file":"/f"}`+"\nplain\n")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	ev, err := c.Wait(ctx, func(e Ev) bool { return e.Event == "granted" })
	if err != nil || ev.File != "/f" || ev.At.Before(before) {
		t.Fatalf("%+v, %v", ev, err)
	}
	all := c.Since(0)
	if len(all) != 3 || all[0].Node != "node2" || all[2].Raw != "plain" || all[2].JSON != nil || all[0].ID != 7 || all[0].Seq != 3 {
		t.Errorf("%+v", all)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.WaitFrom(short, c.Mark(), func(Ev) bool { return true }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing came, but: %v", err)
	}
	c.Close()
	if _, err := c.Wait(t.Context(), func(Ev) bool { return false }); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestFromNode(t *testing.T) {
	for addr, want := range map[string]int{"10.77.0.12:1": 2, "10.78.0.11:1": 1, "10.77.1.13:1": 3, "10.77.0.1:1": 0, "127.0.0.1:1": 0} {
		if got := (Ev{From: netip.MustParseAddrPort(addr)}).FromNode(); got != want {
			t.Errorf("%s: %d", addr, got)
		}
	}
	if (Ev{}).FromNode() != 0 {
		t.Error("an event from nowhere is from a node")
	}
}

func TestTestLogDropsNewline(t *testing.T) {
	for _, text := range []string{"line\n", "line"} {
		var r recorder
		if n, err := fmt.Fprint(testLog{&r}, text); n != len(text) || err != nil || r.got != "line" {
			t.Errorf("%q: %d %v %q", text, n, err, r.got)
		}
	}
}

type recorder struct {
	TB
	got string
}

func (r *recorder) Logf(format string, args ...any) { r.got = fmt.Sprintf(format, args...) }

// TestWaitReboot: the life that was asked about, nothing, and another life.
func TestWaitReboot(t *testing.T) {
	life := func(id string) *boot {
		b := &boot{ready: make(chan struct{}), up: wire.Hello{BootID: id}}
		b.ctx, b.end = context.WithCancelCause(t.Context())
		close(b.ready)
		return b
	}
	n := &Node{id: 1, run: life("a"), started: make(chan struct{})}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := n.WaitReboot(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("it has not rebooted: %v", err)
	}
	done := make(chan error)
	go func() { done <- n.WaitReboot(t.Context(), "a") }()
	n.mu.Lock()
	n.run.end(ErrDown)
	n.run = nil
	n.mu.Unlock()
	select {
	case err := <-done:
		t.Fatalf("a node that is off has rebooted: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	n.mu.Lock()
	n.run = life("b")
	close(n.started)
	n.mu.Unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// What runs in a node hears how the node ended, not that a connection was closed.
func TestEndOfALifeIsTheCause(t *testing.T) {
	b := &boot{}
	b.ctx, b.end = context.WithCancelCause(t.Context())
	ctx, untie := b.tie(t.Context())
	host, guest := net.Pipe()
	defer guest.Close()
	unhook := context.AfterFunc(ctx, func() { host.Close() })
	defer unhook()
	go func() {
		c := &wire.Conn{ReadWriteCloser: guest}
		c.Recv()
		c.SendJSON(wire.Started, 7)
		b.end(ended("node2", "exit status 134", "--- node2, power on at noon ---\nKernel panic - not syncing: oh\n"))
	}()
	p, err := startOn(ctx, &wire.Conn{ReadWriteCloser: host}, untie, Cmd{Args: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Wait()
	if want := "node2's virtual machine ended: exit status 134: node is not up; its console:\nKernel panic - not syncing: oh\n"; !errors.Is(err, ErrDown) || err.Error() != want {
		t.Errorf("got %v", err)
	}
	// One that the caller stops is not blamed on the node.
	b.ctx, b.end = context.WithCancelCause(t.Context())
	ctx, untie = b.tie(t.Context())
	untie()
	if !errors.Is(context.Cause(ctx), net.ErrClosed) {
		t.Error(context.Cause(ctx))
	}
}

func TestLastPanic(t *testing.T) {
	const before = "Kernel panic - not syncing: before\n--- node1, power on at 12:00 ---\nLinux\n"
	if got := lastPanic(before); got != "" {
		t.Errorf("of an earlier life: %q", got)
	}
	if got := lastPanic(before + "Kernel panic - not syncing: now"); got != "; its console:\nKernel panic - not syncing: now" {
		t.Errorf("%q", got)
	}
}

func TestMoreWritten(t *testing.T) {
	was := Writes{Procs: 5, Calls: 10, Chars: 100, Bytes: 4096}
	for _, c := range []struct {
		now  Writes
		more bool
	}{
		{was, false},
		{Writes{Procs: 4, Calls: 10, Chars: 100, Bytes: 4096}, false},
		{Writes{Procs: 6, Calls: 10, Chars: 100, Bytes: 4096}, true},
		{Writes{Procs: 4, Calls: 9, Chars: 90, Bytes: 4096}, true}, // what is missing may hide what is new
		{Writes{Procs: 5, Calls: 11, Chars: 100, Bytes: 4096}, true},
		{Writes{Procs: 5, Calls: 10, Chars: 101, Bytes: 4096}, true},
		{Writes{Procs: 5, Calls: 10, Chars: 100, Bytes: 8192}, true},
	} {
		if c.now.More(was) != c.more {
			t.Errorf("%+v after %+v", c.now, was)
		}
	}
}
