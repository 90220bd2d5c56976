package cluster

import (
	"time"

	"github.com/quorate/quorate/membership"
)

// How long a maintenance may be.
const (
	MinMaintenance = time.Minute
	MaxMaintenance = 24 * time.Hour
)

// Maintenance announces work on what the whole cluster depends on (its switches,
// its power): until it ends no member is evicted for being silent or slow. What
// a member brought about itself, or an operator asked for, goes through.
type Maintenance struct {
	// For is how long, MinMaintenance to MaxMaintenance. Each member counts it by
	// its own monotonic clock from the entry's delivery. A count that is over has
	// it ended by a MaintenanceEnd: the leader's, or else any member's.
	For time.Duration `json:"for"`
	Who string        `json:"who"`
	// After is State.MaintenanceLast as of the decision. It replaces the one of
	// that index and no other: two that meet do not shorten each other, and a late
	// copy of one begins nothing.
	After uint64 `json:"after,omitempty"`
	// Ask names the request.
	Ask string `json:"ask"`
}

// MaintenanceEnd ends a maintenance.
type MaintenanceEnd struct {
	Index uint64 `json:"index"`         // of the maintenance: a later one stands
	Who   string `json:"who,omitempty"` // the operator who ended it; empty: its time is over
}

// Maintained is a maintenance in force.
type Maintained struct {
	Maintenance
	Index uint64 `json:"index"`
}

func (s *State) maintain(index uint64, m *Maintenance) Outcome {
	switch {
	case m.For < MinMaintenance || m.For > MaxMaintenance:
		return refuse("a maintenance of %v: %v to %v", m.For, MinMaintenance, MaxMaintenance)
	case m.After != s.MaintenanceLast:
		return refuse("another maintenance was announced meanwhile; see `quorate status`, and ask again if that one is too short")
	}
	s.Maintenance, s.MaintenanceLast = &Maintained{Maintenance: *m, Index: index}, index
	began := *s.Maintenance
	return Outcome{Maintained: &began}
}

func (s *State) maintenanceEnd(e *MaintenanceEnd) Outcome {
	if s.Maintenance == nil || s.Maintenance.Index != e.Index {
		return refuse("no maintenance of index %d is in force; see `quorate status`", e.Index)
	}
	was := *s.Maintenance
	s.Maintenance = nil
	return Outcome{Unmaintained: &was}
}

// Excused says whether an incarnation is not evicted now for being silent or
// slow: a hold of it, or a maintenance of the cluster, is in force.
func (s *State) Excused(i membership.Incarnation) bool {
	return s.Maintenance != nil || s.Held(i) != nil
}
