package liveness

import (
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/membership"
)

// ErrTiming is in the chain of every error of CheckTiming.
var ErrTiming = errors.New("liveness: the times cannot work together")

// minProbes is how many probes in a row must be lost before a peer is silent.
const minProbes = 3

// CheckTiming says which of the times cannot work together, and what to change.
// doc.go has the timelines that the inequalities come from.
func CheckTiming(t membership.Timing) error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrTiming}, args...)...))
		}
	}
	need(t.Interval >= time.Millisecond, "interval is %v; set it to 1ms or more", t.Interval)
	need(t.DeadAfter >= minProbes*t.Interval,
		"dead_after %v is less than %d intervals of %v, so a few lost packets would make a healthy node silent; set dead_after to %v or more, or interval to %v or less",
		t.DeadAfter, minProbes, t.Interval, minProbes*t.Interval, t.DeadAfter/minProbes)
	need(t.LinkSettle >= t.DeadAfter+2*t.Interval,
		"link_settle %v is less than dead_after and two intervals, so the set of members would be chosen before every row has been refreshed; set it to %v or more",
		t.LinkSettle, t.DeadAfter+2*t.Interval)
	need(t.StallLimit >= t.DeadAfter,
		"stall_limit %v is less than dead_after %v, so a busy node would be evicted sooner than a dead one; set stall_limit to %v or more",
		t.StallLimit, t.DeadAfter, t.DeadAfter)
	need(t.RecoveryStall <= t.StallLimit,
		"recovery_stall %v is more than stall_limit %v; set it to %v or less", t.RecoveryStall, t.StallLimit, t.StallLimit)
	lag := max(3*t.Interval, 100*time.Millisecond)
	need(t.RecoveryStall >= lag,
		"recovery_stall %v is less than %v, after which a leader that stands still is replaced without eviction; set recovery_stall to %v or more",
		t.RecoveryStall, lag, lag)
	return errors.Join(errs...)
}
