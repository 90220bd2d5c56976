package quorum

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

// The tests below are named after what votequorum(5) says of each feature.

func with(p Policy, f func(*membership.Quorum)) Policy {
	f(&p.Rules)
	p.Expected = p.Rules.Expected
	return p
}

func tie(mode membership.TieMode, list ...membership.NodeID) func(*membership.Quorum) {
	return func(q *membership.Quorum) { q.TieBreaker = membership.TieBreaker{Mode: mode, List: list} }
}

func twoNode(q *membership.Quorum) { q.TwoNode, q.WaitForAll = true, true }
func lastMan(q *membership.Quorum) { q.LastManStanding = true }

func takes(t *testing.T, p Policy, have, last []membership.NodeID, want Rule, why string) {
	t.Helper()
	rule, said := p.Takeover(have, last)
	if rule != want || !strings.Contains(said, why) || (rule == NoRule) != (said != "") {
		t.Errorf("%v of %v, last %v: %q, %q; want %q, %q", have, p.Votes, last, rule, said, want, why)
	}
}

func TestAMajorityOfTheVotesIsHalfOfThemAndOneMore(t *testing.T) {
	for nodes := 1; nodes <= 32; nodes++ {
		p := Policy{Votes: map[membership.NodeID]int{}}
		var have []membership.NodeID
		for n := 1; n <= nodes; n++ {
			p.Votes[membership.NodeID(n)] = 1
		}
		for n := 1; n <= nodes; n++ {
			have = append(have, membership.NodeID(n))
			if v := p.Quorate(have); v.Needed != nodes/2+1 || v.Quorate != (n >= nodes/2+1) {
				t.Errorf("%d of %d: %+v", n, nodes, v)
			}
		}
	}
}

func TestExpectedVotesComeFromTheListOfNodes(t *testing.T) {
	cfg := membership.Config{Nodes: []membership.Node{{ID: 1, Votes: 1}, {ID: 2, Votes: 3}, {ID: 7}}}
	if v := New(cfg).Quorate(ids(2)); v.Expected != 4 || v.Needed != 3 || !v.Quorate {
		t.Errorf("%+v", v)
	}
	cfg.Quorum.Expected = 6
	if v := New(cfg).Quorate(ids(2)); v.Expected != 6 || v.Quorate {
		t.Errorf("expected_votes of the configuration do not count: %+v", v)
	}
}

func TestWithoutTwoNodeBothOfTwoHaveToBeAlive(t *testing.T) {
	p := Majority(1, 2)
	takes(t, p, ids(1), ids(1, 2), NoRule, "no rule")
	takes(t, p, ids(1, 2), ids(1, 2), NoRule, "it is a quorum")
}

func TestTwoNodeMakesOneVoteEnough(t *testing.T) {
	p := with(Majority(1, 2), twoNode)
	takes(t, p, ids(1), ids(1, 2), TwoNode, "")
	takes(t, p, ids(2), ids(1, 2), TwoNode, "")
	takes(t, p, nil, ids(1, 2), NoRule, "the others would be a quorum")
	if v := p.Quorate(ids(1)); v.Quorate {
		t.Errorf("one of two is quorate without proof: %+v", v)
	}
	if v := p.Of(ids(2)).Quorate(ids(2)); !v.Quorate {
		t.Errorf("with proof it is not: %+v", v)
	}
}

func TestTwoNodeIsOffWithMoreThanTwo(t *testing.T) {
	takes(t, with(Majority(1, 2, 3), twoNode), ids(1), ids(1, 2, 3), NoRule, "the others would be a quorum")
	takes(t, with(Majority(1, 2, 3, 4), twoNode), ids(1, 2), ids(1, 2, 3, 4), NoRule, "two_node is for one of two voters")
}

// One that has more votes needs no rule, and the other must not have one.
func TestTwoNodeGivesNothingBesideAHeavyVote(t *testing.T) {
	p := with(Policy{Votes: map[membership.NodeID]int{1: 2, 2: 1}}, twoNode)
	takes(t, p, ids(1), ids(1, 2), NoRule, "it is a quorum")
	takes(t, p, ids(2), ids(1, 2), NoRule, "the others would be a quorum without it")
}

