package sim

import (
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// longStep is longer than a daemon ever goes without a step by itself, and shorter than
// what anybody is evicted for.
const longStep = 2500 * time.Millisecond

// firstOfTakeover is the first attempt's number of one that is in no log.
const firstOfTakeover = 1 << 32

// shotWell: nobody is fenced in a takeover who went on and was heard all the time lately.
// An actor that stood still itself may be late to end its agent, and lost packets may make
// anybody look dead.
func (c *checker) shotWell(d *daemon, v *host, job membership.FenceJob) {
	lately := c.w.now - (longStep + c.w.plan.timing.DeadAfter + 2*c.w.plan.timing.Interval)
	switch {
	case job.Attempt < firstOfTakeover || c.w.plan.loss > 0 || v.d == nil || !slices.Contains(d.n.Members(), v.id):
	case d.h.illAt > lately || v.illAt > lately || d.lateAt > lately || v.d.lateAt > lately || v.frozen+v.paused+v.stalled+v.muted > 0:
	case c.w.now-v.d.stepped > longStep || c.w.now-d.stepped > longStep || !c.w.probes.answeredSince(d.h, v, lately):
	default:
		c.w.violate("shot-well", "attempt %d of node %d in a takeover cuts %v, which goes on and answers it", job.Attempt, d.h.id, job.Victim)
	}
}

// answeredSince says whether a host's probes of another were answered on some link all the
// time since then.
func (p *probes) answeredSince(a, b *host, since time.Duration) bool {
	p.refresh()
	for l := range p.w.plan.links {
		if q := p.pairs[l*p.n*p.n+int(a.id-1)*p.n+int(b.id-1)]; q.ok && q.since < since {
			return true
		}
	}
	return false
}
