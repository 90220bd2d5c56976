package quorum

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

func votes(v ...int) Policy {
	p := Policy{Votes: map[membership.NodeID]int{}}
	for i, n := range v {
		p.Votes[membership.NodeID(i+1)] = n
	}
	return p
}

func witness(p Policy) Policy { p.Witness = 1; return p }

func all(p Policy) Policy { p.All = true; return p }

func expected(n int, f ...func(*membership.Quorum)) func(*membership.Quorum) {
	return func(q *membership.Quorum) {
		q.Expected = n
		for _, f := range f {
			f(q)
		}
	}
}

func leaves(q *membership.Quorum) { q.LeaveRemoves = true }

func TestWhatCannotWorkIsRefusedWithWhatToWrite(t *testing.T) {
	for _, c := range []struct {
		p    Policy
		key  string
		want string
	}{
		{votes(0, 0), "votes", "no node has a vote; give at least one"},
		{with(votes(1, 1), expected(-1)), "expected_votes", "write the votes of all nodes, 2"},
		{with(votes(1, 1, 1), expected(6)), "expected_votes", "there is never a quorum; lower expected votes below 6"},
		{with(votes(1, 1, 1), expected(2)), "expected_votes", "fewer would let two sets be quorate at once; remove expected_votes"},
		{all(with(votes(1, 1, 1), lastMan)), "", "remove the rules of [quorum]"},
		{all(with(votes(1, 1), leaves)), "", "remove the rules of [quorum]"},
		{all(witness(votes(1, 1))), "", "remove the rules of [quorum]"},
		{witness(votes(0, 1)), "votes", "the witness has no vote"},

		{with(votes(1), twoNode), "two_node", "exactly two nodes, and there are 1"},
		{with(votes(1, 1, 1), twoNode), "two_node", "exactly two nodes, and there are 3: remove it"},
		{with(votes(1, 1, 0), twoNode), "two_node", "exactly two nodes, and there are 3"},
		{with(votes(1, 2), twoNode), "two_node", "node 2 has 2: remove votes there"},
		{with(votes(0, 1), twoNode), "two_node", "node 1 has 0"},
		{with(votes(1, 1), expected(3, twoNode)), "two_node", "expected votes are 3: remove expected_votes"},
		{witness(with(votes(1, 1), twoNode)), "two_node", "remove two_node; the node that has the witness goes on"},
		{with(with(votes(1, 1), twoNode), tie("lowest")), "two_node", "remove one of both"},

		{with(votes(1, 1, 1), tie("lowest")), "auto_tie_breaker", "two equal halves, and 3 nodes have none"},
		{with(votes(1, 1, 1, 1), expected(5, tie("lowest"))), "auto_tie_breaker", "more than they have: remove one of both"},
		{with(votes(2, 1, 1), tie("lowest")), "auto_tie_breaker", "one vote for each node, and node 1 has 2"},
		{with(votes(1, 1, 0), tie("lowest")), "auto_tie_breaker", "and node 3 has 0"},
		{with(votes(1, 1), tie("list")), "auto_tie_breaker", "names nobody"},
		{with(votes(1, 1), tie("list", 2, 3)), "auto_tie_breaker", "names node 3, which is not configured"},
		{with(votes(1, 1), tie("list", 2, 2)), "auto_tie_breaker", "names node 2 twice"},
		{with(votes(2, 0), tie("list", 2)), "auto_tie_breaker", "names node 2, which has no vote"},
		{with(votes(1, 1), tie("middle")), "auto_tie_breaker", `"middle" is not known: write "lowest"`},
		{witness(with(votes(1, 1), tie("lowest"))), "auto_tie_breaker", "the witness decides between two halves"},

		{with(votes(1, 1), lastMan), "last_man_standing", "three nodes or more, and there are 2: remove it; two nodes have two_node = true"},
		{with(votes(1, 2, 1), lastMan), "last_man_standing", "one vote for each node, and node 2 has 2"},
		{with(votes(1, 1, 1, 0), lastMan), "last_man_standing", "node 4 has 0"},
		{witness(with(votes(1, 1, 1), lastMan)), "last_man_standing", "does not work with a witness"},
		{with(votes(1, 1, 1), func(q *membership.Quorum) { q.LastManWindow = -1 }), "last_man_standing_window", "write a time"},
	} {
		faults := c.p.Faults(nil)
		found := false
		for _, f := range faults {
			found = found || f.Key == c.key && strings.Contains(f.Text, c.want)
		}
		if !found {
			t.Errorf("%+v: %v; want %s: %q", c.p, faults, c.key, c.want)
		}
		if err := c.p.Check(); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v", err)
		}
	}
}

func TestAFaultOfOneNodesVotesNamesTheNode(t *testing.T) {
	if f := votes(1, -3).Faults(nil); len(f) != 1 || f[0].Key != "votes" || f[0].Node != 2 {
		t.Errorf("%+v", f)
	}
}

func TestWhatIsSaidToWorkTogetherIsTaken(t *testing.T) {
	for name, p := range map[string]Policy{
		"majority":            votes(1, 1, 1),
		"one node":            votes(1),
		"two nodes":           votes(1, 1),
		"heavy":               votes(3, 1, 1),
		"no vote":             votes(1, 1, 0),
		"two_node":            with(votes(1, 1), expected(2, twoNode)),
		"two that leave":      with(with(votes(1, 1), twoNode), leaves),
		"tie of two":          with(votes(1, 1), tie("highest")),
		"tie by list":         with(votes(1, 1, 1, 1), tie("list", 4, 2)),
		"last man":            with(votes(1, 1, 1), lastMan),
		"last man, tie":       with(with(votes(1, 1, 1), lastMan), tie("lowest")),
		"leaves, tie":         with(with(votes(1, 1, 1), leaves), tie("lowest")),
		"all of it":           with(with(with(votes(1, 1, 1, 1), lastMan), tie("lowest")), expected(4, leaves)),
		"witness":             witness(votes(1, 1, 1)),
		"witness, leaves":     witness(with(votes(1, 1, 1), leaves)),
		"more to come":        with(votes(1, 1, 1), expected(5)),
		"floor":               with(votes(1, 1, 1, 1), expected(2, leaves)),
		"every listed node":   all(votes(1, 1)),
		"wait_for_all":        with(votes(1, 1, 1), func(q *membership.Quorum) { q.WaitForAll = true }),
		"two without waiting": with(votes(1, 1), func(q *membership.Quorum) { q.TwoNode = true }),
	} {
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever Check accepts has a use: all nodes are a quorum, and a rule that is
// configured gives something to somebody.
func TestACheckedRuleHasAUse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := genOracle(t)
		p := o.policy()
		if p.Check() != nil {
			return
		}
		everybody := nodes(1<<len(o.votes) - 1)
		if !p.Quorate(everybody).Quorate {
			t.Fatalf("%+v is never quorate", p)
		}
		if !p.Rules.TwoNode {
			return
		}
		for _, n := range everybody {
			if r, why := p.Takeover(ids(n), everybody); r != TwoNode {
				t.Fatalf("%+v gives %d %q (%s)", p, n, r, why)
			}
		}
	})
}
