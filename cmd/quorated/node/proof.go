package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// A device that reports success and cuts nothing is noticed by its victim's
// answers (S13). What is heard of the victim's boot after an agent has succeeded
// may have been on its way when the power went; dead_after of silence from then on
// is what proves nothing else to be so. A victim that had been silent for so long
// before needs no more of it.
const (
	lieLimit = 10 * time.Second // an answering victim's agent is believed no longer
	lateNews = 5 * time.Second  // how late a hello may come
	maxLives = 8                // runs of a peer's daemon, and epochs of its answers, that are known by their boot
)

// lieWait is how long a successful agent's word is looked into at most.
func (n *Node) lieWait() time.Duration { return max(lieLimit, 2*n.cfg.Timing.DeadAfter) }

// quiet says whether the victim has been silent for long enough to believe the
// agents of a level that ended its job, and if not, from when on it may be. What this
// node did not hear because it stood still itself is no silence.
func (n *Node) quiet(v membership.Incarnation, level int, ended membership.Mono) (bool, membership.Mono) {
	if n.every(v.Node, level, membership.Device.Local) {
		return true, 0
	}
	dead := n.cfg.Timing.DeadAfter
	raw, hello := n.heardOf(v, level)
	last := max(raw, hello, n.heardAwake(v), n.heardByOthers(v))
	at := max(last, ended).Add(dead)
	switch {
	case n.brk == skipLie, last == 0:
		return true, 0
	case n.retimed > last: // an answer to a probe of the former interval looks old by the new times
		last, at = n.retimed, max(n.retimed, ended).Add(dead)
	}
	switch {
	case n.lookedAt >= at:
		return true, 0
	case n.lookedAt.Add(dead/2) < ended: // it did not look for long: it may have stood still
		return false, n.now
	case last.Add(dead) <= ended:
		return true, 0
	}
	return false, max(at, n.now)
}

// heardAwake is when this node's probes last heard an incarnation's boot, moved on
// by the times in which this node itself stood still; 0: never.
func (n *Node) heardAwake(v membership.Incarnation) membership.Mono {
	age := n.live.Age(v.Node)
	if age < 0 || !slices.ContainsFunc(n.samples, func(s membership.Sample) bool { return s.Peer == v.Node && n.bootOf(v.Node, s.Instance) == v.Boot }) {
		return 0
	}
	return n.lookedAt.Add(-age)
}

// heardOf is when an incarnation's boot was heard last by this node: its answers to
// probes, and its daemon's hello. 0: never. A kernel that has lost its daemon may write as
// well as it may answer, and counts, unless the level's devices leave it its power: then
// it answers in any case. Of such a one nothing is known of the time in which this node stood still.
func (n *Node) heardOf(v membership.Incarnation, level int) (raw, hello membership.Mono) {
	kernels := !n.every(v.Node, level, membership.Device.LeavesPower)
	for _, s := range n.samples {
		if s.Peer == v.Node && n.bootOf(v.Node, s.Instance) == v.Boot {
			if raw = max(raw, s.Heard); kernels && s.Alive > s.Heard {
				raw = max(raw, s.Alive, n.woke)
			}
		}
	}
	if p := n.peers[v.Node]; p != nil && p.hello != nil && p.hello.Boot == v.Boot {
		hello = p.helloAt
	}
	return raw, hello
}

// heardByOthers is when others heard it, by their rows; 0: never. Who stood still
// counts its silence from later, and a row may be late: it is heard too long rather
// than too short.
func (n *Node) heardByOthers(v membership.Incarnation) (told membership.Mono) {
	for id, p := range n.peers {
		if id == v.Node || p.row == nil {
			continue
		}
		for _, a := range p.row.Ages {
			if a.Peer == v.Node && a.Age >= 0 && a.Instance != 0 && n.bootOf(v.Node, a.Instance) == v.Boot {
				told = max(told, p.rowAt.Add(-a.Age))
			}
		}
	}
	return told
}

// bootOf is the boot that a run of a peer's daemon, or an epoch of its answers, is of;
// empty: not known.
func (n *Node) bootOf(id membership.NodeID, instance uint64) membership.BootID {
	if r := n.st.Node(id); r != nil && r.Instance == instance {
		return r.Last.Boot
	}
	if p := n.peers[id]; p != nil {
		for _, l := range p.lives {
			if l.instance == instance {
				return l.boot
			}
		}
	}
	return ""
}

