package node

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
	"github.com/quorate/quorate/membership/quorum"
)

// agreedPolicy is the rule with those who count by the agreed state.
func (n *Node) agreedPolicy() quorum.Policy {
	if n.list != nil {
		return n.listPolicy()
	}
	return n.witnessed(n.ownPolicy())
}

// ownPolicy is that of the nodes alone.
func (n *Node) ownPolicy() quorum.Policy { return n.counting(n.agreedConfig()) }

// counting is the rule of a configuration with those who count now.
func (n *Node) counting(cfg membership.Config) quorum.Policy {
	p := quorum.New(cfg)
	if len(n.st.Electorate) > 0 {
		p = p.Of(n.st.Electorate)
	}
	return p
}

// followElectorate makes the rule that of the agreed state, which has changed.
func (n *Node) followElectorate() {
	if n.list != nil {
		return
	}
	n.followVotes(n.agreedPolicy())
	if g, ok := n.group.(interface {
		SetElectorate(nodes []membership.NodeID)
	}); ok {
		g.SetElectorate(n.st.Electorate)
	}
}

// followVotes makes a rule this node's, where other votes count by it.
func (n *Node) followVotes(p quorum.Policy) {
	if !maps.Equal(p.Votes, n.policy.Votes) {
		n.policy = p
		n.liveness(liveness.PolicyIn{Policy: p})
	}
}

// electorate are the nodes that count, ascending.
func (n *Node) electorate() []membership.NodeID {
	return membership.Without(slices.Sorted(maps.Keys(n.policy.Votes)), n.policy.Witness)
}

// dropDead is the leader's. Whoever is no member, and can do nothing any more, counts
// no longer when last_man_standing_window has passed. Two stay: with the last but one
// goes the majority, and the last goes on by a takeover. Those whom this node hears have
// to be a quorum of the rest: if the order waits for a voter that was taken for dead, and
// comes to pass with its agreement when it is back, the rest must not need one that is not there. With a witness nobody is
// dropped: the last of the nodes would need it.
func (n *Node) dropDead() {
	if !n.policy.Rules.LastManStanding || n.policy.Witness != 0 || n.list != nil || !n.Member() || !n.st.View.Quorate {
		return
	}
	all := n.electorate()
	gone := map[membership.NodeID]time.Duration{}
	for _, id := range all {
		if _, member := n.st.View.Find(id); !member && n.st.Blocked(id) == nil && !n.known(id) {
			gone[id] = n.now.Sub(n.viewSince)
		}
	}
	rest, wait := n.policy.AfterLosses(all, gone)
	if wait > 0 {
		n.wake(n.now.Add(wait))
	}
	if len(rest) == len(all) || !n.policy.Of(rest).Quorate(n.audible()).Quorate {
		return
	}
	dead := membership.Without(all, rest...)
	n.propose(fmt.Sprintf("drop %d %v", n.st.View.Number, dead), cluster.Command{Drop: &cluster.Drop{Nodes: dead, Why: string(quorum.LastManStanding), Electorate: all}})
}

// known: a node is connected, and about to be a member perhaps.
func (n *Node) known(id membership.NodeID) bool {
	p := n.peers[id]
	return p != nil && p.connected
}
