package udp

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

const (
	openRetry = time.Second
	// slots is over how many moments of an interval the probes are spread. More
	// would not help the network, and each one costs a wake-up here and there.
	slots = 4
	// few targets have their turn together: it costs one wake-up and disturbs nobody.
	few = 4
	// batch bounds what is read of one socket before the others get a turn.
	batch = 64
)

// The loops wait with the runtime's poller and use the raw system calls below for
// everything that cannot block. A call that the runtime is told of wakes its
// monitor thread each time, which on a slow virtual machine costs more than the
// probe itself.

// sendLoop sends each target its probe once an interval, spread over it.
func (p *Prober) sendLoop(ctx context.Context) {
	var tab *table
	var buf [probe.Size]byte
	var long [probe.MaxLong]byte
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		at := now()
		if t := p.table.Load(); t != tab {
			t.schedule(at, tab)
			tab = t
		}
		next := at.Add(time.Second)
		p.heldUp(tab, at)
		for _, t := range tab.targets {
			if t.turnAt(at) <= at {
				p.sendProbe(t, now(), &buf)
				if !t.between {
					t.due = following(t.due, at, tab.interval)
					p.sendLongs(t, &long)
				}
				t.extra = at.Add(probe.HurriedInterval(tab.interval, MinInterval))
			}
			next = min(next, t.turnAt(at))
		}
		timer.Reset(pause(now(), next))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-p.retable:
		}
	}
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

// offset is when within an interval the i-th of n targets has its turn.
func offset(i, n int, interval time.Duration) time.Duration {
	if n <= few {
		return 0
	}
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
	if !sendTo(fd, buf[:], t.probeTo) {
		p.count(sendFailed)
		return
	}
	p.count(sent)
}

// readLoop answers probes and judges replies on one link, until its file is closed.
func (p *Prober) readLoop(l *link) {
	var in [probe.MaxLong + 1]byte // a longer datagram shows
	var out [probe.Size]byte
	var long [probe.MaxLong]byte // its end is always zeros
	conn, err := l.file.SyscallConn()
	if err != nil {
		p.opt.Logger.Error("link is not read", "link", l.index, "err", err)
		return
	}
	for {
		more := true
		err := conn.Read(func(fd uintptr) bool {
			more = p.readLink(l.index, int(fd), in[:], &out, &long)
			return more // else wait for the next datagram
		})
		if err != nil {
			return // closed
		}
	}
}

// readLink reads what has come on one link; false when nothing is left.
func (p *Prober) readLink(link, fd int, in []byte, out *[probe.Size]byte, long *[probe.MaxLong]byte) bool {
	for range batch {
		n, ok := recv(fd, in)
		if !ok {
			return false // nothing more; a socket's pending error is cleared by reading it
		}
		if n > probe.Size {
			if t, size := p.receiveLong(link, in[:n], now(), long); t != nil && !sendTo(fd, long[:size], t.replyTo) {
				p.count(sendFailed)
			}
			continue
		}
		t := p.receive(link, in[:n], now(), out)
		if t != nil && !sendTo(fd, out[:], t.replyTo) {
			p.count(sendFailed)
		}
	}
	return true
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
	l.file = os.NewFile(uintptr(fd), what) // the socket does not block: the runtime's poller has it
	l.fd.Store(int32(fd))                  // after the addresses: who sees it sees them
	context.AfterFunc(ctx, func() {
		l.fd.Store(-1)
		_ = l.file.Close()
	})
	wg.Go(func() { p.readLoop(l) })
	p.unwarn(what)
	p.opt.Logger.Info("link is probed", "link", l.index, "addr", l.addr)
	return true
}
