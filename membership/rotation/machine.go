package rotation

import (
	"maps"
	"slices"

	"github.com/quorate/quorate/membership"
)

// Machine is one node's. It is not safe for concurrent use.
type Machine struct {
	self  membership.NodeID
	order []membership.NodeID // the other configured nodes, ascending
	peers map[membership.NodeID]*peer
	now   membership.Mono

	keys  []Key
	plan  *Plan
	since membership.Mono // of the plan
	gone  map[Key]bool    // discarded: not taken again
	err   string

	busy    bool            // a Switch or a Drop is under way
	retryAt membership.Mono // none before
	allAt   membership.Mono // since when all send with the plan's key; 0: they do not
	// discard are to be dropped, by an operator's wish. This node says no more that
	// it has them, and drops them when no connected one does: until then one may
	// have decided to send with them by what was said before.
	discard []Key
}

type peer struct {
	up     bool
	downAt membership.Mono
	said   bool // something, since this daemon started
	fresh  bool // and on this connection
	word   Word
	handAt membership.Mono // not handed anything before
	tellAt membership.Mono // nor told to discard
}

// New returns the machine of a node that has nothing loaded yet.
func New(self membership.NodeID, nodes []membership.NodeID, now membership.Mono) *Machine {
	m := &Machine{self: self, peers: map[membership.NodeID]*peer{}, gone: map[Key]bool{}, now: now}
	m.SetNodes(nodes, now)
	return m
}

// SetNodes replaces the configured nodes. What is known of those that stay is kept; who
// is new has said nothing yet, and nobody waits for who is gone.
func (m *Machine) SetNodes(nodes []membership.NodeID, now membership.Mono) {
	m.now = max(m.now, now)
	m.order = nil
	for _, id := range nodes {
		if id == m.self {
			continue
		}
		if m.peers[id] == nil {
			m.peers[id] = &peer{downAt: m.now}
		}
		m.order = append(m.order, id)
	}
	slices.Sort(m.order)
	m.order = slices.Compact(m.order)
	maps.DeleteFunc(m.peers, func(id membership.NodeID, _ *peer) bool { return !slices.Contains(m.order, id) })
}

// Step takes one input and returns what is to be done about it.
func (m *Machine) Step(now membership.Mono, in Input) []Effect {
	m.now = max(m.now, now)
	switch in := in.(type) {
	case Loaded:
		m.loaded(in)
	case Up:
		if p := m.peers[in.Node]; p != nil {
			p.up, p.fresh, p.handAt, p.tellAt = true, false, 0, 0
		}
	case Down:
		if p := m.peers[in.Node]; p != nil {
			p.up, p.fresh, p.downAt = false, false, m.now
		}
	case Heard:
		m.heard(in)
	case Begin:
		m.adopt(in.Plan)
	case Discard:
		m.discarded(in.Key)
	}
	return m.settle()
}

func (m *Machine) loaded(in Loaded) {
	m.keys, m.busy, m.err = slices.Clone(in.Keys), false, in.Err
	m.retryAt = 0
	if in.Err != "" {
		m.retryAt = m.now.Add(retry)
	}
	m.discard = slices.DeleteFunc(m.discard, func(k Key) bool { return !slices.Contains(m.keys, k) })
	for i, k := range m.keys {
		switch {
		case !m.gone[k]:
		case in.Read:
			m.wanted(k)
		case i == 0:
			m.used(k)
		case !slices.Contains(m.discard, k):
			m.discard = append(m.discard, k) // it was on its way
		}
	}
	for _, k := range in.Rotated {
		m.adopt(Plan{Key: k})
	}
}

func (m *Machine) heard(in Heard) {
	p := m.peers[in.Node]
	if p == nil || !p.up {
		return
	}
	p.said, p.fresh, p.word = true, true, in.Word
	if k := in.Word.Keys[0]; slices.Contains(m.discard, k) {
		m.used(k)
	}
	if in.Word.Plan != nil {
		m.adopt(*in.Word.Plan)
	}
}

// adopt makes a plan this node's own if it is newer, and not done with here.
func (m *Machine) adopt(p Plan) {
	switch {
	case m.gone[p.Key] || m.done(p.Key):
	case m.plan == nil || p.Key.Compare(m.plan.Key) > 0:
		m.plan, m.since, m.allAt = &p, m.now, 0
	case p.Key == m.plan.Key:
		m.plan.Now = m.plan.Now || p.Now
	}
}

// done says that nothing is left to do here for a plan: this node sends with its key
// or a newer one, and has none that is older.
func (m *Machine) done(k Key) bool {
	if len(m.keys) == 0 || m.keys[0].Compare(k) < 0 {
		return false
	}
	return m.keys[0] != k || m.oldest(k) == Key{}
}

