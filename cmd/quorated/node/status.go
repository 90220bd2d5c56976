package node

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/quorum"
)

// Status says everything, as of now. Samples are the prober's.
func (n *Node) Status(now membership.Mono, samples []membership.Sample) control.Status {
	n.now = max(now, n.now)
	g := n.group.Status()
	q := n.votes()
	s := control.Status{
		Version: n.id.Version, Protocol: Protocol, Feature: cluster.Feature, Kernel: n.id.Kernel,
		Cluster: n.cfg.Cluster, ID: g.ClusterID, Node: n.cfg.Self, Name: n.cfg.Name(n.cfg.Self), Boot: n.id.Boot,
		Member: n.Member(), Quorate: n.running(), View: n.st.View.Number,
		Leader: g.Leader, Term: g.Term, Index: g.Applied, Votes: q.Have, Needed: q.Needed, Expected: q.Expected, Profile: n.cfg.Timing.Profile, DeadAfter: n.cfg.Timing.DeadAfter,
		Promise: n.promise(), Maintenance: n.maintenanceStatus(), Keys: n.keyStatus(),
	}
	for _, c := range n.cfg.Nodes {
		s.Nodes = append(s.Nodes, n.nodeStatus(c, samples))
	}
	for _, sp := range n.set.Spaces {
		l := n.lockspaceStatus(sp)
		l.Waits = append(n.spaceMaintenance(sp), l.Waits...)
		s.Lockspaces = append(s.Lockspaces, l)
	}
	for _, name := range n.local.Names() {
		if n.set.Space(name) == nil {
			p, since, _ := n.local.Phase(name)
			l := control.LockspaceStatus{Name: name, ID: lockspace.ID(name), State: p.String(), Local: p.String()}
			l.Waits = n.localWaits(name, since)
			s.Lockspaces = append(s.Lockspaces, l)
		}
	}
	s.Fencing, s.Witness = n.fenceStatus(), n.witnessStatus()
	if n.conf != nil {
		s.Config = n.conf.Version
	}
	s.Waits, s.Warnings = n.clusterWaits(g), n.warnings()
	s.Level = level(s)
	s.Quorum = n.quorumReport(s.Quorate)
	return s
}

// votes counts those of the members; without a quorum, or where it is none of them, of
// those that this node hears.
func (n *Node) votes() quorum.Verdict {
	if n.quorate && n.policy.Witness != 0 && !n.WitnessCounts() {
		return n.policy.Quorate(n.st.View.IDs())
	}
	if n.quorate && n.Member() {
		return agreedVotes(n.policy, n.st.View.IDs())
	}
	return n.linkVotes()
}

func level(s control.Status) control.Level {
	l := control.OK
	if len(s.Warnings) > 0 || len(s.Fencing) > 0 || slices.ContainsFunc(s.Nodes, func(n control.NodeStatus) bool { return n.State != "member" && n.State != "unlisted" }) {
		l = control.Degraded
	}
	if !s.Member || !s.Quorate || slices.ContainsFunc(s.Lockspaces, func(l control.LockspaceStatus) bool { return l.State != "running" && len(l.Waits) > 0 }) {
		l = control.Blocked
	}
	return l
}

func (n *Node) nodeStatus(c membership.Node, samples []membership.Sample) control.NodeStatus {
	ns := control.NodeStatus{ID: c.ID, Name: n.cfg.Name(c.ID), Votes: n.policy.Votes[c.ID], Leader: n.leader == c.ID, Heard: -1}
	for _, a := range c.Addrs {
		ns.Addrs = append(ns.Addrs, a.String())
	}
	if p := n.peers[c.ID]; p != nil {
		ns.Connected, ns.Differs = p.connected, p.differs
		if p.connected && p.hello != nil {
			ns.Lan = p.hello.Lan
		}
	} else {
		ns.Connected, ns.Heard, ns.Lan = true, 0, n.lan
	}
	for _, x := range samples {
		if x.Peer == c.ID && x.Heard != 0 && (ns.Heard < 0 || n.now.Sub(x.Heard) < ns.Heard) {
			ns.Heard, ns.RTT = max(n.now.Sub(x.Heard), 0), x.RTT
		}
	}
	ns.State, ns.Reason = n.stateOf(c.ID)
	if k := n.lastCase(c.ID); k != nil && k.Proof != nil {
		ns.Proved = k.Proof.How
	}
	if h, left := n.holdOf(c.ID); h != nil {
		ns.HeldBy, ns.Hold = h.Who, left
	}
	if m, ok := n.st.View.Find(c.ID); ok {
		ns.Boot, ns.Session = m.Boot, m.Session
	}
	return ns
}

