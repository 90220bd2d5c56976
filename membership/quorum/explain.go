package quorum

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quorate/quorate/membership"
)

// Situation is what Explain is asked of.
type Situation struct {
	Policy Policy // as configured
	// Electorate are the nodes that count (Policy.Of); nil: all of the policy.
	Electorate []membership.NodeID
	Present    []membership.NodeID // who is there: members, or who is heard
	Last       []membership.NodeID // the members of the last agreed view; nil: Present
	Left       []membership.NodeID // who left cleanly
	New        []membership.NodeID // who was never admitted yet
	Gone       []membership.NodeID // of those who are not there, whose end needs no proof any more
	Awaited    []membership.NodeID // by wait_for_all; whatever the votes, nothing runs before
	Override   bool                // an operator allows a half to go on when the others are proved gone
	Barred     bool                // those who are here may go on by no rule, whatever is proved
	// Name gives a node's name; nil: "node 3".
	Name func(membership.NodeID) string
}

// Explanation is a situation in words and numbers.
type Explanation struct {
	Verdict Verdict // by who counts now
	Quorate bool    // and they can agree, and nobody is awaited
	Text    string  // all of it in one line
	Rule    Rule    // which decided: majority, all, wait_for_all, or by which somebody counts no more
	Why     string  // that in words
	Missing string  // what there has to be for a quorum; empty: nothing
	Shares  []Share // of every configured node, by id
}

// Share is one node's part in it.
type Share struct {
	Node    membership.NodeID
	Votes   int    // as configured
	Counts  bool   // they are among the expected votes
	Why     string // of votes that do not count
	Present bool
	Lost    Loss // what happens when it is lost next
}

// Outcome is what the loss of a node does to the rest.
type Outcome string

// The outcomes.
const (
	Nothing Outcome = ""      // it is not there, or the rest is no quorum already
	Stays   Outcome = "stays" // the rest is quorate
	Fence   Outcome = "fence" // the rest goes on when everybody else is proved gone
	Stops   Outcome = "stops" // the rest waits for votes
)

// Loss is what happens when a node that is there is lost without a word.
type Loss struct {
	Outcome Outcome
	Rule    Rule   // by which the rest goes on, with Fence
	Missing int    // votes, with Stops
	Text    string // in words
}

// Explain says who decides and why, and what the loss of each node would do.
func Explain(s Situation) Explanation {
	if s.Electorate == nil {
		s.Electorate = slices.Sorted(maps.Keys(s.Policy.Votes))
	}
	if s.Last == nil {
		s.Last = s.Present
	}
	x := explainer{s, s.Policy.Of(s.Electorate)}
	e := Explanation{Verdict: x.now.Quorate(s.Present)}
	e.Quorate = e.Verdict.Quorate && x.agree(s.Present) && len(s.Awaited) == 0
	e.Rule, e.Why = x.decided()
	for _, n := range slices.Sorted(maps.Keys(s.Policy.Votes)) {
		sh := Share{Node: n, Votes: max(s.Policy.Votes[n], 0), Present: slices.Contains(s.Present, n), Counts: slices.Contains(s.Electorate, n)}
		if !sh.Counts {
			_, sh.Why = x.dropped(n)
		}
		if sh.Present && e.Quorate {
			sh.Lost = x.loss(n)
		}
		e.Shares = append(e.Shares, sh)
	}
	e.Missing = x.missing(e.Verdict)
	e.Text = x.headline(e)
	return e
}

type explainer struct {
	Situation
	now Policy
}

func (x explainer) name(n membership.NodeID) string { return orNumber(x.Name)(n) }

// voices are how many of a set have a voice in the ordered group: each node that
// counts has one, whatever its votes.
func (x explainer) voices(set []membership.NodeID) int { return len(among(x.Electorate, set)) }

// agree says whether a set can order anything by itself; a list needs no agreement.
func (x explainer) agree(set []membership.NodeID) bool {
	return x.Policy.All || 2*x.voices(set) > len(x.Electorate)
}

