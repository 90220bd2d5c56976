package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
)

// askMaintenance has a maintenance of the cluster announced. It is answered when
// that is agreed and applied here. One that is asked for while another is in force
// is never shorter than what is left of that: somebody relies on it.
func (n *Node) askMaintenance(in Operator) {
	if in.For < cluster.MinMaintenance || in.For > cluster.MaxMaintenance {
		n.refuseOperator(in, "a maintenance lasts from %s to %s, not %s; announce a longer one again before the first ends",
			membership.Short(cluster.MinMaintenance), membership.Short(cluster.MaxMaintenance), membership.Short(in.For))
		return
	}
	long, more := in.For, ""
	if left := n.maintenanceLeft().Round(time.Second); left > long {
		long, more = left, ", as one that is in force already"
	}
	m := &cluster.Maintenance{For: long, Who: n.askedBy(in), After: n.st.MaintenanceLast, Ask: n.askName(in)}
	n.askFor(in, cluster.Command{Maintenance: m},
		fmt.Sprintf("maintenance for %s%s: no node is evicted or fenced for its silence; `quorate maintenance off` ends it", membership.Short(long), more))
}

// askMaintenanceEnd has it ended.
func (n *Node) askMaintenanceEnd(in Operator) {
	m := n.st.Maintenance
	if m == nil {
		n.refuseOperator(in, "no maintenance is in force; see `quorate status`")
		return
	}
	end := &cluster.MaintenanceEnd{Index: m.Index, Who: in.Who}
	n.askFor(in, cluster.Command{MaintenanceEnd: end},
		fmt.Sprintf("maintenance is over: who stays silent for %s from now is evicted", membership.Short(n.cfg.Timing.DeadAfter)))
}

// endMaintenance is the leader's: it has it ended when its time is over by its
// count. A leader whose daemon was started meanwhile counts from then, and would be
// hours late: a second later every member does it. None counts too fast, since all
// began after it was ordered.
func (n *Node) endMaintenance() {
	c := n.maintained
	if !n.leads() {
		c.until = c.until.Add(time.Second)
	}
	switch {
	case c.index == 0 || !n.Member():
	case n.now < c.until:
		n.wake(c.until)
	default:
		end := cluster.Command{MaintenanceEnd: &cluster.MaintenanceEnd{Index: c.index}}
		n.propose(askKey(end), end)
	}
}

// endedHere: an operator wanted it ended, and nobody was there to agree. For this node
// it is over, so that what it may do alone by the rules of the configuration it does.
func (n *Node) endedHere() {
	n.maintained.until = min(n.maintained.until, n.now)
	n.liveness(liveness.Maintenance{Until: n.now})
}

// maintenanceBars says that those who are too few fence nobody to go on without them;
// empty: they may. Its end cannot be ordered then, so each goes by its own count.
func (n *Node) maintenanceBars() string {
	if n.maintenanceLeft() == 0 {
		return ""
	}
	return "the cluster is in maintenance: nobody is fenced for silence; `quorate maintenance off` ends it"
}

// maintainedNow does what follows from an entry about a maintenance.
func (n *Node) maintainedNow(index uint64, o cluster.Outcome) {
	n.followMaintenance()
	if m := o.Maintained; m != nil {
		n.emit(membership.Event{Kind: membership.KindMaintenance, Index: index,
			Text: fmt.Sprintf("maintenance for %s, by %s: silence evicts nobody before its end", membership.Short(m.For), m.Who)})
	}
	if o.Unmaintained != nil {
		n.unmaintained = n.now
		n.emit(membership.Event{Kind: membership.KindMaintenance, Index: index, Text: "maintenance is over"})
	}
}

// followMaintenance makes this node's clock, and what the detector knows, those of
// the agreed maintenance. One that is new here counts from now.
func (n *Node) followMaintenance() {
	c := holdClock{}
	if m := n.st.Maintenance; m != nil {
		c = holdClock{index: m.Index, until: n.now.Add(m.For)}
	}
	switch {
	case c.index == n.maintained.index:
		return
	case c.index == 0:
		n.liveness(liveness.Maintenance{Until: n.now})
	default:
		n.liveness(liveness.Maintenance{Until: c.until})
	}
	n.maintained = c
}

