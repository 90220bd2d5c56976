package realtime

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Every thread has it, those that are born later among them. Root alone may.
func TestThreads(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: real-time priority")
	}
	t.Cleanup(func() { each(t, func(tid int) { set(t, tid, unix.SchedAttr{Policy: unix.SCHED_NORMAL}) }) })
	if err := Threads(3); err != nil {
		t.Fatal(err)
	}
	late := make(chan struct{})
	go func() { // a locked thread makes the runtime start another
		runtime.LockOSThread()
		close(late)
	}()
	<-late
	each(t, func(tid int) {
		a, err := unix.SchedGetAttr(tid, 0)
		if err == unix.ESRCH {
			return
		}
		if err != nil || a.Policy != unix.SCHED_RR || a.Priority != 3 {
			t.Errorf("thread %d: %+v, %v", tid, a, err)
		}
	})
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
