package quorum

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/quorate/quorate/membership"
)

// ErrPolicy is what every Fault is.
var ErrPolicy = errors.New("quorum: the policy cannot work")

// Fault is one thing that is wrong with a policy.
type Fault struct {
	Key  string            // of [quorum] in the configuration, or votes
	Node membership.NodeID // whose votes; 0: everybody's
	Text string            // what is wrong, and what to write instead
}

func (f Fault) Error() string { return ErrPolicy.Error() + ": " + f.Text }

// Is makes every Fault an ErrPolicy.
func (f Fault) Is(target error) bool { return target == ErrPolicy }

// Check says what is wrong with a policy, and what to change: all Faults, joined.
func (p Policy) Check() error {
	var errs []error
	for _, f := range p.Faults(nil) {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

// Faults are what Check joins. name gives a node's name in them; nil: "node 3".
func (p Policy) Faults(name func(membership.NodeID) string) []Fault {
	c := &checker{Policy: p, name: orNumber(name), sum: p.sum(slices.Collect(maps.Keys(p.Votes)))}
	c.votes()
	c.expectedVotes()
	c.everybody()
	c.twoNode()
	c.tieBreaker()
	c.lastMan()
	return c.faults
}

type checker struct {
	Policy
	sum    int
	name   func(membership.NodeID) string
	faults []Fault
}

func (c *checker) fault(key, format string, args ...any) {
	c.faults = append(c.faults, Fault{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) votes() {
	for _, n := range slices.Sorted(maps.Keys(c.Votes)) {
		text := ""
		switch votes := c.Votes[n]; {
		case n == 0:
			text = "votes are given to node 0; node ids begin at 1"
		case votes < 0 || votes > MaxVotes:
			text = fmt.Sprintf("%s has %d votes; give it 0 to %d", c.name(n), votes, MaxVotes)
		default:
			continue
		}
		c.faults = append(c.faults, Fault{Key: "votes", Node: n, Text: text})
	}
	if c.sum == 0 {
		c.fault("votes", "no node has a vote; give at least one node votes")
	}
}

func (c *checker) expectedVotes() {
	switch e := c.Expected; {
	case e < 0:
		c.fault("expected_votes", "expected_votes = %d; write the votes of all nodes, %d, or remove it", e, c.sum)
	case c.sum > 0 && c.sum < e/2+1:
		c.fault("expected_votes", "expected votes are %d and all nodes together have %d: there is never a quorum; lower expected votes below %d", e, c.sum, 2*c.sum)
	case e > 0 && e < c.sum && !c.Rules.LeaveRemoves:
		c.fault("expected_votes", "expected votes are %d and the nodes have %d: fewer would let two sets be quorate at once; remove expected_votes, "+
			"or write leave_removes_vote = true, and it is as far down as clean leaves go", e, c.sum)
	}
}

// everybody: where all are needed no rule has a place.
func (c *checker) everybody() {
	r := c.Rules
	if c.All && (r.TwoNode || r.LastManStanding || r.LeaveRemoves || r.TieBreaker.Mode != membership.TieNone || c.Witness != 0) {
		c.fault("", "every listed node is needed, so nobody ever goes on without one: remove the rules of [quorum]")
	}
	if c.Witness != 0 && c.Votes[c.Witness] <= 0 {
		c.fault("votes", "the witness has no vote and is of no use; give it one, or remove it")
	}
}

func (c *checker) twoNode() {
	if !c.Rules.TwoNode {
		return
	}
	const key = "two_node"
	switch {
	case c.Witness != 0:
		c.fault(key, "two_node and a witness are two answers to the same question: remove two_node; the node that has the witness goes on")
	case len(c.Votes) != 2:
		c.fault(key, "two_node is for exactly two nodes, and there are %d: remove it; three nodes and more go on by majority, or by last_man_standing = true", len(c.Votes))
	case c.unequal() != 0:
		c.fault(key, "two_node needs one vote for each of the two, and %s has %d: remove votes there, or remove two_node", c.name(c.unequal()), c.Votes[c.unequal()])
	case c.Expected > 2:
		c.fault(key, "two_node is for two votes, and expected votes are %d: remove expected_votes", c.Expected)
	}
	if c.Rules.TieBreaker.Mode != membership.TieNone {
		c.fault(key, "two_node lets either of two nodes go on and auto_tie_breaker one of them alone: remove one of both")
	}
}

func (c *checker) tieBreaker() {
	const key = "auto_tie_breaker"
	t := c.Rules.TieBreaker
	switch t.Mode {
	case membership.TieNone:
		return
	case membership.TieLowest, membership.TieHighest:
	case membership.TieList:
		c.tieList(key, t.List)
	default:
		c.fault(key, `auto_tie_breaker = %q is not known: write "lowest", "highest" or a list of nodes`, t.Mode)
	}
	if c.Witness != 0 {
		c.fault(key, "auto_tie_breaker and a witness contradict each other: the witness decides between two halves; remove auto_tie_breaker")
	}
	switch odd := len(c.Votes)%2 == 1; {
	case c.unequal() != 0:
		c.fault(key, "auto_tie_breaker needs one vote for each node, and %s has %d: remove votes there, or remove auto_tie_breaker", c.name(c.unequal()), c.Votes[c.unequal()])
	case c.Expected > c.sum:
		c.fault(key, "auto_tie_breaker is for halves of the nodes, and expected votes are more than they have: remove one of both")
	case odd && !c.Rules.LastManStanding && !c.Rules.LeaveRemoves:
		c.fault(key, "auto_tie_breaker decides between two equal halves, and %d nodes have none: remove it, or have an even number of nodes", len(c.Votes))
	}
}

func (c *checker) tieList(key string, list []membership.NodeID) {
	if len(list) == 0 {
		c.fault(key, `auto_tie_breaker names nobody: write "lowest", "highest" or a list of nodes`)
	}
	for i, n := range list {
		votes, known := c.Votes[n]
		switch {
		case !known:
			c.fault(key, "auto_tie_breaker names %s, which is not configured: write names or ids of [[node]] sections", c.name(n))
		case votes <= 0:
			c.fault(key, "auto_tie_breaker names %s, which has no vote and is in no half: remove it from the list", c.name(n))
		case slices.Contains(list[:i], n):
			c.fault(key, "auto_tie_breaker names %s twice: remove one", c.name(n))
		}
	}
}

func (c *checker) lastMan() {
	if c.Rules.LastManWindow < 0 {
		c.fault("last_man_standing_window", "last_man_standing_window = %v: write a time, 1s or more", c.Rules.LastManWindow)
	}
	if !c.Rules.LastManStanding {
		return
	}
	const key = "last_man_standing"
	switch {
	case c.Witness != 0:
		c.fault(key, "last_man_standing does not work with a witness: remove one of both")
	case len(c.Votes) < 3:
		c.fault(key, "last_man_standing is for three nodes or more, and there are %d: remove it; two nodes have two_node = true", len(c.Votes))
	case c.unequal() != 0:
		c.fault(key, "last_man_standing needs one vote for each node, and %s has %d: remove votes there, or remove last_man_standing", c.name(c.unequal()), c.Votes[c.unequal()])
	}
}

// unequal is the first node that has not one vote; 0: all have one.
func (c *checker) unequal() membership.NodeID {
	for _, n := range slices.Sorted(maps.Keys(c.Votes)) {
		if c.Votes[n] != 1 {
			return n
		}
	}
	return 0
}
