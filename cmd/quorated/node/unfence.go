package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// unfencing is a switching on that this node proposed, or runs.
type unfencing struct {
	attempt  uint64
	deadline membership.Mono
	run      bool
	done     bool
	err      string
}

// unfenceClock holds the times of a node's switching on by this node's clock.
type unfenceClock struct {
	attempt uint64
	seen    membership.Mono
	ended   membership.Mono
}

// unfenceLease bounds a switching on; 0: no device of the node asks for one.
func (n *Node) unfenceLease(id membership.NodeID) time.Duration {
	var sum time.Duration
	for _, d := range n.cfg.Devices {
		if d.Unfence && slices.Contains(d.Nodes, id) {
			sum += d.Timeout
		}
	}
	if sum == 0 {
		return 0
	}
	return fenceStart + sum
}

// unfenced says that nothing has to be switched on before a node is admitted; else the
// leader sees to it, and unfenceWhy says what is wrong with that.
func (n *Node) unfenced(id membership.NodeID, boot membership.BootID) bool {
	lease := n.unfenceLease(id)
	x := n.st.Unfence(id)
	if lease == 0 || x != nil && x.Done && x.Boot == boot {
		return true
	}
	attempt, c := uint64(1), n.unfenceClock(id)
	if x != nil {
		attempt = x.Attempts + 1
		if x.Running != nil {
			n.unfenceExpire(x, c)
			return false
		}
		if at := n.unfenceAt(x); n.now < at {
			n.wake(at)
			return false
		}
	}
	u := n.unfences[id]
	if u == nil || u.attempt != attempt || !u.run && n.now >= u.deadline {
		u = &unfencing{attempt: attempt, deadline: n.now.Add(fenceStart)}
		n.unfences[id] = u
	}
	n.propose(fmt.Sprintf("unfence %d %s %d %d", id, boot, attempt, u.deadline), cluster.Command{UnfenceStart: &cluster.UnfenceStart{
		Node: id, Boot: boot, Attempt: attempt, Actor: n.Self(), Start: fenceStart, Lease: lease}})
	return false
}

func (n *Node) unfenceClock(id membership.NodeID) *unfenceClock {
	c := n.unclocks[id]
	if c == nil {
		c = &unfenceClock{}
		n.unclocks[id] = c
	}
	return c
}

// unfenceAt is when the next attempt is due: it backs off.
func (n *Node) unfenceAt(x *cluster.Unfenced) membership.Mono {
	if x.Failed == 0 {
		return 0
	}
	return n.unfenceClock(x.Node).ended.Add(backoff(x.Failed))
}

// unfenceExpire closes one of which nothing was heard, unless proof of its actor's end will.
func (n *Node) unfenceExpire(x *cluster.Unfenced, c *unfenceClock) {
	if c.attempt != x.Attempts {
		c.attempt, c.seen = x.Attempts, n.now
	}
	if at := c.seen.Add(jobOver(x.Running.Lease)); n.now < at {
		n.wake(at)
		return
	}
	a := x.Running.Actor
	if a.Node != n.cfg.Self && n.live.Age(a.Node) > n.cfg.Timing.DeadAfter {
		return // it may stand still: it is evicted, and proof of its end closes this
	}
	n.propose(fmt.Sprintf("unfence-expire %d %d", x.Node, x.Attempts), cluster.Command{UnfenceExpire: &cluster.UnfenceExpire{Node: x.Node, Attempt: x.Attempts}})
}

// unfenceWishes proposes the ends of those that are this node's.
func (n *Node) unfenceWishes() {
	for k := range n.st.Unfences {
		x := &n.st.Unfences[k]
		u := n.unfences[x.Node]
		if x.Running == nil || u == nil || u.attempt != x.Attempts || !u.done {
			continue
		}
		n.propose(fmt.Sprintf("unfenced %d %d", x.Node, x.Attempts), cluster.Command{UnfenceEnd: &cluster.UnfenceEnd{
			Node: x.Node, Attempt: x.Attempts, OK: u.err == "", Err: u.err}})
	}
}

// unfenceApplied follows what was agreed: this node runs those that it proposed itself.
func (n *Node) unfenceApplied(index uint64, o cluster.Outcome) {
	if s := o.Unfencing; s != nil {
		*n.unfenceClock(s.Node) = unfenceClock{attempt: s.Attempt, seen: n.now}
		n.emit(membership.Event{Kind: membership.KindUnfence, Subject: s.Node, Index: index, Text: fmt.Sprintf("attempt %d by node %d: its devices are switched on", s.Attempt, s.Actor.Node)})
		if u := n.unfences[s.Node]; s.Actor == n.Self() && u != nil && u.attempt == s.Attempt && !u.run {
			u.run = true
			n.do(Unfence{Node: s.Node, Attempt: s.Attempt, Deadline: u.deadline})
		}
	}
	if x := o.UnfenceOver; x != nil {
		n.unfenceClock(x.Node).ended = n.now
		delete(n.unfences, x.Node)
		text := fmt.Sprintf("attempt %d: its devices are on", x.Attempts)
		if !x.Done {
			text = fmt.Sprintf("attempt %d failed: %s", x.Attempts, x.Err)
		}
		n.emit(membership.Event{Kind: membership.KindUnfence, Subject: x.Node, Index: index, Text: text})
	}
}

func (n *Node) unfenceDone(in UnfenceDone) {
	if u := n.unfences[in.Node]; u != nil && u.attempt == in.Attempt {
		u.done, u.err = true, in.Err
	}
}

// unfenceWait says that a node waits for its devices; ok is false when it does not.
func (n *Node) unfenceWait(id membership.NodeID) (why string, left time.Duration, ok bool) {
	x := n.st.Unfence(id)
	if n.unfenceLease(id) == 0 || x == nil || x.Done {
		return "", 0, false
	}
	name := n.cfg.Name(id)
	if x.Running != nil {
		return fmt.Sprintf("%s switches the fence devices of %s on (attempt %d)", n.cfg.Name(x.Running.Actor.Node), name, x.Attempts),
			max(x.Running.Lease-n.now.Sub(n.unfenceClock(id).seen), 0), true
	}
	return fmt.Sprintf("the fence devices of %s could not be switched on, %s: %s; try them with `quorate fence test %s`", name, membership.Count(x.Failed, "time"), x.Err, name),
		max(n.unfenceAt(x).Sub(n.now), 0), true
}
