package cluster

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/membership"
)

// Outcome is what became of one entry. It is the same at every member.
type Outcome struct {
	// Refused says why the entry changed nothing; empty when it did.
	Refused string
	// View is the new view, if the entry made one.
	View *membership.View
	// Evicted are the cases that it opened.
	Evicted []Case
	// Proved are the incarnations that it proved to be gone.
	Proved []membership.Incarnation
	// Started is the job that it allowed, Ended are those that it closed.
	Started *Job
	Ended   []Job
	// Held is the hold that it began, Unheld the one that it ended.
	Held   *Held
	Unheld *Held
	// Maintained is the maintenance that it began, Unmaintained the one that it ended.
	Maintained   *Maintained
	Unmaintained *Maintained
	// Drained is the member that is asked to leave, Undrained the one that is no more.
	Drained   *Drain
	Undrained *Drain
	// Proposed is the change of the configuration that it began, Configured the
	// version that it brought into force, Aborted the change that it ended. Ask is
	// the ended change's.
	Proposed   *ConfigChange
	Configured *Config
	Aborted    *ConfigAborted
	Ask        string
	// Unfencing is what it allowed to switch on, UnfenceOver what has ended of that.
	Unfencing   *UnfenceStart
	UnfenceOver *Unfenced
}

// Holder says whether an incarnation holds kernel state on which the shared
// storage depends. Every member asks its own consumers, which are replicated,
// so the answers agree.
type Holder func(membership.Incarnation) bool

// Quorum says whether a set of members is a quorum.
type Quorum func([]membership.NodeID) bool

// Apply executes one entry other than a consumer's message.
func (s *State) Apply(index uint64, c Command, holds Holder, quorum Quorum) Outcome {
	s.Index = index
	switch {
	case c.Admit != nil:
		return s.admit(c.Admit, quorum)
	case c.Evict != nil:
		return s.evict(index, c.Evict, holds, quorum)
	case c.Leave != nil:
		return s.leave(c.Leave, holds, quorum)
	case c.FenceStart != nil:
		return s.fenceStart(index, c.FenceStart)
	case c.FenceEnd != nil:
		return s.fenceEnd(index, c.FenceEnd, c.Wall)
	case c.FenceExpire != nil:
		return s.fenceExpire(index, c.FenceExpire, c.Wall)
	case c.NewBoot != nil:
		return s.newBoot(index, c.NewBoot, c.Wall)
	case c.FenceNeed != nil:
		return s.fenceNeed(c.FenceNeed)
	case c.FenceAck != nil:
		return s.fenceAck(index, c.FenceAck, c.Wall)
	case c.List != nil:
		return s.list(index, c.List, c.Wall, holds, quorum)
	case c.Hold != nil:
		return s.hold(index, c.Hold)
	case c.HoldEnd != nil:
		return s.holdEnd(c.HoldEnd)
	case c.Witness != nil:
		return s.witness(c.Witness, quorum)
	case c.Maintenance != nil:
		return s.maintain(index, c.Maintenance)
	case c.MaintenanceEnd != nil:
		return s.maintenanceEnd(c.MaintenanceEnd)
	case c.Drain != nil:
		return s.drain(c.Drain)
	case c.DrainEnd != nil:
		return s.drainEnd(c.DrainEnd)
	case c.Takeover != nil:
		return s.takeover(index, c.Takeover, c.Wall, quorum)
	case c.Drop != nil:
		return s.drop(c.Drop, quorum)
	case c.UnfenceStart != nil:
		return s.unfenceStart(c.UnfenceStart)
	case c.UnfenceEnd != nil:
		return s.unfenceEnd(c.UnfenceEnd)
	case c.UnfenceExpire != nil:
		return s.unfenceExpire(c.UnfenceExpire)
	}
	return s.configure(index, c)
}

func refuse(format string, args ...any) Outcome {
	return Outcome{Refused: fmt.Sprintf(format, args...)}
}