// stateOf is one word for a node, and why it is not a member.
func (n *Node) stateOf(id membership.NodeID) (state, reason string) {
	if _, ok := n.st.View.Find(id); ok {
		if slices.Contains(n.live.Suspects(), id) {
			return "suspect", "silent"
		}
		if slices.Contains(n.judge.Stalled, id) {
			return "suspect", "its daemon stands still"
		}
		return "member", ""
	}
	if c := n.openCase(id); c != nil {
		if c.Job != nil {
			return "fencing", string(c.Reason)
		}
		return "evicted", string(c.Reason)
	}
	p := n.peers[id]
	rec := n.st.Node(id)
	switch {
	case n.unlisted(id) && (p == nil || !p.connected):
		return "unlisted", ""
	case p != nil && p.connected && (p.said != "" || len(p.differs) > 0):
		return "refused", cmp.Or(p.said, "its configuration differs")
	case n.unmet(id) != nil:
		return "refused", n.unmet(id).text()
	case id == n.cfg.Self || p.connected && slices.Contains(n.live.Hears(), id):
		return "joining", ""
	case n.shutWhy(id) != "":
		return "absent", n.shutWhy(id)
	case rec != nil && rec.Left:
		return "left", string(membership.ReasonLeft)
	case p.connected:
		return "absent", "silent" // its connection stands until that is noticed there, too
	case rec != nil:
		for _, c := range n.st.Cases {
			if c.Victim.Node == id {
				reason = string(c.Reason)
			}
		}
	}
	return "absent", cmp.Or(reason, p.err)
}

func (n *Node) lockspaceStatus(sp *lockspace.Space) control.LockspaceStatus {
	l := control.LockspaceStatus{Name: sp.Name, ID: sp.ID, State: "running", Change: sp.Seq, Members: lockspace.IDs(sp.Live), Local: "none"}
	p, since, here := n.local.Phase(sp.Name)
	if here {
		l.Local = p.String()
	}
	c := sp.Change
	if c == nil {
		if here && p != lockspace.Running {
			l.Waits = n.localWaits(sp.Name, since)
			l.State = p.String()
		}
		return l
	}
	l.Next = lockspace.IDs(c.New)
	st := n.stages[sp.Name]
	var at time.Duration
	if st != nil {
		at = n.now.Sub(st.since)
	}
	l.State, l.Waits = n.changeWaits(sp, at)
	return l
}

// changeWaits says what a change waits for: fencing first, since nothing else helps.
func (n *Node) changeWaits(sp *lockspace.Space, at time.Duration) (string, []control.Wait) {
	c, what := sp.Change, "lockspace "+sp.Name
	var ws []control.Wait
	if c.Opened != 0 {
		if !n.running() {
			ws = append(ws, n.unorderedWait(what, at))
		}
		for _, id := range missing(c) {
			if _, _, here := n.local.Phase(sp.Name); id == n.cfg.Self && !here && !n.running() {
				continue // it was an earlier life of this node, whose kernel has nothing to finish
			}
			ws = append(ws, control.Wait{What: what, For: "recovery", Owner: id, Since: at, Deadline: max(recoverLimit-at, 0),
				Reason: fmt.Sprintf("the DLM in the kernel of %s has not finished recovery", n.cfg.Name(id))})
		}
		return "recovering", ws
	}
	state := "stopping"
	for _, v := range n.set.Unproved(sp) {
		state = "fencing"
		ws = append(ws, n.fenceWait(what, v))
	}
	if n.rivalled() || !n.st.View.Quorate || !n.quorate {
		ws = append(ws, n.unorderedWait(what, at))
	}
	for _, i := range sp.Withdrawn() {
		ws = append(ws, control.Wait{What: what, For: "view", Owner: i.Node, Since: at, Reason: fmt.Sprintf("the file system withdrew on %s, and the kernel of another "+
			"member, older than Linux 6.18, replays the journals of the dead alone: %[1]s has to be evicted, or to reboot", n.cfg.Name(i.Node))})
	}
	return state, append(ws, n.stopWaits(what, c, control.Wait{Since: at})...)
}

