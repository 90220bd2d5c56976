package raft

import (
	raftlib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// DiskLost says that a record could not be made durable, and that none will be.
// The caller has sent nothing that was to go after it. The machine votes no more
// under its raft id, which it tells the others, and acknowledges only what its leader
// has counted as ordered without it; the leader makes a learner of it. It follows from
// memory, so that its node stays a member. A leader gives leadership away at once: it
// counted on the record. The next start finds a log that is older than what peers saw
// of it, and joins anew.
//
// It returns false where that cannot be: outside a cluster, and where no other
// voter could go on.
func (m *Machine) DiskLost(why string) bool {
	if m.node == nil || m.fault != nil || isVoter(m.cs, m.id.RaftID) && m.voters([]uint64{m.id.RaftID}) == 0 {
		return false
	}
	if m.noDisk != "" {
		return true
	}
	m.noDisk = why
	m.trace("degraded", "the log cannot be written: this node does not vote any more: %s", why)
	m.helloSoon()
	m.abdicate()
	return true
}

// abdicate ends this node's leadership before anything else is counted: the best
// of the others is told to campaign.
func (m *Machine) abdicate() {
	if m.role.state != raftlib.StateLeader {
		return
	}
	if heir := m.heir(); heir != 0 {
		to := m.peer(heir).raftID
		m.sendRaft(&pb.Message{Type: pb.MsgTimeoutNow.Enum(), From: new(m.id.RaftID), To: new(to), Term: new(m.role.term)})
	}
	m.stepDown()
	m.drain()
	m.settle()
}

// unbacked says whether a message is of what nobody here would remember: a vote, or
// leadership that this node won by its own.
func (m *Machine) unbacked(msg *pb.Message) bool {
	if m.noDisk == "" {
		return false
	}
	switch msg.GetType() {
	case pb.MsgVoteResp, pb.MsgPreVoteResp, pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap:
		return true
	}
	return false
}

// modest is an acknowledgement of no more than is known to be ordered here. The leader
// that said so has counted it already, so that no entry is ordered by this node's
// memory; without a word from it the leader would send nothing more. Whether it is a
// voter does not matter: the leader may be at another configuration than this node.
func (m *Machine) modest(msg *pb.Message) *pb.Message {
	if m.noDisk == "" || msg.GetType() != pb.MsgAppResp || msg.GetReject() {
		return msg
	}
	less := proto.CloneOf(msg)
	less.Index = new(min(msg.GetIndex(), m.node.BasicStatus().HardState.GetCommit()))
	return less
}
