package lockspace

import (
	"slices"

	"github.com/quorate/quorate/membership"
)

// Reconcile compares what is agreed with what this node's kernel does, and
// returns what to do next and what to propose. Stops come first.
func (l *Local) Reconcile(now membership.Mono, set *Set, self Self) ([]Effect, []Wish) {
	r := &reconciler{l: l, now: now, set: set, self: self}
	names := l.Names()
	for _, n := range names {
		r.stop(n)
	}
	r.comms()
	for _, n := range names {
		r.step(n)
	}
	r.acks()
	r.strays()
	return r.effects, r.wishes
}

type reconciler struct {
	l       *Local
	now     membership.Mono
	set     *Set
	self    Self
	effects []Effect
	wishes  []Wish
}

func (r *reconciler) do(sp *space, p Phase, e Effect) {
	sp.phase, sp.since = p, r.now
	r.effects = append(r.effects, e)
}

// stop writes control=0 wherever this node may not go on.
func (r *reconciler) stop(name string) {
	sp := r.l.spaces[name]
	if sp.phase != Running && sp.phase != Recovering {
		return
	}
	if !r.mustStop(name, sp) {
		return
	}
	sp.token = r.l.next()
	r.do(sp, Stopping, Stop{Lockspace: name, Token: sp.token})
}

func (r *reconciler) mustStop(name string, sp *space) bool {
	if !r.self.Quorum || r.self.Evicted || !r.self.Member {
		return true
	}
	ls := r.set.Space(name)
	if ls == nil || ls.live(r.self.Incarnation) == nil {
		return true // nothing agreed says that it may run
	}
	c := ls.Change
	if c == nil {
		return false
	}
	if c.Opened == 0 {
		return slices.Contains(c.Stop, r.self.Incarnation.Node)
	}
	return c.Seq != sp.change // it opened without this kernel having stopped for it
}

// step moves one lockspace on.
func (r *reconciler) step(name string) {
	sp, ls := r.l.spaces[name], r.set.Space(name)
	if sp.refuses != 0 && !r.asked(ls) {
		sp.refuses = r.now // since when it is asked again is yet to come
	}
	switch sp.phase {
	case Joining:
		r.joining(name, sp, ls)
	case Running:
		r.running(name, sp, ls)
	case Stopped:
		r.stopped(name, sp, ls)
	}
}

func (r *reconciler) joining(name string, sp *space, ls *Space) {
	if r.now < sp.retry {
		return
	}
	if r.self.Member && r.takesBack(ls) {
		r.stray(ls) // that was said already: this one asks anew, under another epoch
		return
	}
	if f, ok := r.refused(ls); ok {
		r.fail(name, sp, f)
		return
	}
	if !r.self.Member {
		return
	}
	epoch, asked := ls.epoch(r.self.Incarnation)
	switch {
	case r.self.Draining != "" && (!asked || r.self.DrainedAt != 0 && epoch > r.self.DrainedAt):
		r.fail(name, sp, Refused{Why: r.self.Draining})
	case !asked:
		r.wishes = append(r.wishes, wish("join", name, 0, Message{Join: &Join{Lockspace: name, Recovers: r.self.Recovers}}))
	default:
		r.start(name, sp, ls)
	}
}

func (r *reconciler) refused(ls *Space) (f Refused, ok bool) {
	last := ls.refusal(r.self.Incarnation)
	if last == nil {
		return f, false
	}
	return *last, ls.live(r.self.Incarnation) == nil
}

// fail tells the mount, and before that ends the kernel's connections: it would
// wait for peers that do not answer, the mount with it.
func (r *reconciler) fail(name string, sp *space, f Refused) {
	if !r.renewedAll(name, f) {
		return
	}
	sp.token = r.l.next()
	r.do(sp, Ending, FailJoin{Lockspace: name, Token: sp.token, Why: f.Why})
}

func (r *reconciler) renewedAll(name string, f Refused) bool {
	renewed := true
	for _, n := range f.Renew {
		renewed = r.renewed(name, n, f.Epoch) && renewed
	}
	return renewed
}

