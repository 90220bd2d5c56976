package node

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/quorum"
)

// takeover is the attempt of nodes that are no quorum to go on all the same: a fenced
// reconfiguration (S16). Nothing can be ordered meanwhile, so what it does is in no
// log before all others are proved gone; then it is the first entry of the group's next
// generation. It is given up as soon as what allows it is no longer so.
type takeover struct {
	rule  quorum.Rule
	have  []membership.NodeID // who goes on, this node among them
	since membership.Mono     // it has been allowed since
	// counted is from when its turns count: since then the other one may be shooting.
	counted membership.Mono
	stalled bool              // the other one is heard, and its daemon stands still
	reason  membership.Reason // what the last attempt was for; empty: silence
	shots   []*shot           // nil: it waits for its turn
	asked   membership.Mono   // when the group was last asked to go on
	// found is when a job was, of which this node does not know that it was agreed on.
	found map[jobKey]membership.Mono
}

// shot is what has to be proved: an incarnation's end.
type shot struct {
	victim membership.Incarnation
	job    membership.FenceJob // that runs; Attempt 0: none
	began  membership.Mono
	tries  int
	turn   membership.Mono         // when the turn of the last one began
	failed int                     // how many have, in a row or in that turn
	next   membership.Mono         // of the next try, at the earliest
	err    string                  // of the last
	result *membership.FenceResult // of an agent that has ended, and is not believed yet
	ended  membership.Mono
	lied   int               // the level of one that was not
	actor  membership.NodeID // whose agent it waits for; 0: nobody's
	over   membership.Mono   // when that has ended for certain; 0: when its node is proved gone
	proof  *cluster.TakeoverProof
}

// firstShot is the first attempt's number. A job of the log has a small one.
const firstShot = 1 << 32

// takeoverWishes goes on with a takeover if one is allowed.
func (n *Node) takeoverWishes() {
	rule, have, why := n.mayTakeOver()
	n.noTakeover = why
	t := n.takeover
	if t != nil && (rule != t.rule || !slices.Equal(have, t.have)) {
		n.abandon()
		t = nil
	}
	if rule == quorum.NoRule {
		return
	}
	if t == nil {
		t = &takeover{rule: rule, have: have, since: n.now, counted: n.now, stalled: n.standsAlone(), found: map[jobKey]membership.Mono{}}
		n.takeover = t
	}
	n.followStall(t)
	if at := n.turns(t).first; t.shots == nil && n.now < at {
		n.wake(at)
		return
	}
	if g, _ := n.group.(membership.Forcer); t.shots == nil && !g.Pledged(t.have) {
		if n.force(t, nil); !g.Pledged(t.have) {
			n.wake(t.asked.Add(retryAfter))
			return
		}
	}
	if t.shots == nil {
		n.beginTakeover(t)
	}
	n.shootAll(t)
}

// mayTakeOver says by which rule this node and whom may go on without the others, and
// that it is this node's to bring about; NoRule: not, and why.
func (n *Node) mayTakeOver() (rule quorum.Rule, have []membership.NodeID, why string) {
	g, ok := n.group.(membership.Forcer)
	switch {
	case !ok || n.list != nil:
		return quorum.NoRule, nil, ""
	case n.Evicted() || n.left() || n.leaving != nil:
		return quorum.NoRule, nil, "it does not belong to the cluster"
	case n.override == "" && !(n.Member() && n.seasoned):
		return quorum.NoRule, nil, "it has not been in a quorate view since it booted, so it may be the one that was fenced; " + n.unseasoned()
	}
	if why = n.maintenanceBars(); why != "" {
		return quorum.NoRule, nil, why
	}
	if n.Mute() {
		return quorum.NoRule, nil, "its prober stands still, so it does not know who lives: reboot the machine if that does not end by itself"
	}
	if have = n.live.Linked(); n.standsAlone() {
		have = []membership.NodeID{n.cfg.Self}
	}
	if g.MajorityRuns(have...) { // nearly always, and cheap
		return quorum.NoRule, nil, "a majority of the voters can be heard"
	}
	for _, id := range n.live.Excused() {
		if !slices.Contains(n.live.Hears(), id) {
			return quorum.NoRule, nil, n.cfg.Name(id) + " is announced to stand still"
		}
	}
	last := n.st.View.IDs()
	rule, why = n.policy.Takeover(have, last)
	switch {
	case rule != quorum.NoRule:
	case n.override != "":
		rule = quorum.Override
	case n.policy.Witness == 0 && n.policy.Quorate(have).Quorate:
		rule = quorum.ByVotes
	default:
		return rule, nil, why
	}
	if why = g.MayForce(have); why != "" {
		return quorum.NoRule, nil, why
	}
	if why = n.disunited(have); why != "" {
		return quorum.NoRule, nil, why
	}
	if maker := n.maker(have); maker != n.cfg.Self {
		return quorum.NoRule, nil, fmt.Sprintf("%s brings it about for %s", n.cfg.Name(maker), n.names(have))
	}
	return rule, have, ""
}

