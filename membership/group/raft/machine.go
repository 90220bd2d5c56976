package raft

import (
	"fmt"
	"slices"

	raftlib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/quorate/quorate/membership"
)

// maxProposal is the largest entry that is accepted.
const maxProposal = 1 << 20

// Machine is the pure core of the group. It is not safe for concurrent use.
type Machine struct {
	cfg Config
	id  Identity

	node    *raftlib.RawNode // nil until the node is formed
	storage *raftlib.MemoryStorage
	hs      *pb.HardState // as of the last Ready
	synced  *pb.HardState // as of the last Persist
	cs      *pb.ConfState
	members members
	// before is the configuration that the last change ended; nil: none is known. settled
	// is how far others are known to keep that the log is ordered, by raft id.
	before  *pb.ConfState
	settled map[uint64]uint64

	applied   uint64
	delivered uint64 // of a log that is applied again: so far it was delivered
	confIndex uint64 // last applied configuration entry
	confWait  uint64 // a proposed configuration entry, as leader
	electedAt uint64 // last index when this node became leader
	snapIndex uint64 // of the newest snapshot, and its configuration
	snapConf  *pb.ConfState
	logBytes  int // applied since the last compaction
	logCount  int

	electorate []membership.NodeID // who may vote; nil: all configured nodes

	peers  []peer // the other configured nodes, ascending
	seen   []seen // ascending by id
	told   agreed // the newest configuration that another one has said is ordered
	vetted bool   // may vote and acknowledge (S2)
	noDisk string // why nothing is durable here any more; empty: it is

	forcing *forcing // an attempt to go on without a majority

	proposed      []*pb.Entry // in this step, not yet given to raft
	proposedBytes int

	role  election
	state given // of a witness: what is to be put into its next snapshot

	now     membership.Mono
	started bool
	fault   error
	out     []membership.GroupEffect
}

var (
	_ membership.Group    = (*Machine)(nil)
	_ membership.Diskless = (*Machine)(nil)
)

// New makes a machine from what the store held. The effects, to be executed
// before the first Step, persist a new identity, or give back the consumers'
// state and the entries that are known to be ordered.
func New(cfg Config, restored Restored) (*Machine, []membership.GroupEffect, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	m := &Machine{cfg: cfg, id: restored.Identity, hs: &pb.HardState{}, synced: &pb.HardState{}, settled: map[uint64]uint64{}}
	m.role.judge.Barred = cfg.Witness
	m.SetNodes(cfg.Nodes)
	if m.id.RaftID == 0 {
		if !validID(cfg.NewID) {
			return nil, nil, fmt.Errorf("raft id %d: draw a random one", cfg.NewID)
		}
		m.id = Identity{RaftID: cfg.NewID}
		m.persistIdentity()
	}
	m.storage = raftlib.NewMemoryStorage()
	if m.id.ClusterID == "" {
		return m, m.take(), nil
	}
	if err := m.restore(restored); err != nil {
		return nil, nil, err
	}
	return m, m.take(), nil
}

// restore rebuilds the log and starts raft on it.
func (m *Machine) restore(r Restored) error {
	if r.Snapshot != nil {
		if err := m.storage.ApplySnapshot(r.Snapshot); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
	}
	if err := m.storage.Append(r.Entries); err != nil {
		return fmt.Errorf("entries: %w", err)
	}
	base := r.Snapshot.GetMetadata().GetIndex()
	last := base + uint64(len(r.Entries))
	hs := r.HardState
	if hs == nil {
		hs = &pb.HardState{}
	}
	if hs.GetCommit() > last {
		return fmt.Errorf("commit index %d beyond the log's end %d: %w", hs.GetCommit(), last, ErrCorrupt)
	}
	term := max(hs.GetTerm(), r.Snapshot.GetMetadata().GetTerm())
	m.hs = hardState(term, hs.GetVote(), max(hs.GetCommit(), base))
	if term != hs.GetTerm() {
		m.hs.Vote = new(uint64(0))
	}
	m.synced = m.hs
	// A log that holds nothing has promised nothing: no voter can have seen more from it.
	m.vetted = raftlib.IsEmptyHardState(m.hs) && last == 0
	return m.boot()
}

// boot starts raft on the storage and the hard state.
func (m *Machine) boot() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v: %w", p, ErrBroken)
		}
	}()
	if err := m.storage.SetHardState(m.hs); err != nil {
		return err
	}
	snap, err := m.storage.Snapshot()
	if err != nil {
		return err
	}
	if !raftlib.IsEmptySnap(snap) {
		if err := m.adopt(snap); err != nil {
			return err
		}
	}
	if err = m.raft(); err != nil {
		return err
	}
	m.drain()
	m.role.term = m.hs.GetTerm()
	return nil
}

