package lockspace

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// Phase is what this node's kernel is doing with one lockspace.
type Phase int

// The phases.
const (
	Joining    Phase = iota // an online uevent waits for its answer; nothing was written
	Starting                // members and control=1 are being written
	Recovering              // control=1 was written, the kernel's recovery runs
	Running                 // and is done
	Stopping                // control=0 is being written
	Stopped                 // and was answered
	Ending                  // the last answer (left, or refused) is being written
)

var phases = [...]string{"joining", "starting", "recovering", "running", "stopping", "stopped", "ending"}

// String gives the word that status shows.
func (p Phase) String() string {
	if int(p) < len(phases) {
		return phases[p]
	}
	return "none"
}

// Effect is one of the effects below, for the kernel of this node.
type Effect interface{ kernelEffect() }

// Stop writes control=0; the answer is StopDone with the token.
type Stop struct {
	Lockspace string
	Token     uint64
}

// Start writes the members and control=1; the answers are StartDone and, when
// the kernel's own part of the recovery is done, RecoverDone.
type Start struct {
	Lockspace string
	Token     uint64
	Change    uint64
	ID        uint32
	Members   []Member
	Gone      []Gone
	Join      bool
}

// AnswerJoin answers an online uevent with success; JoinDone tells. It comes
// only after the recovery was agreed to be done here: from then on nobody can
// take the joiner out again, and before that it can still be refused.
type AnswerJoin struct {
	Lockspace string
	Token     uint64
}

// FinishLeave clears the members and answers an offline uevent.
type FinishLeave struct {
	Lockspace string
	Token     uint64
}

// FailJoin clears the members and answers an online uevent with an error.
type FailJoin struct {
	Lockspace string
	Token     uint64
	Why       string
}

// SetPeer makes the comms entry of a peer.
type SetPeer struct{ Incarnation membership.Incarnation }

// RemovePeer removes it; the answer is PeerRemoved.
type RemovePeer struct{ Incarnation membership.Incarnation }

// RenewPeer makes it anew under a lockspace whose join was refused; the answer is
// PeerRenewed.
type RenewPeer struct {
	Incarnation membership.Incarnation
	Lockspace   string
	Epoch       uint64 // of the refused join
}

func (Stop) kernelEffect()        {}
func (Start) kernelEffect()       {}
func (AnswerJoin) kernelEffect()  {}
func (FinishLeave) kernelEffect() {}
func (FailJoin) kernelEffect()    {}
func (SetPeer) kernelEffect()     {}
func (RemovePeer) kernelEffect()  {}
func (RenewPeer) kernelEffect()   {}

// Input is one of the inputs below, from the kernel of this node.
type Input interface{ kernelInput() }

// Online says that a mount or program asked to join.
type Online struct{ Lockspace string }

// Offline says that the last user here is gone, or a join failed in the kernel.
type Offline struct {
	Lockspace string
	Recover   bool
}

// StopDone answers Stop.
type StopDone struct {
	Lockspace string
	Token     uint64
	Err       string
}

// StartDone answers Start: control=1 was written.
type StartDone struct {
	Lockspace string
	Token     uint64
	Err       string
}

// Noticed says that the kernel works with the members of a start.
type Noticed struct {
	Lockspace string
	Token     uint64
}

// RecoverDone says that the kernel's own part of the recovery is done.
type RecoverDone struct {
	Lockspace string
	Token     uint64
}

// JoinDone answers AnswerJoin.
type JoinDone struct {
	Lockspace string
	Token     uint64
	Err       string
}

// EndDone answers FinishLeave and FailJoin. Again: the kernel still waits, so the same
// is to be tried again.
type EndDone struct {
	Lockspace string
	Token     uint64
	Err       string
	Again     bool
}

// PeerFailed answers a SetPeer that could not be done.
type PeerFailed struct{ Incarnation membership.Incarnation }

// PeerRemoved answers RemovePeer.
type PeerRemoved struct{ Incarnation membership.Incarnation }

// PeerRenewed answers RenewPeer.
type PeerRenewed struct {
	Incarnation membership.Incarnation
	Epoch       uint64
}

func (Online) kernelInput()      {}
func (Offline) kernelInput()     {}
func (StopDone) kernelInput()    {}
func (StartDone) kernelInput()   {}
func (Noticed) kernelInput()     {}
func (RecoverDone) kernelInput() {}
func (JoinDone) kernelInput()    {}
func (EndDone) kernelInput()     {}
func (PeerFailed) kernelInput()  {}
func (PeerRemoved) kernelInput() {}
func (PeerRenewed) kernelInput() {}

