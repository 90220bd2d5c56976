package cluster

import (
	"cmp"
	"slices"

	"github.com/quorate/quorate/membership"
)

// Takeover is the first entry of a generation of the group that was forced: the
// survivors go on with fewer than a quorum, because everybody else is proved gone. It
// evicts, proves and drops the votes of the others in one.
type Takeover struct {
	Rule      string              `json:"rule"`             // of the configuration, or the operator's word
	Reason    membership.Reason   `json:"reason,omitempty"` // why the others are left out; empty: they were silent
	Survivors []membership.NodeID `json:"survivors"`
	Proofs    []TakeoverProof     `json:"proofs"`
	// Tried are the attempts that failed before and are in no log yet, oldest first, for
	// the history alone.
	Tried []Record `json:"tried,omitempty"`
	// Electorate are the survivors with a vote.
	Electorate []membership.NodeID `json:"electorate"`
}

// TakeoverProof is one incarnation's end: an agent's success for a run that began
// after the survivors had missed it, or an operator's acknowledgement.
type TakeoverProof struct {
	Victim membership.Incarnation `json:"victim"`
	How    string                 `json:"how"` // agent, manual
	Actor  membership.NodeID      `json:"actor,omitempty"`
	Who    string                 `json:"who,omitempty"`
	End    FenceEnd               `json:"end"`
}

// Drop takes the votes of nodes that are no members and are proved gone
// (last_man_standing).
type Drop struct {
	Nodes []membership.NodeID `json:"nodes"`
	Why   string              `json:"why"`
	// Electorate are the nodes that count before it: an entry that is late changes nothing.
	Electorate []membership.NodeID `json:"electorate"`
}

// Unproved are the incarnations whose end has to be proved before the survivors may
// go on without anybody else: all other members, and who was evicted and is not proved
// gone. An earlier life of a survivor is not shot at: it stays open, nothing starts before
// it is proved, and that its machine has booted since proves it.
func (s *State) Unproved(survivors []membership.NodeID) []membership.Incarnation {
	var out []membership.Incarnation
	for _, m := range s.View.Members {
		if !slices.Contains(survivors, m.Node) {
			out = append(out, m)
		}
	}
	for k := range s.Cases {
		if c := &s.Cases[k]; c.Open() && !slices.Contains(survivors, c.Victim.Node) {
			out = append(out, c.Victim)
		}
	}
	slices.SortFunc(out, func(a, b membership.Incarnation) int { return int(a.Node) - int(b.Node) })
	return out
}

// takeover. The group has ordered it by force, so there is nobody left who could
// refuse it: what it does not prove stays open, and nothing starts before that is proved.
func (s *State) takeover(index uint64, t *Takeover, wall string, quorum Quorum) Outcome {
	v := s.next()
	for _, m := range v.Members {
		if !slices.Contains(t.Survivors, m.Node) {
			v.Left = append(v.Left, membership.Departure{Incarnation: m, Reason: cmp.Or(t.Reason, membership.ReasonSilent), Observers: t.Survivors})
		}
	}
	v.Members = slices.DeleteFunc(v.Members, func(m membership.Incarnation) bool { return !slices.Contains(t.Survivors, m.Node) })
	s.Electorate = slices.Clone(t.Electorate)
	slices.Sort(s.Electorate)
	s.Generation++
	out := s.become(v, quorum)
	for _, d := range v.Left {
		c := Case{Victim: d.Incarnation, Reason: d.Reason, Observers: d.Observers, Index: index, Needed: true}
		s.Cases = append(s.Cases, c)
		out.Evicted = append(out.Evicted, c)
	}
	for _, r := range t.Tried {
		r.Index, r.OK = index, false
		s.record(r)
	}
	for _, p := range t.Proofs {
		c := s.Case(p.Victim)
		if c == nil || !c.Open() {
			continue
		}
		if c.Job != nil { // its actor is gone, or it is this one: one proof is enough
			out.Ended = append(out.Ended, s.abandon(index, c, wall, "the survivors have proved it themselves"))
		}
		s.record(Record{Victim: c.Victim, How: p.How, Actor: p.Actor, Who: p.Who, OK: true, Wall: wall, Index: index, End: p.End})
		out = s.prove(out, c, Proof{How: p.How, Actor: p.Actor, Who: p.Who, Level: p.End.Level, Index: index})
	}
	return out
}

// drop takes the votes of nodes that can do nothing any more. It makes a view: whether
// the members are a quorum depends on who counts.
func (s *State) drop(d *Drop, quorum Quorum) Outcome {
	if !slices.Equal(d.Electorate, s.Electorate) && len(s.Electorate) > 0 {
		return refuse("decided when %v counted, now %v do", d.Electorate, s.Electorate)
	}
	for _, n := range d.Nodes {
		if m, ok := s.View.Find(n); ok {
			return refuse("%v is a member", m)
		}
		if c := s.Blocked(n); c != nil {
			return refuse("%v is not proved gone, or is being fenced", c.Victim)
		}
	}
	s.uncount(d.Electorate, d.Nodes)
	return s.become(s.next(), quorum)
}

// count lets a node's vote count from now on.
func (s *State) count(id membership.NodeID) {
	if len(s.Electorate) > 0 && !slices.Contains(s.Electorate, id) {
		s.Electorate = append(s.Electorate, id)
		slices.Sort(s.Electorate)
	}
}

// uncount takes nodes' votes, of those that count now, or of all.
func (s *State) uncount(all, gone []membership.NodeID) {
	if len(s.Electorate) > 0 {
		all = s.Electorate
	}
	left := membership.Without(all, gone...)
	if len(left) > 0 { // else nobody would count, which stands for everybody
		slices.Sort(left)
		s.Electorate = left
	}
}
