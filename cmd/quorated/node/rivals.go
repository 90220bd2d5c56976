package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// rivalled: others went on without this node, which went on without them. What either
// side orders counts there alone, so this one runs nothing and admits nobody before one
// of them has given up its log (S16). A cut, or silence, does not end it.
func (n *Node) rivalled() bool { return len(n.rivals) > 0 }

// followRivals notes who they are: whom the group has met, and other members of this
// side, who may hear what this node does not.
func (n *Node) followRivals(met []membership.NodeID) {
	if !slices.Equal(met, n.ownRivals) {
		n.ownRivals = slices.Clone(met)
		n.helloAll()
	}
	ids := slices.Clone(met)
	for id, p := range n.peers {
		if !p.connected || p.hello == nil || len(p.hello.Rivals) == 0 || slices.Contains(met, id) {
			continue
		}
		if _, member := n.st.View.Find(id); member {
			ids = append(ids, membership.Without(p.hello.Rivals, n.cfg.Self)...)
		}
	}
	slices.Sort(ids)
	if ids = slices.Compact(ids); slices.Equal(ids, n.rivals) {
		return
	}
	had := n.rivals
	if len(had) == 0 {
		n.rivalSince = n.now
	}
	n.rivals = ids
	text := n.names(had) + " went on without this node, and that is over"
	switch {
	case n.rivalled():
		text = n.rivalText()
	default:
		n.unrivalled = n.now
	}
	n.emit(membership.Event{Kind: membership.KindQuorum, Text: text})
}

// rivalText is what an operator has to know of them.
func (n *Node) rivalText() string {
	return fmt.Sprintf("%s went on without this node, and this one without %s, with proof that was false: lockspaces are stopped, nobody is admitted, and both sides may have written: check the file systems when one side has given up its log (`quorate why`)",
		n.names(n.rivals), them(n.rivals))
}

func them(ids []membership.NodeID) string {
	if len(ids) == 1 {
		return "it"
	}
	return "them"
}

func (n *Node) rivalWarnings() []string {
	if !n.rivalled() {
		return nil
	}
	return []string{n.rivalText()}
}

// ownSide are the nodes that went on with this one.
func (n *Node) ownSide() []membership.NodeID {
	ids := append(n.st.View.IDs(), n.cfg.Self)
	slices.Sort(ids)
	return membership.Without(slices.Compact(ids), n.rivals...)
}

// answering are those of some nodes that are connected.
func (n *Node) answering(ids []membership.NodeID) []membership.NodeID {
	return slices.DeleteFunc(slices.Clone(ids), func(id membership.NodeID) bool { p := n.peers[id]; return p == nil || !p.connected })
}

// rivalWait is what waits for them, and what to do: one side gives up what it agreed on,
// and the operator says which.
func (n *Node) rivalWait(what string, since time.Duration) control.Wait {
	w := control.Wait{What: what, For: "quorum", Owner: n.rivals[0], Since: since,
		Reason: fmt.Sprintf("%s went on without this node, and this one without %s: nothing runs on both before one side gives up its log", n.names(n.rivals), them(n.rivals))}
	if w.Command = n.hearsay(&w.Reason); w.Command != "" {
		return w
	}
	ours, here := n.ownSide(), n.answering(n.rivals)
	if away := membership.Without(n.rivals, here...); len(away) > 0 {
		w.Reason += "; not heard now: " + n.names(away)
	}
	if len(here) == 0 && len(n.ownRivals) > 0 {
		w.Command = fmt.Sprintf("bring %s up, or the network; or, only when off, on %s: %s", n.names(n.rivals), n.each(ours), n.acks())
		return w
	}
	w.Command = fmt.Sprintf("quorate init --rejoin: on %s (it forgets what was agreed there since, and the part of %s stays), or on %s (the part of %s stays); first reboot a node there that uses lockspaces",
		n.each(n.rivals), n.names(ours), n.each(ours), n.names(n.rivals))
	return w
}

