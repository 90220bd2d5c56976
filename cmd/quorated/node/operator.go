package node

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

func (n *Node) operator(in Operator) {
	switch in.Command {
	case "leave":
		n.askLeave(in)
	case "fence-ack":
		n.fenceAck(in)
	case "fence-node":
		n.fenceNode(in)
	case "hold":
		n.askHold(in)
	case "release":
		n.askRelease(in)
	case "witness-add":
		n.addWitness(in)
	case "witness-remove":
		n.removeWitness(in)
	case "maintenance-on":
		n.askMaintenance(in)
	case "maintenance-off":
		n.askMaintenanceEnd(in)
	case "key-rotate", "key-switch", "key-drop", "key-reload":
		n.operateKeys(in)
	case "quorum-override":
		n.overrideWait(in)
	case "init":
		n.initLost(in)
	case "rejoin":
		n.rejoin(in)
	case "drain":
		n.askDrain(in)
	case "undrain":
		n.askUndrain(in)
	case "config-apply":
		n.askConfig(in)
	default:
		n.do(Reply{Token: in.Token, Err: fmt.Sprintf("unknown command %q", in.Command)})
	}
}

func (n *Node) refuseOperator(in Operator, format string, args ...any) {
	n.do(Reply{Token: in.Token, Err: fmt.Sprintf(format, args...)})
}

// order proposes an operator's entry once: what becomes of it is in the events.
func (n *Node) order(in Operator, c cluster.Command, text string) {
	if n.leader == 0 {
		n.do(Reply{Token: in.Token, Again: true, Err: fmt.Sprintf("nothing can be agreed now: %s; try again, or see `quorate why`", cmp.Or(n.group.Status().Waiting, "no leader"))})
		return
	}
	c.By, c.Wall = n.Self(), n.wall
	n.step(membership.GroupPropose{Data: c.Encode()})
	n.do(Reply{Token: in.Token, Text: text})
}

// initLost: an operator says that the log which this node had is gone for good.
func (n *Node) initLost(in Operator) {
	g, ok := n.group.(interface{ Init() bool })
	if !ok || !g.Init() {
		n.refuseOperator(in, "this node did not lose a log: there is nothing to begin anew")
		return
	}
	n.step(membership.GroupTimer{}) // it says so to the others, or forms a cluster of one
	n.emit(membership.Event{Kind: membership.KindInit, Text: "the lost log is given up by " + in.Who})
	n.do(Reply{Token: in.Token, Text: "the lost log is given up; a cluster is formed when all configured nodes are here and say the same"})
}

func (n *Node) fenceAck(in Operator) {
	c := n.openCase(in.Node)
	if n.acknowledge(in) || n.ackRival(in) {
		return
	}
	if c == nil {
		if n.ackUnseen(in) || n.refusedForQuorum(in) {
			return
		}
		n.refuseOperator(in, "nothing of %s waits for proof; see `quorate nodes`", n.cfg.Name(in.Node))
		return
	}
	n.order(in, cluster.Command{FenceAck: &cluster.FenceAck{Victim: c.Victim, Who: in.Who}},
		fmt.Sprintf("acknowledged: %s is taken as gone; see `quorate status`", n.cfg.Name(c.Victim.Node)))
}

// refusedForQuorum refuses what is asked of a node where nothing can be agreed: the
// node may well be gone, and nobody could evict it.
func (n *Node) refusedForQuorum(in Operator) bool {
	if n.quorate {
		return false
	}
	n.refuseOperator(in, "no quorum: nothing can be agreed, and %s is not evicted; bring up %s; see `quorate why`",
		n.cfg.Name(in.Node), cmp.Or(strings.ReplaceAll(n.names(n.silent()), ", ", " or "), "the others"))
	return true
}

func (n *Node) openCase(id membership.NodeID) *cluster.Case {
	for k := range n.st.Cases {
		if c := &n.st.Cases[k]; c.Victim.Node == id && c.Open() {
			return c
		}
	}
	return nil
}

