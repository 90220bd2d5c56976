package membership

import (
	"net/netip"
	"time"
)

// LinkReport is what a Prober measured of one peer on one link, over the last minute or
// its last 1024 probes, whichever is less.
type LinkReport struct {
	Peer NodeID
	Link int
	Addr netip.AddrPort // the peer's
	Open bool           // this node has its own address of the link

	Probes, Lost int           // whose fate is known; those without an answer
	P50, P99     time.Duration // round trips; 0: none is known

	Heard     Mono          // last answer that counted; 0: never
	ByKernel  Mono          // last answer of its kernel, whether it counted or not; 0: never
	Kernel    bool          // the peer's kernel gave the newest one, not its daemon
	NoDaemon  bool          // and said that its daemon has ended: that one does not count
	DaemonAge time.Duration // time since its daemon's last progress, as of that answer

	MTU  int // length of the longest packets that are tried on it; 0: none are
	Long LongLoss
}