func TestWaitForAllWaitsUntilAllWereSeenAtTheSameTime(t *testing.T) {
	p := with(Majority(1, 2, 3, 4, 5, 6, 7, 8), func(q *membership.Quorum) { q.WaitForAll = true })
	if got := p.Awaited(ids(1, 2, 3, 4, 5)); !slices.Equal(got, ids(6, 7, 8)) {
		t.Errorf("waits for %v", got)
	}
	if got := p.Awaited(ids(8, 7, 6, 5, 4, 3, 2, 1)); len(got) > 0 {
		t.Errorf("waits for %v", got)
	}
	p.Votes[6] = 0
	if got := p.Awaited(ids(1, 2, 3, 4, 5)); !slices.Equal(got, ids(7, 8)) {
		t.Errorf("waits for %v, and one without a vote decides nothing", got)
	}
	p.Rules.WaitForAll = false
	if got := p.Awaited(ids(1)); got != nil {
		t.Errorf("without the rule it waits for %v", got)
	}
}

// The manual's chain: 8 nodes, 3 die, 2 more, 1 more; 2 are left and both are needed.
func TestLastManStandingGoesFromEightToTwo(t *testing.T) {
	p := with(Majority(1, 2, 3, 4, 5, 6, 7, 8), lastMan)
	electorate := ids(1, 2, 3, 4, 5, 6, 7, 8)
	lose := func(expected, needed int, dead ...membership.NodeID) {
		t.Helper()
		gone := map[membership.NodeID]time.Duration{}
		for _, n := range dead {
			gone[n] = DefaultWindow
		}
		electorate, _ = p.AfterLosses(electorate, gone)
		if v := p.Of(electorate).Quorate(electorate); v.Expected != expected || v.Needed != needed {
			t.Errorf("without %v: %+v, want %d and %d needed", dead, v, expected, needed)
		}
	}
	lose(8, 5)
	lose(5, 3, 6, 7, 8)
	lose(3, 2, 4, 5)
	lose(2, 2, 3)
	lose(2, 2, 2) // the last step is no recalculation
	takes(t, p.Of(electorate), ids(1), ids(1, 2), LastManStanding, "")
	takes(t, p.Of(electorate), ids(2), ids(1, 2), LastManStanding, "")
	takes(t, p, ids(1, 2, 3, 4), electorate, NoRule, "last_man_standing lets one of the last two go on, and it has 4 of 8 voters")
}

func TestLastManStandingWaitsForItsWindow(t *testing.T) {
	all := ids(1, 2, 3, 4, 5)
	p := with(Majority(all...), lastMan)
	p.Rules.LastManWindow = 20 * time.Second
	for _, c := range []struct {
		gone map[membership.NodeID]time.Duration
		want []membership.NodeID
		wait time.Duration
	}{
		{nil, all, 0},
		{map[membership.NodeID]time.Duration{5: 0}, all, 20 * time.Second},
		{map[membership.NodeID]time.Duration{5: 19 * time.Second}, all, time.Second},
		{map[membership.NodeID]time.Duration{5: 20 * time.Second}, ids(1, 2, 3, 4), 0},
		{map[membership.NodeID]time.Duration{5: time.Minute, 4: 15 * time.Second}, all, 5 * time.Second},
		{map[membership.NodeID]time.Duration{5: time.Minute, 4: time.Minute}, ids(1, 2, 3), 0},
		{map[membership.NodeID]time.Duration{5: time.Minute, 4: time.Minute, 3: time.Minute}, all, 0}, // no quorum: nothing is recalculated
		{map[membership.NodeID]time.Duration{9: time.Minute}, all, 0},
	} {
		got, wait := p.AfterLosses(all, c.gone)
		if !slices.Equal(got, c.want) || wait != c.wait {
			t.Errorf("%v: %v, %v; want %v, %v", c.gone, got, wait, c.want, c.wait)
		}
	}
	p.Rules.LastManStanding = false
	if got, wait := p.AfterLosses(all, map[membership.NodeID]time.Duration{5: time.Hour}); !slices.Equal(got, all) || wait != 0 {
		t.Errorf("without the rule: %v, %v", got, wait)
	}
}

