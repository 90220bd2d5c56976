package raft

import (
	"fmt"
	"maps"
	"slices"

	raftlib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/quorate/quorate/membership"
)

// drain turns everything that raft has ready into effects, until nothing is.
func (m *Machine) drain() {
	for m.node != nil && m.fault == nil && m.node.HasReady() {
		m.ready(m.node.Ready())
	}
}

// ready handles one Ready of raft's asynchronous form: messages for peers may go
// before the own write, what waits for the write is attached to it, and entries
// are applied after it.
func (m *Machine) ready(rd raftlib.Ready) {
	var appends, applies *pb.Message
	for _, msg := range rd.Messages {
		switch msg.GetTo() {
		case raftlib.LocalAppendThread:
			appends = msg
		case raftlib.LocalApplyThread:
			applies = msg
		default:
			m.sendRaft(msg)
		}
	}
	if appends != nil {
		m.append(appends)
	}
	if applies != nil {
		m.apply(applies.GetEntries())
		m.respond(applies.GetResponses())
	}
}

// append makes one durable record of entries, hard state and snapshot. A commit
// index alone needs no write: it is learnt again from the leader.
func (m *Machine) append(msg *pb.Message) {
	if msg.Term != nil && msg.Vote != nil && msg.Commit != nil {
		m.hs = hardState(msg.GetTerm(), msg.GetVote(), msg.GetCommit())
		must(m.storage.SetHardState(m.hs))
	}
	snap := msg.GetSnapshot()
	if !raftlib.IsEmptySnap(snap) {
		must(m.storage.ApplySnapshot(snap))
	}
	must(m.storage.Append(msg.GetEntries()))
	switch {
	case !raftlib.IsEmptySnap(snap):
		m.checkpoint(snap)
		must(m.adopt(snap))
		m.logCount, m.logBytes = 0, 0
	case raftlib.MustSync(m.hs, m.synced, len(msg.GetEntries())):
		kept := m.synced.GetCommit()
		m.synced = m.hs
		m.persist(&Record{HardState: m.hs, Entries: msg.GetEntries()})
		if kept < m.confIndex && m.confIndex <= m.hs.GetCommit() {
			m.helloSoon() // others wait to know that it is kept here
		}
	}
	m.respond(msg.GetResponses())
}

// checkpoint persists the whole state: identity, snapshot, hard state and the entries after it.
func (m *Machine) checkpoint(snap *pb.Snapshot) {
	id := m.id
	rec := &Record{Checkpoint: true, Identity: &id, Snapshot: snap}
	base := snap.GetMetadata().GetIndex()
	hs := m.hs
	if hs.GetCommit() < base {
		hs = hardState(hs.GetTerm(), hs.GetVote(), base)
	}
	if !raftlib.IsEmptyHardState(hs) {
		rec.HardState = hs
	}
	m.synced = hs
	if _, last := m.last(); last > base {
		entries, err := m.storage.Entries(base+1, last+1, ^uint64(0))
		must(err)
		rec.Entries = entries
	}
	m.persist(rec)
}

// respond delivers what waited for a local write: to raft itself, or to peers.
func (m *Machine) respond(msgs []*pb.Message) {
	for _, r := range msgs {
		if r.GetTo() == m.id.RaftID {
			_ = m.node.Step(r) // a stale response is dropped
			continue
		}
		m.sendRaft(r)
	}
}

// apply delivers entries that are ordered for good.
func (m *Machine) apply(entries []*pb.Entry) {
	for _, e := range entries {
		m.applied = e.GetIndex()
		m.logCount, m.logBytes = m.logCount+1, m.logBytes+len(e.GetData())
		switch {
		case e.GetType() == pb.EntryConfChangeV2:
			m.applyConf(e)
		case len(e.GetData()) > 0 && m.applied > m.delivered:
			m.emit(membership.GroupDeliver{Index: e.GetIndex(), Term: e.GetTerm(), Data: e.GetData()})
		}
	}
}

// applyConf changes the configuration, and learns which node a new raft id is.
func (m *Machine) applyConf(e *pb.Entry) {
	cc, named, err := parseChange(e.GetData())
	must(err)
	m.before = m.cs
	m.cs = m.node.ApplyConfChange(cc)
	for _, n := range named.list {
		if inConf(m.cs, n.id) {
			m.members.add(n)
		}
	}
	if named.gen.Number > m.members.gen.Number {
		m.members.gen = named.gen
	}
	m.members.keep(m.cs)
	m.seen = slices.DeleteFunc(m.seen, func(s seen) bool { return m.members.isRetired(s.id) })
	maps.DeleteFunc(m.settled, func(id, _ uint64) bool { return !inConf(m.cs, id) })
	m.confIndex = e.GetIndex()
	m.trace("config", "voters %v learners %v at %d", m.Status().Voters, m.Status().Learners, e.GetIndex())
	m.helloSoon() // an admitted node waits for its form, a replaced one for the news
}

// sendRaft sends a raft message to the node that has the id.
func (m *Machine) sendRaft(msg *pb.Message) {
	to := m.nodeOf(msg.GetTo())
	if to == 0 || to == m.cfg.Self {
		return
	}
	if p := m.peer(to); p == nil || !p.up || p.raftID != msg.GetTo() {
		return
	}
	if msg.GetType() == pb.MsgSnap && !inConf(msg.GetSnapshot().GetMetadata().GetConfState(), msg.GetTo()) {
		m.node.ReportSnapshot(msg.GetTo(), raftlib.SnapshotFailure) // until WantsCompact was answered
		return
	}
	if m.unbacked(msg) {
		return
	}
	data, err := encodeRaft(m.modest(msg))
	must(err)
	if len(data) > membership.MaxMessage {
		m.trace("refused", "%v of %d bytes for node %d is larger than a message may be", msg.GetType(), len(data), to)
		return
	}
	m.emit(membership.GroupSend{To: to, Data: data})
}

// marshal is the form of a change in an entry.
func marshal(cc *pb.ConfChangeV2) []byte {
	_, b, err := pb.MarshalConfChange(cc)
	must(err)
	return b
}

// must: an error here is a broken invariant; Step turns it into a fault.
func must(err error) {
	if err != nil {
		panic(fmt.Errorf("raft: %w", err))
	}
}
