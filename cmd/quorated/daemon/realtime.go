package daemon

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	priority  = 10  // SCHED_RR, below the prober's threads
	gcPercent = 400 // a small heap that is collected seldom: pauses cost more here than memory
)

// realtime gives every thread of the process real-time priority, as a daemon
// whose silence gets its machine fenced must have. Threads that the runtime
// makes later inherit it from those that make them. So do programs that it
// starts: membership/fence/agent takes it from them again.
func realtime() error {
	debug.SetGCPercent(gcPercent)
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
			if err := unix.SchedSetAttr(tid, &attr, 0); err != nil && err != unix.ESRCH {
				return fmt.Errorf("no real-time priority (%w): a busy machine will look slow to its peers; give the unit CAP_SYS_NICE or LimitRTPRIO=%d", err, priority)
			}
		}
		if !fresh {
			return nil
		}
	}
	return nil
}
