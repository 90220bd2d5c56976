package liveness

import (
	"slices"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

// ConfigIn replaces what the configuration says, while the machine runs. What is
// known of the nodes that stay is kept; a new one is as one that has not answered
// yet, from now on. Nothing is judged before the next look, which is due at once.
type ConfigIn struct {
	Nodes  []membership.NodeID // all configured nodes
	Timing membership.Timing
	Policy quorum.Policy
}

func (ConfigIn) input() {}

// reconfigure takes another configuration.
func (m *Machine) reconfigure(now membership.Mono, in ConfigIn) {
	retimed := m.cfg.Timing != in.Timing
	m.cfg.Nodes, m.cfg.Timing = slices.Clone(in.Nodes), in.Timing
	m.setPolicy(in.Policy)
	for _, p := range m.peers {
		if retimed { // an answer to a probe of the old interval, and a row of that time, may look old by the new times
			p.base, p.rowVoid = max(p.base, now), true
		}
	}
	if retimed { // and the next probe may be due by the old interval
		m.woke = max(m.woke, now)
	}
	ids := append(slices.Clone(in.Nodes), m.cfg.Self)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if !slices.Equal(ids, m.ids) {
		m.replace(now, ids)
	}
	m.soon(now)
}

// setPolicy takes another rule; a choice that was made by the old one says nothing.
func (m *Machine) setPolicy(p quorum.Policy) {
	m.cfg.Policy = p
	m.cliques = memo{}
}

// replace changes the nodes. Everything that is kept by their places gets new ones.
func (m *Machine) replace(now membership.Mono, ids []membership.NodeID) {
	had := map[membership.NodeID]*peer{}
	for _, p := range m.peers {
		had[p.id] = p
	}
	m.ids, m.self = ids, slices.Index(ids, m.cfg.Self)
	if !slices.Contains(ids, m.leader) {
		m.leader = 0 // nor is it another node that is given its number
	}
	m.peers, m.own, m.down = nil, make([]Age, len(ids)), nil
	for i, id := range ids {
		p := had[id]
		if p == nil {
			p = &peer{id: id, base: now}
			_, p.member = m.view.Find(id)
		}
		m.peers = append(m.peers, p)
		m.own[i] = Age{Peer: id, Age: never, Path: never}
		m.down = append(m.down, make([]bool, len(ids)))
	}
	for _, p := range m.peers {
		if p.cells != nil {
			p.cells = m.cells(p.row)
		}
		p.accuses = nil
	}
	m.look()
}
