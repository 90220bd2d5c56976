package sim

import (
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// maintained is what operators were told of a maintenance: nobody is evicted for
// silence. It ends when one is asked to be over, by the operator's wish or its time.
type maintained struct {
	until time.Duration
	after uint64 // how much had been ordered, as in promise
	ends  int    // how often an end was asked for: an answer from before one promises nothing
}

// maintain has an operator on a node announce a maintenance.
func (h *host) maintain(d time.Duration) {
	h.tracef("operator: maintenance for %v", d)
	w, asked, ends := h.w, h.w.now, h.w.check.quiet.ends
	h.ask(node.Operator{Command: "maintenance-on", For: d, Who: "operator"}, func(r node.Reply) {
		q := &w.check.quiet
		if until := asked + driftless(d); r.Err == "" && q.ends == ends && until > q.until {
			if w.now >= q.until { // else what was promised before goes on
				q.after = h.d.group.Status().Applied
			}
			q.until = until
		}
	})
}

// maintainNoMore has an operator end it; the promise ends when he asks.
func (h *host) maintainNoMore(answered func(node.Reply)) {
	h.tracef("operator: maintenance off")
	q := &h.w.check.quiet
	q.until, q.ends = 0, q.ends+1
	h.ask(node.Operator{Command: "maintenance-off", Who: "operator"}, answered)
}

// maintained judges an eviction by what operators were promised of all nodes.
func (c *checker) maintained(h *host, e membership.Event) {
	q := c.quiet
	if c.w.now < q.until && e.Index > q.after && forSilence(e) && !h.w.opt.Static {
		c.w.violate("maintenance", "node %d applies that %d is evicted, %v before the end of a maintenance: %s", h.id, e.Subject, q.until-c.w.now, e.Text)
	}
}

// maintenance announces work, and at times ends it early. What comes besides are the other faults.
func (f *faults) maintenance() {
	h, d := f.host(), f.r.Between(time.Minute, 90*time.Second)
	h.maintain(d)
	if f.r.Chance(0.4) { // most runs are shorter than a maintenance
		f.until = max(f.until, f.w.now+f.r.Between(5*time.Second, d+5*time.Second))
	}
	if f.r.Chance(0.3) {
		f.w.after(f.r.Between(time.Second, 20*time.Second), func() { f.host().maintainNoMore(func(node.Reply) {}) })
	}
}

// endMaintenance has operators end what is in force when the faults are over: who
// died in it is missed no sooner.
func (f *faults) endMaintenance() {
	for _, h := range f.w.hosts {
		if h.d != nil && h.d.n.Status(h.mono(), nil).Maintenance != nil {
			h.maintainNoMore(func(node.Reply) {})
			break
		}
	}
	if !f.w.done {
		f.w.after(2*time.Second, f.endMaintenance)
	}
}
