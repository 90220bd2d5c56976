package liveness

import (
	"time"

	"github.com/quorate/quorate/membership"
)

// Machine judges the liveness of a cluster's nodes as one of them sees it.
type Machine struct {
	cfg Config
	due membership.Mono
}

// New returns a machine that has heard nobody yet and holds no quorum.
func New(cfg Config, now membership.Mono) *Machine { return &Machine{cfg: cfg, due: now} }

// Step takes one input and returns what is to be done about it.
func (m *Machine) Step(now membership.Mono, in Input) []Effect { return nil }

// Deadline is when an Observed input is due; it may be now.
func (m *Machine) Deadline() membership.Mono { return m.due }

// Hears are the peers that answered within dead_after, by ascending node id.
func (m *Machine) Hears() []membership.NodeID { return nil }

// Suspects are the nodes under suspicion, by ascending node id.
func (m *Machine) Suspects() []membership.NodeID { return nil }

// Age is the time since the node's kernel last answered; -1: never.
func (m *Machine) Age(n membership.NodeID) time.Duration { return -1 }

// Steady says whether a node has answered everybody for long enough to be admitted.
func (m *Machine) Steady(n membership.NodeID) bool { return false }

// Matrix is the own row and the newest row of every peer, by node id.
func (m *Machine) Matrix() []Row { return nil }

// CheckTiming says which of the times cannot work together, and what to change.
func CheckTiming(t membership.Timing) error { return nil }
