package liveness

import (
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// restEvery is how often a row is sent, and a standing verdict repeated, when
// nothing asks for it sooner.
const restEvery = time.Second

// Machine judges the liveness of a cluster's nodes as one of them sees it. It is
// not safe for concurrent use.
type Machine struct {
	cfg   Config
	ids   []membership.NodeID // configured nodes with Self, ascending
	self  int                 // Self's place in ids
	peers []*peer             // by place in ids; Self's own says nothing

	view   membership.View
	inView bool
	weight map[membership.NodeID]int
	leader membership.NodeID   // the last that was known
	leads  bool                // and it is still
	waits  []membership.NodeID // a lockspace change waits for them
	term   uint64
	index  uint64

	mute     bool            // it asks nobody: see ask
	muted    membership.Mono // since when, by the last probe
	woke     membership.Mono // the end of the last own pause, or the last change of times: before it nobody had to be asked
	looked   bool            // an Observed was given
	at       membership.Mono // of the newest Observed, or the end of a pause
	due      membership.Mono // the next Observed
	blind    membership.Mono // no verdict before, after a pause
	calmed   membership.Mono // until when a maintenance was announced; 0: none was
	round    uint64
	own      []Age // this node's cells, by place
	sent     membership.Mono
	everSent bool
	answer   bool            // a peer wants a fresh row
	doubt    bool            // something is suspect: rows every interval
	doubted  membership.Mono // since when

	down      [][]bool        // which edges are reported lost, by places i < j
	changed   membership.Mono // when that last changed
	unrest    membership.Mono // when the first of a row of changes was
	settle    membership.Mono // when the clique is chosen; 0: nothing to settle
	cliques   memo
	verdict   []membership.Departure
	verdictAt membership.Mono
	quorate   bool
	witness   bool // it is heard
	judge     membership.GroupJudge
	judged    bool
}

// New returns a machine that has heard nobody yet and holds no quorum.
func New(cfg Config, now membership.Mono) *Machine {
	ids := append(slices.Clone(cfg.Nodes), cfg.Self)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	m := &Machine{cfg: cfg, ids: ids, self: slices.Index(ids, cfg.Self), at: now, due: now}
	m.own = make([]Age, len(ids))
	for i, id := range ids {
		m.peers = append(m.peers, &peer{id: id, base: now})
		m.own[i] = Age{Peer: id, Age: never, Path: never}
		m.down = append(m.down, make([]bool, len(ids)))
	}
	return m
}

// Step takes one input and returns what is to be done about it, in order.
func (m *Machine) Step(now membership.Mono, in Input) []Effect {
	var out []Effect
	if gap := m.overslept(now); gap > 0 {
		m.shift(now, gap)
		m.woke = now
		out = append(out, Paused{For: gap})
	}
	switch in := in.(type) {
	case Observed:
		out = m.observe(now, in, out)
	case RowIn:
		m.rowIn(now, in.Row)
	case ViewIn:
		m.viewIn(now, in)
	case LogIn:
		m.term, m.index = in.Term, in.Index
	case Leader:
		if leads := in.Node != 0; m.leads != leads || leads && m.leader != in.Node {
			if m.leads = leads; leads {
				m.leader = in.Node
			}
			m.soon(now)
		}
	case RecoveryWait:
		if !slices.Equal(m.waits, in.Nodes) {
			m.waits = slices.Clone(in.Nodes)
			m.soon(now)
		}
	case Anew:
		if p := m.peer(in.Node); p != nil {
			p.evictions, p.shaken = 0, true
		}
	case PolicyIn:
		m.setPolicy(in.Policy)
		m.soon(now)
	case WitnessIn:
		if m.witness != in.Heard {
			m.witness, m.cliques = in.Heard, memo{}
			m.soon(now)
		}
	case Maintenance:
		m.calmed = in.Until
		m.soon(now)
	case ConfigIn:
		m.reconfigure(now, in)
	case Hold:
		if p := m.peer(in.Node); p != nil {
			p.hold = in.Until
			m.soon(now)
		}
	}
	return out
}

// observe is one look at the peers and everything that follows from it.
func (m *Machine) observe(now membership.Mono, in Observed, out []Effect) []Effect {
	if !m.looked {
		m.looked = true
		for _, p := range m.peers {
			p.base = max(p.base, now)
		}
	}
	out = m.ask(now, in.Samples, out)
	m.at = max(m.at, now)
	m.absorb(in.Samples, in.Blocked)
	m.look()
	out, news := m.suspicions(out)
	m.mark()
	m.calm()
	m.answers()
	verdict := m.deliberate()
	out = m.ownQuorum(out)
	if m.rowDue(news) {
		out = append(out, SendRow{Row: m.makeRow()})
	}
	out = m.tellJudge(out)
	out = m.tellVerdict(verdict, out)
	m.due = m.next()
	return out
}

// soon asks for an Observed now.
func (m *Machine) soon(now membership.Mono) { m.due = min(m.due, now) }

// Deadline is when an Observed input is due; it may be now.
func (m *Machine) Deadline() membership.Mono { return m.due }

// next is the earliest moment at which a look could change anything. It is after
// the last look.
func (m *Machine) next() membership.Mono {
	t := m.cfg.Timing
	due := min(m.at.Add(m.watch()), m.sent.Add(restEvery))
	later := func(at membership.Mono) {
		if at > m.at {
			due = min(due, at)
		}
	}
	for i, p := range m.peers {
		if i == m.self || !m.watched(p) {
			continue
		}
		later(p.last().Add(t.DeadAfter))
		later(p.lastPath().Add(t.DeadAfter))
		later(p.hold.Add(t.DeadAfter))
		if p.suspect {
			later(p.since.Add(t.LinkSettle))
		}
	}
	if m.doubt {
		later(m.at.Add(t.Interval))
		later(max(m.sent, m.doubted).Add(m.doubtEvery()))
	}
	if m.answer {
		later(m.sent.Add(m.pace()))
	}
	if slices.ContainsFunc(m.peers, func(p *peer) bool { return p.asked }) {
		later(m.at.Add(m.pace()))
	}
	if len(m.verdict) > 0 {
		later(m.verdictAt.Add(restEvery))
	}
	later(m.settle)
	later(m.calmed.Add(t.DeadAfter))
	later(m.blind)
	return due
}

// watch is the longest time between two looks. With slack it bounds what a pause
// can add to an age unnoticed: see CheckTiming.
func (m *Machine) watch() time.Duration {
	return max(m.cfg.Timing.Interval, m.cfg.Timing.DeadAfter/4)
}

// pace is the shortest time between two rows that only answer.
func (m *Machine) pace() time.Duration { return max(m.cfg.Timing.Interval/4, time.Millisecond) }

// window is how long a row counts.
func (m *Machine) window() time.Duration {
	return m.cfg.Timing.DeadAfter + 2*m.cfg.Timing.Interval
}

func (m *Machine) peer(n membership.NodeID) *peer {
	if i, ok := slices.BinarySearch(m.ids, n); ok && i != m.self {
		return m.peers[i]
	}
	return nil
}

// Hears are the peers that answered within dead_after, by ascending node id.
func (m *Machine) Hears() []membership.NodeID {
	return m.list(func(p *peer) bool { return p.hears })
}

// Suspects are the nodes under suspicion, by ascending node id.
func (m *Machine) Suspects() []membership.NodeID {
	return m.list(func(p *peer) bool { return p.suspect })
}

func (m *Machine) list(is func(*peer) bool) []membership.NodeID {
	var ids []membership.NodeID
	for i, p := range m.peers {
		if i != m.self && is(p) {
			ids = append(ids, p.id)
		}
	}
	return ids
}

// Age is the time since the node's kernel last answered, as of the last look; -1: never.
func (m *Machine) Age(n membership.NodeID) time.Duration {
	p := m.peer(n)
	if p == nil || p.heard == 0 {
		return never
	}
	return max(m.at.Sub(p.heard), 0)
}

// Matrix is the own row as of the last look and the newest row of every peer, by node id.
func (m *Machine) Matrix() []Row {
	var rows []Row
	for i, p := range m.peers {
		switch {
		case i == m.self:
			rows = append(rows, m.row())
		case p.cells != nil:
			rows = append(rows, p.row)
		}
	}
	return rows
}
