package node

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
	"github.com/quorate/quorate/membership/quorum"
	"github.com/quorate/quorate/membership/rotation"
)

// Identity is what a node knows of itself when its daemon starts.
type Identity struct {
	Boot     membership.BootID
	Instance uint64 // random, of this run of the daemon
	Epoch    uint64 // of its answers to probes, which may be older than this run; 0: Instance
	Machine  string // of the machine, whatever boots on it
	Version  string
	Kernel   string
	// Digest is the configuration's, whole and by key.
	Digest  string
	Digests map[string]string
}

// Options are the parts that New wires.
type Options struct {
	Config   membership.Config
	Identity Identity
	Group    membership.Group
	// List makes membership the word of a list instead of a majority's of the
	// configured nodes; nil for a group that agrees.
	List *List
	// Conf makes the configuration one that the members agree on; nil: it is each node's file.
	Conf *Replicated
	// Recovers says that the kernel can be told of a leave whose journal is to be
	// replayed: see lockspace.Member.
	Recovers bool
	// Boot are effects of the group's own construction, to be executed first.
	Boot []membership.GroupEffect
	// Keys are what this node has loaded of the secret; without any it says nothing of keys.
	Keys rotation.Loaded
	// ProbePort is what an operator is told to open; 0: the default.
	ProbePort uint16
	// Docs is the folder of the documents for users.
	Docs string
	// Break names a safety rule that the machine leaves out, one of Rules. It
	// exists to show that the simulator finds it.
	Break string
}

// The safety rules that can be left out.
const (
	skipFence  = "skip-fence"
	skipStop   = "skip-stop"
	skipQuorum = "skip-quorum"
	skipHold   = "skip-hold"
	skipLie    = "skip-lie"

	// Of a takeover: its generation is not durable; an agent's start is a proof; several
	// fence a victim at once.
	skipGeneration = "skip-generation"
	earlyProof     = "early-proof"
	doubleActor    = "double-actor"
)

// Careless is the rule that the group leaves out (raft.Config.Careless).
const Careless = skipGeneration

// Rules are what Options.Break can be, besides empty.
var Rules = []string{skipFence, skipStop, skipQuorum, skipHold, skipLie, skipGeneration, earlyProof, doubleActor}

// Times of the machine itself; all else is in membership.Config.
const (
	helloEvery   = time.Second
	retryAfter   = 300 * time.Millisecond
	stopLimit    = 10 * time.Second // for a member to stop a lockspace
	recoverLimit = 60 * time.Second // for a member's kernel to recover one
	fenceStart   = 2 * time.Second  // for an actor to start its agent
	backoffMax   = 30 * time.Second
	compactEvery = 2000 // entries
)

