package links

import (
	"time"

	"github.com/quorate/quorate/membership"
)

// State is how well a link carries, in the words of status.
type State string

// The states.
const (
	Up       State = "up"
	Degraded State = "degraded" // answers, and loses too many probes or long packets, or is slow
	Silent   State = "silent"   // has not answered for dead_after, or never
)

// A link is degraded that loses one of so many probes. Liveness
// convicts after as many as fit into dead_after in a row, which with one in twenty is
// once in hours.
const (
	lossOf    = 20
	leastTime = 5 * time.Second
	leastMin  = 20
	leastMax  = 128
)

// Least is of how many probes it has to be known what became of them before that says
// anything: as many as are sent in 5 s, 20 to 128.
func Least(t membership.Timing) int {
	return min(max(int(leastTime/max(t.Interval, 1)), leastMin), leastMax)
}

// Judge says how well a link carries. Slow is a p99 of half of dead_after or more.
func Judge(r membership.LinkReport, now membership.Mono, t membership.Timing) State {
	switch {
	case r.Heard == 0 || now.Sub(r.Heard) >= t.DeadAfter:
		return Silent
	case r.Long.Size != 0, r.Probes >= Least(t) && (r.Lost*lossOf >= r.Probes || r.P99 >= slow(t)):
		return Degraded
	}
	return Up
}

func slow(t membership.Timing) time.Duration { return t.DeadAfter / 2 }
