package udp

import (
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

const (
	reportOver  = time.Minute // of what a LinkReport is
	reportLeast = 24          // probes, where the interval is long
)

// Links returns what was measured of every peer on every link, by node and link, since the
// first answer of the run of its daemon that is learnt. It
// sorts a thousand numbers for each: for those who ask, not for a loop.
func (p *Prober) Links() []membership.LinkReport {
	tab := p.table.Load()
	n := min(max(int(reportOver/tab.interval), reportLeast), probe.RecentSize)
	out := make([]membership.LinkReport, 0, len(tab.targets))
	var passed membership.Mono
	for _, t := range tab.targets {
		p.look(t, &passed)
		out = append(out, t.report(n))
	}
	return out
}

func (t *target) report(n int) membership.LinkReport {
	t.mu.Lock()
	recent, counts, s, kernel, kernelAt, gone, tried := t.recent, t.counts, t.sampleLocked(), t.kernel, t.kernelAt, t.gone, t.longs.Size() // a copy, so that the next packet does not wait
	t.mu.Unlock()
	if tried != 0 {
		tried += t.headers()
	}
	if counts == 0 { // what it did not answer before it ran is no loss
		n = 0
	} else {
		n = int(min(uint64(n), s.Sent-counts+1))
	}
	tally := recent.Tally(s.Sent, n)
	return membership.LinkReport{
		Peer: t.peer, Link: t.link.index, Addr: t.addr, Open: t.link.fd.Load() >= 0,
		Probes: tally.Probes, Lost: tally.Lost, P50: tally.P50, P99: tally.P99,
		Heard: s.Heard, ByKernel: kernelAt, Kernel: kernel, NoDaemon: gone, DaemonAge: s.DaemonAge,
		MTU: tried, Long: s.Long,
	}
}