// renewed says that a node's comms entry is not that of a refused join any more,
// and if it is has it made anew.
func (r *reconciler) renewed(name string, n membership.NodeID, epoch uint64) bool {
	p := r.l.peers[n]
	if p == nil || p.removing || p.renewed >= epoch {
		return true
	}
	if !p.renewing {
		p.renewing = true
		r.effects = append(r.effects, RenewPeer{Incarnation: p.inc, Lockspace: name, Epoch: epoch})
	}
	return false
}

// asked says that this node's kernel is to run what a change opened. The view may
// have lost its quorum since.
func (r *reconciler) asked(ls *Space) bool {
	return ls != nil && ls.Change != nil && ls.Change.Opened != 0 && ls.Change.Member(r.self.Incarnation) != nil &&
		r.self.Quorum && r.self.Member && r.set.Current.Quorate
}

// start writes members and control=1 when the change is open and the comms
// entries fit.
func (r *reconciler) start(name string, sp *space, ls *Space) {
	c := ls.Change
	if !r.asked(ls) || c.Seq == sp.change && sp.refuses == 0 {
		return
	}
	for _, m := range c.New {
		if m.Incarnation.Node == r.self.Incarnation.Node {
			continue
		}
		p := r.l.peers[m.Incarnation.Node]
		if p != nil && p.failed != 0 && sp.refuses == 0 {
			sp.refuses = r.now // without the entry it would
		}
		if p == nil || p.failed != 0 || p.removing || p.renewing || p.inc != m.Incarnation {
			return
		}
	}
	for _, g := range ls.Gone {
		if p := r.l.peers[g.Incarnation.Node]; r.tellsFailure(ls, g) && p != nil && p.inc == g.Incarnation {
			return
		}
	}
	gone := slices.Clone(ls.Gone)
	for i, g := range gone {
		if !r.knowsSlot(ls, g) {
			gone[i].Failed, gone[i].Recover = false, false
		}
		if !r.self.Recovers {
			gone[i].Recover = false // where one that cannot be told runs on, it did not know the leaver: see Withdrawn
		}
	}
	sp.token, sp.change, sp.noticed = r.l.next(), c.Seq, false
	r.do(sp, Starting, Start{Lockspace: name, Token: sp.token, Change: c.Seq, ID: ls.ID,
		Members: slices.Clone(c.New), Gone: gone, Join: sp.join})
}

// tellsFailure says whether this node's kernel is to take a former member for failed
// and not for one that left, which is what makes its file system replay the journal.
// One that was still joining had none in use, and a kernel that is still joining
// replays none.
func (r *reconciler) tellsFailure(ls *Space, g Gone) bool { return g.Failed && r.knowsSlot(ls, g) }

// knowsSlot: to tell the kernel that a member failed would do harm before. It names
// slot 0 to the file system, which takes it for journal -1 and writes to memory that
// is not its own (gdlm_recover_slot in fs/gfs2/lock_dlm.c).
func (r *reconciler) knowsSlot(ls *Space, g Gone) bool {
	self := ls.live(r.self.Incarnation)
	return !g.Joining && (self == nil || !self.Joining)
}

func (r *reconciler) running(name string, sp *space, ls *Space) {
	if ls == nil {
		return
	}
	if sp.leave && ls.leaving(r.self.Incarnation.Node) == nil && ls.live(r.self.Incarnation) != nil {
		r.wishLeave(name, sp, ls)
	}
	c := ls.Change
	mine := c != nil && c.Opened != 0 && c.Seq == sp.change
	done := mine && slices.Contains(c.Done, r.self.Incarnation.Node)
	if sp.join && ls.live(r.self.Incarnation) != nil && (c == nil || done) {
		sp.join = false
		r.effects = append(r.effects, AnswerJoin{Lockspace: name, Token: sp.token})
	}
	if mine && !done && r.renewedGone(ls) {
		r.wishes = append(r.wishes, wish("recovered", name, c.Seq, Message{Recovered: &Recovered{Lockspace: name, Change: c.Seq}}))
	}
}

// renewedGone: this kernel has forgotten the refused joiners as members, and does
// not take a new comms entry for the sign of a death any more.
func (r *reconciler) renewedGone(ls *Space) bool {
	renewed := true
	for _, g := range ls.Gone {
		if !g.Failed && slices.Contains(g.Renew, r.self.Incarnation.Node) {
			renewed = r.renewed(ls.Name, g.Incarnation.Node, g.Epoch) && renewed
		}
	}
	return renewed
}

