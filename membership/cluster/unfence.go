package cluster

import (
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// UnfenceStart says that the actor is about to run the agents that switch a node's
// devices on again: a node that boots needs that where a device cuts it from the
// storage and leaves it its power. It is ordered for the sake of what comes after: an
// on that was slow must not come after the next off (S12). So no node is admitted
// while one runs, and its actor's end needs proof.
type UnfenceStart struct {
	Node    membership.NodeID      `json:"node"`
	Boot    membership.BootID      `json:"boot"` // that is to be admitted
	Attempt uint64                 `json:"attempt"`
	Actor   membership.Incarnation `json:"actor"`
	// Start and Lease are as of a FenceStart.
	Start time.Duration `json:"start"`
	Lease time.Duration `json:"lease"`
}

// UnfenceEnd says how that ended.
type UnfenceEnd struct {
	Node    membership.NodeID `json:"node"`
	Attempt uint64            `json:"attempt"`
	OK      bool              `json:"ok"`
	Err     string            `json:"err,omitempty"`
}

// UnfenceExpire closes one of which nothing was heard within its lease.
type UnfenceExpire struct {
	Node    membership.NodeID `json:"node"`
	Attempt uint64            `json:"attempt"`
}

// Unfenced is what was agreed of a node's devices.
type Unfenced struct {
	Node     membership.NodeID `json:"node"`
	Boot     membership.BootID `json:"boot"`
	Attempts uint64            `json:"attempts"`         // of that node, whatever its boot
	Failed   int               `json:"failed,omitempty"` // in a row
	Done     bool              `json:"done,omitempty"`   // they are on, for that boot
	Err      string            `json:"err,omitempty"`    // of the last attempt
	Running  *UnfenceStart     `json:"running,omitempty"`
}

// Unfence is what is known of a node's devices; nil: nothing.
func (s *State) Unfence(id membership.NodeID) *Unfenced {
	for k := range s.Unfences {
		if s.Unfences[k].Node == id {
			return &s.Unfences[k]
		}
	}
	return nil
}

func (s *State) unfenceStart(u *UnfenceStart) Outcome {
	x := s.Unfence(u.Node)
	if m, ok := s.View.Find(u.Node); ok {
		return refuse("%v is a member", m)
	}
	if c := s.Blocked(u.Node); c != nil {
		return refuse("its incarnation %v is not proved gone or is being fenced", c.Victim)
	}
	switch last := x.attempts(); {
	case !s.Member(u.Actor) && u.Actor.Node != u.Node:
		return refuse("%v is not a member", u.Actor)
	case x != nil && x.Running != nil:
		return refuse("node %d switches its devices on", x.Running.Actor.Node)
	case x != nil && x.Done && x.Boot == u.Boot:
		return refuse("its devices are on")
	case u.Attempt != last+1:
		return refuse("attempt %d, expected %d", u.Attempt, last+1)
	}
	if x == nil {
		s.Unfences = append(s.Unfences, Unfenced{Node: u.Node})
		slices.SortFunc(s.Unfences, func(a, b Unfenced) int { return int(a.Node) - int(b.Node) })
		x = s.Unfence(u.Node)
	}
	run := *u
	x.Boot, x.Attempts, x.Running, x.Done = u.Boot, u.Attempt, &run, false
	return Outcome{Unfencing: &run}
}

func (x *Unfenced) attempts() uint64 {
	if x == nil {
		return 0
	}
	return x.Attempts
}

// unfencing is what is known of a node's devices while that attempt runs; nil: it does not.
func (s *State) unfencing(id membership.NodeID, attempt uint64) *Unfenced {
	if x := s.Unfence(id); x != nil && x.Running != nil && x.Attempts == attempt {
		return x
	}
	return nil
}

func (s *State) unfenceEnd(u *UnfenceEnd) Outcome {
	x := s.unfencing(u.Node, u.Attempt)
	if x == nil {
		return refuse("no such attempt")
	}
	x.Done = u.OK
	return x.end(u.Err)
}

// end closes what runs.
func (x *Unfenced) end(err string) Outcome {
	x.Running, x.Err = nil, err
	x.Failed++
	if x.Done {
		x.Failed = 0
	}
	o := *x
	return Outcome{UnfenceOver: &o}
}

func (s *State) unfenceExpire(u *UnfenceExpire) Outcome {
	x := s.unfencing(u.Node, u.Attempt)
	if x == nil {
		return refuse("no such attempt")
	}
	if a := s.Case(x.Running.Actor); a != nil && a.Open() {
		return refuse("its actor %v is evicted and not proved gone", x.Running.Actor)
	}
	return x.end("nothing was heard of it within its lease")
}

// unfences says that an incarnation may be switching devices on.
func (s *State) unfences(i membership.Incarnation) bool {
	return slices.ContainsFunc(s.Unfences, func(x Unfenced) bool { return x.Running != nil && x.Running.Actor == i })
}

// refence: what is fenced is not on any more, and who is proved gone switches nothing on.
func (s *State) refence(gone membership.Incarnation) {
	for k := range s.Unfences {
		x := &s.Unfences[k]
		if x.Node == gone.Node {
			x.Done = false
		}
		if x.Running != nil && x.Running.Actor == gone {
			x.end("its actor is gone")
		}
	}
}
