package udp

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/udp/alarm"
)

const (
	openRetry = time.Second
	// batch bounds what is read of one socket before the others get a turn.
	batch = 64
)

// The loops wait with the runtime's poller and use the raw system calls below for
// everything that cannot block. A call that the runtime is told of wakes its
// monitor thread each time, which on a slow virtual machine costs more than the
// probe itself.

// sender is what sends probes: at its own times, or a little before or after when somebody
// else runs then anyway (Turn).
type sender struct {
	mu    sync.Mutex
	alarm *alarm.Alarm // nil: it does not run
	tab   *table
	long  [probe.MaxLong]byte
}

// sendLoop sends each target its probe once an interval, to all in one go: that is little
// for any network, and each waking costs this node more than a probe.
func (p *Prober) sendLoop(ctx context.Context, wake *alarm.Alarm) {
	defer wake.Close()
	defer p.sender.run(nil)
	p.sender.run(wake)
	for p.ownTurn() {
		select {
		case <-ctx.Done():
			return
		case <-wake.C:
		case <-p.retable:
		}
	}
}

// run says that it runs now, or nil, that it does not.
func (s *sender) run(wake *alarm.Alarm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alarm = wake
}

// Slack is what part of an interval, an eighth, a probe may come before or after its time, so
// that no thread has to be woken for it alone.
const Slack = 8

// Turn sends the probes that are due about now. Who runs every interval anyway, and says when
// it comes again, saves the sender from being woken as often; it sends by itself what waits
// for longer. So two probes may be an interval and an eighth apart. Turn waits for nobody: whom
// it would wait for is sending.
func (p *Prober) Turn(again membership.Mono) {
	if p.sender.mu.TryLock() {
		defer p.sender.mu.Unlock()
		p.turn(true, again)
	}
}

// ownTurn is that of the sender; false: it has ended.
func (p *Prober) ownTurn() bool {
	p.sender.mu.Lock()
	defer p.sender.mu.Unlock()
	return p.turn(false, 0)
}

func (p *Prober) turn(guest bool, again membership.Mono) bool {
	s := &p.sender
	if s.alarm == nil {
		return false
	}
	at := p.clock()
	if t := p.table.Load(); t != s.tab {
		t.schedule(at, s.tab)
		s.tab = t
	}
	p.heldUp(s.tab, at)
	early := time.Duration(0)
	if guest {
		early = s.tab.interval / Slack
	}
	next, own := p.sendDue(s, at, early)
	if own && again <= next.Add(early) {
		next = next.Add(early) // it is expected before
	}
	s.alarm.Heard() // if it has rung, that is why
	if err := s.alarm.Set(next); err != nil {
		p.opt.Logger.Error("no probes are sent any more", "err", err)
		return false
	}
	return true
}

// sendDue sends what is due, or will be so soon, and returns when the next probe is, and
// whether that is one of an interval, and not between two. What lies in the sockets is read
// first: no answer to what is sent now can have come before it.
func (p *Prober) sendDue(s *sender, at membership.Mono, early time.Duration) (next membership.Mono, own bool) {
	p.readResting(s.tab.interval)
	next, passed := at.Add(time.Second), at
	for _, t := range s.tab.targets {
		due := t.turnAt(at)
		if due <= at || !t.between && due <= at.Add(early) {
			p.askNow(t, at, &passed)
			if !t.between {
				t.due = following(t.due, at, s.tab.interval, early)
			}
			t.extra = at.Add(probe.HurriedInterval(s.tab.interval, MinInterval))
			due = t.turnAt(at)
		}
		if due < next {
			next, own = due, !t.between
		}
	}
	for _, l := range p.links {
		p.send(l)
	}
	for _, t := range s.tab.targets {
		p.sendLongs(t, &s.long)
	}
	return next, own
}

// askNow puts the next probe of a target where those of its link wait to be sent.
func (p *Prober) askNow(t *target, at membership.Mono, passed *membership.Mono) {
	if t.link.fd.Load() < 0 {
		return
	}
	p.look(t, passed) // the probe says what was heard last
	p.ask(t, at, p.queue(t))
	if !t.between {
		t.turn++
	}
}

// queue returns the memory of a probe to a target, which is sent with those to others on
// its link.
func (p *Prober) queue(t *target) *[probe.Size]byte {
	if t.link.out.full() {
		p.send(t.link)
	}
	return t.link.out.add(t)
}

// send sends the probes that wait on a link.
func (p *Prober) send(l *link) {
	if l.out.n == 0 {
		return
	}
	n, failed := l.out.flush(int(l.fd.Load()))
	p.drops[sent].Add(n)
	p.drops[sendFailed].Add(failed)
}

// heldUp notes that for longer than a probe may be late none was sent. Who is silent then was
// not asked.
func (p *Prober) heldUp(tab *table, at membership.Mono) {
	var late time.Duration
	for _, t := range tab.targets {
		late = max(late, at.Sub(t.due))
	}
	if late > max(2*tab.interval, 100*time.Millisecond) {
		p.count(heldUp)
		p.opt.Logger.Warn("no probes were sent for a while: this node's own sender stood still", "late", late.Round(time.Millisecond))
	}
}

