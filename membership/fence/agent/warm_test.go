package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/fencetest"
	"github.com/quorate/quorate/tools/transcript"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: agents are held in pid namespaces only")
	}
}

// eager prepares before each job, and waits until the agents run or does not.
type eager struct {
	*Fencer
	wait bool
}

func (e eager) Fence(ctx context.Context, job membership.FenceJob) membership.FenceResult {
	e.Prepare(job.Victim.Node)
	if e.wait {
		e.up(job.Victim.Node)
	}
	return e.Fencer.Fence(ctx, job)
}

// up waits until everything that is held has been started, and returns it.
func (f *Fencer) up(victim membership.NodeID) []*held {
	f.mu.Lock()
	var all []*held
	if s := f.warm[victim]; s != nil {
		all = append(all, s.held...)
	}
	f.mu.Unlock()
	for _, h := range all {
		<-h.started
	}
	return all
}

func TestConformanceWarm(t *testing.T) {
	for _, wait := range []bool{true, false} {
		t.Run(fmt.Sprint(wait), func(t *testing.T) {
			fencetest.Run(t, func(dir string, devices ...membership.Device) membership.Fencer {
				return eager{mk(dir, devices...).(*Fencer), wait}
			})
		})
	}
}

// recorder is a lab whose agent writes down what it reads, and that it started.
type recorder struct {
	t   testing.TB
	dir string
}

const recording = `#!/bin/sh
dir=%s
[ -e "$dir/early" ] && exit 0
[ -e "$dir/deaf" ] && { sleep 60 <&0 & exit 0; }
{ echo "args $#"; env; } >>"$dir/env"
echo start >>"$dir/starts"
while IFS= read -r l; do
	echo "$l" >>"$dir/read"
	[ "$l" = action=status ] && s=2
done
echo EOF >>"$dir/read"
exit ${s:-0}
`

func newRecorder(t testing.TB) recorder {
	t.Helper()
	needRoot(t)
	r := recorder{t, t.TempDir()}
	r.install()
	return r
}

func (r recorder) path() string { return filepath.Join(r.dir, "fence_record") }

// install puts a new file in the place of the agent.
func (r recorder) install() {
	r.t.Helper()
	if err := os.WriteFile(r.path()+".new", fmt.Appendf(nil, recording, r.dir), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.path()+".new", r.path()); err != nil {
		r.t.Fatal(err)
	}
}

func (r recorder) device(n membership.NodeID) membership.Device {
	return membership.Device{Nodes: []membership.NodeID{n}, Agent: r.path(), Level: 1, Timeout: time.Minute, Options: map[string]string{"plug": "victim"}}
}

func (r recorder) fencer(opts ...Option) *Fencer {
	f := New(membership.Config{Devices: []membership.Device{r.device(1)}}, opts...)
	r.t.Cleanup(func() { _ = f.Close() }) // never an error
	return f
}

func (r recorder) lines(name string) []string {
	data, _ := os.ReadFile(filepath.Join(r.dir, name))
	if len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

// started waits until the agents have run n times.
func (r recorder) started(n int) {
	r.t.Helper()
	await(r.t, fmt.Sprintf("%d starts", n), func() bool { return len(r.lines("starts")) >= n })
}

// running says whether the agent, or a shell of it, exists.
func (r recorder) running() bool {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if data, _ := os.ReadFile(f); bytes.Contains(data, []byte(r.path())) {
			return true
		}
	}
	return false
}

func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited too long for: %s", what)
		}
	}
}

func soon() membership.FenceJob {
	return membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: boottime().Add(time.Minute)}
}

const told = "plug=victim action=off EOF plug=victim action=status EOF"

