package probe

import (
	"time"

	"github.com/quorate/quorate/membership"
)

// Arrival is the newest answer of a peer on a link that the kernel has taken in. Nobody
// reads it anywhere else. The zero value: it has taken none.
type Arrival struct {
	Seq      uint64          // of the probe that it answers
	At       membership.Mono // when it came in
	Answered uint64          // bit i: the probe Seq-i was answered, too; 0 is this one

	// What it says.
	Epoch  uint64          // whose answer it is
	Age    time.Duration   // since its daemon's last progress
	Stamp  membership.Mono // when it was given, by the clock of its node
	View   uint64
	Kernel bool // the kernel answered, and not the daemon
}

// Arrivals are the answers to this node's probes that its kernel takes in, before there
// is anything for a prober to read. It takes those that the prober would count, or fewer.
// So who has not been able to run for a while can tell that from silence, and need not run
// for each of them. Last may be called at any time, by anybody, for every packet.
type Arrivals interface {
	Last(peer membership.NodeID, link int) Arrival
}

// Silence says that a peer has not answered on a link since then, for as long as was
// asked for.
type Silence struct {
	Peer  membership.NodeID
	Link  int
	Since membership.Mono // its last answer's arrival
}
