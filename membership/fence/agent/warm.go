package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/membership"
)

const (
	maxWarm = 8   // victims
	untold  = 125 // exit status of holdScript when the agent ended before it had all of its options
)

// holdScript is the first process of a warm agent's pid namespace. Descriptors:
// 3 and 5 are the two ends of the agent's standard input, 4 is where the daemon
// writes. A relay copies 4 to 5 until a line that is a single dot, which no
// option can be. Only then does the agent see the end of its input. When the
// daemon dies, whose files are closed before the parent death signal goes out, the
// relay keeps that input open until the kernel has killed everything in here. It
// kills in the order of the process ids (kernel/pid_namespace.c,
// zap_pid_ns_processes), which is why the agent's process is the first; it becomes
// the agent when the relay is there to hold its input. A daemon that died before
// the signal was asked for is why the relay kills in the end. The status is the
// agent's if it lived until the relay was through.
const holdScript = `{
	read -r l <&3 || exit 1
	exec "$0" <&3 3<&-
} 4<&- 5>&- & a=$!
exec 3<&-
{
	echo ready
	while IFS= read -r l; do
		[ "$l" = . ] && exit 0
		printf '%s\n' "$l" || exit 1
	done
	sleep 2
	kill -KILL 0
} <&4 >&5 4<&- 5>&- & r=$!
exec 4<&- 5>&-
wait $a; s=$?
kill $r 2>/dev/null
wait $r 2>/dev/null || s=125
exit $s`

// errUntold: the warm agent was not told what to do, and is dead.
var errUntold = errors.New("the warm agent ended before it was told what to do")

// held is an agent that waits for its options.
type held struct {
	device  *membership.Device
	started chan struct{} // it runs, or done is about to be closed
	done    chan struct{} // it has been reaped
	out     *tail

	// Set before started is closed.
	path string
	file os.FileInfo
	in   *os.File // closed by its goroutine, after its death

	mu      sync.Mutex
	pid     int // of the first process in its namespace; 0 when it does not run
	stopped bool

	// Set before done is closed.
	res result
	err error
}

// warmSet is what is held for one victim.
type warmSet struct {
	held  []*held
	until time.Time
	timer *time.Timer
}

// Prepare starts the agents of the victim's first level and tells them nothing:
// they wait for their options, so that a Fence that comes soon need not wait for
// them. It never blocks, and may be called often: what is missing is started, and
// all of it is kept for another WithWarmFor. It does nothing where there is no pid
// namespace to hold them in, and for more than 8 victims at a time.
func (f *Fencer) Prepare(victim membership.NodeID) {
	levels := f.levels(victim)
	if len(levels) == 0 || f.warmFor <= 0 || os.Geteuid() != 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.warm[victim]
	until := time.Now().Add(f.warmFor) // before the timer starts, which must not fire earlier
	switch {
	case f.closed:
		return
	case s == nil && len(f.warm) >= maxWarm:
		f.log.Debug("no more warm fence agents", "victim", victim, "limit", maxWarm)
		return
	case s == nil:
		s = &warmSet{}
		s.timer = time.AfterFunc(f.warmFor, func() { f.expire(victim, s) })
		f.warm[victim] = s
	default:
		s.timer.Reset(f.warmFor)
	}
	s.until = until
	for i := range levels[0] {
		d := &levels[0][i]
		for n := s.count(d); n < runs(d); n++ {
			h := &held{device: d, started: make(chan struct{}), done: make(chan struct{}), out: &tail{max: maxCapture}}
			s.held = append(s.held, h)
			f.joined.Go(func() { f.hold(h) })
		}
	}
}

// runs is how often a fencing that goes well runs the device's agent.
func runs(d *membership.Device) int {
	if asked(d) {
		return 2
	}
	return 1
}

func (s *warmSet) count(d *membership.Device) (n int) {
	for _, h := range s.held {
		if h.device == d {
			n++
		}
	}
	return n
}

// Release ends what Prepare started for the victim. It does not wait for it.
func (f *Fencer) Release(victim membership.NodeID) { f.drop(victim) }

// Close ends everything that waits, and returns when it is gone. Prepare does
// nothing from then on; Fence starts its agents when it needs them.
func (f *Fencer) Close() error {
	f.mu.Lock()
	f.closed = true
	for v := range f.warm {
		f.dropLocked(v)
	}
	f.mu.Unlock()
	f.joined.Wait()
	return nil
}

func (f *Fencer) drop(victim membership.NodeID) []*held {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dropLocked(victim)
}

func (f *Fencer) dropLocked(victim membership.NodeID) []*held {
	s := f.warm[victim]
	if s == nil {
		return nil
	}
	delete(f.warm, victim)
	s.timer.Stop()
	for _, h := range s.held {
		h.stop()
	}
	return s.held
}

