package lockspace

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/membership"
)

// View is called when a view was delivered.
func (s *Set) View(index uint64, v membership.View) {
	s.Current = v
	for _, d := range v.Left {
		s.lose(d)
	}
	s.advanceAll(index)
}

// Proved is called when an incarnation was proved to be gone.
func (s *Set) Proved(index uint64, i membership.Incarnation) {
	s.Lost = slices.DeleteFunc(s.Lost, func(l membership.Incarnation) bool { return l == i })
	s.advanceAll(index)
}

// Message applies one entry. An entry that no longer fits changes nothing: its
// sender looks at the state again and proposes what fits now.
func (s *Set) Message(index uint64, from membership.Incarnation, data []byte) error {
	m, err := Decode(data)
	if err != nil {
		return err
	}
	if cur, ok := s.Current.Find(from.Node); !ok || cur != from {
		return nil // a word of somebody who is not a member any more
	}
	switch {
	case m.Join != nil:
		s.join(index, from, m.Join)
	case m.Leave != nil:
		s.leave(from, m.Leave)
	case len(m.Stopped) > 0:
		for _, st := range m.Stopped {
			s.stopped(from, st)
		}
	case m.Recovered != nil:
		s.recovered(from, m.Recovered)
	case m.Refuse != nil:
		s.refuse(m.Refuse)
	case m.Restart != nil:
		s.restart(m.Restart)
	}
	s.advanceAll(index)
	return nil
}

// lose takes a departed incarnation out of every lockspace.
func (s *Set) lose(d membership.Departure) {
	i, lost := d.Incarnation, false
	for _, sp := range s.Spaces {
		if sp.joining(i) != nil {
			sp.Joins = slices.DeleteFunc(sp.Joins, func(m Member) bool { return m.Incarnation == i })
			sp.dirty = sp.dirty || sp.Change != nil && sp.Change.Opened == 0
		}
		sp.Refused = slices.DeleteFunc(sp.Refused, func(r Refused) bool { return r.Incarnation == i })
		m := sp.live(i)
		if m == nil {
			continue
		}
		lost = true
		sp.Gone = append(sp.Gone, Gone{Incarnation: i, Epoch: m.Epoch, Failed: true, Joining: m.Joining})
		sp.Live = slices.DeleteFunc(sp.Live, func(m Member) bool { return m.Incarnation == i })
		sp.Leaves = slices.DeleteFunc(sp.Leaves, func(l Leaving) bool { return l.Node == i.Node })
		sp.dirty = true
	}
	if lost {
		s.Lost = append(s.Lost, i)
	}
}

func (s *Set) join(index uint64, from membership.Incarnation, j *Join) {
	if j.Lockspace == "" || len(j.Lockspace) > MaxName || strings.Contains(j.Lockspace, "/") {
		return // never proposed by a well-behaved member: its own edge refuses it
	}
	sp := s.Space(j.Lockspace)
	if sp == nil {
		sp = s.create(j.Lockspace)
	}
	if sp.live(from) != nil || sp.joining(from) != nil {
		return
	}
	sp.Refused = slices.DeleteFunc(sp.Refused, func(r Refused) bool { return r.Incarnation == from })
	if other := s.sameID(sp); other != "" {
		sp.Refused = append(sp.Refused, Refused{Incarnation: from, Epoch: index,
			Why: fmt.Sprintf("its id %d is that of lockspace %s; %s", sp.ID, other, AnotherName)})
		return
	}
	sp.Joins = append(sp.Joins, Member{Incarnation: from, Epoch: index, Joining: true, Recovers: j.Recovers})
	slices.SortFunc(sp.Joins, byNode)
	sp.dirty = sp.dirty || sp.Change != nil && sp.Change.Opened == 0
}

func byNode(a, b Member) int { return int(a.Incarnation.Node) - int(b.Incarnation.Node) }

func (s *Set) create(name string) *Space {
	sp := &Space{Name: name, ID: ID(name), Seq: s.Base, OpenSeq: s.Base}
	i, _ := slices.BinarySearchFunc(s.Spaces, name, func(sp *Space, n string) int { return strings.Compare(sp.Name, n) })
	s.Spaces = slices.Insert(s.Spaces, i, sp)
	return sp
}

func (s *Set) sameID(sp *Space) string {
	for _, o := range s.Spaces {
		if o != sp && o.ID == sp.ID && len(o.Live)+len(o.Joins) > 0 {
			return o.Name
		}
	}
	return ""
}