// mayGoOn is Takeover for a set that the group can be forced to: half of it.
func (x explainer) mayGoOn(set, last []membership.NodeID, override bool) (Rule, string) {
	rule, why := x.now.Takeover(set, last)
	switch {
	case x.Policy.All || x.Policy.Witness != 0 || len(set) == 0:
		return NoRule, why
	case rule == NoRule && x.now.Quorate(set).Quorate:
		rule = ByVotes
	case rule == NoRule && override:
		rule = Override
	}
	if v := x.voices(set); rule != NoRule && (2*v < len(x.Electorate) || x.agree(set)) {
		return NoRule, fmt.Sprintf("%s is for half of the nodes, and here are %d of %d", rule, v, len(x.Electorate))
	}
	return rule, why
}

func (x explainer) names(nodes []membership.NodeID, last string) string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = x.name(n)
	}
	if k := len(out); k > 1 {
		return strings.Join(out[:k-1], ", ") + " " + last + " " + out[k-1]
	}
	return strings.Join(out, "")
}

// decided is the rule that the verdict hangs on.
func (x explainer) decided() (Rule, string) {
	switch out := membership.Without(x.Policy.voters(), x.Electorate...); {
	case len(x.Awaited) > 0:
		return waitForAll, fmt.Sprintf("wait_for_all: after all were down nothing runs before every node was seen; %s not yet", x.names(x.Awaited, "and"))
	case x.Policy.All:
		return everyVote, "every listed node is needed"
	case len(out) > 0:
		rule := majority
		for _, n := range out {
			if r, _ := x.dropped(n); rule == majority {
				rule = r
			}
		}
		return rule, "more than half of those who count; not until they are back: " + x.gone(out)
	case x.now.expected() > x.now.sum(x.Electorate):
		return majority, fmt.Sprintf("more than half of expected_votes = %d; the nodes have %d", x.now.expected(), x.now.sum(x.Electorate))
	}
	return majority, "more than half of all votes, those of dead nodes included"
}

// gone says of nodes that count no more why not, those with the same reason together.
func (x explainer) gone(out []membership.NodeID) string {
	by := map[string][]membership.NodeID{}
	for _, n := range out {
		_, why := x.dropped(n)
		by[why] = append(by[why], n)
	}
	var said []string
	for _, why := range slices.Sorted(maps.Keys(by)) {
		said = append(said, x.names(by[why], "and")+", "+why)
	}
	return strings.Join(said, "; ")
}

// dropped says by which rule a node counts no more.
func (x explainer) dropped(n membership.NodeID) (Rule, string) {
	rule, why := majority, "proved gone"
	if slices.Contains(x.Left, n) {
		why = "left cleanly"
	}
	switch r := x.Policy.Rules; {
	case x.Policy.All:
		return everyVote, "left cleanly"
	case slices.Contains(x.New, n):
		return majority, "not admitted yet"
	case slices.Contains(x.Left, n) && r.LeaveRemoves:
		rule = leaveRule
	case r.TwoNode:
		rule = TwoNode
	case r.LastManStanding:
		rule = LastManStanding
	case r.TieBreaker.Mode != membership.TieNone:
		rule = AutoTieBreaker
	default: // by an operator's word, or a rule that is no more
		return majority, why
	}
	return rule, fmt.Sprintf("%s (%s)", why, rule)
}

// loss is what the loss of a node would do, when nothing else happens.
func (x explainer) loss(n membership.NodeID) Loss {
	rest := membership.Without(x.Present, n)
	v := x.now.Quorate(rest)
	if v.Quorate && x.agree(rest) {
		return Loss{Outcome: Stays, Text: "stays quorate"}
	}
	if rule, _ := x.mayGoOn(rest, x.Present, false); rule != NoRule {
		text := "goes on after fencing it: " + string(rule)
		if others := x.unproved(); len(others) > 0 {
			text = fmt.Sprintf("goes on when it and %s are proved gone: %s", x.names(others, "and"), rule)
		}
		return Loss{Outcome: Fence, Rule: rule, Text: text}
	}
	l := Loss{Outcome: Stops, Missing: max(v.Needed-v.Have, 0)}
	switch {
	case len(rest) == 0:
		l.Text = "STOPS: nobody is left"
	case l.Missing > 0:
		l.Text = "STOPS: " + count(l.Missing) + " missing"
	default:
		l.Text = fmt.Sprintf("STOPS: %d of %d nodes", x.voices(rest), len(x.Electorate))
	}
	return l
}

// unproved are the nodes that count, are not there, and may be alive.
func (x explainer) unproved() []membership.NodeID {
	return membership.Without(membership.Without(x.Electorate, x.Present...), x.Gone...)
}

