package node

import (
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// TestTheDeadCountAsLongAsTheRestNeedsThem: node 2 is proved gone, and node 3, which is
// awaited in a maintenance, is silent. Whatever node 1 wanted would be ordered when node 2 is back: without
// its vote the two that count could do nothing before node 3 is back as well.
func TestTheDeadCountAsLongAsTheRestNeedsThem(t *testing.T) {
	h := newHolder(t)
	h.n.cfg.Quorum = membership.Quorum{LastManStanding: true, LastManWindow: 2 * time.Second}
	h.n.policy = h.n.agreedPolicy()
	h.n.st.View.Members = []membership.Incarnation{h.m[0], h.m[2]}
	h.n.newView()
	now := time.Duration(0)
	run := func(d time.Duration, ids ...membership.NodeID) {
		for end := now + d; now < end; {
			now += 20 * time.Millisecond
			h.n.Step(membership.Mono(now), Timer{Samples: heard(membership.Mono(now), ids...)})
		}
	}
	run(time.Second, 3)
	h.ask(now, Operator{Command: "maintenance-on", For: time.Hour, Who: "root"})
	run(10 * time.Second)
	if e := h.n.electorate(); !slices.Equal(e, []membership.NodeID{1, 2, 3}) {
		t.Fatalf("%v count, and of nodes 1 and 3 one is not heard", e)
	}
	run(time.Second, 3)
	if e := h.n.electorate(); !slices.Equal(e, []membership.NodeID{1, 3}) {
		t.Fatalf("%v count", e)
	}
}
