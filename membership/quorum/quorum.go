package quorum

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/membership"
)

// MaxVotes is the most votes that one node may have.
const MaxVotes = 1 << 16

// Policy is how many votes each configured node has. The zero Policy has no
// votes and is never quorate.
type Policy struct {
	// Votes has an entry for every configured node; a node without one, or with
	// a negative number, has no vote.
	Votes map[membership.NodeID]int `json:"votes"`
	// Expected is expected_votes where it is configured higher than the sum of
	// Votes, for nodes that will be added later. It never lowers the sum.
	Expected int `json:"expected,omitempty"`
	// All asks for every vote in the place of more than half: who has one is
	// needed, and no set without it is quorate. Expected does not matter then.
	All bool `json:"all,omitempty"`
	// Rules are what goes beyond that: see Takeover.
	Rules membership.Quorum `json:"rules"`
	// Witness is the node among Votes that is the witness; 0: there is none. It is in
	// no view: what was ordered without a majority of the nodes was ordered with it.
	Witness membership.NodeID `json:"witness,omitempty"`
}

// New is the policy of a configuration.
func New(cfg membership.Config) Policy {
	p := Policy{Votes: make(map[membership.NodeID]int, len(cfg.Nodes)), Rules: cfg.Quorum, Expected: cfg.Quorum.Expected}
	for _, n := range cfg.Nodes {
		p.Votes[n.ID] = n.Votes
	}
	return p
}

// Of is the policy when only these nodes count any more; the others are as if they
// were not configured. Expected then counts for no more than the votes that are left.
func (p Policy) Of(electorate []membership.NodeID) Policy {
	all := p.Votes
	p.Votes = make(map[membership.NodeID]int, len(electorate))
	for n, votes := range all {
		if slices.Contains(electorate, n) {
			p.Votes[n] = votes
		}
	}
	if len(p.Votes) < len(all) {
		p.Expected = 0
	}
	return p
}

// Majority is the policy of one vote a node.
func Majority(nodes ...membership.NodeID) Policy {
	p := Policy{Votes: make(map[membership.NodeID]int, len(nodes))}
	for _, n := range nodes {
		p.Votes[n] = 1
	}
	return p
}

// Verdict is the answer to whether a set is quorate, and the sum behind it.
type Verdict struct {
	Quorate  bool   `json:"quorate"`
	Have     int    `json:"have"`     // votes of the set
	Needed   int    `json:"needed"`   // more than half of Expected, or all of it
	Expected int    `json:"expected"` // votes of all configured nodes, dead or alive
	Text     string `json:"text"`     // the same in words
}

// Quorate says whether the set has more than half of the expected votes, or all
// of them where All asks for it. A node named twice counts once; a node that is
// not configured counts nothing.
func (p Policy) Quorate(have []membership.NodeID) Verdict {
	v := Verdict{Expected: p.expected()}
	if v.Needed = v.Expected/2 + 1; p.All {
		v.Needed = max(v.Expected, 1)
	}
	seen := make(map[membership.NodeID]bool, len(have))
	for _, n := range have {
		if !seen[n] {
			seen[n] = true
			v.Have += max(p.Votes[n], 0)
		}
	}
	v.Quorate = v.Have >= v.Needed
	v.Text = v.words()
	return v
}

func (p Policy) expected() int {
	sum := 0
	for _, votes := range p.Votes {
		sum += max(votes, 0)
	}
	if p.All {
		return sum
	}
	return max(sum, p.Expected)
}

func (v Verdict) words() string {
	if v.Expected == 0 {
		return "no node has a vote"
	}
	if v.Quorate {
		return fmt.Sprintf("%d of %d votes, %d needed", v.Have, v.Expected, v.Needed)
	}
	return fmt.Sprintf("%d of %d votes, %d needed: %d missing", v.Have, v.Expected, v.Needed, v.Needed-v.Have)
}
