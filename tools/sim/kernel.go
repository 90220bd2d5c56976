package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
)

// kernel is one boot's DLM, with the part of the edge that drives it. Every
// lockspace and every peer has a queue, worked off in order.
type kernel struct {
	h        *host
	w        *world
	r        *rng
	comms    map[membership.NodeID]comm
	vain     map[membership.NodeID]vain
	seq      uint64
	spaces   []*kspace
	queues   map[string]*kqueue
	busy     *kspace // the join or leave under way: one at a time
	quiesced bool
	retry    []time.Duration // by lockspace: programs do not mount before

	newer     bool          // Linux 6.18 or newer: it can be told to replay a leaver's journal
	stopHangs time.Duration // a stop takes that long
	startFail float64       // how often a start is refused
}

// comm is a peer's comms entry; seq tells a new one from an old one.
type comm struct {
	inc membership.Incarnation
	seq uint64
	// talk is the conversation that the two kernels have: each has its number, or they
	// take each other's messages for old ones. 0: none was begun.
	talk uint64
}

// kspace is a lockspace in the kernel.
type kspace struct {
	name    string
	online  bool // a joiner waits for its answer
	offline bool // the last user waits for its answer
	mounted bool // programs use it: they write to the shared disk
	started bool // control=1 was ever written
	running bool // and not 0 since
	done    bool // this kernel's recovery is done
	token   uint64
	change  uint64
	members []lockspace.Member
	known   []known                  // members as of the last recovery that was done
	has     []known                  // members as of the last start, with a slot or without
	told    []membership.Incarnation // left, and their journals are to be replayed (release_recover)
	session uint32                   // of the first start
}

// known is a member as the kernel remembers it.
type known struct {
	member lockspace.Member
	seq    uint64 // of its comms entry
	slot   bool   // it has one: a recovery with it was done
}

type kqueue struct {
	jobs    []func(done func())
	working bool
}

func newKernel(h *host) *kernel {
	return &kernel{h: h, w: h.w, newer: h.w.plan.newer[h.id-1], r: stream(h.w.opt.Seed, "kernel", uint64(h.id)<<16|uint64(h.boots)),
		comms: map[membership.NodeID]comm{}, vain: map[membership.NodeID]vain{}, queues: map[string]*kqueue{}, retry: make([]time.Duration, len(h.w.plan.spaces))}
}

func (k *kernel) dead() bool { return k.h.kern != k }

func (k *kernel) space(name string) *kspace {
	for _, s := range k.spaces {
		if s.name == name {
			return s
		}
	}
	return nil
}

// later runs do after a time in which the kernel itself ran.
func (k *kernel) later(d time.Duration, do func()) {
	k.w.after(d, func() {
		switch {
		case k.dead():
		case k.h.frozen > 0:
			k.later(10*time.Millisecond, do)
		default:
			do()
		}
	})
}

// give hands an input to the daemon, if one runs.
func (k *kernel) give(in lockspace.Input) { k.h.d.give(node.Kernel{In: in}) }

// enqueue works a job off after those of the same key.
func (k *kernel) enqueue(key string, job func(done func())) {
	q := k.queues[key]
	if q == nil {
		q = &kqueue{}
		k.queues[key] = q
	}
	q.jobs = append(q.jobs, job)
	if !q.working {
		k.work(q)
	}
}

func (k *kernel) work(q *kqueue) {
	if len(q.jobs) == 0 {
		q.working = false
		return
	}
	q.working = true
	job := q.jobs[0]
	q.jobs = q.jobs[1:]
	d := k.h.d
	job(func() {
		if k.h.d == d && d != nil {
			k.work(q)
		}
	})
}

