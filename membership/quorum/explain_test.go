package quorum

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

func named(n membership.NodeID) string {
	return []string{"nobody", "alpha", "beta", "gamma", "delta", "epsilon"}[min(int(n), 5)]
}

func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\ndecided by %s: %s\n", e.Text, e.Rule, e.Why)
	if e.Missing != "" {
		fmt.Fprintf(&b, "missing: %s\n", e.Missing)
	}
	for _, s := range e.Shares {
		fmt.Fprintf(&b, "  %-8s %d counts=%-5v there=%-5v %-5s %s%s\n", named(s.Node), s.Votes, s.Counts, s.Present, s.Lost.Outcome, s.Lost.Text, s.Why)
	}
	return b.String()
}

func TestExplain(t *testing.T) {
	three, four, five := ids(1, 2, 3), ids(1, 2, 3, 4), ids(1, 2, 3, 4, 5)
	two := with(Majority(1, 2), twoNode)
	tied := with(Majority(four...), tie(membership.TieLowest))
	last := with(Majority(five...), lastMan)
	cases := []struct {
		name string
		Situation
	}{
		{"three of three", Situation{Policy: Majority(three...), Present: three}},
		{"two of three", Situation{Policy: Majority(three...), Present: ids(1, 3)}},
		{"one of three", Situation{Policy: Majority(three...), Present: ids(2)}},
		{"one node", Situation{Policy: Majority(1), Present: ids(1)}},
		{"one of five", Situation{Policy: Majority(five...), Present: ids(3)}},
		{"of unequal votes", Situation{Policy: votes(1, 2, 3), Present: ids(1)}},
		{"a heavy vote alone", Situation{Policy: votes(3, 1, 1), Present: ids(1)}},
		{"many without a vote", Situation{Policy: votes(2, 1, 0, 0), Present: ids(1, 3, 4)}},
		{"a heavy vote of two", Situation{Policy: votes(2, 1), Present: ids(1, 2)}},
		{"a heavy vote of two, alone", Situation{Policy: votes(2, 1), Present: ids(1)}},
		{"an override", Situation{Policy: Majority(1, 2), Present: ids(1), Override: true}},
		{"an override of too few", Situation{Policy: Majority(three...), Present: ids(1), Override: true}},
		{"nobody", Situation{Policy: Policy{}, Present: ids(1)}},
		{"a heavy vote and none", Situation{Policy: votes(2, 1, 0), Present: three}},
		{"two without two_node", Situation{Policy: Majority(1, 2), Present: ids(1, 2)}},
		{"two_node, both", Situation{Policy: two, Present: ids(1, 2)}},
		{"two_node, one without proof", Situation{Policy: two, Present: ids(1), Last: ids(1, 2)}},
		{"two_node, one with proof", Situation{Policy: two, Electorate: ids(1), Present: ids(1)}},
		{"two_node, one when the other left", Situation{Policy: two, Left: ids(2), Gone: ids(2), Present: ids(1), Last: ids(1)}},
		{"two_node, one after the other left", Situation{Policy: two, Electorate: ids(1), Left: ids(2), Gone: ids(2), Present: ids(1)}},
		{"an added node, and one that left when there was a rule", Situation{Policy: Majority(three...), Electorate: ids(1), Left: ids(2), Gone: ids(2, 3), New: ids(3), Present: ids(1)}},
		{"an added node", Situation{Policy: with(Majority(three...), leaves), Electorate: ids(1, 2), Gone: ids(3), New: ids(3), Present: ids(1, 2)}},
		{"two_node at a first start", Situation{Policy: two, Present: ids(1), Awaited: ids(2)}},
		{"auto_tie_breaker, four", Situation{Policy: tied, Present: four}},
		{"auto_tie_breaker, three", Situation{Policy: tied, Present: three}},
		{"auto_tie_breaker, three and one proved gone", Situation{Policy: tied, Present: three, Gone: ids(4)}},
		{"auto_tie_breaker, the half and one proved gone", Situation{Policy: tied, Present: ids(1, 2), Last: three, Gone: ids(4)}},
		{"auto_tie_breaker, the half and all proved gone", Situation{Policy: tied, Present: ids(1, 2), Last: ids(1, 2), Gone: ids(3, 4)}},
		{"auto_tie_breaker, the half", Situation{Policy: tied, Present: ids(1, 2), Last: four}},
		{"auto_tie_breaker, the other half", Situation{Policy: tied, Present: ids(3, 4), Last: four}},
		{"auto_tie_breaker, the half with proof", Situation{Policy: tied, Electorate: ids(1, 2), Present: ids(1, 2)}},
		{"last_man_standing, five", Situation{Policy: last, Present: five}},
		{"last_man_standing, three", Situation{Policy: last, Electorate: three, Present: three}},
		{"last_man_standing, two", Situation{Policy: last, Electorate: ids(1, 2), Present: ids(1, 2)}},
		{"last_man_standing, one", Situation{Policy: last, Electorate: ids(2), Present: ids(2)}},
		{"last_man_standing, too many at once", Situation{Policy: last, Present: ids(1, 2), Last: five}},
		{"one left cleanly", Situation{Policy: with(Majority(five...), leaves), Electorate: four, Left: ids(5), Present: four}},
		{"expected_votes", Situation{Policy: with(Majority(three...), expected(5)), Present: three}},
		{"a list", Situation{Policy: all(Majority(three...)), Present: three}},
		{"a list without one", Situation{Policy: all(Majority(three...)), Present: ids(1, 2)}},
		{"a list that one left", Situation{Policy: all(Majority(three...)), Electorate: ids(1, 2), Left: ids(3), Present: ids(1, 2)}},
		{"a witness", Situation{Policy: Policy{Votes: votes(1, 1, 1).Votes, Witness: 3}, Present: ids(1, 3)}},
	}
	var got strings.Builder
	for _, c := range cases {
		c.Name = named
		fmt.Fprintf(&got, "# %s\n%s\n", c.name, Explain(c.Situation))
	}
	file := filepath.Join("testdata", "explain.golden")
	if *rewrite {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != got.String() {
		t.Errorf("got\n%s\n(%v)", got.String(), err)
	}
}

func TestExplainWithoutNames(t *testing.T) {
	if e := Explain(Situation{Policy: Majority(1, 2, 3), Present: ids(1)}); e.Missing != "1 vote, of node 2 or node 3" {
		t.Errorf("%q", e.Missing)
	}
}

// What is told of a loss is what is said after it.
func TestALossIsAsTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := genOracle(t)
		s := Situation{Policy: o.policy()}
		for n := range o.votes {
			id := membership.NodeID(n + 1)
			if rapid.IntRange(0, 3).Draw(t, "counts") > 0 {
				s.Electorate = append(s.Electorate, id)
			}
			if rapid.IntRange(0, 3).Draw(t, "there") > 0 {
				s.Present = append(s.Present, id)
			}
		}
		e := Explain(s)
		if len(e.Shares) != len(o.votes) {
			t.Fatalf("%d of %d nodes", len(e.Shares), len(o.votes))
		}
		if (e.Missing == "") != e.Quorate || strings.HasPrefix(e.Text, "quorate: ") != e.Quorate || e.Why == "" || e.Rule == NoRule {
			t.Fatalf("%+v", e)
		}
		for _, sh := range e.Shares {
			if !sh.Present || !e.Quorate {
				if sh.Lost != (Loss{}) {
					t.Fatalf("%+v", sh)
				}
				continue
			}
			after := s
			after.Present, after.Last = membership.Without(s.Present, sh.Node), s.Present
			later := Explain(after)
			all := electorateOf(s)
			there := len(among(all, after.Present))
			rule, _ := after.Policy.Of(all).Takeover(after.Present, after.Last)
			if later.Verdict.Quorate && !o.witness {
				rule = ByVotes
			}
			want := Stays
			switch {
			case later.Quorate:
			case rule != NoRule && len(after.Present) > 0 && 2*there == len(all):
				want = Fence
			default:
				want = Stops
			}
			if sh.Lost.Outcome != want || sh.Lost.Rule != map[bool]Rule{true: rule}[want == Fence] ||
				sh.Lost.Missing != map[bool]int{true: max(later.Verdict.Needed-later.Verdict.Have, 0)}[want == Stops] {
				t.Fatalf("%+v without %d: %+v, want %s %s", s, sh.Node, sh.Lost, want, rule)
			}
		}
	})
}

func electorateOf(s Situation) []membership.NodeID {
	if s.Electorate != nil {
		return s.Electorate
	}
	var out []membership.NodeID
	for n := range s.Policy.Votes {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
