package raft

import (
	"slices"

	raftlib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// closeEnough is how many entries a learner may lag when it is promoted.
const closeEnough = 256

// reconcile is the leader's care for the configuration: an empty node becomes a
// learner, a learner that has caught up becomes a voter, and its node's older
// ids go with the same change. One change runs at a time.
func (m *Machine) reconcile() {
	if m.node == nil || m.fault != nil || m.role.state != raftlib.StateLeader || m.role.handOver != 0 ||
		isJoint(m.cs) || m.applied < m.confWait || m.applied < m.electedAt {
		return
	}
	for i := range m.peers {
		p := &m.peers[i]
		if !p.up || p.raftID == 0 || m.members.isRetired(p.raftID) {
			continue
		}
		if cc := m.change(p); cc != nil {
			m.proposeChange(cc)
			return
		}
	}
}

// change is what the configuration needs for one peer; nil: nothing.
func (m *Machine) change(p *peer) *pb.ConfChangeV2 {
	known := m.members.node(p.raftID)
	switch {
	case known == p.node && p.noDisk:
		return m.demotion(p)
	case known == 0 && p.clusterID == "":
		named := members{list: []member{{p.raftID, p.node}}}
		cc := &pb.ConfChangeV2{Context: appendMembers(nil, named)}
		addChange(cc, pb.ConfChangeAddLearnerNode, p.raftID)
		for _, id := range m.members.ids(p.node) {
			if isLearner(m.cs, id) {
				addChange(cc, pb.ConfChangeRemoveNode, id)
			}
		}
		return cc
	case known == p.node && p.clusterID == m.id.ClusterID && isLearner(m.cs, p.raftID) && m.caughtUp(p.raftID):
		old := slices.DeleteFunc(m.members.ids(p.node), func(id uint64) bool { return id == p.raftID })
		if m.voters(old) >= m.cfg.MaxVoters {
			return nil
		}
		cc := &pb.ConfChangeV2{}
		addChange(cc, pb.ConfChangeAddNode, p.raftID)
		for _, id := range old {
			addChange(cc, pb.ConfChangeRemoveNode, id)
		}
		return cc
	}
	return nil
}

// demotion makes a learner of a voter that has no disk any more: it goes on
// following, and nobody counts on it. As many as could be a quorum stay voters.
func (m *Machine) demotion(p *peer) *pb.ConfChangeV2 {
	if !isVoter(m.cs, p.raftID) || m.voters([]uint64{p.raftID}) <= min(len(m.cfg.Nodes), m.cfg.MaxVoters)/2 {
		return nil
	}
	cc := &pb.ConfChangeV2{}
	addChange(cc, pb.ConfChangeAddLearnerNode, p.raftID)
	return cc
}

// voters counts the voters without some ids.
func (m *Machine) voters(without []uint64) int {
	n := 0
	for _, id := range m.cs.GetVoters() {
		if !slices.Contains(without, id) {
			n++
		}
	}
	return n
}

func (m *Machine) caughtUp(id uint64) bool {
	ok := false
	_, last := m.last()
	m.node.WithProgress(func(pid uint64, _ raftlib.ProgressType, pr tracker.Progress) {
		if pid == id {
			ok = pr.State == tracker.StateReplicate && pr.RecentActive && pr.Match+closeEnough >= last
		}
	})
	return ok
}

func (m *Machine) proposeChange(cc *pb.ConfChangeV2) {
	if err := m.node.ProposeConfChange(cc); err != nil {
		return // dropped; tried again at the next step
	}
	m.drain()
	_, m.confWait = m.last()
}

func addChange(cc *pb.ConfChangeV2, t pb.ConfChangeType, id uint64) {
	cc.Changes = append(cc.Changes, &pb.ConfChangeSingle{Type: t.Enum(), NodeId: new(id)})
}
