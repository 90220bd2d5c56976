package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// fenceWishes proposes the starts and ends of the jobs that are this node's.
func (n *Node) fenceWishes() {
	for k := range n.st.Cases {
		c := &n.st.Cases[k]
		if c.Job != nil {
			n.fenceEnd(c)
			continue
		}
		// A new boot of the same machine needs no agent, which would only kill it.
		if c.Open() && n.Member() && n.st.Actor(c) == n.cfg.Self && !n.newBoot(c) {
			n.fenceBegin(c)
		}
	}
}

func (n *Node) fenceBegin(c *cluster.Case) {
	lease := n.lease(c.Victim.Node)
	if lease == 0 || n.brk == skipFence {
		return // an operator's acknowledgement is the only proof
	}
	if at := n.nextAttempt(c); n.now < at {
		n.wake(at)
		return
	}
	key := jobKey{c.Victim, c.Attempts + 1}
	j := n.jobs[key]
	if j == nil || !j.run && n.now >= j.deadline {
		// Its clock begins before it is proposed: the others' begins after.
		j = &job{start: fenceStart, lease: lease, deadline: n.now.Add(fenceStart)}
		n.jobs[key] = j
	}
	n.propose(fmt.Sprintf("fence %v %d %d", c.Victim, key.attempt, j.deadline), cluster.Command{FenceStart: &cluster.FenceStart{
		Victim: c.Victim, Attempt: key.attempt, Actor: n.Self(), Start: j.start, Lease: j.lease}})
}

// nextAttempt backs off when every actor has failed.
func (n *Node) nextAttempt(c *cluster.Case) membership.Mono {
	if c.Round == 0 {
		return 0
	}
	wait := min(time.Second<<min(c.Round-1, 10), backoffMax)
	return n.clock(c.Victim).ended.Add(wait)
}

// lease bounds a job against a victim: time to start, and its devices' own
// timeouts (off, and asking whether it is off). 0: no device.
func (n *Node) lease(victim membership.NodeID) time.Duration {
	var sum time.Duration
	for _, d := range n.cfg.Devices {
		if slices.Contains(d.Nodes, victim) {
			sum += 2 * d.Timeout
		}
	}
	if sum == 0 {
		return 0
	}
	return fenceStart + sum
}

func (n *Node) fenceDone(in FenceDone) {
	if j := n.jobs[jobKey{in.Job.Victim, in.Job.Attempt}]; j != nil {
		r := in.Result
		j.result = &r
	}
}

func (n *Node) fenceEnd(c *cluster.Case) {
	j := n.jobs[jobKey{c.Victim, c.Job.Attempt}]
	if j == nil || j.result == nil {
		return
	}
	r := j.result
	n.propose(fmt.Sprintf("fenced %v %d", c.Victim, c.Job.Attempt), cluster.Command{FenceEnd: &cluster.FenceEnd{
		Victim: c.Victim, Attempt: c.Job.Attempt, OK: r.OK, Agent: r.Agent, Output: r.Output, Err: r.Err, Took: r.Took}})
}

const (
	prepareEvery = 10 * time.Second // the same victim
	prepareEach  = time.Second      // one after the other: starting an agent is work
)

// prepare keeps the fencing of those members prepared that this node would be
// the first to fence: what has to be started then is on everybody's way. It is
// not started on the way of a change either.
func (n *Node) prepare() {
	if n.now < n.prepareAt || !n.Member() || n.changing() {
		return
	}
	had := n.prepared
	n.prepared = map[membership.Incarnation]membership.Mono{}
	next := membership.Incarnation{}
	for _, m := range n.st.View.Members {
		if m.Node == n.cfg.Self || n.lease(m.Node) == 0 || !n.firstActor(m.Node) || !n.set.Holds(m) {
			continue
		}
		at, ok := had[m]
		if ok {
			n.prepared[m] = at
		}
		if next.Node == 0 && (!ok || n.now >= at.Add(prepareEvery)) {
			next = m
		}
	}
	if next.Node != 0 {
		n.prepareAt = n.now.Add(prepareEach)
		n.prepared[next] = n.now
		n.do(PrepareFence{Victim: next.Node})
	}
}

// changing says whether any lockspace has a change under way.
func (n *Node) changing() bool {
	return slices.ContainsFunc(n.set.Spaces, func(sp *lockspace.Space) bool { return sp.Change != nil })
}

// firstActor: this node would be the first to fence the victim.
func (n *Node) firstActor(victim membership.NodeID) bool {
	if n.leader != victim {
		return n.leads()
	}
	for _, m := range n.st.View.Members {
		if m.Node != victim {
			return m.Node == n.cfg.Self
		}
	}
	return false
}

// fenceAtOnce proposes the first attempt together with the eviction: the start
// is ordered right behind it, which saves a round. Where the eviction is
// refused, so is the start.
func (n *Node) fenceAtOnce(deps []membership.Departure) {
	if !n.Member() || slices.ContainsFunc(deps, func(d membership.Departure) bool { return d.Incarnation.Node == n.cfg.Self }) {
		return
	}
	for _, d := range deps {
		if n.set.Holds(d.Incarnation) && n.st.Case(d.Incarnation) == nil && d.Reason != membership.ReasonRebooted {
			n.fenceBegin(&cluster.Case{Victim: d.Incarnation})
		}
	}
}
