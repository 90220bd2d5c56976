package liveness

import (
	"math/bits"
	"slices"

	"github.com/quorate/quorate/membership"
)

// maxClique is the largest view whose links are judged (safety rule S28).
const maxClique = 32

// claim is what a node's row, or this node, says of the edge to another one. The
// row of a node that is silent here is void. Of a node in an announced freeze it
// is taken that all is well.
func (m *Machine) claim(i, j int) word {
	switch {
	case m.excused(m.peers[i]) || m.excused(m.peers[j]):
		return fine
	case i == m.self:
		return m.ofPath(m.own[j])
	case m.silent(i) || !m.fresh(m.peers[i]):
		return unknown
	}
	return m.ofPath(m.peers[i].cells[j])
}

// edge joins what both ends say: lost if either says so, there if one says so
// and the other does not object.
func (m *Machine) edge(i, j int) word { return max(m.claim(i, j), m.claim(j, i)) }

// linked is an edge with no more doubt. One of which nobody speaks is there if
// both ends are heard by somebody: no one complains of it. So a node that lost
// several others does not take them for strangers to each other.
func (m *Machine) linked(i, j int) bool {
	switch m.edge(i, j) {
	case fine:
		return true
	case unknown:
		return i != m.self && j != m.self && m.heardOf(i) && m.heardOf(j)
	}
	return false
}

// heardOf: this node hears it, or a row that is not void does.
func (m *Machine) heardOf(i int) bool {
	if !m.silent(i) {
		return true
	}
	for j := range m.peers {
		if j != i && j != m.self && m.claim(j, i) == fine {
			return true
		}
	}
	return false
}

// mark notes which edges between members are lost, when that last changed, and
// whether there is any doubt at all.
func (m *Machine) mark() {
	was := m.doubt
	m.doubt = false
	changed := false
	for i, p := range m.peers {
		m.doubt = m.doubt || i != m.self && (p.suspect || p.stalled != 0 || p.lagging != 0 || p.quiet != 0 && p.id == m.leader)
		for j := i + 1; j < len(m.peers); j++ {
			lost := m.inside(i) && m.inside(j) && m.edge(i, j) == accused
			changed = changed || lost != m.down[i][j]
			m.down[i][j] = lost
			m.doubt = m.doubt || lost
		}
	}
	if m.doubt && !was {
		m.doubted = m.at
	}
	if !changed {
		return
	}
	if m.at >= m.changed.Add(m.cfg.Timing.LinkSettle) {
		m.unrest = m.at
	}
	m.changed = m.at
}

func (m *Machine) inside(i int) bool { return m.inView && (i == m.self || m.peers[i].member) }

// unlinked chooses the largest fully connected set among the members that are
// not convicted, and convicts the others. It does so link_settle after the last
// edge was lost or came back, but no later than three times that after the first
// of a row of changes, so that a flapping link cannot put it off for ever.
func (m *Machine) unlinked(alive []bool) []membership.Departure {
	if !m.lost(alive) {
		return nil
	}
	settle := m.cfg.Timing.LinkSettle
	if m.settle = min(m.changed.Add(settle), m.unrest.Add(3*settle)); m.at < m.settle {
		return nil
	}
	deciders := []membership.NodeID{m.cfg.Self}
	for i, p := range m.peers {
		switch {
		case i == m.self || !alive[i] || m.silent(i):
		case m.fresh(p) && p.rowAt >= m.changed:
			deciders = append(deciders, p.id)
		case m.at < m.changed.Add(settle):
			return nil // its row is on the way
		}
	}
	if m.quorum(deciders) == nil {
		return nil
	}
	chosen, ok := m.choose(alive)
	if !ok {
		return nil
	}
	var out []membership.Departure
	for i, in := range alive {
		if in && !chosen[i] {
			out = append(out, m.departure(i, membership.ReasonUnlinked, m.missing(i, chosen)))
		}
	}
	return out
}

// lost says whether an edge within the set is.
func (m *Machine) lost(set []bool) bool {
	for i := range m.down {
		for j := i + 1; j < len(m.down); j++ {
			if m.down[i][j] && set[i] && set[j] {
				return true
			}
		}
	}
	return false
}