func (f *Fencer) expire(victim membership.NodeID, s *warmSet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.warm[victim] == s && !time.Now().Before(s.until) {
		f.dropLocked(victim)
	}
}

// lost forgets an agent that ended while it was waiting.
func (f *Fencer) lost(h *held) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for victim, s := range f.warm {
		i := slices.Index(s.held, h)
		if i < 0 {
			continue
		}
		if s.held = slices.Delete(s.held, i, i+1); len(s.held) == 0 {
			f.dropLocked(victim)
		}
		f.log.Debug("a fence agent ended while it was waiting: the next fencing starts it anew", slog.Any("victim", victim),
			"agent", filepath.Base(h.device.Agent), "err", h.err, "output", lastLine(clean(h.res.output, secrets(h.device.Options))))
	}
}

// hold is the life of one agent. Its thread is locked, see run.
func (f *Fencer) hold(h *held) {
	ordinary()
	cmd, err := f.launch(h)
	close(h.started)
	if err != nil {
		h.err = err
	} else {
		awaitExit(cmd.Process.Pid)
		h.mu.Lock()
		h.pid = 0
		h.mu.Unlock()
		h.res, h.err = reap(cmd, h.out)
		_ = h.in.Close() // nobody reads it any more
	}
	close(h.done)
	f.lost(h)
}

// launch starts the agent, unless it was stopped before.
func (f *Fencer) launch(h *held) (cmd *exec.Cmd, err error) {
	if h.path, err = f.find(h.device.Agent); err != nil {
		return nil, err
	}
	if h.file, err = os.Stat(h.path); err != nil {
		return nil, err
	}
	agentEnd, relayEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer agentEnd.Close()
	defer relayEnd.Close()
	orders, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer orders.Close()
	cmd = command(context.Background(), h.path, nil, h.out, true)
	cmd.Args = []string{"/bin/sh", "-c", holdScript, h.path}
	cmd.ExtraFiles = []*os.File{agentEnd, orders, relayEnd}
	if h.isStopped() {
		err = ErrCancelled
	} else {
		err = f.start(cmd, 0)
	}
	if err != nil {
		in.Close()
		return nil, err
	}
	h.in = in
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pid = cmd.Process.Pid
	if h.stopped {
		h.killLocked()
	}
	return cmd, nil
}

func (h *held) isStopped() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stopped
}

// stop kills it, now or as soon as it runs. Its input is still open then.
func (h *held) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	h.killLocked()
}

// killLocked kills the first process of the namespace, and so the kernel kills
// the others in the order that holdScript counts on; the group is in no order.
func (h *held) killLocked() {
	if h.pid != 0 {
		_ = syscall.Kill(h.pid, syscall.SIGKILL) // not reaped yet: cannot fail
	}
}

// take returns a living agent of the device that waits, or nil.
func (f *Fencer) take(ctx context.Context, d *membership.Device, path string) *held {
	for {
		h := f.pop(d)
		if h == nil {
			return nil
		}
		select {
		case <-h.started:
		case <-ctx.Done():
		}
		if ctx.Err() == nil && h.fresh(path) {
			return h
		}
		h.stop()
		<-h.done
	}
}

func (f *Fencer) pop(d *membership.Device) *held {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.warm {
		if i := slices.IndexFunc(s.held, func(h *held) bool { return h.device == d }); i >= 0 {
			h := s.held[i]
			s.held = slices.Delete(s.held, i, i+1)
			return h
		}
	}
	return nil
}

// fresh says that it lives and is the program that is installed now.
func (h *held) fresh(path string) bool {
	select {
	case <-h.done:
		return false
	default:
	}
	now, err := os.Stat(path)
	return err == nil && h.in != nil && h.path == path && os.SameFile(now, h.file) && now.ModTime().Equal(h.file.ModTime()) && now.Size() == h.file.Size()
}

// tell gives a warm agent its options. The deadline is checked just before the
// first byte of them, and again when all are written: that is the moment between
// the check and exec of a cold start. It returns when the agent is dead.
func (f *Fencer) tell(ctx context.Context, h *held, input string, deadline membership.Mono) (result, error) {
	defer context.AfterFunc(ctx, h.stop)()
	if f.late(deadline) {
		h.stop()
		<-h.done
		return result{code: -1}, ErrDeadline
	}
	n, err := h.in.WriteString(input + ".\n")
	late := f.late(deadline)
	if err != nil || late {
		h.stop()
	}
	<-h.done
	switch {
	case ctx.Err() != nil:
		return h.res, ctx.Err()
	case late:
		return result{code: -1, output: h.res.output}, ErrDeadline
	case err != nil && n == 0, h.err == nil && h.res.code == untold:
		return result{code: -1}, errUntold
	case err != nil:
		return h.res, fmt.Errorf("%w: it ended while its options were written: %w", ErrFailed, err)
	}
	return h.res, h.err
}
