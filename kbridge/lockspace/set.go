package lockspace

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/quorate/quorate/membership"
)

// MaxName is the longest name of a lockspace, in bytes (the kernel's limit).
const MaxName = 64

// AnotherName is what to do about a join that is refused because of its name.
const AnotherName = "use another name"

// Set is the replicated half: every lockspace of the cluster. It keeps the
// promises of membership.Consumer.
type Set struct {
	Spaces  []*Space        `json:"spaces"` // by name
	Current membership.View `json:"view"`   // the newest view
	// Lost are incarnations that were evicted while they held a lockspace and are not proved gone.
	Lost []membership.Incarnation `json:"lost,omitempty"`
	// Base is the highest change number that a forgotten lockspace had: one that
	// comes back under its name goes on from there. A node may still be busy with
	// the old one, and late words about it must not fit the new one.
	Base uint64 `json:"base,omitempty"`

	notices []Notice
}

// Space is one lockspace.
type Space struct {
	Name string `json:"name"`
	ID   uint32 `json:"id"`
	Seq  uint64 `json:"seq"` // number of the newest change
	// OpenSeq is the newest change that opened: a stop said for a later one still stands.
	OpenSeq uint64 `json:"open_seq"`
	// Live are the members that may have the lockspace in their kernels: those of
	// the last change that opened, less the lost ones.
	Live    []Member  `json:"live"`
	Joins   []Member  `json:"joins,omitempty"`
	Leaves  []Leaving `json:"leaves,omitempty"`
	Gone    []Gone    `json:"gone,omitempty"` // out of Live since the last change that was done
	Refused []Refused `json:"refused,omitempty"`
	Restart string    `json:"restart,omitempty"` // why a change with the same members is wished
	Change  *Change   `json:"change,omitempty"`

	dirty bool // Live lost somebody: what is under way no longer holds
}

// Member is a node in a lockspace. Epoch is the index at which its join was
// ordered: a node that left and came back has another.
type Member struct {
	Incarnation membership.Incarnation `json:"incarnation"`
	Epoch       uint64                 `json:"epoch"`
	// Joining until its kernel has recovered once: no mount or program there was
	// answered yet, and it has no journal in use. See tellsFailure.
	Joining bool `json:"joining,omitempty"`
	// Recovers says that its kernel can be told of a leave whose journal is to be
	// replayed (release_recover, Linux 6.18). An older one knows of deaths alone.
	Recovers bool `json:"recovers,omitempty"`
}

// Leaving is a member that asked to go, Recover as if it had died.
type Leaving struct {
	Node    membership.NodeID `json:"node"`
	Recover bool              `json:"recover,omitempty"`
}

// Gone is a former member that the kernels have still to be told of.
type Gone struct {
	Incarnation membership.Incarnation `json:"incarnation"`
	Epoch       uint64                 `json:"epoch"`
	Failed      bool                   `json:"failed"`            // lost: needs proof, and journal replay
	Joining     bool                   `json:"joining,omitempty"` // as Member.Joining was
	Recover     bool                   `json:"recover,omitempty"` // left, and asked for journal replay
	Renew       []membership.NodeID    `json:"renew,omitempty"`   // as in Refused
}

// Refused is a joiner that was taken out again.
type Refused struct {
	Incarnation membership.Incarnation `json:"incarnation"`
	Epoch       uint64                 `json:"epoch"`
	Why         string                 `json:"why"` // ends with AnotherName where that helps
	// Renew are the nodes whose kernels may have begun to talk with the joiner's and
	// have nothing else in common with it. The kernels number what they say, and one that
	// ends a lockspace whose join failed begins anew: so each end of these makes its comms
	// entry of the other anew, before the two meet again.
	Renew []membership.NodeID `json:"renew,omitempty"`
}

// Change is the change under way.
type Change struct {
	Seq    uint64              `json:"seq"`
	Index  uint64              `json:"index"` // at which it began
	Stop   []membership.NodeID `json:"stop"`  // who has to stop
	Acks   []membership.NodeID `json:"acks,omitempty"`
	New    []Member            `json:"new"`
	Opened uint64              `json:"opened,omitempty"` // index; 0 not yet
	Done   []membership.NodeID `json:"done,omitempty"`   // whose kernel has recovered
}

// Notice is a line for the event log. It is the same at every member.
type Notice struct {
	Kind      membership.Kind
	Lockspace string
	Change    uint64
	Node      membership.NodeID
	Text      string
}

