package quorum

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
)

// Rule is a rule by which a set that is no quorum may become one.
type Rule string

// The rules, in the words of the configuration.
const (
	NoRule          Rule = ""
	TwoNode         Rule = "two_node"
	AutoTieBreaker  Rule = "auto_tie_breaker"
	LastManStanding Rule = "last_man_standing"
)

// What else may let fewer go on, and is in no configuration: the votes are a quorum, of
// nodes that are half of the group's voters (a heavy vote); or an operator says so.
const (
	ByVotes  Rule = "votes"
	Override Rule = "override"
)

// The rules that decide otherwise, for Explanation.
const (
	majority   Rule = "majority"
	everyVote  Rule = "all"
	waitForAll Rule = "wait_for_all"
	leaveRule  Rule = "leave_removes_vote"
)

// DefaultWindow is last_man_standing_window where none is configured.
const DefaultWindow = 10 * time.Second

// Takeover says by which rule a set that is no quorum may go on all the same, when
// it has proved all others gone (a fenced reconfiguration), and why not if by none. last
// are the members of the last agreed view, and have to be the same for all who ask.
//
// Of two sets without a common node both get a rule only where two voters are left
// and either may go on: who fences the other first does. Where one of them is a quorum
// the other gets none.
func (p Policy) Takeover(have, last []membership.NodeID) (Rule, string) {
	voters := p.voters()
	own, others := among(voters, have), membership.Without(voters, have...)
	v := p.Quorate(have)
	pair := len(voters) == 2 && len(own) == 1
	switch {
	case v.Quorate:
		return NoRule, "it is a quorum"
	case p.Witness != 0:
		return NoRule, "with a witness nobody goes on without a majority"
	case !p.Rules.TwoNode && !p.Rules.LastManStanding && p.Rules.TieBreaker.Mode == membership.TieNone:
		return NoRule, "no rule of [quorum] lets fewer than a quorum go on"
	case p.Quorate(others).Quorate:
		return NoRule, "the others would be a quorum without it"
	case pair && p.Rules.TwoNode:
		return TwoNode, ""
	case pair && p.Rules.LastManStanding:
		return LastManStanding, ""
	case p.Rules.TieBreaker.Mode == membership.TieNone && p.Rules.TwoNode:
		return NoRule, fmt.Sprintf("two_node is for one of two voters, and it has %d of %d", len(own), len(voters))
	case p.Rules.TieBreaker.Mode == membership.TieNone:
		return NoRule, fmt.Sprintf("last_man_standing lets one of the last two go on, and it has %d of %d voters", len(own), len(voters))
	}
	return p.breakTie(v, own, last)
}

// breakTie is Takeover by auto_tie_breaker.
func (p Policy) breakTie(v Verdict, own, last []membership.NodeID) (Rule, string) {
	if v.Have == 0 || 2*v.Have != v.Expected {
		return NoRule, fmt.Sprintf("auto_tie_breaker is for exact halves, and it has %d of %d votes", v.Have, v.Expected)
	}
	switch d := p.decider(last); {
	case d == 0:
		return NoRule, "auto_tie_breaker names no node that was a member"
	case !slices.Contains(own, d):
		return NoRule, fmt.Sprintf("auto_tie_breaker gives it to the half of node %d", d)
	}
	return AutoTieBreaker, ""
}

// decider is the node whose half goes on; 0: none of the list was a member.
func (p Policy) decider(last []membership.NodeID) membership.NodeID {
	was := among(p.voters(), last)
	if len(was) == 0 {
		return 0
	}
	switch t := p.Rules.TieBreaker; t.Mode {
	case membership.TieLowest:
		return was[0]
	case membership.TieHighest:
		return was[len(was)-1]
	case membership.TieList:
		for _, n := range t.List {
			if slices.Contains(was, n) {
				return n
			}
		}
	}
	return 0
}