// Wish is a message that the node wants ordered. Key names the wish, so that it
// is not proposed again while it is under way.
type Wish struct {
	Key     string
	Message Message
}

// Self is what the reconciler is told of its own node.
type Self struct {
	Incarnation membership.Incarnation
	Member      bool // exactly this incarnation is a member
	Evicted     bool // it was evicted, and holds nothing any more in the others' eyes
	Quorum      bool // judged from its own links (architecture 4)
	Recovers    bool // as in Member
	// Draining says why no lockspace is joined here any more; empty: they are.
	Draining string
	// DrainedAt is the index at which that was agreed: joins ordered after it are refused,
	// those before it go on. 0: it is not known, and all that were ordered go on.
	DrainedAt uint64
}

// space is this node's side of one lockspace.
type space struct {
	phase   Phase
	token   uint64 // of the operation under way
	change  uint64 // last started
	noticed bool   // by the kernel
	join    bool   // an online uevent has not been answered
	leave   bool   // an offline uevent has not been answered
	recover bool
	since   membership.Mono // of the phase
	refuses membership.Mono // since when the kernel, asked all the time, has refused each start, or a comms entry for it; 0: it did not
	err     string          // last error of the kernel's
	retry   membership.Mono // of an end that failed: not before
}

// retryAfter is how long after the kernel failed something it is asked again.
const retryAfter = time.Second

type peer struct {
	inc      membership.Incarnation
	failed   membership.Mono // when its comms entry could not be made; 0: it was, or is being
	removing bool
	renewing bool
	renewed  uint64 // epoch of the newest refused join after which it was made anew
}

// Local is the reconciler of one node.
type Local struct {
	spaces map[string]*space
	peers  map[membership.NodeID]*peer
	taken  map[string]uint64 // epochs of joins that are being taken back, by lockspace: see stray
	tokens uint64
}

// NewLocal returns the reconciler of a node whose kernel holds nothing.
func NewLocal() *Local {
	return &Local{spaces: map[string]*space{}, peers: map[membership.NodeID]*peer{}, taken: map[string]uint64{}}
}