// oldest is the oldest loaded key that is older than k; zero: there is none.
func (m *Machine) oldest(k Key) (old Key) {
	for _, o := range m.keys {
		if o.Compare(k) < 0 && (old == Key{} || o.Compare(old) < 0) {
			old = o
		}
	}
	return old
}

// wanted takes a discard back.
func (m *Machine) wanted(k Key) {
	delete(m.gone, k)
	m.discard = slices.DeleteFunc(m.discard, func(o Key) bool { return o == k })
}

// used: a discard came too late, since somebody sends with the key. So all will.
func (m *Machine) used(k Key) {
	m.wanted(k)
	m.adopt(Plan{Key: k})
}

// Discarded says that a key must not be taken.
func (m *Machine) Discarded(k Key) bool { return m.gone[k] }

func (m *Machine) discarded(k Key) {
	if len(m.keys) > 0 && m.keys[0] == k {
		return // too late
	}
	m.gone[k] = true
	if m.plan != nil && m.plan.Key == k {
		m.plan = nil
	}
	if slices.Contains(m.keys, k) && !slices.Contains(m.discard, k) {
		m.discard = append(m.discard, k)
	}
}

// settle is all that can be done now.
func (m *Machine) settle() (out []Effect) {
	if m.plan != nil && m.done(m.plan.Key) {
		m.plan = nil
	}
	if len(m.keys) == 0 {
		return nil
	}
	out = append(m.hand(), m.retract()...)
	if m.busy || m.now < m.retryAt {
		return out
	}
	if e := m.change(); e != nil {
		m.busy = true
		out = append(out, e)
	}
	return out
}

// hand gives the plan's key to the connected nodes that lack it.
func (m *Machine) hand() (out []Effect) {
	if m.plan == nil || !slices.Contains(m.keys, m.plan.Key) {
		return nil
	}
	for _, id := range m.order {
		p := m.peers[id]
		if !p.fresh || p.word.has(m.plan.Key) || m.now < p.handAt {
			continue
		}
		p.handAt = m.now.Add(handEvery)
		if p.word.Err != "" {
			p.handAt = m.now.Add(retry)
		}
		out = append(out, Hand{To: id, Key: m.plan.Key})
	}
	return out
}

// retract tells the connected nodes that have a discarded key to discard it.
func (m *Machine) retract() (out []Effect) {
	for _, k := range m.discard {
		for _, id := range m.order {
			if p := m.peers[id]; p.fresh && p.word.has(k) && m.now >= p.tellAt {
				p.tellAt = m.now.Add(handEvery)
				out = append(out, Retract{To: id, Key: k})
			}
		}
	}
	return out
}

// retracted says that no connected node has a key, or will send with it.
func (m *Machine) retracted(k Key) bool {
	return !slices.ContainsFunc(m.order, func(id membership.NodeID) bool {
		p := m.peers[id]
		return p.up && (!p.fresh || p.word.has(k))
	})
}

// change is the next change of what this node has loaded, or nil.
func (m *Machine) change() Effect {
	for _, k := range m.discard {
		if k != m.keys[0] && m.retracted(k) {
			return Drop{Key: k}
		}
	}
	if m.plan == nil || !slices.Contains(m.keys, m.plan.Key) {
		return nil
	}
	k := m.plan.Key
	if m.keys[0] != k {
		if k.Compare(m.keys[0]) > 0 && len(m.lacking()) == 0 {
			return Switch{Key: k}
		}
		return nil
	}
	if len(m.behind()) > 0 {
		m.allAt = 0
		return nil
	}
	if m.allAt == 0 {
		m.allAt = m.now
	}
	if m.now < m.allAt.Add(DropAfter) {
		return nil
	}
	return Drop{Key: m.oldest(k)}
}

// lacking are the nodes that keep this one from sending with the plan's key: those
// that have not said that they have it. By force, those who are away do not count.
func (m *Machine) lacking() (ids []membership.NodeID) {
	for _, id := range m.order {
		p := m.peers[id]
		switch {
		case p.word.has(m.plan.Key) && (p.fresh || !p.up):
		case m.plan.Now && !p.up && m.now >= p.downAt.Add(AbsentAfter):
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

// behind are the nodes that have not said that they send with the plan's key or a
// newer one.
func (m *Machine) behind() (ids []membership.NodeID) {
	for _, id := range m.order {
		if p := m.peers[id]; !p.said || p.up && !p.fresh || p.word.Keys[0].Compare(m.plan.Key) < 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// Word is what this node says; nil: it has nothing loaded.
func (m *Machine) Word() *Word {
	if len(m.keys) == 0 {
		return nil
	}
	w := &Word{Keys: slices.DeleteFunc(slices.Clone(m.keys), func(k Key) bool { return k != m.keys[0] && slices.Contains(m.discard, k) }), Err: m.err[:min(len(m.err), maxErr)]}
	if m.plan != nil {
		p := *m.plan
		w.Plan = &p
	}
	return w
}
