package cluster

import (
	"slices"

	"github.com/quorate/quorate/membership"
)

// list takes a list of members. It makes a view even if no member goes: whether
// the members are a quorum may depend on who is listed.
func (s *State) list(index uint64, l *List, wall string, holds Holder, quorum Quorum) Outcome {
	nodes := slices.Clone(l.Nodes)
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	switch {
	case len(nodes) == 0:
		return refuse("a list of nobody")
	case slices.Equal(nodes, s.Listed):
		return refuse("that is the list already")
	}
	s.Listed = nodes
	off := func(n membership.NodeID) bool { return !slices.Contains(nodes, n) }
	v := s.next()
	for _, m := range v.Members {
		if off(m.Node) {
			v.Left = append(v.Left, membership.Departure{Incarnation: m, Reason: membership.ReasonOperator})
		}
	}
	v.Members = slices.DeleteFunc(v.Members, func(m membership.Incarnation) bool { return off(m.Node) })
	out := s.become(v, quorum)
	for _, d := range v.Left {
		c := Case{Victim: d.Incarnation, Reason: d.Reason, Index: index, Needed: holds(d.Incarnation)}
		s.Cases = append(s.Cases, c)
		out.Evicted = append(out.Evicted, c)
	}
	for k := range s.Cases {
		if c := &s.Cases[k]; off(c.Victim.Node) && c.Open() {
			s.record(Record{Victim: c.Victim, How: "manual", Who: l.Who, OK: true, Wall: wall, Index: index})
			out = s.prove(out, c, Proof{How: "manual", Who: l.Who, Index: index})
		}
	}
	return out
}