// disunited says that some of these nodes do not hear each other, or hear somebody
// else; empty: they are one.
func (n *Node) disunited(have []membership.NodeID) string {
	for _, id := range have {
		p := n.peers[id]
		if p == nil {
			continue
		}
		if !n.freshRow(p) {
			return "nothing new was heard of what " + n.cfg.Name(id) + " hears"
		}
		for _, a := range p.row.Ages {
			hears := a.Age >= 0 && a.Age < n.cfg.Timing.DeadAfter
			if _, counts := n.policy.Votes[a.Peer]; counts && hears != slices.Contains(have, a.Peer) {
				return fmt.Sprintf("%s hears %s: %v", n.cfg.Name(id), n.cfg.Name(a.Peer), hears)
			}
		}
	}
	return ""
}

// maker is the one of these nodes with the most complete log: it is the log that counts (S16).
func (n *Node) maker(have []membership.NodeID) (best membership.NodeID) {
	var term, index uint64
	s := n.group.Status()
	for _, id := range have {
		t, i := s.LastTerm, s.LastIndex
		if p := n.peers[id]; p != nil {
			t, i = p.row.LastTerm, p.row.LastIndex
		}
		if best == 0 || t > term || t == term && i > index {
			best, term, index = id, t, i
		}
	}
	return best
}

func (n *Node) beginTakeover(t *takeover) {
	t.shots, t.asked = []*shot{}, 0
	n.aim(t)
	n.emit(membership.Event{Kind: membership.KindTakeover, Text: fmt.Sprintf("by %s %s goes on with proof that these are gone: %s%s", t.rule, n.names(t.have), n.names(victims(t.shots)), n.stallText(t))})
}

// aim adds who has to be proved gone and is not aimed at yet, and says whether there was
// one: by what was delivered, or by the rest of this node's log, which is ordered with the
// takeover. A node that was admitted there may have been told of it, and be running.
func (n *Node) aim(t *takeover) (found bool) {
	want := n.st.Unproved(t.have)
	if rest := n.group.(membership.Forcer).Undelivered(); len(rest) > 0 {
		want = append(want, n.foreseen(rest).Unproved(t.have)...)
	}
	for _, v := range want {
		if !slices.ContainsFunc(t.shots, func(s *shot) bool { return s.victim == v }) {
			t.shots, found = append(t.shots, &shot{victim: v}), true
		}
	}
	return found
}

// foreseen is what will be agreed when these entries are delivered as well.
func (n *Node) foreseen(entries [][]byte) *cluster.State {
	s := cluster.New()
	b, err := n.st.Snapshot()
	if err == nil {
		err = s.Restore(b)
	}
	if err != nil {
		panic("node: the agreed state cannot be copied: " + err.Error())
	}
	everything := func(membership.Incarnation) bool { return true }
	for _, b := range entries {
		if c, err := cluster.Decode(b); err == nil { // else of a later version, by which nobody could have worked
			s.Apply(s.Index+1, c, everything, n.quorum)
		}
	}
	return s
}

func victims(shots []*shot) (out []membership.NodeID) {
	for _, s := range shots {
		if !slices.Contains(out, s.victim.Node) {
			out = append(out, s.victim.Node)
		}
	}
	return out
}

// shootAll has everybody fenced who has to be, all at once, and ends the takeover when
// all are proved gone.
func (n *Node) shootAll(t *takeover) {
	proved := true
	for _, s := range t.shots {
		if s.result != nil {
			n.believe(s)
		}
		if s.proof == nil {
			proved = n.brk == earlyProof && n.now > t.since
			n.shoot(s)
		}
	}
	switch {
	case !proved:
	case n.aim(t):
		n.wake(n.now)
	default:
		n.force(t, n.takeoverEntry(t).Encode())
		n.wake(t.asked.Add(retryAfter))
	}
}

