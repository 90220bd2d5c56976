package node

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

// quorumReport says who decides, as this node sees it. quorate is what its status says.
func (n *Node) quorumReport(quorate bool) *control.QuorumReport {
	s := n.quorumSituation()
	e := quorum.Explain(s)
	text := e.Text
	if quorate {
		text += n.doubted(s)
	}
	r := &control.QuorumReport{Quorate: quorate, Text: text, Have: e.Verdict.Have, Needed: e.Verdict.Needed, Expected: e.Verdict.Expected,
		Rule: string(e.Rule), Why: e.Why, Rules: s.Policy.InForce(n.cfg.Name), Missing: e.Missing, Awaited: s.Awaited, Override: n.override, Witness: s.Policy.Witness}
	if g := n.group.Status(); !g.Formed && n.list == nil {
		r.Text, r.Missing = "not yet: no cluster is formed; "+e.Verdict.Text, cmp.Or(g.Waiting, "every configured node")
		r.Rule, r.Why, r.Awaited = "first_start", "a first start needs every configured node, with the same file", nil
	} else if e.Quorate && !quorate {
		r.Missing = "an agreement of those who are there; see `quorate why`"
		if !n.Member() {
			r.Missing = "this node is no member yet; see `quorate why`"
		}
		if n.rivalled() {
			r.Missing = "one log: " + n.names(n.rivals) + " went on without this node; see `quorate why`"
		}
		r.Text = "not yet: " + e.Verdict.Text + ", enough; " + r.Missing
	}
	if !quorate && len(r.Awaited) == 0 && r.Rule != "first_start" {
		r.Takeover = n.takeoverText()
	}
	r.Do = n.overrideHint()
	if !quorate {
		r.NoOverride = n.refusesOverride()
	}
	for i, rule := range r.Rules {
		if n.policy.Witness != 0 && n.cfg.Quorum.TwoNode && (rule == "two_node" || rule == "wait_for_all") {
			r.Rules[i] += " (rests: there is a witness)"
		}
	}
	for _, sh := range e.Shares {
		x := control.QuorumNode{ID: sh.Node, Name: n.cfg.Name(sh.Node), Votes: sh.Votes, Present: sh.Present, Counts: sh.Counts, Why: sh.Why}
		switch {
		case sh.Node != s.Policy.Witness:
			x.State, _ = n.stateOf(sh.Node)
		case n.WitnessCounts():
			x.State = "witness"
		default:
			x.State = "silent"
		}
		if l := sh.Lost; quorate && l.Outcome != quorum.Nothing {
			x.IfLost = &control.QuorumLoss{Outcome: string(l.Outcome), Rule: string(l.Rule), Missing: l.Missing, Text: l.Text}
		}
		r.Nodes = append(r.Nodes, x)
	}
	return r
}

