package udp

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

const (
	openRetry = time.Second
	// slots is over how many moments of an interval the probes are spread. More
	// would not help the network, and each one costs a wake-up here and there.
	slots = 4
	// batch bounds what is read of one socket before the others get a turn.
	batch = 64
)

// realtime binds the calling goroutine to its thread and asks for SCHED_FIFO.
// The thread is not given back: it ends with the goroutine.
func (p *Prober) realtime(what string) {
	runtime.LockOSThread()
	if p.opt.Priority < 0 {
		return
	}
	attr := unix.SchedAttr{
		Size:     unix.SizeofSchedAttr,
		Policy:   unix.SCHED_FIFO,
		Flags:    unix.SCHED_FLAG_RESET_ON_FORK,
		Priority: uint32(p.opt.Priority),
	}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		p.warn(what, "the probes' %s has no real-time priority (%v), so a busy machine looks slow: give the unit CAP_SYS_NICE or LimitRTPRIO=%d", what, err, p.opt.Priority)
	}
}

// sendLoop sends each target its probe once an interval, spread over it.
func (p *Prober) sendLoop(stop int) {
	p.realtime("sender")
	fds := []unix.PollFd{{Fd: int32(stop), Events: unix.POLLIN}}
	due := make([]membership.Mono, len(p.targets))
	start := now()
	for i := range due {
		due[i] = start.Add(offset(i, len(due), p.opt.Interval))
	}
	var buf [probe.Size]byte
	for {
		at := now()
		next := at.Add(time.Second)
		for i, t := range p.targets {
			if due[i] <= at {
				at = now()
				p.sendProbe(t, at, &buf)
				due[i] = following(due[i], at, p.opt.Interval)
			}
			next = min(next, due[i])
		}
		if wait(fds, pause(now(), next)) && fds[0].Revents != 0 {
			return
		}
	}
}

// offset is when within an interval the i-th of n targets has its turn.
func offset(i, n int, interval time.Duration) time.Duration {
	return interval / slots * time.Duration(i*slots/n)
}

// pause is how long to wait until next; not at all when that has passed.
func pause(now, next membership.Mono) time.Duration { return max(next.Sub(now), 0) }

// following is when the next probe is due. A sender that was held up leaves out
// what it missed.
func following(due, at membership.Mono, interval time.Duration) membership.Mono {
	missed := max(at.Sub(due), 0) / interval
	return due.Add((missed + 1) * interval)
}

func (p *Prober) sendProbe(t *target, at membership.Mono, buf *[probe.Size]byte) {
	fd := int(t.link.fd.Load())
	if fd < 0 {
		return
	}
	p.ask(t, at, buf)
	if err := unix.Sendto(fd, buf[:], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, t.probeTo); err != nil {
		p.count(sendFailed)
		return
	}
	p.count(sent)
}

// readLoop answers probes and judges replies.
func (p *Prober) readLoop(stop, opened int) {
	p.realtime("reader")
	fds := make([]unix.PollFd, 2+len(p.links))
	fds[0] = unix.PollFd{Fd: int32(stop), Events: unix.POLLIN}
	fds[1] = unix.PollFd{Fd: int32(opened), Events: unix.POLLIN}
	for i, l := range p.links {
		fds[2+i] = unix.PollFd{Fd: l.fd.Load(), Events: unix.POLLIN} // below 0 is left out by the kernel
	}
	var in [probe.Size + 1]byte // a longer datagram shows
	var out [probe.Size]byte
	for {
		if !wait(fds, forever) {
			continue
		}
		if fds[0].Revents != 0 {
			return
		}
		if fds[1].Revents != 0 {
			drainFD(opened)
			for i, l := range p.links {
				fds[2+i].Fd = l.fd.Load()
			}
		}
		for i := range p.links {
			if fds[2+i].Revents != 0 {
				p.readLink(i, int(fds[2+i].Fd), in[:], &out)
			}
		}
	}
}

// readLink reads what has come on one link.
func (p *Prober) readLink(link, fd int, in []byte, out *[probe.Size]byte) {
	for range batch {
		n, err := unix.Read(fd, in)
		if err != nil {
			return // nothing more; a socket's pending error is cleared by reading it
		}
		t := p.receive(link, in[:n], now(), out)
		if t == nil {
			continue
		}
		if err := unix.Sendto(fd, out[:], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, t.replyTo); err != nil {
			p.count(sendFailed)
		}
	}
}

// forever is a wait without a limit. Who computes a limit keeps it at 0 or more.
const forever time.Duration = -1

// wait polls; false when nothing is ready.
func wait(fds []unix.PollFd, d time.Duration) bool {
	var ts unix.Timespec
	limit := &ts
	if d == forever {
		limit = nil
	} else {
		ts = unix.NsecToTimespec(int64(d))
	}
	n, err := unix.Ppoll(fds, limit, nil)
	return err == nil && n > 0 // EINTR comes from the runtime's own signals
}

// openLoop opens every link's socket, again and again while one is missing.
func (p *Prober) openLoop(ctx context.Context, opened int) {
	timer := time.NewTicker(openRetry)
	defer timer.Stop()
	for {
		missing := false
		for _, l := range p.links {
			if l.fd.Load() < 0 && !p.open(l, opened) {
				missing = true
			}
		}
		if !missing {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}

func (p *Prober) open(l *link, opened int) bool {
	what := fmt.Sprintf("link %d", l.index)
	fd, zone, err := openSocket(l.addr)
	if err != nil {
		if p.warn(what, "%v", &LinkError{Link: l.index, Addr: l.addr, Err: err}) {
			p.opt.Logger.Warn("link is not probed", "link", l.index, "addr", l.addr, "err", err)
		}
		return false
	}
	for _, t := range p.targets {
		if t.link == l {
			t.probeTo, t.replyTo = sockaddr(t.addr, zone), sockaddr(t.addr, zone)
		}
	}
	l.fd.Store(int32(fd)) // after the addresses: who sees it sees them
	p.unwarn(what)
	signalFD(opened)
	p.opt.Logger.Info("link is probed", "link", l.index, "addr", l.addr)
	return true
}

func signalFD(fd int) {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(fd, one[:])
}

func drainFD(fd int) {
	var b [8]byte
	_, _ = unix.Read(fd, b[:])
}
