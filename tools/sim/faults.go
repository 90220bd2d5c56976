package sim

import (
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// faults are the random ones: some bursts of one or two at once, then the end
// of all of them, then the wait for everything to run again.
type faults struct {
	w     *world
	r     *rng
	undo  []func()
	until time.Duration // the faults do not end before that
	wiped bool
}

func newFaults(w *world) *faults {
	return &faults{w: w, r: stream(w.opt.Seed, "faults", 0)}
}

func (f *faults) schedule() {
	if f.w.plan.manual {
		f.w.devs.operate()
	}
	t := f.r.Between(4*time.Second, 9*time.Second)
	if f.r.Chance(0.1) {
		t = f.r.Between(0, 3*time.Second) // while the cluster forms
	}
	bursts, rest := 1+f.r.Intn(5), 9*time.Second
	if f.r.Chance(0.2) { // a storm
		bursts, rest = 10+f.r.Intn(20), 2*time.Second
	}
	for range bursts {
		f.w.at(t, f.one)
		if f.r.Chance(0.45) { // two at once, or nearly
			f.w.at(t+f.gap(), f.one)
		}
		t += f.r.Between(20*time.Millisecond, rest)
	}
	for t0 := t; f.r.Chance(0.3) && t0 > 0; { // busy programs
		t0 -= f.r.Between(0, 3*time.Second)
		f.w.at(max(t0, 0), f.mounts)
		f.w.at(max(t0, 0), f.mounts)
	}
	f.w.at(t+f.r.Between(500*time.Millisecond, 6*time.Second), f.heal)
}

// gap is the time between two faults that meet.
func (f *faults) gap() time.Duration {
	return [...]time.Duration{0, f.r.Between(0, 20*time.Millisecond), f.r.Between(0, 300*time.Millisecond), f.r.Between(0, 3*time.Second)}[f.r.Intn(4)]
}

// temporary undoes a fault after a while, and at the latest at the end.
func (f *faults) temporary(for_ time.Duration, undo func()) {
	done := false
	once := func() {
		if !done {
			done = true
			undo()
		}
	}
	f.undo = append(f.undo, once)
	f.w.after(for_, once)
}

func (f *faults) heal() {
	w := f.w
	if w.now < f.until {
		w.at(f.until, f.heal)
		return
	}
	w.tracef("all faults end")
	for _, u := range f.undo {
		u()
	}
	w.healed = w.now
	if w.witness != nil {
		w.witness.powerOn()
	}
	f.endMaintenance()
	for _, h := range w.hosts {
		h.stayOff = false
		if w.check.configured(h.id) {
			h.installed()
		}
		copy(h.wants, w.plan.wants[h.id-1])
		if !h.on {
			h.powerOnAfter(f.r.Between(500*time.Millisecond, 4*time.Second))
			continue
		}
		if h.d == nil && len(h.kern.spaces) == 0 {
			h.startDaemonAfter(f.r.Between(100*time.Millisecond, time.Second))
		}
		h.kern.programs()
	}
	f.progress()
}

// progress is I8: once nothing is wrong, everything runs within a bound.
func (f *faults) progress() {
	w := f.w
	why := w.check.missing()
	switch {
	case why == "":
		w.check.states()
		w.done = true
	case w.now-w.healed > progressBound:
		w.violate("I8 progress", "%v after the last fault %s", progressBound, why)
	default:
		w.undrain()
		w.after(500*time.Millisecond, f.progress)
	}
}

func (f *faults) host() *host { return f.w.hosts[f.r.Intn(len(f.w.hosts))] }

// leader is the node that leads, or any.
func (f *faults) leader() *host {
	for _, h := range f.w.hosts {
		if h.d != nil && h.d.group.Status().Leader == h.id {
			return h
		}
	}
	return f.host()
}

// log draws a duration with equal chances for its orders of magnitude.
func (f *faults) log(lo, hi time.Duration) time.Duration {
	for lo*3 < hi && f.r.Chance(0.6) {
		lo *= 3
	}
	return f.r.Between(lo, min(lo*3, hi))
}

var kinds = []func(f *faults){
	(*faults).kill, (*faults).kill, (*faults).kill, (*faults).killLeader, (*faults).killLeader,
	(*faults).crashDaemon, (*faults).pause, (*faults).pause, (*faults).stall, (*faults).stall, (*faults).mute, (*faults).freeze, (*faults).freeze,
	(*faults).cutPair, (*faults).cutPair, (*faults).cutOneWay, (*faults).isolate, (*faults).isolate,
	(*faults).partition, (*faults).flap, (*faults).slowDisk, (*faults).wipe, (*faults).reset, (*faults).dropSome,
	(*faults).fencing, (*faults).fencing, (*faults).fencing, (*faults).hangStop, (*faults).failStart,
	(*faults).mounts, (*faults).mounts, (*faults).mounts, (*faults).leave, (*faults).fenceNode,
	(*faults).crashBetween, (*faults).crashBetween, (*faults).powerAll,
	(*faults).halves, (*faults).actorFails, (*faults).actorFails, (*faults).electionDies, (*faults).changeDies, (*faults).changeDies,
	(*faults).hold, (*faults).hold, (*faults).maintenance, (*faults).readOnly,
	(*faults).closePort, (*faults).withdraw, (*faults).lying,
	(*faults).reconfigure, (*faults).reconfigure, (*faults).reconfigure,
}

func (f *faults) one() {
	if f.w.witness != nil && f.r.Chance(0.25) && f.w.healed == 0 {
		witnessKinds[f.r.Intn(len(witnessKinds))](f)
		return
	}
	if f.w.healed == 0 {
		kinds[f.r.Intn(len(kinds))](f)
	}
}

func (f *faults) killHost(h *host) {
	off := f.log(100*time.Millisecond, 15*time.Second)
	h.stayOff = f.r.Chance(0.2)
	h.powerCut("fault")
	if !h.stayOff {
		h.powerOnAfter(off)
	}
}

func (f *faults) kill() {
	if f.w.healed == 0 {
		f.killHost(f.host())
	}
}

func (f *faults) killLeader() { f.killHost(f.leader()) }

func (f *faults) crashDaemon() { f.host().daemonCrash("fault") }

func (f *faults) pause() {
	if h := f.host(); h.d != nil {
		h.pause(f.log(50*time.Millisecond, 15*time.Second))
	}
}

// stall stops a daemon's main loop, often for longer than anybody puts up with; at times
// just before something waits for it.
func (f *faults) stall() {
	h := f.host()
	if f.r.Chance(0.3) {
		h = f.leader()
	}
	if h.d == nil {
		return
	}
	still := f.log(100*time.Millisecond, 40*time.Second)
	f.until = max(f.until, f.w.now+still)
	h.stall(still)
	if f.r.Chance(0.4) {
		f.w.after(f.gap(), f.mounts)
	}
}

// mute stops a prober, often for longer than the others put up with.
func (f *faults) mute() {
	if h := f.host(); h.d != nil {
		still := f.log(50*time.Millisecond, 40*time.Second)
		f.until = max(f.until, f.w.now+still)
		h.mute(still)
	}
}

func (f *faults) freeze() {
	if h := f.host(); h.on {
		h.freeze(f.log(50*time.Millisecond, 15*time.Second))
	}
}

// cut cuts one direction for a while. Link -1: all links.
func (f *faults) cut(link int, from, to *host, for_ time.Duration) {
	if from == to {
		return
	}
	n := f.w.net
	n.cut(link, from.id, to.id, 1)
	f.temporary(for_, func() {
		n.cut(link, from.id, to.id, -1)
		n.changed()
	})
}

func (f *faults) anyLink() int {
	if f.r.Chance(0.5) {
		return -1
	}
	return f.r.Intn(f.w.plan.links)
}

func (f *faults) cutPair() {
	a, b, l, d := f.host(), f.host(), f.anyLink(), f.log(50*time.Millisecond, 20*time.Second)
	f.w.tracef("fault: cut between %d and %d on link %d for %v", a.id, b.id, l, d)
	f.cut(l, a, b, d)
	f.cut(l, b, a, d)
	f.w.net.changed()
}

func (f *faults) cutOneWay() {
	a, b, l, d := f.host(), f.host(), f.anyLink(), f.log(50*time.Millisecond, 20*time.Second)
	f.w.tracef("fault: cut from %d to %d on link %d for %v", a.id, b.id, l, d)
	f.cut(l, a, b, d)
	f.w.net.changed()
}

// closePort is a firewall that somebody changed; then somebody mounts, or unmounts.
func (f *faults) closePort() {
	a, b, d := f.host(), f.host(), f.log(50*time.Millisecond, 20*time.Second)
	f.w.tracef("fault: the DLM's port is closed between %d and %d for %v", a.id, b.id, d)
	f.w.net.closePort(a.id, b.id, 1)
	f.temporary(d, func() { f.w.net.closePort(a.id, b.id, -1) })
	if f.r.Chance(0.7) {
		f.mountsOn(a)
	}
}

func (f *faults) isolate() {
	a, l, d := f.host(), f.anyLink(), f.log(50*time.Millisecond, 20*time.Second)
	in, out := !f.r.Chance(0.15), !f.r.Chance(0.15)
	f.w.tracef("fault: node %d is isolated on link %d for %v, in %v, out %v", a.id, l, d, in, out)
	for _, b := range f.w.all() {
		if out {
			f.cut(l, a, b, d)
		}
		if in {
			f.cut(l, b, a, d)
		}
	}
	f.w.net.changed()
}

func (f *faults) partition() {
	d, mask := f.log(100*time.Millisecond, 20*time.Second), f.r.Uint64()
	f.w.tracef("fault: partition %b for %v", mask&(1<<f.w.plan.nodes-1), d)
	f.w.net.splitBy(func(h *host) bool { return mask>>(h.id-1)&1 != 0 }, func(a, b *host) { f.cut(-1, a, b, d) })
	f.w.net.changed()
}

// halves cuts the nodes in two, as evenly as they go.
func (f *faults) halves() {
	d, in := f.log(100*time.Millisecond, 20*time.Second), map[*host]bool{}
	for len(in) < len(f.w.hosts)/2 {
		in[f.host()] = true
	}
	for _, h := range f.w.hosts {
		if in[h] {
			h.tracef("fault: in the half that is cut off for %v", d)
		}
	}
	f.w.net.splitBy(func(h *host) bool { return in[h] }, func(a, b *host) { f.cut(-1, a, b, d) })
	f.w.net.changed()
}

// when does something a moment after the next event of a kind.
func (f *faults) when(k membership.Kind, do func(membership.Event)) {
	gap := f.gap()
	f.w.triggers = append(f.w.triggers, &trigger{kind: k, do: func(e membership.Event) {
		f.w.after(gap, func() {
			if f.w.healed == 0 {
				f.w.tracef("fault: %v after %s at node %d", gap, e.Kind, e.Node)
				do(e)
			}
		})
	}})
}

// actorFails: who fences the next victim dies meanwhile, or stands still.
func (f *faults) actorFails() {
	do := f.actorDies
	if f.r.Chance(0.5) {
		do = f.actorStill
	}
	f.when(membership.KindFenceStart, func(membership.Event) {
		if a := f.w.devs.actor; a != nil && a.on {
			do(a)
		}
	})
	f.kill()
}

func (f *faults) actorDies(a *host) { f.killHost(a) }

// actorStill: it stands still, for longer than its job's lease perhaps, and cannot be fenced.
func (f *faults) actorStill(a *host) {
	still := f.r.Between(time.Second, time.Minute)
	f.until = max(f.until, f.w.now+still)
	for _, h := range f.w.hosts {
		*f.w.devs.mode(h.id, a.id) = fails
	}
	f.temporary(still, f.devicesWork)
	a.freeze(still)
}

func (f *faults) devicesWork() {
	for i := range f.w.devs.modes {
		f.w.devs.modes[i] = works
	}
}

// electionDies: the leader dies, and who campaigns next or leads next dies as well.
func (f *faults) electionDies() {
	k := membership.KindLeader
	if f.r.Chance(0.5) {
		k = membership.KindCampaign
	}
	f.when(k, func(e membership.Event) { f.killHost(f.w.host(subject(e))) })
	f.killLeader()
}

// changeDies: somebody dies at a step of the next change, and one is asked for.
func (f *faults) changeDies() {
	steps := [...]membership.Kind{membership.KindJoin, membership.KindLeave, membership.KindChange, membership.KindStopped, membership.KindOpened,
		membership.KindStarted, membership.KindRecovered, membership.KindJoined, membership.KindLeft}
	asks := f.host()
	f.when(steps[f.r.Intn(len(steps))], func(e membership.Event) {
		victim := asks
		if f.r.Chance(0.3) {
			victim = f.w.host(e.Node)
		}
		f.killHost(victim)
	})
	f.mountsOn(asks)
}

func (f *faults) flap() {
	a, b, l := f.host(), f.host(), f.anyLink()
	all := f.r.Chance(0.4)
	f.w.tracef("fault: link %d of node %d flaps (all %v, else to %d)", l, a.id, all, b.id)
	t := time.Duration(0)
	for range 2 + f.r.Intn(8) {
		down := f.log(10*time.Millisecond, 3*time.Second)
		f.w.after(t, func() {
			if f.w.healed != 0 {
				return
			}
			for _, o := range f.w.hosts {
				if all || o == b {
					f.cut(l, a, o, down)
					f.cut(l, o, a, down)
				}
			}
			f.w.net.changed()
		})
		t += down + f.log(10*time.Millisecond, 3*time.Second)
	}
}

func (f *faults) slowDisk() {
	h := f.host()
	h.writes = f.log(10*time.Millisecond, 3*time.Second)
	h.tracef("fault: disk takes up to %v", h.writes)
	f.temporary(f.log(time.Second, 15*time.Second), func() { h.writes = 0 })
}

// wipe loses one disk a run, if no other has failed: more would be more than a majority survives.
func (f *faults) wipe() {
	if f.wiped || !f.w.plan.spare() {
		return
	}
	f.wiped = true
	h := f.host()
	h.powerCut("fault, and its disk is lost")
	h.wipe()
	h.powerOnAfter(f.log(500*time.Millisecond, 10*time.Second))
}

// readOnly has a disk take no more records. Whoever repairs it boots the machine
// anew. Together with a lost disk it may be more than a majority survives.
func (f *faults) readOnly() {
	if f.wiped || !f.w.plan.spare() {
		return
	}
	f.wiped = true
	h := f.host()
	h.readOnly = true
	h.tracef("fault: the disk is read-only")
	f.temporary(f.log(time.Second, 25*time.Second), func() {
		h.readOnly = false
		if h.d != nil && h.d.noDisk {
			h.reboot("operator: its disk is repaired", h.r.Between(time.Second, 4*time.Second))
		}
	})
}

func (f *faults) reset() {
	a, b := f.host(), f.host()
	if a != b {
		f.w.tracef("fault: the connection of %d and %d is reset", a.id, b.id)
		c, _ := f.w.net.conn(a.id, b.id)
		f.w.net.close(c, "reset")
	}
}

func (f *faults) dropSome() {
	f.w.net.drop = f.r.Float() * 0.4
	f.w.tracef("fault: %.0f%% of the messages are dropped", f.w.net.drop*100)
	f.temporary(f.log(300*time.Millisecond, 6*time.Second), func() { f.w.net.drop = 0 })
}

// fencing changes how fencing goes, for one victim or all, one actor or all.
func (f *faults) fencing() {
	victim, actor := f.host().id, f.host().id
	m := mode(f.r.Intn(int(modes)))
	oneVictim, oneActor := f.r.Chance(0.5), f.r.Chance(0.5)
	f.w.tracef("fault: fencing %s (victim %d only: %v, actor %d only: %v)", modeNames[m], victim, oneVictim, actor, oneActor)
	for _, a := range f.w.hosts {
		for _, v := range f.w.hosts {
			if (!oneVictim || v.id == victim) && (!oneActor || a.id == actor) {
				*f.w.devs.mode(a.id, v.id) = m
			}
		}
	}
	f.temporary(f.log(3*time.Second, 20*time.Second), f.devicesWork)
}

func (f *faults) hangStop() {
	h := f.host()
	if !h.on {
		return
	}
	k := h.kern
	k.stopHangs = f.log(500*time.Millisecond, 20*time.Second)
	h.tracef("fault: stops take %v", k.stopHangs)
	f.temporary(f.log(time.Second, 10*time.Second), func() { k.stopHangs = 0 })
}

func (f *faults) failStart() {
	h := f.host()
	if !h.on {
		return
	}
	k := h.kern
	k.startFail = 0.5
	h.tracef("fault: starts fail")
	f.temporary(f.log(300*time.Millisecond, 10*time.Second), func() { k.startFail = 0 })
}

// mounts unmounts or mounts something, and perhaps back again soon.
func (f *faults) mounts() { f.mountsOn(f.host()) }

func (f *faults) mountsOn(h *host) {
	i := f.r.Intn(len(f.w.plan.spaces))
	set := func(v bool) {
		if f.w.healed != 0 {
			return
		}
		h.wants[i] = v
		h.tracef("programs want %s: %v", f.w.plan.spaces[i], v)
		if h.on {
			h.kern.programs()
		}
	}
	v := !h.wants[i]
	set(v)
	if f.r.Chance(0.6) {
		f.w.after(f.log(5*time.Millisecond, 6*time.Second), func() { set(!v) })
	}
	if f.r.Chance(0.3) {
		f.w.after(f.gap(), f.kill)
	}
}

// withdraw is an error of a file system; often whoever shares it dies soon.
func (f *faults) withdraw() {
	h, name := f.host(), f.w.plan.spaces[f.r.Intn(len(f.w.plan.spaces))]
	if !h.on || !h.kern.withdraw(name) {
		return
	}
	h.tracef("fault: the file system on %s withdraws", name)
	if f.w.opt.Static && slices.Contains(f.w.plan.newer, false) { // nobody can evict it
		h.unattended = true
		h.rebootUnattended()
	}
	if f.r.Chance(0.3) {
		f.w.after(f.gap(), f.kill)
	}
}

func (f *faults) leave() {
	h := f.host()
	for i := range h.wants {
		h.wants[i] = h.wants[i] && f.r.Chance(0.2)
	}
	if h.on {
		h.kern.programs()
	}
	f.w.after(f.log(100*time.Millisecond, 4*time.Second), func() {
		h.tracef("operator: leave")
		h.d.give(node.Operator{Command: "leave"})
	})
}

func (f *faults) fenceNode() {
	h, v := f.host(), f.host()
	h.tracef("operator: fence node %d", v.id)
	f.w.check.waive(v)
	h.d.give(node.Operator{Command: "fence-node", Node: v.id, Who: "operator"})
}

// hold announces a freeze, which then comes: mostly as announced, at times too
// long, and at times the hold is taken back in its middle.
func (f *faults) hold() {
	h, v, d := f.host(), f.host(), f.log(time.Second, 30*time.Second)
	if f.r.Chance(0.3) {
		v = f.leader()
	}
	h.hold(v, d)
	f.w.after(f.r.Between(50*time.Millisecond, time.Second), func() {
		if f.w.healed == 0 && v.on {
			v.freeze(time.Duration(f.r.Float() * 1.3 * float64(d)))
		}
	})
	if f.r.Chance(0.2) {
		f.w.after(f.r.Between(time.Second, d+time.Second), func() { h.release(v) })
	}
}

func (f *faults) crashBetween() {
	if h := f.host(); h.d != nil {
		h.d.crashIn = 1 + f.r.Intn(60)
	}
}

// powerAll is a power failure of the site: all die, some boot much later.
func (f *faults) powerAll() {
	if !f.r.Chance(0.5) {
		return
	}
	for _, h := range f.w.hosts {
		f.w.after(f.r.Between(0, 30*time.Millisecond), func() { h.powerCut("power failure of the site") })
		h.powerOnAfter(f.log(500*time.Millisecond, 20*time.Second))
	}
}