func TestWarmIsUsed(t *testing.T) {
	r := newRecorder(t)
	f := r.fencer()
	for range 3 {
		f.Prepare(1)
	}
	r.started(2) // off and status
	if got := r.lines("read"); got != nil {
		t.Fatalf("told %q while it waits", got)
	}
	res := f.Fence(t.Context(), soon())
	// Who was asked for the status may have died with its answer: another one is asked then.
	const status = " plug=victim action=status EOF"
	got := strings.ReplaceAll(strings.Join(r.lines("read"), " "), status+status, status)
	if !res.OK || got != told {
		t.Errorf("%+v, told %s", res, got)
	}
	if n := len(r.lines("starts")); n != 2 {
		t.Errorf("%d starts, want 2", n)
	}
	for _, l := range r.lines("env") {
		if l != "args 0" && !strings.HasPrefix(l, "PATH=") && !strings.HasPrefix(l, "LC_ALL=") && !strings.HasPrefix(l, "PWD=") {
			t.Errorf("a warm agent knows %q", l)
		}
	}
}

func TestWarmInheritsNothing(t *testing.T) {
	needRoot(t)
	lab := fencetest.NewLab(t)
	f := mk(lab.Dir, lab.Device("a", "fds")).(*Fencer)
	f.Prepare(1)
	// 0 1 2, and 3 for the listing itself.
	if res := f.Fence(t.Context(), soon()); !res.OK || !strings.HasPrefix(res.Output, "0\n1\n2\n3\nSuccess:") {
		t.Errorf("descriptors: %q", res.Output)
	}
}

// A daemon's threads have real-time priority, and keep it when they fork: no agent has it.
func TestAgentsHaveNoRealTimePriority(t *testing.T) {
	needRoot(t)
	for _, warm := range []bool{false, true} {
		lab := fencetest.NewLab(t)
		f := mk(lab.Dir, lab.Device("a", "priority")).(*Fencer)
		t.Cleanup(func() { _ = f.Close() })
		realtimeHere(t, func() {
			if warm {
				f.Prepare(1)
				f.up(1)
			}
		})
		var res membership.FenceResult
		realtimeHere(t, func() { res = f.Fence(t.Context(), soon()) })
		var nice, priority, policy int
		if _, err := fmt.Sscan(res.Output, &nice, &priority, &policy); err != nil || !res.OK || priority != 0 || policy != unix.SCHED_NORMAL {
			t.Errorf("warm %v: nice %d, priority %d, policy %d: %v, %+v", warm, nice, priority, policy, err, res)
		}
		if warm && nice != agentNice { // the other one may ask before it has it
			t.Errorf("nice %d", nice)
		}
	}
}

// realtimeHere runs f while every thread of this process has real-time priority.
func realtimeHere(t *testing.T, f func()) {
	t.Helper()
	set := func(a unix.SchedAttr) {
		a.Size = unix.SizeofSchedAttr
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range tasks {
			tid, err := strconv.Atoi(x.Name())
			if err == nil {
				err = unix.SchedSetAttr(tid, &a, 0)
			}
			switch {
			case errors.Is(err, unix.EPERM):
				t.Skip("no real-time priority here")
			case err != nil && !errors.Is(err, unix.ESRCH):
				t.Fatal(err)
			}
		}
	}
	set(unix.SchedAttr{Policy: unix.SCHED_RR, Priority: 1})
	defer set(unix.SchedAttr{Policy: unix.SCHED_NORMAL})
	f()
}

func TestSkipVerifyHoldsOne(t *testing.T) {
	r := newRecorder(t)
	d := r.device(1)
	d.SkipVerify = true
	f := New(membership.Config{Devices: []membership.Device{d}})
	f.Prepare(1)
	if n := len(f.up(1)); n != 1 {
		t.Errorf("%d are held", n)
	}
	if res := f.Fence(t.Context(), soon()); !res.OK || len(r.lines("starts")) != 1 {
		t.Errorf("%+v, %d starts", res, len(r.lines("starts")))
	}
}