// hearsay is what to do where those that answer here are rivals by the word of other
// members alone, who have not heard that a log was given up; empty: that is not so.
func (n *Node) hearsay(reason *string) string {
	here := n.answering(n.rivals)
	if len(here) == 0 || len(n.ownRivals) > 0 {
		return ""
	}
	var by []membership.NodeID
	for _, id := range n.ownSide() {
		if p := n.peers[id]; p != nil && p.connected && p.hello != nil && slices.ContainsFunc(p.hello.Rivals, func(r membership.NodeID) bool { return slices.Contains(here, r) }) {
			by = append(by, id)
		}
	}
	*reason += fmt.Sprintf("; that is the word of %s: by what this node hears from %s the log there is given up", n.names(by), n.names(here))
	return fmt.Sprintf("bring the network between %s and %s up; or, only when `quorate status` there says that it has no log, on %s: %s", n.names(by), n.names(here), n.each(by), n.acks())
}

// rivalStays says why a change of the configuration is none to agree to: what is known of
// a rival would be forgotten with it, and it may run; empty: it may be agreed to.
func (n *Node) rivalStays(c *cluster.ConfigChange) string {
	for _, id := range n.rivals {
		if !slices.Contains(c.Nodes, id) || slices.Contains(c.Replace, id) {
			return fmt.Sprintf("%s went on without this node, and may run: it is neither removed nor replaced before one side has given up its log, or, only when it is off: quorate fence ack %s; see `quorate why`",
				n.cfg.Name(id), n.cfg.Name(id))
		}
	}
	return ""
}

// each names nodes on which something is done one after the other.
func (n *Node) each(ids []membership.NodeID) string {
	if len(ids) > 1 {
		return "each of " + n.names(ids)
	}
	return n.names(ids)
}

// acks are the commands by which an operator says that all rivals are off.
func (n *Node) acks() string {
	var out []string
	for _, id := range n.rivals {
		out = append(out, "quorate fence ack "+n.cfg.Name(id))
	}
	return strings.Join(out, "; ")
}

// ackRival is an operator's word that a rival which is not heard is off; false: it is none.
func (n *Node) ackRival(in Operator) bool {
	if !slices.Contains(n.rivals, in.Node) {
		return false
	}
	name := n.cfg.Name(in.Node)
	g, ok := n.group.(interface {
		RivalGone(membership.NodeID) bool
	})
	if !slices.Contains(n.ownRivals, in.Node) {
		n.refuseOperator(in, "this node has not met %s: say it on those of its side that have; see `quorate why` there", name)
		return true
	}
	if !ok || !g.RivalGone(in.Node) {
		n.refuseOperator(in, "%s answers: it is not off; one side has to give up its log: see `quorate why`", name)
		return true
	}
	n.emit(membership.Event{Kind: membership.KindQuorum, Subject: in.Node, Text: name + ", which went on without this node, is off: by " + in.Who})
	n.step(membership.GroupTimer{}) // and is none any more
	n.do(Reply{Token: in.Token, Text: fmt.Sprintf("acknowledged: %s is taken as gone; before it is started again, put its log (the state directory's raft) aside: else both sides stop when it is heard; see `quorate status`", name)})
	return true
}

// rejoin gives up this node's log for that of a rival: an operator's word.
func (n *Node) rejoin(in Operator) {
	g, ok := n.group.(interface{ Rejoin() bool })
	switch names := n.local.Names(); {
	case !ok || !n.rivalled():
		n.refuseOperator(in, "no other node went on without this one: there is no log to choose; see `quorate why`")
	case len(names) > 0:
		n.refuseOperator(in, "lockspaces are in use here: %s, and nothing can be unmounted while they stand still: reboot this node without mounting them, and run this again when quorated is up: then it joins %s anew",
			strings.Join(names, ", "), n.names(n.rivals))
	case !g.Rejoin():
		n.refuseOperator(in, "%s went on without this node and cannot be heard now: there is nobody to join; see `quorate why`", n.names(n.rivals))
	default:
		n.emit(membership.Event{Kind: membership.KindInit, Text: "the log of this node is given up for that of " + n.names(n.rivals) + " by " + in.Who})
		text := "the log of this node is given up; it joins " + n.names(n.rivals) + " anew"
		if rest := membership.Without(n.ownSide(), n.cfg.Self); len(rest) > 0 {
			text += ", when it is given up on " + n.names(rest) + ", too"
		}
		n.do(Reply{Token: in.Token, Text: text})
	}
}
