package control

import "github.com/quorate/quorate/membership"

// QuorumReport says who decides: whose votes count, by which rule, what is missing,
// and what the loss of each node would do.
type QuorumReport struct {
	Quorate  bool                `json:"quorate"`
	Text     string              `json:"text"` // one line: the state, a colon, the numbers
	Have     int                 `json:"have"` // votes of those who are there
	Needed   int                 `json:"needed"`
	Expected int                 `json:"expected"`           // votes of all who count, dead or alive
	Rule     string              `json:"rule"`               // which decided: majority, all, first_start, wait_for_all, two_node, auto_tie_breaker, last_man_standing, leave_removes_vote
	Why      string              `json:"why"`                // that in words
	Rules    []string            `json:"rules,omitempty"`    // that are configured
	Missing  string              `json:"missing,omitempty"`  // what there has to be for a quorum
	Awaited  []membership.NodeID `json:"awaited,omitempty"`  // by wait_for_all
	Override string              `json:"override,omitempty"` // who allowed this node to go on with half of the voters, and not to wait for all
	// NoOverride is why an override would be refused, without a quorum; empty: it would not.
	NoOverride string            `json:"no_override,omitempty"`
	Takeover   string            `json:"takeover,omitempty"` // without a quorum: what going on by a rule waits for, or why it is not tried
	Do         string            `json:"do,omitempty"`       // where an operator can let this node go on: what to do
	Witness    membership.NodeID `json:"witness,omitempty"`  // that one of Nodes is the witness
	Nodes      []QuorumNode      `json:"nodes"`
}

// QuorumNode is one node's part in it.
type QuorumNode struct {
	ID      membership.NodeID `json:"id"`
	Name    string            `json:"name"`
	Votes   int               `json:"votes"` // as configured
	State   string            `json:"state"` // as of NodeStatus
	Present bool              `json:"present"`
	Counts  bool              `json:"counts"`        // its votes are among the expected ones
	Why     string            `json:"why,omitempty"` // why not
	IfLost  *QuorumLoss       `json:"if_lost,omitempty"`
}

// QuorumLoss is what happens when the node is lost next, without a word.
type QuorumLoss struct {
	Outcome string `json:"outcome"`           // stays, fence (the others go on when it is proved gone), stops
	Rule    string `json:"rule,omitempty"`    // by which they go on
	Missing int    `json:"missing,omitempty"` // votes, when they stop
	Text    string `json:"text"`
}