// Node is the machine.
type Node struct {
	cfg      membership.Config
	id       Identity
	group    membership.Group
	live     *liveness.Machine
	policy   quorum.Policy
	brk      string
	recovers bool // as in Options

	conf *configState // nil: the configuration is a file's, for as long as the daemon runs

	list    *List               // nil: a majority decides
	listWhy string              // why the leader does not have it ordered
	grouped []membership.NodeID // the nodes that the group was given last

	st    *cluster.State
	set   *lockspace.Set
	local *lockspace.Local

	now     membership.Mono
	wall    string // for records
	started membership.Mono
	out     []Effect
	seq     uint64 // of events
	repeats uint64 // of the own log, this much was known to be ordered when the daemon started
	broken  bool

	inputs   []membership.GroupInput // waiting for their turn
	stepping bool

	peers      map[membership.NodeID]*peer
	met        map[membership.NodeID]bool // a peer has heard it since that peer's daemon started
	leader     membership.NodeID
	term       uint64
	quorate    bool                // judged from own links
	unvetted   []membership.NodeID // by the group's word
	judge      membership.GroupJudge
	barred     bool
	verdict    []membership.Departure
	flights    map[string]flight
	wished     map[string]bool
	retryAt    membership.Mono
	helloAt    membership.Mono
	stages     map[string]*stage
	unanswered map[membership.NodeID]*vain           // by Unanswered
	holds      []holdClock                           // as State.Holds
	noDisk     string                                // why the log cannot be written; empty: it can
	unheld     map[membership.NodeID]membership.Mono // when its last hold ended
	asks       []ask
	cases      map[membership.Incarnation]*caseClock
	jobs       map[jobKey]*job
	takeover   *takeover
	noTakeover string                            // why there is none
	strays     map[membership.Incarnation]uint64 // agents of a takeover that was given up, by attempt
	shotSeq    uint64
	attempts   []cluster.Record // of takeovers, that failed and are in no log; see tried
	woke       membership.Mono  // when it last noticed that this daemon had stood still
	seasoned   bool             // this run was in a quorate view
	leaving    *leaving
	drainAt    membership.Mono     // when a drained node may try again to leave
	drainedAt  uint64              // index of the entry that drained this node; 0: none, or it came with a snapshot
	override   string              // who overrode the quorum here; empty: nobody
	fenced     bool                // SelfFence was asked for
	samples    []membership.Sample // the newest
	retimed    membership.Mono     // when the times of the configuration changed last
	lookedAt   membership.Mono     // when liveness looked at its samples last
	unfences   map[membership.NodeID]*unfencing
	unclocks   map[membership.NodeID]*unfenceClock
	watches    []*watch // by device of the configuration
	asking     int      // device that is asked, plus 1; -1: and is to stop; 0: none
	monitorAt  membership.Mono
	prepareAt  membership.Mono
	prepared   map[membership.Incarnation]membership.Mono // when
	compacted  uint64
	viewSince  membership.Mono
	unordered  waitClock        // why nothing can be ordered
	unlinked   waitClock        // that this node hears too few
	unadmitted waitClock        // that it is no member
	witness    *witness         // the one to talk to; nil: none is known
	hinted     *cluster.Witness // that a peer said is agreed, and is not known to be here yet
	waitsFor   string           // last RecoveryWait given to liveness

	maintained   holdClock           // as State.Maintenance; index 0: there is none
	unmaintained membership.Mono     // when the last maintenance ended
	rivals       []membership.NodeID // see rivalled; ascending
	lan          string              // FitFor's
	ownRivals    []membership.NodeID // those that this node's group has met
	rivalSince   membership.Mono
	unrivalled   membership.Mono // when there were none any more

	probePort uint16
	docs      string

	rot    *rotation.Machine
	keyErr string // why the last change of keys was not made
}

type peer struct {
	connected bool
	upAt      membership.Mono // when it connected last
	err       string
	hello     *Hello
	helloText []byte // what hello was read from
	helloAt   membership.Mono
	admitted  membership.Mono // when its newest admission was applied here
	row       *liveness.Row
	rowAt     membership.Mono
	lives     []life // of which it said hello, the newest last
	differs   []string
	said      string // the refusal that was last logged
	do        string // what to do about it; empty: not known
	unmet     *unmet // the last one, while it is not connected
}

type flight struct {
	at     membership.Mono
	term   uint64
	leader membership.NodeID
}

// stage is how long a lockspace's change has stood where it stands.
type stage struct {
	seq    uint64
	opened bool
	since  membership.Mono
}

// caseClock holds the times of one case by this node's clock.
type caseClock struct {
	since   membership.Mono
	ended   membership.Mono // of the last attempt
	proved  membership.Mono // when its proof was ordered; 0: it is not, or was before this daemon started
	job     uint64          // attempt that runs
	jobSeen membership.Mono
	lied    membership.Mono // when it was heard after an agent's proof; 0: it was not
}

type jobKey struct {
	victim  membership.Incarnation
	attempt uint64
}

// job is a fencing that this node proposed to run.
type job struct {
	start, lease time.Duration
	deadline     membership.Mono
	run          bool
	began        membership.FenceJob
	result       *membership.FenceResult
	ended        membership.Mono // when that came
}