func (s *State) admit(a *Admit, quorum Quorum) Outcome {
	id := a.Incarnation.Node
	if m, ok := s.View.Find(id); ok {
		return refuse("node %d is a member already as %v", id, m)
	}
	if a.View != s.View.Number {
		return refuse("decided in view %d, now %d", a.View, s.View.Number)
	}
	if s.Conf.Now.Version != 0 && !slices.Contains(s.Conf.Nodes, id) {
		return refuse("node %d is not configured in version %d", id, s.Conf.Now.Version)
	}
	if c := s.Blocked(id); c != nil {
		return refuse("its incarnation %v is not proved gone or is being fenced", c.Victim)
	}
	if x := s.Unfence(id); x != nil && x.Running != nil {
		return refuse("its fence devices are being switched on by %v", x.Running.Actor)
	}
	n := s.Node(id)
	if n == nil {
		s.Nodes = append(s.Nodes, NodeRecord{Node: id, Machine: a.Machine})
		slices.SortFunc(s.Nodes, func(x, y NodeRecord) int { return int(x.Node) - int(y.Node) })
		n = s.Node(id)
	}
	inc := membership.Incarnation{Node: id, Boot: a.Incarnation.Boot}
	if n.Last.Boot == inc.Boot {
		inc.Session = n.Last.Session + 1
	}
	// What came before is settled: Blocked was nil. A machine that was replaced
	// got here over an agent's proof or an acknowledgement.
	s.Cases = slices.DeleteFunc(s.Cases, func(c Case) bool { return c.Victim.Node == id })
	n.Machine, n.Instance, n.Last, n.Left = a.Machine, a.Instance, inc, false
	v := s.next()
	v.Members = append(v.Members, inc)
	slices.SortFunc(v.Members, func(x, y membership.Incarnation) int { return int(x.Node) - int(y.Node) })
	v.Joined = []membership.NodeID{id}
	s.count(id)
	return s.become(v, quorum)
}

func (s *State) next() membership.View {
	return membership.View{Number: s.View.Number + 1, Members: slices.Clone(s.View.Members)}
}

func (s *State) become(v membership.View, quorum Quorum) Outcome {
	v.Quorate = quorum(v.IDs())
	s.View = v
	s.dropHolds()
	for k := range s.Cases { // who had not failed yet is no member any more
		if c := &s.Cases[k]; c.Open() && c.Job == nil && len(c.Tried) > 0 && s.Actor(c) == 0 {
			c.Tried, c.Round = nil, c.Round+1
		}
	}
	c := v
	return Outcome{View: &c}
}

func (s *State) evict(index uint64, e *Evict, holds Holder, quorum Quorum) Outcome {
	if e.View != s.View.Number {
		return refuse("decided in view %d, now %d", e.View, s.View.Number)
	}
	v := s.next()
	for _, d := range e.Departures {
		if !s.Member(d.Incarnation) {
			return refuse("%v is not a member", d.Incarnation)
		}
		if s.excused(d) {
			return refuse("%v is held, or the cluster in maintenance: it is not evicted for being %s", d.Incarnation, d.Reason)
		}
		v.Members = slices.DeleteFunc(v.Members, func(m membership.Incarnation) bool { return m == d.Incarnation })
	}
	v.Left = slices.Clone(e.Departures)
	if len(v.Left) == 0 || !quorum(v.IDs()) && !restarting(e) && !e.Alone {
		return refuse("%d members left are no quorum", len(v.Members))
	}
	out := s.become(v, quorum)
	for _, d := range v.Left {
		c := Case{Victim: d.Incarnation, Reason: d.Reason, Observers: d.Observers, Index: index, Needed: e.Fence || holds(d.Incarnation) || s.acts(d)}
		s.Cases = append(s.Cases, c)
		out.Evicted = append(out.Evicted, c)
	}
	return out
}

// acts says that an agent of the departing node may be running (S12): then its
// death needs proof even if it held nothing. The agents of a daemon that has
// started anew died with the one before.
func (s *State) acts(d membership.Departure) bool {
	if again(d.Reason) {
		return false
	}
	return s.unfences(d.Incarnation) || slices.ContainsFunc(s.Cases, func(c Case) bool { return c.Job != nil && c.Job.Actor == d.Incarnation })
}

// again: the node is there anew, its machine or its daemon.
func again(r membership.Reason) bool {
	return r == membership.ReasonRebooted || r == membership.ReasonRestarted
}

// restarting says that every departure is a node that came back by itself, so
// that the view loses nobody who could act alone: a whole cluster that was
// powered off begins so.
func restarting(e *Evict) bool {
	for _, d := range e.Departures {
		if !again(d.Reason) {
			return false
		}
	}
	return true
}

func (s *State) leave(l *Leave, holds Holder, quorum Quorum) Outcome {
	if !s.Member(l.Incarnation) {
		return refuse("%v is not a member", l.Incarnation)
	}
	if holds(l.Incarnation) {
		return refuse("%v holds lockspaces", l.Incarnation)
	}
	if l.Drained && s.Draining(l.Incarnation) == nil {
		return refuse("%v is not drained any more", l.Incarnation)
	}
	v := s.next()
	v.Members = slices.DeleteFunc(v.Members, func(m membership.Incarnation) bool { return m == l.Incarnation })
	v.Left = []membership.Departure{{Incarnation: l.Incarnation, Reason: membership.ReasonLeft}}
	if n := s.Node(l.Incarnation.Node); n != nil {
		n.Left = true
	}
	if len(l.Electorate) > 0 {
		s.uncount(l.Electorate, []membership.NodeID{l.Incarnation.Node})
	}
	return s.become(v, quorum)
}
