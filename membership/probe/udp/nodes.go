package udp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// table is whom a Prober probes, as of one configuration. It is never changed, but
// replaced as a whole.
type table struct {
	targets  []*target                       // by node, then link
	index    map[membership.NodeID][]*target // by link; nil where there is none
	interval time.Duration
}

// targets are whom a Prober probes now; those of the zero Prober are nobody.
func (p *Prober) targets() []*target {
	if t := p.table.Load(); t != nil {
		return t.targets
	}
	return nil
}

// makeTable keeps the targets of had whose addresses are the same.
func (p *Prober) makeTable(opt Options, had *table) *table {
	t := &table{index: map[membership.NodeID][]*target{}, interval: opt.Interval}
	for _, n := range opt.Nodes {
		if n.ID != opt.Self {
			p.add(t, n, opt.Rate, had)
		}
	}
	slices.SortFunc(t.targets, func(a, b *target) int {
		if a.peer != b.peer {
			return int(int64(a.peer) - int64(b.peer))
		}
		return a.link.index - b.link.index
	})
	return t
}

// add makes the targets of a peer: one for each link that both ends have.
func (p *Prober) add(tab *table, n membership.Node, rate int, had *table) {
	byLink := make([]*target, len(p.links))
	for i, a := range n.Addrs {
		if i >= len(p.links) {
			break
		}
		l, at := p.links[i], netip.AddrPortFrom(a.Unmap(), p.port(n.ID))
		what := fmt.Sprintf("node %d link %d", n.ID, i)
		if at.Addr().Is4() != l.addr.Addr().Is4() {
			p.warn(what, "link %d is IPv4 at one end and IPv6 at the other, and is not probed: correct the addresses of node %d or %d", i, n.ID, p.opt.Self)
			continue
		}
		p.unwarn(what)
		byLink[i] = had.at(n.ID, i, at)
		if byLink[i] == nil {
			byLink[i] = newTarget(n.ID, l, at, rate, now())
			if l.fd.Load() >= 0 {
				byLink[i].probeTo, byLink[i].replyTo = rawAddr(at, l.zone), rawAddr(at, l.zone)
			}
		}
		tab.targets = append(tab.targets, byLink[i])
	}
	tab.index[n.ID] = byLink
}

// at is the target of a peer on a link, if it is at that address.
func (t *table) at(n membership.NodeID, link int, addr netip.AddrPort) *target {
	if t == nil || link >= len(t.index[n]) {
		return nil
	}
	if x := t.index[n][link]; x != nil && x.addr == addr {
		return x
	}
	return nil
}

// SetNodes replaces the configured nodes and the interval while the Prober runs. What
// is known of peers whose addresses stay the same is kept. This node's own addresses
// do not change.
func (p *Prober) SetNodes(nodes []membership.Node, interval time.Duration) error {
	opt := p.opt
	opt.Nodes, opt.Interval, opt.Rate = nodes, interval, p.rate
	self, err := opt.fill()
	if err == nil && !slices.EqualFunc(self.Addrs, p.links, func(a netip.Addr, l *link) bool { return a.Unmap() == l.addr.Addr() }) {
		err = fmt.Errorf("the addresses of this node, %d, change with a restart of quorated alone", opt.Self)
	}
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	p.setting.Lock()
	defer p.setting.Unlock()
	t := p.makeTable(opt, p.table.Load())
	for _, x := range t.targets {
		x.setRate(opt.Rate)
	}
	p.table.Store(t)
	for _, l := range p.links {
		if fd := l.fd.Load(); fd >= 0 {
			setFilter(int(fd), filter(l.addr.Addr().Is4(), t.sources(l)))
		}
	}
	select {
	case p.retable <- struct{}{}:
	default:
	}
	return nil
}

// sources are whom a link hears.
func (t *table) sources(l *link) (out []netip.Addr) {
	for _, x := range t.targets {
		if x.link == l {
			out = append(out, x.addr.Addr())
		}
	}
	return out
}

// schedule gives every target that has none yet its turn, together with the others, but not
// for long probes: a socket has no room for those to everybody. After a change of the interval
// all begin anew.
func (t *table) schedule(at membership.Mono, before *table) {
	anew := before == nil || before.interval != t.interval || len(before.targets) == 0
	due := at
	if !anew {
		due = before.targets[0].due // whoever comes joins the others
	}
	for i, x := range t.targets {
		if x.due == 0 {
			x.turn = i % probe.LongEvery
		}
		if anew || x.due == 0 {
			x.due = due
		}
	}
}
