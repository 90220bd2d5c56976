package links

import (
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// ReturnAfter is for how long a link must have carried until what left it goes back.
const ReturnAfter = 10 * time.Second

// Path is the link that is taken to a peer.
type Path struct {
	Peer membership.NodeID
	Link int
}

// Paths chooses one link to each peer, for what can be on one at a time: the first in the
// configured order that carries. A silent link is left at once, and so is one that loses long
// packets where another does not (Machine.Avoid). To one before it in the
// order it goes back when that has carried for ReturnAfter, so that a link which comes and
// goes costs one move each time it goes. The zero value has chosen none.
type Paths struct {
	peers []path // by ascending id
}

type path struct {
	id     membership.NodeID
	link   int
	better int             // an earlier link that is well
	since  membership.Mono // since when; 0: none does
}

// Adopt begins with paths that are in use already, in any order: a daemon that starts
// knows nothing yet of what carries, and what its predecessor chose is better than a guess.
func (p *Paths) Adopt(now []Path) {
	for _, x := range now {
		p.peers = append(p.peers, path{id: x.Peer, link: x.Link})
	}
	slices.SortStableFunc(p.peers, func(a, b path) int { return int(a.id) - int(b.id) })
	p.peers = slices.CompactFunc(p.peers, func(a, b path) bool { return a.id == b.id })
}

// Choose takes what m has observed of the samples and says whether another link is taken
// to some peer than before. Peers that are not among the samples are forgotten.
func (p *Paths) Choose(now membership.Mono, m *Machine, samples []membership.Sample) (changed bool) {
	k := 0
	for len(samples) > 0 {
		n, id := 1, samples[0].Peer
		for n < len(samples) && samples[n].Peer == id {
			n++
		}
		for k < len(p.peers) && p.peers[k].id < id {
			p.peers, changed = slices.Delete(p.peers, k, k+1), true
		}
		if k == len(p.peers) || p.peers[k].id != id {
			p.peers, changed = slices.Insert(p.peers, k, path{id: id, link: -1}), true
		}
		if p.peers[k].choose(now, m, samples[:n]) {
			changed = true
		}
		samples = samples[n:]
		k++
	}
	changed = changed || k < len(p.peers)
	p.peers = p.peers[:k]
	return changed
}

// choose looks at one peer.
func (x *path) choose(now membership.Mono, m *Machine, samples []membership.Sample) (changed bool) {
	first, latest, better := -1, samples[0], -1
	here := false
	for _, s := range samples {
		here = here || s.Link == x.link
		if s.Heard > latest.Heard {
			latest = s
		}
	}
	for _, s := range samples {
		if m.avoid(x.id, s.Link) {
			continue
		}
		if first < 0 {
			first = s.Link
		}
		if better < 0 && s.Link < x.link && s.Heard != 0 && latest.Heard.Sub(s.Heard) < m.timing.DeadAfter { // a pause of either end is no link's fault
			better = s.Link
		}
	}
	if first < 0 {
		first = latest.Link // each is to be avoided: the one that was heard last
	}
	if !here || m.avoid(x.id, x.link) && first != x.link {
		x.link, x.since = first, 0
		return true
	}
	if better < 0 || x.since == 0 || better != x.better {
		x.better, x.since = better, 0
		if better >= 0 {
			x.since = now
		}
		return false
	}
	if now.Sub(x.since) < ReturnAfter {
		return false
	}
	x.link, x.since = better, 0
	return true
}

// All are the chosen paths, by ascending id of the peer.
func (p *Paths) All() []Path {
	out := make([]Path, len(p.peers))
	for i, x := range p.peers {
		out[i] = Path{Peer: x.id, Link: x.link}
	}
	return out
}

// Of is the link that is taken to a peer; -1: none was chosen.
func (p *Paths) Of(id membership.NodeID) int {
	for _, x := range p.peers {
		if x.id == id {
			return x.link
		}
	}
	return -1
}
