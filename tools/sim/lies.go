package sim

import (
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// lieFor is how long after a lie a node may still believe it.
const lieFor = 30 * time.Second

// noticeable keeps a lie to what its actor can notice: a victim that answers. One
// that falls silent (a cut, a freeze, the actor's own) has its power cut here: that
// it lives on behind a device that lies, nobody could tell.
func (f *devices) noticeable(run *agentRun, until time.Duration) {
	d, job := run.d, run.job
	v := f.w.host(job.Victim.Node)
	switch {
	case run.over || d.dead || !v.on || v.boot != job.Victim.Boot || f.w.now > until:
		return
	case !f.heard(d.h, v):
		f.cut(d, job, lies)
		return
	}
	f.w.after(f.w.plan.timing.DeadAfter/16, func() { f.noticeable(run, until) })
}

// heard says whether an actor's probes are answered by a victim.
func (f *devices) heard(a, v *host) bool {
	p := f.w.probes
	p.refresh()
	for l := range f.w.plan.links {
		if p.pairs[l*p.n*p.n+int(a.id-1)*p.n+int(v.id-1)].ok {
			return true
		}
	}
	return false
}

// lying has all devices lie, and a daemon stand still over a living kernel for so
// long that its node is fenced: it cannot end itself, and it answers.
func (f *faults) lying() {
	h := f.host()
	if h.d == nil || !f.w.plan.xdp {
		return
	}
	still := f.w.plan.timing.StallLimit + f.r.Between(time.Second, 15*time.Second)
	h.tracef("fault: every device lies, and the daemon stands still for %v", still)
	for i := range f.w.devs.modes {
		f.w.devs.modes[i] = lies
	}
	f.temporary(still, f.devicesWork)
	h.pause(still)
}

// lied: nobody says of a device that it lied which cut its victim off. A lie that
// was told and noticed in time is no proof, so nothing was believed here that has
// to be taken back.
func (c *checker) lied(e membership.Event) {
	if !c.w.devs.lied[e.Subject] {
		c.w.violate("false-alarm", "node %d says %q", e.Node, e.Text)
	}
}

// switchedOn is a device that was told so. S12: nobody is fenced, nor a member, before
// that has ended, or an off would be undone.
func (c *checker) switchedOn(id membership.NodeID) {
	v := c.w.host(id)
	if v.on && slices.ContainsFunc(v.kern.spaces, func(s *kspace) bool { return s.started }) {
		c.w.violate("stray-on", "the device of node %d is switched on, which holds lockspaces", id)
	}
}