// raft makes the library's node from the storage.
func (m *Machine) raft() (err error) {
	m.node, err = raftlib.NewRawNode(&raftlib.Config{
		ID:                        m.id.RaftID,
		ElectionTick:              10,
		HeartbeatTick:             1,
		Storage:                   m.storage,
		Applied:                   m.applied,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             1 << 20,
		MaxCommittedSizePerReady:  16 << 20,
		MaxUncommittedEntriesSize: 64 << 20,
		MaxInflightMsgs:           256,
		MaxInflightBytes:          16 << 20,
		CheckQuorum:               true,
		PreVote:                   true,
		StepDownOnRemoval:         true,
		Logger:                    logger{line: m.debugLine()},
	})
	return err
}

// adopt takes the members and the consumers' state from a snapshot.
func (m *Machine) adopt(s *pb.Snapshot) error {
	mem, state, err := parseMembers(s.GetData())
	if err != nil {
		return fmt.Errorf("snapshot at %d: %w", s.GetMetadata().GetIndex(), err)
	}
	m.members, m.cs = mem, s.GetMetadata().GetConfState()
	m.applied = s.GetMetadata().GetIndex()
	m.confIndex, m.before = m.applied, nil
	m.snapIndex, m.snapConf = m.applied, m.cs
	m.emit(membership.GroupRestore{Index: m.applied, State: state})
	return nil
}

// Step takes inputs and makes one write of what they need: a leader that is given
// many proposals at once syncs once and sends one append. Nothing is left pending
// when it returns.
func (m *Machine) Step(now membership.Mono, in ...membership.GroupInput) (effects []membership.GroupEffect) {
	if m.fault != nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			effects = m.broken(p)
		}
	}()
	m.now = max(now, m.now)
	m.start()
	for _, i := range in {
		m.input(i)
	}
	m.flush()
	m.timers()
	m.drain()
	m.settle()
	m.reconcile()
	m.drain()
	m.settle()
	m.condense()
	return m.take()
}

// broken stops the machine: what it decided in this step is not executed.
func (m *Machine) broken(p any) []membership.GroupEffect {
	m.out = nil
	err, ok := p.(error)
	if !ok {
		err = fmt.Errorf("%v", p)
	}
	m.fail(fmt.Errorf("%w: %w", ErrBroken, err), "broken")
	return m.take()
}

// fail makes the machine take no part any more.
func (m *Machine) fail(err error, kind string) {
	if m.fault != nil {
		return
	}
	m.fault = err
	m.trace(kind, "%v", err)
}

// Fault says why the machine takes no part any more; nil while it does.
func (m *Machine) Fault() error { return m.fault }

// start sets the times that need a clock, at the first step.
func (m *Machine) start() {
	if m.started {
		return
	}
	m.started = true
	m.role.heard = m.now
	m.role.none = m.now
	wait := m.cfg.Backstop
	if m.hs.GetVote() == m.id.RaftID {
		wait = m.cfg.Heartbeat // it led, and the others follow it until it asks for votes
	}
	m.role.campaignAt = m.now.Add(2*m.cfg.Heartbeat + m.jitter(wait))
	m.single()
	m.vet() // a generation of its own needs nobody's word
}

func (m *Machine) input(in membership.GroupInput) {
	if m.fault != nil {
		return
	}
	if p, ok := in.(membership.GroupPropose); ok {
		m.propose(p.Data)
		return
	}
	m.flush()
	switch in := in.(type) {
	case membership.GroupLink:
		m.link(in)
	case membership.GroupReceive:
		m.receive(in)
	case membership.GroupJudge:
		m.judge(in)
	case membership.GroupHandOver:
		m.handOver(in.To)
	case membership.GroupCompact:
		m.compact(in)
	case membership.GroupForce:
		m.force(in)
	}
}

// propose takes an entry; those that come together go to raft together.
func (m *Machine) propose(data []byte) {
	switch {
	case len(data) == 0:
	case len(data) > maxProposal:
		m.trace("refused", "a proposal of %d bytes, at most %d", len(data), maxProposal)
	default:
		if m.proposedBytes += len(data); m.proposedBytes > maxProposal {
			m.flush()
			m.proposedBytes = len(data)
		}
		m.proposed = append(m.proposed, &pb.Entry{Data: data})
	}
}

// flush hands entries to raft, which forwards them to the leader or drops them.
func (m *Machine) flush() {
	entries := m.proposed
	m.proposed, m.proposedBytes = nil, 0
	if m.node == nil || len(entries) == 0 {
		return
	}
	_ = m.node.Step(&pb.Message{Type: pb.MsgProp.Enum(), From: new(m.id.RaftID), Entries: entries})
}

// compact makes a snapshot of the consumers' state and drops the log before it.
func (m *Machine) compact(in membership.GroupCompact) {
	if m.cfg.Witness || !m.compactTo(in.Index, in.State) { // a witness has no state of its own
		return
	}
	for i := range m.peers {
		m.giveState(&m.peers[i])
	}
}

