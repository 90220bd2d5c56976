package raft_test

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// TestOneOfTwoGoesOnWithoutAStalledOne: it hears the other, with which nothing can be
// agreed; which of them led does not matter.
func TestOneOfTwoGoesOnWithoutAStalledOne(t *testing.T) {
	for _, led := range []bool{true, false} {
		s := formed(t, 2, nil)
		l := leader(s)
		stalled, other := l, others(s, l)[0]
		if !led {
			stalled, other = other, l
		}
		order(t, s, other, 2)
		if why := machine(s, other).MayForce([]membership.NodeID{other}); !strings.Contains(why, "a majority of the voters can be heard") {
			t.Errorf("led %v: both go on: %q", led, why)
		}
		s.Opt.Detect = 0 // it is told by hand
		s.Input(other, membership.GroupJudge{Hears: []membership.NodeID{stalled}, LeaderStalled: led, Stalled: []membership.NodeID{stalled}})
		s.Run(time.Millisecond, nil)
		if why := machine(s, other).MayForce([]membership.NodeID{other}); why != "" {
			t.Fatalf("led %v: %s", led, why)
		}
		s.Input(other, membership.GroupJudge{Hears: []membership.NodeID{stalled}})
		s.Run(time.Millisecond, nil)
		if why := machine(s, other).MayForce([]membership.NodeID{other}); why == "" {
			t.Errorf("led %v: it goes on again", led)
		}
		s.Input(other, membership.GroupJudge{Hears: []membership.NodeID{stalled}, Stalled: []membership.NodeID{stalled}})
		s.Run(time.Millisecond, nil)
		s.Crash(stalled) // it is fenced
		force(t, s, other, other)
		await(t, s, "a cluster of one", votersAre(s, other))
		order(t, s, other, 2)
	}
}

// TestAStalledOneOfThreeIsNoReason: the others are a majority that goes on.
func TestAStalledOneOfThreeIsNoReason(t *testing.T) {
	s := formed(t, 3, nil)
	await(t, s, "three voters", votersAre(s, 1, 2, 3))
	s.Opt.Detect = 0
	s.Input(1, membership.GroupJudge{Hears: []membership.NodeID{2, 3}, Stalled: []membership.NodeID{3}})
	s.Run(time.Millisecond, nil)
	if why := machine(s, 1).MayForce([]membership.NodeID{1, 2}); !strings.Contains(why, "a majority") {
		t.Errorf("%q", why)
	}
	s.Input(1, membership.GroupJudge{Hears: []membership.NodeID{2, 3}, Stalled: []membership.NodeID{2, 3}})
	s.Run(time.Millisecond, nil)
	if why := machine(s, 1).MayForce([]membership.NodeID{1}); !strings.Contains(why, "less than half") {
		t.Errorf("%q", why)
	}
	if why := machine(s, 1).MayForce([]membership.NodeID{1, 2, 3}); !strings.Contains(why, "a majority") {
		t.Errorf("all of them are no reason to force anything: %q", why)
	}
}

// TestWhoStandsStillIsNamed: it is why there is no leader.
func TestWhoStandsStillIsNamed(t *testing.T) {
	s := formed(t, 2, nil)
	l := leader(s)
	other := others(s, l)[0]
	s.Opt.Detect = 0
	s.Input(other, membership.GroupJudge{Hears: []membership.NodeID{l}, LeaderStalled: true, Stalled: []membership.NodeID{l}})
	s.Run(time.Millisecond, nil)
	if st := machine(s, other).Status(); st.Leader != 0 || !strings.Contains(st.Waiting, "stands still") {
		t.Errorf("%+v", st)
	}
}
