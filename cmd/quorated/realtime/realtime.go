// Package realtime gives a whole process real-time priority: a Go program's
// threads come and go, so it is not enough to ask for it once.
package realtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Threads gives every thread of this process a priority of SCHED_RR, 1 to 99.
// Threads that the runtime makes later inherit it from those that make them, and
// so do programs that it starts. The error of the kernel, EPERM where it is not
// allowed, is wrapped.
func Threads(priority uint32) error {
	done := map[string]bool{}
	for range 10 { // threads may be born meanwhile, of one that had not been reached
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list own threads: %w", err)
		}
		fresh := false
		for _, t := range tasks {
			if done[t.Name()] {
				continue
			}
			fresh, done[t.Name()] = true, true
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				return fmt.Errorf("thread %q: %w", t.Name(), err)
			}
			attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: priority}
			if err := unix.SchedSetAttr(tid, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("no real-time priority: %w", err)
			}
		}
		if !fresh {
			return nil
		}
	}
	return nil
}
