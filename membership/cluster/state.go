package cluster

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/quorate/quorate/membership"
)

// State is the replicated state. Its fields are read by everyone and written by
// Apply alone.
type State struct {
	Feature int             `json:"feature"`
	Index   uint64          `json:"index"` // of the last entry applied
	View    membership.View `json:"view"`
	// Nodes has what is known of each node that ever joined, by node id.
	Nodes []NodeRecord `json:"nodes"`
	// Cases are the evicted incarnations that matter still: without proof, or with a job not ended, or the last of their node.
	Cases []Case `json:"cases"`
	// History is the newest proofs and failures, oldest first, at most MaxHistory.
	History []Record `json:"history"`
	// Listed are the nodes that belong to the cluster by the newest List,
	// ascending; empty: there was none, and the configuration's do.
	Listed []membership.NodeID `json:"listed,omitempty"`
	// Electorate are the nodes that count for quorum, ascending; empty: all that are
	// configured do. Who is admitted counts.
	Electorate []membership.NodeID `json:"electorate,omitempty"`
	// Generation counts the takeovers.
	Generation uint64 `json:"generation,omitempty"`
	// Unfences are the nodes whose devices were switched on, or should be, by node id.
	Unfences []Unfenced `json:"unfences,omitempty"`
	// Holds are the announced freezes of members, by node id.
	Holds []Held `json:"holds,omitempty"`
	// Witness votes for the cluster and is in no view; nil: there is none. Witnesses is
	// how many there ever were.
	Witness   *Witness `json:"witness,omitempty"`
	Witnesses uint32   `json:"witnesses,omitempty"`
	// Maintenance is in force; nil: none is. MaintenanceLast is the index of the newest there was.
	Maintenance     *Maintained `json:"maintenance,omitempty"`
	MaintenanceLast uint64      `json:"maintenance_last,omitempty"`
	// Drains are the members that were asked to leave, by node id.
	Drains []Drain `json:"drains,omitempty"`
	// Conf is the agreed configuration.
	Conf Configured `json:"conf,omitzero"`
}

// MaxHistory bounds State.History.
const MaxHistory = 64

// MaxHoldAsks bounds NodeRecord.HoldAsks. Operators' holds of one node that are
// under way at the same time are fewer.
const MaxHoldAsks = 8

// NodeRecord is what was agreed of one node.
type NodeRecord struct {
	Node     membership.NodeID `json:"node"`
	Machine  string            `json:"machine"`  // committed at its first join
	Instance uint64            `json:"instance"` // of the daemon that was admitted last
	// Last is the newest incarnation that was ever a member.
	Last membership.Incarnation `json:"last"`
	Left bool                   `json:"left,omitempty"` // and it left cleanly
	// HoldAsks are its newest holds, oldest first, at most MaxHoldAsks: a late
	// copy of one begins nothing.
	HoldAsks []string `json:"hold_asks,omitempty"`
}

// Case is one evicted incarnation.
type Case struct {
	Victim    membership.Incarnation `json:"victim"`
	Reason    membership.Reason      `json:"reason"`
	Observers []membership.NodeID    `json:"observers,omitempty"`
	Index     uint64                 `json:"index"`  // of its eviction
	Needed    bool                   `json:"needed"` // its death needs proof; else it is only refused until it returns clean
	Proof     *Proof                 `json:"proof,omitempty"`
	Job       *Job                   `json:"job,omitempty"` // started, and neither ended nor expired
	Attempts  uint64                 `json:"attempts"`
	Round     int                    `json:"round"` // how often every actor has failed
	Tried     []membership.NodeID    `json:"tried,omitempty"`
	LastErr   string                 `json:"last_err,omitempty"`
	Lied      int                    `json:"lied,omitempty"` // the highest level that reported success while it answered on
}

// Job is a started fencing.
type Job struct {
	FenceStart
	Index uint64 `json:"index"`
}

// Proof says how an incarnation was proved to be gone.
type Proof struct {
	How   string            `json:"how"` // agent, new-boot, manual
	Actor membership.NodeID `json:"actor,omitempty"`
	Who   string            `json:"who,omitempty"`
	Level int               `json:"level,omitempty"` // of the agents
	Index uint64            `json:"index"`
}

// Record is one line of fencing history.
type Record struct {
	Victim membership.Incarnation `json:"victim"`
	How    string                 `json:"how"`
	Actor  membership.NodeID      `json:"actor,omitempty"`
	Who    string                 `json:"who,omitempty"`
	OK     bool                   `json:"ok"`
	Wall   string                 `json:"wall,omitempty"`
	Index  uint64                 `json:"index"`
	End    FenceEnd               `json:"end"`
}

// Open says that the incarnation still has to be proved gone.
func (c *Case) Open() bool { return c.Needed && c.Proof == nil }

// New returns the state before the first entry.
func New() *State { return &State{Feature: Feature} }

// Snapshot encodes the state; equal states give equal bytes.
func (s *State) Snapshot() ([]byte, error) { return json.Marshal(s) }

// Restore replaces the state; empty bytes are the state before the first entry.
func (s *State) Restore(b []byte) error {
	n := New()
	if len(b) > 0 {
		if err := json.Unmarshal(b, n); err != nil {
			return fmt.Errorf("%w: snapshot: %v", ErrEntry, err)
		}
		if n.Feature > Feature {
			return fmt.Errorf("%w: snapshot of feature level %d", ErrEntry, n.Feature)
		}
	}
	*s = *n
	return nil
}

// Node returns what was agreed of a node, or nil.
func (s *State) Node(id membership.NodeID) *NodeRecord {
	for i := range s.Nodes {
		if s.Nodes[i].Node == id {
			return &s.Nodes[i]
		}
	}
	return nil
}

// Case returns the case of an incarnation, or nil.
func (s *State) Case(i membership.Incarnation) *Case {
	for k := range s.Cases {
		if s.Cases[k].Victim == i {
			return &s.Cases[k]
		}
	}
	return nil
}

// Member says whether exactly this incarnation is a member.
func (s *State) Member(i membership.Incarnation) bool {
	m, ok := s.View.Find(i.Node)
	return ok && m == i
}

// Proved says whether an incarnation is known to be gone: it has proof, needed
// none, or left cleanly.
func (s *State) Proved(i membership.Incarnation) bool {
	if s.Member(i) {
		return false
	}
	c := s.Case(i)
	return c == nil || !c.Open()
}

// Blocked says why a node may not be admitted now; nil when it may. The case
// returned is the one in the way.
func (s *State) Blocked(n membership.NodeID) *Case {
	for k := range s.Cases {
		c := &s.Cases[k]
		if c.Victim.Node == n && (c.Open() || c.Job != nil) {
			return c
		}
	}
	return nil
}

// Actor is the member that shall run the next fencing of a case: the lowest
// that has not failed in this round. 0: none.
func (s *State) Actor(c *Case) membership.NodeID {
	for _, m := range s.View.Members {
		if !slices.Contains(c.Tried, m.Node) {
			return m.Node
		}
	}
	return 0
}

func (s *State) record(r Record) {
	s.History = append(s.History, r)
	if n := len(s.History) - MaxHistory; n > 0 {
		s.History = slices.Clone(s.History[n:])
	}
}
