package node

import (
	"encoding/json"
	"fmt"

	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
)

const lockspaces = "lockspace" // the consumer's name in entries

func entry(m lockspace.Message) cluster.Command {
	return cluster.Command{Message: &cluster.Message{Consumer: lockspaces, Data: m.Encode()}}
}

// snapshot is the consumers' state as of an index.
type snapshot struct {
	Cluster    json.RawMessage `json:"cluster"`
	Lockspaces json.RawMessage `json:"lockspaces"`
}

func (n *Node) restore(e membership.GroupRestore) {
	var s snapshot
	if len(e.State) > 0 {
		if err := json.Unmarshal(e.State, &s); err != nil {
			n.break_("snapshot of the cluster's state cannot be read: " + err.Error())
			return
		}
	}
	if err := n.st.Restore(s.Cluster); err != nil {
		n.break_(err.Error())
		return
	}
	if err := n.set.Restore(s.Lockspaces); err != nil {
		n.break_(err.Error())
		return
	}
	n.compacted = e.Index
	n.drainedAt = 0
	n.followList()
	n.followConfig()
	n.followWitness(0)
	n.followElectorate()
	n.followVoters()
	for _, r := range n.st.Nodes {
		n.noteAdmitted(r.Node)
	}
	for _, c := range n.st.Cases {
		n.clock(c.Victim)
	}
	n.newView()
	n.followHolds()
	n.followMaintenance()
}

// State encodes the replicated state, as a snapshot holds it.
func (n *Node) State() ([]byte, error) {
	c, err := n.st.Snapshot()
	if err != nil {
		return nil, err
	}
	l, err := n.set.Snapshot()
	if err != nil {
		return nil, err
	}
	return json.Marshal(snapshot{Cluster: c, Lockspaces: l})
}

func (n *Node) deliver(e membership.GroupDeliver) {
	c, err := cluster.Decode(e.Data)
	if err != nil {
		n.break_(err.Error())
		return
	}
	if m := c.Message; m != nil {
		n.st.Index = e.Index
		if m.Consumer != lockspaces {
			n.break_(fmt.Sprintf("%v: consumer %q", cluster.ErrEntry, m.Consumer))
			return
		}
		if err := n.set.Message(e.Index, c.By, m.Data); err != nil {
			n.break_(err.Error())
			return
		}
		n.notices(e.Index)
		return
	}
	n.apply(e.Index, c)
}

func (n *Node) apply(index uint64, c cluster.Command) {
	holds := n.set.Holds
	if n.brk == skipFence {
		holds = func(membership.Incarnation) bool { return false }
	}
	o := n.st.Apply(index, c, holds, n.quorum)
	if n.brk == skipHold {
		n.st.Holds, n.st.Maintenance = nil, nil
	}
	n.answerAsk(c, o)
	if o.Refused != "" {
		n.answerConfig(c, o)
		return
	}
	n.followList()
	n.followWitness(index)
	n.followElectorate()
	n.followVoters()
	if c.Takeover != nil {
		n.endShots(n.takeover)
		n.takeover = nil
		if c.By == n.Self() {
			n.attempts = nil // it has them
		}
	}
	for _, k := range o.Evicted {
		n.clock(k.Victim)
		n.emit(membership.Event{Kind: membership.KindEvicted, Subject: k.Victim.Node, Index: index, Incident: incident(k.Index),
			Text: fmt.Sprintf("%v %s; %s", k.Victim, k.Reason, needs(k))})
	}
	if o.View != nil {
		n.viewed(index, *o.View)
	}
	n.heldNow(index, o)
	n.maintainedNow(index, o)
	n.configured(index, o)
	n.answerConfig(c, o)
	n.drained(index, o)
	n.fencing(index, o)
	n.unfenceApplied(index, o)
	for _, i := range o.Proved {
		n.clock(i).proved = n.now
		n.set.Proved(index, i)
		k := n.st.Case(i)
		n.emit(membership.Event{Kind: membership.KindFenced, Subject: i.Node, Index: index, Incident: incident(k.Index), Text: n.proofText(i, *k.Proof)})
	}
	n.notices(index)
}

// viewed follows a view that an entry made.
func (n *Node) viewed(index uint64, v membership.View) {
	n.set.View(index, v)
	if n.brk == skipFence {
		n.set.Lost = nil
		n.set.Proved(index, membership.Incarnation{})
	}
	for _, id := range v.Joined {
		n.noteAdmitted(id)
	}
	n.newView()
	n.emit(membership.Event{Kind: membership.KindView, Index: index, View: v.Number, Text: viewText(v)})
}

