package sim

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/cmd/quorated/witness/voter"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/group/raft"
)

// The witness is one more host that has a disk and a voter.Voter, and no kernel. An
// operator on some node adds it when there is a cluster.

// machine is what a daemon steps: a node, or a witness's voter.
type machine interface {
	Step(now membership.Mono, in node.Input) []node.Effect
	Deadline() membership.Mono
}

func (d *daemon) machine() machine {
	if d.v != nil {
		return d.v
	}
	return d.n
}

// fault is why the group of a daemon takes no part any more.
func (d *daemon) fault() error {
	if d.v != nil {
		return d.v.Fault()
	}
	return d.group.Fault()
}

// timer is what its timer gives a daemon.
func (d *daemon) timer() node.Timer {
	if d.v != nil {
		return node.Timer{}
	}
	return node.Timer{Samples: d.w.probes.samples(d.h)}
}

// all are the nodes and the witness.
func (w *world) all() []*host {
	if w.witness == nil {
		return w.hosts
	}
	return append(w.hosts[:len(w.hosts):len(w.hosts)], w.witness)
}

// place is a host's place in what the network keeps of pairs.
func (n *network) place(id membership.NodeID) int {
	if id.IsWitness() {
		return n.n - 1
	}
	return int(id - 1)
}

// at is the id of a place.
func (n *network) at(place int) membership.NodeID {
	if place == n.w.plan.nodes {
		return membership.FirstWitness
	}
	return membership.NodeID(place + 1)
}

// talks says whether two hosts have a connection to each other when they can: a node dials
// the witness that it knows of.
func (c *conn) talks() bool {
	return c.a.d != nil && c.b.d != nil && (!c.b.witness || c.a.d.dials == c.b.id)
}

func (h *host) witnessOn() {
	h.on, h.onAt, h.boots = true, h.w.now, h.boots+1
	h.base = membership.Mono(h.r.Between(time.Second, 1000*time.Second))
	h.frozen, h.paused, h.stalled, h.muted = 0, 0, 0, 0
	h.w.tracef("the witness is up")
	boots := h.boots
	h.w.after(h.r.Between(50*time.Millisecond, 500*time.Millisecond), func() {
		if h.on && h.boots == boots && h.d == nil {
			h.startVoter()
		}
	})
}

func (h *host) witnessOff(why string) {
	h.w.tracef("the witness is down: %s", why)
	h.d.kill()
	h.on, h.d = false, nil
	h.w.net.changed()
	h.w.net.silent(h.id)
}

func (h *host) startVoter() {
	d := &daemon{h: h, w: h.w, instance: h.r.Uint64() | 1}
	var restored raft.Restored
	for _, rec := range h.disk {
		if err := restored.Replay(rec); err != nil {
			h.w.violate("log-agreement", "the disk of the witness cannot be replayed: %v", err)
			return
		}
	}
	var nodes []membership.NodeID
	for _, o := range h.w.hosts {
		nodes = append(nodes, o.id)
	}
	t := h.w.plan.timing
	v, effs, err := voter.New(h.mono(), voter.Options{Self: h.id, Nodes: nodes, NewID: h.r.Uint64() | 1, Seed: h.r.Uint64(), Interval: t.Interval, Dead: t.DeadAfter}, restored)
	if err != nil {
		h.w.violate("machine", "the witness does not start: %v", err)
		return
	}
	d.v, h.d = v, d
	h.w.net.changed()
	d.stepped = h.w.now
	d.execute(effs)
}

// voterFault gives up a store whose raft id is of no more use, as the process does.
func (d *daemon) voterFault(err error) {
	h := d.h
	h.w.tracef("the witness: %v; its store is reset", err)
	h.disk = nil
	h.powerCut("its log is of no more use")
	h.powerOnAfter(200 * time.Millisecond)
}

// voterEffect executes what a voter asks for besides records.
func (d *daemon) voterEffect(e node.Effect) {
	switch e := e.(type) {
	case node.Send:
		d.w.check.sent(d.h, e.Data)
		d.w.net.send(d.h.id, e.To, e.Data)
	case node.Emit:
		d.w.tracef("  witness: %s %s", e.Event.Kind, e.Event.Text)
	}
}