// waitClock is since when this node waits for the same; empty: for nothing.
type waitClock struct {
	what  string
	since membership.Mono
}

func (c *waitClock) note(what string, now membership.Mono) {
	if what != c.what {
		*c = waitClock{what, now}
	}
}

type leaving struct {
	tokens   []uint64
	quiesced bool
	since    membership.Mono
	drain    bool            // it was asked for by a drain
	alone    membership.Mono // since when there is no quorum; 0 there is one
}

// New returns the machine of a node whose kernel holds nothing, and the effects
// of its start.
func New(now membership.Mono, o Options) (*Node, []Effect) {
	ids := o.Config.IDs()
	pol := quorum.New(o.Config)
	if o.List != nil {
		pol = quorum.Policy{All: true} // until there is an agreed list
	}
	n := &Node{
		cfg: o.Config, id: o.Identity, group: o.Group, policy: pol, brk: o.Break, recovers: o.Recovers, list: o.List,
		live: liveness.New(liveness.Config{Self: o.Config.Self, Nodes: ids, Timing: o.Config.Timing, Policy: pol, AnyLink: o.Config.AnyLink, Instance: o.Identity.Instance}, now),
		st:   cluster.New(), set: lockspace.New(), local: lockspace.NewLocal(),
		now: now, started: now, helloAt: now, probePort: cmp.Or(o.ProbePort, defaultProbePort), docs: o.Docs,
		unanswered: map[membership.NodeID]*vain{},
		peers:      map[membership.NodeID]*peer{}, met: map[membership.NodeID]bool{}, flights: map[string]flight{}, stages: map[string]*stage{},
		cases: map[membership.Incarnation]*caseClock{}, jobs: map[jobKey]*job{},
		unheld: map[membership.NodeID]membership.Mono{}, strays: map[membership.Incarnation]uint64{},
		unfences: map[membership.NodeID]*unfencing{}, unclocks: map[membership.NodeID]*unfenceClock{},
	}
	for _, id := range ids {
		if id != n.cfg.Self {
			n.peers[id] = &peer{}
		}
	}
	n.rot = rotation.New(n.cfg.Self, ids, now)
	if o.Conf != nil {
		n.conf = &configState{Replicated: *o.Conf, agreed: o.Config}
	}
	n.quorate = pol.Quorate([]membership.NodeID{n.cfg.Self}).Quorate
	if n.list == nil {
		n.grouped = ids
	}
	n.emit(membership.Event{Kind: membership.KindUp, Text: fmt.Sprintf("quorated %s, kernel %s, profile %s", n.id.Version, n.id.Kernel, n.cfg.Timing.Profile)})
	n.rotate(o.Keys)
	n.repeats = n.group.Status().Applied
	n.stepping = true
	n.execute(o.Boot)
	n.stepping = false
	n.followLeader()
	n.settle()
	return n, n.take()
}

func (n *Node) take() []Effect {
	out := n.out
	n.out = nil
	return out
}

func (n *Node) do(e Effect) { n.out = append(n.out, e) }

// emit adds a line to the event log. What the own log repeats after a restart
// was told when it happened. Its end may not have been ordered then, and is told when it is.
func (n *Node) emit(e membership.Event) {
	if e.Index != 0 && e.Index <= n.repeats {
		return
	}
	n.seq++
	e.Seq, e.Node, e.Mono = n.seq, n.cfg.Self, n.now
	if e.View == 0 {
		e.View = n.st.View.Number
	}
	n.do(Emit{Event: e})
}

