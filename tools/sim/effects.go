package sim

import (
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// do executes one effect.
func (d *daemon) do(e node.Effect) {
	h, w := d.h, d.w
	if d.v != nil {
		d.voterEffect(e)
		return
	}
	switch e := e.(type) {
	case node.Send:
		if _, ok := node.GroupMessage(e.Data); ok && d.lost {
			return
		}
		w.check.sent(h, e.Data)
		w.net.send(h.id, e.To, e.Data)
	case node.Drive:
		h.kern.drive(e.Effect)
	case node.Fence:
		w.devs.fence(d, e.Job)
	case node.DialWitness:
		if d.dials = 0; e.Witness != nil {
			d.dials = e.Witness.ID
		}
		w.after(0, w.net.changed)
	case node.Unfence:
		w.devs.unfence(d, e)
	case node.AskDevice:
		w.devs.ask(d, e.Device)
	case node.StopAsking:
		w.devs.stop(d)
	case node.CancelFence:
		w.devs.cancel(d, e.Job)
	case node.LearnEpoch:
		w.probes.learn(h.id, e.Peer, e.Epoch)
	case node.Emit:
		d.emitted(e.Event)
	case node.CheckConfig:
		d.checkConfig(e)
	case node.Reconfigure:
		d.reconfigure(e)
	case node.Quiesce:
		h.kern.quiesce(true)
	case node.Reopen:
		h.kern.quiesce(false)
	case node.Reply:
		d.answered(e)
	case node.SelfFence:
		h.tracef("ends itself: %s", e.Why)
		h.reboot("self-fence", h.r.Between(time.Second, 5*time.Second))
	case node.Exit:
		d.exit(e)
	}
}

func (d *daemon) emitted(e membership.Event) {
	w := d.w
	w.note(uint64(d.h.id)<<32 | uint64(len(e.Text))<<16 | uint64(len(e.Kind))<<8 | uint64(e.Subject))
	if w.tracing() {
		ls := e.Lockspace
		if e.Change != 0 {
			ls += "/" + itoa(e.Change)
		}
		if e.Subject != 0 {
			ls += " node " + itoa(uint64(e.Subject))
		}
		d.h.tracef("  %-12s %s %s", e.Kind, ls, e.Text)
	}
	if e.Kind == membership.KindEvicted {
		w.check.evicted(d.h, e)
	}
	w.logged(e)
}

func (d *daemon) exit(e node.Exit) {
	h := d.h
	if d.noDisk && !d.group.Status().Formed {
		h.daemonCrash("no log, and no cluster that could do without it")
		return
	}
	if !e.Clean {
		h.w.violate("machine", "node %d stops itself: %s", h.id, e.Why)
		return
	}
	h.tracef("daemon ends: %s", e.Why)
	h.w.note(uint64(h.id)<<8 | 4)
	h.endDaemon()
	if h.w.healed != 0 {
		h.startDaemonAfter(h.r.Between(500*time.Millisecond, 3*time.Second))
		return
	}
	h.startDaemonAfter(h.r.Between(time.Second, 15*time.Second))
}

// tap is the daemon's group, with an ear on what it delivers.
type tap struct{ d *daemon }

func (t tap) Step(now membership.Mono, in ...membership.GroupInput) []membership.GroupEffect {
	for _, i := range in {
		if c, ok := i.(membership.GroupCompact); ok {
			t.d.states = append(t.d.states, c) // it counts when what made it is durable
		}
	}
	effs := t.d.group.Step(now, in...)
	for _, e := range effs {
		switch e.(type) {
		case membership.GroupDeliver, membership.GroupRestore:
			t.d.entries = append(t.d.entries, e)
		}
	}
	return effs
}

// Members is for a group that takes a list.
func (t tap) Members(ids []membership.NodeID) error {
	if g, ok := t.d.group.(interface {
		Members([]membership.NodeID) error
	}); ok {
		return g.Members(ids)
	}
	return nil
}

// DiskLost is for a group that has a log.
func (t tap) DiskLost(why string) bool {
	g, ok := t.d.group.(membership.Diskless)
	return ok && g.DiskLost(why)
}

// MayForce is for a group that half of its voters can go on with.
func (t tap) MayForce(nodes []membership.NodeID) string {
	if g, ok := t.d.group.(membership.Forcer); ok {
		return g.MayForce(nodes)
	}
	return "it cannot be forced"
}

// MajorityRuns is for such a group as well.
func (t tap) MajorityRuns(nodes ...membership.NodeID) bool {
	g, ok := t.d.group.(membership.Forcer)
	return ok && g.MajorityRuns(nodes...)
}

// Pledged is for such a group as well.
func (t tap) Pledged(nodes []membership.NodeID) bool {
	g, ok := t.d.group.(membership.Forcer)
	return ok && g.Pledged(nodes)
}

// Undelivered is for such a group as well.
func (t tap) Undelivered() [][]byte {
	if g, ok := t.d.group.(membership.Forcer); ok {
		return g.Undelivered()
	}
	return nil
}

var _ membership.Forcer = tap{}

// SetElectorate is for a group that votes.
func (t tap) SetElectorate(nodes []membership.NodeID) {
	if g, ok := t.d.group.(interface{ SetElectorate([]membership.NodeID) }); ok {
		g.SetElectorate(nodes)
	}
}

// Rejoin and RivalGone are for such a group as well.
func (t tap) Rejoin() bool {
	g, ok := t.d.group.(interface{ Rejoin() bool })
	return ok && g.Rejoin()
}

// RivalGone: see Rejoin.
func (t tap) RivalGone(n membership.NodeID) bool {
	g, ok := t.d.group.(interface {
		RivalGone(membership.NodeID) bool
	})
	return ok && g.RivalGone(n)
}

func (t tap) Fault() error { return t.d.group.Fault() }

// SetNodes and SetTimes are for a group that has a configuration of its own.
func (t tap) SetNodes(ids []membership.NodeID) {
	if g, ok := t.d.group.(interface{ SetNodes([]membership.NodeID) }); ok {
		g.SetNodes(ids)
	}
}

// SetTimes: see SetNodes.
func (t tap) SetTimes(heartbeat, backstop time.Duration) {
	if g, ok := t.d.group.(interface {
		SetTimes(heartbeat, backstop time.Duration)
	}); ok {
		g.SetTimes(heartbeat, backstop)
	}
}

func (t tap) WantsCompact() bool             { return t.d.group.WantsCompact() }
func (t tap) Deadline() membership.Mono      { return t.d.group.Deadline() }
func (t tap) Status() membership.GroupStatus { return t.d.group.Status() }

func itoa(v uint64) string {
	if v < 10 {
		return string(rune('0' + v))
	}
	return itoa(v/10) + itoa(v%10)
}
