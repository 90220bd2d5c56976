package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
	"github.com/quorate/quorate/membership/rotation"
)

// Protocol is the version of the messages between daemons.
const Protocol = 1

// Kinds of messages: the first byte.
const (
	kindGroup = 'G'
	kindRow   = 'R'
	kindHello = 'H'
	kindPing  = 'P' // to a witness
	kindPong  = 'Q' // its answer
	kindKey   = 'K' // the line of a key; the edge takes it, and it never gets here
	kindGone  = 'D' // a key that is to be dropped
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
	Epoch    uint64            `json:"epoch,omitempty"` // of its answers to probes; 0: Instance
	Machine  string            `json:"machine"`
	Version  string            `json:"version"`
	Digest   string            `json:"digest"`
	Digests  map[string]string `json:"digests,omitempty"`
	// Config is the agreed version of the configuration that it works by; 0: its file's.
	Config  uint64   `json:"config,omitempty"`
	Leaving bool     `json:"leaving,omitempty"`
	Holding []string `json:"holding,omitempty"` // lockspaces in its kernel
	// Orders is who orders for it, and Listed the agreed list, where membership
	// is a list's word.
	Orders membership.NodeID   `json:"orders,omitempty"`
	Listed []membership.NodeID `json:"listed,omitempty"`
	// Witness is the agreed one, for who was away when it was agreed.
	Witness *cluster.Witness `json:"witness,omitempty"`
	// Member: this run is a member of a quorate view. Shooting are the nodes that its
	// agents may be about to cut off without an entry that says so.
	Member   bool                `json:"member,omitempty"`
	Shooting []membership.NodeID `json:"shooting,omitempty"`
	Keys     *rotation.Word      `json:"keys,omitempty"` // by epoch and fingerprint
	// Rivals are those that it has met.
	Rivals []membership.NodeID `json:"rivals,omitempty"`
	// Barred are whom its sender, who leads, does not admit. It is for people alone.
	Barred map[membership.NodeID]Barred `json:"barred,omitempty"`
	// Lan is FitFor's, for people too.
	Lan string `json:"lan,omitempty"`
}

const maxHello = 64 << 10

func (n *Node) sayHello(to membership.NodeID) {
	if b := n.hello(); b != nil {
		n.do(Send{To: to, Data: b})
	}
}

// hello is what this node says to everybody; nil: it is broken.
func (n *Node) hello() []byte {
	h := Hello{Protocol: Protocol, Boot: n.id.Boot, Instance: n.id.Instance, Epoch: n.id.Epoch, Machine: n.id.Machine, Version: n.id.Version,
		Digest: n.id.Digest, Digests: n.id.Digests, Leaving: n.leaving != nil || n.left(), Holding: n.local.Holding(),
		Member: n.Member() && n.seasoned, Shooting: n.shooting(), Keys: n.rot.Word(), Witness: n.st.Witness, Rivals: n.ownRivals, Barred: n.keptOut(), Lan: n.lan}
	if n.conf != nil {
		h.Config = n.conf.Version
	}
	if n.list != nil {
		h.Orders, h.Listed = n.leader, n.st.Listed
	}
	b, err := json.Marshal(h)
	if err != nil {
		n.break_("hello: " + err.Error())
		return nil
	}
	return envelope(kindHello, b)
}

func (n *Node) helloAll() {
	if b := n.hello(); b != nil {
		n.broadcast(b)
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
		n.witnessConnected(id)
		return
	}
	p.connected, p.upAt, p.err, p.unmet = true, n.now, "", nil
	p.hello = nil // what was said before may be of another boot
	n.rotate(rotation.Up{Node: id})
	n.emit(membership.Event{Kind: membership.KindPeer, Subject: id, Text: "connected"})
	n.sayHello(id)
	n.step(membership.GroupLink{Peer: id, Up: true})
}

func (n *Node) disconnected(in Disconnected) {
	p := n.peers[in.Peer]
	if p == nil {
		n.witnessDisconnected(in)
		return
	}
	if p.connected || p.err != in.Err {
		n.emit(membership.Event{Kind: membership.KindPeer, Subject: in.Peer, Text: "disconnected: " + in.Err})
	}
	p.err = in.Err
	if p.connected {
		p.connected = false
		n.followRivals(n.ownRivals)
		n.rotate(rotation.Down{Node: in.Peer})
		n.step(membership.GroupLink{Peer: in.Peer})
	}
}

func (n *Node) received(in Received) {
	p := n.peers[in.From]
	if p == nil || len(in.Data) == 0 {
		n.witnessReceived(in)
		return
	}
	switch body := in.Data[1:]; in.Data[0] {
	case kindGroup:
		if n.shotAt(in.From) {
			return // whoever comes back is agreed with when no agent can hit it any more
		}
		n.step(membership.GroupReceive{From: in.From, Data: body})
	case kindRow:
		n.gotRow(in.From, p, body)
	case kindHello:
		n.gotHello(in.From, p, body)
	case kindGone:
		n.gotGone(in.From, p, body)
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
	if r, ok := readRow(b); ok {
		return r, nil
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
	n.meets(r)
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

// readHello decodes a hello, once as long as it stays the same: each peer says one every
// second, and reading all of them anew was a tenth of an idle daemon's work.
func (p *peer) readHello(b []byte) (*Hello, error) {
	if p.hello != nil && bytes.Equal(b, p.helloText) {
		return p.hello, nil
	}
	h, err := DecodeHello(b)
	if err != nil {
		return nil, err
	}
	p.helloText = append(p.helloText[:0], b...)
	return &h, nil
}

func (n *Node) gotHello(from membership.NodeID, p *peer, b []byte) {
	h, err := p.readHello(b)
	if err != nil {
		n.refusePeer(from, p, "hello that cannot be read: "+err.Error())
		return
	}
	if h.Epoch == 0 {
		h.Epoch = h.Instance
	}
	if p.hello == nil || p.hello.Instance != h.Instance || p.hello.Epoch != h.Epoch {
		n.do(LearnEpoch{Peer: from, Instance: h.Instance, Epoch: h.Epoch})
		n.sayHello(from)
	}
	if rec := n.st.Node(from); rec != nil && rec.Last.Boot != h.Boot && (p.hello == nil || p.hello.Boot != h.Boot) {
		n.liveness(liveness.Anew{Node: from})
	}
	p.hello, p.helloAt = h, n.now
	p.lived(life{h.Instance, h.Boot})
	p.lived(life{h.Epoch, h.Boot})
	p.differs = nil
	if h.Config == 0 && (n.conf == nil || n.conf.Version == 0) { // what is agreed wins over every file
		p.differs = differing(n.id, *h)
	}
	n.heardKeys(from, p, h.Keys)
	n.outcast(from, p.hello)
	n.followRivals(n.ownRivals)
	n.hintWitness(h.Witness)
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
	p.said, p.do = why, ""
	n.emit(membership.Event{Kind: membership.KindRefused, Subject: id, Text: why})
}

// freshRow says that a peer's row is fresh enough to judge its links by.
func (n *Node) freshRow(p *peer) bool {
	return p.row != nil && n.now.Sub(p.rowAt) < 5*time.Second/2
}