// Step takes one input. After a broken invariant it does nothing any more.
func (n *Node) Step(now membership.Mono, in Input) []Effect {
	if n.broken {
		return nil
	}
	n.now = max(now, n.now)
	switch in := in.(type) {
	case Timer:
		n.samples, n.lookedAt = in.Samples, n.now
		n.prepare()
		n.watchWitness()
		n.monitor()
		n.liveness(liveness.Observed{Samples: in.Samples, Blocked: n.blocked(in.Samples)})
		n.liars()
		if d := n.group.Deadline(); d != 0 && n.now >= d {
			n.step(membership.GroupTimer{})
		}
	case Connected:
		n.connected(in.Peer)
	case Disconnected:
		n.disconnected(in)
	case Received:
		n.received(in)
	case Kernel:
		if note := n.local.Step(n.now, in.In); note != nil {
			n.notice(*note, 0)
		}
	case Unanswered:
		n.paths(in)
	case Quiesced:
		n.onQuiesced(in)
	case FenceDone:
		n.fenceDone(in)
	case UnfenceDone:
		n.unfenceDone(in)
	case DeviceAnswered:
		n.answered(in)
	case DiskLost:
		n.diskLost(in)
	case Keys:
		n.keysLoaded(in)
	case KeysRead:
		n.keysRead(in)
	case Operator:
		n.operator(in)
	case Listed:
		n.relisted(in)
	case ConfigChecked:
		n.configChecked(in)
	case Seen:
		n.emit(in.Event)
	case Refused:
		n.refused(in)
	case FitFor:
		n.lan = in.Lan
	}
	n.settle()
	return n.take()
}

// Deadline is when a Timer input is due.
func (n *Node) Deadline() membership.Mono {
	d := n.live.Deadline()
	for _, o := range []membership.Mono{n.group.Deadline(), n.retryAt, n.helloAt, n.witnessDeadline()} {
		if o != 0 && (d == 0 || o < d) {
			d = o
		}
	}
	return d
}

// SetWall tells the wall clock's time, which goes into records alone.
func (n *Node) SetWall(t string) { n.wall = t }

// View is the number of the view that this node has applied.
func (n *Node) View() uint64 { return n.st.View.Number }

// Members are the nodes of that view, in ascending order.
func (n *Node) Members() []membership.NodeID { return n.st.View.IDs() }

// own is the record of this run of the daemon; nil: it was never admitted.
func (n *Node) own() *cluster.NodeRecord {
	if r := n.st.Node(n.cfg.Self); r != nil && r.Last.Boot == n.id.Boot && r.Instance == n.id.Instance {
		return r
	}
	return nil
}

// Self is the incarnation that this node is, or would be admitted as.
func (n *Node) Self() membership.Incarnation {
	if r := n.own(); r != nil {
		return r.Last
	}
	return membership.Incarnation{Node: n.cfg.Self, Boot: n.id.Boot}
}

// Member says whether this run of the daemon is a member.
func (n *Node) Member() bool {
	r := n.own()
	return r != nil && n.st.Member(r.Last)
}

// Evicted says whether this run of the daemon was a member and was evicted.
func (n *Node) Evicted() bool {
	r := n.own()
	return r != nil && !r.Left && !n.st.Member(r.Last)
}

func (n *Node) left() bool {
	r := n.own()
	return r != nil && r.Left
}

func (n *Node) leads() bool { return n.leader == n.cfg.Self && n.leader != 0 }

func (n *Node) quorum(ids []membership.NodeID) bool {
	return n.brk == skipQuorum || agreedVotes(n.agreedPolicy(), ids).Quorate // in the middle of an entry, too
}

// without are the members besides these.
func (n *Node) without(ids ...membership.NodeID) []membership.NodeID {
	return membership.Without(n.st.View.IDs(), ids...)
}

// break_ stops the machine on a state that must not be.
func (n *Node) break_(why string) {
	n.broken = true
	n.emit(membership.Event{Kind: membership.KindBroken, Text: why})
	n.do(Exit{Why: why})
}

// step gives the group an input and executes what it asks for. An input that
// arises while effects are executed waits for its turn: effects of two steps
// never mix, so that records stay in their order.
func (n *Node) step(in membership.GroupInput) {
	n.inputs = append(n.inputs, in)
	n.stepQueued()
}

// stepQueued gives the group all that waits for it at once.
func (n *Node) stepQueued() {
	if n.stepping {
		return
	}
	n.stepping = true
	for len(n.inputs) > 0 && !n.broken {
		in := n.inputs
		n.inputs = nil
		n.execute(n.group.Step(n.now, in...))
		n.followLeader()
	}
	n.stepping = false
}