// ends are the ways in which nobody wants a warm agent any more.
func TestWarmEndsUntold(t *testing.T) {
	for name, end := range map[string]func(*Fencer){
		"release": func(f *Fencer) { f.Release(1) },
		"close":   func(f *Fencer) { _ = f.Close() },
		"release while it starts": func(f *Fencer) {
			f.Release(1)
			f.Prepare(1)
			f.Release(1)
		},
		"time": func(f *Fencer) {
			f.warmFor = time.Millisecond
			f.Prepare(1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecorder(t)
			f := r.fencer()
			f.Prepare(1)
			all := f.up(1)
			r.started(2)
			end(f)
			for _, h := range all {
				<-h.done
			}
			await(t, "the agents' death", func() bool { return !r.running() })
			if got := r.lines("read"); got != nil {
				t.Errorf("read %q", got)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.warm) != 0 {
				t.Errorf("still held: %v", f.warm)
			}
		})
	}
}

func TestPrepareKeepsItLonger(t *testing.T) {
	r := newRecorder(t)
	f := r.fencer(WithWarmFor(time.Hour))
	f.Prepare(1)
	s := f.warm[1]
	f.expire(1, s) // its timer had fired while Prepare was called again
	if len(f.up(1)) != 2 {
		t.Error("ended before its time")
	}
}

func TestClosedPreparesNothing(t *testing.T) {
	r := newRecorder(t)
	f := r.fencer()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f.Prepare(1)
	if f.warm[1] != nil {
		t.Error("prepared after Close")
	}
	if res := f.Fence(t.Context(), soon()); !res.OK || strings.Join(r.lines("read"), " ") != told {
		t.Errorf("%+v", res)
	}
}

func TestAtMostEightVictims(t *testing.T) {
	r := newRecorder(t)
	var devices []membership.Device
	for n := range membership.NodeID(maxWarm + 2) {
		devices = append(devices, r.device(n+1))
	}
	f := New(membership.Config{Devices: devices})
	for n := range membership.NodeID(maxWarm + 3) { // the last has no device
		f.Prepare(n + 1)
	}
	f.mu.Lock()
	n := len(f.warm)
	f.mu.Unlock()
	if n != maxWarm {
		t.Errorf("%d are held", n)
	}
	if err := f.Close(); err != nil || r.running() {
		t.Errorf("left behind, %v", err)
	}
}

