package membership

import (
	"context"
	"time"
)

// Comm carries authenticated messages between the daemons.
//
// Promises: Connected(peer) comes before the first message of that connection
// and Disconnected after the last; messages of one connection arrive whole and
// in order; a peer is the configured node whose key it proved, never another.
// Send does not block: a message to a peer without a connection, or whose queue
// is full, is dropped and false is returned. At most MaxMessage bytes.
type Comm interface {
	// Run serves until ctx ends and every goroutine of it is gone.
	Run(ctx context.Context) error
	Send(to NodeID, data []byte) bool
}

// MaxMessage is the largest message that a Comm carries, in bytes.
const MaxMessage = 16 << 20

// CommHandler is told what a Comm sees. Its methods are called from several
// goroutines, one at a time for each peer, and must not block for long.
type CommHandler interface {
	Connected(peer NodeID)
	Message(peer NodeID, data []byte)
	Disconnected(peer NodeID, err error)
}

// Prober asks each peer over each link, every interval, whether it lives.
//
// Promises: Heard never goes back; it is the local time at which the last
// authentic, fresh answer arrived, as exactly as the provider can tell, and where the
// kernel stamps answers that is before anybody has read it; an answer that was not asked for, is older
// than one already seen, or comes from another boot epoch than the one learnt
// over the authenticated Comm, changes nothing but a counter. Nor does the answer of a
// kernel whose daemon has ended: its lockspaces have ended with that. Nor do answers to
// long probes, which are for LongLoss alone.
type Prober interface {
	Run(ctx context.Context) error
	// Progress ticks the daemon's progress word, which answers carry as an age.
	// It is called by the loop that applies the log.
	Progress(view uint64)
	// Snapshot returns the newest sample of every peer and link, by node and link.
	Snapshot() []Sample
}

// Sample is what is known of one peer on one link.
type Sample struct {
	Peer      NodeID
	Link      int
	Heard     Mono          // last answer of its kernel (or daemon, in user space); 0 never
	RTT       time.Duration // of the newest answer of which it is known; 0: of none
	DaemonAge time.Duration // time since its daemon's last progress when it answered
	Instance  uint64        // the run of the daemon (or boot epoch) that answered
	View      uint64        // the view it said it was in
	Sent      uint64        // probes sent
	Alive     Mono          // Heard, or a later answer of its kernel, which has no daemon any more
	Served    Mono          // last probe of the peer that this daemon answered; 0: never
	Asked     Mono          // when the last of them was; 0: not known
	Answered  uint64        // answers accepted
	Long      LongLoss      // says nothing of whether the peer lives
}

// LongLoss says that a link loses packets that are as long as its MTU allows, while short
// ones arrive: a black hole. The zero value: it is not known to.
type LongLoss struct {
	Size  int  // of the packets, with the IP header; 0: none
	There bool // on the way to the peer; else on the way back, and that there is well
	Since Mono
}

// Fencer cuts a node off from the shared storage.
//
// A run that returns OK means: no process and no device of the victim can write
// any more, and this was so at some moment after the run began. Everything else
// (unknown, timed out, killed) is not OK and proves nothing.
type Fencer interface {
	Fence(ctx context.Context, job FenceJob) FenceResult
	// Monitor asks the devices of a victim whether they would work.
	Monitor(ctx context.Context, victim NodeID) error
}

// FenceJob is one run against one victim. Deadline is on the actor's own clock
// and is checked just before the first agent is started, with the delay of its
// device added; for each further one it is later by what those before it may take
// (Device.Lease).
type FenceJob struct {
	Victim   Incarnation
	Attempt  uint64
	Deadline Mono
	// Until is when the time for this run is over, on the same clock: no agent that cuts
	// is started from then on, and one that runs is killed. What was cut before may still
	// be asked for its status. 0: it may take as long as its devices.
	Until Mono
	// After is a level whose devices reported success while the victim answered on:
	// the levels after it are tried first. 0: none did.
	After int
}

// FenceResult is how a run ended.
type FenceResult struct {
	OK     bool
	Agent  string        // which agent answered last
	Level  int           // that succeeded; 0: none
	Output string        // the last 4 KiB of what it printed, secrets removed
	Err    string        // empty when OK
	Took   time.Duration // of the whole job
}

// FenceAnswer is what a device said to a question that changes nothing.
type FenceAnswer struct {
	State  string        // of a status: on or off; else empty
	Output string        // the last 4 KiB of what the agent printed, secrets removed
	Err    string        // empty when the device answered; the agent's last line is in it
	Took   time.Duration // of the agent
}

// Consumer is told views and fencing in the total order, and is part of the
// replicated state: given the same calls it is in the same state at every node.
type Consumer interface {
	// View is called when a view was delivered at index.
	View(index uint64, v View)
	// Proved is called when an incarnation was proved to be gone.
	Proved(index uint64, i Incarnation)
	// Message is an entry of the consumer's own, proposed by a member.
	Message(index uint64, from Incarnation, data []byte)
	// Holds says whether the node's incarnation may have kernel state on which
	// the shared storage depends, so that its death needs proof.
	Holds(i Incarnation) bool
	// Veto says why the node may not leave cleanly now; empty: it may.
	Veto(i Incarnation) string
	Snapshot() ([]byte, error)
	Restore(state []byte) error
}
