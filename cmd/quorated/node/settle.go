package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
	"github.com/quorate/quorate/membership/quorum"
	"github.com/quorate/quorate/membership/rotation"
)

// settle compares what is agreed with what this node knows, until nothing is left to do.
func (n *Node) settle() {
	if n.now >= n.helloAt {
		n.helloAll()
	}
	n.rotate(rotation.Tick{})
	n.retryAt = 0
	for range 8 {
		if n.broken {
			return
		}
		before := n.st.Index
		n.wished = map[string]bool{}
		n.kernel()
		n.stageClocks()
		n.fenceWishes()
		n.unfenceWishes()
		n.takeoverWishes()
		n.drainWish()
		n.leaveWish()
		n.proposeAsks()
		n.endMaintenance()
		n.configWishes()
		n.refusedStart()
		if n.leads() {
			n.lead()
		}
		n.stepQueued()
		for k := range n.flights {
			if !n.wished[k] {
				delete(n.flights, k)
			}
		}
		if n.st.Index == before {
			break
		}
	}
	n.countWitness()
	n.unmonitor()
	n.zombie()
	n.compact()
	n.waitClocks()
}

// waitClocks notes since when the node itself waits. A reason for that nothing can
// be ordered is the same while it begins the same: who is missing comes after.
func (n *Node) waitClocks() {
	order, quorum, join := n.group.Status().Waiting, "", ""
	if i := strings.IndexAny(order, ":;"); i >= 0 {
		order = order[:i]
	}
	if !n.quorate {
		quorum = "quorum"
	} else if order == "" && !n.Member() {
		join = "join"
	}
	n.unordered.note(order, n.now)
	n.unlinked.note(quorum, n.now)
	n.unadmitted.note(join, n.now)
}

// propose asks for an entry, unless it is under way.
func (n *Node) propose(key string, c cluster.Command) {
	n.wished[key] = true
	f, ok := n.flights[key]
	if ok && f.term == n.term && f.leader == n.leader && n.now < f.at.Add(retryAfter) {
		n.wake(f.at.Add(retryAfter))
		return
	}
	n.wake(n.now.Add(retryAfter))
	n.flights[key] = flight{at: n.now, term: n.term, leader: n.leader}
	if n.leader == 0 {
		return
	}
	c.By, c.Wall = n.Self(), n.wall
	n.inputs = append(n.inputs, membership.GroupPropose{Data: c.Encode()}) // with all others of this settling
}

func (n *Node) wake(at membership.Mono) {
	if n.retryAt == 0 || at < n.retryAt {
		n.retryAt = at
	}
}

// kernel reconciles this node's lockspaces with the agreed ones.
func (n *Node) kernel() {
	effs, wishes := n.local.Reconcile(n.now, n.set, lockspace.Self{
		Incarnation: n.Self(), Member: n.Member(), Evicted: n.Evicted(), Quorum: n.quorate && !n.rivalled() || n.brk == skipQuorum, Recovers: n.recovers, Draining: n.draining(), DrainedAt: n.drainedAt})
	for _, e := range effs {
		if s, ok := e.(lockspace.Stop); ok && n.brk == skipStop {
			n.local.Step(n.now, lockspace.StopDone{Lockspace: s.Lockspace, Token: s.Token})
			continue
		}
		n.do(Drive{Effect: e})
	}
	for _, w := range wishes {
		n.propose("ls "+w.Key, entry(w.Message))
	}
}

// stageClocks notes since when each change stands where it stands, and tells
// liveness whom the changes wait for.
func (n *Node) stageClocks() {
	var waits []membership.NodeID
	seen := map[string]bool{}
	for _, sp := range n.set.Spaces {
		c := sp.Change
		if c == nil {
			continue
		}
		seen[sp.Name] = true
		s := n.stages[sp.Name]
		if s == nil || s.opened != (c.Opened != 0) || s.opened && s.seq != c.Seq {
			s = &stage{seq: c.Seq, opened: c.Opened != 0, since: n.now}
			n.stages[sp.Name] = s
		}
		for _, id := range missing(c) {
			if !slices.Contains(waits, id) {
				waits = append(waits, id)
			}
		}
	}
	for name := range n.stages {
		if !seen[name] {
			delete(n.stages, name)
		}
	}
	slices.Sort(waits)
	if key := fmt.Sprint(waits); key != n.waitsFor {
		n.waitsFor = key
		n.liveness(liveness.RecoveryWait{Nodes: waits})
	}
}

