package grouptest

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// Provider makes the groups under test.
type Provider struct {
	// New makes a node's group from what its disk holds. The effects are
	// executed before the first Step.
	New func(Params) (membership.Group, []membership.GroupEffect, error)
	// Holds says whether a disk holds an entry; nil: the provider keeps nothing.
	Holds func(d *Disk, index, term uint64) bool
	// Replaced says that a group refuses to go on with its disk: it is wiped and
	// the node starts again. nil: never.
	Replaced func(membership.Group) bool
	// Fault is a broken invariant inside the group; nil: there is none.
	Fault func(membership.Group) error
	// Vote reads a vote that a message carries: the term, and a name for whom it
	// is. nil: the provider has no elections.
	Vote func(data []byte) (term, candidate uint64, ok bool)
}

// Params is what a node's group is made from.
type Params struct {
	Self  membership.NodeID
	Nodes []membership.NodeID
	Seed  uint64 // differs between nodes and lives
	Disk  *Disk
}

// Disk is what a node has persisted: the records in order.
type Disk struct{ Records []any }

// Options are the weather.
type Options struct {
	Nodes     int
	Seed      uint64
	MinDelay  time.Duration // of a message
	MaxDelay  time.Duration
	Loss      float64 // of messages
	Duplicate float64
	Reorder   bool          // messages of one connection may overtake each other
	Write     time.Duration // of a Persist, up to twice as long
	Detect    time.Duration // until the detector notices; 0: there is no detector
}

// Sim is one cluster in virtual time.
type Sim struct {
	Opt   Options
	Now   membership.Mono
	Nodes []*Node
	Check *Checker

	provider Provider
	rand     *rand.Rand
	queue    events
	seq      uint64
	cut      map[[2]membership.NodeID]bool
	epoch    map[[2]membership.NodeID]int
	ids      []membership.NodeID
	digest   uint64 // of all effects of all nodes
	Sends    int
	Trace    func(format string, v ...any)
}

// Node is one simulated node.
type Node struct {
	ID       membership.NodeID
	Alive    bool
	Group    membership.Group
	Disk     *Disk
	Life     int
	Persists int
	Steps    int
	Last     uint64 // last index delivered in this life
	Barred   bool

	state   state
	inbox   []membership.GroupInput
	pending []membership.GroupEffect
	busy    bool
	timer   membership.Mono
	up      map[membership.NodeID]bool
	judge   membership.GroupJudge
	crashIn int // effects until a crash; 0: none
	leader  membership.NodeID
	voters  []membership.NodeID // as of its last step
}

