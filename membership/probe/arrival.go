package probe

import (
	"time"

	"github.com/quorate/quorate/membership"
)

// Arrival is the newest answer of a peer on a link that the kernel has seen, whether
// anybody has read it or not. The zero value: it has seen none.
type Arrival struct {
	Seq uint64          // of the probe that it answers
	At  membership.Mono // when it came in
	Age time.Duration   // since its daemon's last progress, as it says
}

// Arrivals are what a kernel knows of the answers to this node's probes. It counts those
// that the prober would, or fewer. So who has not been able to read for a while can tell
// that from silence. Last may be called at any time, by anybody, for every packet.
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