// calls is how a node is named to an operator of this one.
func (n *Node) calls(id membership.NodeID) string {
	if id == n.cfg.Self {
		return "this node"
	}
	return n.cfg.Name(id)
}

func (n *Node) fenceNode(in Operator) {
	m, ok := n.st.View.Find(in.Node)
	if !ok {
		n.fenceAbsent(in)
		return
	}
	if n.takesOverFrom(in) || n.refusedForQuorum(in) {
		return
	}
	if n.lease(in.Node) == 0 {
		n.refuseOperator(in, "no fence device is configured for %s: power it off by hand, and when `quorate why` on another node asks for that: quorate fence ack %s", n.calls(in.Node), n.cfg.Name(in.Node))
		return
	}
	deps := []membership.Departure{{Incarnation: m, Reason: membership.ReasonOperator, Observers: []membership.NodeID{n.cfg.Self}}}
	if rest := n.without(in.Node); !n.mayEvict(deps) {
		n.refuseOperator(in, "without %s the members left (%s) are no quorum: bring another node up first; see `quorate nodes`", n.calls(in.Node), cmp.Or(n.names(rest), "nobody"))
		return
	}
	if n.fenceHeld(in, deps) {
		return
	}
	n.order(in, cluster.Command{Evict: &cluster.Evict{View: n.st.View.Number, Fence: true, Alone: n.alone(deps), Departures: deps}},
		fmt.Sprintf("%s will be evicted and fenced; follow it with `quorate events --follow`", n.calls(in.Node)))
}

// takesOverFrom answers who wants a node fenced that this node fences anyway, without
// an entry, to go on without it. It says whether it was for it.
func (n *Node) takesOverFrom(in Operator) bool {
	t := n.takeover
	if t == nil || slices.Contains(t.have, in.Node) || n.lease(in.Node) == 0 {
		return false
	}
	text := fmt.Sprintf("nothing can be agreed, and by %s %s goes on alone and fences %s for that", t.rule, n.names(t.have), n.cfg.Name(in.Node))
	for _, s := range t.shots {
		if turn := n.turnText(t, s); s.victim.Node == in.Node && s.proof == nil && s.job.Attempt == 0 && turn != "" {
			text += "; now it is " + turn
		}
	}
	n.do(Reply{Token: in.Token, Text: text + "; see `quorate why`"})
	return true
}

// fenceAbsent answers who wants a node fenced that was evicted already.
func (n *Node) fenceAbsent(in Operator) {
	name := n.calls(in.Node)
	switch c := n.lastCase(in.Node); {
	case c != nil && c.Open():
		n.do(Reply{Token: in.Token, Text: fmt.Sprintf("%s was evicted already, and is being fenced; follow it with `quorate events --follow`", name)})
	case c != nil && c.Proof != nil:
		n.do(Reply{Token: in.Token, Text: fmt.Sprintf("%s was evicted already, and is %s", name, n.fencedHow(in.Node))})
	case c != nil && n.lease(in.Node) != 0:
		n.order(in, cluster.Command{FenceNeed: &cluster.FenceNeed{Victim: c.Victim, Who: in.Who}},
			fmt.Sprintf("%v was evicted already, and will be fenced; follow it with `quorate events --follow`", c.Victim))
	default:
		n.refuseOperator(in, "%s is not a member; see `quorate nodes`", name)
	}
}

func (n *Node) askLeave(in Operator) {
	switch {
	case len(n.local.Names()) > 0:
		n.refuseOperator(in, "%s", n.inUse(n.local.Names()))
	case n.list != nil && n.leads() && len(n.set.Spaces) > 0:
		n.refuseOperator(in, "this node orders everything for the others, and lockspaces are in use there: %s; unmount or deactivate them on all nodes first", strings.Join(n.spaceNames(), ", "))
	case !n.Member():
		n.do(Reply{Token: in.Token, Text: "this node was not a member yet; quorated has ended"})
		n.do(Exit{Clean: true, Why: "asked to leave; it was not a member"})
	case n.leaving != nil:
		n.leaving.tokens = append(n.leaving.tokens, in.Token)
	default:
		n.leaving = &leaving{tokens: []uint64{in.Token}, since: n.now}
		n.do(Quiesce{})
	}
}

