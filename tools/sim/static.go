package sim

import (
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/raft"
	"github.com/quorate/quorate/membership/group/static"
)

// group is what a daemon needs of a provider.
type group interface {
	membership.Group
	WantsCompact() bool
	Fault() error
}

var _ group = (*raft.Machine)(nil)

// listed is a group without a log: nothing of it can be broken.
type listed struct{ *static.Machine }

func (listed) Fault() error { return nil }

// list is the list of members that every node has; nil with raft.
func (w *world) list() *node.List {
	if !w.opt.Static {
		return nil
	}
	l := &node.List{From: "/etc/quorate/members"}
	for i := range w.hosts {
		l.Nodes = append(l.Nodes, membership.NodeID(i+1))
	}
	return l
}

func (d *daemon) openStatic() bool {
	m, err := static.New(static.Config{Self: d.h.id, Members: d.w.list().Nodes, Run: d.instance, Keep: 50})
	if err != nil {
		d.w.violate("machine", "the group of node %d does not start: %v", d.h.id, err)
		return false
	}
	d.cfg = d.w.plan.config(d.h.id)
	d.group = listed{m}
	return true
}

// rebootStale is the operator who looks now and then, and reboots a node whose
// kernel holds lockspaces of which a restarted sequencer knows nothing.
func (w *world) rebootStale() {
	for _, h := range w.hosts {
		if h.stale() {
			boots := h.boots
			w.after(h.r.Between(3*time.Second, 15*time.Second), func() {
				if h.boots == boots && h.stale() {
					h.reboot("operator: lockspaces of an earlier time", h.r.Between(time.Second, 4*time.Second))
				}
			})
		}
	}
	w.after(5*time.Second, w.rebootStale)
}

func (h *host) stale() bool {
	if !h.on || h.d == nil || h.d.n == nil || h.d.n.Member() {
		return false
	}
	for _, s := range h.kern.spaces {
		if s.started {
			return true
		}
	}
	return false
}
