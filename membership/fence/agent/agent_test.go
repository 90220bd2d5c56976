package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/agent/launch"
	"github.com/quorate/quorate/membership/fence/fencetest"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "die-with-me" {
		dieWithMe(os.Args[2])
		return
	}
	if len(os.Args) == 3 && os.Args[1] == "die-warm" {
		dieWarm(os.Args[2])
		return
	}
	goleak.VerifyTestMain(closing{m})
}

// closing are tests after which nothing is left of the launcher.
type closing struct{ *testing.M }

func (c closing) Run() int {
	defer launcher.Close()
	return c.M.Run()
}

func mk(dir string, devices ...membership.Device) membership.Fencer {
	return New(membership.Config{Devices: devices}, WithDirs(dir), WithVerify(2*time.Second, time.Millisecond))
}

func TestConformance(t *testing.T) { fencetest.Run(t, mk) }

func fence(t *testing.T, lab *fencetest.Lab, d membership.Device) membership.FenceResult {
	t.Helper()
	return mk(lab.Dir, d).Fence(t.Context(), membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: boottime().Add(time.Minute)})
}

func TestAgentInheritsNothing(t *testing.T) {
	lab := fencetest.NewLab(t)
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res := fence(t, lab, lab.Device("a", "fds"))
	// 0 1 2, and 3 for the listing itself.
	if got := strings.Fields(res.Output); !res.OK || strings.Join(got[:4], " ") != "0 1 2 3" || got[4] != "Success:" {
		t.Errorf("descriptors: %q", res.Output)
	}
	t.Setenv("QUORATE_SECRET", "leaks")
	res = fence(t, lab, lab.Device("b", "env"))
	if !res.OK || strings.Contains(res.Output, "leaks") || !strings.Contains(res.Output, "\n/\n") {
		t.Errorf("environment: %q", res.Output)
	}
}

func TestRebootIsBelieved(t *testing.T) {
	lab := fencetest.NewLab(t)
	d := lab.Device("a", "lying")
	d.Options["action"] = "reboot"
	if res := fence(t, lab, d); !res.OK || strings.Join(lab.Log(), ",") != "reboot a" {
		t.Errorf("%+v, asked %v", res, lab.Log())
	}
}

// TestSkipVerify: the agent's own word is the proof; a failure is none.
func TestSkipVerify(t *testing.T) {
	for mode, ok := range map[string]bool{"ok": true, "lying": true, "fail": false, "crash": false} {
		lab := fencetest.NewLab(t)
		d := lab.Device("a", mode)
		d.SkipVerify = true
		if res := fence(t, lab, d); res.OK != ok || strings.Join(lab.Log(), ",") != "off a" {
			t.Errorf("%s: %+v, asked %v", mode, res, lab.Log())
		}
	}
}

// TestDeafAgent: who answers without having read what it is asked has done nothing,
// whether its word is believed or not.
func TestDeafAgent(t *testing.T) {
	for name, edit := range map[string]func(*membership.Device){
		"believed": func(d *membership.Device) { d.SkipVerify = true },
		"reboot":   func(d *membership.Device) { d.Options["action"] = "reboot" },
		"asked":    func(*membership.Device) {},
		"long":     func(d *membership.Device) { d.SkipVerify = true; d.Options["x"] = strings.Repeat("x", 200_000) },
	} {
		lab := fencetest.NewLab(t)
		d := lab.Device("a", "ok")
		d.Agent = filepath.Join(lab.Dir, "deaf")
		if err := os.WriteFile(d.Agent, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		edit(&d)
		if res := fence(t, lab, d); res.OK || !strings.Contains(res.Err, ErrDeaf.Error()) {
			t.Errorf("%s: %+v", name, res)
		}
		if err := mk(lab.Dir, d).(*Fencer).Monitor(t.Context(), 1); !errors.Is(err, ErrDeaf) {
			t.Errorf("%s: monitor: %v", name, err)
		}
	}
}

// TestFirstPausesAreShort: the third question comes long before the pause configured.
func TestFirstPausesAreShort(t *testing.T) {
	lab := fencetest.NewLab(t)
	f := New(membership.Config{Devices: []membership.Device{lab.Device("a", "slow")}}, WithDirs(lab.Dir), WithVerify(time.Hour, time.Hour))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	res := f.Fence(ctx, membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: boottime().Add(time.Minute)})
	if !res.OK || strings.Join(lab.Log(), ",") != "off a,status a,status a,status a" {
		t.Errorf("%+v, asked %v", res, lab.Log())
	}
}

