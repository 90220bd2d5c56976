package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tracer counts the fsyncs of a daemon from when it returns until the function that it
// returned is called.
type tracer func(ctx context.Context, pids []int) (stop func() (int, error), err error)

// straced counts with strace, which inherits bench's priority.
func straced(ctx context.Context, pids []int) (func() (int, error), error) {
	dir, err := os.MkdirTemp("", "quorate-bench-")
	if err != nil {
		return nil, err
	}
	out := filepath.Join(dir, "calls")
	args := []string{"-f", "-q", "-e", "trace=fsync,fdatasync", "-e", "signal=none", "-o", out}
	for _, p := range pids {
		args = append(args, "-p", strconv.Itoa(p))
	}
	var words strings.Builder
	c := exec.Command("strace", args...)
	c.Stderr = &words
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours
	c.WaitDelay = time.Second                           // for who else holds its standard error
	if err := c.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: install the package strace, or run with -fsyncs=false", err), os.RemoveAll(dir))
	}
	detach := func() (int, error) {
		_ = c.Process.Signal(os.Interrupt) // it detaches; if it has ended, Wait says so
		_ = c.Wait()                       // ended by the signal
		// One that has only just begun leaves the child behind with which it tries
		// what the kernel can do.
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		data, err := os.ReadFile(out)
		if err != nil {
			err = fmt.Errorf("strace: %w: %s", err, strings.TrimSpace(words.String()))
		}
		return countSyncs(data), errors.Join(err, os.RemoveAll(dir))
	}
	err = until(ctx, 10*time.Second, func(context.Context) error { return allTraced(pids) })
	if err != nil {
		_, derr := detach()
		return nil, errors.Join(err, derr)
	}
	return detach, nil
}

func allTraced(pids []int) error {
	for _, p := range pids {
		if ok, err := traced(p); err != nil || !ok {
			return errors.Join(fmt.Errorf("strace does not trace process %d", p), err)
		}
	}
	return nil
}
