package realtime

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Every thread but the runtime's monitor has it, those that are born later among
// them. Root alone may.
func TestThreads(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: real-time priority")
	}
	t.Cleanup(func() { each(t, func(tid int) { set(t, tid, unix.SchedAttr{Policy: unix.SCHED_NORMAL}) }) })
	if err := Threads(3); err != nil {
		t.Fatal(err)
	}
	own, end := make(chan int), make(chan struct{})
	go func() { // a thread that has asked for more
		runtime.LockOSThread()
		set(t, 0, unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 4})
		own <- unix.Gettid()
		<-end
	}()
	fifo := <-own
	defer close(end)
	if err := Threads(3); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan error)
	go func() { kept <- Keep(ctx, 3) }()
	var asleep sync.WaitGroup
	for range 12 { // the monitor makes threads for those that stay in a system call
		asleep.Go(func() {
			ts := unix.NsecToTimespec(int64(200 * time.Millisecond))
			_, _, _ = unix.Syscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
		})
	}
	asleep.Wait()
	for end := time.Now().Add(10 * time.Second); batch(t) > 1 && time.Now().Before(end); { // the monitor itself
		time.Sleep(50 * time.Millisecond)
	}
	cancel()
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	late := make(chan struct{})
	go func() { // a locked thread makes the runtime start another
		runtime.LockOSThread()
		close(late)
	}()
	<-late
	tids, err := threads()
	if err != nil {
		t.Fatal(err)
	}
	mon := monitor(tids, os.Getpid())
	each(t, func(tid int) {
		a, err := unix.SchedGetAttr(tid, 0)
		if err == unix.ESRCH {
			return
		}
		if tid == mon {
			if err != nil || a.Policy != unix.SCHED_BATCH {
				t.Errorf("monitor: %+v, %v", a, err)
			}
			return
		}
		if tid == fifo {
			if err != nil || a.Policy != unix.SCHED_FIFO || a.Priority != 4 {
				t.Errorf("own thread: %+v, %v", a, err)
			}
			return
		}
		if err != nil || a.Policy != unix.SCHED_RR || a.Priority != 3 {
			t.Errorf("thread %d: %+v, %v", tid, a, err)
		}
	})
}

// batch is how many threads have the monitor's priority.
func batch(t *testing.T) (n int) {
	each(t, func(tid int) {
		if a, err := unix.SchedGetAttr(tid, 0); err == nil && a.Policy == unix.SCHED_BATCH {
			n++
		}
	})
	return n
}

// It is the first thread of a program without the race detector, which has a thread
// of its own: there the test runs itself without.
func TestMonitor(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		out, err := exec.CommandContext(t.Context(), "go", "test", "-race=false", "-count=1", "-v", "-run=^TestMonitor$", ".").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestMonitor") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	tids, err := threads()
	if err != nil {
		t.Fatal(err)
	}
	mon := monitor(tids, os.Getpid())
	var wrong string
	for range 10 { // on a busy machine the monitor may not run for long, and others may
		wrong = ""
		for _, tid := range tids {
			if n := looks(t, tid); (n > 0) != (tid == mon) {
				wrong += fmt.Sprintf("thread %d of %v slept %d times in a busy program; the monitor should be %d\n", tid, tids, n, mon)
			}
		}
		if wrong == "" {
			return
		}
	}
	t.Error(wrong)
}

// looks counts how often a thread slept while every processor of the runtime was
// busy: only the monitor has anything to do then.
func looks(t *testing.T, tid int) uint64 {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	before := slept(t, tid)
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); { //nolint:revive // busy
	}
	return slept(t, tid) - before
}

func slept(t *testing.T, tid int) uint64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "\nvoluntary_ctxt_switches:")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMonitorAfterTheLastNumber(t *testing.T) {
	for _, c := range []struct{ pid, want int }{{100, 101}, {4194303, 301}} {
		if got := monitor([]int{c.want + 5, c.pid, c.want}, c.pid); got != c.want {
			t.Errorf("monitor of %d: %d", c.pid, got)
		}
	}
}

func set(t *testing.T, tid int, a unix.SchedAttr) {
	a.Size = unix.SizeofSchedAttr
	if err := unix.SchedSetAttr(tid, &a, 0); err != nil && err != unix.ESRCH {
		t.Error(err)
	}
}

func each(t *testing.T, f func(tid int)) {
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil || len(tasks) == 0 {
		t.Fatal(tasks, err)
	}
	for _, p := range tasks {
		tid, err := strconv.Atoi(filepath.Base(p))
		if err != nil {
			t.Fatal(err)
		}
		f(tid)
	}
}
