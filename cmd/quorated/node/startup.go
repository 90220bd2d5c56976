package node

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
)

// meets notes whom a peer has heard since its daemon started. An age alone does not
// say that (see liveness.Age); whose answer told its run has answered.
func (n *Node) meets(r liveness.Row) {
	for _, a := range r.Ages {
		if a.Instance != 0 {
			n.met[a.Peer] = true
		}
	}
}

// heard says that somebody who is or was here has heard a node since the daemons
// started. Then its silence is a loss, and not a start that takes longer.
func (n *Node) heard(id membership.NodeID) bool {
	return id == n.cfg.Self || n.met[id] || n.live.Age(id) >= 0
}

// grace says that a member is waited for which nobody has heard: the log names it from
// before all were down, and it may be booting as this node was. until is when that
// ends; 0: not by itself.
func (n *Node) grace(id membership.NodeID) (until membership.Mono, waits bool) {
	switch {
	case n.heard(id):
		return 0, false
	case n.cfg.StartupFencing == membership.StartupWait:
		return 0, true
	}
	until = n.started.Add(n.cfg.JoinGrace)
	return until, n.now < until
}

// spared says the same of somebody who would be evicted, and has the node look again
// when the grace ends.
func (n *Node) spared(id membership.NodeID) bool {
	until, waits := n.grace(id)
	if waits && until != 0 {
		n.wake(until)
	}
	return waits
}

// unseen: its silence does not count yet.
func (n *Node) unseen(d membership.Departure) bool {
	_, waits := n.grace(d.Incarnation.Node)
	return waits
}

// awaitsStart says that a node is a member, and is waited for.
func (n *Node) awaitsStart(id membership.NodeID) bool {
	_, member := n.st.View.Find(id)
	_, waits := n.grace(id)
	return member && waits
}

// graceWaits are the members that are waited for, whether anything needs them or not.
func (n *Node) graceWaits() (ws []control.Wait) {
	for _, id := range n.live.Suspects() {
		if n.awaitsStart(id) {
			w := control.Wait{What: "cluster", For: "view", Owner: id, Since: n.now.Sub(n.started)}
			n.graceText(&w, id)
			ws = append(ws, w)
		}
	}
	return ws
}

// graceText says how long a member is waited for, and what may be done meanwhile.
func (n *Node) graceText(w *control.Wait, id membership.NodeID) {
	name := n.cfg.Name(id)
	w.Reason = name + " was a member and has not been heard since this daemon started; "
	w.Command = "boot " + name + " and start quorated there; when it will not come back, "
	if n.lease(id) == 0 {
		w.Command += "quorate fence ack " + name + onlyWhenOff
	} else {
		w.Command += "quorate fence node " + name
	}
	until, _ := n.grace(id)
	if until == 0 {
		w.Deadline = 0
		w.Reason += `it may hold the shared disk, and is waited for (startup_fencing = "wait")`
		return
	}
	w.Deadline = max(until.Sub(n.now), 0)
	w.Reason += "it is evicted when its grace ends"
}

// stopWaits are the nodes whose word a change needs before it can open.
func (n *Node) stopWaits(what string, c *lockspace.Change, w control.Wait) (ws []control.Wait) {
	for _, id := range missing(c) {
		w.What, w.For, w.Owner, w.Command = what, "stop", id, ""
		w.Deadline = max(stopLimit-w.Since, 0)
		w.Reason = fmt.Sprintf("%s has not confirmed that its kernel stopped the lockspace", n.cfg.Name(id))
		if _, waits := n.grace(id); waits {
			n.graceText(&w, id)
		} else {
			n.stillText(&w, id)
		}
		ws = append(ws, w)
	}
	return ws
}

// surelyUnheard says that this node has listened for a node for long enough, and knows
// of every member that is here whom it hears: a daemon that has only just started has
// heard nobody.
func (n *Node) surelyUnheard(id membership.NodeID) bool {
	for _, m := range n.st.View.Members {
		if p := n.peers[m.Node]; p != nil && p.connected && !n.freshRow(p) {
			return false
		}
	}
	return slices.Contains(n.live.Suspects(), id)
}

// ackUnseen is an operator's word that a member which is waited for is off: it is
// evicted, and that is its proof. It says whether it was for it.
func (n *Node) ackUnseen(in Operator) bool {
	m, _ := n.st.View.Find(in.Node)
	if !n.awaitsStart(in.Node) || !n.surelyUnheard(in.Node) || n.leader == 0 || !n.quorate {
		return false
	}
	if rest := n.without(in.Node); !n.quorum(rest) {
		n.refuseOperator(in, "without %s the members left (%s) are no quorum: bring another node up first; see `quorate nodes`", n.cfg.Name(in.Node), cmp.Or(n.names(rest), "nobody"))
		return true
	}
	for _, c := range []cluster.Command{
		{Evict: &cluster.Evict{View: n.st.View.Number, Fence: true, Departures: []membership.Departure{{Incarnation: m, Reason: membership.ReasonOperator,
			Observers: []membership.NodeID{n.cfg.Self}}}}},
		{FenceAck: &cluster.FenceAck{Victim: m, Who: in.Who}}, // ordered behind it, and refused with it
	} {
		c.By, c.Wall = n.Self(), n.wall
		n.inputs = append(n.inputs, membership.GroupPropose{Data: c.Encode()})
	}
	n.stepQueued()
	n.do(Reply{Token: in.Token, Text: fmt.Sprintf("acknowledged: %s is evicted and taken as gone; see `quorate status`", n.cfg.Name(m.Node))})
	return true
}
