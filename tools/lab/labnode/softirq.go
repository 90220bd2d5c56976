package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// softirqs gives the kernel's thread for interrupts that were put off the lowest real-time
// priority. A node of User-Mode Linux has one processor and a kernel that does not preempt
// itself: with the threads of DLM and GFS2 before it in the queue nothing that comes over the
// network is looked at for 40 ms and more, while all programs run.
func softirqs(params) error {
	threads, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	var errs []error
	for _, comm := range threads {
		b, err := os.ReadFile(comm)
		if err != nil || !bytes.HasPrefix(b, []byte("ksoftirqd/")) {
			continue // it may have ended
		}
		var pid int
		if _, err := fmt.Sscanf(comm, "/proc/%d/", &pid); err != nil {
			return err
		}
		a := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
		errs = append(errs, unix.SchedSetAttr(pid, &a, 0))
	}
	return errors.Join(errs...)
}
