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
	if n.shotAt(c.Victim.Node) { // by an agent of a takeover that was given up
		n.wake(n.now.Add(retryAfter))
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
	return n.clock(c.Victim).ended.Add(backoff(c.Round))
}

// backoff is the wait after so many failures in a row, 1 or more.
func backoff(failed int) time.Duration { return min(time.Second<<min(failed-1, 10), backoffMax) }

// lease bounds a job against a victim: time to start, what its devices may take
// one after the other, and how long their word is looked into. 0: no device.
func (n *Node) lease(victim membership.NodeID) time.Duration {
	var sum time.Duration
	for _, d := range n.cfg.Devices {
		if slices.Contains(d.Nodes, victim) {
			sum += d.Lease()
		}
	}
	if sum == 0 {
		return 0
	}
	return fenceStart + sum + n.lieWait()
}

// offBy is when an agent against a victim that began then has switched it off, or has
// failed: its devices' delays and timeouts, one after the other. Past that it is asked
// whether the victim is off, as long as the lease allows.
func (n *Node) offBy(victim membership.NodeID, began membership.Mono) membership.Mono {
	at := began
	for _, d := range n.cfg.Devices {
		if slices.Contains(d.Nodes, victim) {
			at = at.Add(d.MaxDelay() + d.Timeout)
		}
	}
	if n.now >= at {
		return began.Add(n.lease(victim))
	}
	return at
}

func (n *Node) fenceDone(in FenceDone) {
	switch {
	case n.strayDone(in):
		return
	case in.Job.Attempt >= firstShot:
		n.shotDone(in)
		return
	}
	if j := n.jobs[jobKey{in.Job.Victim, in.Job.Attempt}]; j != nil {
		r := in.Result
		j.result, j.ended = &r, min(in.Ended, n.now)
	}
	if in.Samples != nil && in.Ended > n.lookedAt {
		n.samples = in.Samples
	}
}

func (n *Node) fenceEnd(c *cluster.Case) {
	j := n.jobs[jobKey{c.Victim, c.Job.Attempt}]
	if j == nil || j.result == nil {
		return
	}
	r, lied, ok := n.judged(c.Victim, *j.result, j.ended)
	if !ok {
		return
	}
	n.propose(fmt.Sprintf("fenced %v %d", c.Victim, c.Job.Attempt), cluster.Command{FenceEnd: &cluster.FenceEnd{
		Victim: c.Victim, Attempt: c.Job.Attempt, OK: r.OK, Agent: r.Agent, Output: r.Output, Err: r.Err, Level: r.Level, Lied: lied, Took: r.Took}})
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

// delayed is how long the first level's devices may still keep their off back.
func (n *Node) delayed(c *cluster.Case) time.Duration {
	level, sum := 0, time.Duration(0)
	for _, d := range n.cfg.Devices {
		switch {
		case !slices.Contains(d.Nodes, c.Victim.Node) || level != 0 && d.Level > level:
		case level == 0 || d.Level < level:
			level, sum = d.Level, d.MaxDelay()
		default:
			sum += d.MaxDelay()
		}
	}
	return max(sum-n.now.Sub(n.clock(c.Victim).jobSeen), 0)
}

// Fencing says whether this node runs an agent against somebody now.
func (n *Node) Fencing() bool {
	for _, j := range n.jobs {
		if j.run && j.result == nil {
			return true
		}
	}
	return false
}
