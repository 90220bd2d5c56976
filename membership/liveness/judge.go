package liveness

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

// deliberate is the verdict of this look. It is empty without a quorum of
// members that say so, outside the view, and shortly after an own pause.
func (m *Machine) deliberate() []membership.Departure {
	m.settle = 0
	if !m.inView || m.at < m.blind {
		return nil
	}
	var out []membership.Departure
	alive := make([]bool, len(m.ids))
	for i, p := range m.peers {
		alive[i] = i == m.self || p.member
		if i == m.self || !p.member {
			continue
		}
		reason, by := m.try(i)
		if by == nil {
			continue
		}
		alive[i] = false
		p.dead = p.dead || reason == membership.ReasonSilent
		out = append(out, m.departure(i, reason, by))
	}
	out = append(out, m.unlinked(alive)...)
	slices.SortFunc(out, func(a, b membership.Departure) int {
		return cmp.Compare(a.Incarnation.Node, b.Incarnation.Node)
	})
	return out
}

func (m *Machine) departure(i int, reason membership.Reason, by []membership.NodeID) membership.Departure {
	inc, _ := m.view.Find(m.ids[i])
	return membership.Departure{Incarnation: inc, Reason: reason, Observers: by}
}

// try asks whether all who could know call a member silent, or stalled.
func (m *Machine) try(x int) (membership.Reason, []membership.NodeID) {
	p := m.peers[x]
	switch {
	case m.excused(p):
		return "", nil
	case m.silent(x):
		return membership.ReasonSilent, m.unanimous(x, p.since, m.ofKernel)
	case p.stalled != 0:
		return membership.ReasonStalled, m.unanimous(x, p.stalled, m.ofDaemon(m.stallLimit(p.id)))
	}
	return "", nil
}

// unanimous returns the observers if every member whose row is not void accuses
// x, and they are a quorum with this node. A row is void if its sender is silent,
// or if it did not come within link_settle.
func (m *Machine) unanimous(x int, since membership.Mono, read func(Age) word) []membership.NodeID {
	by := []membership.NodeID{m.cfg.Self}
	for j, p := range m.peers {
		if j == x || j == m.self || !p.member || m.silent(j) {
			continue
		}
		switch m.says(p, x, since, read) {
		case accused:
			by = append(by, p.id)
		case fine:
			return nil
		case unknown:
			if m.at < since.Add(m.cfg.Timing.LinkSettle) {
				return nil
			}
		}
	}
	return m.quorum(by)
}

// quorum returns the set, sorted, if it is quorate, else nil.
func (m *Machine) quorum(set []membership.NodeID) []membership.NodeID {
	slices.Sort(set)
	if !m.votes(set).Quorate {
		return nil
	}
	return set
}

// votes counts those of a set, and the witness's where it is heard: it says nothing of
// anybody's liveness, and lets those who hear it decide.
func (m *Machine) votes(set []membership.NodeID) quorum.Verdict {
	if w := m.cfg.Policy.Witness; w != 0 && m.witness {
		set = append(slices.Clone(set), w)
	}
	return m.cfg.Policy.Quorate(set)
}

// majority says whether this node and a quorum of the others accuse x. Unlike
// unanimous it is not stopped by those who do not: it replaces a leader, which
// costs nothing, and evicts nobody.
func (m *Machine) majority(x int, since membership.Mono, read func(Age) word) bool {
	by := []membership.NodeID{m.cfg.Self}
	for j, p := range m.peers {
		if j != x && j != m.self && m.elector(p) && !m.silent(j) && m.says(p, x, since, read) == accused {
			by = append(by, p.id)
		}
	}
	return m.quorum(by) != nil
}

// elector: a member, or anybody before there is a view.
func (m *Machine) elector(p *peer) bool { return p.member || len(m.view.Members) == 0 }

// tellVerdict emits a verdict that is new, or stands for a second.
func (m *Machine) tellVerdict(v []membership.Departure, out []Effect) []Effect {
	same := slices.EqualFunc(v, m.verdict, func(a, b membership.Departure) bool {
		return a.Incarnation == b.Incarnation && a.Reason == b.Reason && slices.Equal(a.Observers, b.Observers)
	})
	if same && (len(v) == 0 || m.at.Sub(m.verdictAt) < restEvery) {
		return out
	}
	m.verdict, m.verdictAt = v, m.at
	return append(out, Convicted{Departures: slices.Clone(v)})
}

