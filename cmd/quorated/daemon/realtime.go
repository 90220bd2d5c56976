package daemon

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/quorate/quorate/cmd/quorated/realtime"
)

const (
	priority = 10 // SCHED_RR; the thread that waits for silences has one more (ebpf/liveness)
	// leastProcs is how many threads may run Go code at once, at least. One in a system
	// call counts until the runtime's monitor notices, which has no real-time priority:
	// with no more than a single processor has, everything else would wait for it, for
	// half a second. It is no help where a thread keeps its processor and garbage is
	// collected, as while a program is executed by os/exec: fence agents are started by
	// another process (membership/fence/agent/launch), and modprobe runs before this.
	leastProcs = 4
	gcPercent  = 400 // a small heap that is collected seldom: pauses cost more here than memory
)

// goRealtime gives every thread of the process real-time priority, as a daemon
// whose silence gets its machine fenced must have. The process that starts fence
// agents has none, whenever it is started: membership/fence/agent/launch takes it away.
func goRealtime() error {
	debug.SetGCPercent(gcPercent)
	spareProcs()
	if err := realtime.Threads(priority); err != nil {
		return starved(err)
	}
	return nil
}

func starved(err error) error {
	return fmt.Errorf("%w: a busy machine will look slow to its peers; give the unit CAP_SYS_NICE or LimitRTPRIO=%d", err, priority+1)
}

// weaken has everybody who asks know that this daemon may be starved.
func (d *Daemon) weaken(err error) {
	d.log.Warn(err.Error())
	what := err.Error()
	d.weak.Store(&what)
}

// weaknesses are why this daemon may be late, or not be heard on a link.
func (d *Daemon) weaknesses() (out []string) {
	if what := d.weak.Load(); what != nil {
		out = append(out, *what)
	}
	return append(out, d.prober.Status().Warnings...)
}

// keepRealtime has threads that come later have it as well.
func (d *Daemon) keepRealtime(ctx context.Context) error {
	if err := realtime.Keep(ctx, priority); err != nil {
		d.weaken(starved(err)) // it had it before: somebody has taken the right away
	}
	return nil
}

func spareProcs() { runtime.GOMAXPROCS(max(leastProcs, runtime.GOMAXPROCS(0))) }
