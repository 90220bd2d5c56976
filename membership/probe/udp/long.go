package udp

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// mtuEvery is how often the kernel is asked for the MTUs of the ways to the peers.
const mtuEvery = 2 * time.Second

// headers is the length of the headers before a datagram to the target.
func (t *target) headers() int {
	if t.addr.Addr().Is4() {
		return 20 + 8
	}
	return 40 + 8
}

// sendLongs sends the long probes of a target when it is their turn.
func (p *Prober) sendLongs(t *target, buf *[probe.MaxLong]byte) {
	fd := int(t.link.fd.Load())
	if t.turn < probe.LongEvery || fd < 0 {
		return
	}
	t.turn = 0
	t.mu.Lock()
	n := t.longs.Begin(int(t.mtu.Load()) - t.headers())
	t.mu.Unlock()
	for i := range n {
		size := p.askLong(t, i, now(), buf)
		if sendTo(fd, buf[:size], t.probeTo) {
			p.count(longSent)
			continue
		}
		p.count(sendFailed)
		t.mu.Lock()
		t.longs.Unsent(i)
		t.mu.Unlock()
	}
}

// askLong writes the i-th long probe of a round and returns its length.
func (p *Prober) askLong(t *target, i int, at membership.Mono, out *[probe.MaxLong]byte) int {
	pkt := probe.Packet{Link: uint8(t.link.index), Src: p.opt.Self, Dst: t.peer, Prober: p.opt.Instance}
	t.mu.Lock()
	t.longs.Next(i, &pkt, at)
	t.mu.Unlock()
	pkt.Marshal((*[probe.Size]byte)(out[:]), (*p.keys.Load())[0])
	return int(pkt.Length)
}

// receiveLong is receive of a long probe or its reply, with the length of the answer.
func (p *Prober) receiveLong(link int, b []byte, at membership.Mono, out *[probe.MaxLong]byte) (*target, int) {
	pkt, err := probe.ParseLong(b)
	t, key, why := p.believe(link, &pkt, err, b)
	if t == nil {
		p.count(why)
		return nil, 0
	}
	if pkt.Type == probe.TypeLongReply {
		if pkt.Prober != p.opt.Instance {
			p.count(dropProber)
		} else {
			p.count(t.acceptLong(&pkt))
		}
		return nil, 0
	}
	if why = t.mayAnswer(&pkt, at); why != answered {
		p.count(why)
		return nil, 0
	}
	p.count(longAnswered)
	r := pkt.LongReply()
	p.sign(&r, at, key, (*[probe.Size]byte)(out[:]))
	return t, int(r.Length)
}

// acceptLong judges an authentic long reply to this instance. It is no sign of life.
func (t *target) acceptLong(r *probe.Packet) reason {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.longs.Accept(r) {
	case probe.Unasked:
		return dropUnasked
	case probe.Late:
		return dropLate
	case probe.Old:
		return dropOld
	}
	return longAccepted
}

// mtuLoop follows the MTUs until ctx ends.
func (p *Prober) mtuLoop(ctx context.Context) {
	timer := time.NewTicker(mtuEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for _, l := range p.links {
			if l.fd.Load() >= 0 { // its zone is known
				p.askMTUs(l, l.zone, p.table.Load())
			}
		}
	}
}

// askMTUs asks the kernel for the MTUs on one link. One that it does not know is 0.
func (p *Prober) askMTUs(l *link, zone uint32, tab *table) {
	for _, t := range tab.targets {
		if t.link == l {
			t.mtu.Store(int32(pathMTU(l.addr.Addr(), t.addr, zone)))
		}
	}
}

// pathMTU is the MTU of the way between two addresses, as the kernel knows it; 0 where it
// does not. Sockets that are not connected cannot be asked, and one that stays
// connected would not hear of changes.
func pathMTU(from netip.Addr, to netip.AddrPort, zone uint32) int {
	family, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU
	if to.Addr().Is6() {
		family, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	if unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0), zone)) != nil || unix.Connect(fd, sockaddr(to, zone)) != nil {
		return 0
	}
	mtu, err := unix.GetsockoptInt(fd, level, option)
	if err != nil {
		return 0
	}
	return mtu
}

// whole forbids to fragment what a socket sends.
func whole(fd, family int) {
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
		return
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
}
