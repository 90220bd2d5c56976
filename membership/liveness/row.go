package liveness

import (
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// word is what one row says of one node.
type word int

const (
	unknown word = iota // no row, an old one, or the sender cannot say
	fine                // it answers
	accused             // it does not
)

// row is this node's row as of the last look.
func (m *Machine) row() Row {
	r := Row{
		From: m.cfg.Self, Round: m.round, View: m.view.Number,
		LastTerm: m.term, LastIndex: m.index, Instance: m.cfg.Instance,
	}
	for i, a := range m.own {
		if i != m.self {
			r.Ages = append(r.Ages, a)
		}
	}
	return r
}

func (m *Machine) makeRow() Row {
	m.round++
	m.sent, m.everSent, m.answer = m.at, true, false
	return m.row()
}

// rowDue says whether a row goes out now: at once with news, paced when a peer
// asks for one by a new accusation, now and then in doubt, every second at rest.
func (m *Machine) rowDue(news bool) bool {
	since := m.at.Sub(m.sent)
	return news || !m.everSent || since >= restEvery ||
		m.answer && since >= m.pace() ||
		m.doubt && min(since, m.at.Sub(m.doubted)) >= m.doubtEvery()
}

// doubtEvery is between two rows in doubt; those say nothing that news and answers have not.
// After an interval all would come when the last node begins to suspect a dead one, and be
// in the way of what is agreed on then.
func (m *Machine) doubtEvery() time.Duration { return m.cfg.Timing.Interval * 3 / 2 }

// rowIn keeps a peer's row. Nothing is judged before the next look, which is
// asked for when the row says something new.
func (m *Machine) rowIn(now membership.Mono, r Row) {
	i, ok := slices.BinarySearch(m.ids, r.From)
	if !ok || i == m.self {
		return
	}
	p := m.peers[i]
	if p.cells != nil && r.Instance != 0 && r.Instance == p.row.Instance && r.Round <= p.row.Round {
		return // an older one that was overtaken
	}
	awaited := m.doubt && !m.fresh(p)
	p.row, p.rowAt, p.rowVoid = r, now, false
	p.cells = m.cells(r)
	before := p.accuses
	p.accuses = m.accusations(p)
	for j, a := range p.accuses {
		was := before != nil && before[j]
		m.peers[j].asked = m.peers[j].asked || a && !was
		awaited = awaited || a != was
	}
	if awaited {
		m.soon(now)
	}
}

// answers says whether a row is asked for by an accusation that this node can say
// something of. While the accused has left a probe or more unanswered here as well, there
// is nothing to say: either it answers soon, or this node's own suspicion sends the row.
// When that has begun there is nothing new to say. When a machine dies all others accuse
// it within an interval, and each of them would answer each other one.
func (m *Machine) answers() {
	for j, p := range m.peers {
		age := m.own[j].Age
		m.answer = m.answer || p.asked && age < m.patience()
		p.asked = p.asked && age >= m.patience() && age < m.cfg.Timing.DeadAfter
	}
}

// patience is the longest age of a peer that has answered each probe in time.
func (m *Machine) patience() time.Duration { return m.cfg.Timing.Interval * 3 / 2 }

// cells puts a row's ages in their places. What is not configured, or makes no
// sense, is no evidence.
func (m *Machine) cells(r Row) []Age {
	cells := make([]Age, len(m.ids))
	for i, id := range m.ids {
		cells[i] = Age{Peer: id, Age: never, Path: never}
	}
	for _, a := range r.Ages {
		if i, ok := slices.BinarySearch(m.ids, a.Peer); ok && a.Peer != r.From {
			a.Age, a.Path, a.DaemonAge = max(a.Age, never), max(a.Path, never), max(a.DaemonAge, 0)
			cells[i] = a
		}
	}
	return cells
}

// accusations are the nodes that a row calls silent, cut or standing still. A
// row of a node outside the view accuses nobody.
func (m *Machine) accusations(p *peer) []bool {
	acc := make([]bool, len(m.ids))
	for j, a := range p.cells {
		q := m.peers[j]
		if !m.elector(p) || j != m.self && !m.watched(q) {
			continue
		}
		silent := a.Age >= m.cfg.Timing.DeadAfter || a.Path >= m.cfg.Timing.DeadAfter
		slow := a.DaemonAge >= m.stallLimit(q.id) || q.id == m.leader && a.DaemonAge > m.leaderLimit()
		acc[j] = silent || slow && j != m.self
	}
	return acc
}

// fresh: the row counts at all.
func (m *Machine) fresh(p *peer) bool {
	return p.cells != nil && !p.rowVoid && m.at.Sub(p.rowAt) <= m.window()
}

// recent: the row is the newest that a peer at rest would have sent.
func (m *Machine) recent(p *peer) bool {
	return p.cells != nil && !p.rowVoid && m.at.Sub(p.rowAt) <= 3*restEvery
}

// says is what a peer's row says of a node suspected since then. A row that
// acquits was received after the suspicion began; one that accuses may be two
// intervals older, because its sender then began to suspect before this node.
func (m *Machine) says(p *peer, x int, since membership.Mono, read func(Age) word) word {
	if !m.fresh(p) {
		return unknown
	}
	w := read(p.cells[x])
	if w == fine && p.rowAt < since || w == accused && p.rowAt < since.Add(-2*m.cfg.Timing.Interval) {
		return unknown
	}
	return w
}

// ofKernel reads a cell for silence on all links.
func (m *Machine) ofKernel(a Age) word { return m.compare(a.Age) }

// ofPath reads a cell for silence on the DLM's path.
func (m *Machine) ofPath(a Age) word { return m.compare(a.Path) }

func (m *Machine) compare(age time.Duration) word {
	switch {
	case age < 0:
		return unknown
	case age < m.cfg.Timing.DeadAfter:
		return fine
	}
	return accused
}

// ofDaemon reads a cell for a daemon that stands still for so long.
func (m *Machine) ofDaemon(limit time.Duration) func(Age) word {
	return func(a Age) word {
		switch {
		case m.ofKernel(a) != fine:
			return unknown
		case a.DaemonAge < limit:
			return fine
		}
		return accused
	}
}
