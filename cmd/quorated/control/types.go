// Package control is the daemon's local control socket: the requests that
// `quorate` sends, the answers, and both ends of the connection.
//
// One connection carries one request, a line of JSON, and its answer: one line,
// or for `events` with Follow a line for each event until the client hangs up.
package control

import (
	"time"

	"github.com/quorate/quorate/membership"
)

// Request is what a client asks.
type Request struct {
	// Command is one of status, events, why, leave, fence-ack, fence-node,
	// fence-history, version, hold, release, init.
	Command string `json:"command"`

	Node      membership.NodeID `json:"node,omitempty"`
	Lockspace string            `json:"lockspace,omitempty"`
	Since     uint64            `json:"since,omitempty"`
	Follow    bool              `json:"follow,omitempty"`
	For       time.Duration     `json:"for,omitempty"` // of a hold
	Who       string            `json:"who,omitempty"` // set by the server from the peer's credentials
}

// Response is the answer to a request that is not a stream.
type Response struct {
	Error   string             `json:"error,omitempty"` // what went wrong and what to do
	Status  *Status            `json:"status,omitempty"`
	Events  []membership.Event `json:"events,omitempty"`
	History []FenceRecord      `json:"history,omitempty"`
	Text    string             `json:"text,omitempty"`
}

// Level is the overall state, the exit status of `quorate status`.
type Level int

// The levels.
const (
	OK       Level = 0
	Degraded Level = 1
	Blocked  Level = 2
)

// Status is everything that the daemon knows of itself and the cluster.
type Status struct {
	Version  string            `json:"version"`
	Protocol int               `json:"protocol"`
	Feature  int               `json:"feature"`
	Cluster  string            `json:"cluster"`
	ID       string            `json:"cluster_id,omitempty"`
	Node     membership.NodeID `json:"node"`
	Name     string            `json:"name"`
	Boot     membership.BootID `json:"boot"`
	Level    Level             `json:"level"`
	Member   bool              `json:"member"`
	Quorate  bool              `json:"quorate"`
	View     uint64            `json:"view"`
	Leader   membership.NodeID `json:"leader,omitempty"`
	Term     uint64            `json:"term"`
	Index    uint64            `json:"index"`
	Votes    int               `json:"votes"`
	Needed   int               `json:"needed"`
	Expected int               `json:"expected"`
	Profile  string            `json:"profile"`
	Kernel   string            `json:"kernel,omitempty"`
	Group    string            `json:"group,omitempty"`   // who orders and decides: raft, static
	Promise  string            `json:"promise,omitempty"` // what that gives, where it is less than a majority's agreement

	Nodes      []NodeStatus      `json:"nodes"`
	Lockspaces []LockspaceStatus `json:"lockspaces"`
	Fencing    []FenceStatus     `json:"fencing,omitempty"` // what is being proved or waits for proof
	Waits      []Wait            `json:"waits,omitempty"`
	Warnings   []string          `json:"warnings,omitempty"` // each says what to do
}

// NodeStatus is one configured node as this node sees it.
type NodeStatus struct {
	ID        membership.NodeID `json:"id"`
	Name      string            `json:"name"`
	State     string            `json:"state"` // member, suspect, evicted, fencing, joining, absent, refused, left, unlisted
	Boot      membership.BootID `json:"boot,omitempty"`
	Session   uint32            `json:"session,omitempty"`
	Addrs     []string          `json:"addrs,omitempty"`
	Connected bool              `json:"connected"`
	Heard     time.Duration     `json:"heard"` // since its last answer; -1 never
	RTT       time.Duration     `json:"rtt,omitempty"`
	Votes     int               `json:"votes"`
	Leader    bool              `json:"leader,omitempty"`
	Reason    string            `json:"reason,omitempty"` // why it is not a member
	Differs   []string          `json:"differs,omitempty"`
	HeldBy    string            `json:"held_by,omitempty"` // who announced a freeze of it; empty: nobody
	Hold      time.Duration     `json:"hold,omitempty"`    // what is left of that
}

// LockspaceStatus is one lockspace.
type LockspaceStatus struct {
	Name    string              `json:"name"`
	ID      uint32              `json:"id"`
	State   string              `json:"state"` // of its change: stopping, fencing, recovering; without one running, or as Local
	Change  uint64              `json:"change"`
	Members []membership.NodeID `json:"members"`
	Next    []membership.NodeID `json:"next,omitempty"` // of the pending change
	Local   string              `json:"local"`          // this node's kernel: none, joining, starting, recovering, running, stopping, stopped, ending
	Waits   []Wait              `json:"waits,omitempty"`
}

// FenceStatus is one incarnation without proof.
type FenceStatus struct {
	Victim   membership.Incarnation `json:"victim"`
	Name     string                 `json:"name"`
	State    string                 `json:"state"` // needed, running, failed
	Actor    membership.NodeID      `json:"actor,omitempty"`
	Attempts int                    `json:"attempts"`
	LastErr  string                 `json:"last_error,omitempty"`
	Since    time.Duration          `json:"since"`
	Next     time.Duration          `json:"next,omitempty"` // until the next attempt
	Index    uint64                 `json:"index"`
}

// FenceRecord is one line of fencing history.
type FenceRecord struct {
	Victim membership.Incarnation `json:"victim"`
	How    string                 `json:"how"` // agent, new-boot, manual
	Actor  membership.NodeID      `json:"actor,omitempty"`
	Who    string                 `json:"who,omitempty"`
	OK     bool                   `json:"ok"`
	Wall   string                 `json:"wall,omitempty"`
	Index  uint64                 `json:"index"`
	Took   time.Duration          `json:"took,omitempty"`
	Agent  string                 `json:"agent,omitempty"`
	Output string                 `json:"output,omitempty"`
	Err    string                 `json:"error,omitempty"`
}

// Wait is one thing that is being waited for.
type Wait struct {
	What     string            `json:"what"`               // who waits: "lockspace gfs", "cluster", "this node"
	For      string            `json:"for"`                // view, quorum, stop, fencing, start, recovery, kernel, join, answer, config
	Owner    membership.NodeID `json:"owner,omitempty"`    // the node that it depends on
	Reason   string            `json:"reason"`             // one sentence
	Since    time.Duration     `json:"since"`              // how long already
	Deadline time.Duration     `json:"deadline,omitempty"` // until something is done about it; 0 none
	Command  string            `json:"command,omitempty"`  // what the operator may do
}