// unorderedWait is for what goes on with the next entry, which cannot be ordered.
func (n *Node) unorderedWait(what string, at time.Duration) control.Wait {
	switch {
	case n.rivalled():
		return n.rivalWait(what, at)
	case !n.st.View.Quorate || !n.quorate:
		return control.Wait{What: what, For: "quorum", Since: at, Reason: n.votes().Text}
	}
	return control.Wait{What: what, For: "view", Since: at, Reason: "this node is not a member of the cluster yet"}
}

const onlyWhenOff = " (only when it is off or cut from the disk)"

func (n *Node) fenceWait(what string, v membership.Incarnation) control.Wait {
	w := control.Wait{What: what, For: "fencing", Owner: v.Node, Since: n.now.Sub(n.clock(v).since), Command: "quorate fence ack " + n.cfg.Name(v.Node)}
	w.Reason = fmt.Sprintf("%s was lost and nothing proves yet that it cannot write to the shared disk", n.cfg.Name(v.Node))
	c := n.st.Case(v)
	switch {
	case c == nil:
	case c.Job != nil:
		w.Reason += fmt.Sprintf("; %s is fencing it (attempt %d)", n.cfg.Name(c.Job.Actor.Node), c.Attempts)
		if n.st.Acting(c) {
			w.Reason += ", but was evicted itself: nobody else may before it is proved gone"
			break
		}
		w.Deadline = max(c.Job.Lease-n.now.Sub(n.clock(v).jobSeen), 0)
		if why, left := n.doubt(c); why != "" {
			w.Reason, w.Deadline = w.Reason+why, left
		} else if d := n.delayed(c); d > 0 {
			w.Reason += fmt.Sprintf("; off is delayed for up to %v more (delay, random_delay)", d.Round(time.Second))
		}
	case n.lease(v.Node) == 0:
		w.Reason += "; no fence device is configured for it"
	case c.LastErr != "":
		w.Reason += fmt.Sprintf("; attempt %d to fence it failed: %s", c.Attempts, c.LastErr)
		w.Deadline = max(n.nextAttempt(c).Sub(n.now), 0)
	}
	w.Command += onlyWhenOff
	return w
}

// localWaits are the waits of a lockspace that no change explains.
func (n *Node) localWaits(name string, since membership.Mono) []control.Wait {
	w := control.Wait{What: "lockspace " + name, For: "view", Since: n.now.Sub(since)}
	p, _, _ := n.local.Phase(name)
	switch {
	case n.rivalled():
		w = n.rivalWait(w.What, w.Since)
	case !n.quorate:
		w.For, w.Reason = "quorum", "this node hears too few others for a quorum"
	case !n.Member():
		w.Reason = "this node is not a member of the cluster yet"
	case n.leader == 0:
		w.Reason = "no leader: nothing can be agreed now"
	case p == lockspace.Running:
		return nil
	case n.set.HeldBack(name, n.Self()) != "":
		w.For, w.Reason = "recovery", fmt.Sprintf("lockspace %s comes first: it is not done with an earlier life of this node, or with a join", n.set.HeldBack(name, n.Self()))
	default:
		w.For, w.Owner, w.Reason = "kernel", n.cfg.Self, fmt.Sprintf("this node is %s", p)
		if e := n.local.Err(name); e != "" {
			w.Reason += ": " + e
		}
	}
	return []control.Wait{w}
}

func (n *Node) fenceStatus() []control.FenceStatus {
	var out []control.FenceStatus
	for k := range n.st.Cases {
		c := &n.st.Cases[k]
		if !c.Open() && c.Job == nil {
			continue
		}
		t := n.clock(c.Victim)
		f := control.FenceStatus{Victim: c.Victim, Name: n.cfg.Name(c.Victim.Node), State: "needed", Attempts: int(c.Attempts),
			LastErr: c.LastErr, Since: n.now.Sub(t.since), Index: c.Index, Actor: n.st.Actor(c)}
		switch {
		case c.Job != nil:
			f.State, f.Actor, f.Delay = "running", c.Job.Actor.Node, n.delayed(c)
		case c.LastErr != "":
			f.State, f.Next = "failed", max(n.nextAttempt(c).Sub(n.now), 0)
		}
		out = append(out, f)
	}
	return out
}

