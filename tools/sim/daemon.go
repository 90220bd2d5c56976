package sim

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/cmd/quorated/witness/voter"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/raft"
)

// daemon is one run of quorated: the pure machine and an edge that executes its
// effects in order, one input after the other.
type daemon struct {
	h        *host
	w        *world
	n        *node.Node
	v        *voter.Voter      // of the witness, in the place of n and group
	dials    membership.NodeID // the witness that the node has a connection to, or tries
	group    group
	instance uint64
	dead     bool
	inbox    []node.Input
	effects  []node.Effect // of the step under way
	busy     bool          // a write is under way
	timerAt  time.Duration // of the event that will wake it; 0: none
	due      bool          // a timer input waits
	stepped  time.Duration
	lastAsk  time.Duration            // its last step at which its prober did not stand still
	lateAt   time.Duration            // when it last made a step after a long time without one
	entries  []membership.GroupEffect // delivered in the step under way
	states   []membership.GroupCompact
	crashIn  int               // effects until it crashes; 0: it does not
	noDisk   bool              // a record could not be written: none is any more
	lost     bool              // and that was in the step under way
	cfg      membership.Config // that it works by
	conf     *node.Replicated  // nil: a file's
	worksBy  uint64            // version of it
	asked    uint64            // last token of an operator
	answers  map[uint64]func(node.Reply)
	asking   *question // of a device
}

func (h *host) startDaemon() {
	h.runs++
	d := &daemon{h: h, w: h.w, instance: h.r.Uint64() | 1, answers: map[uint64]func(node.Reply){}}
	if !d.openGroup() {
		return
	}
	h.d = d
	h.kern.opened()
	h.tracef("daemon starts, instance %d", h.runs)
	var effs []node.Effect
	d.guard(func() {
		d.n, effs = node.New(h.mono(), node.Options{Config: d.cfg, Conf: d.conf, Group: tap{d}, Boot: d.entries,
			Break: h.w.opt.Break, List: h.w.list(), Recovers: h.kern.newer, Identity: node.Identity{Boot: h.boot, Instance: d.instance, Machine: fmt.Sprintf("machine-%d-%d", h.id, h.machines),
				Version: "sim", Kernel: "sim", Digest: "same"}})
	})
	if h.w.bad != nil {
		return
	}
	h.w.net.changed()
	d.stepped, d.lastAsk = h.w.now, h.w.now
	d.execute(effs)
	h.kern.watchPaths(d, nil)
	h.kern.programs()
}

// openGroup makes the group. Raft's log is restored from the disk; one that
// cannot be used is reset.
func (d *daemon) openGroup() bool {
	h := d.h
	if h.w.opt.Static {
		return d.openStatic()
	}
	var restored raft.Restored
	for _, rec := range h.disk {
		if err := restored.Replay(rec); err != nil {
			h.w.violate("log-agreement", "the disk of node %d cannot be replayed: %v", h.id, err)
			return false
		}
	}
	d.cfg, d.conf = h.conf(restored.Identity.ClusterID)
	d.worksBy = d.conf.Version
	ids := d.cfg.IDs()
	if h.w.bad != nil || !slices.Contains(ids, h.id) {
		h.tracef("daemon does not start: this node is not configured any more")
		return false
	}
	timing := d.cfg.Timing
	m, boot, err := raft.New(raft.Config{Self: h.id, Nodes: ids, NewID: h.r.Uint64() | 1, NewClusterID: fmt.Sprintf("c%x", h.r.Uint64()),
		Seed: h.r.Uint64(), Heartbeat: node.Heartbeat(timing), Backstop: node.Backstop(timing),
		Careless: h.w.opt.Break == node.Careless}, restored) // as the daemon has it
	if err != nil {
		h.w.violate("machine", "the group of node %d does not start: %v", h.id, err)
		return false
	}
	d.group = m
	d.entries = boot
	return true
}

// kill ends the daemon; what it had not executed is lost.
func (d *daemon) kill() {
	if d != nil {
		d.dead = true
		d.inbox, d.effects = nil, nil
	}
}

// give is an input for the daemon.
func (d *daemon) give(in node.Input) {
	if d == nil || d.dead {
		return
	}
	d.inbox = append(d.inbox, in)
	d.pump()
}

// mute: its prober stands still, and it knows; its progress word does then.
func (d *daemon) mute() bool { return d.n != nil && d.n.Mute() }

// pump steps the machine as long as there is something to do and it may run.
func (d *daemon) pump() {
	if d == nil {
		return
	}
	for !d.dead && !d.busy && d.h.paused == 0 && d.h.stalled == 0 && d.h.frozen == 0 && d.w.bad == nil {
		var in node.Input
		switch {
		case d.due:
			d.due = false
			in = d.timer()
		case len(d.inbox) > 0:
			in = d.inbox[0]
			d.inbox = d.inbox[1:]
		default:
			return
		}
		d.step(in)
	}
}