func TestAutoTieBreakerKeepsTheHalfOfTheLowest(t *testing.T) {
	all := ids(1, 2, 3, 4, 5, 6, 7, 8)
	for _, mode := range []membership.TieMode{membership.TieLowest, membership.TieHighest} {
		p := with(Majority(all...), tie(mode))
		low, high := AutoTieBreaker, NoRule
		if mode == membership.TieHighest {
			low, high = high, low
		}
		decider := map[membership.TieMode]string{membership.TieLowest: "of node 1", membership.TieHighest: "of node 8"}[mode]
		why := func(r Rule) string {
			if r == NoRule {
				return decider
			}
			return ""
		}
		takes(t, p, ids(1, 2, 3, 4), all, low, why(low))
		takes(t, p, ids(5, 6, 7, 8), all, high, why(high))
		takes(t, p, ids(1, 6, 8), all, NoRule, "the others would be a quorum")
		takes(t, p, nil, all, NoRule, "the others would be a quorum")
		takes(t, p.Of(ids(1, 2)), nil, all, NoRule, "the others would be a quorum")
	}
}

func TestAutoTieBreakerIsForExactHalves(t *testing.T) {
	p := with(Majority(1, 2, 3, 4), tie(membership.TieLowest))
	p.Expected = 6
	takes(t, p, ids(1, 2), ids(1, 2, 3, 4), NoRule, "exact halves, and it has 2 of 6 votes")
	takes(t, p, ids(1, 2, 3), ids(1, 2, 3, 4), AutoTieBreaker, "")
}

func TestOfAListTheFirstThatWasThereBeforeTheSplitDecides(t *testing.T) {
	all := ids(1, 2, 3, 4, 5, 6)
	p := with(Majority(all...), tie(membership.TieList, 5, 3, 1))
	takes(t, p, ids(4, 5, 6), all, AutoTieBreaker, "")
	takes(t, p, ids(1, 2, 3), all, NoRule, "of node 5")
	without5 := ids(1, 2, 3, 4, 6)
	takes(t, p, ids(1, 2, 3), without5, AutoTieBreaker, "")
	takes(t, p, ids(4, 5, 6), without5, NoRule, "of node 3")
	takes(t, p, ids(2, 4, 6), ids(2, 4, 6), NoRule, "names no node that was a member")
	takes(t, p, ids(2, 4, 6), nil, NoRule, "names no node that was a member")
}

func TestAutoTieBreakerAndLastManStandingCombine(t *testing.T) {
	p := with(Majority(1, 2, 3, 4), func(q *membership.Quorum) { lastMan(q); tie(membership.TieLowest)(q) })
	takes(t, p, ids(1, 2), ids(1, 2, 3, 4), AutoTieBreaker, "")
	takes(t, p, ids(3, 4), ids(1, 2, 3, 4), NoRule, "of node 1")
	takes(t, p.Of(ids(3, 4)), ids(4), ids(3, 4), LastManStanding, "")
}

func TestQuorumDevicesSwitchTheRulesOff(t *testing.T) {
	for _, f := range []func(*membership.Quorum){twoNode, lastMan, tie(membership.TieLowest)} {
		p := with(Majority(1, 2, 9), f)
		p.Witness = 9
		takes(t, p, ids(1), ids(1, 2), NoRule, "with a witness")
		takes(t, p, ids(2), ids(1, 2), NoRule, "with a witness")
		takes(t, p, ids(1, 9), ids(1, 2), NoRule, "it is a quorum")
	}
}

// The manual's use case of allow_downscale: 13 nodes, expected_votes 3.
func TestCleanLeavesGoDownToExpectedVotesAndNotBelow(t *testing.T) {
	p := Policy{Votes: map[membership.NodeID]int{}}
	var electorate []membership.NodeID
	for n := membership.NodeID(1); n <= 13; n++ {
		p.Votes[n] = 1
		electorate = append(electorate, n)
	}
	p = with(p, func(q *membership.Quorum) { q.LeaveRemoves, q.Expected = true, 3 })
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	for n := membership.NodeID(13); n > 3; n-- {
		electorate = p.AfterLeave(electorate, n)
		if v := p.Of(electorate).Quorate(electorate); v.Expected != int(n)-1 {
			t.Errorf("without %d: %+v", n, v)
		}
	}
	if got := p.AfterLeave(electorate, 3); !slices.Equal(got, ids(1, 2, 3)) {
		t.Errorf("below expected_votes: %v", got)
	}
	if got := p.AfterLeave(electorate, 9); !slices.Equal(got, ids(1, 2, 3)) {
		t.Errorf("who does not count leaves: %v", got)
	}
}