// life is one run of a peer's daemon, or one epoch of its answers.
type life struct {
	instance uint64
	boot     membership.BootID
}

func (p *peer) lived(l life) {
	p.lives = append(slices.DeleteFunc(p.lives, func(x life) bool { return x == l }), l) // the newest last
	p.lives = p.lives[max(0, len(p.lives)-maxLives):]
}

// judged is a job's result as it may be ordered, and the level that lied, if one
// did; ok is false while it may not be.
func (n *Node) judged(v membership.Incarnation, r membership.FenceResult, ended membership.Mono) (_ membership.FenceResult, lied int, ok bool) {
	if !r.OK {
		return r, 0, true
	}
	quiet, at := n.quiet(v, r.Level, ended)
	limit := ended.Add(n.lieWait())
	switch {
	case quiet:
		return r, 0, true
	case n.now < limit:
		n.wake(min(at, limit))
		return r, 0, false
	}
	r.OK, r.Err = false, fmt.Sprintf("%s: the device lies: it reported success, and %s still answers in the same boot: check that its plug or address is that of %[2]s",
		r.Agent, n.cfg.Name(v.Node))
	return r, r.Level, true
}

// every says whether all of a node's devices of a level are so; false: it has none.
func (n *Node) every(id membership.NodeID, level int, so func(membership.Device) bool) (all bool) {
	for _, d := range n.cfg.Devices {
		if d.Level == level && slices.Contains(d.Nodes, id) {
			if !so(d) {
				return false
			}
			all = true
		}
	}
	return all
}

// liars looks for victims that answer although an agent's word was taken as proof.
func (n *Node) liars() {
	for k := range n.st.Cases {
		c := &n.st.Cases[k]
		if c.Proof == nil || c.Proof.How != "agent" {
			continue
		}
		if n.every(c.Victim.Node, c.Proof.Level, membership.Device.Local) {
			continue
		}
		t := n.clock(c.Victim)
		from := max(t.ended, t.since, t.proved, n.woke).Add(n.cfg.Timing.DeadAfter) // what came while it stood still is read late
		raw, hello := n.heardOf(c.Victim, c.Proof.Level)
		if t.lied != 0 || raw <= from && hello <= from.Add(lateNews) {
			continue
		}
		t.lied = n.now
		n.emit(membership.Event{Kind: membership.KindLied, Subject: c.Victim.Node, Incident: incident(c.Index), Text: n.lieText(c)})
	}
}

// lieText is what an operator has to know of a proof that was none.
func (n *Node) lieText(c *cluster.Case) string {
	name, agent := n.cfg.Name(c.Victim.Node), "a fence device"
	for _, r := range n.st.History {
		if r.OK && r.Victim == c.Victim && r.Index == c.Proof.Index && r.End.Agent != "" {
			agent = r.End.Agent
		}
	}
	return fmt.Sprintf("%s lied: it reported success against %s, which still answers in the same boot: power %[2]s off by hand now, correct the plug or address of that [[fence]], "+
		"and check the file systems: both sides may have written", agent, name)
}

func (n *Node) lieWarnings() (out []string) {
	for k := range n.st.Cases {
		if c := &n.st.Cases[k]; c.Proof != nil && n.clock(c.Victim).lied != 0 {
			out = append(out, n.lieText(c))
		}
	}
	return out
}

// doubt says why a job whose agent has succeeded is not over; empty: there is none.
func (n *Node) doubt(c *cluster.Case) (string, time.Duration) {
	j := n.jobs[jobKey{c.Victim, c.Attempts}]
	if j == nil || j.result == nil || !j.result.OK {
		return "", 0
	}
	if quiet, _ := n.quiet(c.Victim, j.result.Level, j.ended); quiet {
		return "", 0
	}
	return fmt.Sprintf("; %s reported success, and %s was heard since: it has to be silent for %v", j.result.Agent, n.cfg.Name(c.Victim.Node), n.cfg.Timing.DeadAfter),
		max(j.ended.Add(n.lieWait()).Sub(n.now), 0)
}
