package links

import (
	"cmp"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// Changed says that a link of a peer is silent, or carries again; or, with Long, that it
// loses long packets, or carries them again.
type Changed struct {
	Peer   membership.NodeID
	Link   int
	Silent bool
	Age    time.Duration // since its last answer, or since the peer was heard on another link first

	Long bool
	Loss membership.LongLoss
}

// Machine watches the links of all peers as one node sees them. The zero value, given
// a Timing, has seen none. It is not safe for concurrent use.
type Machine struct {
	timing membership.Timing
	peers  []peer // by ascending id
	due    membership.Mono
}

type peer struct {
	id    membership.NodeID
	first membership.Mono // when it was heard first; 0: never
	links []link          // by index
}

type link struct {
	index  int
	heard  membership.Mono
	doubt  membership.Mono // since when the others' answers are newer by too much; 0: they are not
	steady membership.Mono // since when a silent link keeps up with the others; 0: it does not
	silent bool
	loss   membership.LongLoss
}

// New returns a machine that has heard nobody.
func New(t membership.Timing) *Machine { return &Machine{timing: t} }

// Retime replaces the times. What is silent stays so until it answers.
func (m *Machine) Retime(t membership.Timing) { m.timing = t }

// Observe takes the prober's samples, by node and link, and returns what they change, in
// their order. Peers and links that are not among them are forgotten.
func (m *Machine) Observe(now membership.Mono, samples []membership.Sample) (out []Changed) {
	m.due = 0
	k := 0
	for len(samples) > 0 {
		n, id := 1, samples[0].Peer
		for n < len(samples) && samples[n].Peer == id {
			n++
		}
		for k < len(m.peers) && m.peers[k].id < id {
			m.peers = slices.Delete(m.peers, k, k+1)
		}
		if k == len(m.peers) || m.peers[k].id != id {
			m.peers = slices.Insert(m.peers, k, peer{id: id})
		}
		out = m.look(&m.peers[k], now, samples[:n], out)
		samples = samples[n:]
		k++
	}
	m.peers = m.peers[:k]
	return out
}

// look judges the links of one peer.
func (m *Machine) look(p *peer, now membership.Mono, samples []membership.Sample, out []Changed) []Changed {
	p.take(samples)
	for i, s := range samples {
		l := &p.links[i]
		was := l.loss.Size != 0
		if l.loss = s.Long; was != (s.Long.Size != 0) {
			out = append(out, Changed{Peer: p.id, Link: l.index, Long: true, Loss: s.Long})
		}
	}
	best := membership.Mono(0)
	for _, l := range p.links {
		best = max(best, l.heard)
	}
	if p.first == 0 {
		p.first = best
	}
	if len(p.links) < 2 || best == 0 {
		return out
	}
	for i := range p.links {
		l := &p.links[i]
		from := max(l.heard, p.first)
		if m.judge(l, now, best.Sub(from)) {
			out = append(out, Changed{Peer: p.id, Link: l.index, Silent: l.silent, Age: max(now.Sub(from), 0)})
		}
		m.remind(l, now, from)
	}
	return out
}

// take puts the samples in the places of the links.
func (p *peer) take(samples []membership.Sample) {
	same := len(samples) == len(p.links)
	for i, s := range samples {
		same = same && p.links[i].index == s.Link
	}
	if !same {
		had := p.links
		p.links = make([]link, len(samples))
		for i, s := range samples {
			p.links[i].index = s.Link
			if k := slices.IndexFunc(had, func(l link) bool { return l.index == s.Link }); k >= 0 {
				p.links[i] = had[k]
			}
		}
	}
	for i, s := range samples {
		p.links[i].heard = max(p.links[i].heard, s.Heard)
	}
}

// judge says whether a link became silent, or carries again. It is behind by how much
// older its last answer is than the newest on any.
func (m *Machine) judge(l *link, now membership.Mono, behind time.Duration) (changed bool) {
	late := behind >= m.timing.DeadAfter-m.timing.Interval
	note(&l.doubt, late && !l.silent, now)
	note(&l.steady, !late && l.silent, now)
	switch {
	case l.doubt != 0 && now.Sub(l.doubt) >= m.timing.Interval:
		l.silent, l.doubt = true, 0
	case l.steady != 0 && now.Sub(l.steady) >= m.settle():
		l.silent, l.steady = false, 0
	default:
		return false
	}
	return true
}

func (m *Machine) settle() time.Duration { return m.timing.DeadAfter + 2*m.timing.Interval }

func note(since *membership.Mono, so bool, now membership.Mono) {
	switch {
	case !so:
		*since = 0
	case *since == 0:
		*since = now
	}
}

// remind sets when a look can change anything next.
func (m *Machine) remind(l *link, now, from membership.Mono) {
	at := from.Add(m.timing.DeadAfter - m.timing.Interval)
	switch {
	case l.doubt != 0:
		at = l.doubt.Add(m.timing.Interval)
	case l.steady != 0:
		at = l.steady.Add(m.settle())
	case l.silent:
		return
	}
	if at > now && (m.due == 0 || at < m.due) { // else the peer is silent on all links
		m.due = at
	}
}

// Deadline is when an Observe is due besides those by which liveness looks at its
// peers; 0: none is.
func (m *Machine) Deadline() membership.Mono { return m.due }

// Silent are the silent links of a peer, ascending.
func (m *Machine) Silent(id membership.NodeID) (out []int) {
	for _, p := range m.peers {
		for _, l := range p.links {
			if p.id == id && l.silent {
				out = append(out, l.index)
			}
		}
	}
	return out
}

// Avoid are the links of a peer that nothing is to go over, ascending: the silent ones, and
// those that lose long packets where another is well.
func (m *Machine) Avoid(id membership.NodeID) (out []int) {
	p := m.peer(id)
	if p == nil {
		return nil
	}
	for i := range p.links {
		if p.avoid(&p.links[i]) {
			out = append(out, p.links[i].index)
		}
	}
	return out
}

func (m *Machine) peer(id membership.NodeID) *peer {
	for i := range m.peers {
		if m.peers[i].id == id {
			return &m.peers[i]
		}
	}
	return nil
}

func (m *Machine) avoid(id membership.NodeID, link int) bool {
	p := m.peer(id)
	for i := 0; p != nil && i < len(p.links); i++ {
		if p.links[i].index == link {
			return p.avoid(&p.links[i])
		}
	}
	return false
}

func (p *peer) avoid(l *link) bool {
	if l.silent || l.loss.Size == 0 {
		return l.silent
	}
	for i := range p.links {
		if o := &p.links[i]; !o.silent && o.loss.Size == 0 && o.heard != 0 {
			return true
		}
	}
	return false
}

// Lost are all silent links of all peers, with the time since their last answers, by
// link and peer.
func (m *Machine) Lost(now membership.Mono) (out []Changed) {
	for _, p := range m.peers {
		for _, l := range p.links {
			if l.silent {
				out = append(out, Changed{Peer: p.id, Link: l.index, Silent: true, Age: max(now.Sub(max(l.heard, p.first)), 0)})
			}
		}
	}
	byLink(out)
	return out
}

func byLink(all []Changed) {
	slices.SortStableFunc(all, func(a, b Changed) int { return cmp.Compare(a.Link, b.Link) })
}

// LosesLong are all links of all peers that lose long packets, by link and peer.
func (m *Machine) LosesLong() (out []Changed) {
	for _, p := range m.peers {
		for _, l := range p.links {
			if l.loss.Size != 0 {
				out = append(out, Changed{Peer: p.id, Link: l.index, Long: true, Loss: l.loss})
			}
		}
	}
	byLink(out)
	return out
}
