package sim

import (
	"time"

	"github.com/quorate/quorate/membership"
)

// probes computes what each node's prober has heard, from when each peer could
// answer; no packet is sent.
type probes struct {
	w     *world
	n     int
	pairs []pair // link, from, to
	know  []uint64
}

// pair is one prober's sight of one peer on one link.
type pair struct {
	ok    bool          // probes are answered now
	since time.Duration // since when
	heard time.Duration // the last answer before that; -1 none
	phase time.Duration // of its ticks
	run   *daemon       // the prober's
	still time.Duration // the peer's daemon had not gone on since then, by the last sample; -1: it had
}

func newProbes(w *world) *probes {
	p := &probes{w: w, n: w.plan.nodes}
	p.pairs = make([]pair, w.plan.links*p.n*p.n)
	p.know = make([]uint64, p.n*p.n)
	r := stream(w.opt.Seed, "probes", 0)
	for i := range p.pairs {
		p.pairs[i].heard, p.pairs[i].still = -1, -1
		p.pairs[i].phase = r.Between(0, w.plan.timing.Interval)
	}
	return p
}

// learn tells a prober which run of a peer's daemon may answer.
func (p *probes) learn(self, peer membership.NodeID, instance uint64) {
	p.know[int(self-1)*p.n+int(peer-1)] = instance
	p.refresh()
}

// refresh finds out anew who answers whom.
func (p *probes) refresh() {
	if len(p.w.hosts) < p.n {
		return
	}
	i := 0
	for l := range p.w.plan.links {
		for a := range p.n {
			for b := range p.n {
				if a != b {
					p.look(&p.pairs[i], l, p.w.hosts[a], p.w.hosts[b])
				}
				i++
			}
		}
	}
}

func (p *probes) look(q *pair, link int, a, b *host) {
	if q.run != a.d {
		q.run, q.ok, q.heard, q.still = a.d, false, -1, -1
		p.know[int(a.id-1)*p.n+int(b.id-1)] = 0
	}
	ok := p.answers(link, a, b)
	switch {
	case ok && !q.ok:
		q.ok, q.since = true, p.w.now
	case !ok && q.ok:
		q.heard = p.last(q, p.w.now)
		q.ok = false
	}
}

func (p *probes) answers(link int, a, b *host) bool {
	net := p.w.net
	return a.on && b.on && a.d != nil && b.d != nil && a.frozen == 0 && b.frozen == 0 && a.paused == 0 && a.muted == 0 &&
		(b.paused == 0 || p.w.plan.xdp) && net.path(link, a.id, b.id) && net.path(link, b.id, a.id) &&
		p.know[int(a.id-1)*p.n+int(b.id-1)] == b.d.instance
}

// last is when the newest answer up to now came, of a pair that answers.
func (p *probes) last(q *pair, now time.Duration) time.Duration {
	every := p.w.plan.timing.Interval
	if q.run != nil {
		every = q.run.cfg.Timing.Interval
	}
	rtt := p.rtt()
	k := (now - rtt - q.phase) / every
	for ; k >= 0; k-- {
		sent := k*every + q.phase
		if sent < q.since {
			break
		}
		if loss := p.w.plan.loss * 2; loss > 0 {
			r := rng{s: p.w.opt.Seed ^ uint64(sent)*0x9e3779b97f4a7c15 ^ uint64(q.phase)}
			if r.Chance(loss) {
				continue
			}
		}
		return sent + rtt
	}
	return q.heard
}

func (p *probes) rtt() time.Duration { return 2 * p.w.plan.delay }

// samples is the prober's snapshot.
func (p *probes) samples(h *host) []membership.Sample {
	out := make([]membership.Sample, 0, (p.n-1)*p.w.plan.links)
	for b := range p.n {
		if b+1 == int(h.id) {
			continue
		}
		for l := range p.w.plan.links {
			out = append(out, p.sample(h, p.w.hosts[b], l))
		}
	}
	return out
}

func (p *probes) sample(a, b *host, link int) membership.Sample {
	q := &p.pairs[link*p.n*p.n+int(a.id-1)*p.n+int(b.id-1)]
	s := membership.Sample{Peer: b.id, Link: link, Instance: p.know[int(a.id-1)*p.n+int(b.id-1)]}
	heard := q.heard
	if q.ok {
		heard = p.last(q, p.w.now)
	}
	asked := p.w.now
	if a.muted > 0 {
		asked = a.mutedAt
	}
	s.Sent, s.Asked = uint64((asked-a.onAt)/p.w.plan.timing.Interval)+1, a.monoAt(asked)
	if heard < 0 || heard < a.onAt {
		return s
	}
	s.Heard, s.RTT, s.Answered = a.monoAt(heard), p.rtt(), s.Sent
	if b.d != nil && b.d.n != nil {
		s.View = b.d.n.View()
	}
	if q.ok {
		if q.still = -1; b.paused > 0 || b.stalled > 0 || b.d.busy {
			q.still = b.d.stepped
		} else if b.d.mute() {
			q.still = b.d.lastAsk
		}
	}
	if q.still >= 0 { // as its last answer said, whatever became of it since
		s.DaemonAge = max(0, heard-q.still)
	}
	return s
}
