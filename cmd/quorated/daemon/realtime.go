package daemon

import (
	"fmt"
	"runtime/debug"

	"github.com/quorate/quorate/cmd/quorated/realtime"
)

const (
	priority  = 10  // SCHED_RR, below the prober's threads
	gcPercent = 400 // a small heap that is collected seldom: pauses cost more here than memory
)

// goRealtime gives every thread of the process real-time priority, as a daemon
// whose silence gets its machine fenced must have. Programs that it starts would
// inherit it: membership/fence/agent takes it from them again.
func goRealtime() error {
	debug.SetGCPercent(gcPercent)
	if err := realtime.Threads(priority); err != nil {
		return fmt.Errorf("%w: a busy machine will look slow to its peers; give the unit CAP_SYS_NICE or LimitRTPRIO=%d", err, priority)
	}
	return nil
}
