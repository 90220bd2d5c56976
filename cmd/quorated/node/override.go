package node

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate/membership"
)

// overrideHint is what to do where an operator's override would let this node, which was
// in no quorate view since it booted, go on; empty: it would not.
func (n *Node) overrideHint() string {
	ids, have := n.notSeen(), n.live.Linked()
	if n.override != "" || len(ids) == 0 || len(n.apart()) > 0 || n.removedBy() != 0 || n.running() || n.rivalled() || n.Member() && n.seasoned || !n.group.Status().Formed {
		return ""
	}
	switch g, ok := n.group.(membership.Forcer); {
	case n.quorate && len(n.awaited()) > 0: // it is admitted then
	case !ok || n.list != nil || n.policy.Witness != 0 || n.Evicted() || n.left() || n.maintenanceBars() != "" || g.MayForce(have) != "":
		return ""
	case len(have) > 1 && restarted(n.group.Status()):
		return "" // nobody gives its word before a majority has told it of its log (S2)
	}
	text := fmt.Sprintf("start quorated on %s; if that will not come up: quorate quorum override", n.names(ids))
	if n.quorate && n.led() {
		text += ", on " + n.cfg.Name(n.leader) + ", which leads"
	}
	return text
}

// led says that another node leads, which is the one that waits for all.
func (n *Node) led() bool {
	return n.leader != 0 && n.leader != n.cfg.Self && !n.leader.IsWitness()
}

// tooFew says that the nodes which this one hears are less than half of the voters, which
// neither a rule nor an operator's word lets go on; empty: it is not so.
func (n *Node) tooFew() string {
	if _, ok := n.group.(membership.Forcer); !ok || n.list != nil || n.quorate {
		return ""
	}
	voters, linked := n.group.Status().Voters, n.live.Linked()
	here := slices.DeleteFunc(slices.Clone(voters), func(id membership.NodeID) bool { return !slices.Contains(linked, id) })
	if 2*len(here) >= len(voters) {
		return ""
	}
	with := ""
	if slices.ContainsFunc(voters, membership.NodeID.IsWitness) {
		with = ", of whom the witness is one"
	}
	return fmt.Sprintf("here is %d of %d voters%s: less than half, which no rule and no override lets go on", len(here), len(voters), with)
}

// logBars says why the log here lets those who hear each other go on by no rule and no
// operator's word, though they are half of the voters; empty: it does not bar them.
func (n *Node) logBars() string {
	g, ok := n.group.(membership.Forcer)
	if !ok || n.list != nil || n.quorate || n.tooFew() != "" || g.MajorityRuns(n.live.Linked()...) {
		return ""
	}
	return g.MayForce(n.live.Linked())
}

// inVain is logBars where an operator has said to go on.
func (n *Node) inVain() string {
	if n.override == "" {
		return ""
	}
	return n.logBars()
}

// forGood is for who has waited for the others in vain.
func (n *Node) forGood() string {
	return `if they are gone for good: "When too few nodes are left for good" in ` + filepath.Join(n.docs, "operating.md")
}

// quorumDo is what brings a quorum back; empty: nothing that is known here alone.
func (n *Node) quorumDo() string {
	if do := n.overrideHint(); do != "" {
		return do
	}
	if n.quorate || n.list != nil || n.rivalled() || !n.group.Status().Formed {
		return ""
	}
	var ways []string
	silent := n.silent()
	up := slices.DeleteFunc(slices.Clone(silent), func(id membership.NodeID) bool { return !n.deserted(id) })
	if off := membership.Without(silent, up...); len(off) > 0 {
		ways = append(ways, fmt.Sprintf("bring %s or the network between up", strings.ReplaceAll(n.names(off), ", ", " or ")))
	}
	if len(up) > 0 {
		ways = append([]string{"start quorated on " + strings.ReplaceAll(n.names(up), ", ", " or ")}, ways...)
	}
	with := n.witness != nil && !n.witness.hears && n.policy.Quorate(append(slices.Clone(n.live.Linked()), n.witness.ID)).Quorate
	if with {
		ways = append(ways, fmt.Sprintf("start `quorated --witness` at %s", n.witness.Addr))
	}
	few := n.tooFew() != "" || n.inVain() != ""
	if len(ways) == 0 || len(up) == 0 && !with && !few {
		return ""
	}
	text := strings.Join(ways, ", or ") + "; whose votes are missing: quorate quorum; who was refused: quorate events"
	if few && len(n.awaited()) == 0 {
		text += "; " + n.forGood()
	}
	return text
}

