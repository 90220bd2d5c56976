package raft

import (
	"encoding/binary"
	"errors"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/quorate/quorate/membership"
)

// member maps a raft id to the node that has it.
type member struct {
	id   uint64
	node membership.NodeID
}

// members is the replicated knowledge of who is who: part of every snapshot,
// changed only by configuration entries.
type members struct {
	list    []member // ascending by id
	retired []uint64 // ids that were removed, oldest first, at most maxRetired
	gen     Generation
}

const (
	maxNodes   = 256
	maxRetired = 1024
)

var errMembers = errors.New("malformed members")

func (m *members) node(id uint64) membership.NodeID {
	if i, ok := m.find(id); ok {
		return m.list[i].node
	}
	return 0
}

func (m *members) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(m.list, id, func(e member, id uint64) int {
		switch {
		case e.id < id:
			return -1
		case e.id > id:
			return 1
		}
		return 0
	})
}

// ids returns the raft ids of a node, ascending.
func (m *members) ids(n membership.NodeID) []uint64 {
	var ids []uint64
	for _, e := range m.list {
		if e.node == n {
			ids = append(ids, e.id)
		}
	}
	return ids
}

func (m *members) isRetired(id uint64) bool { return slices.Contains(m.retired, id) }

// add notes a raft id; one that is known or was retired is left as it is.
func (m *members) add(e member) {
	i, ok := m.find(e.id)
	if ok || m.isRetired(e.id) {
		return
	}
	m.list = slices.Insert(m.list, i, e)
}

// keep retires every id that is in no part of the configuration any more.
func (m *members) keep(cs *pb.ConfState) {
	var kept []member
	for _, e := range m.list {
		if inConf(cs, e.id) {
			kept = append(kept, e)
			continue
		}
		m.retired = append(m.retired, e.id)
	}
	m.list = kept
	if n := len(m.retired) - maxRetired; n > 0 {
		m.retired = slices.Clone(m.retired[n:])
	}
}

func inConf(cs *pb.ConfState, id uint64) bool {
	return isVoter(cs, id) || isLearner(cs, id)
}

func isVoter(cs *pb.ConfState, id uint64) bool {
	return slices.Contains(cs.GetVoters(), id) || slices.Contains(cs.GetVotersOutgoing(), id)
}

func isLearner(cs *pb.ConfState, id uint64) bool {
	return slices.Contains(cs.GetLearners(), id) || slices.Contains(cs.GetLearnersNext(), id)
}

func isJoint(cs *pb.ConfState) bool { return len(cs.GetVotersOutgoing()) > 0 }

// quorum says whether the ids for which ok is true are a majority in every part
// of the configuration.
func quorum(cs *pb.ConfState, ok func(id uint64) bool) bool {
	if len(cs.GetVoters()) == 0 {
		return false
	}
	for _, set := range [][]uint64{cs.GetVoters(), cs.GetVotersOutgoing()} {
		n := 0
		for _, id := range set {
			if ok(id) {
				n++
			}
		}
		if len(set) > 0 && n*2 <= len(set) {
			return false
		}
	}
	return true
}

// appendMembers and parseMembers are the form of a configuration entry's context
// and the head of a snapshot's data.
func appendMembers(b []byte, m members) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.list)))
	for _, e := range m.list {
		b = binary.BigEndian.AppendUint64(b, e.id)
		b = binary.BigEndian.AppendUint32(b, uint32(e.node))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.retired)))
	for _, id := range m.retired {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	return appendGeneration(b, m.gen)
}

func appendGeneration(b []byte, g Generation) []byte {
	b = binary.BigEndian.AppendUint64(b, g.Number)
	b = binary.BigEndian.AppendUint64(b, g.ID)
	return binary.BigEndian.AppendUint64(b, g.Parent)
}

func (r *reader) generation() Generation {
	return Generation{Number: r.uint64(), ID: r.uint64(), Parent: r.uint64()}
}

// parseMembers returns what follows the members as rest.
func parseMembers(b []byte) (m members, rest []byte, err error) {
	r := reader{b: b}
	n := r.count(2*maxNodes, 12)
	for range n {
		e := member{id: r.uint64(), node: membership.NodeID(r.uint32())}
		if k := len(m.list); k > 0 && m.list[k-1].id >= e.id || !validID(e.id) || e.node == 0 {
			return members{}, nil, errMembers
		}
		m.list = append(m.list, e)
	}
	n = r.count(maxRetired, 8)
	for range n {
		m.retired = append(m.retired, r.uint64())
	}
	m.gen = r.generation()
	if r.err != nil {
		return members{}, nil, errMembers
	}
	return m, r.b, nil
}