func (n *Node) noteAdmitted(id membership.NodeID) {
	if p := n.peers[id]; p != nil {
		p.admitted = n.now
	}
}

func incident(index uint64) string { return fmt.Sprintf("e%d", index) }

func needs(c cluster.Case) string {
	if c.Needed {
		return "its death needs proof"
	}
	return "it held no lockspace"
}

func viewText(v membership.View) string {
	q := ""
	if !v.Quorate {
		q = ", no quorum yet"
	}
	return fmt.Sprintf("members %v%s", v.IDs(), q)
}

func (n *Node) proofText(i membership.Incarnation, p cluster.Proof) string {
	switch {
	case p.Who != "":
		return fmt.Sprintf("%v is gone: %s, by %s", i, p.How, p.Who)
	case p.Actor != 0:
		return fmt.Sprintf("%v is gone: %s, by %s", i, p.How, n.cfg.Name(p.Actor))
	}
	return fmt.Sprintf("%v is gone: %s", i, p.How)
}

// newView tells everyone here of the view.
func (n *Node) newView() {
	w := map[membership.NodeID]int{}
	for _, m := range n.st.View.Members {
		w[m.Node] = n.set.Held(m.Node)
	}
	n.verdict = nil
	n.viewSince = n.now
	if n.Member() && n.st.View.Quorate {
		n.seasoned, n.override = true, "" // an operator's word was for what came before
	}
	n.liveness(liveness.ViewIn{View: n.st.View, Weight: w})
	if b := n.Evicted() || n.left(); b != n.barred {
		n.giveJudge()
	}
}

// fencing follows the jobs: this node runs those that it proposed itself.
func (n *Node) fencing(index uint64, o cluster.Outcome) {
	if j := o.Started; j != nil {
		c := n.clock(j.Victim)
		c.job, c.jobSeen = j.Attempt, n.now
		n.emit(membership.Event{Kind: membership.KindFenceStart, Subject: j.Victim.Node, Index: index, Incident: n.incident(j.Victim),
			Text: fmt.Sprintf("attempt %d by node %d", j.Attempt, j.Actor.Node)})
		mine := n.jobs[jobKey{j.Victim, j.Attempt}]
		if j.Actor == n.Self() && n.Member() && mine != nil && !mine.run {
			mine.run = true
			if t := n.takeover; t != nil && t.shots != nil {
				// Of the end of the log, which is ordered since a takeover says so: that has the proof.
				mine.result = &membership.FenceResult{Err: "not begun: a takeover had it fenced"}
			} else {
				mine.began = membership.FenceJob{Victim: j.Victim, Attempt: j.Attempt, Deadline: mine.deadline, After: n.st.Case(j.Victim).Lied}
				n.do(Fence{Job: mine.began})
			}
		} else if n.brk == doubleActor && n.Member() {
			n.do(Fence{Job: membership.FenceJob{Victim: j.Victim, Attempt: j.Attempt, Deadline: n.now.Add(fenceStart)}})
		}
	}
	for _, j := range o.Ended {
		n.clock(j.Victim).ended = n.now
		if mine := n.jobs[jobKey{j.Victim, j.Attempt}]; mine != nil && mine.run && mine.result == nil {
			n.stray(mine.began) // proved otherwise
		}
		delete(n.jobs, jobKey{j.Victim, j.Attempt})
		e := membership.Event{Kind: membership.KindFenceEnd, Subject: j.Victim.Node, Index: index, Incident: n.incident(j.Victim),
			Text: fmt.Sprintf("attempt %d by node %d", j.Attempt, j.Actor.Node)}
		if c := n.st.Case(j.Victim); c != nil && c.Proof == nil {
			e.Text += " failed: " + c.LastErr
		}
		n.emit(e)
	}
}

func (n *Node) incident(v membership.Incarnation) string {
	if c := n.st.Case(v); c != nil {
		return incident(c.Index)
	}
	return ""
}

func (n *Node) clock(v membership.Incarnation) *caseClock {
	c := n.cases[v]
	if c == nil {
		c = &caseClock{since: n.now}
		n.cases[v] = c
	}
	return c
}

func (n *Node) notices(index uint64) {
	for _, x := range n.set.Notices() {
		n.notice(x, index)
	}
}

func (n *Node) notice(x lockspace.Notice, index uint64) {
	n.emit(membership.Event{Kind: x.Kind, Subject: x.Node, Lockspace: x.Lockspace, Change: x.Change, Index: index, Text: x.Text})
}
