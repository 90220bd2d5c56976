package liveness

import (
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// still lets time pass in which a daemon does not go on.
func (r *rig) still(id membership.NodeID, d time.Duration) {
	for passed := time.Duration(0); passed < d; passed += 20 * ms {
		r.age[id] += 20 * ms
		r.run(20 * ms)
	}
}

// goesOn lets it, and a second pass.
func (r *rig) goesOn(id membership.NodeID) {
	r.age[id] = 0
	r.run(time.Second)
}

func (r *rig) wantStalled(when string, ids ...membership.NodeID) {
	r.t.Helper()
	if got := r.m.judge.Stalled; !slices.Equal(got, ids) {
		r.t.Errorf("%s: %v stand still, want %v", when, got, ids)
	}
}

// TestTheGroupIsToldWhoStandsStill: with stall_limit, or what a change allows, and without
// anybody else's word, since there may be nobody else.
func TestTheGroupIsToldWhoStandsStill(t *testing.T) {
	r := newRig(t, 2)
	limit := r.m.cfg.Timing
	r.still(2, limit.StallLimit-100*ms)
	r.wantStalled("shorter than stall_limit")
	r.still(2, 300*ms)
	r.wantStalled("stall_limit", 2)
	r.wantVerdict() // one of two is no quorum
	r.goesOn(2)
	r.wantStalled("it goes on")

	r.still(2, limit.RecoveryStall+100*ms)
	r.wantStalled("recovery_stall, and nothing waits")
	r.m.Step(r.now, RecoveryWait{Nodes: []membership.NodeID{2}})
	r.still(2, 100*ms)
	r.wantStalled("a change waits for it", 2)
	r.silence(2)
	r.run(time.Second)
	r.wantStalled("it is silent")
}

func TestWhoseFreezeWasAnnouncedDoesNotStandStill(t *testing.T) {
	r := newRig(t, 2)
	limit := r.m.cfg.Timing.StallLimit
	r.m.Step(r.now, Hold{Node: 2, Until: r.now.Add(limit + time.Second)})
	r.still(2, limit+time.Second)
	r.wantStalled("in its hold")
	r.still(2, 500*ms)
	r.wantStalled("not after its hold", 2)
	r.m.Step(r.now, Maintenance{Until: r.now.Add(time.Second)})
	r.still(2, 500*ms)
	r.wantStalled("in a maintenance")
}

// TestAnOwnPauseMakesNobodyStandStill: what passed in it is not counted, whatever the other
// one's answers say: the same may have stopped both.
func TestAnOwnPauseMakesNobodyStandStill(t *testing.T) {
	r := newRig(t, 2)
	limit := r.m.cfg.Timing.StallLimit
	r.now, r.age[2] = r.now.Add(2*limit), 2*limit
	r.look()
	r.wantStalled("at once after an own pause")
	r.still(2, limit-time.Second)
	r.wantStalled("for shorter than stall_limit since")
	r.goesOn(2)
	r.still(2, limit-100*ms)
	r.wantStalled("not yet again")

	// A stall that goes on through a short pause is as long as without it, but for that.
	r.now, r.age[2] = r.now.Add(500*ms), r.age[2]+500*ms
	r.look()
	r.wantStalled("judged at once after an own pause")
	r.still(2, 400*ms)
	r.wantStalled("it stood still before and after a pause", 2)
}