// missing are the nodes that a change waits for.
func missing(c *lockspace.Change) []membership.NodeID {
	want, have := c.Stop, c.Acks
	if c.Opened != 0 {
		want, have = lockspace.IDs(c.New), c.Done
	}
	return membership.Without(want, have...)
}

// lead does the leader's duties.
func (n *Node) lead() {
	if n.orderFirst() {
		return
	}
	n.orderList()
	n.evictRestarted()
	n.evictConvicted()
	n.admitAll()
	n.expireJobs()
	n.endHolds()
	n.dropDead()
	n.leadConfig()
	n.overrun()
}

// evict proposes an eviction, unless it would be refused: too few would be left.
func (n *Node) evict(key string, deps []membership.Departure) {
	if !n.mayEvict(deps) {
		return
	}
	n.propose(fmt.Sprintf("evict %d %s", n.st.View.Number, key), cluster.Command{Evict: &cluster.Evict{
		View: n.st.View.Number, Departures: deps, Alone: n.alone(deps)}})
}

// alone: those whom an eviction leaves are no quorum, and may go on by a rule.
func (n *Node) alone(deps []membership.Departure) bool {
	if n.list != nil || n.policy.Witness != 0 {
		return false
	}
	gone := make([]membership.NodeID, len(deps))
	for i, d := range deps {
		gone[i] = d.Incarnation.Node
	}
	rest := n.without(gone...)
	rule, _ := n.policy.Takeover(rest, n.st.View.IDs())
	return rule != quorum.NoRule && !n.quorum(rest)
}

func (n *Node) mayEvict(deps []membership.Departure) bool {
	var gone []membership.NodeID
	again := true
	for _, d := range deps {
		gone = append(gone, d.Incarnation.Node)
		again = again && (d.Reason == membership.ReasonRebooted || d.Reason == membership.ReasonRestarted)
	}
	return again || n.quorum(n.without(gone...)) || n.alone(deps)
}

// evictRestarted takes out the old incarnations of nodes that are here anew,
// ourselves among them.
func (n *Node) evictRestarted() {
	for _, m := range n.st.View.Members {
		boot, inst, ok := n.seen(m.Node)
		rec := n.st.Node(m.Node)
		if !ok || rec == nil || boot == m.Boot && inst == rec.Instance {
			continue
		}
		why := membership.ReasonRestarted
		if boot != m.Boot {
			why = membership.ReasonRebooted
		}
		n.evict("again "+m.String(), []membership.Departure{{Incarnation: m, Reason: why, Observers: []membership.NodeID{n.cfg.Self}}})
		return // one at a time: each makes a view
	}
	for k := range n.st.Cases {
		if c := &n.st.Cases[k]; c.Open() {
			n.newBoot(c)
		}
	}
}

// newBoot proposes that a victim's node was met in another boot, if it was (S4).
func (n *Node) newBoot(c *cluster.Case) bool {
	boot, _, ok := n.seen(c.Victim.Node)
	rec := n.st.Node(c.Victim.Node)
	if !ok || rec == nil || boot == c.Victim.Boot {
		return false
	}
	machine := n.machine(c.Victim.Node)
	if machine != rec.Machine {
		n.degradedMachine(c.Victim.Node)
		return false
	}
	n.propose(fmt.Sprintf("newboot %v %s", c.Victim, boot),
		cluster.Command{NewBoot: &cluster.NewBoot{Victim: c.Victim, Boot: boot, Machine: machine}})
	return true
}

func (n *Node) degradedMachine(id membership.NodeID) {
	if p := n.peers[id]; p != nil {
		n.refusePeer(id, p, fmt.Sprintf("it is another machine than the one that joined as node %d: its old incarnation needs an agent's proof or `quorate fence ack %s`", id, n.cfg.Name(id)))
	}
}

// seen is the boot and the daemon's run that a node says it is now.
func (n *Node) seen(id membership.NodeID) (membership.BootID, uint64, bool) {
	if id == n.cfg.Self {
		return n.id.Boot, n.id.Instance, true
	}
	p := n.peers[id]
	if p == nil || p.hello == nil || !p.connected {
		return "", 0, false
	}
	// A hello of another life than the one admitted last is of a later one only
	// if it came after that admission was known here. Else it may be of an
	// earlier one, over a connection that nobody has noticed to be dead.
	r := n.st.Node(id)
	if r != nil && (r.Last.Boot != p.hello.Boot || r.Instance != p.hello.Instance) && p.helloAt <= p.admitted {
		return "", 0, false
	}
	return p.hello.Boot, p.hello.Instance, true
}