// deserted says that a node's kernel answers and no quorated runs there.
func (n *Node) deserted(id membership.NodeID) bool {
	p := n.peers[id]
	return p != nil && !p.connected && slices.Contains(n.live.Hears(), id)
}

// unseasoned is what a node waits for that was in no quorate view since it booted.
func (n *Node) unseasoned() string {
	return cmp.Or(n.shutText(n.apart()), n.tooFew(), "`quorate quorum override` allows it to fence the others")
}

// refusesOverride says why an override would be refused now; empty: it would not.
func (n *Node) refusesOverride() string {
	missing := n.notSeen()
	switch t := n.takeover; {
	case n.list != nil:
		return "membership is a list's word here (group = \"static\"), and every node on it is needed"
	case n.removedBy() != 0:
		r := n.unmet(n.removedBy())
		return n.cfg.Name(r.Peer) + " says: " + r.text()
	case !n.group.Status().Formed:
		return fmt.Sprintf("no cluster is formed yet, and a first start needs every configured node: %s; see `quorate why`", cmp.Or(n.group.Status().Waiting, "they were not seen"))
	case n.running():
		return "the cluster is quorate: there is nothing to override; see `quorate quorum`"
	case len(missing) == 0 && n.override != "":
		return fmt.Sprintf("that was said already, by %s; see `quorate why` for what holds this node up", n.override)
	case len(missing) == 0:
		return "all nodes are there: none is waited for; see `quorate why` for what holds this node up"
	case len(n.apart()) > 0:
		return n.shutText(n.apart()) + "; nobody goes on without a node that is up"
	case n.quorate && n.led():
		return fmt.Sprintf("%s leads, and waits for %s: run it there", n.cfg.Name(n.leader), n.names(missing))
	case len(n.awaited()) == 0 && n.tooFew() != "":
		return n.tooFew() + "; " + cmp.Or(n.quorumDo(), n.forGood())
	case t != nil && n.override == "":
		return fmt.Sprintf("%s gives that already: what is missing is the proof that %s; see `quorate why`", t.rule, n.unproved(t))
	}
	return ""
}

// unproved says whose end a takeover has no proof of.
func (n *Node) unproved(t *takeover) string {
	var ids []membership.NodeID
	for _, v := range n.st.Unproved(t.have) {
		if !slices.ContainsFunc(t.shots, func(s *shot) bool { return s.victim == v && s.proof != nil }) {
			ids = append(ids, v.Node)
		}
	}
	if len(ids) == 1 {
		return n.names(ids) + " is gone"
	}
	return cmp.Or(n.names(ids), "the others") + " are gone"
}

// overrideWait is an operator's word that this node need not wait for all others after
// a start of the whole cluster, and may go on with half of the voters. It permits to fence
// those who were not seen, and proves nothing (S11). wait_for_all waits for those who do
// not count any more, too.
func (n *Node) overrideWait(in Operator) {
	counted, names := n.unheard(), n.names(n.notSeen())
	if why := n.refusesOverride(); why != "" {
		n.refuseOperator(in, "%s", why)
		return
	}
	switch few, log := n.tooFew(), n.logBars(); {
	case len(counted) == 0:
		n.overridden(in, "this node need not wait for "+names+", of whom no vote counts: who left or was proved gone needs no new proof",
			"it no longer waits for "+names+", who left or was proved gone and does not count")
	case few != "":
		n.overridden(in, "this node need not wait for "+names+"; "+few,
			"it no longer waits for "+names+"; but "+few+": it goes on when others of them are up")
	case log != "":
		n.overridden(in, "this node need not wait for "+names+"; but by that alone it does not go on: "+log,
			"it no longer waits for "+names+"; but by that alone it does not go on: "+log+"; see `quorate why`")
	default:
		n.overridden(in, "this node need not wait for "+names+", and may go on with half of the voters when all others are proved gone",
			"it no longer waits for "+names+", and with half of the voters it goes on when all others are proved gone")
	}
}

func (n *Node) overridden(in Operator, event, answer string) {
	n.override = in.Who
	n.emit(membership.Event{Kind: membership.KindQuorum, Text: "quorum is overridden by " + in.Who + ": " + event})
	n.do(Reply{Token: in.Token, Text: "overridden on this node: " + answer + "; follow it with `quorate events --follow`"})
}
