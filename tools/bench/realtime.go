package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// priority is below the daemons' and above all ordinary programs': bench has to read
// a view when it is told, and strace must not keep a daemon waiting.
const priority = 5

// realtime gives every thread of this process that priority. Threads and programs
// that these start later inherit it; a daemon then chooses its own.
func realtime() error {
	done := map[string]bool{}
	for fresh := true; fresh; { // a thread may be born of one that had not been reached
		fresh = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list own threads: %w", err)
		}
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
				return fmt.Errorf("no real-time priority (%w): on a busy machine views are read late", err)
			}
		}
	}
	return nil
}
