package sim

import (
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// mode is how fencing goes. But for lies, a success is reported only after the
// victim's power was cut, at a moment after the start.
type mode int

const (
	works   mode = iota
	fails        // nothing happens
	cutFail      // it is cut, and failure is reported
	slow         // works, close to the time-out
	hangs        // until the time-out; nothing happens
	late         // it is cut at once, and reported close to the time-out
	lies         // nothing happens, and success is reported
	modes
)

var modeNames = [...]string{"works", "fails", "cut-fails", "slow", "hangs", "late", "lies"}

// devices are the fence agents and the power switches behind them.
type devices struct {
	w     *world
	r     *rng
	modes []mode                     // by actor*n+victim
	actor *host                      // who started an agent last
	lied  map[membership.NodeID]bool // a device did, against this victim
	runs  []*agentRun
}

// agentRun is an agent that has not ended.
type agentRun struct {
	d    *daemon
	job  membership.FenceJob
	over bool // cancelled, or killed
	runs bool // it looked at its deadline, and began
	cuts bool // it runs, and may still cut its victim off
}

func newDevices(w *world) *devices {
	return &devices{w: w, r: stream(w.opt.Seed, "devices", 0), modes: make([]mode, w.plan.nodes*w.plan.nodes), lied: map[membership.NodeID]bool{}}
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
	run := f.begin(d, job)
	d.h.tracef("fence agent starts against %v, attempt %d (%s)", job.Victim, job.Attempt, modeNames[m])
	if v := f.w.host(job.Victim.Node); m == lies && !f.heard(d.h, v) {
		m = works // nobody could notice the lie
	}
	f.lied[job.Victim.Node] = f.lied[job.Victim.Node] || m == lies
	limit := 2 * f.w.plan.timeout
	wait := f.r.Between(time.Millisecond, 20*time.Millisecond)
	cut := wait + f.r.Between(5*time.Millisecond, 500*time.Millisecond)
	end := cut + f.r.Between(5*time.Millisecond, 300*time.Millisecond)
	switch m {
	case slow:
		cut = f.w.plan.timeout*3/4 + f.r.Between(0, f.w.plan.timeout/8)
		end = limit * 15 / 16
	case late:
		end = limit * 15 / 16
	case hangs:
		end = limit
	}
	f.later(d, wait, func() {
		if run.over {
			return
		}
		if d.h.mono() > job.Deadline || job.Until != 0 && d.h.mono() >= job.Until {
			f.end(d, job, membership.FenceResult{Err: "its deadline has passed"})
			return
		}
		run.runs = true
		ends := f.w.now + end - wait
		f.cutting(run, end)
		r := membership.FenceResult{OK: m == works || m == slow || m == late || m == lies, Agent: "fence_sim", Took: end}
		if !r.OK {
			r.Err = "the device says no"
		}
		f.later(d, cut-wait, func() {
			if run.over {
				return
			}
			if m != fails && m != hangs && m != lies {
				run.cuts = false
				f.cut(d, job, m)
			}
			f.later(d, max(0, ends-f.w.now), func() { // a host that stood still sees it after the cut, too
				if !run.over {
					f.end(d, job, r)
				}
			})
		})
		if m == lies {
			f.noticeable(run, f.w.now+end+lieFor)
		}
	})
}

// bothShoot is told to a story when two nodes have agents at work against each other.
const bothShoot = "both-shoot"

// cutting: from now on an agent may cut its victim off, until it ends. It is killed when
// its time is over.
func (f *devices) cutting(run *agentRun, end time.Duration) {
	run.cuts = true
	for _, o := range f.runs {
		if o.cuts && o.d.h.id == run.job.Victim.Node && o.job.Victim.Node == run.d.h.id && f.w.milestone != nil {
			f.w.milestone(membership.Event{Kind: bothShoot, Node: run.d.h.id, Subject: run.job.Victim.Node})
		}
	}
	if run.job.Until == 0 {
		return
	}
	left := run.d.h.worldAt(run.job.Until) - f.w.now
	if left < end {
		f.later(run.d, left, func() {
			if run.cuts && !run.over {
				run.over = true
				f.end(run.d, run.job, membership.FenceResult{Err: "its time is over"})
			}
		})
	}
}

// begin notes an agent. S12: it is the only one that runs against its victim.
func (f *devices) begin(d *daemon, job membership.FenceJob) *agentRun {
	f.runs = slices.DeleteFunc(f.runs, func(r *agentRun) bool { return r.d.dead })
	for _, r := range f.runs {
		if r.job.Victim == job.Victim && (r.runs || r.d.h.mono() <= r.job.Deadline) { // else it will not begin any more
			f.w.violate("one-agent", "node %d runs an agent against %v while node %d does", d.h.id, job.Victim, r.d.h.id)
		}
	}
	run := &agentRun{d: d, job: job}
	f.runs = append(f.runs, run)
	return run
}

// cancel ends an agent at once.
func (f *devices) cancel(d *daemon, job membership.FenceJob) {
	for _, r := range f.runs {
		if r.d == d && r.job == job {
			r.over = true
			f.w.after(0, func() { f.end(d, job, membership.FenceResult{Err: "cancelled"}) })
		}
	}
}

// unfence switches a node's device on, at a moment after the start, or fails to. It
// dies with the daemon that began it.
func (f *devices) unfence(d *daemon, e node.Unfence) {
	m := *f.mode(d.h.id, e.Node)
	f.later(d, f.r.Between(time.Millisecond, 20*time.Millisecond), func() {
		done := node.UnfenceDone{Node: e.Node, Attempt: e.Attempt}
		if d.h.mono() > e.Deadline {
			done.Err = "its deadline has passed"
			d.give(done)
			return
		}
		took := f.r.Between(5*time.Millisecond, 500*time.Millisecond)
		if m == hangs || m == slow || m == late {
			took = f.w.plan.timeout * 15 / 16
		}
		f.later(d, took, func() {
			if m == fails || m == hangs || m == cutFail {
				done.Err = "the device says no"
			}
			f.w.check.switchedOn(e.Node)
			d.give(done)
		})
	})
}

// question is a device that is asked whether it would work.
type question struct{ device int }

// ask has a device answer after a time; one that would fail says so.
func (f *devices) ask(d *daemon, device int) {
	q := &question{device}
	if d.asking != nil {
		f.w.violate("machine", "node %d asks device %d while it asks %d", d.h.id, device, d.asking.device)
	}
	d.asking = q
	m := *f.mode(d.h.id, membership.NodeID(device+1)) // each node has one, see plan.config
	f.later(d, f.r.Between(5*time.Millisecond, 500*time.Millisecond), func() {
		if d.asking != q {
			return
		}
		d.asking = nil
		a := membership.FenceAnswer{}
		if m == fails || m == hangs {
			a.Err = "the device says no"
		}
		d.give(node.DeviceAnswered{Device: device, Answer: a})
	})
}

// stop ends a question, which is answered all the same.
func (f *devices) stop(d *daemon) {
	if q := d.asking; q != nil {
		d.asking = nil
		f.w.after(0, func() { d.give(node.DeviceAnswered{Device: q.device, Stopped: true}) })
	}
}

func (f *devices) cut(d *daemon, job membership.FenceJob, m mode) {
	v := f.w.host(job.Victim.Node)
	if !v.on {
		return
	}
	f.w.check.shot(d, v, job)
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
	f.runs = slices.DeleteFunc(f.runs, func(o *agentRun) bool { return o.d == d && o.job == job })
	d.give(node.FenceDone{Job: job, Result: r, Ended: d.h.mono(), Samples: f.w.probes.samples(d.h)})
}

// operate is the operator of a cluster without devices: now and then he looks
// who waits for proof, makes sure that the machine is off, and says so.
func (f *devices) operate() {
	f.w.after(f.r.Between(2*time.Second, 6*time.Second), func() {
		for _, h := range f.w.hosts {
			if h.d != nil && h.d.n != nil && h.paused == 0 && h.stalled == 0 && h.frozen == 0 && f.acknowledge(h) {
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
