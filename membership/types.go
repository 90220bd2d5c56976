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

// FirstWitness is where the ids of witnesses begin: none of them is a node's. A
// witness votes, and is in no view.
const FirstWitness NodeID = 1 << 30

// IsWitness says whether it is a witness's id.
func (n NodeID) IsWitness() bool { return n >= FirstWitness }

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
	// DLM, whose TCP uses no other, unless Config.AnyLink.
	Addrs []netip.Addr
	// Votes are its votes: see Quorum.
	Votes int
}

// Device is one configured fence device.
type Device struct {
	Nodes   []NodeID          // the nodes it can cut off; the plug of each is in Options or Plugs
	Agent   string            // program name, found in the agents' directories, or an absolute path
	Level   int               // lower levels are tried first
	Options map[string]string // key=value on the agent's standard input
	Timeout time.Duration     // of one run

	SkipVerify bool // the agent verifies by itself: a successful off is proof without asking for the status

	// Before off is run, Delay and a time drawn from 0 to RandomDelay are waited.
	Delay, RandomDelay time.Duration
	// Unfence: the device is switched on before a node that boots is admitted.
	Unfence bool
	// Monitor is how often the device is asked whether it would work; 0: never.
	Monitor time.Duration
}

// Lease bounds one use of the device: its delays, its off, and the questions
// after it, which together may take as long as one run.
func (d Device) Lease() time.Duration { return d.MaxDelay() + 2*d.Timeout }

// MaxDelay is the longest that is waited before off.
func (d Device) MaxDelay() time.Duration { return d.Delay + d.RandomDelay }

// local are agents whose on is for the machine that they run on.
var local = []string{"fence_scsi", "fence_mpath"}

// Local says whether the device is switched on by the node itself that it cuts off, and by no
// other.
func (d Device) Local() bool { return slices.Contains(local, d.Name()) }

// LeavesPower says whether the device cuts a node off from the storage alone: such a node
// answers on.
func (d Device) LeavesPower() bool { return d.Unfence || d.Local() }

// Name is the agent's, without its directory.
func (d Device) Name() string { return d.Agent[strings.LastIndexByte(d.Agent, '/')+1:] }

// Quorum is how the configured votes make a quorum. The zero value asks for more
// than half of all votes. See membership/quorum for what each rule gives.
type Quorum struct {
	Expected        int        // expected_votes, where it is higher than the sum of the votes
	WaitForAll      bool       // after all were down nobody runs before all nodes were seen
	TwoNode         bool       // of two nodes either may go on, when it has fenced the other
	TieBreaker      TieBreaker // of two equal halves one may go on, when it has fenced the other
	LastManStanding bool       // who is proved dead counts no more after LastManWindow
	LastManWindow   time.Duration
	LeaveRemoves    bool // who left cleanly counts no more until it comes back
	// Delay is how long the second of two nodes leaves the other the time to fence it,
	// after it has missed it; 0: as long as that may take by the devices' timeouts.
	Delay time.Duration
}

// TieBreaker says whose half goes on. The zero value: neither does.
type TieBreaker struct {
	Mode TieMode
	List []NodeID // with TieList: the first of them that was a member decides
}

// TieMode is how the deciding node is found among the members before the split.
type TieMode string

// The modes.
const (
	TieNone    TieMode = ""
	TieLowest  TieMode = "lowest"
	TieHighest TieMode = "highest"
	TieList    TieMode = "list"
)

// Startup is what becomes of members by the log whom nobody has heard since the
// cluster started.
type Startup string

// The ways.
const (
	StartupNeeded Startup = "needed" // they are evicted when JoinGrace ends, and fenced where a lockspace was theirs; the zero value too
	StartupWait   Startup = "wait"   // they are waited for
)

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
	Quorum  Quorum

	// JoinGrace is how long a leader that has started waits for members by the log that
	// nobody has heard; StartupFencing is what becomes of them then.
	JoinGrace      time.Duration
	StartupFencing Startup
	JoinTimeout    time.Duration // a lockspace joiner whose recovery does not finish is taken out again
	PathLimit      time.Duration // data of the DLM that stay unanswered for so long make a cut of its path
	ManualFence    bool          // no device: an operator's acknowledgement is the only proof

	// AnyLink says that the DLM's addresses are reached over every link: see liveness.Config.
	AnyLink bool
}

// IDs are the configured nodes, ascending.
func (c Config) IDs() []NodeID {
	ids := make([]NodeID, 0, len(c.Nodes))
	for _, n := range c.Nodes {
		ids = append(ids, n.ID)
	}
	slices.Sort(ids)
	return ids
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
	if id.IsWitness() {
		return "the witness"
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

// Count is a number of things: 1 node, 2 nodes.
func Count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