func (n *Node) machine(id membership.NodeID) string {
	if id == n.cfg.Self {
		return n.id.Machine
	}
	return n.peers[id].hello.Machine
}

func (n *Node) evictConvicted() {
	deps := slices.DeleteFunc(slices.Clone(n.verdict), func(d membership.Departure) bool {
		return n.spared(d.Incarnation.Node) || !n.st.Member(d.Incarnation)
	})
	if len(deps) == 0 {
		return
	}
	var key strings.Builder
	for _, d := range deps {
		key.WriteString(d.Incarnation.String() + " ")
	}
	n.evict(key.String(), deps)
	if n.mayEvict(deps) {
		n.fenceAtOnce(deps)
	}
	if slices.ContainsFunc(deps, func(d membership.Departure) bool { return d.Incarnation.Node == n.cfg.Self }) {
		// The leader is outside the new view (S8).
		n.handOver(func(m membership.Incarnation) bool {
			return !slices.ContainsFunc(deps, func(d membership.Departure) bool { return d.Incarnation == m })
		})
	}
}

// handOver gives leadership to the first other member that will do.
func (n *Node) handOver(will func(membership.Incarnation) bool) {
	for _, m := range n.st.View.Members {
		if m.Node != n.cfg.Self && will(m) {
			n.step(membership.GroupHandOver{To: m.Node})
			return
		}
	}
}

// admitAll admits who may come in; one admission a view.
func (n *Node) admitAll() {
	if len(n.awaited()) > 0 || n.rivalled() {
		return
	}
	ids := append([]membership.NodeID{n.cfg.Self}, n.peerIDs()...)
	for _, id := range ids {
		boot, inst, ok := n.seen(id)
		if _, member := n.st.View.Find(id); !ok || member || n.leaving != nil && id == n.cfg.Self || n.left() && id == n.cfg.Self {
			continue
		}
		if rec := n.st.Node(id); rec != nil && rec.Left && rec.Last.Boot == boot && rec.Instance == inst {
			continue // this run of its daemon has left, and is about to end
		}
		if b := n.inadmissible(id); b.why != "" {
			if b.soon {
				n.wake(n.now.Add(100 * time.Millisecond))
			}
			if p := n.peers[id]; p != nil && !b.passes {
				n.refusePeer(id, p, b.why)
				p.do = b.do
			}
			continue
		}
		if p := n.peers[id]; p != nil {
			p.said, p.do = "", ""
		}
		if !n.unfenced(id, boot) {
			continue
		}
		n.propose(fmt.Sprintf("admit %d %d %d %s", n.st.View.Number, id, inst, boot), cluster.Command{Admit: &cluster.Admit{
			Incarnation: membership.Incarnation{Node: id, Boot: boot}, Machine: n.machine(id), Instance: inst, View: n.st.View.Number}})
		return
	}
}