func (d *daemon) step(in node.Input) {
	d.w.steps++
	if d.w.now-d.stepped > longStep {
		d.lateAt = d.w.now
	}
	if d.stepped = d.w.now; !d.mute() {
		d.lastAsk = d.w.now
	}
	var effs []node.Effect
	d.guard(func() { effs = d.machine().Step(d.h.mono(), in) })
	if d.w.bad == nil {
		d.execute(effs)
	}
}

// guard makes a violation of a panic.
func (d *daemon) guard(do func()) {
	defer func() {
		if p := recover(); p != nil {
			d.w.violate("machine", "node %d panics: %v\n%s", d.h.id, p, debug.Stack())
		}
	}()
	do()
}

// execute does the effects in order. A record is durable before anything after
// it is done; a crash may come between any two.
func (d *daemon) execute(effs []node.Effect) {
	d.effects = effs
	for len(d.effects) > 0 && d.w.bad == nil {
		if d.crashIn > 0 {
			if d.crashIn--; d.crashIn == 0 {
				d.crashHere()
				return
			}
		}
		e := d.effects[0]
		d.effects = d.effects[1:]
		if p, ok := e.(node.Persist); ok && !d.unwritten() {
			d.persist(p)
			return
		}
		d.do(e)
		if d.dead {
			return
		}
	}
	d.stepDone()
}

func (d *daemon) crashHere() {
	if d.h.r.Chance(0.5) {
		d.h.reboot("crash between two effects", d.h.r.Between(time.Second, 5*time.Second))
		return
	}
	d.h.daemonCrash("crash between two effects")
}

// persist writes this record and those that follow it directly.
func (d *daemon) persist(p node.Persist) {
	recs := []*raft.Record{p.Record.(*raft.Record)}
	for len(d.effects) > 0 {
		next, ok := d.effects[0].(node.Persist)
		if !ok {
			break
		}
		recs = append(recs, next.Record.(*raft.Record))
		d.effects = d.effects[1:]
	}
	limit := d.h.writes
	if limit == 0 {
		limit = d.w.plan.fsync
	}
	d.busy = true
	// What is durable when the power goes is anything between nothing and all.
	hits := make([]time.Duration, len(recs))
	t := time.Duration(0)
	for i := range recs {
		t += d.h.r.Between(limit/20, limit)
		hits[i] = t
	}
	for i, rec := range recs {
		d.w.after(hits[i]-limit/40, func() {
			if !d.dead {
				d.h.store(rec)
			}
		})
	}
	d.w.after(t, d.written)
}

func (h *host) store(rec *raft.Record) {
	if rec.Checkpoint {
		h.disk = h.disk[:0:0]
	}
	h.disk = append(h.disk, rec)
}

func (d *daemon) written() {
	if d.dead {
		return
	}
	d.busy = false
	rest := d.effects
	d.effects = nil
	d.execute(rest)
	if !d.busy {
		d.pump()
	}
}

// unwritten says that a record that is due is not written, nor any after it.
func (d *daemon) unwritten() bool {
	if !d.noDisk && d.h.readOnly {
		d.h.tracef("a record cannot be written")
		d.noDisk, d.lost = true, true
	}
	return d.noDisk
}

// stepDone is the end of a step: what was delivered in it counts now.
func (d *daemon) stepDone() {
	for _, e := range d.entries {
		d.w.check.delivered(d.h, e)
	}
	d.entries = d.entries[:0]
	for _, c := range d.states {
		d.w.check.state(d.h, c.Index, c.State)
	}
	d.states = d.states[:0]
	if err := d.fault(); err != nil && !d.dead {
		d.groupFault(err)
		return
	}
	if d.lost {
		d.lost = false
		d.step(node.DiskLost{Why: "read-only file system"})
		return
	}
	d.arm()
}

// groupFault resets a store whose raft id is of no more use, as the daemon does.
func (d *daemon) groupFault(err error) {
	h := d.h
	if errors.Is(err, raft.ErrBroken) {
		h.w.violate("machine", "node %d: %v", h.id, err)
		return
	}
	if h.witness {
		d.voterFault(err)
		return
	}
	h.tracef("group: %v; the store is reset", err)
	h.disk = nil
	h.daemonCrash("its log is of no more use")
}

// arm sets the timer.
func (d *daemon) arm() {
	due := d.machine().Deadline()
	if due == 0 {
		return
	}
	at := max(d.h.worldAt(due), d.w.now+20*time.Microsecond)
	if d.timerAt != 0 && d.timerAt <= at {
		return
	}
	d.timerAt = at
	d.w.at(at, func() {
		if d.dead || d.timerAt != at {
			return
		}
		d.timerAt = 0
		if d.h.mono() < d.machine().Deadline() {
			d.arm()
			return
		}
		d.due = true
		d.pump()
	})
}