// TestByHand: with manual fencing a node without a device is an operator's.
func TestByHand(t *testing.T) {
	cfg := membership.Config{ManualFence: true, Nodes: []membership.Node{{ID: 1, Name: "alpha"}}}
	fencetest.RunRefusing(t, New(cfg), "quorate fence ack alpha")
	if err := New(cfg).Monitor(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

// TestDeadlineWhileStarting: a pause between the check and exec must not let a
// late agent live.
func TestDeadlineWhileStarting(t *testing.T) {
	lab := fencetest.NewLab(t)
	calls := 0
	clock := func() membership.Mono {
		calls++
		if calls >= 3 { // start of the job, check before exec, then
			return 1 << 41
		}
		return 1
	}
	f := New(membership.Config{Devices: []membership.Device{lab.Device("a", "hang")}}, WithDirs(lab.Dir), WithClock(clock))
	res := f.Fence(t.Context(), membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: 1 << 40})
	if res.OK || !strings.Contains(res.Err, ErrDeadline.Error()) {
		t.Errorf("%+v", res)
	}
	if left := lab.Survivors(); left != nil {
		t.Error(left)
	}
}

// TestDeadlineBetweenLevels: the second device is not started after it.
func TestDeadlineBetweenLevels(t *testing.T) {
	lab := fencetest.NewLab(t)
	second := lab.Device("b", "ok")
	second.Level = 2
	first := lab.Device("a", "fail")
	past := false
	clock := func() membership.Mono {
		if past = past || lab.Log() != nil; past {
			return membership.Mono(1 << 40).Add(first.Lease())
		}
		return 1
	}
	f := New(membership.Config{Devices: []membership.Device{second, first}}, WithDirs(lab.Dir), WithClock(clock))
	res := f.Fence(t.Context(), membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: 1 << 40})
	if res.OK || strings.Contains(strings.Join(lab.Log(), ","), "b") {
		t.Errorf("%+v, asked %v", res, lab.Log())
	}
}

// TestSecondLevelAfterASlowFailure: the first one's time is not taken from it.
func TestSecondLevelAfterASlowFailure(t *testing.T) {
	lab := fencetest.NewLab(t)
	first, second := lab.Device("a", "fail"), lab.Device("b", "ok")
	second.Level = 2
	calls := 0
	clock := func() membership.Mono {
		if calls++; calls > 3 { // start of the job, before the first one's exec, after it
			return membership.Mono(1<<40 - 1e10).Add(first.Lease())
		}
		return 1
	}
	f := New(membership.Config{Devices: []membership.Device{second, first}}, WithDirs(lab.Dir), WithClock(clock))
	res := f.Fence(t.Context(), membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: 1 << 40})
	if !res.OK || strings.Join(lab.Log(), ",") != "off a,off b,status b" {
		t.Errorf("%+v, asked %v", res, lab.Log())
	}
}

// dieWithMe is a daemon that fences with a hanging agent until it is killed.
func dieWithMe(dir string) {
	lab := map[string]string{"mode": "hang", "log": filepath.Join(dir, "log"), "mark": "86400.77" + filepath.Base(dir)}
	d := membership.Device{Nodes: []membership.NodeID{1}, Agent: fencetest.Program, Timeout: time.Minute, Options: lab}
	New(membership.Config{Devices: []membership.Device{d}}, WithDirs(dir)).
		Fence(context.Background(), membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: boottime().Add(time.Minute)})
}

func TestAgentDiesWithTheDaemon(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: without a pid namespace only the agent itself dies")
	}
	lab := fencetest.NewLab(t)
	cmd := exec.Command(os.Args[0], "die-with-me", lab.Dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	mark := "86400.77" + filepath.Base(lab.Dir)
	for !running(t, mark) {
		time.Sleep(time.Millisecond)
	}
	launchers := children(t, cmd.Process.Pid)
	if len(launchers) != 1 || !strings.HasPrefix(launchers[0].args, launch.Name) {
		t.Errorf("the daemon has started %v", launchers)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	await(t, "the agent's death, and its children's", func() bool { return !running(t, mark) })
	for _, l := range launchers {
		await(t, "the launcher's death", func() bool { _, alive := look(l.pid); return !alive })
	}
}

type proc struct {
	pid, parent int
	state       string
	args        string
}

// look says whether a process exists and is no zombie.
func look(pid int) (p proc, alive bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndexByte(stat, ')')
	if err != nil || i < 0 {
		return p, false
	}
	args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	p = proc{pid: pid, args: strings.ReplaceAll(string(args), "\x00", " ")}
	_, err = fmt.Sscan(string(stat[i+1:]), &p.state, &p.parent)
	return p, err == nil && p.state != "Z"
}

// children of a process.
func children(t *testing.T, of int) (out []proc) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		if p, alive := look(pid); alive && p.parent == of {
			out = append(out, p)
		}
	}
	return out
}