// doubted says who counts as present and may be gone, or does not hear this node any
// more, and what there is without them; empty: nobody.
func (n *Node) doubted(s quorum.Situation) string {
	var ids []membership.NodeID
	for _, id := range s.Present {
		if id == s.Policy.Witness {
			continue
		}
		if state, _ := n.stateOf(id); state == "suspect" {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return ""
	}
	s.Present = membership.Without(s.Present, ids...)
	return fmt.Sprintf("; but suspect: %s, and without: %s", n.names(ids), quorum.Explain(s).Verdict.Text)
}

// quorumSituation is what this node knows of the votes. Present are the members; without
// a quorum, or when this node is no member, whom it hears.
func (n *Node) quorumSituation() quorum.Situation {
	s := quorum.Situation{Policy: n.policy, Last: n.st.View.IDs(), Present: n.st.View.IDs(), Awaited: n.awaited(), Override: n.override != "", Barred: n.logBars() != "", Name: n.cfg.Name}
	members := n.quorate && n.Member()
	if !members {
		s.Present = n.live.Linked()
	}
	if w := n.policy.Witness; w != 0 && n.WitnessCounts() {
		s.Present = append(slices.Clone(s.Present), w)
	}
	if s.Policy = quorum.New(n.cfg); n.list != nil {
		s.Policy = quorum.Majority(n.st.Listed...)
		s.Policy.All = true
	}
	maps.Copy(s.Policy.Votes, n.policy.Votes)
	s.Policy.Witness = n.policy.Witness
	s.Electorate = slices.Sorted(maps.Keys(n.policy.Votes))
	for _, c := range n.cfg.Nodes {
		switch r := n.st.Node(c.ID); {
		case r == nil:
			s.New = append(s.New, c.ID)
		case r.Left:
			s.Left = append(s.Left, c.ID)
		}
		if _, member := n.st.View.Find(c.ID); !member && n.openCase(c.ID) == nil {
			s.Gone = append(s.Gone, c.ID)
		}
	}
	return s
}

// awaited are the nodes that wait_for_all waits for: since all were down, not every
// node was seen. A node's word that it is a member of a quorate view ends that, and an
// operator's.
func (n *Node) awaited() []membership.NodeID {
	if n.override != "" || n.Member() || n.list != nil {
		return nil
	}
	for _, p := range n.peers {
		if p.connected && p.hello != nil && p.hello.Member {
			return nil
		}
	}
	if n.policy.Witness != 0 && n.cfg.Quorum.TwoNode {
		return nil // it came with two_node, and with a witness there is no race that it could prevent
	}
	return quorum.New(n.cfg).Awaited(n.audible())
}

// audible are the nodes that this node hears, itself among them.
func (n *Node) audible() []membership.NodeID { return append(n.live.Hears(), n.cfg.Self) }

// unheard are the nodes that count and that this node does not hear.
func (n *Node) unheard() []membership.NodeID {
	return membership.Without(n.electorate(), n.audible()...)
}

// running says whether this node is a member of a cluster that is quorate, and the only one.
func (n *Node) running() bool {
	return n.Member() && n.quorate && n.st.View.Quorate && !n.rivalled()
}

// takeoverText says what going on without the others waits for, or why it is not tried.
func (n *Node) takeoverText() string {
	t := n.takeover
	switch {
	case t == nil:
		return n.noTakeover
	case t.shots == nil && n.leftBehind(t) != "":
		return n.leftBehind(t)
	case t.shots == nil:
		return fmt.Sprintf("by %s, when it is this node's turn to fence; see `quorate why`", t.rule)
	}
	unproved := slices.DeleteFunc(slices.Clone(t.shots), func(s *shot) bool { return s.proof != nil })
	if len(unproved) == 0 {
		return fmt.Sprintf("by %s, as soon as it is agreed: all others are proved gone", t.rule)
	}
	return fmt.Sprintf("by %s, with proof that these are gone: %s; see `quorate why`", t.rule, n.names(victims(unproved)))
}

// notSeen are the nodes that count and that this node does not hear, and those that
// wait_for_all waits for, ascending.
func (n *Node) notSeen() []membership.NodeID {
	ids := slices.Concat(n.unheard(), n.awaited())
	slices.Sort(ids)
	return slices.Compact(ids)
}

// leftBehind says that all others left cleanly and that this side goes on in a moment,
// which fences nobody; empty: it is not so.
func (n *Node) leftBehind(t *takeover) string {
	gone := membership.Without(n.electorate(), t.have...)
	for _, id := range gone {
		if r := n.st.Node(id); r == nil || !r.Left {
			return ""
		}
	}
	if left := n.turns(t).first.Sub(n.now); left > 0 && len(gone) > 0 && len(n.st.Unproved(t.have)) == 0 {
		return fmt.Sprintf("%s left cleanly; %s on alone in %s, by %s", n.names(gone), n.goOn(t.have), membership.Short(left.Round(100*time.Millisecond)), t.rule)
	}
	return ""
}

func (n *Node) goOn(ids []membership.NodeID) string {
	if len(ids) == 1 {
		return n.names(ids) + " goes"
	}
	return n.names(ids) + " go"
}
