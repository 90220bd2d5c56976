// Package control is the daemon's local control socket: the requests that
// `quorate` sends, the answers, and both ends of the connection.
//
// One connection carries one request, a line of JSON, and its answer: one line,
// or for `events` with Follow a line for each event until the client hangs up.
package control

import (
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/rotation"
)

// Request is what a client asks.
type Request struct {
	// Command is one of status, events, why, links, leave, fence-ack, fence-node,
	// fence-history, fence-test, version, hold, release, init, rejoin, quorum-override,
	// maintenance-on, maintenance-off, key-rotate, key-switch, key-drop, key-reload,
	// config-show, config-apply, drain, undrain, witness-add, witness-remove.
	Command string `json:"command"`

	Node      membership.NodeID   `json:"node,omitempty"`
	Lockspace string              `json:"lockspace,omitempty"`
	Since     uint64              `json:"since,omitempty"`
	Follow    bool                `json:"follow,omitempty"`
	For       time.Duration       `json:"for,omitempty"`     // of a hold or a maintenance
	Epoch     uint32              `json:"epoch,omitempty"`   // of a key to be dropped
	Force     bool                `json:"force,omitempty"`   // of a key: who is away is left out
	Text      string              `json:"text,omitempty"`    // of a configuration
	Version   uint64              `json:"version,omitempty"` // that it was made from, or that is asked for; 0: the one in force
	Nodes     []membership.NodeID `json:"nodes,omitempty"`   // that may be other machines in it
	Own       bool                `json:"own,omitempty"`     // with what this node decides by itself
	Token     string              `json:"token,omitempty"`   // of a witness: it is a secret
	Who       string              `json:"who,omitempty"`     // set by the server from the peer's credentials
}

// Response is the answer to a request that is not a stream.
type Response struct {
	Error   string             `json:"error,omitempty"` // what went wrong and what to do
	Status  *Status            `json:"status,omitempty"`
	Links   *LinksReport       `json:"links,omitempty"`
	Events  []membership.Event `json:"events,omitempty"`
	History []FenceRecord      `json:"history,omitempty"`
	Tests   []FenceTest        `json:"tests,omitempty"`
	Text    string             `json:"text,omitempty"`
	Config  uint64             `json:"config,omitempty"`  // the version that Text is
	Configs []ConfigVersion    `json:"configs,omitempty"` // all that are known, newest first
	Path    string             `json:"path,omitempty"`    // of the node's configuration file
	Notes   []string           `json:"notes,omitempty"`   // what is to be known of that file; each says what to do
	Again   bool               `json:"again,omitempty"`   // with Error: what refused it passes by itself in seconds
}

// ConfigVersion is one agreed version of the configuration.
type ConfigVersion struct {
	Version uint64 `json:"version"`
	Digest  string `json:"digest"` // of its text
	Who     string `json:"who,omitempty"`
	Wall    string `json:"wall,omitempty"`
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
	// DeadAfter is for how long a node has to be silent to be taken for lost.
	DeadAfter time.Duration `json:"dead_after,omitempty"`
	// ProfileWhy says, where the configuration leaves the profile to quorate, why it is this one.
	ProfileWhy string `json:"profile_why,omitempty"`
	Config     uint64 `json:"config,omitempty"` // the agreed version of the configuration in force here; 0: the file's
	Kernel     string `json:"kernel,omitempty"`
	Group      string `json:"group,omitempty"`   // who orders and decides: raft, static
	Promise    string `json:"promise,omitempty"` // what that gives, where it is less than a majority's agreement

	Quorum     *QuorumReport     `json:"quorum,omitempty"`
	Nodes      []NodeStatus      `json:"nodes"`
	Lockspaces []LockspaceStatus `json:"lockspaces"`
	Witness    *WitnessStatus    `json:"witness,omitempty"`
	Fencing    []FenceStatus     `json:"fencing,omitempty"` // what is being proved or waits for proof
	Waits      []Wait            `json:"waits,omitempty"`
	Warnings   []string          `json:"warnings,omitempty"` // each says what to do
	Notes      []string          `json:"notes,omitempty"`    // the same, of what is well

	Maintenance *MaintenanceStatus `json:"maintenance,omitempty"` // in force
	Keys        *KeyStatus         `json:"keys,omitempty"`
}