// wishLeave asks to be taken out of a lockspace that this node is live in.
func (r *reconciler) wishLeave(name string, sp *space, ls *Space) {
	if r.self.Member {
		epoch := ls.live(r.self.Incarnation).Epoch
		r.wishes = append(r.wishes, wish("leave", name, epoch, Message{Leave: &Leave{Lockspace: name, Epoch: epoch, Recover: sp.recover}}))
	}
}

func (r *reconciler) stopped(name string, sp *space, ls *Space) {
	live := ls != nil && ls.live(r.self.Incarnation) != nil
	switch {
	case r.now < sp.retry:
		return
	case sp.leave && !live:
		sp.token = r.l.next()
		r.do(sp, Ending, FinishLeave{Lockspace: name, Token: sp.token})
		return
	case sp.leave && ls.leaving(r.self.Incarnation.Node) == nil:
		r.wishLeave(name, sp, ls)
		return
	case sp.join && !live:
		if f, ok := r.refused(ls); ok {
			r.fail(name, sp, f)
		}
		return
	case !live || !r.self.Quorum || !r.self.Member:
		return
	}
	c := ls.Change
	if c != nil && c.Opened != 0 && (c.Seq != sp.change || sp.refuses != 0) {
		if c.Seq != sp.change || r.now >= sp.since.Add(retryAfter) {
			r.start(name, sp, ls)
		}
		return
	}
	if c == nil || c.Opened != 0 { // stopped alone: by a glitch of the links, or an error
		r.wishes = append(r.wishes, wish("restart", name, ls.Seq, Message{Restart: &Restart{Lockspace: name, Change: ls.Seq,
			Why: r.self.Incarnation.String() + " had stopped by itself"}}))
	}
}

// acks says in one entry for which changes this node has stopped (S22). What
// its kernel never started, or does not know at all, is stopped: a joiner whose
// change was replaced before it began is in the barrier of the next one.
func (r *reconciler) acks() {
	var m Message
	key := "stopped"
	for _, ls := range r.set.Spaces {
		c, sp := ls.Change, r.l.spaces[ls.Name]
		if c == nil || c.Opened != 0 || ls.live(r.self.Incarnation) == nil || sp != nil && sp.phase != Stopped && sp.phase != Joining {
			continue
		}
		if slices.Contains(c.Stop, r.self.Incarnation.Node) && !slices.Contains(c.Acks, r.self.Incarnation.Node) {
			m.Stopped = append(m.Stopped, StopAck{Lockspace: ls.Name, Change: c.Seq})
			key += wish("", ls.Name, c.Seq, Message{}).Key
		}
	}
	if len(m.Stopped) > 0 && r.self.Member {
		r.wishes = append(r.wishes, Wish{Key: key, Message: m})
	}
}

// strays takes back what is agreed of this node and its kernel knows nothing of.
func (r *reconciler) strays() {
	if !r.self.Member {
		return
	}
	for name := range r.l.taken {
		if !r.takesBack(r.set.Space(name)) {
			delete(r.l.taken, name) // it is
		}
	}
	for _, ls := range r.set.Spaces {
		if r.l.spaces[ls.Name] == nil {
			r.stray(ls)
		}
	}
}

// stray takes back what a lockspace has of this node by a join that was ordered late, or
// refused. Where a change opened with it the others' kernels wait for one that does
// nothing: they are told as of any joiner that does not finish.
func (r *reconciler) stray(ls *Space) {
	self := r.self.Incarnation
	m, c := ls.live(self), ls.Change
	epoch, _ := ls.epoch(self)
	switch {
	case m != nil && m.Joining && c != nil:
		if c.Opened != 0 {
			r.takeBack(ls, epoch, wish("refuse", ls.Name, c.Seq, Message{Refuse: &Refuse{Lockspace: ls.Name, Change: c.Seq, Joiner: self, Why: strayed}}))
		}
	case m != nil && ls.leaving(self.Node) != nil:
	case m != nil || ls.joining(self) != nil:
		r.takeBack(ls, epoch, wish("leave", ls.Name, epoch, Message{Leave: &Leave{Lockspace: ls.Name, Epoch: epoch}}))
	default:
		if f := ls.refusal(self); f != nil && r.renewedAll(ls.Name, *f) {
			r.takeBack(ls, f.Epoch, wish("leave", ls.Name, f.Epoch, Message{Leave: &Leave{Lockspace: ls.Name, Epoch: f.Epoch}}))
		}
	}
}