// Names are the lockspaces that this node's kernel knows, in order.
func (l *Local) Names() []string {
	names := make([]string, 0, len(l.spaces))
	for n := range l.spaces {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Phase returns what the kernel does with a lockspace, and since when.
func (l *Local) Phase(name string) (p Phase, since membership.Mono, ok bool) {
	if sp := l.spaces[name]; sp != nil {
		return sp.phase, sp.since, true
	}
	return 0, 0, false
}

// Err is the last error that the kernel answered for a lockspace.
func (l *Local) Err(name string) string {
	if sp := l.spaces[name]; sp != nil {
		return sp.err
	}
	return ""
}

// Step takes one input from the kernel. It returns a line for the event log.
func (l *Local) Step(now membership.Mono, in Input) *Notice {
	switch in := in.(type) {
	case Online:
		l.spaces[in.Lockspace] = &space{phase: Joining, join: true, since: now}
		return &Notice{Kind: membership.KindJoin, Lockspace: in.Lockspace, Text: "a program or mount here asks to join"}
	case Offline:
		return l.offline(now, in)
	case PeerFailed:
		if p := l.peers[in.Incarnation.Node]; p != nil && p.inc == in.Incarnation {
			p.failed = max(now, 1)
		}
	case PeerRemoved:
		if p := l.peers[in.Incarnation.Node]; p != nil && p.inc == in.Incarnation {
			delete(l.peers, in.Incarnation.Node)
		}
	case PeerRenewed:
		if p := l.peers[in.Incarnation.Node]; p != nil && p.inc == in.Incarnation {
			p.renewing, p.renewed = false, max(p.renewed, in.Epoch)
		}
	case StopDone:
		return l.finish(now, in.Lockspace, in.Token, in.Err, Stopping, Stopped, membership.KindStopped)
	case StartDone:
		return l.finish(now, in.Lockspace, in.Token, in.Err, Starting, Recovering, membership.KindStarted)
	case Noticed:
		if sp := l.spaces[in.Lockspace]; sp != nil && sp.token == in.Token && sp.phase == Recovering {
			sp.noticed = true
		}
	case RecoverDone:
		return l.recoverDone(now, in)
	case JoinDone:
		return l.joinDone(in)
	case EndDone:
		return l.endDone(now, in)
	}
	return nil
}

func (l *Local) offline(now membership.Mono, in Offline) *Notice {
	sp := l.spaces[in.Lockspace]
	if sp == nil {
		sp = &space{phase: Stopped, since: now}
		l.spaces[in.Lockspace] = sp
	}
	sp.leave, sp.recover, sp.join = true, in.Recover, false
	return &Notice{Kind: membership.KindLeave, Lockspace: in.Lockspace, Change: sp.change, Text: "the last user here is gone"}
}

func (l *Local) finish(now membership.Mono, name string, token uint64, err string, from, to Phase, k membership.Kind) *Notice {
	sp := l.spaces[name]
	if sp == nil || sp.token != token || sp.phase != from {
		return nil
	}
	sp.err = err
	n := &Notice{Kind: k, Lockspace: name, Change: sp.change}
	if err != "" {
		// A kernel that refuses stays where it was, and is asked again; the step's deadline convicts the node.
		n.Kind, n.Text = membership.KindDegraded, from.String()+": "+err
		if from == Starting {
			to = Stopped
			if sp.refuses == 0 {
				sp.refuses = now
			}
		}
	} else if from == Starting {
		sp.refuses = 0
	}
	sp.phase, sp.since = to, now
	if err != "" && from == Stopping {
		sp.phase = Recovering // stop again
	}
	return n
}

// Refusing says since when the kernel has refused to start lockspaces that programs here
// use, the longest first; 0: it does not.
func (l *Local) Refusing() (name string, since membership.Mono) {
	for _, n := range l.Names() {
		if sp := l.spaces[n]; sp.refuses != 0 && !sp.join && (since == 0 || sp.refuses < since) {
			name, since = n, sp.refuses
		}
	}
	return name, since
}

func (l *Local) recoverDone(now membership.Mono, in RecoverDone) *Notice {
	sp := l.spaces[in.Lockspace]
	if sp == nil || sp.token != in.Token || sp.phase != Recovering {
		return nil
	}
	sp.phase, sp.since, sp.noticed = Running, now, true
	return &Notice{Kind: membership.KindRecovered, Lockspace: in.Lockspace, Change: sp.change}
}

func (l *Local) joinDone(in JoinDone) *Notice {
	sp := l.spaces[in.Lockspace]
	if sp == nil {
		return nil
	}
	n := &Notice{Kind: membership.KindJoined, Lockspace: in.Lockspace, Change: sp.change}
	if sp.err = in.Err; in.Err != "" {
		n.Kind, n.Text = membership.KindDegraded, "the join could not be answered: "+in.Err
	}
	return n
}

func (l *Local) endDone(now membership.Mono, in EndDone) *Notice {
	sp := l.spaces[in.Lockspace]
	if sp == nil || sp.token != in.Token || sp.phase != Ending {
		return nil
	}
	if in.Again {
		sp.phase, sp.since, sp.err, sp.retry = Stopped, now, in.Err, now.Add(retryAfter)
		if sp.join && sp.change == 0 {
			sp.phase = Joining // it was refused before it began
		}
		return &Notice{Kind: membership.KindDegraded, Lockspace: in.Lockspace, Change: sp.change, Text: Ending.String() + ": " + in.Err}
	}
	delete(l.spaces, in.Lockspace)
	n := &Notice{Kind: membership.KindLeft, Lockspace: in.Lockspace, Change: sp.change, Text: in.Err}
	if sp.join {
		n.Kind = membership.KindJoinFailed
	}
	return n
}

// RunsWith says that a lockspace runs here of which a node is a member, too, or is to
// run again: nothing but the two kernels is waited for. Who still joins does not count.
func (l *Local) RunsWith(s *Set, self, n membership.NodeID) bool {
	for name, sp := range l.spaces {
		ls := s.Space(name)
		if sp.phase != Running && sp.phase != Recovering || ls == nil || ls.Change != nil && ls.Change.Opened == 0 {
			continue
		}
		if ls.settled(self) && ls.settled(n) {
			return true
		}
	}
	return false
}

// settled: a node is a member, and does not join any more.
func (sp *Space) settled(n membership.NodeID) bool {
	return slices.ContainsFunc(sp.Live, func(m Member) bool { return m.Incarnation.Node == n && !m.Joining })
}

// Holding lists the lockspaces whose kernel state may matter to others.
func (l *Local) Holding() []string {
	var out []string
	for _, n := range l.Names() {
		if sp := l.spaces[n]; sp.phase != Joining && sp.phase != Ending {
			out = append(out, n)
		}
	}
	return out
}

func (l *Local) next() uint64 { l.tokens++; return l.tokens }

func wish(kind, name string, change uint64, m Message) Wish {
	return Wish{Key: fmt.Sprintf("%s %s %d", kind, name, change), Message: m}
}
