// Package realtime gives a whole process real-time priority: a Go program's
// threads come and go, so it is not enough to ask for it once.
package realtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Threads gives every thread of this process but one a priority of SCHED_RR, 1 to
// 99. Threads that the runtime makes later inherit it from those that make them, and
// so do programs that it starts. The error of the kernel, EPERM where it is not
// allowed, is wrapped.
//
// A thread that has asked for more by itself, with SCHED_FIFO, keeps that.
//
// The one is the runtime's monitor. Each time that the process wakes up it looks 50
// times, 20 us apart, whether anything is stuck; before everybody else it takes
// longer on a single processor than the work does. With SCHED_BATCH it has its fair
// share and interrupts nobody.
func Threads(priority uint32) error {
	done := map[int]bool{}
	for range 10 { // threads may be born meanwhile, of one that had not been reached
		tids, err := threads()
		if err != nil {
			return err
		}
		fresh := false
		monitor := monitor(tids, unix.Getpid())
		for _, tid := range tids {
			if done[tid] {
				continue
			}
			fresh, done[tid] = true, true
			if err := thread(tid, tid == monitor, priority); err != nil {
				return err
			}
		}
		if !fresh {
			return nil
		}
	}
	return nil
}

// thread gives one thread what it should have and has not.
func thread(tid int, monitor bool, priority uint32) error {
	want := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: priority}
	if monitor {
		want.Policy, want.Priority = unix.SCHED_BATCH, 0
	}
	if has, err := unix.SchedGetAttr(tid, 0); err == nil {
		if has.Policy == want.Policy && has.Priority == want.Priority || has.Policy == unix.SCHED_FIFO && has.Priority > priority {
			return nil
		}
	}
	if err := unix.SchedSetAttr(tid, &want, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("no real-time priority: %w", err)
	}
	return nil
}

// Keep calls Threads every second until ctx ends. The runtime's monitor makes threads,
// too, when one stays in a system call, and what it makes has its priority.
func Keep(ctx context.Context, priority uint32) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := Threads(priority); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func threads() (tids []int, err error) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, fmt.Errorf("list own threads: %w", err)
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return nil, fmt.Errorf("thread %q: %w", t.Name(), err)
		}
		tids = append(tids, tid)
	}
	return tids, nil
}

// monitor is the first thread that the runtime makes (runtime.main), and thread ids
// are given out in a circle (kernel/pid.c), so it is the next one after the process.
func monitor(tids []int, pid int) (next int) {
	for _, tid := range tids {
		if tid != pid && (next == 0 || uint32(tid-pid) < uint32(next-pid)) {
			next = tid
		}
	}
	return next
}
