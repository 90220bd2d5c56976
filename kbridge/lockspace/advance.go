package lockspace

import (
	"slices"

	"github.com/quorate/quorate/membership"
)

func (s *Set) advanceAll(index uint64) {
	for range 2 { // what is done with one may let a joiner into another
		for _, sp := range s.Spaces {
			s.advance(index, sp)
		}
	}
	s.Spaces = slices.DeleteFunc(s.Spaces, func(sp *Space) bool {
		if sp.Change != nil || len(sp.Live)+len(sp.Joins)+len(sp.Gone)+len(sp.Refused) > 0 {
			return false
		}
		s.Base = max(s.Base, sp.Seq)
		return true
	})
}

// advance moves one lockspace as far as it can go at this index.
func (s *Set) advance(index uint64, sp *Space) {
	for range 4 { // begin, open, done, and the next one may begin
		switch {
		case sp.Change == nil:
			if !s.wishes(sp) {
				return
			}
			s.begin(index, sp)
		case sp.dirty:
			s.begin(index, sp)
		case sp.Change.Opened == 0:
			if !s.mayOpen(sp) {
				return
			}
			s.open(index, sp)
		default:
			if !sp.allDone() {
				return
			}
			s.done(sp)
		}
	}
}

func (s *Set) wishes(sp *Space) bool {
	return sp.dirty || sp.Restart != "" || len(sp.Leaves) > 0 || len(sp.Gone) > 0 ||
		slices.ContainsFunc(sp.Joins, func(m Member) bool { return s.held(sp, m) == nil })
}

// held is the lockspace whose change has to remove the old incarnation of a
// joiner's node first, or its refused join: the one that it joins, or one that
// shares a member with it. A kernel has one comms entry for a node, and gets the
// new one when every lockspace there has been told that the old one is gone (S21);
// until then a start with the joiner would never end. The same holds back one that would
// meet a refused joiner where that is a member: it would be cut off from it there.
func (s *Set) held(sp *Space, m Member) *Space {
	for _, o := range s.Spaces {
		if slices.ContainsFunc(sp.Live, func(l Member) bool { return o.parts(l.Incarnation, m.Incarnation.Node) }) || s.crosses(o, sp, m) {
			return o
		}
		if o != sp && !o.shares(sp) {
			continue
		}
		if slices.ContainsFunc(o.Gone, func(g Gone) bool {
			return g.Incarnation.Node == m.Incarnation.Node && (o == sp || g.Incarnation != m.Incarnation || len(g.Renew) > 0)
		}) || slices.ContainsFunc(o.Refused, func(r Refused) bool { return r.Incarnation == m.Incarnation && len(r.Renew) > 0 }) {
			return o
		}
	}
	return nil
}

// crosses: a node has one lockspace and joins another, and who has that joins the first,
// or one whose joiners in their turn lead there, and asked before. If all died, each kernel
// would have to be told of one here and of another there, and each needs the comms entries
// until it has been: see tellsFailure.
func (s *Set) crosses(has, joins *Space, m Member) bool {
	if has == joins || has.live(m.Incarnation) == nil {
		return false
	}
	first := []*Space{joins} // what would have to start before it
	for i := 0; i < len(first); i++ {
		for _, sp := range s.Spaces {
			if !slices.Contains(first, sp) && sp.joinedFrom(first[i], m.Epoch) {
				first = append(first, sp)
			}
		}
	}
	return slices.Contains(first, has)
}

// joinedFrom: who has the other joins this one, or was refused, and asked before.
func (sp *Space) joinedFrom(o *Space, before uint64) bool {
	joins := func(j Member) bool { return j.Joining && j.Epoch < before && o.live(j.Incarnation) != nil }
	refused := func(g Gone) bool { return g.Joining && g.Epoch < before && o.live(g.Incarnation) != nil }
	return slices.ContainsFunc(sp.Live, joins) || slices.ContainsFunc(sp.Joins, joins) || slices.ContainsFunc(sp.Gone, refused)
}

// parts: a joiner was refused here, and it and the node have still to begin anew.
func (sp *Space) parts(joiner membership.Incarnation, n membership.NodeID) bool {
	return slices.ContainsFunc(sp.Refused, func(r Refused) bool { return r.Incarnation == joiner && slices.Contains(r.Renew, n) }) ||
		slices.ContainsFunc(sp.Gone, func(g Gone) bool { return g.Incarnation == joiner && slices.Contains(g.Renew, n) })
}

// shares says that a node has, or joins, both lockspaces.
func (sp *Space) shares(o *Space) bool {
	in := func(id membership.NodeID) func(Member) bool {
		return func(m Member) bool { return m.Incarnation.Node == id }
	}
	for _, m := range slices.Concat(sp.Live, sp.Joins) {
		if slices.ContainsFunc(o.Live, in(m.Incarnation.Node)) || slices.ContainsFunc(o.Joins, in(m.Incarnation.Node)) {
			return true
		}
	}
	return false
}

