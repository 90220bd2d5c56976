package membership

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// NodeID is a node's number in the cluster: the DLM's node id, 1 or more.
// 0 means no node.
type NodeID uint32

// Mono is a point on the machine's CLOCK_BOOTTIME, in nanoseconds. It is
// comparable with stamps taken in the kernel by bpf_ktime_get_boot_ns and never
// with another machine's. The pure cores know no other time.
type Mono int64

// Add returns the point d after m.
func (m Mono) Add(d time.Duration) Mono { return m + Mono(d) }

// Sub returns the time from o to m.
func (m Mono) Sub(o Mono) time.Duration { return time.Duration(m - o) }

// BootID is the kernel's random identity of one boot
// (/proc/sys/kernel/random/boot_id). DLM state lives and dies with the kernel,
// so a node's incarnation does too.
type BootID string

// Incarnation is one life of one node. Session grows when a node that was
// evicted without ever having had an open lockspace returns in the same boot.
type Incarnation struct {
	Node    NodeID `json:"node"`
	Boot    BootID `json:"boot"`
	Session uint32 `json:"session,omitempty"`
}

// String gives the short form used in logs: node, start of the boot id, session.
func (i Incarnation) String() string {
	b := string(i.Boot)
	if len(b) > 8 {
		b = b[:8]
	}
	return fmt.Sprintf("%d/%s#%d", i.Node, b, i.Session)
}

// Reason says why a node is not in a view any more.
type Reason string

// The reasons, in the words that status and logs use.
const (
	ReasonSilent    Reason = "silent"    // nobody heard its kernel for dead_after
	ReasonUnlinked  Reason = "unlinked"  // outside the largest fully connected set
	ReasonStalled   Reason = "stalled"   // kernel alive, daemon without progress for too long
	ReasonRestarted Reason = "restarted" // its daemon started again and lost its lockspaces' state
	ReasonRebooted  Reason = "rebooted"  // a new boot of the same machine was seen
	ReasonStuck     Reason = "stuck"     // overran the deadline of a step of a lockspace change
	ReasonWithdrawn Reason = "withdrawn" // its file system withdrew, and an older kernel knows of deaths alone
	ReasonOperator  Reason = "operator"  // an operator asked for it
	ReasonLeft      Reason = "left"      // left cleanly
)

// Departure is one incarnation that a view has lost.
type Departure struct {
	Incarnation Incarnation `json:"incarnation"`
	Reason      Reason      `json:"reason"`
	// Observers are the members whose reports led to an eviction.
	Observers []NodeID `json:"observers,omitempty"`
}

// View is the agreed set of members. Numbers grow by one with each change and
// are the same at every member. Every view was ordered by a majority of the
// group; Quorate says whether its members are also a quorum by the policy, which
// a start needs besides (a view is not while a cluster gathers).
type View struct {
	Number  uint64        `json:"number"`
	Quorate bool          `json:"quorate"`
	Members []Incarnation `json:"members"` // by ascending node id
	Left    []Departure   `json:"left,omitempty"`
	Joined  []NodeID      `json:"joined,omitempty"`
}

// Find returns the member's incarnation.
func (v View) Find(n NodeID) (Incarnation, bool) {
	for _, m := range v.Members {
		if m.Node == n {
			return m, true
		}
	}
	return Incarnation{}, false
}

// IDs returns the members' node ids in ascending order.
func (v View) IDs() []NodeID {
	ids := make([]NodeID, len(v.Members))
	for i, m := range v.Members {
		ids[i] = m.Node
	}
	slices.Sort(ids)
	return ids
}

// Node is one configured node.
type Node struct {
	ID   NodeID
	Name string
	// Addrs are the node's addresses, one a link. Addrs[0] is the path of the
	// DLM, whose TCP uses no other.
	Addrs []netip.Addr
}

// Device is one configured fence device.
type Device struct {
	Nodes   []NodeID          // the nodes it can cut off; the plug of each is in Options or Plugs
	Agent   string            // program name, found in the agents' directories, or an absolute path
	Level   int               // lower levels are tried first
	Options map[string]string // key=value on the agent's standard input
	Timeout time.Duration     // of one run

	SkipVerify bool // the agent verifies by itself: a successful off is proof without asking for the status
}

// Timing is the set of times that liveness works with.
type Timing struct {
	Profile       string        // fast, lan, safe, vm: where the numbers are from
	Interval      time.Duration // between two probes of one peer on one link
	DeadAfter     time.Duration // silent for so long: suspect
	LinkSettle    time.Duration // some still hear it: wait so long before choosing the clique
	StallLimit    time.Duration // kernel answers, daemon does not progress
	RecoveryStall time.Duration // the same while a lockspace change waits for that node
}

// Config is what a node knows before it has heard from anyone.
type Config struct {
	Cluster string // name; the first part of a GFS2 lock table
	Self    NodeID
	Nodes   []Node // by ascending id
	Devices []Device
	Timing  Timing

	StartupGrace time.Duration // a configured member not seen for so long after a leader's start is evicted
	JoinTimeout  time.Duration // a lockspace joiner whose recovery does not finish is taken out again
	PathLimit    time.Duration // data of the DLM that stay unanswered for so long make a cut of its path
	ManualFence  bool          // no device: an operator's acknowledgement is the only proof
}

// Node returns the configured node of that id.
func (c Config) Node(id NodeID) (Node, bool) {
	for _, n := range c.Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return Node{}, false
}

// Name returns the configured name of a node, or its number.
func (c Config) Name(id NodeID) string {
	if n, ok := c.Node(id); ok && n.Name != "" {
		return n.Name
	}
	return fmt.Sprint(uint32(id))
}

// Short is a duration without its zeros: 10m, not 10m0s.
func Short(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}