// enrol has an operator add the witness, until it is agreed.
func (w *world) enrol() {
	if w.bad != nil || w.done {
		return
	}
	for _, h := range w.hosts {
		if h.d != nil && h.d.n != nil && h.d.n.Member() && h.d.n.Witness() == nil {
			h.tracef("operator: witness add")
			h.d.give(node.Operator{Command: "witness-add", Who: "operator", Witness: &cluster.Witness{Name: "w", Addr: "w:21062",
				Fingerprint: fmt.Sprintf("%064x", w.opt.Seed)}})
			break
		}
	}
	w.after(time.Second, w.enrol)
}

// witnessMissing says what is not as it should be with the witness; empty: nothing.
func (w *world) witnessMissing(voting bool) string {
	if w.witness == nil {
		return ""
	}
	for _, h := range w.hosts {
		if h.d == nil || h.d.n == nil {
			continue
		}
		if h.d.n.Witness() == nil {
			return fmt.Sprintf("node %d knows of no witness", h.id)
		}
		if voting && !h.d.n.WitnessCounts() {
			return fmt.Sprintf("node %d does not count on the witness", h.id)
		}
	}
	return ""
}

// Faults of the witness.

func (f *faults) killWitness() {
	if x := f.w.witness; x != nil {
		x.powerCut("fault")
		x.powerOnAfter(f.log(100*time.Millisecond, 15*time.Second))
	}
}

// cutWitness cuts the witness from some of the nodes, in one direction or both.
func (f *faults) cutWitness() {
	x := f.w.witness
	if x == nil {
		return
	}
	mask, d, both := f.r.Uint64(), f.log(50*time.Millisecond, 20*time.Second), f.r.Chance(0.8)
	f.w.tracef("fault: the witness is cut from %b for %v, both ways %v", mask&(1<<f.w.plan.nodes-1), d, both)
	for _, h := range f.w.hosts {
		if mask>>(h.id-1)&1 == 0 {
			continue
		}
		f.cut(-1, h, x, d)
		if both {
			f.cut(-1, x, h, d)
		}
	}
	f.w.net.changed()
}

// wipeWitness loses its disk, if no other was lost: more would be more than a majority survives.
func (f *faults) wipeWitness() {
	x := f.w.witness
	if x == nil || f.wiped {
		return
	}
	f.wiped = true
	x.powerCut("fault, and its disk is lost")
	x.wipe()
	x.powerOnAfter(f.log(500*time.Millisecond, 10*time.Second))
}

func (f *faults) freezeWitness() {
	if x := f.w.witness; x != nil && x.on {
		x.freeze(f.log(50*time.Millisecond, 15*time.Second))
	}
}

// apart cuts the nodes in two, and the witness goes with a side, or sees both.
func (f *faults) apart() {
	if f.w.witness == nil {
		return
	}
	d, k := f.log(100*time.Millisecond, 20*time.Second), f.r.Intn(3)
	first := f.w.hosts[:max(len(f.w.hosts)/2, 1)]
	f.w.tracef("fault: halves for %v; the witness: %s", d, [...]string{"with the first", "with the second", "sees both"}[k])
	for _, a := range first {
		for _, b := range f.w.hosts[len(first):] {
			f.cut(-1, a, b, d)
			f.cut(-1, b, a, d)
		}
	}
	for i, h := range f.w.hosts {
		if side := i / len(first); k < 2 && min(side, 1) != k {
			f.cut(-1, h, f.w.witness, d)
			f.cut(-1, f.w.witness, h, d)
		}
	}
	f.w.net.changed()
}

var witnessKinds = []func(f *faults){(*faults).killWitness, (*faults).killWitness, (*faults).cutWitness, (*faults).cutWitness,
	(*faults).wipeWitness, (*faults).freezeWitness, (*faults).apart, (*faults).apart, (*faults).apart}