// inadmissible says why a node may not come in now.
func (n *Node) inadmissible(id membership.NodeID) bar {
	switch c := n.st.Blocked(id); {
	case c != nil:
		return passing(n.blockedBy(c))
	case n.shotAt(id):
		return passing("a fence agent that was started before may be about to cut it off")
	case n.unsettled(id) != 0:
		return passing(fmt.Sprintf("nobody is admitted before %s, which was evicted, is proved gone", n.cfg.Name(n.unsettled(id))))
	}
	if id == n.cfg.Self {
		if len(n.local.Holding()) > 0 || n.unlisted(id) {
			return passing("its kernel holds lockspaces, or it is not on the list of members")
		}
		return bar{}
	}
	p := n.peers[id]
	switch {
	case n.list != nil && len(n.st.Listed) == 0:
		return passing("no list of members was taken yet")
	case n.unlisted(id):
		return refusal("put it there, or stop its quorated", ": ", "it is not on the list of members (%s)", n.list.From)
	case n.list != nil && p.hello.Orders != n.cfg.Self:
		return refusal("make the lists the same, then there: "+startAnew, ": ", "by its list %s orders, by ours this node", n.cfg.Name(p.hello.Orders))
	case p.hello.Protocol != Protocol:
		return refusal("install the same quorated on all nodes", ": ", "it speaks protocol %d, we speak %d", p.hello.Protocol, Protocol)
	case len(p.differs) > 0:
		return refusal(makeSame, ": ", "its configuration differs in %s", strings.Join(p.differs, ", "))
	case len(p.hello.Holding) > 0 && n.live.Age(id) > n.cfg.Timing.DeadAfter:
		return passing("it is gone") // its hello is the last one of the life that was lost
	case len(p.hello.Holding) > 0:
		return refusal("reboot it", "; ", "its kernel holds lockspaces of an earlier time: %s", strings.Join(p.hello.Holding, ", "))
	case p.hello.Leaving:
		return passing("it is about to leave")
	case slices.Contains(n.unvetted, id):
		return passing("it is not known yet whether it has to give up its log")
	case n.behind(p) != "":
		return passing(n.behind(p))
	case !n.live.Steady(id):
		return n.onProbation(id)
	}
	return n.unlinkedTo(id, p)
}

// unsettled: by the rules fewer than a quorum may go on, and nobody is added to those
// while an evicted node is unproved (S16), as long as there are members who can prove it.
// It is that node; 0: there is none.
func (n *Node) unsettled(id membership.NodeID) membership.NodeID {
	r := n.policy.Rules
	if !n.Member() || !r.TwoNode && !r.LastManStanding && r.TieBreaker.Mode == membership.TieNone {
		return 0
	}
	for k := range n.st.Cases {
		if c := &n.st.Cases[k]; c.Victim.Node != id && c.Open() {
			return c.Victim.Node
		}
	}
	return 0
}

// expireJobs closes jobs of which nothing was heard within their lease and a
// margin, unless proof of their actor's end will close them.
func (n *Node) expireJobs() {
	for k := range n.st.Cases {
		c := &n.st.Cases[k]
		if c.Job == nil || n.st.Acting(c) {
			continue
		}
		if at := n.jobOverAt(c); n.now < at {
			n.wake(at)
			continue
		}
		if n.standsStill(c.Job.Actor) {
			continue // and its agent with it: it is evicted, and proof of its end closes the job
		}
		n.propose(fmt.Sprintf("expire %v %d", c.Victim, c.Job.Attempt),
			cluster.Command{FenceExpire: &cluster.FenceExpire{Victim: c.Victim, Attempt: c.Job.Attempt}})
	}
}

// standsStill: nothing is heard of an actor, or never was since this node booted while
// it is a member still. It may go on any time.
func (n *Node) standsStill(actor membership.Incarnation) bool {
	age := n.live.Age(actor.Node)
	return actor.Node != n.cfg.Self && (age > n.cfg.Timing.DeadAfter || age < 0 && n.st.Member(actor))
}

// jobOver is how long after a job of that lease was seen to start nothing of it runs any more.
func jobOver(lease time.Duration) time.Duration { return lease + lease/4 + 5*time.Second }

// jobOverAt is when nothing of a case's job runs any more, by this node's clock.
func (n *Node) jobOverAt(c *cluster.Case) membership.Mono {
	t := n.clock(c.Victim)
	if t.job != c.Job.Attempt {
		t.job, t.jobSeen = c.Job.Attempt, n.now
	}
	return t.jobSeen.Add(jobOver(c.Job.Lease))
}

// overrun holds every step of a change to its deadline (S20).
func (n *Node) overrun() {
	for _, sp := range n.set.Spaces {
		c, s := sp.Change, n.stages[sp.Name]
		if c == nil || s == nil {
			continue
		}
		n.evictWithdrawn(sp)
		late := missing(c)
		if c.Opened == 0 {
			n.overrunBy(late, s.since, stopLimit, sp, "stop")
			continue
		}
		// A joiner whose first change was replaced by another is in the stop barrier of that.
		joiners := slices.DeleteFunc(slices.Clone(c.New), func(m lockspace.Member) bool {
			return !m.Joining || slices.Contains(c.Done, m.Incarnation.Node)
		})
		if len(joiners) > 0 && len(c.Stop) > 0 {
			n.refuseJoiners(sp, joiners, s.since.Add(n.cfg.JoinTimeout))
			continue
		}
		n.overrunBy(late, s.since, recoverLimit, sp, "recover")
	}
}

