package liveness

import (
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// never is the age of a peer that has not answered.
const never = time.Duration(-1)

// calmAfter is how long a node must answer everybody until its evictions are forgotten.
const calmAfter = 10 * time.Minute

// maxSteady is the longest that an evicted node must answer before it is Steady.
const maxSteady = time.Minute

// peer is what this node knows of another one.
type peer struct {
	id    membership.NodeID
	heard membership.Mono // last answer on any link, moved by own pauses; 0 never
	path  membership.Mono // the same on the DLM's path
	base  membership.Mono // silence is counted from here at the earliest
	hold  membership.Mono // until when a freeze was announced; 0: none was

	answered  membership.Mono // the newest answer's own stamp
	daemonAge time.Duration   // as of that answer
	progress  membership.Mono // of its daemon, the last by its answers, moved by own pauses
	instance  uint64

	member  bool
	hears   bool // answered within dead_after
	suspect bool
	onPath  bool // suspect for the DLM's path alone
	told    bool // and that was told
	since   membership.Mono
	quiet   membership.Mono // since when it is silent, held or not; 0: it is not
	stalled membership.Mono // since when its daemon is over the stall limit; 0: it is not
	lagging membership.Mono // since when the leader's daemon is over three heartbeats
	dead    bool            // convicted, and not heard since

	row     Row
	cells   []Age // of its row, by place; nil: no row
	rowAt   membership.Mono
	rowVoid bool // received before an own pause
	accuses []bool
	asked   bool // a row accused it newly, and was not answered

	calmSince membership.Mono // since when everybody hears it; 0: somebody does not
	shaken    bool            // was suspected
	evictions int
}

// last is the moment from which silence on all links counts.
func (p *peer) last() membership.Mono { return max(p.heard, p.base) }

// lastPath is the same for the DLM's path.
func (p *peer) lastPath() membership.Mono { return max(p.path, p.base) }

// overslept returns how long this node has not looked, if an Observed was due
// for longer than a timer may be late.
func (m *Machine) overslept(now membership.Mono) time.Duration {
	if !m.looked || now.Sub(m.due) <= m.slack() {
		return 0
	}
	return now.Sub(m.at)
}

// ask looks whether this node asks at all. Who is silent while its prober stands still was not
// asked, so that time counts against nobody, as no time does in which it did not look. Nor
// does it say then that anybody answers: the others decide without it.
func (m *Machine) ask(now membership.Mono, samples []membership.Sample, out []Effect) []Effect {
	var asked membership.Mono
	for _, s := range samples {
		asked = max(asked, s.Asked)
	}
	known := asked != 0
	asked = max(asked, m.woke) // who did not look most likely did not ask either
	was := m.mute
	t := m.cfg.Timing
	m.mute = known && now.Sub(asked) > max(t.DeadAfter/2, t.Interval+m.slack())
	switch {
	case m.mute && !was:
		gap := now.Sub(asked)
		m.muted = asked
		m.shift(now, gap)
		return append(out, Paused{For: gap, Mute: true})
	case m.mute || was:
		m.shift(now, now.Sub(m.at))
	}
	return out
}

// Mute says that this node has sent no probes for too long, as of the last look.
func (m *Machine) Mute() bool { return m.mute }

// hearsNobody: it has been mute for so long that it counts as connected with nobody. It still
// accuses nobody.
func (m *Machine) hearsNobody() bool { return m.mute && m.at.Sub(m.muted) >= m.cfg.Timing.StallLimit }

// slack is how late a timer may be.
func (m *Machine) slack() time.Duration {
	t := m.cfg.Timing
	return min(max(t.Interval, 20*time.Millisecond), t.DeadAfter/4)
}

// shift moves everything that was counted since the last look by the pause.
func (m *Machine) shift(now membership.Mono, gap time.Duration) {
	move := func(at *membership.Mono) {
		if *at != 0 {
			*at = min(at.Add(gap), now)
		}
	}
	for _, p := range m.peers {
		for _, at := range []*membership.Mono{&p.progress, &p.heard, &p.path, &p.base, &p.since, &p.quiet, &p.stalled, &p.lagging} {
			move(at)
		}
		p.rowVoid = true
		p.answered, p.daemonAge = now, 0 // an older answer says nothing of now
	}
	move(&m.changed)
	move(&m.unrest)
	m.at, m.due = now, now
	m.blind = now.Add(2 * m.cfg.Timing.Interval)
}

// absorb takes the prober's samples. Heard never goes back.
func (m *Machine) absorb(samples []membership.Sample, blocked []membership.NodeID) {
	zero := make([]bool, len(m.ids)) // has a link 0
	for _, s := range samples {
		if i, ok := slices.BinarySearch(m.ids, s.Peer); ok && s.Link == 0 {
			zero[i] = true
		}
	}
	for _, s := range samples {
		i, ok := slices.BinarySearch(m.ids, s.Peer)
		if !ok || i == m.self || s.Heard == 0 {
			continue
		}
		p, at := m.peers[i], min(s.Heard, m.at)
		p.heard = max(p.heard, at)
		if (s.Link == 0 || m.cfg.AnyLink || !zero[i]) && !slices.Contains(blocked, s.Peer) {
			p.path = max(p.path, at)
		}
		if at > p.answered || at == p.answered && s.DaemonAge < p.daemonAge {
			p.answered, p.daemonAge, p.instance = at, max(s.DaemonAge, 0), s.Instance
			p.progress = max(p.progress, at.Add(-p.daemonAge))
		}
	}
}

// look makes this node's own cells.
func (m *Machine) look() {
	for i, p := range m.peers {
		if i == m.self {
			continue
		}
		m.own[i] = Age{
			Peer: p.id, Age: m.cell(p.heard, p.last()), Path: m.cell(p.path, p.lastPath()),
			DaemonAge: p.daemonAge, Instance: p.instance,
		}
	}
}

// cell is an age as rows give it; a peer that never answered counts once it was
// looked for long enough. Who asks nobody knows none.
func (m *Machine) cell(heard, from membership.Mono) time.Duration {
	age := max(m.at.Sub(from), 0)
	if m.mute || heard == 0 && age < m.cfg.Timing.DeadAfter {
		return never
	}
	return age
}

// watched says whose silence matters: the members', and the leader's.
func (m *Machine) watched(p *peer) bool { return p.member || p.id == m.leader }

func (m *Machine) silent(i int) bool { return m.own[i].Age >= m.cfg.Timing.DeadAfter }
func (m *Machine) cut(i int) bool    { return m.own[i].Path >= m.cfg.Timing.DeadAfter }

// excused: its freeze was announced, or a maintenance of the cluster, and it has not yet had dead_after since the
// end of that. Its ages are what they are; nobody is evicted for them.
func (m *Machine) excused(p *peer) bool {
	until := max(p.hold, m.calmed)
	return until != 0 && m.at < until.Add(m.cfg.Timing.DeadAfter)
}

// suspicions begins and ends them. news says that others should know at once.
func (m *Machine) suspicions(out []Effect) (_ []Effect, news bool) {
	for i, p := range m.peers {
		if i == m.self {
			continue
		}
		hears := p.heard != 0 && m.at.Sub(p.heard) < m.cfg.Timing.DeadAfter && !m.hearsNobody()
		news = news || hears != p.hears
		p.hears = hears
		p.dead = p.dead && !hears
		silent, was := m.silent(i), p.suspect
		p.note(&p.quiet, silent && m.watched(p), m.at)
		p.suspect = m.watched(p) && (silent || m.cut(i)) && !m.excused(p)
		switch {
		case p.suspect && (!was || silent == p.onPath):
			p.since, p.onPath = m.at, !silent
			news = true
			if p.told = p.member || m.leads; p.told { // who led last and left is silent for a good reason
				p.shaken = true
				out = append(out, Suspected{Node: p.id, Silent: m.own[i].Path, Path: p.onPath})
			}
		case was && !p.suspect && m.watched(p): // of one that was evicted the view tells everybody
			news = true
			if p.told {
				out = append(out, Cleared{Node: p.id})
			}
		}
		news = m.daemon(p) || news
	}
	return out, news
}

// daemon notes a daemon that stands still while its kernel answers.
func (m *Machine) daemon(p *peer) (news bool) {
	slow := p.hears && m.watched(p)
	stalled := p.note(&p.stalled, slow && p.member && p.daemonAge >= m.stallLimit(p.id), m.at)
	lagging := p.note(&p.lagging, slow && p.id == m.leader && p.daemonAge > m.leaderLimit(), m.at)
	return stalled || lagging
}

// note keeps since when something is so, 0: it is not. It says whether that changed.
func (*peer) note(since *membership.Mono, so bool, now membership.Mono) (changed bool) {
	if so == (*since != 0) {
		return false
	}
	*since = 0
	if so {
		*since = now
	}
	return true
}

// standsStill: its kernel answers, and by those answers its daemon has not gone on for
// the stall limit, in which this node itself looked: what stopped this one may have
// stopped both.
func (m *Machine) standsStill(p *peer) bool {
	return p.hears && !m.excused(p) && p.answered.Sub(p.progress) >= m.stallLimit(p.id)
}

func (m *Machine) stallLimit(n membership.NodeID) time.Duration {
	if slices.Contains(m.waits, n) {
		return m.cfg.Timing.RecoveryStall
	}
	return m.cfg.Timing.StallLimit
}

// leaderLimit is about three heartbeats.
func (m *Machine) leaderLimit() time.Duration {
	return max(3*m.cfg.Timing.Interval, 100*time.Millisecond)
}

// viewIn takes a view. Who enters it is given dead_after from now.
func (m *Machine) viewIn(now membership.Mono, in ViewIn) {
	old := m.view
	m.view, m.weight = in.View, in.Weight
	_, m.inView = in.View.Find(m.cfg.Self)
	for _, p := range m.peers {
		was, wasIn := old.Find(p.id)
		is, isIn := in.View.Find(p.id)
		p.member = isIn
		if isIn && (!wasIn || was != is) {
			p.base, p.dead = max(p.base, now), false
		}
		if was != is {
			p.hold = 0
		}
		if wasIn && isIn && was != is {
			p.cells, p.accuses = nil, nil
		}
	}
	if in.View.Number != old.Number {
		m.countEvictions(in.View.Left)
		m.verdict = nil
	}
	m.soon(now)
}

func (m *Machine) countEvictions(left []membership.Departure) {
	for _, d := range left {
		p := m.peer(d.Incarnation.Node)
		if p == nil {
			continue
		}
		switch d.Reason {
		case membership.ReasonSilent, membership.ReasonUnlinked, membership.ReasonStalled, membership.ReasonStuck:
			p.evictions++
			p.calmSince = 0
		}
	}
}

// calm notes since when everybody hears a node.
func (m *Machine) calm() {
	for i, p := range m.peers {
		switch {
		case i == m.self:
		case !m.everybodyHears(i):
			p.calmSince = 0
		case p.calmSince == 0:
			p.calmSince = m.at
		case m.at.Sub(p.calmSince) >= calmAfter:
			p.evictions, p.shaken = 0, false
		}
	}
}

// everybodyHears: this node does, and so do the members that it hears, by their
// last rows; and the node hears them, by its own.
func (m *Machine) everybodyHears(i int) bool {
	_, whom := m.deaf(i)
	return whom == 0
}

// deaf is a node that does not hear another, of a node and those who have to hear it; 0: none is.
func (m *Machine) deaf(i int) (who, whom membership.NodeID) {
	x := m.peers[i]
	if !x.hears || m.own[i].Path < 0 || m.cut(i) {
		return m.ids[m.self], x.id
	}
	ok := func(a Age) bool { return a.Path >= 0 && a.Path < m.cfg.Timing.DeadAfter }
	for j, p := range m.peers {
		if j == i || j == m.self || !p.member || !p.hears {
			continue
		}
		if m.recent(p) && !ok(p.cells[i]) {
			return p.id, x.id
		}
		if m.recent(x) && !ok(x.cells[j]) {
			return x.id, p.id
		}
	}
	return 0, 0
}

// Probation is what a node lacks of being Steady.
type Probation struct {
	Evicted     bool              // it was, else suspected, or never
	Whole, Left time.Duration     // to answer everybody without a gap
	Who, Whom   membership.NodeID // who does not hear whom, so that nothing of Left passes; 0: everybody hears it
}

// Probation says why a node is not Steady.
func (m *Machine) Probation(n membership.NodeID) Probation {
	p := m.peer(n)
	if p == nil {
		return Probation{}
	}
	b := Probation{Evicted: p.evictions > 0, Whole: m.steadyTime(p)}
	b.Left = b.Whole
	if i, ok := slices.BinarySearch(m.ids, n); ok && p.calmSince == 0 {
		b.Who, b.Whom = m.deaf(i)
		return b
	}
	b.Left = max(b.Whole-m.at.Sub(p.calmSince), 0)
	return b
}

// Steady says whether a node has answered everybody for long enough to be
// admitted: at once if it was never suspected, link_settle after a suspicion, a
// second or link_settle after an eviction, and twice as long after each further
// one, up to a minute. Ten minutes without trouble forget them.
func (m *Machine) Steady(n membership.NodeID) bool {
	p := m.peer(n)
	if p == nil || p.calmSince == 0 {
		return false
	}
	return m.at.Sub(p.calmSince) >= m.steadyTime(p)
}

func (m *Machine) steadyTime(p *peer) time.Duration {
	settle := m.cfg.Timing.LinkSettle
	switch {
	case p.evictions > 0:
		return min(max(settle, time.Second)<<min(p.evictions-1, 10), maxSteady)
	case p.shaken:
		return settle
	}
	return 0
}