// following is when the next probe is due. A sender that was held up leaves out what it
// missed; one whose time is another's, by so much, goes by that.
func following(due, at membership.Mono, interval, by time.Duration) membership.Mono {
	if by > 0 && at < due.Add(by) {
		return at.Add(interval)
	}
	missed := max(at.Sub(due), 0) / interval
	return due.Add((missed + 1) * interval)
}

// inbox is of who reads a link: its loop, or, while that rests, the sender.
type inbox struct {
	resting atomic.Bool
	resume  chan struct{}
	buf     [probe.MaxLong + 1]byte // a longer datagram shows
	reply   [probe.Size]byte
	long    [probe.MaxLong]byte // a reply whose end is always zeros
	short   membership.Mono     // when the last datagram was read that is no long one
}

const (
	// restAfter is how many intervals after the last short datagram a reader rests: it is
	// the kernel that takes all of them. The long ones are in no hurry.
	restAfter = 16
	// restMost is up to which interval that is worth while, and nobody waits for long.
	restMost = 50 * time.Millisecond
)

// readLoop answers probes and judges replies on one link, until its file is closed.
func (p *Prober) readLoop(ctx context.Context, l *link, wait *waiter) {
	conn, err := wait.file.SyscallConn()
	if err != nil {
		p.opt.Logger.Error("link is not read", "link", l.index, "err", err)
		return
	}
	l.in.short = now()
	for {
		rest := false
		err := conn.Read(func(uintptr) bool {
			if n, _ := p.readLink(l, wait.fd); n == batch {
				return true
			}
			interval := p.table.Load().interval
			rest = interval <= restMost && now().Sub(l.in.short) > restAfter*interval
			return rest // else wait for the next datagram
		})
		if err != nil {
			return // closed
		}
		if !rest {
			continue
		}
		wait.listen(false)
		l.in.resting.Store(true)
		select {
		case <-ctx.Done():
			return
		case <-l.in.resume:
		}
		wait.listen(true)
	}
}

// readResting reads for those whose loops rest, and wakes them when they are needed.
func (p *Prober) readResting(interval time.Duration) {
	for _, l := range p.links {
		fd := int(l.fd.Load())
		if fd < 0 || !l.in.resting.Load() {
			continue
		}
		if n, short := p.readLink(l, fd); short || n == batch || interval > restMost {
			l.in.resting.Store(false)
			l.in.resume <- struct{}{} // it waits for that alone
		}
	}
}

// readLink reads what has come on one link, and says how much, and whether there was a short
// datagram.
func (p *Prober) readLink(l *link, fd int) (n int, short bool) {
	in := &l.in
	for ; n < batch; n++ {
		size, ok := recv(fd, in.buf[:])
		if !ok {
			break // nothing more; a socket's pending error is cleared by reading it
		}
		at := now()
		if size > probe.Size {
			if t, size := p.receiveLong(l.index, in.buf[:size], at, &in.long); t != nil && !sendTo(fd, in.long[:size], t.replyTo) {
				p.count(sendFailed)
			}
			continue
		}
		in.short, short = at, true
		t := p.receive(l.index, in.buf[:size], at, &in.reply)
		if t != nil && !sendTo(fd, in.reply[:], t.replyTo) {
			p.count(sendFailed)
		}
	}
	return n, short
}

// openLoop opens every link's socket, again and again while one is missing.
func (p *Prober) openLoop(ctx context.Context, wg *sync.WaitGroup) {
	timer := time.NewTicker(openRetry)
	defer timer.Stop()
	for {
		missing := false
		for _, l := range p.links {
			if l.fd.Load() < 0 && !p.open(ctx, l, wg) {
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

func (p *Prober) open(ctx context.Context, l *link, wg *sync.WaitGroup) bool {
	what := fmt.Sprintf("link %d", l.index)
	fd, zone, err := openSocket(l.addr)
	var wait waiter
	if err == nil {
		if wait, err = newWaiter(fd, what); err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		if p.warn(what, "%v", &LinkError{Link: l.index, Addr: l.addr, Err: err}) {
			p.opt.Logger.Warn("link is not probed", "link", l.index, "addr", l.addr, "err", err)
		}
		return false
	}
	p.setting.Lock()
	defer p.setting.Unlock()
	tab := p.table.Load()
	for _, t := range tab.targets {
		if t.link == l {
			t.probeTo, t.replyTo = rawAddr(t.addr, zone), rawAddr(t.addr, zone)
		}
	}
	p.askMTUs(l, zone, tab)
	setFilter(fd, filter(l.addr.Addr().Is4(), tab.sources(l)))
	l.zone = zone
	l.fd.Store(int32(fd)) // after the addresses: who sees it sees them
	context.AfterFunc(ctx, func() { _ = wait.file.Close() })
	wg.Go(func() {
		p.readLoop(ctx, l, &wait)
		p.close(l, fd)
	})
	p.unwarn(what)
	p.opt.Logger.Info("link is probed", "link", l.index, "addr", l.addr)
	return true
}

// close closes a link's socket when nobody uses it.
func (p *Prober) close(l *link, fd int) {
	p.setting.Lock()
	defer p.setting.Unlock()
	p.sender.mu.Lock()
	defer p.sender.mu.Unlock()
	l.fd.Store(-1)
	_ = unix.Close(fd)
}
