package agent

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/agent/launch"
	"github.com/quorate/quorate/membership/fence/fencetest"
)

// lease copies a program whose exec takes as long as /proc/sys/fs/lease-break-time.
func lease(t *testing.T, path string) string {
	t.Helper()
	from, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to := filepath.Join(t.TempDir(), "hangs")
	f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, from); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err = os.Open(to); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases on this file system: %v", err)
	}
	return to
}

// launcherPID is that of the launcher that runs.
func launcherPID(t *testing.T) int {
	t.Helper()
	if err := StartLauncher(); err != nil {
		t.Fatal(err)
	}
	var of []proc
	await(t, "the launcher", func() bool { // it may be about to execute its program
		of = slices.DeleteFunc(children(t, os.Getpid()), func(p proc) bool { return !strings.HasPrefix(p.args, launch.Name) })
		return len(of) > 0
	})
	return of[0].pid
}

// TestAnExecThatHangs: while the program of an agent is not to be had, the daemon goes
// on, collects garbage and starts other agents; and that one ends with its timeout.
func TestAnExecThatHangs(t *testing.T) {
	needRoot(t)
	lab := fencetest.NewLab(t)
	d := lab.Device("a", "ok")
	d.Timeout = 4 * time.Second
	f := mk(lab.Dir, d).(*Fencer)
	f.shell = lease(t, f.shell)
	begin, res := time.Now(), make(chan membership.FenceResult, 1)
	go func() { res <- f.Fence(t.Context(), soon()) }()
	await(t, "the exec that hangs", func() bool {
		of := children(t, launcherPID(t))
		return len(of) == 1 && strings.HasPrefix(of[0].args, launch.Name) // not executed yet
	})

	start := time.Now()
	for range 10 {
		runtime.GC()
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("10 collections of garbage took %v", took)
	}
	start = time.Now()
	if other := fence(t, lab, lab.Device("b", "ok")); !other.OK {
		t.Errorf("another agent: %+v", other)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("another agent took %v", took)
	}
	select {
	case r := <-res:
		t.Fatalf("nothing hung: %+v", r)
	default:
	}
	if r := <-res; r.OK || !strings.Contains(r.Err, ErrTimeout.Error()) {
		t.Errorf("%+v", r)
	}
	if took := time.Since(begin); took > d.Timeout+2*time.Second {
		t.Errorf("it ended after %v", took)
	}
	if of := children(t, launcherPID(t)); len(of) != 0 {
		t.Errorf("left: %v", of)
	}
}

// TestAWarmAgentWhoseExecHangs is not waited for when it is not needed any more.
func TestAWarmAgentWhoseExecHangs(t *testing.T) {
	needRoot(t)
	lab := fencetest.NewLab(t)
	f := mk(lab.Dir, lab.Device("a", "ok")).(*Fencer)
	f.shell = lease(t, f.shell)
	f.Prepare(1)
	await(t, "the execs that hang", func() bool { return len(children(t, launcherPID(t))) == 2 })
	begin := time.Now()
	if err := f.Close(); err != nil || time.Since(begin) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

// TestTheLauncherDies: what it ran is dead and has failed, and the next one runs.
func TestTheLauncherDies(t *testing.T) {
	needRoot(t)
	lab := fencetest.NewLab(t)
	for range 3 {
		res := make(chan membership.FenceResult, 1)
		d := lab.Device("a", "hang")
		go func() { res <- mk(lab.Dir, d).Fence(t.Context(), soon()) }()
		await(t, "the agent", func() bool { return len(lab.Survivors()) > 0 })
		if err := syscall.Kill(launcherPID(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if r := <-res; r.OK || !strings.Contains(r.Err, launch.ErrGone.Error()) || !strings.Contains(r.Err, "killed by killed") {
			t.Errorf("%+v", r)
		}
		await(t, "the agent's death", func() bool { return lab.Survivors() == nil })
		if r := fence(t, lab, lab.Device("b", "ok")); !r.OK {
			t.Errorf("the next one: %+v", r)
		}
	}
}

// That it died is said for an hour, and that there is none.
func TestItsDeathIsNoted(t *testing.T) {
	now := time.Now()
	d := launch.Deaths{Count: 2, Last: now.Add(-3 * time.Second), Why: "killed by killed"}
	if notes := launcherNotes(d, now); len(notes) != 1 || !strings.Contains(notes[0], "died (2 times, last 3s ago: killed by killed), and with it") || !strings.Contains(notes[0], "another runs;") {
		t.Errorf("%q", notes)
	}
	d.None = true
	if notes := launcherNotes(d, now); len(notes) != 1 || !strings.Contains(notes[0], "another runs in a while, or when it is needed;") {
		t.Errorf("%q", notes)
	}
	if notes := slices.Concat(launcherNotes(d, now.Add(time.Hour)), launcherNotes(launch.Deaths{}, now)); len(notes) != 0 {
		t.Errorf("%q", notes)
	}
	before := launcher.Deaths().Count
	if err := syscall.Kill(launcherPID(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "its death", func() bool { return launcher.Deaths().Count > before })
	if notes := LauncherNotes(); len(notes) != 1 || !strings.Contains(notes[0], "killed by killed") {
		t.Errorf("%q", notes)
	}
}

// TestTheLauncherStandsStill: nobody waits for it, and another takes its place.
func TestTheLauncherStandsStill(t *testing.T) {
	lab := fencetest.NewLab(t)
	if err := syscall.Kill(launcherPID(t), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	d := lab.Device("a", "ok")
	d.Timeout = 300 * time.Millisecond
	begin := time.Now()
	if r := fence(t, lab, d); r.OK || !strings.Contains(r.Err, ErrTimeout.Error()) || !strings.Contains(r.Err, launch.ErrGone.Error()) || time.Since(begin) > 10*time.Second {
		t.Errorf("%+v after %v", r, time.Since(begin))
	}
	if r := fence(t, lab, lab.Device("b", "ok")); !r.OK || strings.Join(lab.Log(), ",") != "off b,status b" {
		t.Errorf("the next one: %+v, asked %v", r, lab.Log())
	}
}
