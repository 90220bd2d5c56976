package main

import (
	"errors"
	"os/exec"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// children are the commands that somebody waits for. As process 1, labnode gets
// every orphan of the node as well, and must bury those, but not these.
var children struct {
	mu   sync.Mutex
	ours map[int]bool
}

// start starts a command that wait will be called for.
func start(c *exec.Cmd) error {
	children.mu.Lock()
	defer children.mu.Unlock()
	err := c.Start()
	if err == nil {
		if children.ours == nil {
			children.ours = map[int]bool{}
		}
		children.ours[c.Process.Pid] = true
	}
	return err
}

// wait waits for a command of start.
func wait(c *exec.Cmd) error {
	err := c.Wait()
	children.mu.Lock()
	defer children.mu.Unlock()
	delete(children.ours, c.Process.Pid)
	return err
}

// reap buries orphans for ever.
func reap() {
	for {
		pid, err := peekZombie()
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || !bury(pid):
			time.Sleep(10 * time.Millisecond) // no child, or wait is about to bury it
		}
	}
}

// peekZombie waits for a child to end and leaves it to be waited for.
func peekZombie() (pid int, err error) {
	// The kernel's siginfo_t has si_pid behind three ints and padding.
	var si struct {
		head [4]int32
		pid  int32
		rest [27]int32
	}
	err = unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&si)), unix.WEXITED|unix.WNOWAIT, nil)
	return int(si.pid), err
}

func bury(pid int) bool {
	children.mu.Lock()
	defer children.mu.Unlock()
	if children.ours[pid] {
		return false
	}
	_, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
	return err == nil
}
