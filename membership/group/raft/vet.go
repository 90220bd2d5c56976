package raft

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/quorate/quorate/membership"
)

// configuration is one of the log, and the index of the entry that made it.
type configuration struct {
	index uint64
	cs    *pb.ConfState
}

// agreed is who votes by a configuration that is known to be ordered; the zero value: none is.
type agreed struct {
	index  uint64 // of the entry that made it
	voters []elector
}

// elector is a voter: of a configuration, of the one that it replaces while it is
// joint, or of both.
type elector struct {
	member       // node 0: it is not known whose id that is
	in, out bool // voters, outgoing voters
}

// conf is the configuration as raft has it, without learners.
func (a agreed) conf() *pb.ConfState {
	cs := &pb.ConfState{}
	for _, e := range a.voters {
		if e.in {
			cs.Voters = append(cs.Voters, e.id)
		}
		if e.out {
			cs.VotersOutgoing = append(cs.VotersOutgoing, e.id)
		}
	}
	return cs
}

// ordered is the configuration that this node's own log knows to be ordered.
func (m *Machine) ordered() agreed {
	if m.node == nil || len(m.cs.GetVoters()) == 0 {
		return agreed{}
	}
	a := agreed{index: m.confIndex}
	ids := slices.Concat(m.cs.GetVoters(), m.cs.GetVotersOutgoing())
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		a.voters = append(a.voters, elector{member{id, m.members.node(id)},
			slices.Contains(m.cs.GetVoters(), id), slices.Contains(m.cs.GetVotersOutgoing(), id)})
	}
	return a
}

// newest is the newest configuration that is known to be ordered, by the own log or by
// another's word.
func (m *Machine) newest() agreed {
	if own := m.ordered(); own.index >= m.told.index {
		return own
	}
	return m.told
}

// learn takes another's word for what is ordered: that stays true, however far behind the
// other one is, and whatever becomes of it. What was ordered in a former generation the
// log of the present one has, and a node without a configuration is of no generation yet.
func (m *Machine) learn(h hello) {
	same := h.gen == m.members.gen || len(m.cs.GetVoters()) == 0
	if m.id.ClusterID != "" && h.clusterID == m.id.ClusterID && same && h.conf.index > m.told.index {
		m.told = h.conf
	}
}

// vet decides whether a node that was restarted with a log may take part (S2).
func (m *Machine) vet() {
	if m.node == nil || m.fault != nil {
		return
	}
	_, last := m.last()
	for _, s := range m.seen {
		if s.id != m.id.RaftID {
			continue
		}
		if older(seen{s.id, m.hs.GetTerm(), last}, s) {
			m.fail(fmt.Errorf("%w (peers saw term %d index %d, the log has term %d index %d)",
				ErrRolledBack, s.term, s.index, m.hs.GetTerm(), last), "log-rolled-back")
			return
		}
	}
	if !m.vetted && m.answered() {
		m.vetted = true
		m.helloSoon() // the leader waits for that
		m.trace("vetted", "log at term %d index %d", m.hs.GetTerm(), last)
	}
}

// answered says whether a majority of the voters, this node counted, said hello.
func (m *Machine) answered() bool {
	if m.id.Pledge.Maker != 0 && slices.ContainsFunc(m.peers, func(p peer) bool {
		return m.connected(p.raftID) != nil && p.gen == m.id.Pledge.Generation
	}) {
		return true // this node is of a generation that was made, as somebody in it has said
	}
	said := func(id uint64) bool { return id == m.id.RaftID || m.connected(id) != nil }
	if known := m.newest(); known.index > 0 {
		last := configuration{m.confIndex, m.cs}
		if len(m.cs.GetVoters()) > 0 {
			all := m.configurations()
			last = all[len(all)-1]
		}
		return enough(known, last, said)
	}
	n := 1 // admitted, and restarted before the configuration came
	for i := range m.peers {
		if p := &m.peers[i]; p.raftID != 0 && p.clusterID == m.id.ClusterID {
			n++
		}
	}
	return n*2 > len(m.cfg.Nodes)
}

// enough says whether those who said hello are enough. They are a majority of the newest
// configuration that is known to be ordered, as they would be if this node had not been
// away while the voters changed: without what made that configuration nobody leads any more, and whoever
// was taken out never answers under the raft id that it had. A majority of an older one alone is not
// enough: it may have seen nothing of what was promised since. What the log holds beyond may
// well be ordered, and who counts on it all that is left: two nodes and a third that has
// just become a voter would wait for each other for ever.
func enough(known agreed, last configuration, said func(id uint64) bool) bool {
	return quorum(known.conf(), said) || last.index > known.index && quorum(last.cs, said)
}

// appendAgreed and reader.agreed are its form in a hello.
func appendAgreed(b []byte, a agreed) []byte {
	b = binary.BigEndian.AppendUint64(b, a.index)
	b = binary.BigEndian.AppendUint32(b, uint32(len(a.voters)))
	for _, e := range a.voters {
		b = binary.BigEndian.AppendUint64(b, e.id)
		b = binary.BigEndian.AppendUint32(b, uint32(e.node))
		b = append(b, boolByte(e.in), boolByte(e.out))
	}
	return b
}

func (r *reader) agreed() agreed {
	a := agreed{index: r.uint64()}
	joins := false
	for range r.count(maxSeen, 14) {
		e := elector{member{r.uint64(), membership.NodeID(r.uint32())}, r.bool(), r.bool()}
		if k := len(a.voters); k > 0 && cmp.Compare(a.voters[k-1].id, e.id) >= 0 || !validID(e.id) || !e.in && !e.out {
			r.err = ErrWire
		}
		joins = joins || e.in
		a.voters = append(a.voters, e)
	}
	if joins != (a.index > 0) {
		r.err = ErrWire
	}
	return a
}