// maintenanceLeft is what is left of a maintenance by this node's count.
func (n *Node) maintenanceLeft() time.Duration {
	if n.maintained.index == 0 {
		return 0
	}
	return max(n.maintained.until.Sub(n.now), 0)
}

// maintenanceStatus is the maintenance in force, or nil.
func (n *Node) maintenanceStatus() *control.MaintenanceStatus {
	m := n.st.Maintenance
	if m == nil {
		return nil
	}
	return &control.MaintenanceStatus{Who: m.Who, Left: n.maintenanceLeft()}
}

// maintenanceWarnings say that it is in force: nobody should forget it.
func (n *Node) maintenanceWarnings() []string {
	m := n.st.Maintenance
	if m == nil {
		return nil
	}
	return []string{fmt.Sprintf("MAINTENANCE until %s, by %s: no node is evicted or fenced for its silence, and who waits for a dead one waits until then; `quorate maintenance off` ends it",
		n.maintenanceUntil(), m.Who)}
}

// maintenanceUntil is its end as people say it; the time of day is this node's.
func (n *Node) maintenanceUntil() string {
	left := n.maintenanceLeft()
	text := "its end in " + left.Round(time.Second).String()
	if t, err := time.Parse(time.RFC3339, n.wall); err == nil {
		text = fmt.Sprintf("%s (%s left)", t.Add(left).Local().Format("2006-01-02 15:04:05"), left.Round(time.Second))
	}
	return text
}

// dozing are the members that are silent and stay members for the maintenance.
func (n *Node) dozing() []membership.NodeID {
	if n.st.Maintenance == nil {
		return nil
	}
	return n.without(n.audible()...)
}

// maintenanceWaits are the members that would be evicted were it not for the
// maintenance: who needs their word, or their locks, waits.
func (n *Node) maintenanceWaits(what string, of []membership.NodeID) []control.Wait {
	var ws []control.Wait
	for _, id := range n.dozing() {
		if slices.Contains(of, id) {
			ws = append(ws, n.maintenanceWait(what, id, "is silent", max(n.live.Age(id), 0)))
		}
	}
	return ws
}

func (n *Node) maintenanceWait(what string, id membership.NodeID, does string, since time.Duration) control.Wait {
	name := n.cfg.Name(id)
	return control.Wait{What: what, For: "maintenance", Owner: id, Since: since, Deadline: n.maintenanceLeft(),
		Reason: fmt.Sprintf("%s %s, and is not evicted before the end of the maintenance that %s announced: whoever needs its locks or its word waits",
			name, does, n.st.Maintenance.Who),
		Command: "quorate maintenance off (" + name + " is then evicted, and fenced, unless it answers)"}
}

// spaceMaintenance are those of a lockspace: the silent, and who is late with a step.
func (n *Node) spaceMaintenance(sp *lockspace.Space) []control.Wait {
	if n.st.Maintenance == nil {
		return nil
	}
	what, ids, c := "lockspace "+sp.Name, lockspace.IDs(sp.Live), sp.Change
	if c != nil {
		ids = append(append(ids, c.Stop...), lockspace.IDs(c.New)...)
	}
	ws := n.maintenanceWaits(what, ids)
	st := n.stages[sp.Name]
	if c == nil || st == nil {
		return ws
	}
	limit := stopLimit
	if c.Opened != 0 {
		limit = recoverLimit
	}
	for _, id := range missing(c) {
		at := n.now.Sub(st.since)
		if at >= limit && !slices.ContainsFunc(ws, func(w control.Wait) bool { return w.Owner == id }) {
			ws = append(ws, n.maintenanceWait(what, id, "is late", at))
		}
	}
	return ws
}
