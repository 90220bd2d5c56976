package node

import (
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
)

// Refused says that a configured node, or somebody at an address of it, and this one
// reached each other and will not talk.
type Refused struct {
	Peer    membership.NodeID
	Why, Do string
	// Removed: it is the peer that says that its configuration has not got this node.
	Removed bool
}

func (Refused) nodeInput() {}

// unmet is why no connection with a node comes about: since when, and said last at.
type unmet struct {
	Refused
	since, at membership.Mono
}

// refusedFor is how long a refusal is told of: while it lasts it comes again in seconds.
const refusedFor = time.Minute

func (r *unmet) text() string { return r.Why + ": " + r.Do }

func (n *Node) refused(in Refused) {
	p := n.peers[in.Peer]
	if p == nil {
		return
	}
	since := n.now
	if r := n.unmet(in.Peer); r != nil && r.Refused == in {
		since = r.since
	}
	p.unmet = &unmet{in, since, n.now}
}

// unmet is that of a node; nil: there is a connection, or it is not known why not.
func (n *Node) unmet(id membership.NodeID) *unmet {
	if p := n.peers[id]; p != nil && !p.connected && p.unmet != nil && n.now.Sub(p.unmet.at) < refusedFor {
		return p.unmet
	}
	return nil
}

// removedBy is a node that says that its configuration has not got this one; 0: none does.
func (n *Node) removedBy() membership.NodeID {
	for _, id := range n.peerIDs() {
		if r := n.unmet(id); r != nil && r.Removed {
			return id
		}
	}
	return 0
}

// refusedDo is what to do about a node that is refused; empty: it is not, or nothing is known.
func (n *Node) refusedDo(id membership.NodeID) string {
	if r := n.unmet(id); r != nil {
		return r.Do
	}
	switch p := n.peers[id]; {
	case p == nil || !p.connected:
		return ""
	case p.said != "":
		return p.do
	case len(p.differs) > 0:
		return makeSame
	}
	return ""
}

// refusedWaits are the nodes with which no connection comes about, while nothing runs here.
func (n *Node) refusedWaits() (ws []control.Wait) {
	if n.rivalled() || n.running() {
		return nil
	}
	for _, id := range slices.DeleteFunc(n.peerIDs(), n.unlisted) {
		if r := n.unmet(id); r != nil {
			w := control.Wait{What: "cluster", For: "config", Owner: id, Since: n.now.Sub(r.since),
				Reason: n.cfg.Name(id) + " is refused: " + r.text(), Command: r.Do}
			if r.Removed {
				w.What, w.Reason = "this node", n.cfg.Name(id)+" says: "+r.Why
			}
			ws = append(ws, w)
		}
	}
	return ws
}
