package sim

import (
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// do executes one effect.
func (d *daemon) do(e node.Effect) {
	h, w := d.h, d.w
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
	case node.LearnEpoch:
		w.probes.learn(h.id, e.Peer, e.Instance)
	case node.Emit:
		d.emitted(e.Event)
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
			t.d.w.check.state(t.d.h, c.Index, c.State)
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

func (t tap) WantsCompact() bool             { return t.d.group.WantsCompact() }
func (t tap) Deadline() membership.Mono      { return t.d.group.Deadline() }
func (t tap) Status() membership.GroupStatus { return t.d.group.Status() }

func itoa(v uint64) string {
	if v < 10 {
		return string(rune('0' + v))
	}
	return itoa(v/10) + itoa(v%10)
}