// KeyStatus is who has which keys, by epoch and fingerprint; never a key itself.
type KeyStatus struct {
	Plan  *rotation.Plan `json:"plan,omitempty"` // the key that is to take over
	Stage string         `json:"stage"`          // idle, awaiting, spreading, switching, dropping
	Nodes []KeyNode      `json:"nodes"`          // by id
}

// KeyNode is what a node has said that it has loaded; it sends with the first.
type KeyNode struct {
	ID        membership.NodeID `json:"id"`
	Name      string            `json:"name"`
	Connected bool              `json:"connected"`
	Keys      []rotation.Key    `json:"keys"` // null: it has not said since this daemon started
	Err       string            `json:"error,omitempty"`
}

// MaintenanceStatus is an announced work on the whole cluster: nobody is evicted for silence.
type MaintenanceStatus struct {
	Who  string        `json:"who"`
	Left time.Duration `json:"left"` // by this node's count
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
	Proved    string            `json:"proved,omitempty"` // how its last life, which was evicted, was proved gone: agent, new-boot, manual
	Differs   []string          `json:"differs,omitempty"`
	HeldBy    string            `json:"held_by,omitempty"` // who announced a freeze of it; empty: nobody
	Hold      time.Duration     `json:"hold,omitempty"`    // what is left of that
	Lan       string            `json:"lan,omitempty"`     // "fit", or why it is not fit for profile lan; empty: it has not said
}

// WitnessStatus is the cluster's witness as this node sees it.
type WitnessStatus struct {
	ID          membership.NodeID `json:"id"`
	Name        string            `json:"name"`
	Addr        string            `json:"addr"`
	Fingerprint string            `json:"fingerprint"` // SHA-256 of its certificate
	Who         string            `json:"who,omitempty"`
	Connected   bool              `json:"connected"`
	Votes       bool              `json:"votes"`           // it is a voter of the group
	Heard       time.Duration     `json:"heard"`           // since its last answer; -1 never
	RTT         time.Duration     `json:"rtt,omitempty"`   // of that
	Err         string            `json:"error,omitempty"` // why there is no connection
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
	Next     time.Duration          `json:"next,omitempty"`  // until the next attempt
	Delay    time.Duration          `json:"delay,omitempty"` // that off may still be kept back for, as configured
	Index    uint64                 `json:"index"`
}

// FenceRecord is one line of fencing history.
type FenceRecord struct {
	Victim membership.Incarnation `json:"victim"`
	Name   string                 `json:"name,omitempty"` // of the victim, if it is no node any more and its name is known
	How    string                 `json:"how"`            // agent, new-boot, manual
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

// FenceTest is what one fence device of a node answered to this node. Nothing was
// switched.
type FenceTest struct {
	Node    membership.NodeID `json:"node"`
	Agent   string            `json:"agent"`
	Level   int               `json:"level"`
	Plug    string            `json:"plug,omitempty"`
	Monitor string            `json:"monitor,omitempty"` // ok, or empty: it failed
	State   string            `json:"state,omitempty"`   // of the node's power: on, off; empty: it could not be asked
	Took    time.Duration     `json:"took"`              // of both questions
	Err     string            `json:"error,omitempty"`   // the agent's last line is in it
}

// OK says that the device would work.
func (t FenceTest) OK() bool { return t.Monitor != "" && t.State != "" }

// Wait is one thing that is being waited for.
type Wait struct {
	What     string            `json:"what"`               // who waits: "lockspace gfs", "cluster", "this node"
	For      string            `json:"for"`                // probes, view, quorum, maintenance, stop, fencing, unfencing, start, recovery, kernel, join, answer, config, key, agreement, unmount
	Owner    membership.NodeID `json:"owner,omitempty"`    // the node that it depends on
	Reason   string            `json:"reason"`             // one sentence
	Since    time.Duration     `json:"since"`              // how long already
	Deadline time.Duration     `json:"deadline,omitempty"` // until something is done about it; 0 none
	Command  string            `json:"command,omitempty"`  // what the operator may do
	Rule     string            `json:"rule,omitempty"`     // of [quorum]: by it the end of this wait is as good as a quorum
}
