package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/tools/lab/dlmdev"
	"github.com/quorate/quorate/tools/lab/internal/wire"
)

func TestParseParams(t *testing.T) {
	p, err := parseParams("mem=1M lab.node=2 quiet lab.nodes=3 lab.links=1 lab.nonce=abc lab.root=/r lab.trees=/t lab.modules=dlm,gfs2\n")
	if err != nil || p.emulated() || p.trees != "/t" || p.node != 2 || p.nodes != 3 || p.links != 1 || p.nonce != "abc" || p.root != "/r" || len(p.modules) != 2 {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := parseParams("lab.node=2 lab.nodes=3 lab.links=1 lab.root=root"); err != nil || !p.emulated() {
		t.Errorf("%+v, %v", p, err)
	}
	if p.systemd {
		t.Error("systemd that nobody asked for")
	}
	if p, err := parseParams("lab.node=2 lab.nodes=3 lab.links=1 lab.root=/r lab.init=systemd"); err != nil || !p.systemd {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := parseParams("quiet"); err == nil {
		t.Error("a command line without a node passes")
	}
}

func TestInterfaces(t *testing.T) {
	want := "auto lo\niface lo inet loopback\n" +
		"auto vec0\niface vec0 inet static\n\taddress 10.77.0.12/24\nauto vec2\niface vec2 inet static\n\taddress 10.77.1.12/24\n"
	if got := (params{root: "/r", node: 2, links: 2}).ifupdown(); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := (params{root: "disk", node: 2, links: 1}).ifupdown(); !strings.Contains(got, "auto eth0\n") || strings.Contains(got, "eth1") {
		t.Errorf("emulated: got\n%s", got)
	}
}

func TestModuleFiles(t *testing.T) {
	dep := "kernel/fs/configfs/configfs.ko:\nkernel/fs/dlm/dlm.ko: kernel/fs/configfs/configfs.ko\n" +
		"kernel/fs/gfs2/gfs2.ko: kernel/fs/dlm/dlm.ko kernel/fs/configfs/configfs.ko\nkernel/x/a-b.ko:\n"
	for name, want := range map[string][]string{
		"gfs2": {"kernel/fs/configfs/configfs.ko", "kernel/fs/dlm/dlm.ko", "kernel/fs/gfs2/gfs2.ko"},
		"a_b":  {"kernel/x/a-b.ko"},
		"none": nil,
	} {
		if got := moduleFiles(bufio.NewScanner(strings.NewReader(dep)), name); !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestFindDisk(t *testing.T) {
	dir := t.TempDir()
	for disk, files := range map[string][2]string{"vda": {"shared", "254:0"}, "vdb": {"state", "254:16"}, "vdc": {"bad", "x"}} {
		for i, name := range []string{"serial", "dev"} {
			if err := os.MkdirAll(filepath.Join(dir, disk), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, disk, name), []byte(files[i]+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if dev, err := findDisk(dir, "state"); err != nil || unix.Major(dev) != 254 || unix.Minor(dev) != 16 {
		t.Errorf("%x, %v", dev, err)
	}
	if _, err := findDisk(dir, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a disk that is not there: %v", err)
	}
	if _, err := findDisk(dir, "bad"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a disk without number: %v", err)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		text string
		want map[int]int
		ok   bool
	}{
		{"1 1\n1 2\n2 1\n", map[int]int{1: 2, 2: 1}, true},
		{"1 1\n1 2\n1 3\n", map[int]int{1: 2}, true},  // written, not told before the death
		{"1 1\n1 3\n", map[int]int{1: 3}, false},      // lost
		{"1 1\n1 1\n", map[int]int{1: 1}, false},      // twice
		{"1 1\nx\n", map[int]int{1: 1}, false},        // garbage
		{"1 1\n\x00\x00\n", map[int]int{1: 1}, false}, // a hole
		{"1 1\n1 2 1 3\n", map[int]int{1: 1}, false},  // torn together
		{"", map[int]int{1: 1}, false},
	} {
		rep, err := check(strings.NewReader(c.text), c.want)
		if err != nil || rep.OK != c.ok {
			t.Errorf("%q want %v: %+v, %v", c.text, c.want, rep, err)
		}
	}
}

func TestParseFlagsAnywhere(t *testing.T) {
	fs := flag.NewFlagSet("x", flag.ContinueOnError)
	n := fs.Int("id", 0, "")
	pos, err := parse(fs, []string{"FILE", "--id", "3"}, 1)
	if err != nil || pos[0] != "FILE" || *n != 3 {
		t.Errorf("%q %d %v", pos, *n, err)
	}
}

// host is a collector for programs under test.
func host(t *testing.T) (addr string, next func() event) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String(), func() (e event) {
		t.Helper()
		var buf [1024]byte
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, _, err := c.ReadFrom(buf[:])
		if err == nil {
			err = json.Unmarshal(buf[:n], &e)
		}
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
}

func TestAppendThenVerify(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	addr, next := host(t)
	if err := appendLoop([]string{name, "--id", "4", "--count", "3", "--notify", addr}); err != nil {
		t.Fatal(err)
	}
	for want := 1; want <= 3; want++ {
		if e := next(); e.Seq != want || e.ID != 4 || e.File != name || e.Event != "append" {
			t.Errorf("%+v", e)
		}
	}
	if err := verify([]string{name, "--want", "4:3"}); err != nil {
		t.Error(err)
	}
	if err := verify([]string{name, "--want", "4:4"}); err == nil {
		t.Error("a line that is not there was found")
	}
}

func TestFlockWaitTells(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	addr, next := host(t)
	if err := flock([]string{"wait", name, "--notify", addr}); err != nil {
		t.Fatal(err)
	}
	if e := next(); e.Event != "granted" || e.File != name {
		t.Errorf("%+v", e)
	}
}

// ask sends one request to handle, as the host does.
func ask(t *testing.T, req wire.Request, stdin string) (out string, exit wire.Exit) {
	t.Helper()
	a, b := net.Pipe()
	go handle(&wire.Conn{ReadWriteCloser: b})
	c := &wire.Conn{ReadWriteCloser: a}
	defer c.Close()
	if err := c.SendJSON(wire.Req, req); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.Send(wire.Stdin, []byte(stdin))
		c.Send(wire.StdinEOF, nil)
	}()
	for {
		k, p, err := c.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if k == wire.Stdout || k == wire.Stderr {
			out += string(p)
		}
		if k == wire.Exited {
			json.Unmarshal(p, &exit)
			return out, exit
		}
	}
}

func TestExecute(t *testing.T) {
	if _, err := os.Stat("/root"); err != nil || os.Geteuid() != 0 {
		t.Skip("commands start in /root: run as root")
	}
	out, exit := ask(t, wire.Request{Op: "exec", Cmd: []string{"sh", "-c", "cat; echo $V; exit 3"}, Env: []string{"V=v"}}, "in-")
	if out != "in-v\n" || exit.Code != 3 || exit.Err != "" {
		t.Errorf("%q %+v", out, exit)
	}
	if out, exit := ask(t, wire.Request{Op: "exec", Cmd: []string{"tty"}, TTY: &wire.Size{Rows: 2, Cols: 3}}, ""); !strings.HasPrefix(out, "/dev/pts/") || exit.Code != 0 {
		t.Errorf("terminal: %q %+v", out, exit)
	}
	if _, exit := ask(t, wire.Request{Op: "exec"}, ""); exit.Err == "" {
		t.Error("nothing was executed, with success")
	}
	if _, exit := ask(t, wire.Request{Op: "dance"}, ""); exit.Err == "" {
		t.Error("an unknown request succeeded")
	}
}

func TestPut(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a", "b")
	if _, exit := ask(t, wire.Request{Op: "put", Path: name, Mode: 0o640}, "text"); exit.Err != "" {
		t.Fatal(exit.Err)
	}
	st, err := os.Stat(name)
	if b, _ := os.ReadFile(name); err != nil || string(b) != "text" || st.Mode().Perm() != 0o640 {
		t.Errorf("%q %v %v", b, st, err)
	}
	if es, _ := os.ReadDir(filepath.Dir(name)); len(es) != 1 {
		t.Errorf("left beside it: %v", es)
	}
}

func TestCounterBlock(t *testing.T) {
	b := make([]byte, blockLen)
	for want := range 12 {
		if n, err := readCount(b); err != nil || n != want {
			t.Fatalf("%d, %v; want %d", n, err, want)
		}
		writeCount(b, want+1)
	}
	for _, bad := range []string{"counter 7", "counter 7\nx", "counter 07\n", "1 1\n"} {
		clear(b)
		copy(b, bad)
		if n, err := readCount(b); err == nil {
			t.Errorf("%q is %d", bad, n)
		}
	}
}

func TestLockLines(t *testing.T) {
	for _, bad := range []string{"", "dance r EX", "lock r XX", "convert r EX", "unlock r"} {
		if err := obeyAll(strings.NewReader(bad+"\n"), io.Discard, nil); err == nil {
			t.Errorf("%q was obeyed", bad)
		}
	}
}

func TestSpell(t *testing.T) {
	k := &dlmdev.Lock{Resource: "r", Mode: dlmdev.PR}
	setValue(k, "seven")
	setValue(k, "")
	if s := spell(k); s != `r PR "seven"` {
		t.Error(s)
	}
	setValue(k, "3")
	k.ValueLost = true
	if s := spell(k); s != `r PR "3" lost` {
		t.Error(s)
	}
}

func TestDlmArguments(t *testing.T) {
	for _, bad := range [][]string{nil, {"dance"}, {"create"}, {"release", "--x", "a"}, {"rounds"}, {"locks", "a", "b"}, {"count", "a", "b"}} {
		if err := dlm(bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

// client is the host's end of a request to labnode.
func client(t *testing.T, req wire.Request) *wire.Conn {
	t.Helper()
	here, there := net.Pipe()
	go handle(&wire.Conn{ReadWriteCloser: there})
	c := &wire.Conn{ReadWriteCloser: here}
	t.Cleanup(func() { c.Close() })
	if err := c.SendJSON(wire.Req, req); err != nil {
		t.Fatal(err)
	}
	return c
}

func recv(t *testing.T, c *wire.Conn, want wire.Kind, v any) {
	t.Helper()
	k, b, err := c.Recv()
	if err == nil && k != want {
		t.Fatalf("%c %s, not %c", k, b, want)
	}
	if s, ok := v.(*string); err == nil && ok {
		*s = string(b)
	} else if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A flock that labnode holds by itself ends with the connection, and its thread's state can be read.
func TestFlockInside(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	addr, next := host(t)
	ask := func(what string) (c *wire.Conn, thread int) {
		c = client(t, wire.Request{Op: "call", Cmd: []string{"flock", what, name, "--notify", addr}})
		recv(t, c, wire.Started, &thread)
		return c, thread
	}
	var said string
	holder, _ := ask("hold")
	if e := next(); e.Event != "held" || e.File != name {
		t.Fatalf("%+v", e)
	}
	recv(t, holder, wire.Stdout, &said)
	waiter, thread := ask("wait")
	for {
		r := client(t, wire.Request{Op: "read", Path: fmt.Sprintf("/proc/%d/stat", thread)})
		recv(t, r, wire.Stdout, &said)
		if strings.Contains(said, ") S ") {
			break
		}
		time.Sleep(time.Millisecond)
	}
	holder.Close()
	if e := next(); e.Event != "granted" || e.File != name {
		t.Fatalf("%+v", e)
	}
	var exit wire.Exit
	recv(t, waiter, wire.Stdout, &said)
	recv(t, waiter, wire.Exited, &exit)
	if said != "granted\n" || exit != (wire.Exit{}) {
		t.Errorf("%q, %+v", said, exit)
	}
}

func TestBadRequests(t *testing.T) {
	for _, req := range []wire.Request{
		{Op: "call"}, {Op: "call", Cmd: []string{"append", "/tmp/x"}}, {Op: "read", Path: "/does/not/exist"},
		{Op: "call", Cmd: []string{"mount", "nosuchfs", "none", t.TempDir()}}, {Op: "fly"}, {Op: "exec"},
	} {
		var exit wire.Exit
		c := client(t, req)
		if len(req.Cmd) == 4 {
			var thread int
			recv(t, c, wire.Started, &thread)
		}
		recv(t, c, wire.Exited, &exit)
		if exit.Code != 255 || exit.Err == "" {
			t.Errorf("%+v: %+v", req, exit)
		}
	}
}