func (k *kernel) drive(e lockspace.Effect) {
	switch e := e.(type) {
	case lockspace.SetPeer:
		k.enqueue(peerKey(e.Incarnation.Node), func(done func()) { k.setPeer(e, done) })
	case lockspace.RemovePeer:
		k.enqueue(peerKey(e.Incarnation.Node), func(done func()) { k.removePeer(e, done) })
	case lockspace.RenewPeer:
		k.enqueue(peerKey(e.Incarnation.Node), func(done func()) { k.renewPeer(e, done) })
	case lockspace.Stop:
		k.h.tracef("    kernel: stop %s", e.Lockspace)
		k.enqueue(e.Lockspace, func(done func()) { k.stop(e, done) })
	case lockspace.Start:
		k.w.check.asked(k.h, e)
		k.enqueue(e.Lockspace, func(done func()) { k.start(e, done) })
	case lockspace.AnswerJoin:
		k.enqueue(e.Lockspace, func(done func()) { k.answerJoin(e, done) })
	case lockspace.FinishLeave:
		k.enqueue(e.Lockspace, func(done func()) { k.finishLeave(e, done) })
	case lockspace.FailJoin:
		k.enqueue(e.Lockspace, func(done func()) { k.failJoin(e, done) })
	}
}

func peerKey(n membership.NodeID) string { return "/peer" + itoa(uint64(n)) }

func (k *kernel) setPeer(e lockspace.SetPeer, done func()) {
	k.later(k.r.Between(50*time.Microsecond, 2*time.Millisecond), func() {
		if k.startFail > 0 && k.r.Chance(0.5) {
			k.h.tracef("    kernel: the comms entry of %v cannot be made", e.Incarnation)
			k.give(lockspace.PeerFailed(e))
			done()
			return
		}
		k.seq++
		k.comms[e.Incarnation.Node] = comm{inc: e.Incarnation, seq: k.seq}
		done()
	})
}

func (k *kernel) removePeer(e lockspace.RemovePeer, done func()) {
	k.later(k.r.Between(time.Millisecond, k.w.plan.removal), func() {
		if c, ok := k.comms[e.Incarnation.Node]; ok && c.inc == e.Incarnation {
			delete(k.comms, e.Incarnation.Node)
		}
		k.give(lockspace.PeerRemoved(e))
		done()
	})
}

func (k *kernel) renewPeer(e lockspace.RenewPeer, done func()) {
	k.later(k.r.Between(time.Millisecond, k.w.plan.removal), func() {
		for _, s := range k.spaces {
			if s.name != e.Lockspace && slices.ContainsFunc(s.has, func(o known) bool { return o.member.Incarnation == e.Incarnation }) {
				k.w.violate("conversation", "node %d ends its conversation with %v for %s, and %s goes on with it", k.h.id, e.Incarnation, e.Lockspace, s.name)
			}
		}
		if c, ok := k.comms[e.Incarnation.Node]; ok && c.inc == e.Incarnation {
			k.seq++
			k.comms[e.Incarnation.Node] = comm{inc: e.Incarnation, seq: k.seq}
		}
		k.give(lockspace.PeerRenewed{Incarnation: e.Incarnation, Epoch: e.Epoch})
		done()
	})
}

func (k *kernel) stop(e lockspace.Stop, done func()) {
	took := k.r.Between(time.Millisecond, 10*time.Millisecond)
	if k.stopHangs > 0 {
		took = k.stopHangs
	}
	k.later(took, func() {
		s := k.space(e.Lockspace)
		if s == nil {
			k.give(lockspace.StopDone{Lockspace: e.Lockspace, Token: e.Token, Err: "no such lockspace"})
			done()
			return
		}
		s.running, s.done = false, false
		k.h.tracef("    kernel: %s is stopped", s.name)
		k.give(lockspace.StopDone{Lockspace: e.Lockspace, Token: e.Token})
		done()
	})
}

// start writes the members and control=1. It waits for comms entries that are
// being made, and is refused where the kernel could not be told of a failure.
func (k *kernel) start(e lockspace.Start, done func()) {
	k.later(k.r.Between(time.Millisecond, 12*time.Millisecond), func() {
		if slices.ContainsFunc(e.Members, func(m lockspace.Member) bool { return k.working(m.Incarnation.Node) }) {
			k.start(e, done)
			return
		}
		err := k.refuses(e)
		if err == "" {
			k.started(e)
		} else {
			k.h.tracef("    kernel: start %s/%d fails: %s", e.Lockspace, e.Change, err)
		}
		k.give(lockspace.StartDone{Lockspace: e.Lockspace, Token: e.Token, Err: err})
		done()
	})
}

