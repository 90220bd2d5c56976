package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/agent/launch"
)

// result is how a program ended.
type result struct {
	code    int // exit status; -1 when a signal ended it or it never ran
	signal  syscall.Signal
	output  []byte
	secrets []string // that it was given
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

// failed is the error of a run that ended with another status than wanted: how, and
// what the agent said last.
func (r result) failed() error {
	if out := lastLine(clean(r.output, r.secrets)); out != "" {
		return fmt.Errorf("%w: %s: %s", ErrFailed, r.how(), out)
	}
	return fmt.Errorf("%w: %s", ErrFailed, r.how())
}

// run runs one program to its end, started now. The error is nil when the
// program ended by itself, whatever its exit status.
func (f *Fencer) run(ctx context.Context, d *membership.Device, action string, nice int) (result, error) {
	return f.bounded(ctx, d, 0, func(ctx context.Context, path string, options map[string]string) (result, error) {
		return f.cold(ctx, path, stdin(options, action), bounds{}, nice)
	})
}

// runWarm is run, with a program that waits already if there is one.
func (f *Fencer) runWarm(ctx context.Context, d *membership.Device, action string, within bounds) (result, error) {
	return f.bounded(ctx, d, within.over, func(ctx context.Context, path string, options map[string]string) (result, error) {
		input := stdin(options, action)
		if h := f.take(ctx, d, path); h != nil {
			if r, err := f.tell(ctx, h, input, within); !errors.Is(err, errUntold) {
				return r, err
			}
		}
		return f.cold(ctx, path, input, within, agentNice)
	})
}

// bounded gives a run the device's timeout, or what is left until its time is over (0:
// it never is), and a name to what ended it.
func (f *Fencer) bounded(ctx context.Context, d *membership.Device, over membership.Mono, do func(context.Context, string, map[string]string) (result, error)) (result, error) {
	path, err := f.find(d.Agent)
	if err != nil {
		return result{code: -1}, err
	}
	limit, cause := d.Timeout, ErrTimeout
	if over != 0 {
		left := over.Sub(f.now())
		if left <= 0 {
			return result{code: -1}, ErrOver
		}
		if left < limit {
			limit, cause = left, ErrOver
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, cause)
	defer cancel()
	r := result{code: -1}
	given, err := options(ctx, d)
	if err == nil {
		r, err = do(ctx, path, given)
		r.secrets = secrets(given)
	}
	if err == nil || errors.Is(err, ErrDeadline) || errors.Is(err, ErrOver) || ctx.Err() == nil {
		return r, err
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrTimeout) && beyond(err):
		return r, fmt.Errorf("%w: after %s: %w", ErrTimeout, d.Timeout, err)
	case errors.Is(cause, ErrTimeout):
		return r, fmt.Errorf("%w: killed after %s: raise timeout of this [[fence]], or see why it hangs", ErrTimeout, d.Timeout)
	case errors.Is(cause, ErrOver):
		return r, fmt.Errorf("%w: killed after %s", ErrOver, limit.Round(time.Millisecond))
	}
	return r, fmt.Errorf("%w: %w", ErrCancelled, context.Cause(ctx))
}

// agentNice lets an agent go before ordinary programs: everybody waits for it.
// Nobody waits for one that only says whether it would work.
const (
	agentNice   = -10
	monitorNice = 10
)

// cold starts the program, and ends it with the context.
func (f *Fencer) cold(ctx context.Context, path, input string, within bounds, nice int) (result, error) {
	in, err := newInput(input)
	if err != nil {
		return result{code: -1}, err
	}
	defer in.close()
	r, err := f.execute(ctx, f.command(path, true, nice), in, within)
	if noNamespace(err) { // the process group must do
		r, err = f.execute(ctx, f.command(path, false, nice), in, within)
	}
	if err == nil && (r.code == 0 || r.code == 2) && !in.wasRead() { // success, or off
		err = ErrDeaf
	}
	return r, err
}

func (f *Fencer) execute(ctx context.Context, s launch.Spec, in *input, within bounds) (result, error) {
	p, err := f.start(s, in.r, nil, &tail{max: maxCapture}, within)
	if err != nil {
		return result{code: -1}, err
	}
	kill := func() { p.Kill(true) }
	defer context.AfterFunc(ctx, kill)()
	p.executed(ctx)
	late := within.passed(f.now())
	if late != nil {
		kill()
	}
	r, err := p.wait(within)
	switch {
	case ctx.Err() != nil && beyond(err):
	case ctx.Err() != nil:
		err = ctx.Err()
	case late != nil: // killed: its status says nothing
		r, err = result{code: -1, output: r.output}, late
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

// bounds are when a program may be started: before start, the deadline, and before over,
// from when on it is killed as well. 0: no bound.
type bounds struct{ start, over membership.Mono }

// passed says which of them has.
func (b bounds) passed(now membership.Mono) error {
	switch {
	case b.over != 0 && now >= b.over:
		return ErrOver
	case b.start != 0 && now >= b.start:
		return ErrDeadline
	}
	return nil
}

// first is the earlier of them, and what it means that it has passed.
func (b bounds) first() (membership.Mono, error) {
	if b.over != 0 && (b.start == 0 || b.over <= b.start) {
		return b.over, ErrOver
	}
	return b.start, ErrDeadline
}

// later is for a program that comes after others, which may take so long: its deadline
// is later by that. When the time is over does not change.
func (b bounds) later(d time.Duration) bounds {
	if b.start != 0 {
		b.start = b.start.Add(d)
	}
	return b
}