func (n *Node) execute(effs []membership.GroupEffect) {
	for _, e := range effs {
		switch e := e.(type) {
		case membership.GroupPersist:
			n.do(Persist{Record: e.Record})
		case membership.GroupSend:
			n.do(Send{To: e.To, Data: envelope(kindGroup, e.Data)})
		case membership.GroupDeliver:
			n.deliver(e)
		case membership.GroupRestore:
			n.restore(e)
		case membership.GroupTrace:
			if e.Kind == string(membership.KindLeader) {
				continue // said once, by followLeader
			}
			n.emit(membership.Event{Kind: membership.Kind(e.Kind), Text: e.Text})
		}
		if n.broken {
			return
		}
	}
}

// followLeader notes a change of leader.
func (n *Node) followLeader() {
	s := n.group.Status()
	if s.Leader != n.leader || s.Term != n.term {
		if s.Leader != n.leader && s.Leader != 0 {
			n.emit(membership.Event{Kind: membership.KindLeader, Subject: s.Leader, Text: fmt.Sprintf("term %d", s.Term)})
		}
		n.leader, n.term = s.Leader, s.Term
		n.liveness(liveness.Leader{Node: s.Leader})
	}
	n.followRivals(s.Rivals)
	n.unvetted = s.Unvetted
	n.liveness(liveness.LogIn{Term: s.LastTerm, Index: s.LastIndex})
}

// liveness gives the detector one input and executes what it asks for.
func (n *Node) liveness(in liveness.Input) {
	for _, e := range n.live.Step(n.now, in) {
		switch e := e.(type) {
		case liveness.SendRow:
			n.broadcast(envelope(kindRow, encodeRow(e.Row)))
		case liveness.Suspected:
			n.emit(membership.Event{Kind: membership.KindSuspect, Subject: e.Node, Text: fmt.Sprintf("silent for %v", e.Silent.Round(time.Millisecond))})
		case liveness.Cleared:
			n.emit(membership.Event{Kind: membership.KindCleared, Subject: e.Node})
		case liveness.Convicted:
			n.convicted(e.Departures)
		case liveness.QuorumChanged:
			n.quorate = e.Have
			linked := n.live.Linked()
			n.emit(membership.Event{Kind: membership.KindQuorum, Text: n.names(linked) + " connected: " + n.linkVotes().Text})
		case liveness.Paused:
			n.woke = n.now
			n.pathsMissed(e.For)
			n.witnessMissed(e.For)
			n.emit(membership.Event{Kind: membership.KindDegraded, Text: pausedText(e)})
		case liveness.JudgeChanged:
			n.judge = e.Judge
			n.giveJudge()
		}
	}
}

func pausedText(e liveness.Paused) string {
	what, then := "this daemon did not run", ""
	if e.Mute {
		what, then = "this node's prober stands still: it sent no probes", ", and until it sends again"
	}
	return fmt.Sprintf("%s for %v; what it did not hear in that time%s counts against nobody", what, e.For.Round(time.Millisecond), then)
}

// Mute says that this node's prober stands still: nothing follows from what it does not hear.
func (n *Node) Mute() bool { return n.live.Mute() }

func (n *Node) giveJudge() {
	j := n.judge
	j.Hears = n.hearsWitness(j.Hears)
	j.Barred = n.Evicted() || n.left()
	n.barred = j.Barred
	n.step(j)
}

func (n *Node) convicted(deps []membership.Departure) {
	for _, d := range deps {
		if !slices.ContainsFunc(n.verdict, func(o membership.Departure) bool { return o.Incarnation == d.Incarnation }) && !n.unseen(d) {
			n.emit(membership.Event{Kind: membership.KindConvicted, Subject: d.Incarnation.Node, Text: fmt.Sprintf("%s, reported by %s", d.Reason, n.names(d.Observers))})
		}
	}
	n.verdict = deps
}
