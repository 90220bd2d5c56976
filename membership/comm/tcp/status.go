package tcp

import (
	"net/netip"
	"time"

	"github.com/quorate/quorate/membership"
)

// Status is what a Comm says of itself.
type Status struct {
	Listen []ListenStatus `json:"listen"`
	Peers  []PeerStatus   `json:"peers"` // by ascending id
}

// ListenStatus is one own address.
type ListenStatus struct {
	Addr  netip.AddrPort `json:"addr"`
	Error string         `json:"error,omitempty"` // why it does not listen, and what to do
}

// PeerStatus is one peer.
type PeerStatus struct {
	Peer       membership.NodeID `json:"peer"`
	Connected  bool              `json:"connected"`
	Since      time.Time         `json:"since,omitzero"`       // of the connection
	Addr       netip.AddrPort    `json:"addr,omitzero"`        // the peer's end of it
	Spare      netip.AddrPort    `json:"spare,omitzero"`       // the same of the connection that stands by
	Instance   uint64            `json:"instance,omitempty"`   // of the peer's daemon
	Feature    int               `json:"feature,omitempty"`    // the peer's feature level
	SameConfig bool              `json:"same_config"`          // it has the same configuration hash
	Queued     int               `json:"queued"`               // messages that wait to be written
	Dropped    uint64            `json:"dropped"`              // messages that Send did not take
	LastError  string            `json:"last_error,omitempty"` // of the last attempt or connection
	LastAt     time.Time         `json:"last_error_at,omitzero"`
}

// Status returns the state of all listeners and peers.
func (c *Comm) Status() Status {
	var st Status
	for _, a := range c.listenAddrs() {
		c.mu.Lock()
		st.Listen = append(st.Listen, ListenStatus{Addr: a, Error: c.listens[a]})
		c.mu.Unlock()
	}
	for n, i := c.nodes.Load(), 0; i < len(n.order); i++ {
		st.Peers = append(st.Peers, n.peers[n.order[i]].status())
	}
	return st
}

// Instance returns the instance of the daemon that a peer's connection goes to.
// It may be called from Connected.
func (c *Comm) Instance(id membership.NodeID) (uint64, bool) {
	p, ok := c.peer(id)
	if !ok {
		return 0, false
	}
	st := p.status()
	return st.Instance, st.Connected
}

func (p *peer) status() PeerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := PeerStatus{Peer: p.node.ID, Dropped: p.dropped, LastAt: p.errAt}
	if p.err != nil {
		st.LastError = p.err.Error()
	}
	if s := p.current; s != nil && p.up {
		st.Connected, st.Since, st.Addr = true, s.since, s.remote
		st.Instance, st.Feature = s.hello.instance, int(s.hello.feature)
		st.SameConfig = s.hello.config == p.c.opt.ConfigHash
		st.Queued = s.queued()
		if p.spare != nil {
			st.Spare = p.spare.remote
		}
	}
	return st
}