// clusterWaits are the waits of the node itself.
func (n *Node) clusterWaits(g membership.GroupStatus) []control.Wait {
	var ws []control.Wait
	if n.rivalled() {
		ws = append(ws, n.rivalWait("cluster", n.now.Sub(n.rivalSince)))
	} else if g.Waiting != "" {
		ws = append(ws, control.Wait{What: "cluster", For: "quorum", Reason: g.Waiting, Since: n.now.Sub(n.unordered.since), Command: cmp.Or(n.quorumDo(), g.Do)})
	}
	if !n.quorate {
		w := control.Wait{What: "this node", For: "quorum", Since: n.now.Sub(n.unlinked.since), Reason: n.hearsWhom(), Command: n.quorumDo()}
		if missing := n.listWaits(); len(missing) > 0 {
			w.Command = missing[0].Command
		}
		ws = append(ws, w)
	}
	if w := n.outside(g.Waiting); w != nil {
		ws = []control.Wait{*w} // what it cannot order, or who has not admitted it, comes of that
	} else if !n.Member() && n.quorate && g.Waiting == "" {
		w := n.joinWait(g.Leader)
		if c := n.st.Blocked(n.cfg.Self); c != nil {
			n.blockedWait(&w, c)
		}
		if why, left, ok := n.unfenceWait(n.cfg.Self); ok {
			w.For, w.Reason, w.Deadline = "unfencing", why, left
		}
		if p := n.peers[g.Leader]; p != nil && len(p.differs) > 0 {
			w.For, w.Command, w.Reason = "config", makeSame, fmt.Sprintf("its quorate.toml differs from %s's in %v", n.cfg.Name(g.Leader), p.differs)
		}
		ws = append(ws, w)
	}
	ws = append(ws, n.refusedWaits()...)
	ws = append(ws, n.shutWaits()...)
	ws = append(ws, n.listWaits()...)
	ws = append(ws, n.keyWaits()...)
	ws = append(ws, n.maintenanceWaits("cluster", n.st.View.IDs())...)
	ws = append(ws, n.takeoverWaits()...)
	ws = append(ws, n.graceWaits()...)
	if !restarted(g) { // else they are from a log that others may have gone on from
		ws = append(ws, n.holdWaits()...)
		ws = append(ws, n.configWaits()...)
		ws = append(ws, n.drainWaits()...)
	}
	if n.running() {
		ws = append(ws, n.absentWaits()...)
	}
	return ws
}

// restarted says that the group does not know yet what was agreed since its log ends.
func restarted(g membership.GroupStatus) bool { return strings.HasPrefix(g.Waiting, "restarted: ") }

// absentWaits are the configured nodes that should be members and are not, or are
// about to be no more. Nothing stands still for them: what does is a graver cause.
func (n *Node) absentWaits() []control.Wait {
	var ws []control.Wait
	for _, id := range n.peerIDs() {
		name := n.cfg.Name(id)
		w := control.Wait{What: "cluster", For: "join", Owner: id, Since: n.now.Sub(max(n.started, n.viewSince))}
		state, reason := n.stateOf(id)
		switch state {
		case "suspect":
			if n.awaitsStart(id) {
				continue
			}
			w.For, w.Since, w.Reason = "answer", max(n.live.Age(id), 0), name+" is silent; it is evicted if it stays so"
			if why, do := n.shut(id); why != "" {
				w.Reason, w.Command = w.Reason+"; "+why+": "+do, do
			}
		case "evicted", "fencing":
			w = n.fenceWait("cluster", n.openCase(id).Victim)
		case "joining":
			n.joiningWait(&w, id)
			if why, do := n.shut(id); why != "" {
				w.Reason, w.Command, w.Deadline = w.Reason+": "+why+": "+do, do, 0
			}
			if why, left, ok := n.unfenceWait(id); ok {
				w.For, w.Reason, w.Deadline = "unfencing", why, left
			}
		case "refused":
			w.Reason, w.Command = name+" is no member: "+reason, n.refusedDo(id)
		case "left":
			w.Reason, w.Command = name+" is no member: it left", n.comeBack(id)
		case "absent":
			w.Reason, w.Command = name+" is no member", n.bringBack(id)
			if _, do := n.shut(id); do != "" {
				w.Command, reason = do, reason+": "+do
			}
			if reason = strings.Join(slices.DeleteFunc([]string{reason, n.fencedHow(id)}, func(s string) bool { return s == "" }), "; "); reason != "" {
				w.Reason += ": " + reason
			}
		default:
			continue
		}
		if c := n.lastCase(id); c != nil && state == "absent" {
			w.Since = n.now.Sub(n.clock(c.Victim).since)
		}
		ws = append(ws, w)
	}
	return ws
}