func (k *kernel) working(n membership.NodeID) bool {
	q := k.queues[peerKey(n)]
	return q != nil && q.working
}

func (k *kernel) refuses(e lockspace.Start) string {
	if k.space(e.Lockspace) == nil {
		return "no such lockspace"
	}
	if k.r.Chance(k.startFail) {
		return "input/output error"
	}
	for _, m := range e.Members {
		if c, ok := k.comms[m.Incarnation.Node]; m.Incarnation.Node != k.h.id && (!ok || c.inc != m.Incarnation) {
			return fmt.Sprintf("no comms entry of %v", m.Incarnation)
		}
	}
	for _, g := range e.Gone {
		if c, ok := k.comms[g.Incarnation.Node]; ok && (g.Failed || g.Recover && !k.newer) && c.inc == g.Incarnation {
			return fmt.Sprintf("the comms entry of %v is still there", g.Incarnation)
		}
	}
	return ""
}

func (k *kernel) started(e lockspace.Start) {
	s := k.space(e.Lockspace)
	k.h.tracef("    kernel: start %s/%d with %v", e.Lockspace, e.Change, lockspace.IDs(e.Members))
	if !s.started {
		s.started, s.session = true, k.ownSession(e)
	}
	k.tell(s, e.Gone)
	k.forget(s, e.Members)
	s.running, s.done, s.change, s.token = true, false, e.Change, e.Token
	s.members = slices.Clone(e.Members)
	k.w.check.started(k.h, s)
	k.poll(s, e.Token, 20*time.Millisecond)
	k.later(k.r.Between(2*time.Millisecond, 20*time.Millisecond), func() { k.give(lockspace.Noticed{Lockspace: s.name, Token: e.Token}) })
}

// tell notes whose journals are to be replayed though they left.
func (k *kernel) tell(s *kspace, gone []lockspace.Gone) {
	for _, g := range gone {
		if k.newer && g.Recover && !slices.Contains(s.told, g.Incarnation) {
			s.told = append(s.told, g.Incarnation)
		}
	}
}

// forget takes former members out of the kernel. Those that it takes for failed it
// names to the file system by their slot.
func (k *kernel) forget(s *kspace, members []lockspace.Member) {
	var has []known
	for _, o := range s.has {
		c, ok := k.comms[o.member.Incarnation.Node]
		failed := !ok || c.seq != o.seq || slices.Contains(s.told, o.member.Incarnation)
		if !failed && slices.ContainsFunc(members, func(m lockspace.Member) bool { return m.Incarnation.Node == o.member.Incarnation.Node }) {
			has = append(has, o)
		} else if failed && !o.slot {
			k.w.violate("slot-zero", "node %d takes %v for failed in %s, which has no slot yet: GFS2 writes to foreign memory", k.h.id, o.member.Incarnation, s.name)
		}
	}
	s.has = has
	for _, m := range members {
		id := m.Incarnation.Node
		if id != k.h.id && !slices.ContainsFunc(has, func(o known) bool { return o.member.Incarnation.Node == id }) {
			s.has = append(s.has, known{member: m, seq: k.comms[id].seq})
		}
	}
}

func (k *kernel) ownSession(e lockspace.Start) uint32 {
	for _, m := range e.Members {
		if m.Incarnation.Node == k.h.id {
			return m.Incarnation.Session
		}
	}
	return 0
}

// poll is the kernel's recovery: it asks the other members until all have
// started with the same members, then does its own work.
func (k *kernel) poll(s *kspace, token uint64, wait time.Duration) {
	k.later(wait, func() {
		if !s.running || s.token != token || s.done || k.space(s.name) != s {
			return
		}
		if !k.othersStarted(s) {
			k.poll(s, token, min(wait+20*time.Millisecond, time.Second))
			return
		}
		k.later(k.r.Between(2*time.Millisecond, k.w.plan.slowRec), func() { k.recovered(s, token) })
	})
}

