package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// Options say what to run.
type Options struct {
	Seed  uint64
	Break string // a safety rule that the nodes leave out; see node.Options
	Story *Story // the faults; nil: random ones
	// Static has group/static order, by a list of all nodes, without fence devices.
	Static bool
	Trace  func(string) // is given every line of the timeline; nil: none is made
	// Told is given every event of every node's log, Died the end of every boot; nil: nobody asks.
	Told func(at time.Duration, e membership.Event)
	Died func(at time.Duration, boot membership.Incarnation)
}

// Violation is an invariant that did not hold.
type Violation struct {
	Name string // as in the package's documentation
	Text string
	At   time.Duration
}

// String gives the name first.
func (v Violation) String() string { return v.Name + ": " + v.Text }

// Result is what became of a run.
type Result struct {
	Seed      uint64
	Nodes     int
	Fewer     bool          // by the rules of its quorum fewer than a majority may go on
	Witness   bool          // one votes, sooner or later
	Steps     uint64        // inputs that nodes were stepped with
	Virtual   time.Duration // how long the run was in the world's time
	Hash      uint64        // of everything that happened: equal for equal runs
	Violation *Violation
}

// limits of one run.
const (
	progressBound = 120 * time.Second // I8: from the end of the last fault
	maxEvents     = 8_000_000
)

// world is one run.
type world struct {
	opt    Options
	plan   plan
	now    time.Duration
	q      queue
	seq    uint64
	steps  uint64
	events uint64
	notes  uint64 // of configurations that operators proposed
	talks  uint64 // conversations of kernels
	hash   uint64

	hosts   []*host // node i+1
	witness *host   // nil: there is none
	net     *network
	probes  *probes
	check   *checker
	devs    *devices

	healed    time.Duration // since when there is no fault; 0: there may be one
	bad       *Violation
	done      bool
	milestone func(membership.Event)
	triggers  []*trigger
}

// trigger is what happens as soon as a node logs an event of a kind, once.
type trigger struct {
	kind  membership.Kind
	about membership.NodeID // 0: any
	do    func(membership.Event)
}

// subject is the node that an event is about: where it was seen, if no other.
func subject(e membership.Event) membership.NodeID {
	if e.Subject != 0 {
		return e.Subject
	}
	return e.Node
}

// logged is an event of a node's log.
func (w *world) logged(e membership.Event) {
	if w.opt.Told != nil {
		w.opt.Told(w.now, e)
	}
	if e.Kind == membership.KindLied {
		w.check.lied(e)
	}
	if w.milestone != nil {
		w.milestone(e)
	}
	w.triggers = slices.DeleteFunc(w.triggers, func(t *trigger) bool {
		if t.kind != e.Kind || t.about != 0 && t.about != subject(e) {
			return false
		}
		w.after(0, func() { t.do(e) })
		return true
	})
}

// Run makes one run.
func Run(opt Options) Result {
	w := &world{opt: opt, hash: mix(opt.Seed)}
	w.plan = drawPlan(opt.Seed)
	if opt.Story != nil {
		w.plan = opt.Story.plan()
	}
	if opt.Static {
		w.plan.manual, w.plan.witness, w.plan.reserve = true, false, 0 // the list has all nodes
	}
	w.check = newChecker(w)
	w.net = newNetwork(w)
	w.probes = newProbes(w)
	w.devs = newDevices(w)
	for i := range w.plan.nodes {
		w.hosts = append(w.hosts, newHost(w, membership.NodeID(i+1)))
	}
	if w.plan.witness {
		w.witness = newHost(w, membership.FirstWitness)
	}
	w.tracef("%s", w.plan)
	w.begin()
	w.loop()
	return Result{Seed: opt.Seed, Nodes: w.plan.nodes, Fewer: w.plan.fewer() || w.plan.witness || w.plan.reserve > 0, Witness: w.plan.witness, Steps: w.steps, Virtual: w.now, Hash: w.hash, Violation: w.bad}
}

func (w *world) begin() {
	r := stream(w.opt.Seed, "begin", 0)
	for _, h := range w.hosts {
		w.after(r.Between(0, 1500*time.Millisecond), h.powerOn)
	}
	if w.witness != nil {
		w.after(0, w.witness.powerOn)
		w.after(2*time.Second, w.enrol)
	}
	if w.opt.Story != nil {
		w.opt.Story.start(w)
		return
	}
	newFaults(w).schedule()
	if w.opt.Static {
		w.rebootStale()
	}
}

func (w *world) loop() {
	for len(w.q.h) > 0 && w.bad == nil && !w.done {
		e := w.q.pop()
		w.now = e.at
		if w.events++; w.events > maxEvents {
			w.violate("livelock", "more than %d events", maxEvents)
			return
		}
		e.do()
	}
}

// at runs do at a moment, which must not be past.
func (w *world) at(t time.Duration, do func()) {
	w.seq++
	w.q.push(event{at: max(t, w.now), seq: w.seq, do: do})
}

func (w *world) after(d time.Duration, do func()) { w.at(w.now+d, do) }

func (w *world) host(n membership.NodeID) *host {
	if n.IsWitness() && w.witness != nil {
		return w.witness
	}
	if n < 1 || int(n) > len(w.hosts) {
		return nil
	}
	return w.hosts[n-1]
}

// violate ends the run.
func (w *world) violate(name, format string, args ...any) {
	if w.bad != nil {
		return
	}
	w.bad = &Violation{Name: name, Text: fmt.Sprintf(format, args...), At: w.now}
	w.tracef("VIOLATION %s", w.bad)
}

func (w *world) note(x uint64) { w.hash = mix(w.hash ^ x) }

func (w *world) noteBytes(b []byte) {
	h := uint64(len(b))
	for len(b) >= 8 {
		h = mix(h ^ (uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56))
		b = b[8:]
	}
	for _, c := range b {
		h = h*0x100000001b3 ^ uint64(c)
	}
	w.note(h)
}

func (w *world) tracing() bool { return w.opt.Trace != nil }

func (w *world) tracef(format string, args ...any) {
	if w.opt.Trace != nil {
		w.opt.Trace(fmt.Sprintf("%11.6f       %s", w.now.Seconds(), fmt.Sprintf(format, args...)))
	}
}

func (h *host) tracef(format string, args ...any) {
	if w := h.w; w.opt.Trace != nil {
		w.opt.Trace(fmt.Sprintf("%11.6f  n%-3d %s", w.now.Seconds(), h.id, fmt.Sprintf(format, args...)))
	}
}