// lastCase is the newest case of a node.
func (n *Node) lastCase(id membership.NodeID) (last *cluster.Case) {
	for k := range n.st.Cases {
		if c := &n.st.Cases[k]; c.Victim.Node == id && (last == nil || c.Index > last.Index) {
			last = c
		}
	}
	return last
}

// fencedHow says how the newest case of a node was closed; empty: not known.
func (n *Node) fencedHow(id membership.NodeID) string {
	c := n.lastCase(id)
	if c == nil || c.Proof == nil {
		return ""
	}
	text := "proved gone (" + c.Proof.How + ")"
	if c.Proof.How == "agent" {
		text = "fenced"
	}
	for _, r := range n.st.History {
		if t, err := time.Parse(time.RFC3339, r.Wall); err == nil && r.OK && r.Index == c.Proof.Index && r.Victim == c.Victim {
			text += t.Local().Format(" at 2006-01-02 15:04:05")
		}
	}
	switch {
	case c.Proof.Who != "":
		text += " by " + c.Proof.Who
	case c.Proof.Actor != 0:
		text += " by " + n.cfg.Name(c.Proof.Actor)
	}
	return text
}

// blockedWait says what of its earlier life keeps a node out.
func (n *Node) blockedWait(w *control.Wait, c *cluster.Case) {
	w.For, w.Reason = "fencing", n.blockedBy(c)
	if c.Open() {
		return
	}
	w.Owner = c.Job.Actor.Node
	if n.st.Acting(c) {
		w.Command = "quorate fence ack " + n.cfg.Name(w.Owner) + onlyWhenOff
	}
}

func (n *Node) warnings() []string {
	out := slices.Concat(n.maintenanceWarnings(), n.lieWarnings(), n.rivalWarnings(), n.listWarnings(), n.deviceWarnings())
	for _, id := range n.peerIDs() {
		p := n.peers[id]
		if len(p.differs) > 0 {
			out = append(out, fmt.Sprintf("quorate.toml differs from %s's in %v: make the files the same, then where one was changed: %s", n.cfg.Name(id), p.differs, startAnew))
		}
		if p.said != "" {
			out = append(out, fmt.Sprintf("%s: %s", n.cfg.Name(id), p.said))
		}
	}
	for _, h := range n.st.Holds {
		id := h.Incarnation.Node
		if _, left := n.holdOf(id); id != n.cfg.Self && !slices.Contains(n.live.Hears(), id) {
			out = append(out, fmt.Sprintf("%s is silent and held: it is evicted if it has not answered %v after the end of its hold, in %v",
				n.cfg.Name(id), n.cfg.Timing.DeadAfter, left.Round(time.Second)))
		}
	}
	out = append(out, n.witnessWarnings()...)
	if n.noDisk != "" {
		out = append(out, "this node does not vote any more, since its log could not be written ("+n.noDisk+"): unmount, `quorate leave`, repair the file system of the state directory, then start quorated")
	}
	if n.Mute() {
		out = append(out, "this node's prober stands still and asks nobody whether he lives, so nobody counts as silent here: if this does not end by itself the others evict this node after stall_limit; unmount, `quorate leave`, and start quorated; where that is refused reboot the machine, and do not kill quorated")
	}
	if n.Evicted() {
		out = append(out, "this node was evicted: "+cmp.Or(n.evictedWhy(), "see `quorate events`"))
	}
	return out
}

func (n *Node) evictedWhy() string {
	if c := n.st.Case(n.Self()); c != nil {
		return fmt.Sprintf("%s, reported by %s", c.Reason, n.names(c.Observers))
	}
	return ""
}

// History is the newest fencing history, oldest first: what was agreed, and what this node
// tried in a takeover that is not over, or was given up.
func (n *Node) History() []control.FenceRecord {
	out := make([]control.FenceRecord, 0, len(n.st.History)+len(n.attempts))
	names := map[membership.NodeID]string{}
	for _, r := range slices.Concat(n.st.History, n.attempts) {
		if _, ok := names[r.Victim.Node]; !ok {
			names[r.Victim.Node] = n.formerName(r.Victim.Node)
		}
		out = append(out, control.FenceRecord{Victim: r.Victim, Name: names[r.Victim.Node], How: r.How, Actor: r.Actor, Who: r.Who, OK: r.OK, Wall: r.Wall,
			Index: r.Index, Took: r.End.Took, Agent: r.End.Agent, Output: r.End.Output, Err: r.End.Err})
	}
	return out
}