func (k *kernel) othersStarted(s *kspace) bool {
	all := true
	for _, m := range s.members {
		if m.Incarnation.Node != k.h.id {
			all = k.otherStarted(s, m) && all
		}
	}
	return all
}

func (k *kernel) otherStarted(s *kspace, m lockspace.Member) bool {
	o := k.w.host(m.Incarnation.Node)
	if o == nil || !o.on || o.frozen > 0 || o.boot != m.Incarnation.Boot || !k.w.net.dlmPath(k.h.id, o.id) {
		return false
	}
	os := o.kern.space(s.name)
	if os == nil || !os.running || !slices.Equal(os.members, s.members) {
		return false
	}
	k.talk(o.kern)
	return true
}

// recovered ends the recovery.
func (k *kernel) recovered(s *kspace, token uint64) {
	if !s.running || s.token != token || s.done || k.space(s.name) != s {
		return
	}
	s.done = true
	k.slots(s)
	k.h.tracef("    kernel: %s/%d is recovered", s.name, s.change)
	was := slices.Clone(s.known)
	k.w.check.recovered(k.h, s, was, k.failed(s))
	k.give(lockspace.RecoverDone{Lockspace: s.name, Token: token})
	k.programs()
}

// slots: who ends a recovery has seen that all know the slots; that comes first.
func (k *kernel) slots(s *kspace) {
	for _, m := range s.members {
		o := k.w.host(m.Incarnation.Node)
		if !o.on || o.boot != m.Incarnation.Boot {
			continue
		}
		if os := o.kern.space(s.name); os != nil && os.change == s.change {
			for i := range os.has {
				os.has[i].slot = true
			}
		}
	}
}

// answerJoin lets the program that mounts go on.
func (k *kernel) answerJoin(e lockspace.AnswerJoin, done func()) {
	k.later(k.r.Between(100*time.Microsecond, 2*time.Millisecond), func() {
		defer done()
		s := k.space(e.Lockspace)
		if s == nil {
			k.give(lockspace.JoinDone{Lockspace: e.Lockspace, Token: e.Token, Err: "no such lockspace"})
			return
		}
		k.answer(s)
		s.mounted = true
		k.w.check.mounted(k.h, s)
		k.give(lockspace.JoinDone{Lockspace: e.Lockspace, Token: e.Token})
		k.programs()
	})
}

// failed are the members that the kernel takes for dead, since the last
// recovery: gone, or the same node, under another comms entry, or told of.
func (k *kernel) failed(s *kspace) []membership.Incarnation {
	var out []membership.Incarnation
	for _, o := range s.known {
		if c, ok := k.comms[o.member.Incarnation.Node]; !ok || c.seq != o.seq || slices.Contains(s.told, o.member.Incarnation) {
			out = append(out, o.member.Incarnation)
		}
	}
	s.known, s.told = s.known[:0], nil
	for _, m := range s.members {
		if m.Incarnation.Node != k.h.id {
			s.known = append(s.known, known{member: m, seq: k.comms[m.Incarnation.Node].seq})
		}
	}
	return out
}

// answer is event_done.
func (k *kernel) answer(s *kspace) {
	if !s.online && !s.offline {
		k.w.violate("I6 one-answer", "node %d answers %s, which waits for none", k.h.id, s.name)
	}
	s.online, s.offline = false, false
	if k.busy == s {
		k.busy = nil
	}
}

func (k *kernel) finishLeave(e lockspace.FinishLeave, done func()) {
	k.later(k.r.Between(time.Millisecond, 10*time.Millisecond), func() {
		s := k.space(e.Lockspace)
		if s == nil || !s.offline {
			k.w.violate("I6 one-answer", "node %d ends the leave of %s, which does not leave", k.h.id, e.Lockspace)
			return
		}
		if k.failsToEnd(e.Lockspace, e.Token) {
			done()
			return
		}
		k.answer(s)
		k.remove(s)
		k.hangUp(true)
		k.give(lockspace.EndDone{Lockspace: e.Lockspace, Token: e.Token})
		done()
		k.programs()
	})
}

