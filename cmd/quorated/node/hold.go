package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
)

// holdClock is until when a hold is in force by this node's own count, which
// began when this run of the daemon learned of it.
type holdClock struct {
	node  membership.NodeID
	index uint64
	until membership.Mono
}

// askHold has a freeze announced. It is answered when that is agreed and applied
// here: from then on no eviction for silence can be ordered.
func (n *Node) askHold(in Operator) {
	name := n.cfg.Name(in.Node)
	m, ok := n.st.View.Find(in.Node)
	switch {
	case !ok:
		n.refuseOperator(in, "%s is not a member; see `quorate nodes`", name)
	case in.For < cluster.MinHold || in.For > cluster.MaxHold:
		n.refuseOperator(in, "a hold lasts from %s to %s, not %s; announce a longer freeze again before the first hold ends",
			membership.Short(cluster.MinHold), membership.Short(cluster.MaxHold), membership.Short(in.For))
	default:
		h := &cluster.Hold{Incarnation: m, For: in.For, Who: n.askedBy(in), Ask: n.askName(in)}
		n.askFor(in, cluster.Command{Hold: h},
			fmt.Sprintf("%s is held for %s: it may stand still now; `quorate node release %s` ends it sooner", name, membership.Short(in.For), name))
	}
}

// askRelease has a hold ended.
func (n *Node) askRelease(in Operator) {
	name := n.cfg.Name(in.Node)
	m, _ := n.st.View.Find(in.Node)
	h := n.st.Held(m)
	if h == nil {
		n.refuseOperator(in, "%s is not held; see `quorate nodes`", name)
		return
	}
	end := &cluster.HoldEnd{Incarnation: m, Index: h.Index, Who: in.Who}
	n.askFor(in, cluster.Command{HoldEnd: end}, fmt.Sprintf("%s is held no more", name))
}

// endHolds is the leader's: it has those ended whose time is over by its count.
func (n *Node) endHolds() {
	for _, c := range n.holds {
		if n.now < c.until {
			n.wake(c.until)
			continue
		}
		m, _ := n.st.View.Find(c.node)
		end := cluster.Command{HoldEnd: &cluster.HoldEnd{Incarnation: m, Index: c.index}}
		n.propose(askKey(end), end)
	}
}

// releasedHere ends a hold for this node alone, by an operator's word that cannot be
// ordered: what this node may do without the other by the rules of the configuration it
// does, and fences it for that. No entry evicts it sooner: who ended it here, and leads
// again one day, has it ended for all. It says whether there was one.
func (n *Node) releasedHere(id membership.NodeID) bool {
	i := slices.IndexFunc(n.holds, func(c holdClock) bool { return c.node == id })
	if i < 0 {
		return false
	}
	if n.now < n.holds[i].until {
		n.holds[i].until = n.now
		n.unheld[id] = n.now
		n.liveness(liveness.Hold{Node: id, Until: n.now})
		n.emit(membership.Event{Kind: membership.KindHold, Subject: id, Text: fmt.Sprintf("the hold of %s is over for this node alone: nobody is there to agree", n.cfg.Name(id))})
	}
	return true
}

// fenceHeld has a held node fenced that is silent, where nothing can be agreed without
// it: the hold is over for this node, and the takeover by a rule fences it. It says
// whether it was for it.
func (n *Node) fenceHeld(in Operator, deps []membership.Departure) bool {
	rule, _ := n.policy.Takeover(n.without(in.Node), n.st.View.IDs())
	if n.maintenanceBars() != "" || !n.alone(deps) || slices.Contains(n.audible(), in.Node) || !n.releasedHere(in.Node) {
		return false
	}
	n.do(Reply{Token: in.Token, Text: fmt.Sprintf("%s is silent, and nothing can be agreed without it: its hold is over for this node, which goes on by %s and fences it for that; follow it with `quorate events --follow`",
		n.cfg.Name(in.Node), rule)})
	return true
}

// holdWaits are the members that are silent and would be evicted were they not held.
func (n *Node) holdWaits() (ws []control.Wait) {
	for _, h := range n.st.Holds {
		id := h.Incarnation.Node
		_, left := n.holdOf(id)
		if left == 0 || n.maintenanceLeft() > left || slices.Contains(n.audible(), id) {
			continue
		}
		name := n.cfg.Name(id)
		ws = append(ws, control.Wait{What: "cluster", For: "hold", Owner: id, Since: max(n.live.Age(id), 0), Deadline: left + n.cfg.Timing.DeadAfter,
			Reason:  fmt.Sprintf("%s is silent, and is not evicted before the end of its hold, which %s announced: whoever needs its locks or its word waits", name, h.Who),
			Command: fmt.Sprintf("wait for it; if it is over, or %s has died: quorate node release %[1]s (it is then evicted, and fenced, unless it answers)", name)})
	}
	return ws
}

// heldNow does what follows from an entry about a hold.
func (n *Node) heldNow(index uint64, o cluster.Outcome) {
	n.followHolds()
	if h := o.Held; h != nil {
		n.emit(membership.Event{Kind: membership.KindHold, Subject: h.Incarnation.Node, Index: index,
			Text: fmt.Sprintf("%v is held for %s, by %s: its silence evicts it no sooner", h.Incarnation, membership.Short(h.For), h.Who)})
		if h.Incarnation.Node == n.cfg.Self && n.leads() {
			// Before this node freezes: nothing waits for an election then.
			n.handOver(func(m membership.Incarnation) bool {
				return n.known(m.Node) && n.st.Held(m) == nil
			})
		}
	}
	if h := o.Unheld; h != nil {
		n.unheld[h.Incarnation.Node] = n.now
		n.emit(membership.Event{Kind: membership.KindHold, Subject: h.Incarnation.Node, Index: index,
			Text: fmt.Sprintf("%v is held no more", h.Incarnation)})
	}
}

// followHolds makes this node's clocks, and what the detector knows, those of the
// agreed holds. A hold that is new here counts from now.
func (n *Node) followHolds() {
	had := n.holds
	n.holds = nil
	for _, h := range n.st.Holds {
		c := holdClock{h.Incarnation.Node, h.Index, n.now.Add(h.For)}
		if i := slices.IndexFunc(had, func(o holdClock) bool { return o.index == c.index }); i >= 0 {
			c = had[i]
		} else {
			n.liveness(liveness.Hold{Node: c.node, Until: c.until})
		}
		n.holds = append(n.holds, c)
	}
	for _, o := range had {
		if !slices.ContainsFunc(n.holds, func(c holdClock) bool { return c.node == o.node }) {
			n.liveness(liveness.Hold{Node: o.node, Until: n.now})
		}
	}
}

// holdOf is the hold of a node and how much of it is left by this node's count.
func (n *Node) holdOf(id membership.NodeID) (h *cluster.Held, left time.Duration) {
	m, _ := n.st.View.Find(id)
	if h = n.st.Held(m); h == nil {
		return nil, 0
	}
	for _, c := range n.holds {
		if c.node == id {
			left = max(c.until.Sub(n.now), 0)
		}
	}
	return h, left
}
