package sim

import "github.com/quorate/quorate/membership"

// Story is a script of faults.
type Story struct{}

func (s *Story) plan(p plan) plan { return p }
func (s *Story) start(w *world)   {}

func milestoneOf(e membership.Event) string { return string(e.Kind) }
