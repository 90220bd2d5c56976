package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// stalls lets time pass in which node 2 is heard, and its daemon has stood still for as
// long as that and before.
func (v *survivor) stalls(d, before time.Duration) {
	v.g.told = true
	for passed := time.Duration(0); passed < d; {
		v.now += 20 * time.Millisecond
		passed += 20 * time.Millisecond
		v.give(Timer{Samples: []membership.Sample{{Peer: 2, Heard: membership.Mono(v.now), DaemonAge: before + passed, Instance: 2}}})
	}
}

// stallPair are two nodes whose stall limit is 10 s.
func stallPair(t *testing.T, q membership.Quorum) *survivor {
	v := newSurvivor(t, 2, q)
	v.n.cfg.Timing.StallLimit, v.n.cfg.Timing.RecoveryStall = 10*time.Second, 3*time.Second
	v.n, _ = New(1, Options{Config: v.n.cfg, Group: v.g, Identity: v.n.id})
	o := newSurvivor(t, 2, q)
	v.n.st.View, v.n.st.Nodes = o.n.st.View, o.n.st.Nodes
	v.n.newView()
	v.run(time.Second, 2)
	return v
}

// TestWhoStandsStillIsFencedByTheOther: after stall_limit and a look at what it says then.
func TestWhoStandsStillIsFencedByTheOther(t *testing.T) {
	v := stallPair(t, twoNode)
	v.stalls(10*time.Second, 0)
	v.nobody("at stall_limit")
	if w := v.n.takeoverWaits(); len(w) != 1 || !strings.Contains(w[0].Reason, "the daemon of n2 has stood still for 10s") || w[0].Deadline <= 0 {
		t.Errorf("%+v", w)
	}
	if state, why := v.n.stateOf(2); state != "suspect" || !strings.Contains(why, "stands still") {
		t.Errorf("%s, %s", state, why)
	}
	v.stalls(v.n.cfg.Timing.LinkSettle+100*time.Millisecond, 10*time.Second)
	job := v.shot(2)
	if w := v.n.takeoverWaits(); len(w) != 1 || !strings.Contains(w[0].Reason, "this node is fencing it") || !strings.Contains(w[0].Reason, "stood still") {
		t.Errorf("%+v", w)
	}
	v.ends(job, true)
	if len(v.g.forced) > 0 {
		t.Fatal("it is believed of one that answered just now")
	}
	v.run(300 * time.Millisecond) // its silence is the proof
	if len(v.g.forced) != 1 || v.g.forced[0].Reason != membership.ReasonStalled {
		t.Fatalf("%+v", v.g.forced)
	}
	if c := v.n.st.Case(job.Victim); c == nil || c.Reason != membership.ReasonStalled || c.Open() {
		t.Errorf("%+v", c)
	}
}

// TestWhoYieldsDoesNotWaitForATurnOfTheStalled: it cannot shoot.
func TestWhoYieldsDoesNotWaitForATurnOfTheStalled(t *testing.T) {
	v := stallPair(t, twoNode)
	to := &takeover{have: []membership.NodeID{1}, stalled: true}
	v.n.cfg.Self = 2
	v.n.st.View.Members[0].Node, v.n.st.View.Members[1].Node = 2, 1
	if x := v.n.turns(to); !v.n.yields(1) || x.first != membership.Mono(v.n.cfg.Timing.LinkSettle) {
		t.Errorf("%+v", x)
	}
}

// TestWhoGoesOnIsNotFenced: its agent is ended as soon as the progress word moves.
func TestWhoGoesOnIsNotFenced(t *testing.T) {
	v := stallPair(t, twoNode)
	v.stalls(11*time.Second, 0)
	job := v.shot(2)
	v.run(40*time.Millisecond, 2)
	if v.n.takeover != nil || !slices.ContainsFunc(v.out, func(e Effect) bool { c, ok := e.(CancelFence); return ok && c.Job == job }) {
		t.Fatal("it is not given up")
	}
	v.ends(job, false)
	v.run(20*time.Second, 2)
	v.nobody("it goes on")
}

// TestAnOwnPauseFencesNobody: the other one is asked again for as long as before.
func TestAnOwnPauseFencesNobody(t *testing.T) {
	v := stallPair(t, twoNode)
	v.stalls(10*time.Second, 0)
	v.now += 30 * time.Second
	v.stalls(40*time.Millisecond, 0) // its answers are late, and say that it has gone on
	v.run(20*time.Second, 2)
	v.nobody("after an own pause")

	v.now += 30 * time.Second
	v.stalls(9*time.Second, 30*time.Second)
	v.nobody("it stood still while this node did, and not much longer")
	v.stalls(2*time.Second, 39*time.Second)
	v.shot(2)
}

// TestASilentOneThatStoodStillHasItsTurn: behind a cut it may be going on, and shooting.
func TestASilentOneThatStoodStillHasItsTurn(t *testing.T) {
	v := stallPair(t, twoNode)
	v.stalls(11*time.Second, 0)
	job := v.shot(2)
	counted := v.n.takeover.counted
	v.run(300 * time.Millisecond)
	if to := v.n.takeover; to == nil || to.stalled || to.counted <= counted || len(v.ran) != 1 {
		t.Fatalf("%+v", to)
	}
	v.ends(job, false)
	v.run(500 * time.Millisecond)
	if again := v.shot(2); again.Until.Sub(v.n.takeover.counted) != 2*time.Second+takeoverSlack/2 {
		t.Errorf("%+v, counted from %d", again, v.n.takeover.counted)
	}
}

// TestNobodyElseIsFencedForStandingStill: where others count, or by no rule.
func TestNobodyElseIsFencedForStandingStill(t *testing.T) {
	v := stallPair(t, membership.Quorum{})
	v.stalls(30*time.Second, 0)
	v.nobody("without a rule")

	v = stallPair(t, twoNode)
	v.give(Operator{Command: "maintenance-on", For: time.Hour, Who: "root"})
	v.n.st.Maintenance = nil
	v.n.seasoned = false
	v.stalls(30*time.Second, 0)
	v.nobody("it was in no quorate view")

	v = newSurvivor(t, 3, membership.Quorum{LastManStanding: true})
	v.run(time.Second, 2, 3)
	v.n.judge.Stalled = []membership.NodeID{2}
	if v.n.standsAlone() {
		t.Error("another one of three goes on")
	}
}
