package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// drainAgain is how long after a leave that something slipped into it is tried again.
const drainAgain = time.Second

// Drained is why a mount on a node that is drained gets an error.
const Drained = "this node is drained: it leaves the cluster"

// askDrain has it agreed that a node leaves when nothing is in use there.
func (n *Node) askDrain(in Operator) {
	name := n.cfg.Name(in.Node)
	m, ok := n.st.View.Find(in.Node)
	switch {
	case n.list != nil:
		n.refuseOperator(in, "with a list of members nothing is drained: unmount everything on %s, then run `quorate leave` there", name)
	case !ok:
		n.refuseOperator(in, "%s is not a member; see `quorate nodes`", name)
	case n.st.Draining(m) != nil:
		n.refuseOperator(in, "%s is drained already; see `quorate why`", name)
	default:
		d := &cluster.Drain{Incarnation: m, Who: n.askedBy(in)}
		text := fmt.Sprintf("%s mounts nothing new and leaves when nothing is in use there", name)
		if used := n.usedBy(m); len(used) > 0 {
			text += fmt.Sprintf("; in use: %s; unmount there, see `quorate why`", strings.Join(used, ", "))
		}
		n.askFor(in, cluster.Command{Drain: d}, text)
	}
}

// askUndrain takes a drain back.
func (n *Node) askUndrain(in Operator) {
	m, ok := n.st.View.Find(in.Node)
	rec := n.st.Node(in.Node)
	switch {
	case !ok && rec != nil && rec.Left:
		n.refuseOperator(in, "%s has left already, and a drain ends with that: start quorated there, and it is a member again", n.cfg.Name(in.Node))
		return
	case n.st.Draining(m) == nil:
		n.refuseOperator(in, "%s is not drained; see `quorate nodes`", n.cfg.Name(in.Node))
		return
	}
	n.askFor(in, cluster.Command{DrainEnd: &cluster.DrainEnd{Incarnation: m}}, n.cfg.Name(in.Node)+" stays")
}

// usedBy are the lockspaces that an incarnation is in.
func (n *Node) usedBy(m membership.Incarnation) (out []string) {
	for _, sp := range n.set.Spaces {
		if in(sp.Live, m) || sp.Change != nil && in(sp.Change.New, m) {
			out = append(out, sp.Name)
		}
	}
	return out
}

func in(members []lockspace.Member, m membership.Incarnation) bool {
	return slices.ContainsFunc(members, func(x lockspace.Member) bool { return x.Incarnation == m })
}

// draining says why nothing new is mounted here; empty: it may be.
func (n *Node) draining() string {
	if n.Member() && n.st.Draining(n.Self()) != nil {
		return Drained
	}
	return ""
}

// drainWish begins this node's leave when it is drained and nothing is in use here.
func (n *Node) drainWish() {
	switch {
	case n.draining() == "" || n.leaving != nil:
	case len(n.local.Names()) > 0 || len(n.usedBy(n.Self())) > 0:
	case n.now < n.drainAt:
		n.wake(n.drainAt)
	default:
		n.drainAt = n.now.Add(drainAgain)
		n.leaving = &leaving{since: n.now, drain: true}
		n.do(Quiesce{})
	}
}

// drained does what follows from an entry about a drain.
func (n *Node) drained(index uint64, o cluster.Outcome) {
	if d := o.Drained; d != nil {
		if d.Incarnation == n.Self() {
			n.drainedAt = index
		}
		n.emit(membership.Event{Kind: membership.KindDrain, Subject: d.Incarnation.Node, Index: index, Text: fmt.Sprintf("%v leaves when nothing is in use there, by %s", d.Incarnation, d.Who)})
	}
	if d := o.Undrained; d != nil {
		if d.Incarnation == n.Self() {
			n.drainedAt = 0
		}
		n.emit(membership.Event{Kind: membership.KindDrain, Subject: d.Incarnation.Node, Index: index, Text: fmt.Sprintf("%v stays", d.Incarnation)})
		if l := n.leaving; l != nil && l.drain && len(l.tokens) == 0 && d.Incarnation == n.Self() {
			n.leaving = nil
			n.do(Reopen{})
		}
	}
}

// drainWaits say what keeps a node that is drained.
func (n *Node) drainWaits() (ws []control.Wait) {
	for _, d := range n.st.Drains {
		name := n.cfg.Name(d.Incarnation.Node)
		w := control.Wait{What: "drain of " + name, For: "unmount", Owner: d.Incarnation.Node, Reason: name + " is about to leave"}
		if used := n.usedBy(d.Incarnation); len(used) > 0 {
			w.Reason = fmt.Sprintf("%s is drained, by %s, and these lockspaces are in use there: %s", name, d.Who, strings.Join(used, ", "))
			w.Command = fmt.Sprintf("unmount or deactivate them on %s; `quorate node drain %s --cancel` takes it back", name, name)
		}
		ws = append(ws, w)
	}
	return ws
}
