package cluster

import (
	"slices"

	"github.com/quorate/quorate/membership"
)

// Drain asks a member to leave when nothing of it is in use any more. It ends with the
// incarnation, as when its daemon is started anew.
type Drain struct {
	Incarnation membership.Incarnation `json:"incarnation"`
	Who         string                 `json:"who"`
}

// DrainEnd takes it back.
type DrainEnd struct {
	Incarnation membership.Incarnation `json:"incarnation"`
}

// Draining returns the wish that an incarnation leaves, or nil.
func (s *State) Draining(i membership.Incarnation) *Drain {
	for k := range s.Drains {
		if s.Drains[k].Incarnation == i {
			return &s.Drains[k]
		}
	}
	return nil
}

func (s *State) drain(d *Drain) Outcome {
	switch {
	case !s.Member(d.Incarnation):
		return refuse("%v is not a member", d.Incarnation)
	case s.Draining(d.Incarnation) != nil:
		return refuse("that is so already")
	}
	s.Drains = append(s.Drains, *d)
	slices.SortFunc(s.Drains, func(a, b Drain) int { return int(a.Incarnation.Node) - int(b.Incarnation.Node) })
	n := *d
	return Outcome{Drained: &n}
}

func (s *State) drainEnd(e *DrainEnd) Outcome {
	old := s.Draining(e.Incarnation)
	if old == nil {
		return refuse("%v is not drained", e.Incarnation)
	}
	was := *old
	s.Drains = slices.DeleteFunc(s.Drains, func(d Drain) bool { return d.Incarnation == e.Incarnation })
	return Outcome{Undrained: &was}
}