// failsToEnd: the answer to the end of a lockspace cannot be written this time.
func (k *kernel) failsToEnd(ls string, token uint64) bool {
	fails := k.startFail > 0 && k.r.Chance(0.5)
	if fails {
		k.give(lockspace.EndDone{Lockspace: ls, Token: token, Err: "input/output error", Again: true})
	}
	return fails
}

func (k *kernel) failJoin(e lockspace.FailJoin, done func()) {
	k.later(k.r.Between(time.Millisecond, 10*time.Millisecond), func() {
		s := k.space(e.Lockspace)
		if s == nil || !s.online {
			k.w.violate("I6 one-answer", "node %d refuses the join of %s, which does not join", k.h.id, e.Lockspace)
			return
		}
		if k.failsToEnd(e.Lockspace, e.Token) {
			done()
			return
		}
		k.answer(s)
		k.remove(s)
		k.hangUp(false)
		k.retry[slices.Index(k.w.plan.spaces, s.name)] = k.w.now + k.r.Between(time.Second, 3*time.Second)
		k.give(lockspace.EndDone{Lockspace: e.Lockspace, Token: e.Token})
		done()
		k.later(4*time.Second, k.programs)
	})
}

func (k *kernel) remove(s *kspace) {
	k.h.tracef("    kernel: %s is removed", s.name)
	k.spaces = slices.DeleteFunc(k.spaces, func(o *kspace) bool { return o == s })
	k.w.check.forget(s.name)
}

// monitorClosed: the daemon is gone, the kernel stops its lockspaces by itself.
func (k *kernel) monitorClosed() {
	for _, s := range k.spaces {
		s.running, s.done = false, false
	}
	k.queues = map[string]*kqueue{}
}

// opened: a new daemon clears what an earlier one left in configfs.
func (k *kernel) opened() {
	clear(k.comms)
	k.quiesced = false
}

func (k *kernel) quiesce(on bool) {
	k.quiesced = on
	if !on {
		k.programs()
		return
	}
	k.later(k.r.Between(time.Millisecond, 20*time.Millisecond), func() {
		var held []string
		for _, s := range k.spaces {
			held = append(held, s.name)
		}
		k.h.d.give(node.Quiesced{Held: held})
	})
}

// programs mount and unmount what is wanted, one at a time.
func (k *kernel) programs() {
	if k.dead() || k.h.d == nil || k.busy != nil {
		return
	}
	for i, name := range k.w.plan.spaces {
		s := k.space(name)
		switch {
		case s == nil && k.h.wants[i] && !k.quiesced && k.w.now >= k.retry[i]:
			s = &kspace{name: name, online: true}
			k.spaces = append(k.spaces, s)
			k.uevent(s, lockspace.Online{Lockspace: name})
			return
		case s != nil && !k.h.wants[i] && s.mounted && !s.offline && (s.done || k.r.Chance(0.2)):
			s.mounted, s.offline = false, true
			k.uevent(s, lockspace.Offline{Lockspace: name})
			return
		}
	}
}

// withdraw: the file system of a lockspace meets an error and gives up. It writes no
// more, its journal is as it was, and a newer kernel leaves by itself. It says whether
// there is anything to withdraw.
func (k *kernel) withdraw(name string) bool {
	s := k.space(name)
	if s == nil || !s.mounted || s.offline || k.busy != nil || k.h.d == nil || !k.newer {
		return false
	}
	k.w.check.withdrew(k.h, s)
	s.mounted, s.offline = false, true
	k.uevent(s, lockspace.Offline{Lockspace: name, Recover: true})
	return true
}

func (k *kernel) uevent(s *kspace, in lockspace.Input) {
	k.busy = s
	k.h.tracef("    kernel: uevent %+v", in)
	d := k.h.d
	k.later(k.r.Between(50*time.Microsecond, 2*time.Millisecond), func() {
		if k.h.d == d {
			k.give(in)
		}
	})
}