func running(t *testing.T, mark string) bool {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, _ := os.ReadFile(f)
		if strings.HasPrefix(string(data), "sleep\x00"+mark) {
			return true
		}
	}
	return false
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "fence_plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f := New(membership.Config{}, WithDirs(dir))
	for _, name := range []string{"", "a/b", "fence_none", "fence_plain", plain, dir, "/none"} {
		if p, err := f.find(name); !errors.Is(err, ErrNoAgent) {
			t.Errorf("%q: %s %v", name, p, err)
		}
	}
	if p, err := f.find("/bin/sh"); err != nil || p != "/bin/sh" {
		t.Errorf("%s %v", p, err)
	}
}

func TestStdin(t *testing.T) {
	got := stdin(map[string]string{"ip": "x", "action": "reboot", "auth": ""}, "status")
	if got != "auth=\nip=x\naction=status\n" {
		t.Errorf("%q", got)
	}
}

func TestClean(t *testing.T) {
	tests := []struct {
		name, raw, want string
		secrets         []string
	}{
		{"plain", "a\tb\n", "a\tb\n", nil},
		{"control", "a\x1b[31mb\r\n\x00", "a.[31mb\n.", nil},
		{"not UTF-8", "a\xffb", "a.b", nil},
		{"longest first", "xabcx", "x***x", []string{"abc", "b"}},
		{"assignment", `passwd="a b" user=x password: y`, `passwd=*** user=x password: ***`, nil},
		{"unicode", "größe", "größe", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := clean([]byte(tt.raw), tt.secrets); got != tt.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestSecretsLongestFirst(t *testing.T) {
	got := secrets(map[string]string{"password": "ab", "snmp_priv_passwd": "abcdef", "token": "abcde", "ip": "1", "passwd": ""})
	if strings.Join(got, " ") != "abcdef abcde YWI= YWI ab" {
		t.Errorf("%v", got)
	}
}

func TestTail(t *testing.T) {
	w := &tail{max: 8 << 10}
	for i := range 40 {
		if n, err := w.Write([]byte(strings.Repeat(string(rune('a'+i%26)), 1000))); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := w.bytes(); len(got) != 4<<10 || got[len(got)-1] != 'n' {
		t.Errorf("%d bytes, ends with %q", len(got), got[len(got)-1:])
	}
	if got := tailString("aößb", 4); got != "ßb" && got != "\u00dfb" {
		t.Errorf("%q", got)
	}
}

func FuzzClean(f *testing.F) {
	f.Add([]byte("password=x\xff"), "x")
	f.Add([]byte("hunter2"), "hunter2")
	f.Fuzz(func(t *testing.T, raw []byte, secret string) {
		got := clean(raw, secrets(map[string]string{"password": secret}))
		if len(got) > maxOutput {
			t.Fatalf("%d bytes", len(got))
		}
		if len(secret) > 3 && !strings.Contains(secret, "***") && !strings.ContainsAny(secret, "*.") && strings.ToValidUTF8(secret, "") == secret &&
			strings.Contains(got, secret) && strings.Contains(string(raw), secret) && !strings.ContainsFunc(secret, func(r rune) bool { return r < 32 }) {
			t.Fatalf("%q is in %q", secret, got)
		}
	})
}

// TestTailFill: what was printed is there without waiting for more of it.
func TestTailFill(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := &tail{max: 10}
	fill := func() (more, end bool) {
		t.Helper()
		if err := control(r, func(fd int) error { more, end = out.fill(fd); return nil }); err != nil {
			t.Fatal(err)
		}
		return more, end
	}
	if _, err := w.Write([]byte("all of it")); err != nil {
		t.Fatal(err)
	}
	if more, end := fill(); more || end || string(out.bytes()) != "all of it" {
		t.Errorf("%q, more %v, end %v", out.bytes(), more, end)
	}
	if _, err := w.Write(make([]byte, pipeful)); err != nil {
		t.Fatal(err)
	}
	if more, end := fill(); !more || end {
		t.Errorf("a full pipe: more %v, end %v", more, end)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if more, end := fill(); more || !end {
		t.Errorf("its end: more %v, end %v", more, end)
	}
}