// Awaited are the nodes that wait_for_all still waits for, when these were seen up
// at the same time: all that have a vote. Without wait_for_all there are none.
func (p Policy) Awaited(seen []membership.NodeID) []membership.NodeID {
	if !p.Rules.WaitForAll {
		return nil
	}
	return membership.Without(p.voters(), seen...)
}

// AfterLeave is who counts when one of them has left cleanly (leave_removes_vote).
// Expected, where it is configured, is as far down as this goes, and somebody with a
// vote always stays.
func (p Policy) AfterLeave(electorate []membership.NodeID, left membership.NodeID) []membership.NodeID {
	rest := membership.Without(electorate, left)
	if votes := p.sum(rest); !p.Rules.LeaveRemoves || votes == 0 || votes < p.Rules.Expected {
		return slices.Clone(electorate)
	}
	return rest
}

// AfterLosses is who counts when some of them were proved gone so long ago
// (last_man_standing), and after what time to ask again; 0: nothing will change by
// itself. The window begins anew with each proof. Those who are left have to be a
// quorum of those who counted before, and two of them at least have a vote: that the
// last of two goes on is a takeover.
func (p Policy) AfterLosses(electorate []membership.NodeID, gone map[membership.NodeID]time.Duration) ([]membership.NodeID, time.Duration) {
	same := slices.Clone(electorate)
	if !p.Rules.LastManStanding {
		return same, 0
	}
	var lost []membership.NodeID
	var wait time.Duration
	for _, n := range electorate {
		if age, ok := gone[n]; ok {
			lost = append(lost, n)
			wait = max(wait, p.window()-age)
		}
	}
	rest := membership.Without(electorate, lost...)
	now := p.Of(electorate)
	if len(lost) == 0 || len(among(now.voters(), rest)) < 2 || !now.Quorate(rest).Quorate {
		return same, 0
	}
	if wait > 0 {
		return same, wait
	}
	return rest, 0
}

func (p Policy) window() time.Duration { return cmp.Or(p.Rules.LastManWindow, DefaultWindow) }

// voters are the nodes with a vote, ascending.
func (p Policy) voters() []membership.NodeID {
	var out []membership.NodeID
	for n, votes := range p.Votes {
		if votes > 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// sum are the votes of these nodes.
func (p Policy) sum(nodes []membership.NodeID) int {
	sum := 0
	for _, n := range nodes {
		sum += max(p.Votes[n], 0)
	}
	return sum
}

// among are those of the nodes that are in the set, in their order.
func among(nodes, set []membership.NodeID) []membership.NodeID {
	return slices.DeleteFunc(slices.Clone(nodes), func(n membership.NodeID) bool { return !slices.Contains(set, n) })
}

// InForce are the configured rules in the words of the configuration. name is as for Faults.
func (p Policy) InForce(name func(membership.NodeID) string) []string {
	r := p.Rules
	list := make([]string, len(r.TieBreaker.List))
	for i, n := range r.TieBreaker.List {
		list[i] = orNumber(name)(n)
	}
	var out []string
	for _, x := range []struct {
		on   bool
		text string
	}{
		{p.Expected > 0, fmt.Sprintf("expected_votes = %d", p.Expected)},
		{r.TwoNode, string(TwoNode)},
		{r.WaitForAll, string(waitForAll)},
		{r.TieBreaker.Mode == membership.TieLowest || r.TieBreaker.Mode == membership.TieHighest, fmt.Sprintf("auto_tie_breaker = %s", r.TieBreaker.Mode)},
		{r.TieBreaker.Mode == membership.TieList, "auto_tie_breaker = " + strings.Join(list, ", then ")},
		{r.LastManStanding, fmt.Sprintf("last_man_standing after %s", membership.Short(p.window()))},
		{r.LeaveRemoves, string(leaveRule)},
	} {
		if x.on {
			out = append(out, x.text)
		}
	}
	return out
}

// orNumber is the function, or one that calls nodes by their number.
func orNumber(name func(membership.NodeID) string) func(membership.NodeID) string {
	if name == nil {
		return func(n membership.NodeID) string { return fmt.Sprintf("node %d", n) }
	}
	return name
}