// force has the group take the next step of a takeover, not more often than it can be done.
func (n *Node) force(t *takeover, entry []byte) {
	if t.asked == 0 || n.now >= t.asked.Add(retryAfter) {
		t.asked = n.now
		n.step(membership.GroupForce{Nodes: t.have, Data: entry})
	}
}

func (n *Node) shoot(s *shot) {
	turn := n.turn(n.takeover)
	switch next := max(s.next, turn.from); {
	case s.job.Attempt != 0 || s.result != nil || n.lease(s.victim.Node) == 0:
	case n.strays[s.victim] != 0 || n.jobInTheWay(s): // one agent a victim: the last one has not ended
	case n.now < next:
		n.wake(next)
	case n.now < n.awake():
		n.wake(n.awake())
	default:
		n.shotSeq++
		s.tries, s.began = s.tries+1, n.now
		if n.takeover.reason = ""; n.takeover.stalled {
			n.takeover.reason = membership.ReasonStalled
		}
		if s.turn != turn.from {
			s.turn, s.failed = turn.from, 0
		}
		s.job = membership.FenceJob{Victim: s.victim, Attempt: firstShot + n.shotSeq, Deadline: n.now.Add(fenceStart), Until: turn.until, After: s.lied}
		if turn.last != 0 {
			s.job.Deadline = min(s.job.Deadline, turn.last)
		}
		n.emit(membership.Event{Kind: membership.KindFenceStart, Subject: s.victim.Node, Text: fmt.Sprintf("attempt %d of a takeover, by node %d", s.tries, n.cfg.Self)})
		n.helloAll() // before the agent starts: nobody agrees with its victim on anything meanwhile
		n.do(Fence{Job: s.job})
	}
}

// awake is when this node may shoot after it has stood still: whoever is there has
// answered by then. What it does before its detector has looked again waits for that.
func (n *Node) awake() membership.Mono {
	if n.now.Sub(n.lookedAt) >= n.cfg.Timing.DeadAfter {
		return n.now.Add(1)
	}
	if n.woke == 0 {
		return 0
	}
	return n.woke.Add(n.cfg.Timing.DeadAfter + 2*n.cfg.Timing.Interval)
}

// jobInTheWay says that a job which was agreed before may still run against a victim: one
// of this node, until it has ended (what came of it counts), of one that goes on with it,
// until its lease is over, and of any other until that is proved gone.
func (n *Node) jobInTheWay(s *shot) bool {
	s.actor, s.over = 0, 0
	if j := n.unknownJob(s.victim); j != nil {
		return j.Actor != n.Self() && n.standsBehind(s, j.Actor, func() membership.Mono {
			key := jobKey{j.Victim, j.Attempt}
			if n.takeover.found[key] == 0 {
				n.takeover.found[key] = n.now
			}
			return n.takeover.found[key].Add(jobOver(j.Lease))
		})
	}
	c := n.st.Case(s.victim)
	if c == nil || c.Job == nil {
		return false
	}
	actor := c.Job.Actor
	if actor == n.Self() {
		j := n.jobs[jobKey{c.Victim, c.Job.Attempt}]
		if j != nil && j.run && j.result == nil {
			return true
		}
		if j == nil || j.result == nil {
			return false
		}
		r, _, ok := n.judged(c.Victim, *j.result, j.ended)
		if !ok {
			return true // S13
		}
		if r.OK {
			s.proof = &cluster.TakeoverProof{Victim: s.victim, How: "agent", Actor: n.cfg.Self,
				End: cluster.FenceEnd{Victim: s.victim, Attempt: c.Job.Attempt, OK: true, Agent: r.Agent, Level: r.Level, Output: r.Output, Took: r.Took}}
			n.wake(n.now)
			return true
		}
		return false
	}
	return n.standsBehind(s, actor, func() membership.Mono { return n.jobOverAt(c) })
}

// standsBehind says that a shot waits for an agent of another node: of one that is to be proved
// gone, until it is, of one that goes on with this one, until the job is over.
func (n *Node) standsBehind(s *shot, actor membership.Incarnation, over func() membership.Mono) bool {
	for _, o := range n.takeover.shots {
		if o.victim == actor {
			if o.proof == nil {
				s.actor = actor.Node
			}
			return o.proof == nil
		}
	}
	at := over()
	n.wake(at)
	if n.now < at {
		s.actor, s.over = actor.Node, at
	}
	return n.now < at
}

