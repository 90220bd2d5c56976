package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
)

// result is how a program ended.
type result struct {
	code   int // exit status; -1 when a signal ended it or it never ran
	signal syscall.Signal
	output []byte
}

func (r result) how() string {
	switch {
	case r.signal != 0:
		return "killed by " + r.signal.String()
	case r.code == 126, r.code == 127:
		return fmt.Sprintf("exit status %d: it cannot be executed, see that its interpreter is installed", r.code)
	case r.code > 128 && r.code < 128+65: // as the shell says it
		return "killed by " + syscall.Signal(r.code-128).String()
	}
	return fmt.Sprintf("exit status %d", r.code)
}

// run runs one program to its end, started now. deadline 0: none. The error is
// nil when the program ended by itself, whatever its exit status.
func (f *Fencer) run(ctx context.Context, d *membership.Device, action string, deadline membership.Mono) (result, error) {
	return f.bounded(ctx, d, func(ctx context.Context, path string) (result, error) {
		return f.cold(ctx, path, stdin(d.Options, action), deadline)
	})
}

// runWarm is run, with a program that waits already if there is one.
func (f *Fencer) runWarm(ctx context.Context, d *membership.Device, action string, deadline membership.Mono) (result, error) {
	return f.bounded(ctx, d, func(ctx context.Context, path string) (result, error) {
		input := stdin(d.Options, action)
		if h := f.take(ctx, d, path); h != nil {
			if r, err := f.tell(ctx, h, input, deadline); !errors.Is(err, errUntold) {
				return r, err
			}
		}
		return f.cold(ctx, path, input, deadline)
	})
}

// bounded gives a run the device's timeout and a name to what ended it.
func (f *Fencer) bounded(ctx context.Context, d *membership.Device, do func(context.Context, string) (result, error)) (result, error) {
	path, err := f.find(d.Agent)
	if err != nil {
		return result{code: -1}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.Timeout, ErrTimeout)
	defer cancel()
	r, err := do(ctx, path)
	if err == nil || errors.Is(err, ErrDeadline) || ctx.Err() == nil {
		return r, err
	}
	if errors.Is(context.Cause(ctx), ErrTimeout) {
		return r, fmt.Errorf("%w: killed after %s: raise timeout of this [[fence]], or see why it hangs", ErrTimeout, d.Timeout)
	}
	return r, fmt.Errorf("%w: %w", ErrCancelled, context.Cause(ctx))
}

// cold starts the program.
//
// Linux sends the parent death signal when the thread that forked ends, not the
// process. So the thread is locked until the program has ended.
func (f *Fencer) cold(ctx context.Context, path, input string, deadline membership.Mono) (result, error) {
	type outcome struct {
		result
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		ordinary()
		r, err := f.execute(ctx, path, input, deadline)
		done <- outcome{r, err}
	}()
	o := <-done
	return o.result, o.err
}

// ordinary binds the goroutine to a thread, which ends with it, and takes from
// that the real-time priority that a daemon's threads may have: what it forks
// must not run before the daemon itself.
func ordinary() {
	runtime.LockOSThread()
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: agentNice}
	if unix.SchedSetAttr(0, &attr, 0) != nil { // not ours to be so nice: then as it comes
		attr.Nice = 0
		_ = unix.SchedSetAttr(0, &attr, 0) // without real-time priority there is nothing to take
	}
}

// agentNice lets an agent go before ordinary programs: everybody waits for it.
const agentNice = -10

func (f *Fencer) execute(ctx context.Context, path, input string, deadline membership.Mono) (result, error) {
	out := &tail{max: maxCapture}
	in, err := newInput(input)
	if err != nil {
		return result{code: -1}, err
	}
	defer in.close()
	cmd := command(ctx, path, in.r, out, true)
	err = f.start(cmd, deadline)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSPC) {
		// No pid namespace here: the process group must do.
		cmd = command(ctx, path, in.r, out, false)
		err = f.start(cmd, deadline)
	}
	if err != nil {
		return result{code: -1}, err
	}
	if f.late(deadline) {
		_ = kill(cmd)
		_ = cmd.Wait() // killed: its status says nothing
		return result{code: -1, output: out.bytes()}, ErrDeadline
	}
	awaitExit(cmd.Process.Pid)
	r, err := reap(cmd, out)
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil && (r.code == 0 || r.code == 2) && !in.wasRead(): // success, or off
		err = ErrDeaf
	}
	return r, err
}

// input is what a program reads, through a pipe of which this end stays open, so
// that the kernel can say how much of it was not read.
type input struct {
	r    *os.File
	done chan error // of writing it; closed after
}

func newInput(text string) (*input, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	in := &input{r: r, done: make(chan error, 1)}
	go func() { // a pipe holds 64 KiB; what is longer waits for the reader
		_, err := w.WriteString(text)
		in.done <- errors.Join(err, w.Close())
		close(in.done)
	}()
	return in, nil
}

// wasRead says whether all of it was read; nobody must read any more.
func (in *input) wasRead() bool {
	left, err := unix.IoctlGetInt(int(in.r.Fd()), unix.TIOCINQ)
	return err == nil && left == 0 && in.close() == nil
}

// close ends it, and says whether all of it had found its way into the pipe.
func (in *input) close() error {
	_ = in.r.Close() // the writer ends with EPIPE, if it has not ended
	return <-in.done
}

// reap collects a program that has ended.
func reap(cmd *exec.Cmd, out *tail) (result, error) {
	_ = kill(cmd) // what is left of its group, while the number is surely ours
	err := cmd.Wait()
	r := result{code: cmd.ProcessState.ExitCode(), output: out.bytes()}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		r.signal = ws.Signal()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) || errors.Is(err, exec.ErrWaitDelay) || errors.Is(err, syscall.EPIPE) {
		err = nil
	}
	return r, err
}

// awaitExit returns when the process has ended and does not reap it.
func awaitExit(pid int) {
	for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), syscall.EINTR) {
	}
}

func (f *Fencer) late(deadline membership.Mono) bool { return deadline != 0 && f.now() >= deadline }

// start is the moment between the check of the deadline and exec.
func (f *Fencer) start(cmd *exec.Cmd, deadline membership.Mono) error {
	// What this process inherited itself without O_CLOEXEC goes no further.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) // Linux 5.11; all of our own have it anyway
	if f.late(deadline) {
		return ErrDeadline
	}
	return cmd.Start()
}

func command(ctx context.Context, path string, input io.Reader, out io.Writer, namespace bool) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path)
	namespace = namespace && os.Geteuid() == 0
	if namespace {
		// The first process of a namespace ignores signals that it does not
		// handle, which agents do not expect. So a shell is the first.
		cmd = exec.CommandContext(ctx, "/bin/sh", "-c", `"$0"; exit $?`, path)
	}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.Stdin = input
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second // something else may hold its output open
	cmd.Cancel = func() error { return kill(cmd) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if namespace {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	}
	return cmd
}

// kill ends the program's process group; with a pid namespace the kernel ends
// everything else in it too.
func kill(cmd *exec.Cmd) error {
	err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}
