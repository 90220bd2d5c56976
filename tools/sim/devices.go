package sim

import (
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// mode is how fencing goes. None of them lies: a success is reported only after
// the victim's power was cut, at a moment after the start.
type mode int

const (
	works   mode = iota
	fails        // nothing happens
	cutFail      // it is cut, and failure is reported
	slow         // works, close to the time-out
	hangs        // until the time-out; nothing happens
	late         // it is cut at once, and reported close to the time-out
	modes
)

var modeNames = [...]string{"works", "fails", "cut-fails", "slow", "hangs", "late"}

// devices are the fence agents and the power switches behind them.
type devices struct {
	w     *world
	r     *rng
	modes []mode // by actor*n+victim
	actor *host  // who started an agent last
}

func newDevices(w *world) *devices {
	return &devices{w: w, r: stream(w.opt.Seed, "devices", 0), modes: make([]mode, w.plan.nodes*w.plan.nodes)}
}

func (f *devices) mode(actor, victim membership.NodeID) *mode {
	return &f.modes[int(actor-1)*f.w.plan.nodes+int(victim-1)]
}

// later runs do after a time in which the agent's host itself ran. What an agent
// of a host that stood still does next it does when the host wakes up, late as it
// is: nothing says that the daemon, which would end it, runs first.
func (f *devices) later(d *daemon, after time.Duration, do func()) {
	f.w.after(after, func() {
		switch {
		case d.dead:
		case d.h.frozen > 0:
			f.later(d, 10*time.Millisecond, do)
		default:
			do()
		}
	})
}

// fence runs an agent. It dies with the daemon that started it.
func (f *devices) fence(d *daemon, job membership.FenceJob) {
	m := *f.mode(d.h.id, job.Victim.Node)
	f.actor = d.h
	d.h.tracef("fence agent starts against %v, attempt %d (%s)", job.Victim, job.Attempt, modeNames[m])
	limit := 2 * f.w.plan.timeout
	wait := f.r.Between(time.Millisecond, 20*time.Millisecond)
	cut := wait + f.r.Between(5*time.Millisecond, 500*time.Millisecond)
	end := cut + f.r.Between(5*time.Millisecond, 300*time.Millisecond)
	switch m {
	case slow:
		cut = limit*3/4 + f.r.Between(0, limit/8)
		end = limit * 15 / 16
	case late:
		end = limit * 15 / 16
	case hangs:
		end = limit
	}
	f.later(d, wait, func() {
		if d.h.mono() > job.Deadline {
			f.end(d, job, membership.FenceResult{Err: "its deadline has passed"})
			return
		}
		if m != fails && m != hangs {
			f.later(d, cut-wait, func() { f.cut(d, job, m) })
		}
		r := membership.FenceResult{OK: m == works || m == slow || m == late, Agent: "fence_sim", Took: end}
		if !r.OK {
			r.Err = "the device says no"
		}
		f.later(d, end-wait, func() { f.end(d, job, r) })
	})
}

func (f *devices) cut(d *daemon, job membership.FenceJob, m mode) {
	v := f.w.host(job.Victim.Node)
	if !v.on {
		return
	}
	f.w.check.shot(v, job)
	v.powerCut("fenced by node " + itoa(uint64(d.h.id)))
	if !v.stayOff {
		off := f.r.Between(500*time.Millisecond, 6*time.Second)
		if m == works && f.r.Chance(0.3) {
			off = f.r.Between(100*time.Millisecond, 600*time.Millisecond)
		}
		v.powerOnAfter(off)
	}
}

func (f *devices) end(d *daemon, job membership.FenceJob, r membership.FenceResult) {
	d.h.tracef("fence agent against %v ends: ok %v %s", job.Victim, r.OK, r.Err)
	d.give(node.FenceDone{Job: job, Result: r})
}

// operate is the operator of a cluster without devices: now and then he looks
// who waits for proof, makes sure that the machine is off, and says so.
func (f *devices) operate() {
	f.w.after(f.r.Between(2*time.Second, 6*time.Second), func() {
		for _, h := range f.w.hosts {
			if h.d != nil && h.d.n != nil && h.paused == 0 && h.frozen == 0 && f.acknowledge(h) {
				break
			}
		}
		f.operate()
	})
}

func (f *devices) acknowledge(h *host) bool {
	s := h.d.n.Status(h.mono(), nil)
	for _, c := range s.Fencing {
		v := f.w.host(c.Victim.Node)
		if v == h {
			continue
		}
		if v.on && v.boot == c.Victim.Boot {
			v.powerCut("by the operator, who will acknowledge it")
			if !v.stayOff {
				v.powerOnAfter(f.r.Between(time.Second, 8*time.Second))
			}
		}
		h.tracef("operator: node %d is off: fence ack", v.id)
		h.d.give(node.Operator{Command: "fence-ack", Node: v.id, Who: "operator"})
		return true
	}
	return false
}