// ID is the global id of a lockspace, as dlm_controld computes it: CRC-32 (IEEE)
// of "dlm:ls:" and the name with its terminating NUL. The kernel routes messages and
// POSIX locks by it; 0 is what it has for a lockspace without one, and becomes 1.
func ID(name string) uint32 {
	return max(1, crc32.ChecksumIEEE([]byte("dlm:ls:"+name+"\x00")))
}

// New returns an empty set.
func New() *Set { return &Set{} }

// Space returns a lockspace, or nil.
func (s *Set) Space(name string) *Space {
	i, ok := slices.BinarySearchFunc(s.Spaces, name, func(sp *Space, n string) int { return strings.Compare(sp.Name, n) })
	if !ok {
		return nil
	}
	return s.Spaces[i]
}

// Notices returns what happened since the last call.
func (s *Set) Notices() []Notice {
	n := s.notices
	s.notices = nil
	return n
}

func (s *Set) note(k membership.Kind, sp *Space, node membership.NodeID, format string, args ...any) {
	n := Notice{Kind: k, Lockspace: sp.Name, Change: sp.Seq, Node: node, Text: fmt.Sprintf(format, args...)}
	s.notices = append(s.notices, n)
}

// Snapshot encodes the set; equal sets give equal bytes.
func (s *Set) Snapshot() ([]byte, error) { return json.Marshal(s) }

// Restore replaces the set; empty bytes are the empty set.
func (s *Set) Restore(b []byte) error {
	n := New()
	if len(b) > 0 {
		if err := json.Unmarshal(b, n); err != nil {
			return fmt.Errorf("%w: snapshot: %v", ErrMessage, err)
		}
	}
	*s = *n
	return nil
}

// Holds says whether the incarnation may have a lockspace in its kernel that
// others share or will have to recover: it was named by a change that opened.
func (s *Set) Holds(i membership.Incarnation) bool {
	for _, sp := range s.Spaces {
		if sp.live(i) != nil {
			return true
		}
	}
	return false
}

// Held counts the lockspaces that a node is live in.
func (s *Set) Held(n membership.NodeID) int {
	k := 0
	for _, sp := range s.Spaces {
		if slices.ContainsFunc(sp.Live, func(m Member) bool { return m.Incarnation.Node == n }) {
			k++
		}
	}
	return k
}

// Veto lists the lockspaces that keep the node from leaving.
func (s *Set) Veto(i membership.Incarnation) string {
	var held []string
	for _, sp := range s.Spaces {
		if sp.live(i) != nil || sp.joining(i) != nil {
			held = append(held, sp.Name)
		}
	}
	if len(held) == 0 {
		return ""
	}
	return "lockspaces in use: " + strings.Join(held, ", ")
}

func (sp *Space) live(i membership.Incarnation) *Member {
	for k := range sp.Live {
		if sp.Live[k].Incarnation == i {
			return &sp.Live[k]
		}
	}
	return nil
}

func (sp *Space) joining(i membership.Incarnation) *Member {
	for k := range sp.Joins {
		if sp.Joins[k].Incarnation == i {
			return &sp.Joins[k]
		}
	}
	return nil
}

// epoch is the index at which the join of an incarnation that is in the lockspace, or on
// its way into it, was ordered.
func (sp *Space) epoch(i membership.Incarnation) (epoch uint64, ok bool) {
	if sp == nil {
		return 0, false
	}
	if m := sp.live(i); m != nil {
		return m.Epoch, true
	}
	if m := sp.joining(i); m != nil {
		return m.Epoch, true
	}
	return 0, false
}

// refusal is that of an incarnation's last join, or nil.
func (sp *Space) refusal(i membership.Incarnation) *Refused {
	if sp == nil {
		return nil
	}
	for k := range sp.Refused {
		if sp.Refused[k].Incarnation == i {
			return &sp.Refused[k]
		}
	}
	return nil
}

func (sp *Space) leaving(n membership.NodeID) *Leaving {
	for k := range sp.Leaves {
		if sp.Leaves[k].Node == n {
			return &sp.Leaves[k]
		}
	}
	return nil
}

// Member returns the incarnation's place in the change, or nil.
func (c *Change) Member(i membership.Incarnation) *Member {
	for k := range c.New {
		if c.New[k].Incarnation == i {
			return &c.New[k]
		}
	}
	return nil
}

// IDs returns the node ids of members, ascending.
func IDs(ms []Member) []membership.NodeID {
	ids := make([]membership.NodeID, 0, len(ms))
	for _, m := range ms {
		ids = append(ids, m.Incarnation.Node)
	}
	slices.Sort(ids)
	return ids
}
