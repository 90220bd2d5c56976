package node

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/liveness"
)

// talkLimit is for how long what a daemon said over its connection shows that it runs:
// it says hello every second. A machine that lost its power keeps its connection for longer.
const talkLimit = 5 * helloEvery / 2

// defaultProbePort is that of the configuration, for who does not say.
const defaultProbePort = 21061

// talks says that the daemon of a node has said something over its connection lately: it
// is up, whatever its silence looks like.
func (n *Node) talks(id membership.NodeID) bool {
	p := n.peers[id]
	return p != nil && p.connected && p.hello != nil && !p.hello.Leaving && n.now.Sub(p.helloAt) < talkLimit
}

// apart are the nodes that count and talk, while one of the two does not hear the other.
func (n *Node) apart() []membership.NodeID {
	unheard := n.unheard()
	return slices.DeleteFunc(membership.Without(n.electorate(), n.cfg.Self), func(id membership.NodeID) bool {
		return !n.talks(id) || !slices.Contains(unheard, id) && !n.deafTo(n.peers[id])
	})
}

// shut says that the daemon of a node talks to this one while probes do not get through
// between the two, and have not for dead_after. do is what to do about it. Empty: it is
// not so.
func (n *Node) shut(id membership.NodeID) (why, do string) {
	if !n.talks(id) {
		return "", ""
	}
	p := n.peers[id]
	name, dead := n.cfg.Name(id), n.cfg.Timing.DeadAfter
	switch {
	case !slices.Contains(n.live.Hears(), id):
		if p.helloAt.Sub(n.shutSince(id)) < dead {
			return "", ""
		}
		return name + "'s daemon is connected, and probes to it are not answered", fmt.Sprintf("open udp %d on %s (and here), in both directions", n.probePort, name)
	case n.deafTo(p):
		return name + "'s daemon is connected, and does not hear this node", fmt.Sprintf("open udp %d here (and on %s), in both directions", n.probePort, name)
	}
	return "", ""
}

// deafTo says that a peer which said lately whom it hears does not hear this node.
func (n *Node) deafTo(p *peer) bool {
	dead := n.cfg.Timing.DeadAfter
	return n.freshRow(p) && n.now.Sub(p.upAt) >= dead && slices.ContainsFunc(p.row.Ages, func(a liveness.Age) bool {
		return a.Peer == n.cfg.Self && a.Age >= dead
	})
}

func (n *Node) shutWhy(id membership.NodeID) string { why, _ := n.shut(id); return why }

// shutSince is when it was heard last, since it connected.
func (n *Node) shutSince(id membership.NodeID) membership.Mono {
	from := n.peers[id].upAt
	if age := n.live.Age(id); age >= 0 {
		from = max(from, n.now.Add(-age))
	}
	return from
}

// shutText is all that is to be said of nodes that talk and are not heard.
func (n *Node) shutText(ids []membership.NodeID) string {
	var out []string
	for _, id := range ids {
		if why, do := n.shut(id); why != "" {
			out = append(out, why+": "+do)
		} else {
			out = append(out, n.cfg.Name(id)+"'s daemon is connected, and was not heard yet")
		}
	}
	return strings.Join(out, "; ")
}

// shutWaits are the nodes that are up and cannot be heard, while nothing runs here: before
// anything else is tried they are to be heard.
func (n *Node) shutWaits() (ws []control.Wait) {
	if n.rivalled() || n.running() {
		return nil
	}
	for _, id := range n.peerIDs() {
		if why, do := n.shut(id); why != "" && !n.unlisted(id) {
			ws = append(ws, control.Wait{What: "cluster", For: "probes", Owner: id, Since: n.now.Sub(n.shutSince(id)), Reason: why + ": " + do, Command: do})
		}
	}
	return ws
}

// awaitedWaits are the nodes that wait_for_all waits for. While one of those that are not
// heard is up, the wait is not to be overridden: it would be fenced.
func (n *Node) awaitedWaits() []control.Wait {
	ids := n.awaited()
	if len(ids) == 0 || !n.group.Status().Formed {
		return nil
	}
	w := control.Wait{What: "cluster", For: "quorum", Owner: ids[0], Since: n.now.Sub(n.started),
		Reason: fmt.Sprintf("wait_for_all: all nodes were down, and nothing runs before each was seen; not seen: %s", n.names(ids))}
	var do []string
	up := n.apart()
	for _, id := range up {
		if _, open := n.shut(id); open != "" {
			do = append(do, open)
		}
	}
	if off := membership.Without(ids, up...); len(off) > 0 {
		do = append(do, cmp.Or(n.overrideHint(), "start quorated on "+n.names(off)))
	}
	if len(up) > 0 {
		w.Reason += "; " + n.shutText(up)
	}
	w.Command = strings.Join(do, "; ")
	return []control.Wait{w}
}

// hearsWhom says why this node has no quorum. Whom it hears and who is no member of the
// view has no say.
func (n *Node) hearsWhom() string {
	hears := "none of the other nodes"
	silent := n.silent()
	heard := slices.DeleteFunc(slices.Clone(silent), func(id membership.NodeID) bool { return !slices.Contains(n.live.Hears(), id) })
	if len(heard) > 0 {
		hears = "none of the other members"
	}
	if linked := membership.Without(n.live.Linked(), n.cfg.Self); len(linked) > 0 {
		hears = n.names(linked) + " alone"
	}
	if len(heard) > 0 {
		hears += ", and " + n.names(heard) + ", no member"
		silent = membership.Without(silent, heard...)
	}
	if len(silent) > 0 {
		hears += " (silent: " + n.names(silent) + ")"
	}
	text := fmt.Sprintf("it hears %s%s; %s", hears, n.witnessHeard(), n.votes().Text)
	if why := n.inVain(); why != "" {
		text += "; overridden, and it does not go on: " + why
	}
	return text
}

// silent are the configured nodes with a vote that this node does not hear, or that are
// no members.
func (n *Node) silent() []membership.NodeID {
	return slices.DeleteFunc(membership.Without(n.peerIDs(), n.live.Linked()...), func(id membership.NodeID) bool { return n.policy.Votes[id] == 0 })
}