// refusedStart has this node evicted when its kernel starts a lockspace no more. The
// leader cannot tell: whoever waits for that start is as late. A hold's time does not count.
func (n *Node) refusedStart() {
	name, since := n.local.Refusing()
	switch at := max(since, n.unheld[n.cfg.Self], n.unmaintained, n.unrivalled).Add(recoverLimit); {
	case since == 0 || !n.Member() || n.st.Excused(n.Self()):
	case n.now < at:
		n.wake(at)
	default:
		n.evict("start "+name, []membership.Departure{{Incarnation: n.Self(), Reason: membership.ReasonStuck, Observers: []membership.NodeID{n.cfg.Self}}})
	}
}

func (n *Node) refuseJoiners(sp *lockspace.Space, joiners []lockspace.Member, at membership.Mono) {
	if n.now < at {
		n.wake(at)
		return
	}
	for _, j := range joiners {
		others := membership.Without(lockspace.IDs(sp.Change.New), j.Incarnation.Node)
		why := fmt.Sprintf("its kernel did not finish joining within %v; is the DLM's TCP port open between it and %v?", n.cfg.JoinTimeout, others)
		m := lockspace.Message{Refuse: &lockspace.Refuse{Lockspace: sp.Name, Change: sp.Change.Seq, Joiner: j.Incarnation, Why: why}}
		n.propose(fmt.Sprintf("refuse %s %d %v", sp.Name, sp.Change.Seq, j.Incarnation), entry(m))
	}
}

// evictWithdrawn evicts leavers that others' kernels can be told of as dead alone.
func (n *Node) evictWithdrawn(sp *lockspace.Space) {
	var deps []membership.Departure
	for _, m := range sp.Withdrawn() {
		deps = append(deps, membership.Departure{Incarnation: m, Reason: membership.ReasonWithdrawn, Observers: []membership.NodeID{m.Node}})
	}
	if len(deps) > 0 {
		n.evict(fmt.Sprintf("withdrawn %s %d", sp.Name, sp.Change.Seq), deps)
	}
}

// overrunBy evicts who is late. In a hold or a maintenance nobody is, nor while there are
// rivals: the limit counts from its end. Nor is who is waited for.
func (n *Node) overrunBy(late []membership.NodeID, since membership.Mono, limit time.Duration, sp *lockspace.Space, step string) {
	if n.rivalled() {
		return
	}
	var deps []membership.Departure
	for _, id := range late {
		m, ok := n.st.View.Find(id)
		if !ok || n.st.Excused(m) || n.spared(id) {
			continue
		}
		if at := max(since, n.unheld[id], n.unmaintained, n.unrivalled).Add(limit); n.now < at {
			n.wake(at)
			continue
		}
		deps = append(deps, membership.Departure{Incarnation: m, Reason: membership.ReasonStuck, Observers: []membership.NodeID{n.cfg.Self}})
	}
	if len(deps) > 0 && len(deps) < len(n.st.View.Members) {
		n.evict(fmt.Sprintf("stuck %s %s %d", step, sp.Name, sp.Change.Seq), deps)
	}
}

// zombie: evicted with lockspaces in the kernel, this machine ends itself (I7).
func (n *Node) zombie() {
	if !n.Evicted() {
		return
	}
	if held := n.local.Holding(); len(held) > 0 {
		n.endMachine("this node was evicted while its kernel held " + strings.Join(held, ", "))
	}
}

func (n *Node) endMachine(why string) {
	if !n.fenced {
		n.fenced = true
		n.emit(membership.Event{Kind: membership.KindBroken, Text: why + "; it ends itself"})
		n.do(SelfFence{Why: why})
	}
}

// compact gives the group a snapshot now and then.
func (n *Node) compact() {
	s := n.group.Status()
	// A group may want one sooner: a node whose log was lost gets no entry
	// before a snapshot that names it.
	w, ok := n.group.(interface{ WantsCompact() bool })
	if s.Applied < n.compacted+compactEvery && !(ok && w.WantsCompact()) {
		return
	}
	b, err := n.State()
	if err != nil {
		n.break_("snapshot: " + err.Error())
		return
	}
	n.compacted = s.Applied
	n.step(membership.GroupCompact{Index: s.Applied, State: b})
}