// Linked are the nodes whose votes make this node's own quorum, itself among
// them, by ascending node id.
func (m *Machine) Linked() []membership.NodeID {
	have := append(m.list(func(p *peer) bool { return (p.member || !m.inView) && (p.hears || p.heard != 0 && m.excused(p)) }), m.cfg.Self)
	slices.Sort(have)
	return have
}

// Excused are the others whose freeze was announced, heard or not, by ascending node id:
// their silence is no reason for anything yet. One that this node never heard is in no
// quorum of its own, and excused all the same.
func (m *Machine) Excused() []membership.NodeID {
	return m.list(func(p *peer) bool { return (p.member || !m.inView) && p.id != m.cfg.Self && m.excused(p) })
}

// ownQuorum judges this node's own quorum from its own links alone.
func (m *Machine) ownQuorum(out []Effect) []Effect {
	have := m.Linked()
	v := m.votes(have)
	if v.Quorate == m.quorate {
		return out
	}
	m.quorate = v.Quorate
	return append(out, QuorumChanged{Have: v.Quorate, Text: fmt.Sprintf("%v connected: %s", have, v.Text)})
}

// tellJudge emits what the group may act on, when it changes.
func (m *Machine) tellJudge(out []Effect) []Effect {
	j := membership.GroupJudge{Hears: m.Hears()}
	if p := m.peer(m.leader); p != nil && m.at >= m.blind {
		x, _ := slices.BinarySearch(m.ids, m.leader)
		j.LeaderDead = m.silent(x) && m.majority(x, p.quiet, m.ofKernel) // held or not: this evicts nobody
		j.LeaderStalled = p.lagging != 0 && m.majority(x, p.lagging, m.ofDaemon(m.leaderLimit()+time.Nanosecond))
		p.dead = p.dead || j.LeaderDead
	}
	if m.at >= m.blind {
		j.Stalled = m.list(m.standsStill)
	}
	j.Dead = m.list(func(p *peer) bool { return p.dead })
	j.Rank = m.rank()
	same := m.judged && j.LeaderDead == m.judge.LeaderDead && j.LeaderStalled == m.judge.LeaderStalled &&
		j.Rank == m.judge.Rank && slices.Equal(j.Hears, m.judge.Hears) && slices.Equal(j.Dead, m.judge.Dead) && slices.Equal(j.Stalled, m.judge.Stalled)
	if same {
		return out
	}
	m.judge, m.judged = j, true
	return append(out, JudgeChanged{Judge: j})
}

// rank is this node's place among those who may lead next: by the end of the
// log, then by id. While the leader is well only ids count, so that it does not
// change with every entry. Of a node that has sent no row since the leader is in trouble
// the log is taken to be this node's: its last row may be older than the last entry,
// and two nodes must not both think that they are the first.
func (m *Machine) rank() int {
	p := m.peer(m.leader)
	trouble := !m.leads || m.troubled(p)
	var since membership.Mono
	if m.troubled(p) {
		since = max(p.since, p.quiet, p.lagging).Add(-2 * m.cfg.Timing.Interval)
	}
	type log struct {
		term, index uint64
		id          membership.NodeID
	}
	var all []log
	for _, i := range m.electable() {
		l := log{id: m.ids[i]}
		switch {
		case !trouble:
		case i == m.self || m.peers[i].rowAt < since:
			l.term, l.index = m.term, m.index
		default:
			l.term, l.index = m.peers[i].row.LastTerm, m.peers[i].row.LastIndex
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b log) int {
		return cmp.Or(cmp.Compare(b.term, a.term), cmp.Compare(b.index, a.index), cmp.Compare(a.id, b.id))
	})
	i := slices.IndexFunc(all, func(l log) bool { return l.id == m.cfg.Self })
	if i < 0 {
		return len(all)
	}
	return i
}

// troubled: it is silent, held or not, or its daemon stands still.
func (m *Machine) troubled(p *peer) bool {
	return p != nil && (p.suspect || p.quiet != 0 || p.lagging != 0)
}

// electable are the places of those who would be in the next view as far as is
// known now, the leader left out unless it is this node, or leads no more and is well.
func (m *Machine) electable() []int {
	set := make([]bool, len(m.ids))
	for i, p := range m.peers {
		leader := p.id == m.leader && (m.leads || m.troubled(p))
		set[i] = i == m.self || m.elector(p) && p.hears && !p.dead && !leader
	}
	if chosen, ok := m.choose(set); ok {
		set = chosen
	}
	var out []int
	for i, in := range set {
		if in {
			out = append(out, i)
		}
	}
	return out
}