type event struct {
	at  membership.Mono
	seq uint64
	run func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// NewSim makes a cluster of nodes 1 to n, all down and with empty disks.
func NewSim(p Provider, o Options) *Sim {
	s := &Sim{
		Opt: o, Now: membership.Mono(time.Second), provider: p,
		rand:  rand.New(rand.NewPCG(o.Seed, 0x71756f72617465)),
		cut:   map[[2]membership.NodeID]bool{},
		epoch: map[[2]membership.NodeID]int{},
		Trace: func(string, ...any) {},
	}
	s.Check = &Checker{sim: s, byIndex: map[uint64]ordered{}, leaders: map[uint64]membership.NodeID{}, votes: map[poll]uint64{}}
	for i := range o.Nodes {
		id := membership.NodeID(i + 1)
		s.ids = append(s.ids, id)
		s.Nodes = append(s.Nodes, &Node{ID: id, Disk: &Disk{}})
	}
	return s
}

// Node returns a node by its id.
func (s *Sim) Node(id membership.NodeID) *Node { return s.Nodes[id-1] }

// Rand is the simulation's source of chance.
func (s *Sim) Rand() *rand.Rand { return s.rand }

// Digest sums up every effect so far: two runs of one seed must agree.
func (s *Sim) Digest() uint64 { return s.digest }

// After runs something at a later time.
func (s *Sim) After(d time.Duration, run func()) {
	s.seq++
	heap.Push(&s.queue, event{s.Now.Add(d), s.seq, run})
}

// Run lets virtual time pass; it stops early when until says so, or when a
// promise was broken.
func (s *Sim) Run(d time.Duration, until func() bool) bool {
	end := s.Now.Add(d)
	for len(s.queue) > 0 && s.queue[0].at <= end && s.Check.Err == nil {
		if until != nil && until() {
			return true
		}
		e := heap.Pop(&s.queue).(event)
		s.Now = max(s.Now, e.at)
		e.run()
	}
	if s.Check.Err == nil {
		s.Now = max(s.Now, end)
	}
	return until != nil && until()
}

// Start boots a node from its disk.
func (s *Sim) Start(id membership.NodeID) {
	n := s.Node(id)
	if n.Alive {
		return
	}
	n.Life++
	seed := s.Opt.Seed*1000003 + uint64(id)*1009 + uint64(n.Life)
	g, effects, err := s.provider.New(Params{Self: id, Nodes: s.ids, Seed: seed, Disk: n.Disk})
	if err != nil {
		s.Check.fail("node %d does not start: %v", id, err)
		return
	}
	n.Alive, n.Group, n.pending, n.inbox, n.busy = true, g, effects, nil, false
	n.state, n.Last, n.up, n.timer, n.leader = state{}, 0, map[membership.NodeID]bool{}, 0, 0
	n.judge, n.crashIn = membership.GroupJudge{}, 0
	s.Trace("%v start %d", s.Now, id)
	s.resume(n)
	s.relink()
}

// StartAll boots every node that is down.
func (s *Sim) StartAll() {
	for _, id := range s.ids {
		s.Start(id)
	}
}

// Crash stops a node; a write that was under way may or may not be on the disk.
func (s *Sim) Crash(id membership.NodeID) {
	n := s.Node(id)
	if !n.Alive {
		return
	}
	if n.busy && s.rand.IntN(2) == 0 {
		if p, ok := n.pending[0].(membership.GroupPersist); ok {
			n.Disk.Records = append(n.Disk.Records, p.Record)
		}
	}
	s.Trace("%v crash %d", s.Now, id)
	n.Alive, n.Life, n.pending, n.inbox, n.busy = false, n.Life+1, nil, nil, false
	s.relink()
}

// CrashIn crashes a node when it has executed some more effects.
func (s *Sim) CrashIn(id membership.NodeID, effects int) { s.Node(id).crashIn = effects }

// Wipe empties the disk of a node that is down.
func (s *Sim) Wipe(id membership.NodeID) { s.Node(id).Disk = &Disk{} }

// Cut cuts or restores the link between two nodes.
func (s *Sim) Cut(a, b membership.NodeID, cut bool) {
	s.cut[pair(a, b)] = cut
	s.relink()
}

// Isolate cuts or restores all links of a node.
func (s *Sim) Isolate(id membership.NodeID, cut bool) {
	for _, o := range s.ids {
		if o != id {
			s.cut[pair(id, o)] = cut
		}
	}
	s.relink()
}

// Heal restores all links.
func (s *Sim) Heal() {
	clear(s.cut)
	s.relink()
}

func pair(a, b membership.NodeID) [2]membership.NodeID {
	return [2]membership.NodeID{min(a, b), max(a, b)}
}

func (s *Sim) joined(a, b membership.NodeID) bool {
	return s.Node(a).Alive && s.Node(b).Alive && !s.cut[pair(a, b)]
}

// relink tells both ends of each path what became of it.
func (s *Sim) relink() {
	for _, a := range s.ids {
		for _, b := range s.ids {
			n := s.Node(a)
			if a == b || !n.Alive || n.up[b] == s.joined(a, b) {
				continue
			}
			n.up[b] = s.joined(a, b)
			if a < b || !n.up[b] {
				s.epoch[pair(a, b)]++
			}
			s.input(a, time.Millisecond, membership.GroupLink{Peer: b, Up: n.up[b]})
		}
	}
	if s.Opt.Detect > 0 {
		s.After(s.Opt.Detect, s.judgeAll)
	}
}

// input gives a node something, if it lives the same life by then.
func (s *Sim) input(id membership.NodeID, d time.Duration, in membership.GroupInput) {
	n := s.Node(id)
	life := n.Life
	s.After(d, func() {
		if n.Alive && n.Life == life {
			n.inbox = append(n.inbox, in)
			s.work(n)
		}
	})
}

// Input gives a node something now.
func (s *Sim) Input(id membership.NodeID, in membership.GroupInput) { s.input(id, 0, in) }

// Propose asks a node to order something.
func (s *Sim) Propose(id membership.NodeID, data string) {
	s.Input(id, membership.GroupPropose{Data: []byte(data)})
}

// work steps a node until it is busy or has nothing to do.
func (s *Sim) work(n *Node) {
	for n.Alive && !n.busy && len(n.inbox) > 0 && s.Check.Err == nil {
		in := n.inbox[0]
		n.inbox = n.inbox[1:]
		n.Steps++
		n.pending = n.Group.Step(s.Now, in)
		s.resume(n)
	}
}

// resume executes the effects in order, until one takes time.
func (s *Sim) resume(n *Node) {
	for n.Alive && len(n.pending) > 0 {
		if n.crashIn > 0 {
			if n.crashIn--; n.crashIn == 0 {
				s.Crash(n.ID)
				return
			}
		}
		e := n.pending[0]
		s.sum(n.ID, e)
		if p, ok := e.(membership.GroupPersist); ok {
			s.write(n, p)
			return
		}
		n.pending = n.pending[1:]
		s.execute(n, e)
	}
	if n.Alive {
		s.settled(n)
	}
}

func (s *Sim) write(n *Node, p membership.GroupPersist) {
	n.busy = true
	n.Persists++
	life, took := n.Life, s.Opt.Write
	if took > 0 {
		took += time.Duration(s.rand.Int64N(int64(took)))
	}
	s.After(took, func() {
		if !n.Alive || n.Life != life {
			return
		}
		n.busy = false
		n.Disk.Records = append(n.Disk.Records, p.Record)
		n.pending = n.pending[1:]
		s.resume(n)
		s.work(n)
	})
}

func (s *Sim) execute(n *Node, e membership.GroupEffect) {
	switch e := e.(type) {
	case membership.GroupSend:
		s.Check.vote(n, e)
		s.send(n.ID, e)
	case membership.GroupDeliver:
		s.Check.deliver(n, e)
	case membership.GroupRestore:
		s.Check.restore(n, e)
	case membership.GroupTrace:
		s.Trace("%v node %d: %s: %s", s.Now, n.ID, e.Kind, e.Text)
	}
}

func (s *Sim) send(from membership.NodeID, e membership.GroupSend) {
	s.Sends++
	if !s.joined(from, e.To) {
		return
	}
	copies := 1
	if s.rand.Float64() < s.Opt.Duplicate {
		copies = 2
	}
	for range copies {
		if s.rand.Float64() < s.Opt.Loss {
			continue
		}
		s.transmit(from, e)
	}
}

func (s *Sim) transmit(from membership.NodeID, e membership.GroupSend) {
	delay := s.Opt.MinDelay
	if s.Opt.Reorder && s.Opt.MaxDelay > s.Opt.MinDelay {
		delay += time.Duration(s.rand.Int64N(int64(s.Opt.MaxDelay - s.Opt.MinDelay)))
	}
	to, life, epoch := s.Node(e.To), s.Node(e.To).Life, s.epoch[pair(from, e.To)]
	s.After(delay, func() {
		if to.Alive && to.Life == life && s.epoch[pair(from, e.To)] == epoch && s.joined(from, e.To) {
			to.inbox = append(to.inbox, membership.GroupReceive{From: from, Data: e.Data})
			s.work(to)
		}
	})
}

// settled is what the daemon does between steps: timers, judgments, compaction.
func (s *Sim) settled(n *Node) {
	st := n.Group.Status()
	s.Check.status(n, st)
	if s.provider.Fault != nil {
		if err := s.provider.Fault(n.Group); err != nil {
			s.Check.fail("node %d: %v", n.ID, err)
		}
	}
	if s.provider.Replaced != nil && s.provider.Replaced(n.Group) {
		s.Trace("%v node %d starts anew", s.Now, n.ID)
		s.Crash(n.ID)
		s.Wipe(n.ID)
		s.After(50*time.Millisecond, func() { s.Start(n.ID) })
		return
	}
	if c, ok := n.Group.(interface{ WantsCompact() bool }); ok && c.WantsCompact() && n.Last > 0 {
		n.inbox = append(n.inbox, membership.GroupCompact{Index: n.Group.Status().Applied, State: n.state.encode()})
	}
	if st.Leader != n.leader {
		n.leader = st.Leader
		s.judge(n)
	}
	s.arm(n)
}

func (s *Sim) arm(n *Node) {
	d := n.Group.Deadline()
	if d == 0 || n.timer == d {
		return
	}
	n.timer = d
	life := n.Life
	s.After(max(0, d.Sub(s.Now)), func() {
		if n.Alive && n.Life == life && n.timer == d {
			n.timer = 0
			n.inbox = append(n.inbox, membership.GroupTimer{})
			s.work(n)
		}
	})
}

func (s *Sim) judgeAll() {
	for _, n := range s.Nodes {
		s.judge(n)
	}
}

// Judge tells a node what a perfect detector would, now.
func (s *Sim) judge(n *Node) {
	if !n.Alive || s.Opt.Detect == 0 {
		return
	}
	j := membership.GroupJudge{Barred: n.Barred}
	for _, id := range s.ids {
		switch {
		case id == n.ID:
		case s.joined(n.ID, id):
			j.Hears = append(j.Hears, id)
		default:
			j.Dead = append(j.Dead, id)
		}
	}
	if l := n.Group.Status().Leader; l != 0 && l != n.ID && !s.joined(n.ID, l) {
		silent := 1
		for _, id := range j.Hears {
			if !s.joined(id, l) {
				silent++
			}
		}
		j.LeaderDead = silent*2 > len(s.ids)
	}
	j.LeaderDead = j.LeaderDead || n.judge.LeaderDead && n.Group.Status().Leader == 0
	j.Rank = s.rank(n, j.Hears)
	if j.LeaderDead == n.judge.LeaderDead && j.Barred == n.judge.Barred && j.Rank == n.judge.Rank &&
		slices.Equal(j.Hears, n.judge.Hears) && slices.Equal(j.Dead, n.judge.Dead) {
		return
	}
	n.judge = j
	s.input(n.ID, 0, j)
}

// rank orders the survivors by how complete their logs are.
func (s *Sim) rank(n *Node, others []membership.NodeID) int {
	better := func(a, b *Node) bool {
		x, y := a.Group.Status(), b.Group.Status()
		if x.LastTerm != y.LastTerm {
			return x.LastTerm > y.LastTerm
		}
		if x.LastIndex != y.LastIndex {
			return x.LastIndex > y.LastIndex
		}
		return a.ID < b.ID
	}
	r := 0
	for _, id := range others {
		if better(s.Node(id), n) {
			r++
		}
	}
	return r
}

// sum adds an effect to the digest.
func (s *Sim) sum(id membership.NodeID, e membership.GroupEffect) {
	h := fnv.New64a()
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], s.digest)
	binary.BigEndian.PutUint64(b[8:], uint64(id))
	h.Write(b[:])
	switch e := e.(type) {
	case membership.GroupPersist:
		fmt.Fprintf(h, "persist")
	default:
		fmt.Fprintf(h, "%T%v", e, e)
	}
	s.digest = h.Sum64()
}
