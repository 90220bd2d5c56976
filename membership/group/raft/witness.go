package raft

import (
	"encoding/binary"
	"fmt"

	raftlib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/quorate/quorate/membership"
)

// given is the consumers' state as of an index, as a leader gave it to a witness.
type given struct {
	index uint64 // 0: none
	state []byte
}

// giveState gives a witness the consumers' state of this leader's newest snapshot,
// so that its log may be dropped up to there. What gets lost on the way is given with
// the next snapshot, or the next connection.
func (m *Machine) giveState(p *peer) {
	if m.node == nil || !p.witness || !p.up || m.role.state != raftlib.StateLeader || m.snapIndex <= max(p.given, 1) || !inConf(m.cs, p.raftID) {
		return
	}
	snap, err := m.storage.Snapshot()
	must(err)
	_, state, err := parseMembers(snap.GetData())
	must(err)
	p.given = snap.GetMetadata().GetIndex()
	if data := encodeState(given{p.given, state}); len(data) <= membership.MaxMessage {
		m.emit(membership.GroupSend{To: p.node, Data: data})
	}
}

// receiveState keeps a state until the own log is as far. It is what any member's
// consumers made of the same entries, so whose it is does not matter.
func (m *Machine) receiveState(p *peer, body []byte) error {
	g, err := parseState(body)
	switch {
	case err != nil:
		return err
	case !m.cfg.Witness:
		return fmt.Errorf("state for a member that makes its own: %w", ErrWire)
	case m.node == nil || !m.vetted || p.clusterID != m.id.ClusterID || m.members.isRetired(p.raftID):
		return nil
	}
	if g.index > max(m.snapIndex, m.state.index) {
		m.state = g
	}
	return nil
}

// condense makes the snapshot that a given state allows. Where the configuration has
// changed since, the members of that index are not known any more: the next state will do.
func (m *Machine) condense() {
	g := m.state
	if g.index == 0 || m.fault != nil || m.node == nil || g.index > m.applied {
		return
	}
	m.state = given{}
	if g.index > m.snapIndex {
		m.compactTo(g.index, g.state)
	}
}

// outrank has a witness campaign when a candidate's log lacks what the own has. Only
// the witness may have it besides a node that died; it gives it to the candidate, and
// leadership with it. Others that are complete have their turn first.
func (m *Machine) outrank(msg *pb.Message) {
	r := &m.role
	asks := msg.GetType() == pb.MsgPreVote || msg.GetType() == pb.MsgVote
	if !m.cfg.Witness || !asks || r.outranks != 0 || m.node.BasicStatus().Lead != raftlib.None {
		return
	}
	term, index := m.last()
	if msg.GetLogTerm() > term || msg.GetLogTerm() == term && msg.GetIndex() >= index {
		return
	}
	r.outranks = m.now.Add(2 * m.cfg.Stagger)
	r.campaignAt = r.outranks
}

func encodeState(g given) []byte {
	b := binary.BigEndian.AppendUint64([]byte{wireVersion, kindState}, g.index)
	return append(b, g.state...)
}

func parseState(b []byte) (given, error) {
	r := reader{b: b}
	g := given{index: r.uint64()}
	if r.err != nil || g.index == 0 {
		return given{}, fmt.Errorf("state: %w", ErrWire)
	}
	g.state = r.b
	return g, nil
}