// missing says what would make a quorum.
func (x explainer) missing(v Verdict) string {
	text := ""
	switch {
	case len(x.Awaited) > 0:
		return fmt.Sprintf("%s, up at the same time as the others", x.names(x.Awaited, "and"))
	case !v.Quorate:
		text = x.from(v.Needed-v.Have, membership.Without(x.now.voters(), x.Present...))
	case !x.agree(x.Present):
		text = fmt.Sprintf("nodes: here are %d of %d, and an agreement takes more than half of them besides the votes", x.voices(x.Present), len(x.Electorate))
	default:
		return ""
	}
	if x.Barred {
		return text
	}
	absent := membership.Without(x.Electorate, x.Present...)
	switch rule, why := x.mayGoOn(x.Present, x.Last, x.Override); {
	case rule != NoRule && len(membership.Without(absent, x.Left...)) == 0:
		text = fmt.Sprintf("an agreement of those who are here: %s left cleanly, and it goes on by %s; or %s", x.names(absent, "and"), rule, text)
	case rule != NoRule && len(x.unproved()) == 0:
		text += fmt.Sprintf("; or an agreement of those who are here: all others are proved gone, and it goes on by %s", rule)
	case rule != NoRule:
		text += fmt.Sprintf("; or proof that %s gone: then it goes on by %s", x.are(x.unproved()), rule)
	case x.now.Rules.TieBreaker.Mode != membership.TieNone || x.now.Rules.LastManStanding || x.Override:
		d := x.now.decider(x.Last)
		text += "; " + strings.Replace(why, fmt.Sprintf("node %d", d), x.name(d), 1)
	}
	return text
}

// from says whose votes may be those that are missing.
func (x explainer) from(missing int, absent []membership.NodeID) string {
	equal, enough := true, len(absent) > 0
	for _, n := range absent {
		equal = equal && x.now.Votes[n] == 1
		enough = enough && x.now.Votes[n] >= missing
	}
	y := x
	if !equal {
		y.Name = func(n membership.NodeID) string { return fmt.Sprintf("%s (%s)", x.name(n), count(x.now.Votes[n])) }
	}
	text := count(missing)
	switch sum := x.now.sum(absent); {
	case sum < missing:
		return text + ", and all nodes together have too few"
	case enough:
		return text + ", of " + y.names(absent, "or")
	case sum == missing:
		return text + ", of " + y.names(absent, "and")
	}
	return text + ", among " + y.names(absent, "and")
}

func (x explainer) are(nodes []membership.NodeID) string {
	if len(nodes) == 1 {
		return x.name(nodes[0]) + " is"
	}
	return x.names(nodes, "and") + " are"
}

// headline is the state and, where it runs, what of it hangs by a thread.
func (x explainer) headline(e Explanation) string {
	switch {
	case len(x.Awaited) > 0:
		return fmt.Sprintf("not yet: wait_for_all waits for %s (%s)", x.names(x.Awaited, "and"), e.Verdict.Text)
	case !e.Verdict.Quorate:
		return "no quorum: " + e.Verdict.Text
	case !e.Quorate:
		return fmt.Sprintf("no quorum: %s, but %d of %d nodes", e.Verdict.Text, x.voices(x.Present), len(x.Electorate))
	}
	var stops, fence []membership.NodeID
	there := 0
	for _, sh := range e.Shares {
		switch sh.Lost.Outcome {
		case Stops:
			stops = append(stops, sh.Node)
		case Fence:
			fence = append(fence, sh.Node)
		}
		if sh.Present {
			there++
		}
	}
	text := "quorate: " + e.Verdict.Text + "; "
	switch {
	case there == 1:
		return text + x.name(x.only(e)) + " is alone"
	case len(stops) == there:
		return text + "the loss of any node stops everything"
	case len(stops) > 0:
		return text + "the loss of " + x.names(stops, "or") + " stops everything"
	case len(fence) > 0:
		return text + "any one node may be lost, when it is fenced"
	}
	return text + "any one node may be lost"
}

func (x explainer) only(e Explanation) membership.NodeID {
	for _, sh := range e.Shares {
		if sh.Present {
			return sh.Node
		}
	}
	return 0
}

func count(votes int) string {
	if votes == 1 {
		return "1 vote"
	}
	return fmt.Sprintf("%d votes", votes)
}
