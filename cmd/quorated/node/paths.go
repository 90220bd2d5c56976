package node

import (
	"slices"

	"github.com/quorate/quorate/membership"
)

// paths notes which peers leave data of this kernel's DLM unanswered (S10).
func (n *Node) paths(in Unanswered) {
	for id := range n.unanswered {
		if !slices.Contains(in.Peers, id) {
			delete(n.unanswered, id)
		}
	}
	for _, id := range in.Peers {
		if n.unanswered[id] == 0 {
			n.unanswered[id] = n.now
		}
	}
}

// blocked are the peers to which the DLM's path is as good as cut: they have left data
// unanswered for PathLimit, under a lockspace that runs here and there. What a change
// waits for has limits of its own.
func (n *Node) blocked() (out []membership.NodeID) {
	for _, c := range n.cfg.Nodes {
		id := c.ID
		if since := n.unanswered[id]; since != 0 && n.now >= since.Add(n.cfg.PathLimit) && n.local.RunsWith(n.set, n.cfg.Self, id) {
			out = append(out, id)
		}
	}
	return out
}