// unknownJob is the last fencing of a victim that stands in this node's log without an end
// and was not delivered: whether it was agreed on only the others know, of whom one may run it.
// The log of who brings a takeover about has all that was. One of this node's own was not
// delivered, so it does not run.
func (n *Node) unknownJob(victim membership.Incarnation) (job *cluster.FenceStart) {
	for _, b := range n.group.(membership.Forcer).Undelivered() {
		c, err := cluster.Decode(b)
		switch {
		case err != nil: // of a later version, by which nobody could have worked
		case c.FenceStart != nil && c.FenceStart.Victim == victim:
			job = c.FenceStart
		case job == nil:
		case c.FenceEnd != nil && c.FenceEnd.Victim == victim && c.FenceEnd.Attempt == job.Attempt,
			c.FenceExpire != nil && c.FenceExpire.Victim == victim && c.FenceExpire.Attempt == job.Attempt:
			job = nil
		}
	}
	return job
}

// stray ends an agent for which there is no job any more. Until it has ended its victim
// is not admitted, in whatever life.
func (n *Node) stray(job membership.FenceJob) {
	n.strays[job.Victim] = job.Attempt
	n.do(CancelFence{Job: job})
}

// strayDone says that it was such an agent that has ended.
func (n *Node) strayDone(in FenceDone) bool {
	if at, ok := n.strays[in.Job.Victim]; !ok || at != in.Job.Attempt {
		return false
	}
	delete(n.strays, in.Job.Victim)
	if in.Job.Attempt >= firstShot {
		r := in.Result
		r.Err = "given up: " + cmp.Or(r.Err, "it is off")
		n.tried(in.Job.Victim, in.Job.Attempt-firstShot, r)
	}
	n.emit(membership.Event{Kind: membership.KindFenceEnd, Subject: in.Job.Victim.Node, Text: "of an attempt that was given up: " + cmp.Or(in.Result.Err, "it is off")})
	return true
}

// shotDone is how an agent of a takeover ended.
func (n *Node) shotDone(in FenceDone) {
	if n.takeover == nil {
		return
	}
	for _, s := range n.takeover.shots {
		if s.job == in.Job {
			r := in.Result
			s.job, s.result, s.ended = membership.FenceJob{}, &r, min(in.Ended, n.now)
		}
	}
}

// believe takes what an agent of a takeover said, when it may be (S13).
func (n *Node) believe(s *shot) {
	r, lied, ok := n.judged(s.victim, *s.result, s.ended)
	if !ok {
		return
	}
	s.result, s.lied = nil, max(s.lied, lied)
	text := fmt.Sprintf("attempt %d of a takeover, by node %d", s.tries, n.cfg.Self)
	if r.OK {
		s.proof = &cluster.TakeoverProof{Victim: s.victim, How: "agent", Actor: n.cfg.Self,
			End: cluster.FenceEnd{Victim: s.victim, Attempt: uint64(s.tries), OK: true, Agent: r.Agent, Level: r.Level, Output: r.Output, Took: r.Took}}
	} else {
		n.tried(s.victim, uint64(s.tries), r)
		s.err, s.failed = r.Err, s.failed+1
		s.next = n.now.Add(n.pause(s))
		text += " failed: " + r.Err
	}
	n.emit(membership.Event{Kind: membership.KindFenceEnd, Subject: s.victim.Node, Text: text})
}

// maxTried bounds what is kept of attempts that are in no log, and what an entry has of them.
const maxTried = 16

// tried keeps an attempt of a takeover that came to nothing: nothing can be ordered
// meanwhile, and if it is given up no entry ever says so.
func (n *Node) tried(victim membership.Incarnation, attempt uint64, r membership.FenceResult) {
	n.attempts = append(n.attempts, cluster.Record{Victim: victim, How: "agent", Actor: n.cfg.Self, Wall: n.wall,
		End: cluster.FenceEnd{Victim: victim, Attempt: attempt, Agent: r.Agent, Output: r.Output, Err: r.Err, Took: r.Took}})
	n.attempts = n.attempts[max(0, len(n.attempts)-maxTried):]
}