// HeldBack says which lockspace has to be done with an earlier life of a node, or with a
// join, before it can join this one; empty: none, or it is not waiting to join.
func (s *Set) HeldBack(name string, i membership.Incarnation) string {
	sp := s.Space(name)
	if sp == nil {
		return ""
	}
	if m := sp.joining(i); m != nil {
		if o := s.held(sp, *m); o != nil {
			return o.Name
		}
	}
	return ""
}

// begin starts a change, or replaces the one under way by one that knows more.
// What was said about stopping stands as long as nothing opened in between.
func (s *Set) begin(index uint64, sp *Space) {
	c := &Change{Index: index, Stop: IDs(sp.Live)}
	if old := sp.Change; old != nil && old.Opened == 0 {
		c.Index = old.Index
		for _, n := range old.Acks {
			if slices.Contains(c.Stop, n) {
				c.Acks = append(c.Acks, n)
			}
		}
	}
	for _, m := range sp.Live {
		if sp.leaving(m.Incarnation.Node) == nil || sp.detained(m) {
			c.New = append(c.New, m)
		}
	}
	for _, m := range sp.Joins {
		if s.held(sp, m) == nil {
			c.New = append(c.New, m)
		}
	}
	slices.SortFunc(c.New, byNode)
	sp.Seq++
	c.Seq, sp.Change, sp.dirty = sp.Seq, c, false
	s.note(membership.KindChange, sp, 0, "stop %v, then members %v", c.Stop, IDs(c.New))
}

// detained: a member has to begin anew with a joiner that was refused, or may have to
// with one that is not done, and leaves by the change after that.
func (sp *Space) detained(m Member) bool {
	if sp.refused(m) != nil {
		return false
	}
	return slices.ContainsFunc(sp.Live, func(o Member) bool {
		if r := sp.refused(o); r != nil {
			return slices.Contains(r.Renew, m.Incarnation.Node)
		}
		return o.Joining && o != m && sp.leaving(o.Incarnation.Node) == nil
	})
}

// mayOpen: all have stopped, the view is quorate, every lost incarnation is proved
// gone, and every leaver can be told of as what it is.
func (s *Set) mayOpen(sp *Space) bool {
	return len(sp.Change.Acks) == len(sp.Change.Stop) && s.Current.Quorate && len(s.Unproved(sp)) == 0 && len(sp.Withdrawn()) == 0
}

// Withdrawn are leavers whose journal is to be replayed, as long as somebody stays
// whose kernel replays journals of the dead alone. It takes a member for dead when its
// comms entry is gone, which others of their lockspaces may need: such a leaver has to
// be evicted, and fenced (S21).
func (sp *Space) Withdrawn() []membership.Incarnation {
	var out []membership.Incarnation
	old := slices.ContainsFunc(sp.Live, func(m Member) bool { return !m.Recovers && !m.Joining && sp.leaving(m.Incarnation.Node) == nil })
	for _, m := range sp.Live {
		if l := sp.leaving(m.Incarnation.Node); old && l != nil && l.Recover && !m.Joining {
			out = append(out, m.Incarnation)
		}
	}
	return out
}

// Unproved are the lost incarnations that the lockspace waits for.
func (s *Set) Unproved(sp *Space) []membership.Incarnation {
	var out []membership.Incarnation
	for _, g := range sp.Gone {
		if g.Failed && slices.Contains(s.Lost, g.Incarnation) {
			out = append(out, g.Incarnation)
		}
	}
	return out
}

func (s *Set) open(index uint64, sp *Space) {
	c := sp.Change
	for _, l := range sp.Leaves {
		for _, m := range sp.Live {
			if m.Incarnation.Node == l.Node && c.Member(m.Incarnation) == nil {
				g := Gone{Incarnation: m.Incarnation, Epoch: m.Epoch, Joining: m.Joining, Recover: l.Recover}
				if r := sp.refused(m); r != nil {
					g.Renew = r.Renew
				}
				sp.Gone = append(sp.Gone, g)
			}
		}
	}
	sp.Joins = slices.DeleteFunc(sp.Joins, func(m Member) bool { return c.Member(m.Incarnation) != nil })
	c.Opened, sp.OpenSeq = index, c.Seq
	sp.Live, sp.Restart = slices.Clone(c.New), ""
	sp.Leaves = slices.DeleteFunc(sp.Leaves, func(l Leaving) bool { return !slices.Contains(IDs(sp.Live), l.Node) })
	s.note(membership.KindOpened, sp, 0, "members %v", IDs(c.New))
}

// refused is a member's refusal, or nil.
func (sp *Space) refused(m Member) *Refused {
	for k := range sp.Refused {
		if r := &sp.Refused[k]; r.Incarnation == m.Incarnation && r.Epoch == m.Epoch {
			return r
		}
	}
	return nil
}

func (sp *Space) allDone() bool { return len(sp.Change.Done) == len(sp.Change.New) }

func (s *Set) done(sp *Space) {
	s.note(membership.KindDone, sp, 0, "members %v", IDs(sp.Live))
	sp.Change, sp.Gone = nil, nil
}
