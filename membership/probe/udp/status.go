package udp

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/quorate/quorate/membership"
)

// Status is what a Prober says of itself.
type Status struct {
	Links    []LinkStatus      `json:"links"`
	Peers    []PeerStatus      `json:"peers"` // by node and link
	Counters map[string]uint64 `json:"counters"`
	Warnings []string          `json:"warnings,omitempty"` // each says what to do
}

// LinkStatus is one own address.
type LinkStatus struct {
	Link int            `json:"link"`
	Addr netip.AddrPort `json:"addr"`
	Open bool           `json:"open"`
}

// PeerStatus is one peer on one link.
type PeerStatus struct {
	Peer   membership.NodeID `json:"peer"`
	Link   int               `json:"link"`
	Addr   netip.AddrPort    `json:"addr"`
	Learnt uint64            `json:"learnt,omitempty"` // instance whose answers count
	Seen   uint64            `json:"seen,omitempty"`   // instance that answered last, whether it counts or not
}

// Status returns the state of links and peers, and what works less than it should.
func (p *Prober) Status() Status {
	st := Status{Counters: p.Counters()}
	for _, l := range p.links {
		st.Links = append(st.Links, LinkStatus{Link: l.index, Addr: l.addr, Open: l.fd.Load() >= 0})
	}
	for _, t := range p.table.Load().targets {
		t.mu.Lock()
		st.Peers = append(st.Peers, PeerStatus{Peer: t.peer, Link: t.link.index, Addr: t.addr, Learnt: t.sample.Instance, Seen: t.seen})
		t.mu.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(p.warnings)) {
		st.Warnings = append(st.Warnings, p.warnings[k])
	}
	return st
}

// warn sets the warning about something; true when it is a new one.
func (p *Prober) warn(what, format string, args ...any) bool {
	text := fmt.Sprintf(format, args...)
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := p.warnings[what] != text
	p.warnings[what] = text
	return fresh
}

func (p *Prober) unwarn(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.warnings, what)
}