// pause is the time to the next attempt after one that failed. Where it has only its turn
// a node begins early: most of what a device fails by is over soon.
func (n *Node) pause(s *shot) time.Duration {
	if n.opponent(n.takeover) == 0 {
		return backoff(s.failed)
	}
	return min(retryAfter<<min(s.failed-1, 10), backoffMax)
}

// acknowledge takes an operator's word for a shot; false: there is none to take it for.
func (n *Node) acknowledge(in Operator) bool {
	if n.takeover == nil {
		return false
	}
	for _, s := range n.takeover.shots {
		if s.victim.Node == in.Node && s.proof == nil && s.job.Attempt == 0 {
			s.proof = &cluster.TakeoverProof{Victim: s.victim, How: "manual", Who: in.Who}
			n.do(Reply{Token: in.Token, Text: fmt.Sprintf("acknowledged: %s is taken as gone; see `quorate status`", n.cfg.Name(s.victim.Node))})
			return true
		}
	}
	return false
}

// takeoverEntry is what the next generation begins with.
func (n *Node) takeoverEntry(t *takeover) cluster.Command {
	e := &cluster.Takeover{Rule: string(t.rule), Survivors: t.have, Reason: t.reason, Tried: n.attempts}
	for _, id := range t.have {
		if n.policy.Votes[id] > 0 {
			e.Electorate = append(e.Electorate, id)
		}
	}
	for _, s := range t.shots {
		switch {
		case s.proof != nil:
			e.Proofs = append(e.Proofs, *s.proof)
		case n.brk == earlyProof:
			e.Proofs = append(e.Proofs, cluster.TakeoverProof{Victim: s.victim, How: "agent", Actor: n.cfg.Self})
		}
	}
	return cluster.Command{By: n.Self(), Wall: n.wall, Takeover: e}
}

// abandon gives a takeover up. Agents that run are ended; until they have, nobody
// that they are run against is admitted.
func (n *Node) abandon() {
	t := n.takeover
	n.takeover = nil
	n.step(membership.GroupForce{}) // whoever gave its word is free
	if t.shots == nil {
		return
	}
	n.endShots(t)
	n.emit(membership.Event{Kind: membership.KindTakeover, Text: "given up: " + cmp.Or(n.noTakeover, "it is not needed any more")})
}

// endShots ends the agents of a takeover that is over.
func (n *Node) endShots(t *takeover) {
	if t == nil {
		return
	}
	for _, s := range t.shots {
		if s.job.Attempt != 0 {
			n.stray(s.job)
		}
	}
}

// shooting are the nodes that an agent of this node may be about to cut off, without
// an entry that says so.
func (n *Node) shooting() (out []membership.NodeID) {
	for v := range n.strays {
		out = append(out, v.Node)
	}
	if n.takeover != nil {
		for _, s := range n.takeover.shots {
			if s.job.Attempt != 0 {
				out = append(out, s.victim.Node)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// shotAt says that somebody's agent may be about to cut a node off.
func (n *Node) shotAt(id membership.NodeID) bool {
	if slices.Contains(n.shooting(), id) {
		return true
	}
	for _, p := range n.peers {
		if p.connected && p.hello != nil && slices.Contains(p.hello.Shooting, id) {
			return true
		}
	}
	return false
}

// takeoverWaits say what a takeover waits for, and wait_for_all.
func (n *Node) takeoverWaits() (ws []control.Wait) {
	ws = n.awaitedWaits()
	t := n.takeover
	if t == nil {
		return ws
	}
	w := control.Wait{What: "cluster", For: "fencing", Since: n.now.Sub(t.since), Rule: fmt.Sprint(t.rule)}
	if t.shots == nil {
		w.Reason = fmt.Sprintf("by %s %s may go on alone; ", t.rule, n.names(t.have))
		if w.Deadline = max(n.turns(t).first.Sub(n.now), 0); w.Deadline > 0 && t.stalled {
			w.Reason += "it looks whether the other one goes on" + n.stallText(t)
		} else if text := n.leftBehind(t); text != "" {
			w.Reason = text
		} else if w.Deadline > 0 {
			w.Reason += "it leaves the other node the time to fence it first"
		} else {
			w.Reason += "it has not got the word of each of " + n.names(membership.Without(t.have, n.cfg.Self)) + ", which one that was started anew gives only when a majority has told it of its log"
		}
		return append(ws, w)
	}
	for _, s := range t.shots {
		if s.proof == nil {
			ws = append(ws, n.shotWait(t, s, w))
		}
	}
	return ws
}