func TestExpectedVotesAreNeverLoweredWithoutTheRule(t *testing.T) {
	p := Majority(1, 2, 3)
	if got := p.AfterLeave(ids(1, 2, 3), 3); !slices.Equal(got, ids(1, 2, 3)) {
		t.Errorf("%v", got)
	}
	p.Rules.LeaveRemoves = true
	if got := p.AfterLeave(ids(1, 2, 3), 3); !slices.Equal(got, ids(1, 2)) {
		t.Errorf("%v", got)
	}
	p.Votes[1] = 0
	if got := p.AfterLeave(ids(1, 2), 2); !slices.Equal(got, ids(1, 2)) {
		t.Errorf("nobody with a vote is left: %v", got)
	}
}

func TestTheStaticRuleHasNoTakeover(t *testing.T) {
	p := Majority(1, 2)
	p.All = true
	takes(t, p, ids(1), ids(1, 2), NoRule, "no rule")
}

// oracle is the manual read aloud: sets are masks of at most eight nodes, node 1 is
// bit 0. It uses nothing of the package.
type oracle struct {
	votes    []int
	expected int
	two, lms bool
	witness  bool
	tie      string
	list     []int
}

func (o oracle) sum(set uint) (sum int) {
	for n, v := range o.votes {
		if set>>n&1 == 1 {
			sum += v
		}
	}
	return sum
}

func (o oracle) quorate(set uint) bool {
	all := o.sum(1<<len(o.votes) - 1)
	if o.expected > all {
		all = o.expected
	}
	return all > 0 && o.sum(set) >= all/2+1
}

func (o oracle) voters() (set uint) {
	for n, v := range o.votes {
		if v > 0 {
			set |= 1 << n
		}
	}
	return set
}

// may says by which rule a set goes on after it has proved the others gone.
func (o oracle) may(set, last uint) Rule {
	voters := o.voters()
	switch {
	case o.quorate(set), o.witness, o.quorate(voters &^ set):
		return NoRule
	}
	// Two nodes: a quorum is artificially one. The last of the men that stood.
	if bits.OnesCount(voters) == 2 && bits.OnesCount(voters&set) == 1 {
		if o.two {
			return TwoNode
		}
		if o.lms {
			return LastManStanding
		}
	}
	// Up to 50 % may fail at the same time; the part with the named node remains.
	all := max(o.sum(voters), o.expected)
	if o.tie == "" || o.sum(set) == 0 || o.sum(set)+o.sum(set) != all {
		return NoRule
	}
	order := o.list
	for n := range o.votes {
		switch o.tie {
		case "lowest":
			order = append(order, n)
		case "highest":
			order = append([]int{n}, order...)
		}
	}
	for _, n := range order {
		if voters&last>>n&1 == 1 {
			if set>>n&1 == 1 {
				return AutoTieBreaker
			}
			return NoRule
		}
	}
	return NoRule
}

func (o oracle) policy() Policy {
	p := Policy{Votes: map[membership.NodeID]int{}, Expected: o.expected}
	for n, v := range o.votes {
		p.Votes[membership.NodeID(n+1)] = v
	}
	p.Rules = membership.Quorum{Expected: o.expected, TwoNode: o.two, LastManStanding: o.lms, TieBreaker: membership.TieBreaker{Mode: membership.TieMode(o.tie)}}
	for _, n := range o.list {
		p.Rules.TieBreaker.List = append(p.Rules.TieBreaker.List, membership.NodeID(n+1))
	}
	if o.witness {
		p.Witness = 1
	}
	return p
}