func (n *Node) spaceNames() []string {
	var out []string
	for _, sp := range n.set.Spaces {
		out = append(out, sp.Name)
	}
	return out
}

// onQuiesced goes on with a leave, or gives it up when a lockspace slipped in.
func (n *Node) onQuiesced(in Quiesced) {
	l := n.leaving
	if l == nil {
		return
	}
	if len(in.Held) == 0 && len(n.local.Names()) == 0 {
		l.quiesced = true
		return
	}
	n.leaving = nil
	n.do(Reopen{})
	for _, t := range l.tokens {
		n.do(Reply{Token: t, Err: n.inUse(in.Held)})
	}
}

// inUse refuses a leave, and says what else there is where the others can cut this node off.
func (n *Node) inUse(lockspaces []string) string {
	text := "lockspaces are in use here: " + strings.Join(lockspaces, ", ") + "; unmount or deactivate them first"
	if n.lease(n.cfg.Self) == 0 {
		return text
	}
	return text + ", or take this node out by force: on another one, run `quorate fence node " + n.cfg.Name(n.cfg.Self) + "`"
}

// When a whole cluster is shut down, the last ones have no quorum any more.
const (
	lonely  = 5 * time.Second  // for so long a leave waits for a quorum that is not there
	partner = 10 * time.Second // and a leave that takes the quorum away for the others to unmount
)

// leaveWish proposes the clean leave and ends the daemon when it is agreed. Where
// nobody can agree it ends all the same: this node's kernel holds nothing and can
// get nothing any more, so whoever evicts it one day need not fence it.
func (n *Node) leaveWish() {
	l := n.leaving
	if l == nil || !l.quiesced {
		return
	}
	if n.quorate {
		l.alone = 0
	} else if l.alone == 0 {
		l.alone = n.now
	}
	switch {
	case !n.Member() && n.votesStill() && n.now < l.since.Add(partner):
		n.wake(l.since.Add(partner)) // its vote is about to be taken: that takes its own
	case !n.Member():
		n.end("left the cluster")
	case l.alone != 0 && n.now >= l.alone.Add(lonely):
		n.end("ended without a quorum that could agree to it; this node holds no lockspace, and will not be fenced")
	case n.missed() && n.now < l.since.Add(partner):
		n.wake(l.since.Add(partner))
	default:
		leave := &cluster.Leave{Incarnation: n.Self(), Drained: l.drain && len(l.tokens) == 0}
		if all := n.electorate(); len(n.policy.AfterLeave(all, n.cfg.Self)) < len(all) {
			leave.Electorate = all
		}
		n.propose("leave", cluster.Command{Leave: leave})
	}
}

// votesStill says whether this node's vote, which is to go with it, still counts in the group.
func (n *Node) votesStill() bool {
	g, ok := n.group.(interface{ Fault() error })
	return n.policy.Rules.LeaveRemoves && len(n.st.Electorate) > 0 && !slices.Contains(n.st.Electorate, n.cfg.Self) &&
		n.quorate && !(ok && g.Fault() != nil) && n.group.Status().Voter
}

// missed says that others use lockspaces and could not unmount any more when this
// node has left: that takes a quorum.
func (n *Node) missed() bool {
	if n.list != nil || len(n.set.Spaces) == 0 {
		return false
	}
	rest := n.without(n.cfg.Self)
	return len(rest) > 0 && n.quorate && !n.quorum(rest)
}

// end answers those who asked for the leave, and ends the daemon.
func (n *Node) end(why string) {
	for _, t := range n.leaving.tokens {
		n.do(Reply{Token: t, Text: why})
	}
	n.leaving = nil
	n.do(Exit{Clean: true, Why: why})
}
