package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/liveness"
)

// Protocol is the version of the messages between daemons.
const Protocol = 1

// Kinds of messages: the first byte.
const (
	kindGroup = 'G'
	kindRow   = 'R'
	kindHello = 'H'
)

func envelope(kind byte, data []byte) []byte {
	return append([]byte{kind}, data...)
}

// GroupMessage returns what the groups say to each other in a message between
// daemons; ok is false for all other messages.
func GroupMessage(data []byte) (body []byte, ok bool) {
	if len(data) == 0 || data[0] != kindGroup {
		return nil, false
	}
	return data[1:], true
}

// Hello is what daemons tell each other of themselves, when a connection comes
// up and every second.
type Hello struct {
	Protocol int               `json:"protocol"`
	Boot     membership.BootID `json:"boot"`
	Instance uint64            `json:"instance"`
	Machine  string            `json:"machine"`
	Version  string            `json:"version"`
	Digest   string            `json:"digest"`
	Digests  map[string]string `json:"digests,omitempty"`
	Leaving  bool              `json:"leaving,omitempty"`
	Holding  []string          `json:"holding,omitempty"` // lockspaces in its kernel
	// Orders is who orders for it, and Listed the agreed list, where membership
	// is a list's word.
	Orders membership.NodeID   `json:"orders,omitempty"`
	Listed []membership.NodeID `json:"listed,omitempty"`
}

const maxHello = 64 << 10

func (n *Node) sayHello(to membership.NodeID) {
	h := Hello{Protocol: Protocol, Boot: n.id.Boot, Instance: n.id.Instance, Machine: n.id.Machine, Version: n.id.Version,
		Digest: n.id.Digest, Digests: n.id.Digests, Leaving: n.leaving != nil || n.left(), Holding: n.local.Holding()}
	if n.list != nil {
		h.Orders, h.Listed = n.leader, n.st.Listed
	}
	b, err := json.Marshal(h)
	if err != nil {
		n.break_("hello: " + err.Error())
		return
	}
	n.do(Send{To: to, Data: envelope(kindHello, b)})
}

func (n *Node) helloAll() {
	for _, id := range n.peerIDs() {
		if n.peers[id].connected {
			n.sayHello(id)
		}
	}
	n.helloAt = n.now.Add(helloEvery)
}

func (n *Node) broadcast(data []byte) {
	for _, id := range n.peerIDs() {
		if n.peers[id].connected {
			n.do(Send{To: id, Data: data})
		}
	}
}

func (n *Node) peerIDs() []membership.NodeID {
	ids := make([]membership.NodeID, 0, len(n.peers))
	for _, c := range n.cfg.Nodes {
		if n.peers[c.ID] != nil {
			ids = append(ids, c.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

func (n *Node) connected(id membership.NodeID) {
	p := n.peers[id]
	if p == nil {
		return
	}
	p.connected, p.err = true, ""
	p.hello = nil // what was said before may be of another boot
	n.emit(membership.Event{Kind: membership.KindPeer, Subject: id, Text: "connected"})
	n.sayHello(id)
	n.step(membership.GroupLink{Peer: id, Up: true})
}

func (n *Node) disconnected(in Disconnected) {
	p := n.peers[in.Peer]
	if p == nil {
		return
	}
	if p.connected || p.err != in.Err {
		n.emit(membership.Event{Kind: membership.KindPeer, Subject: in.Peer, Text: "disconnected: " + in.Err})
	}
	p.err = in.Err
	if p.connected {
		p.connected = false
		n.step(membership.GroupLink{Peer: in.Peer})
	}
}

func (n *Node) received(in Received) {
	p := n.peers[in.From]
	if p == nil || len(in.Data) == 0 {
		return
	}
	switch body := in.Data[1:]; in.Data[0] {
	case kindGroup:
		n.step(membership.GroupReceive{From: in.From, Data: body})
	case kindRow:
		n.gotRow(in.From, p, body)
	case kindHello:
		n.gotHello(in.From, p, body)
	default:
		n.refusePeer(in.From, p, fmt.Sprintf("message of unknown kind %d", in.Data[0]))
	}
}

// DecodeRow reads a row as it came from a peer.
func DecodeRow(b []byte) (liveness.Row, error) {
	var r liveness.Row
	if len(b) > maxHello {
		return r, fmt.Errorf("row of %d bytes", len(b))
	}
	err := json.Unmarshal(b, &r)
	return r, err
}

func encodeRow(r liveness.Row) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic("node: a row that cannot be encoded: " + err.Error())
	}
	return b
}

func (n *Node) gotRow(from membership.NodeID, p *peer, b []byte) {
	r, err := DecodeRow(b)
	if err != nil || r.From != from {
		n.refusePeer(from, p, "row that cannot be read")
		return
	}
	p.row, p.rowAt = &r, n.now
	n.liveness(liveness.RowIn{Row: r})
}

// DecodeHello reads a hello as it came from a peer.
func DecodeHello(b []byte) (Hello, error) {
	var h Hello
	if len(b) > maxHello {
		return h, fmt.Errorf("hello of %d bytes", len(b))
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, err
	}
	if h.Boot == "" || h.Instance == 0 {
		return h, fmt.Errorf("hello without a boot id or an instance")
	}
	return h, nil
}

func (n *Node) gotHello(from membership.NodeID, p *peer, b []byte) {
	h, err := DecodeHello(b)
	if err != nil {
		n.refusePeer(from, p, "hello that cannot be read: "+err.Error())
		return
	}
	if p.hello == nil || p.hello.Instance != h.Instance {
		n.do(LearnEpoch{Peer: from, Instance: h.Instance})
		n.sayHello(from)
	}
	if rec := n.st.Node(from); rec != nil && rec.Last.Boot != h.Boot && (p.hello == nil || p.hello.Boot != h.Boot) {
		n.liveness(liveness.Anew{Node: from})
	}
	p.hello, p.helloAt = &h, n.now
	p.differs = differing(n.id, h)
	n.outcast(from, p.hello)
}

// differing names the configuration keys that a peer has otherwise.
func differing(id Identity, h Hello) []string {
	if h.Digest == id.Digest {
		return nil
	}
	keys := map[string]bool{}
	for k, v := range id.Digests {
		if h.Digests[k] != v {
			keys[k] = true
		}
	}
	for k, v := range h.Digests {
		if id.Digests[k] != v {
			keys[k] = true
		}
	}
	out := make([]string, 0, len(keys))
	for k := range keys {
		out = append(out, k)
	}
	slices.Sort(out)
	if len(out) == 0 {
		out = []string{"(whole file)"}
	}
	return out
}

// refusePeer logs once what a peer is refused for.
func (n *Node) refusePeer(id membership.NodeID, p *peer, why string) {
	if p.said == why {
		return
	}
	p.said = why
	n.emit(membership.Event{Kind: membership.KindRefused, Subject: id, Text: why})
}

// freshRow says that a peer's row is fresh enough to judge its links by.
func (n *Node) freshRow(p *peer) bool {
	return p.row != nil && n.now.Sub(p.rowAt) < 5*time.Second/2
}