func nodes(set uint) (out []membership.NodeID) {
	for n := 0; n < 8; n++ {
		if set>>n&1 == 1 {
			out = append(out, membership.NodeID(n+1))
		}
	}
	return out
}

func (o oracle) compare(t interface {
	Helper()
	Fatalf(string, ...any)
}, set, last uint,
) {
	t.Helper()
	p := o.policy()
	if got, want := p.Quorate(nodes(set)).Quorate, o.quorate(set); got != want {
		t.Fatalf("%+v: %v quorate %v, the oracle says %v", o, nodes(set), got, want)
	}
	if got, why := p.Takeover(nodes(set), nodes(last)); got != o.may(set, last) || (got == NoRule) != (why != "") {
		t.Fatalf("%+v: %v, last %v: %q (%s), the oracle says %q", o, nodes(set), nodes(last), got, why, o.may(set, last))
	}
}

// oracles calls f with every policy of up to n nodes with 0 to top votes each.
func oracles(n, top int, f func(oracle)) {
	ties := []oracle{{}, {tie: "lowest"}, {tie: "highest"}, {tie: "list", list: []int{n - 1, 0}}, {tie: "list"}}
	combinations := 8
	if n > 3 {
		combinations = 4 // without a witness, which ends every rule
	}
	for code, votes := 0, make([]int, n); ; code++ {
		rest := code
		sum := 0
		for i := range votes {
			votes[i] = rest % (top + 1)
			sum += votes[i]
			rest /= top + 1
		}
		if rest > 0 {
			return
		}
		for _, o := range ties {
			for flags := range combinations {
				o.votes, o.two, o.lms, o.witness = votes, flags&1 > 0, flags&2 > 0, flags&4 > 0
				for _, o.expected = range []int{0, sum + 1, sum + 2} {
					f(o)
				}
			}
		}
	}
}

func TestAgainstTheManualExhaustively(t *testing.T) {
	cases := 0
	for n, top := range map[int]int{1: 3, 2: 3, 3: 2, 4: 1} {
		oracles(n, top, func(o oracle) {
			for set := range uint(1) << n {
				for last := range uint(1) << n {
					o.compare(t, set, last)
					cases++
				}
			}
		})
	}
	if cases < 100000 {
		t.Errorf("only %d cases", cases)
	}
}

func genOracle(t *rapid.T) oracle {
	o := oracle{votes: rapid.SliceOfN(rapid.IntRange(0, 3), 1, 8).Draw(t, "votes")}
	if rapid.Bool().Draw(t, "equal") {
		for i := range o.votes {
			o.votes[i] = 1
		}
	}
	o.two, o.lms = rapid.Bool().Draw(t, "two"), rapid.Bool().Draw(t, "lms")
	o.witness = rapid.IntRange(0, 9).Draw(t, "witness") == 0
	if rapid.IntRange(0, 3).Draw(t, "more") == 0 {
		o.expected = rapid.IntRange(0, 20).Draw(t, "expected")
	}
	o.tie = rapid.SampledFrom([]string{"", "lowest", "highest", "list"}).Draw(t, "tie")
	if o.tie == "list" {
		o.list = rapid.SliceOfDistinct(rapid.IntRange(0, len(o.votes)-1), func(n int) int { return n }).Draw(t, "list")
	}
	return o
}

func TestAgainstTheManual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := genOracle(t)
		top := uint(1)<<len(o.votes) - 1
		o.compare(t, rapid.UintRange(0, top).Draw(t, "set"), rapid.UintRange(0, top).Draw(t, "last"))
	})
}

// disjoint checks what no policy may give to two sets without a common node, which
// both know the same last view.
func disjoint(p Policy, a, b, last []membership.NodeID) error {
	qa, qb := p.Quorate(a).Quorate, p.Quorate(b).Quorate
	ra, _ := p.Takeover(a, last)
	rb, _ := p.Takeover(b, last)
	either := len(p.voters()) == 2 && (ra == TwoNode || ra == LastManStanding)
	switch {
	case qa && qb:
		return fmt.Errorf("both are quorate")
	case qa && rb != NoRule, qb && ra != NoRule:
		return fmt.Errorf("one is quorate and the other may go on: %q, %q", ra, rb)
	case ra != NoRule && rb != NoRule && (!either || ra != rb):
		return fmt.Errorf("both may go on: %q, %q", ra, rb)
	case ra != NoRule && qa, rb != NoRule && qb:
		return fmt.Errorf("a rule for a quorum: %q, %q", ra, rb)
	}
	return nil
}