// takeBack: from here on no program gets that join for its own. What was said may still be
// under way when it has the lockspace in use.
func (r *reconciler) takeBack(ls *Space, epoch uint64, w Wish) {
	r.l.taken[ls.Name] = epoch
	r.wishes = append(r.wishes, w)
}

// takesBack says that what a lockspace has of this node is what it takes back.
func (r *reconciler) takesBack(ls *Space) bool {
	if ls == nil || r.l.taken[ls.Name] == 0 {
		return false
	}
	epoch, ok := ls.epoch(r.self.Incarnation)
	if f := ls.refusal(r.self.Incarnation); !ok && f != nil {
		epoch = f.Epoch
	}
	return epoch == r.l.taken[ls.Name]
}

// strayed is why a change goes on without a joiner of whose join its kernel knows nothing.
const strayed = "its kernel does not ask to join any more"

// comms keeps the peers' comms entries.
func (r *reconciler) comms() {
	if !r.self.Member {
		return
	}
	ids := make([]membership.NodeID, 0, len(r.l.peers))
	for n := range r.l.peers {
		ids = append(ids, n)
	}
	slices.Sort(ids)
	for _, n := range ids {
		p := r.l.peers[n]
		if want, ok := r.set.Current.Find(n); !p.removing && !(ok && want == p.inc) && r.removable(p.inc) {
			p.removing = true
			r.effects = append(r.effects, RemovePeer{Incarnation: p.inc})
		}
	}
	for _, m := range r.set.Current.Members {
		p := r.l.peers[m.Node]
		again := p != nil && p.inc == m && p.failed != 0 && r.now >= p.failed.Add(retryAfter)
		if m.Node != r.self.Incarnation.Node && (p == nil || again) && !r.pending(m) {
			r.l.peers[m.Node] = &peer{inc: m}
			r.effects = append(r.effects, SetPeer{Incarnation: m})
		}
	}
}

// removable: every lockspace here that shared the incarnation has stopped, and
// none still needs the entry to tell a clean leave.
func (r *reconciler) removable(i membership.Incarnation) bool {
	for name, sp := range r.l.spaces {
		ls := r.set.Space(name)
		if ls == nil {
			continue
		}
		if ls.live(i) != nil {
			return false
		}
		for _, g := range ls.Gone {
			if g.Incarnation == i && !r.releases(sp, ls, g) {
				return false
			}
		}
	}
	return true
}

// releases: a lockspace here does not need the comms entry of a former member. That of
// one which left it, and failed in another, is not kept for a start that has yet to
// come: two lockspaces would wait for each other. Its journal is replayed needlessly.
func (r *reconciler) releases(sp *space, ls *Space, g Gone) bool {
	switch {
	case !g.Failed && !r.failed(g.Incarnation):
		return false
	case sp.phase == Joining || sp.phase == Ending || sp.phase == Stopped && r.knowsSlot(ls, g):
		return true
	case r.tellsFailure(ls, g):
		return false
	}
	return sp.noticed && (sp.phase == Recovering || sp.phase == Running) && ls.Change != nil && sp.change == ls.Change.Seq
}

// failed: a lockspace here has to be told that an incarnation failed.
func (r *reconciler) failed(i membership.Incarnation) bool {
	for name := range r.l.spaces {
		if ls := r.set.Space(name); ls != nil && slices.ContainsFunc(ls.Gone, func(g Gone) bool { return g.Incarnation == i && g.Failed }) {
			return true
		}
	}
	return false
}

// pending: a lockspace here has still to be told that an older incarnation of the node is gone.
func (r *reconciler) pending(m membership.Incarnation) bool {
	for name, sp := range r.l.spaces {
		ls := r.set.Space(name)
		if ls == nil || sp.phase == Ending {
			continue
		}
		for _, g := range ls.Gone {
			if g.Incarnation.Node == m.Node && g.Incarnation != m && (ls.Change == nil || ls.Change.Opened == 0 || sp.change != ls.Change.Seq) {
				return true
			}
		}
	}
	return false
}
