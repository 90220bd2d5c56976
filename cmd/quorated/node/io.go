package node

import (
	"time"

	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
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

// FenceDone is how an agent's job ended.
type FenceDone struct {
	Job    membership.FenceJob
	Result membership.FenceResult
}

// DiskLost says that a Persist failed, and that none will be executed any more.
// What the groups were to send after it in the same step was not sent.
type DiskLost struct{ Why string }

// Operator is a wish of an operator; it is answered by Reply with the token.
type Operator struct {
	Token   uint64
	Command string // leave, fence-ack, fence-node, hold, release, init
	Node    membership.NodeID
	For     time.Duration // of a hold
	Who     string
}

// Seen is something for the event log that the edge saw.
type Seen struct{ Event membership.Event }

func (Timer) nodeInput()        {}
func (Unanswered) nodeInput()   {}
func (Connected) nodeInput()    {}
func (Disconnected) nodeInput() {}
func (Received) nodeInput()     {}
func (Kernel) nodeInput()       {}
func (Quiesced) nodeInput()     {}
func (FenceDone) nodeInput()    {}
func (DiskLost) nodeInput()     {}
func (Operator) nodeInput()     {}
func (Seen) nodeInput()         {}

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

// PrepareFence says that this node would be the first to fence a member, if it
// had to be: what can be got ready without touching it, may be. It is repeated.
type PrepareFence struct{ Victim membership.NodeID }

// LearnEpoch tells the prober which run of a peer's daemon may answer.
type LearnEpoch struct {
	Peer     membership.NodeID
	Instance uint64
}

// Emit is a line for the event log.
type Emit struct{ Event membership.Event }

// Reply answers an Operator.
type Reply struct {
	Token uint64
	Err   string
	Text  string
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
func (PrepareFence) nodeEffect() {}
func (LearnEpoch) nodeEffect()   {}
func (Emit) nodeEffect()         {}
func (Reply) nodeEffect()        {}
func (SelfFence) nodeEffect()    {}
func (Exit) nodeEffect()         {}