func TestTwoSetsNeverBothGoOnExhaustively(t *testing.T) {
	for n, top := range map[int]int{2: 3, 3: 2, 4: 1} {
		oracles(n, top, func(o oracle) {
			p := o.policy()
			for a := range uint(1) << n {
				for b := range a {
					if a&b != 0 {
						continue
					}
					for _, last := range []uint{1<<n - 1, a} {
						if err := disjoint(p, nodes(a), nodes(b), nodes(last)); err != nil {
							t.Fatalf("%+v: %v and %v, last %v: %v", o, nodes(a), nodes(b), nodes(last), err)
						}
					}
				}
			}
		})
	}
}

func TestTwoSetsNeverBothGoOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := genOracle(t)
		p := o.policy()
		var a, b, last, electorate []membership.NodeID
		for n := range o.votes {
			id := membership.NodeID(n + 1)
			switch rapid.IntRange(0, 2).Draw(t, "side") {
			case 0:
				a = append(a, id)
			case 1:
				b = append(b, id)
			}
			if rapid.Bool().Draw(t, "was a member") {
				last = append(last, id)
			}
			if rapid.IntRange(0, 3).Draw(t, "counts") > 0 {
				electorate = append(electorate, id)
			}
		}
		p.All = rapid.IntRange(0, 9).Draw(t, "all") == 0
		for _, p := range []Policy{p, p.Of(electorate)} {
			if err := disjoint(p, a, b, last); err != nil {
				t.Fatalf("%+v: %v and %v, last %v: %v", p, a, b, last, err)
			}
		}
	})
}

// When last_man_standing has dropped the dead, those who count after it and those who
// counted before have no two quorums without a common node: the dead are in none.
func TestQuorumsBeforeAndAfterLossesMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := nodes(1<<rapid.IntRange(2, 8).Draw(t, "nodes") - 1)
		p := with(Majority(all...), lastMan)
		gone := map[membership.NodeID]time.Duration{}
		for _, n := range all {
			if rapid.IntRange(0, 2).Draw(t, "gone") == 0 {
				gone[n] = DefaultWindow + time.Duration(rapid.IntRange(-1, 1).Draw(t, "age"))
			}
		}
		after, wait := p.AfterLosses(all, gone)
		if wait > 0 && len(after) != len(all) {
			t.Fatalf("%v and asks again in %v", after, wait)
		}
		if len(after) < 2 {
			t.Fatalf("only %v are left", after)
		}
		var a, b []membership.NodeID
		for _, n := range after {
			if rapid.Bool().Draw(t, "side") {
				a = append(a, n)
			} else {
				b = append(b, n)
			}
		}
		if p.Of(after).Quorate(a).Quorate && p.Quorate(b).Quorate {
			t.Fatalf("after %v: %v is a quorum now and %v was one", gone, a, b)
		}
	})
}

func TestInForce(t *testing.T) {
	p := with(Majority(1, 2, 3, 4), expected(4, lastMan, leaves, tie(membership.TieList, 4, 2), func(q *membership.Quorum) { q.WaitForAll = true }))
	want := "expected_votes = 4, wait_for_all, auto_tie_breaker = node 4, then node 2, last_man_standing after 10s, leave_removes_vote"
	if got := strings.Join(p.InForce(nil), ", "); got != want {
		t.Errorf("%q", got)
	}
	if got := strings.Join(with(Majority(1, 2), tie(membership.TieLowest)).InForce(named), " "); got != "auto_tie_breaker = lowest" {
		t.Errorf("%q", got)
	}
	if got := with(Majority(1, 2), twoNode).InForce(nil); !slices.Equal(got, []string{"two_node", "wait_for_all"}) {
		t.Errorf("%q", got)
	}
	if got := Majority(1).InForce(nil); got != nil {
		t.Errorf("%q", got)
	}
}
