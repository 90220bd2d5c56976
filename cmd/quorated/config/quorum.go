package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

const maxDelay = time.Hour

// quorum reads the rules by which the votes make a quorum. It comes after the nodes and
// the devices; witness says that the file has one.
func (p *parser) quorum(t *table, c *Config, witness bool) {
	if c.Group == GroupStatic {
		if t.given {
			p.fault("quorum", `group = "static" needs every listed node and counts no votes: remove [quorum], or write group = "raft"`)
		}
		for _, n := range c.Nodes {
			if n.Votes != 1 {
				p.fault(p.nodePath(n.ID, "votes"), `group = "static" needs every listed node and counts no votes: remove votes, or write group = "raft"`)
			}
		}
		return
	}
	q := &c.Quorum
	expected, _ := t.number("expected_votes", 0, 1, MaxNodes*quorum.MaxVotes)
	q.Expected = int(expected)
	q.TieBreaker = p.tieBreaker(t, c.Nodes)
	q.LastManStanding = t.boolean("last_man_standing", false)
	window := t.dur("last_man_standing_window", quorum.DefaultWindow, time.Second, maxDelay)
	q.LeaveRemoves = t.boolean("leave_removes_vote", false)
	byDefault := twoByDefault(*c) && !witness
	q.TwoNode = t.boolean("two_node", byDefault)
	q.WaitForAll = t.boolean("wait_for_all", q.TwoNode)
	q.Delay = t.dur("takeover_delay", 0, 0, maxDelay)
	if q.LastManStanding {
		q.LastManWindow = window
	} else if window != quorum.DefaultWindow {
		t.fault("last_man_standing_window", "last_man_standing_window = %q does nothing without last_man_standing: write last_man_standing = true, or remove it", membership.Short(window))
	}
	if q.Delay != 0 && !q.TwoNode && !q.LastManStanding {
		t.fault("takeover_delay", "takeover_delay = %q is the time that the second of two nodes waits, and does nothing without two_node or last_man_standing: remove it", membership.Short(q.Delay))
	}
	t.done()
	p.policy(t, *c)
	_, given := t.m["two_node"]
	c.Notes = append(c.Notes, quorumNotes(*c, byDefault && !given, witness)...)
}

// twoByDefault says whether two_node holds where nobody wrote of it: for two nodes that
// can fence each other, and no other rule for that case.
func twoByDefault(c Config) bool {
	q := c.Quorum
	return len(c.Nodes) == 2 && c.Nodes[0].Votes == 1 && c.Nodes[1].Votes == 1 && !c.ManualFence &&
		q.TieBreaker.Mode == membership.TieNone && !q.LastManStanding && q.Expected <= 2
}

// tieBreaker reads "lowest", "highest" or a list of nodes.
func (p *parser) tieBreaker(t *table, nodes []membership.Node) membership.TieBreaker {
	const key = "auto_tie_breaker"
	v, ok := t.get(key)
	if !ok {
		return membership.TieBreaker{}
	}
	switch x := v.(type) {
	case string:
		if x == string(membership.TieLowest) || x == string(membership.TieHighest) {
			return membership.TieBreaker{Mode: membership.TieMode(x)}
		}
		t.fault(key, `auto_tie_breaker = %q is not known%s: write "lowest", "highest", or a list of nodes as ["%s"]`,
			x, suggest(x, []string{"lowest", "highest"}), strings.Join(names(nodes[:min(len(nodes), 1)]), ""))
		return membership.TieBreaker{}
	case []any:
	default:
		t.fault(key, `auto_tie_breaker is %s: write "lowest", "highest", or a list of nodes in brackets; to have none, remove it`, kind(v))
		return membership.TieBreaker{}
	}
	out := membership.TieBreaker{Mode: membership.TieList}
	for _, w := range t.words(key, true) {
		n, ok := lookup(nodes, w)
		if !ok {
			t.fault(key, "there is no node %q%s: write names or ids of [[node]] sections", w, suggest(w, names(nodes)))
			return membership.TieBreaker{}
		}
		out.List = append(out.List, n.ID)
	}
	return out
}

// policy refuses rules that cannot work or contradict each other.
func (p *parser) policy(t *table, c Config) {
	pol := quorum.New(c.Config)
	if _, bad := pol.Votes[0]; bad || len(pol.Votes) != len(c.Nodes) || len(c.Nodes) == 0 {
		return // that is told where the nodes are
	}
	for _, f := range pol.Faults(func(id membership.NodeID) string { return fmt.Sprintf("node %q", c.Name(id)) }) {
		if f.Key == "votes" {
			p.fault(p.nodePath(f.Node, "votes"), "%s", f.Text)
			continue
		}
		t.fault(f.Key, "%s", f.Text)
	}
}

// nodePath is where a key of a node is written; node 0: of the first.
func (p *parser) nodePath(id membership.NodeID, key string) string {
	return fmt.Sprintf("node[%d].%s", p.nodeAt[id], key)
}

// quorumNotes are what an operator should know of how the votes count.
func quorumNotes(c Config, byDefault, witness bool) []string {
	q := c.Quorum
	tie := q.TieBreaker.Mode != membership.TieNone
	without, _ := byHand(c)
	var out []string
	switch {
	case byDefault:
		out = append(out, "two_node = true, the default for two nodes with fence devices: when one is lost the other fences it and goes on; to have it wait instead, write two_node = false under [quorum]")
	case q.TwoNode && c.ManualFence && len(without) > 0:
		lost := "one node"
		if len(without) == 1 {
			lost = without[0]
		}
		out = append(out, fmt.Sprintf("two_node with manual fencing: when %s is lost the other goes on as soon as somebody runs `quorate fence ack` there, and not before", lost))
	case len(c.Nodes) == 2 && !q.TwoNode && !tie && !witness:
		out = append(out, "two nodes without two_node: when one is lost the other stands still until it is back; write two_node = true under [quorum] to have the other fence it and go on")
	}
	if !q.WaitForAll && (q.TwoNode || q.LastManStanding) {
		out = append(out, "wait_for_all is off: after all nodes were down, those that boot first fence those that do not answer yet; write wait_for_all = true under [quorum] to have them wait")
	}
	return out
}

// quorumDigest adds what must be the same everywhere: what holds, not what is written.
func quorumDigest(values map[string]string, c Config) {
	q := c.Quorum
	for k, v := range map[string]any{
		"expected_votes": q.Expected, "two_node": q.TwoNode, "wait_for_all": q.WaitForAll,
		"auto_tie_breaker": fmt.Sprint(q.TieBreaker.Mode, q.TieBreaker.List), "last_man_standing": q.LastManStanding,
		"last_man_standing_window": q.LastManWindow, "leave_removes_vote": q.LeaveRemoves, "takeover_delay": q.Delay,
	} {
		values["quorum."+k] = fmt.Sprint(v)
	}
	for _, n := range c.Nodes {
		values["node."+n.Name+".votes"] = fmt.Sprint(n.Votes)
	}
}

// QuorumText says in one line how many votes are needed, and which rules hold.
func (c Config) QuorumText() string {
	pol := quorum.New(c.Config)
	v := pol.Quorate(nil)
	text := fmt.Sprintf("%d votes, %d needed", v.Expected, v.Needed)
	if v.Expected == 1 {
		text = "1 vote, 1 needed"
	}
	if rules := pol.InForce(c.Name); len(rules) > 0 {
		text += "; " + strings.Join(rules, ", ")
	}
	return text
}
