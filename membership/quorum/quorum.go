package quorum

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/quorate/quorate/membership"
)

// MaxVotes is the most votes that one node may have.
const MaxVotes = 1 << 16

// ErrPolicy is in the chain of every error that Check returns.
var ErrPolicy = errors.New("quorum: the policy cannot work")

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

// Check says what is wrong with a policy, and what to change.
func (p Policy) Check() error {
	var errs []error
	sum := 0
	for _, n := range slices.Sorted(maps.Keys(p.Votes)) {
		votes := p.Votes[n]
		switch {
		case n == 0:
			errs = append(errs, fmt.Errorf("%w: votes are given to node 0; node ids begin at 1", ErrPolicy))
		case votes < 0 || votes > MaxVotes:
			errs = append(errs, fmt.Errorf("%w: node %d has %d votes; give it 0 to %d", ErrPolicy, n, votes, MaxVotes))
		default:
			sum += votes
		}
	}
	if sum == 0 {
		errs = append(errs, fmt.Errorf("%w: no node has a vote; give at least one node votes", ErrPolicy))
	}
	if p.Expected > 0 && sum < p.Expected/2+1 {
		errs = append(errs, fmt.Errorf("%w: expected votes are %d and all nodes together have %d; lower expected votes below %d",
			ErrPolicy, p.Expected, sum, 2*sum))
	}
	return errors.Join(errs...)
}
