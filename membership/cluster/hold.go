package cluster

import (
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// How long a hold may be. A longer freeze is announced again before the first ends.
const (
	MinHold = time.Second
	MaxHold = 10 * time.Minute
)

// Hold announces that an incarnation will stand still (a live migration, a
// snapshot of a virtual machine, work on a switch): until the hold ends it is
// not evicted for being silent or slow. It ends with the incarnation, as when its
// daemon is started anew.
type Hold struct {
	Incarnation membership.Incarnation `json:"incarnation"`
	// For is how long, MinHold to MaxHold. Each member counts it by its own
	// monotonic clock from the entry's delivery. The leader ends the hold, by a
	// HoldEnd, when its own count is over.
	For time.Duration `json:"for"`
	Who string        `json:"who"`
	// Ask names the request, so that one that is proposed twice counts once.
	Ask string `json:"ask"`
}

// HoldEnd ends a hold.
type HoldEnd struct {
	Incarnation membership.Incarnation `json:"incarnation"`
	Index       uint64                 `json:"index"`         // of the hold: a later one stands
	Who         string                 `json:"who,omitempty"` // the operator who ended it; empty: its time is over
}

// Held is a hold in force.
type Held struct {
	Hold
	Index uint64 `json:"index"`
}

// Held returns the hold of an incarnation, or nil.
func (s *State) Held(i membership.Incarnation) *Held {
	for k := range s.Holds {
		if s.Holds[k].Incarnation == i {
			return &s.Holds[k]
		}
	}
	return nil
}

// hold takes an announcement. One that follows another replaces it, and its time
// counts anew; it is no shorter, since whoever announced the other relies on that. A late copy of one that has ended or was replaced is not one more.
func (s *State) hold(index uint64, h *Hold) Outcome {
	old, node := s.Held(h.Incarnation), s.Node(h.Incarnation.Node)
	switch {
	case node == nil || !s.Member(h.Incarnation):
		return refuse("%v is not a member", h.Incarnation)
	case h.For < MinHold || h.For > MaxHold:
		return refuse("a hold of %v: %v to %v", h.For, MinHold, MaxHold)
	case old != nil && old.Ask == h.Ask:
		return refuse("that is in force already")
	case slices.Contains(node.HoldAsks, h.Ask):
		return refuse("that was in force already, and is over")
	}
	node.HoldAsks = append(node.HoldAsks, h.Ask)
	node.HoldAsks = node.HoldAsks[max(0, len(node.HoldAsks)-MaxHoldAsks):]
	n := Held{Hold: *h, Index: index}
	if old != nil {
		n.For = max(n.For, old.For)
		*old = n
	} else {
		s.Holds = append(s.Holds, n)
		slices.SortFunc(s.Holds, func(a, b Held) int { return int(a.Incarnation.Node) - int(b.Incarnation.Node) })
	}
	return Outcome{Held: &n}
}

func (s *State) holdEnd(e *HoldEnd) Outcome {
	old := s.Held(e.Incarnation)
	if old == nil || old.Index != e.Index {
		return refuse("%v has no hold of index %d", e.Incarnation, e.Index)
	}
	was := *old
	s.Holds = slices.DeleteFunc(s.Holds, func(h Held) bool { return h.Incarnation == e.Incarnation })
	return Outcome{Unheld: &was}
}

// excused says whether a departure has to wait for the end of a hold or a maintenance. What the
// node itself brought about (it rebooted, it left) or an operator asked for does not.
func (s *State) excused(d membership.Departure) bool {
	switch d.Reason {
	case membership.ReasonSilent, membership.ReasonUnlinked, membership.ReasonStalled, membership.ReasonStuck:
		return s.Excused(d.Incarnation)
	}
	return false
}

// dropHolds ends the holds and drains of incarnations that are no members any more.
func (s *State) dropHolds() {
	s.Holds = slices.DeleteFunc(s.Holds, func(h Held) bool { return !s.Member(h.Incarnation) })
	s.Drains = slices.DeleteFunc(s.Drains, func(d Drain) bool { return !s.Member(d.Incarnation) })
}