// missing are the nodes that report an edge lost between x and the chosen set.
func (m *Machine) missing(x int, chosen []bool) []membership.NodeID {
	var by []membership.NodeID
	for i, in := range chosen {
		if !in {
			continue
		}
		if m.claim(i, x) == accused {
			by = append(by, m.ids[i])
		}
		if m.claim(x, i) == accused {
			by = append(by, m.ids[x])
		}
	}
	slices.Sort(by)
	return slices.Compact(by)
}

// choose returns the best quorate clique of a set.
func (m *Machine) choose(set []bool) (chosen []bool, ok bool) {
	var places []int
	for i, in := range set {
		if in {
			places = append(places, i)
		}
	}
	if len(places) == 0 || len(places) > maxClique {
		return nil, false
	}
	g := graph{adj: make([]uint32, len(places)), weight: make([]int, len(places))}
	ids := make([]membership.NodeID, len(places))
	for a, i := range places {
		ids[a] = m.ids[i]
		g.weight[a] = max(m.weight[m.ids[i]], 0)
		for b, j := range places {
			if a != b && m.linked(i, j) {
				g.adj[a] |= 1 << b
			}
		}
	}
	best := m.cliques.get(ids, g, func(s uint32) bool { return m.votes(members(ids, s)).Quorate })
	chosen = make([]bool, len(set))
	for a, i := range places {
		chosen[i] = best&(1<<a) != 0
	}
	return chosen, best != 0
}

func members(ids []membership.NodeID, s uint32) []membership.NodeID {
	out := make([]membership.NodeID, 0, bits.OnesCount32(s))
	for ; s != 0; s &= s - 1 {
		out = append(out, ids[bits.TrailingZeros32(s)])
	}
	return out
}

// graph is who is linked with whom, by ascending node id.
type graph struct {
	adj    []uint32
	weight []int
}

// clique returns the largest fully connected set that is quorate; of equal ones
// the one with more weight, then the one with the lowest id that the other has
// not. 0: there is none.
func (g graph) clique(quorate func(uint32) bool) uint32 {
	s := search{graph: g, quorate: quorate}
	s.grow(0, uint32(1)<<len(g.adj)-1, 0)
	return s.best
}

// search is the algorithm of Bron and Kerbosch with a pivot. A set that is not
// maximal need not be looked at: one that contains it is larger, and quorate if it is.
type search struct {
	graph
	quorate func(uint32) bool
	best    uint32
}

func (s *search) grow(r, p, x uint32) {
	if p == 0 {
		if x == 0 && s.better(r) && s.quorate(r) {
			s.best = r
		}
		return
	}
	if bits.OnesCount32(r|p) < bits.OnesCount32(s.best) {
		return
	}
	for c := p &^ s.adj[s.pivot(p, x)]; c != 0; c &= c - 1 {
		v := bits.TrailingZeros32(c)
		s.grow(r|1<<v, p&s.adj[v], x&s.adj[v])
		p &^= 1 << v
		x |= 1 << v
	}
}

// pivot is the vertex with the most neighbours among the candidates.
func (s *search) pivot(p, x uint32) int {
	best, most := -1, -1
	for c := p | x; c != 0; c &= c - 1 {
		v := bits.TrailingZeros32(c)
		if n := bits.OnesCount32(p & s.adj[v]); n > most {
			best, most = v, n
		}
	}
	return best
}

func (s *search) better(r uint32) bool {
	if a, b := bits.OnesCount32(r), bits.OnesCount32(s.best); a != b {
		return a > b
	}
	if a, b := s.total(r), s.total(s.best); a != b {
		return a > b
	}
	return r != s.best && r&(1<<bits.TrailingZeros32(r^s.best)) != 0
}

func (s *search) total(r uint32) int {
	sum := 0
	for ; r != 0; r &= r - 1 {
		sum += s.weight[bits.TrailingZeros32(r)]
	}
	return sum
}

// memo remembers the last two choices: the search can be long when the links are
// strange, and the links seldom change between two looks.
type memo struct {
	used [2]struct {
		ids  []membership.NodeID
		g    graph
		best uint32
	}
	turn int
}

func (c *memo) get(ids []membership.NodeID, g graph, quorate func(uint32) bool) uint32 {
	for _, u := range c.used {
		if len(ids) > 0 && slices.Equal(ids, u.ids) && slices.Equal(g.adj, u.g.adj) && slices.Equal(g.weight, u.g.weight) {
			return u.best
		}
	}
	u := &c.used[c.turn]
	c.turn = 1 - c.turn
	u.ids, u.g, u.best = ids, g, g.clique(quorate)
	return u.best
}
