package node

import (
	"time"

	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// Input is one of the inputs below.
type Input interface{ nodeInput() }

// Timer says that the deadline has come, with the newest probe samples.
type Timer struct{ Samples []membership.Sample }

// Connected says that messages to a peer can flow.
type Connected struct{ Peer membership.NodeID }

// Disconnected says that they cannot, and why.
type Disconnected struct {
	Peer membership.NodeID
	Err  string
}

// Received is a message of a peer.
type Received struct {
	From membership.NodeID
	Data []byte
}

// Kernel is what the kernel of this node said.
type Kernel struct{ In lockspace.Input }

// Unanswered names the peers that leave data of this kernel's DLM unanswered now, sent
// again and again, as a look at its connections found. It replaces the former list, and
// is repeated with every look while it names somebody.
type Unanswered struct{ Peers []membership.NodeID }

// Quiesced answers Quiesce: the kernel takes no new lockspace, and Held are
// those that it still has.
type Quiesced struct{ Held []string }

// FenceDone is how an agent's job ended, when, and the probes' samples of then.
type FenceDone struct {
	Job     membership.FenceJob
	Result  membership.FenceResult
	Ended   membership.Mono
	Samples []membership.Sample
}

// UnfenceDone is how an Unfence ended; Err empty: the devices are on.
type UnfenceDone struct {
	Node    membership.NodeID
	Attempt uint64
	Err     string
}

// DeviceAnswered is the answer to AskDevice. Stopped: there is none, as StopAsking
// wished.
type DeviceAnswered struct {
	Device  int
	Answer  membership.FenceAnswer
	Stopped bool
}

// DiskLost says that a Persist failed, and that none will be executed any more.
// What the groups were to send after it in the same step was not sent.
type DiskLost struct{ Why string }

// Operator is a wish of an operator; it is answered by Reply with the token.
type Operator struct {
	Token uint64
	// Command is leave, fence-ack, fence-node, hold, release, init, rejoin, quorum-override,
	// maintenance-on, maintenance-off, key-rotate, key-switch, key-drop, key-reload, config-apply,
	// drain, undrain, witness-add or witness-remove.
	Command string
	Node    membership.NodeID
	For     time.Duration // of a hold or a maintenance
	Epoch   uint32        // of a key to be dropped
	Force   bool          // of a key: who is away is left out
	Who     string
	Text    string              // of a configuration,
	Version uint64              // which it was made from,
	Nodes   []membership.NodeID // and who may be another machine in it
	Witness *cluster.Witness    // to add: it has enrolled this cluster
}

// Seen is something for the event log that the edge saw.
type Seen struct{ Event membership.Event }

func (Timer) nodeInput()          {}
func (Unanswered) nodeInput()     {}
func (Connected) nodeInput()      {}
func (Disconnected) nodeInput()   {}
func (Received) nodeInput()       {}
func (Kernel) nodeInput()         {}
func (Quiesced) nodeInput()       {}
func (FenceDone) nodeInput()      {}
func (UnfenceDone) nodeInput()    {}
func (DeviceAnswered) nodeInput() {}
func (DiskLost) nodeInput()       {}
func (Operator) nodeInput()       {}
func (Seen) nodeInput()           {}
func (FitFor) nodeInput()         {}

// FitFor says whether this node could work by the times of profile lan: Fit, or why not.
// Nothing is decided by that; the others are told.
type FitFor struct{ Lan string }

// Fit is the word of a node that could work by a profile.
const Fit = "fit"

// Effect is one of the effects below, to be executed in order.
type Effect interface{ nodeEffect() }

// Persist must be durable before any later effect is executed. If it cannot be,
// the edge sends no GroupMessage of the same step, executes all else, and says so
// by DiskLost.
type Persist struct{ Record any }

// Send sends a message to a peer; it may be lost.
type Send struct {
	To   membership.NodeID
	Data []byte
}

// Drive is for the kernel of this node.
type Drive struct{ Effect lockspace.Effect }

// Quiesce closes the way for new lockspaces; the answer is Quiesced.
type Quiesce struct{}

// Reopen undoes it.
type Reopen struct{}

// Fence runs the agents; the answer is FenceDone.
type Fence struct{ Job membership.FenceJob }

// CancelFence ends a job's agents; the answer is FenceDone still.
type CancelFence struct{ Job membership.FenceJob }

// PrepareFence says that this node would be the first to fence a member, if it
// had to be: what can be got ready without touching it, may be. It is repeated.
type PrepareFence struct{ Victim membership.NodeID }

// Unfence switches the devices of a node on that ask for it; the answer is UnfenceDone.
type Unfence struct {
	Node     membership.NodeID
	Attempt  uint64
	Deadline membership.Mono // for the start of the first agent
}

// AskDevice asks a device of the configuration, by its place there, whether it
// would work; the answer is DeviceAnswered. One is asked at a time.
type AskDevice struct{ Device int }

// StopAsking ends what AskDevice began, which is answered all the same.
type StopAsking struct{}

// LearnEpoch tells the prober which run of a peer's daemon probes, and what epoch its
// answers have.
type LearnEpoch struct {
	Peer            membership.NodeID
	Instance, Epoch uint64
}

// DialWitness says which witness to keep a connection to, in the place of any other:
// as to a peer, by Connected, Received, Disconnected and Send. Nil: to none.
type DialWitness struct {
	Witness   *cluster.Witness
	ClusterID string // of the own cluster
}

// Emit is a line for the event log.
type Emit struct{ Event membership.Event }

// Reply answers an Operator.
type Reply struct {
	Token uint64
	Err   string
	Text  string
	Again bool // refused for something that passes by itself in seconds: no leader
}

// SelfFence ends this machine: it was evicted with kernel state on which the
// others' recovery depends (I7).
type SelfFence struct{ Why string }

// Exit ends the daemon. Clean: it left, or holds nothing. Otherwise the edge
// stops every lockspace first.
type Exit struct {
	Clean bool
	Why   string
}

func (Persist) nodeEffect()      {}
func (Send) nodeEffect()         {}
func (Drive) nodeEffect()        {}
func (Quiesce) nodeEffect()      {}
func (Reopen) nodeEffect()       {}
func (Fence) nodeEffect()        {}
func (CancelFence) nodeEffect()  {}
func (PrepareFence) nodeEffect() {}
func (Unfence) nodeEffect()      {}
func (AskDevice) nodeEffect()    {}
func (StopAsking) nodeEffect()   {}
func (LearnEpoch) nodeEffect()   {}
func (DialWitness) nodeEffect()  {}
func (Emit) nodeEffect()         {}
func (Reply) nodeEffect()        {}
func (SelfFence) nodeEffect()    {}
func (Exit) nodeEffect()         {}
