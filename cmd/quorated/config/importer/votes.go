package importer

import (
	"cmp"
	"slices"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

// votes keeps those rules of the incumbent that can hold together here. Each that
// cannot becomes a note with quorate's reason: the incumbent switches some off by
// itself as well, and says so in its log alone.
func (p *plan) votes() {
	if len(p.faults) > 0 {
		return
	}
	p.majorityOfTwo()
	p.window()
	for range len(p.quorum) + 1 { // each turn but the last takes one away
		bad := quorum.New(p.rules()).Faults(p.nodeNamed)
		if len(bad) == 0 {
			return
		}
		f := bad[0]
		i := slices.IndexFunc(p.quorum, func(s setting) bool { return s.key == f.Key && s.value != "false" })
		if i < 0 {
			at := p.nodes[0].pos
			if n := p.byID(int64(f.Node)); n != nil {
				at = n.pos
			}
			p.fault(at, "%s", f.Text)
			return
		}
		s := p.quorum[i]
		p.note(s.pos, s.key+" = "+s.value, f.Text)
		p.quorum = slices.Delete(p.quorum, i, i+1)
	}
}

// majorityOfTwo writes out that two nodes of which nobody wrote two_node stand still
// when one is lost, as they did: here two nodes with fence devices go on.
func (p *plan) majorityOfTwo() {
	rule := func(s setting) bool { return s.key == "two_node" || s.key == "auto_tie_breaker" }
	if len(p.nodes) != 2 || slices.ContainsFunc(p.quorum, rule) {
		return
	}
	p.rule(keyed(p.name.pos, "two_node", "false", "there was no two_node: of two nodes both are needed; with true the one that is left fences the other and goes on"))
}

// window drops the time of a rule that does not hold.
func (p *plan) window() {
	if slices.ContainsFunc(p.quorum, func(s setting) bool { return s.key == "last_man_standing" && s.value == "true" }) {
		return
	}
	p.quorum = slices.DeleteFunc(p.quorum, func(s setting) bool {
		if s.key == "last_man_standing_window" {
			p.note(s.pos, s.key+" = "+s.value, "it does nothing without last_man_standing")
			return true
		}
		return false
	})
}

// rules are what [quorum] and the votes would be.
func (p *plan) rules() membership.Config {
	var c membership.Config
	for _, n := range p.nodes {
		votes := int(n.votes)
		if votes < 0 {
			votes = 1
		}
		c.Nodes = append(c.Nodes, membership.Node{ID: membership.NodeID(n.id), Name: n.name, Votes: votes})
	}
	slices.SortFunc(c.Nodes, func(a, b membership.Node) int { return cmp.Compare(a.ID, b.ID) })
	q := &c.Quorum
	for _, s := range p.quorum {
		on := s.value == "true"
		switch s.key {
		case "expected_votes":
			q.Expected = int(s.number)
		case "two_node":
			q.TwoNode = on
		case "wait_for_all":
			q.WaitForAll = on
		case "last_man_standing":
			q.LastManStanding = on
		case "leave_removes_vote":
			q.LeaveRemoves = on
		case "auto_tie_breaker":
			q.TieBreaker = s.tie
		}
	}
	return c
}

func (p *plan) nodeNamed(id membership.NodeID) string {
	if n := p.byID(int64(id)); n != nil {
		return "node " + n.name
	}
	return "a node"
}
