package probe

import (
	"time"

	"github.com/quorate/quorate/membership"
)

// HurryBy is how many times as often a peer is probed while there is a hint that something
// is wrong with it, or with the way to it.
const HurryBy = 4

// Hurry says for how long a peer is probed more often for hints, which may come at any
// rate and may be wrong. A hint is no evidence: what follows from it is more probes, and
// from these what follows from any. The zero value has had none.
type Hurry struct {
	until, rest membership.Mono
}

// Hint has the peer probed more often for so long. One that comes meanwhile, or so soon
// after that the peer would be probed more often for more than half of the time, is
// ignored: false.
func (h *Hurry) Hint(now membership.Mono, long time.Duration) bool {
	if now < h.rest || long <= 0 {
		return false
	}
	h.until, h.rest = now.Add(long), now.Add(2*long)
	return true
}

// Until is when the peer is probed as ever again.
func (h *Hurry) Until() membership.Mono { return h.until }

// HurriedInterval is that between two probes of a hurried peer, where another one's is so
// long, and not less than least.
func HurriedInterval(interval, least time.Duration) time.Duration {
	return min(max(interval/HurryBy, least), interval)
}