func (s *Set) leave(from membership.Incarnation, l *Leave) {
	sp := s.Space(l.Lockspace)
	if sp == nil {
		return
	}
	sp.Refused = slices.DeleteFunc(sp.Refused, func(r Refused) bool { return r.Incarnation == from && r.Epoch == l.Epoch })
	if j := sp.joining(from); j != nil && j.Epoch == l.Epoch { // it changed its mind before anything opened
		sp.Joins = slices.DeleteFunc(sp.Joins, func(m Member) bool { return m.Incarnation == from })
		sp.dirty = true
	}
	if m := sp.live(from); m == nil || m.Epoch != l.Epoch || sp.leaving(from.Node) != nil {
		return
	}
	sp.Leaves = append(sp.Leaves, Leaving{Node: from.Node, Recover: l.Recover})
	slices.SortFunc(sp.Leaves, func(a, b Leaving) int { return int(a.Node) - int(b.Node) })
	sp.dirty = sp.dirty || sp.Change != nil && sp.Change.Opened == 0
}

func (s *Set) stopped(from membership.Incarnation, st StopAck) {
	sp := s.Space(st.Lockspace)
	if sp == nil || sp.Change == nil {
		return
	}
	c := sp.Change
	if c.Opened != 0 || st.Change <= sp.OpenSeq || st.Change > c.Seq || sp.live(from) == nil {
		return
	}
	if slices.Contains(c.Stop, from.Node) && !slices.Contains(c.Acks, from.Node) {
		c.Acks = append(c.Acks, from.Node)
		slices.Sort(c.Acks)
	}
}

func (s *Set) recovered(from membership.Incarnation, r *Recovered) {
	sp := s.Space(r.Lockspace)
	if sp == nil || sp.Change == nil || sp.Change.Opened == 0 || sp.Change.Seq != r.Change {
		return
	}
	c := sp.Change
	if c.Member(from) != nil && !slices.Contains(c.Done, from.Node) {
		c.Done = append(c.Done, from.Node)
		slices.Sort(c.Done)
		if m := sp.live(from); m != nil {
			m.Joining = false
		}
	}
}

// refuse takes a joiner out of a change that opened: its kernel did not finish.
func (s *Set) refuse(r *Refuse) {
	sp := s.Space(r.Lockspace)
	if sp == nil || sp.Change == nil || sp.Change.Seq != r.Change || sp.Change.Opened == 0 || slices.Contains(sp.Change.Done, r.Joiner.Node) {
		return
	}
	m := sp.live(r.Joiner)
	if m == nil {
		return
	}
	sp.Refused = append(sp.Refused, Refused{Incarnation: r.Joiner, Epoch: m.Epoch, Why: r.Why, Renew: s.strangers(sp, r.Joiner)})
	s.note(membership.KindJoinFailed, sp, r.Joiner.Node, "%s", r.Why)
	// It stays in the stop barrier, and leaves by the next change.
	if sp.leaving(r.Joiner.Node) == nil {
		sp.Leaves = append(sp.Leaves, Leaving{Node: r.Joiner.Node})
		slices.SortFunc(sp.Leaves, func(a, b Leaving) int { return int(a.Node) - int(b.Node) })
	}
	sp.dirty = true
}

// strangers are the members of a change that have no other lockspace with a joiner.
func (s *Set) strangers(sp *Space, joiner membership.Incarnation) []membership.NodeID {
	var out []membership.NodeID
	for _, m := range sp.Change.New {
		if m.Incarnation != joiner && !slices.ContainsFunc(s.Spaces, func(o *Space) bool { return o != sp && o.has(joiner) && o.has(m.Incarnation) }) {
			out = append(out, m.Incarnation.Node)
		}
	}
	return out
}

// has says that an incarnation is in the lockspace, or on its way into it.
func (sp *Space) has(i membership.Incarnation) bool {
	return sp.live(i) != nil || sp.joining(i) != nil
}

func (s *Set) restart(r *Restart) {
	sp := s.Space(r.Lockspace)
	if sp == nil || r.Change != sp.Seq || sp.Change != nil && sp.Change.Opened == 0 || len(sp.Live) == 0 {
		return
	}
	sp.Restart = r.Why
	sp.dirty = sp.Change != nil
}