// compactTo says whether there is a snapshot as of the index now.
func (m *Machine) compactTo(index uint64, state []byte) bool {
	if m.node == nil || index > m.applied || index < m.confIndex {
		return false
	}
	data := append(appendMembers(nil, m.members), state...)
	snap, err := m.storage.CreateSnapshot(index, m.cs, data)
	if err != nil { // older than the last one
		return false
	}
	if keep := uint64(m.cfg.CompactEntries / 10); index > keep {
		_ = m.storage.Compact(index - keep) // ErrCompacted: nothing to do
	}
	m.logCount, m.logBytes = 0, 0
	m.snapIndex, m.snapConf = index, snap.GetMetadata().GetConfState()
	m.checkpoint(snap)
	return true
}

// WantsCompact says that a GroupCompact as of the applied index is due: the log
// has grown enough, or this leader's snapshot is older than a member that it may
// have to be sent to.
func (m *Machine) WantsCompact() bool {
	if m.node == nil || m.fault != nil || m.cfg.Witness {
		return false
	}
	return m.logCount >= m.cfg.CompactEntries || m.logBytes >= m.cfg.CompactBytes || m.staleSnapshot()
}

// staleSnapshot says whether some learner is not in the snapshot: raft refuses
// to be restored from a configuration that it is not in.
func (m *Machine) staleSnapshot() bool {
	if m.role.state != raftlib.StateLeader || m.snapIndex >= m.confIndex {
		return false
	}
	for _, id := range m.cs.GetLearners() {
		if !inConf(m.snapConf, id) {
			return true
		}
	}
	return false
}

// Vetted says that the log is kept, or that there is none to be given up.
func (m *Machine) Vetted() bool { return m.node == nil || m.vetted }

// Status is what the machine says of itself.
func (m *Machine) Status() membership.GroupStatus {
	s := membership.GroupStatus{
		Formed:    m.id.ClusterID != "",
		ClusterID: m.id.ClusterID,
		Applied:   m.applied,
		Waiting:   m.waiting(),
		Do:        m.remedy(),
		Rivals:    m.rivals(),
	}
	for i := range m.peers {
		if p := &m.peers[i]; p.up && !p.vetted {
			s.Unvetted = append(s.Unvetted, p.node)
		}
	}
	if m.node == nil {
		return s
	}
	s.Leader = m.nodeOf(m.role.lead)
	s.Term = m.role.term
	s.LastTerm, s.LastIndex = m.last()
	s.Voter = isVoter(m.cs, m.id.RaftID)
	for _, e := range m.members.list {
		switch {
		case isVoter(m.cs, e.id):
			s.Voters = append(s.Voters, e.node)
		case isLearner(m.cs, e.id):
			s.Learners = append(s.Learners, e.node)
		}
	}
	slices.Sort(s.Voters)
	slices.Sort(s.Learners)
	s.Voters = slices.Compact(s.Voters)
	return s
}

// RaftID is the own id, for logs.
func (m *Machine) RaftID() uint64 { return m.id.RaftID }

// last returns term and index of the own log's last entry.
func (m *Machine) last() (term, index uint64) {
	index, err := m.storage.LastIndex()
	if err != nil {
		panic(err)
	}
	term, err = m.storage.Term(index)
	if err != nil {
		panic(err)
	}
	return term, index
}

// nodeOf returns the node that has a raft id, by the configuration or by its hello.
func (m *Machine) nodeOf(id uint64) membership.NodeID {
	switch {
	case id == 0:
		return 0
	case id == m.id.RaftID:
		return m.cfg.Self
	}
	if n := m.members.node(id); n != 0 {
		return n
	}
	for i := range m.peers {
		if m.peers[i].raftID == id {
			return m.peers[i].node
		}
	}
	return 0
}

func (m *Machine) emit(e membership.GroupEffect) { m.out = append(m.out, e) }

func (m *Machine) persist(r *Record) {
	if m.noDisk == "" {
		m.emit(membership.GroupPersist{Record: r})
	}
}

// persistIdentity makes durable who this machine is, and what it has given its word for.
func (m *Machine) persistIdentity() {
	id := m.id
	m.persist(&Record{Identity: &id})
}

func (m *Machine) trace(kind, format string, v ...any) {
	m.emit(membership.GroupTrace{Kind: kind, Text: fmt.Sprintf(format, v...)})
}

func (m *Machine) debugLine() func(string) {
	if !m.cfg.Debug {
		return nil
	}
	return func(s string) { m.trace("raft", "%s", s) }
}

func (m *Machine) take() []membership.GroupEffect {
	out := m.out
	m.out = nil
	return out
}

func hardState(term, vote, commit uint64) *pb.HardState {
	return &pb.HardState{Term: new(term), Vote: new(vote), Commit: new(commit)}
}
