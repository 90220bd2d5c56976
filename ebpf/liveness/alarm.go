package liveness

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// Alarm is what notices that a peer's answer does not come.
type Alarm string

// The kinds: a timer of the program's for each peer and link, which every answer winds up
// again, and one timer of this process's, for the earliest of them.
const (
	Timer   Alarm = "bpf timer"
	TimerFD Alarm = "timerfd"
)

// Alarm says what Watch waits for, and why not for a bpf timer.
func (r *Reflector) Alarm() (a Alarm, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why != "" {
		return TimerFD, r.why
	}
	return Timer, ""
}

// untimed says in one line why there are no timers.
func untimed(err error) string {
	switch {
	case err == nil:
		return ""
	case strings.Contains(err.Error(), "non-JITed"): // kernel/bpf/verifier.c, fixup_call_args
		return "this kernel runs BPF programs without a JIT, and has no timers for them"
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return "bpf timers do not work on this kernel: " + line
}

// priority is of the thread that waits, SCHED_FIFO: above those of a daemon that has been
// starved, which it is to wake.
const priority = 11

// Watch tells of every peer and link whose newest stamped answer has become Config.Silent
// old: once for each such answer, as soon as that is so, on a thread of its own. tell must
// not block, nor call this Reflector, which may be locked meanwhile. What has not been
// stamped since the configuration is nobody's silence. Watch ends with ctx, before Close is
// called.
//
// What fell silent in this run while nobody watched is told of when Watch begins, by bpf
// timers if the record was not lost. A change of Config.Silent counts for them from a
// peer's next answer; the timerfd takes it at its next look.
func (r *Reflector) Watch(ctx context.Context, tell func(probe.Silence)) error {
	r.mu.Lock()
	o, err := r.obj, r.open()
	r.mu.Unlock()
	if err != nil {
		return err
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here, with its priority
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}
		if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
			r.log.Warn("a peer's silence may be noticed late on a busy machine: give the unit CAP_SYS_NICE or LimitRTPRIO=11", "err", err)
		}
		if o.Timed != nil {
			done <- r.readSilences(ctx, o, tell)
		} else {
			done <- r.waitSilences(ctx, tell)
		}
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("reflector: silence: %w", err)
	}
	return nil
}

// readSilences waits for the program's own timers.
func (r *Reflector) readSilences(ctx context.Context, o *objects, tell func(probe.Silence)) error {
	rd, err := ringbuf.NewReader(o.Silences)
	if err != nil {
		return err
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = rd.Close()
		close(closed)
	})
	defer func() {
		if !stop() {
			<-closed // it unmaps the ring
		}
	}()
	rec := ringbuf.Record{RawSample: make([]byte, 0, 64)}
	for {
		if err := rd.ReadInto(&rec); err != nil {
			if errors.Is(err, os.ErrClosed) {
				return nil
			}
			return errors.Join(err, rd.Close())
		}
		r.heed(rec.RawSample, tell)
	}
}

// early is by how much a record may come before its time: the program and its timers read
// the same clock by different ways.
const early = time.Millisecond

// heed tells of a record that is still true. One that is not was of an earlier run, or of
// an earlier time to be silent, or an answer has come since.
func (r *Reflector) heed(record []byte, tell func(probe.Silence)) {
	v, ok := parseSilence(record)
	s := probe.Silence{Peer: membership.NodeID(v.Node), Link: int(v.Link), Since: membership.Mono(v.At)}
	silent := r.silent()
	due := s.Since.Add(silent)
	if !ok || s.Since == 0 || silent == 0 || r.Last(s.Peer, s.Link).At != s.Since || due.Sub(boottime()) > early {
		return
	}
	for boottime() < due { //nolint:revive // microseconds
	}
	tell(s)
}

func (r *Reflector) silent() time.Duration {
	r.page.Lock()
	defer r.page.Unlock()
	if r.own == nil {
		return 0
	}
	return r.own.silent()
}

// silent is Config.Silent, as the program has it.
func (o *objects) silent() time.Duration {
	return time.Duration(min(atomic.LoadUint64(&o.self.Silent), math.MaxInt64))
}

// waitSilences looks at the stamps whenever one may have become too old.
func (r *Reflector) waitSilences(ctx context.Context, tell func(probe.Silence)) error {
	timer, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	defer func() { _ = unix.Close(timer) }()
	end, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_, _ = unix.Write(end, []byte{1, 0, 0, 0, 0, 0, 0, 1})
		close(ended)
	})
	defer func() {
		if !stop() {
			<-ended
		}
		_ = unix.Close(end)
	}()
	told := make([]membership.Mono, maxPeers)
	wait := []unix.PollFd{{Fd: int32(timer), Events: unix.POLLIN}, {Fd: int32(end), Events: unix.POLLIN}}
	for ctx.Err() == nil {
		next := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(r.overdue(boottime(), told, tell)))}
		if err := unix.TimerfdSettime(timer, unix.TFD_TIMER_ABSTIME, &next, nil); err != nil {
			return fmt.Errorf("timerfd: %w", err)
		}
		if _, err := unix.Poll(wait, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
	}
	return nil
}

// idle is when to look again where nobody is waited for.
const idle = time.Second

// overdue tells of those whose answer is too old and was not told of, and says when the
// next may be: an answer that comes from now on is not too old before that either.
func (r *Reflector) overdue(now membership.Mono, told []membership.Mono, tell func(probe.Silence)) membership.Mono {
	r.page.Lock()
	defer r.page.Unlock()
	if r.own == nil {
		return now.Add(idle)
	}
	silent := r.own.silent()
	if silent == 0 {
		return now.Add(idle)
	}
	next := now.Add(silent)
	for k, slot := range *r.own.slots.Load() {
		a := r.own.last(k)
		if due := a.At.Add(silent); due > now {
			next = min(next, due)
		} else if a.At != 0 && told[slot] != a.At {
			told[slot] = a.At
			tell(probe.Silence{Peer: membership.NodeID(k.Node), Link: int(k.Link), Since: a.At})
		}
	}
	return next
}
