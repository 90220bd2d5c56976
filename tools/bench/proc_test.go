package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const stat = "77 (a) b (c d) S 1 77 77 0 -1 4194560 1290 0 0 0 123 45 0 0 -11 0 14 0 2000 1273 400 18446744073709551615\n"

func TestParseStat(t *testing.T) {
	if d, err := parseStat([]byte(stat)); err != nil || d != 1680*time.Millisecond {
		t.Errorf("%v %v", d, err)
	}
	for _, bad := range []string{"", "77 (x", "77 (x) S 1 2", strings.Replace(stat, " 45 ", " x ", 1), strings.Replace(stat, " 123 ", " -1 ", 1)} {
		if d, err := parseStat([]byte(bad)); !errors.Is(err, errProc) {
			t.Errorf("%q: %v %v", bad, d, err)
		}
	}
}

func TestParseRSS(t *testing.T) {
	if n, err := parseRSS([]byte("Name:\tquorated\nVmPeak:\t   99 kB\nVmRSS:\t   16384 kB\n")); err != nil || n != 16<<20 {
		t.Errorf("%v %v", n, err)
	}
	for _, bad := range []string{"", "Name:\tkthread\n", "VmRSS: many kB\n", "VmRSS: 7 MB\n"} {
		if n, err := parseRSS([]byte(bad)); !errors.Is(err, errProc) {
			t.Errorf("%q: %v %v", bad, n, err)
		}
	}
}

func TestParseTracer(t *testing.T) {
	for text, want := range map[string]int{"": 0, "Name:\tx\nTracerPid:\t0\n": 0, "Name:\tx\nTracerPid:\t81\nUid:\t0\n": 81, "TracerPid:\tx\n": 0} {
		if got := parseTracer([]byte(text)); got != want {
			t.Errorf("%q: %d", text, got)
		}
	}
}

// TestCountSyncs: a call counts when it begins, once.
func TestCountSyncs(t *testing.T) {
	out := `100 fdatasync(7)                         = 0
101 fsync(8 <unfinished ...>
100 fdatasync(7 <unfinished ...>
101 <... fsync resumed>)               = 0
100 <... fdatasync resumed>)           = -1 EIO (Input/output error)
[pid   102] fsync(9)                         = 0
102 +++ exited with 0 +++
`
	if n := countSyncs([]byte(out)); n != 4 {
		t.Errorf("%d", n)
	}
	if n := countSyncs(nil); n != 0 {
		t.Errorf("%d of nothing", n)
	}
}

// FuzzForeign: nothing that the kernel or strace may write stops bench.
func FuzzForeign(f *testing.F) {
	for _, s := range []string{stat, "VmRSS:\t 7 kB\n", "TracerPid:\t1\n", "1 fsync(8)\n", "members [1 2 3], no quorum yet", corosyncLog} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, err := parseStat(data); err == nil && d < 0 {
			t.Errorf("time %v", d)
		}
		if n, err := parseRSS(data); err == nil && n%1024 != 0 {
			t.Errorf("rss %d", n)
		}
		if n := countSyncs(data); n > len(data)/len("1 fsync(") {
			t.Errorf("%d calls in %d bytes", n, len(data))
		}
		if m, err := viewMembers(string(data)); err == nil && m == nil {
			t.Error("no members and no error")
		}
		parseTracer(data)
		var r corosyncReader
		for line := range strings.Lines(string(data)) {
			if v, err := r.read(line); err == nil && v.ID != "" && v.Members == nil {
				t.Error("no members and no error")
			}
		}
	})
}

// TestOwnUsage reads this process.
func TestOwnUsage(t *testing.T) {
	for start := time.Now(); time.Since(start) < 30*time.Millisecond; {
		_, _ = os.ReadFile("/proc/self/stat") // work
	}
	u, err := usageOf([]int{os.Getpid()})
	if err != nil || u.cpu <= 0 || u.rss < 1<<20 {
		t.Errorf("%+v %v", u, err)
	}
	if _, err := usageOf([]int{0}); err == nil {
		t.Error("process 0")
	}
}

// TestStrace counts the calls of a real program.
func TestStrace(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	// It syncs once for each line that it reads, and answers when it has.
	c := exec.Command("/bin/sh", "-c", `while read -r l; do sync -d "$1"; echo done; done`, "sh", t.TempDir())
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	sync := func() {
		t.Helper()
		if err := out.(*os.File).SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
	}
	sync()
	stop, err := straced(t.Context(), []int{c.Process.Pid})
	if err != nil {
		t.Skipf("strace cannot trace here: %v", err)
	}
	sync()
	sync()
	n, err := stop()
	if err != nil || n != 2 {
		t.Errorf("%d calls, %v", n, err)
	}
	sync() // it lives on
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := straced(ctx, []int{os.Getppid() + 1<<22}); err == nil {
		t.Error("a process that there is not")
	}
}