// TestWarmEndsEarly: an agent that ends while it waits was not told anything, so
// its success is none; the next one is started cold.
func TestWarmEndsEarly(t *testing.T) {
	r := newRecorder(t)
	early := filepath.Join(r.dir, "early")
	if err := os.WriteFile(early, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	log := &transcript.Buffer{}
	f := r.fencer(WithLog(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	f.Prepare(1)
	all := f.up(1)
	for _, h := range all {
		<-h.done
	}
	await(t, "the log", func() bool { return strings.Count(log.String(), "level=DEBUG") == 2 })
	if err := os.Remove(early); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.warm[1] = &warmSet{held: slices.Clone(all), timer: time.NewTimer(time.Hour)} // as if nobody had noticed
	f.mu.Unlock()
	res := f.Fence(t.Context(), soon())
	if got := strings.Join(r.lines("read"), " "); !res.OK || got != told {
		t.Errorf("%+v, told %s", res, got)
	}
	if _, err := f.tell(t.Context(), all[0], "", bounds{}); err != errUntold {
		t.Errorf("told a dead one: %v", err)
	}
}

// TestWarmDeaf: an agent that leaves with success and does not read what it is to
// do has done nothing, though a child of it still holds its input.
func TestWarmDeaf(t *testing.T) {
	r := newRecorder(t)
	if err := os.WriteFile(filepath.Join(r.dir, "deaf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := r.fencer()
	f.Prepare(1)
	all := f.up(1)
	<-all[1].success
	for _, h := range all { // while it comes up, and when it is gone
		if res, err := f.tell(t.Context(), h, "plug=victim\n", bounds{}); err != errUntold {
			t.Errorf("%+v, %v", res, err)
		}
	}
}

// TestWarmKilledBySomebody: by the kernel's out-of-memory killer, say.
func TestWarmKilledBySomebody(t *testing.T) {
	r := newRecorder(t)
	f := r.fencer()
	f.Prepare(1)
	all := f.up(1)
	r.started(2)
	for _, h := range all {
		if err := syscall.Kill(h.program.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	res := f.Fence(t.Context(), soon())                                                                                                           // at once: it may still take them for alive
	if got := strings.Join(r.lines("read"), " "); !res.OK && !strings.Contains(res.Err, "killed by") || res.OK && !strings.HasSuffix(got, told) { // what a dead one had read does not count
		t.Errorf("%+v, told %s", res, got)
	}
}

func TestWarmIsNotOfAnOldProgram(t *testing.T) {
	r := newRecorder(t)
	f := r.fencer()
	f.Prepare(1)
	f.up(1)
	r.started(2)
	r.install()
	res := f.Fence(t.Context(), soon())
	if got := strings.Join(r.lines("read"), " "); !res.OK || got != told || len(r.lines("starts")) != 4 {
		t.Errorf("%+v, told %s, %d starts", res, got, len(r.lines("starts")))
	}
}

// TestWarmDeadline: nothing is told after it, and who was told while it passed is killed.
func TestWarmDeadline(t *testing.T) {
	for calls := range int32(2) {
		r := newRecorder(t)
		var left atomic.Int32
		left.Store(calls + 1) // start of the job, check before the first byte, then
		f := r.fencer(WithClock(func() membership.Mono {
			if left.Add(-1) < 0 {
				return 1000
			}
			return 1
		}))
		f.devices[1][0].Options["x"] = strings.Repeat("x", 60<<10) // it cannot be through when the clock is read again
		f.Prepare(1)
		f.up(1)
		r.started(2)
		res := f.Fence(t.Context(), membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: 500})
		if res.OK || !strings.Contains(res.Err, ErrDeadline.Error()) || r.running() {
			t.Errorf("%+v", res)
		}
		if got := r.lines("read"); calls == 0 && got != nil {
			t.Errorf("told %d lines", len(got))
		}
	}
}

// TestNoEndWithoutOptions: the daemon's end of the pipe is closed, as at its
// death, and the agent does not see it.
func TestNoEndWithoutOptions(t *testing.T) {
	r := newRecorder(t)
	f := r.fencer()
	f.Prepare(1)
	all := f.up(1)
	r.started(2)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for i, h := range all {
		if i == 0 {
			if _, err := h.in.WriteString("plug=victim\n"); err != nil { // it died while it wrote
				t.Fatal(err)
			}
		}
		for _, end := range []*os.File{h.in, h.life} {
			err := control(end, func(fd int) error { return unix.Dup3(int(null.Fd()), fd, unix.O_CLOEXEC) }) // closes it
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, h := range all {
		<-h.done // the holder has killed them
		if h.res.code != 128+int(syscall.SIGKILL) {
			t.Errorf("ended with %s", h.res.how())
		}
	}
	if got := strings.Join(r.lines("read"), " "); got != "plug=victim" {
		t.Errorf("read %q", got)
	}
}

// dieWarm is a daemon that holds agents until it is killed.
func dieWarm(dir string) {
	r := recorder{nil, dir}
	New(membership.Config{Devices: []membership.Device{r.device(1)}}).Prepare(1)
	if err := os.WriteFile(filepath.Join(dir, "prepared"), nil, 0o600); err != nil {
		panic(err)
	}
	time.Sleep(time.Hour)
}

// TestWarmDiesWithTheDaemon: killed while it holds agents or while it starts
// them, it never makes one act, not even without options.
func TestWarmDiesWithTheDaemon(t *testing.T) {
	for i := range 12 {
		r := newRecorder(t)
		cmd := exec.Command(os.Args[0], "die-warm", r.dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i < 4 {
			r.started(2)
		} else {
			await(t, "Prepare", func() bool { _, err := os.Stat(filepath.Join(r.dir, "prepared")); return err == nil })
			time.Sleep(time.Duration(i-4) * 300 * time.Microsecond) // some way into their start
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		await(t, "the agents' death", func() bool { return !r.running() })
		if got := r.lines("read"); got != nil {
			t.Fatalf("run %d: the agent read %q", i, got)
		}
	}
}
