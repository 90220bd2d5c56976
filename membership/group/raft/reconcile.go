package raft

import (
	"cmp"
	"slices"

	raftlib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/quorate/quorate/membership"
)

// closeEnough is how many entries a learner may lag when it is promoted.
const closeEnough = 256

// reconcile is the leader's care for the configuration: an empty node becomes a
// learner, a learner that has caught up becomes a voter, and its node's older
// ids go with the same change. One change runs at a time.
func (m *Machine) reconcile() {
	if m.node == nil || m.fault != nil || m.cfg.Witness || m.role.state != raftlib.StateLeader || m.role.handOver != 0 ||
		isJoint(m.cs) || m.applied < m.confWait || m.applied < m.electedAt {
		return
	}
	if m.sealed() {
		return
	}
	if cc := m.retirement(); cc != nil {
		m.proposeChange(cc)
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

// sealed lets an entry follow each change of the configuration, and says whether that
// was due: a voter writes with it that the change is ordered, and after a restart acts
// by no older configuration. MayForce counts on that.
func (m *Machine) sealed() bool {
	if _, last := m.last(); m.before == nil || last > m.confIndex {
		return false
	}
	_ = m.node.Step(&pb.Message{Type: pb.MsgProp.Enum(), From: new(m.id.RaftID), Entries: []*pb.Entry{{}}})
	return true
}

// retirement takes out the raft ids of a node that is not configured any more, and
// the votes of one outside the electorate; nil: there are none. A single vote that
// goes is one that the next majority has in common with this one, and it goes only when
// there is such a majority: else nothing could be ordered before somebody is back.
func (m *Machine) retirement() *pb.ConfChangeV2 {
	if m.delivering() {
		return nil // what is delivered in this step may change who is configured, or counts
	}
	all := slices.Clone(m.members.list)
	slices.SortStableFunc(all, func(a, b member) int { return cmp.Compare(b.node, a.node) })
	for _, e := range all { // a witness first: it may not be there to agree to the next
		voter := isVoter(m.cs, e.id)
		if slices.Contains(m.cfg.Nodes, e.node) && (!voter || m.elects(e.node)) || voter && !m.runsWithout(e.id) {
			continue
		}
		cc := &pb.ConfChangeV2{}
		addChange(cc, pb.ConfChangeRemoveNode, e.id)
		return cc
	}
	return nil
}

// runsWithout says whether a majority of the other voters is heard, and their daemons go on.
func (m *Machine) runsWithout(id uint64) bool {
	rest := slices.DeleteFunc(slices.Clone(m.cs.GetVoters()), func(v uint64) bool { return v == id })
	return quorum(&pb.ConfState{Voters: rest}, m.runs)
}

// delivering says that the caller is still to be given entries of this step.
func (m *Machine) delivering() bool {
	return slices.ContainsFunc(m.out, func(e membership.GroupEffect) bool {
		switch e.(type) {
		case membership.GroupDeliver, membership.GroupRestore:
			return true
		}
		return false
	})
}

// elects says whether a node may vote. A witness always may.
func (m *Machine) elects(n membership.NodeID) bool {
	return len(m.electorate) == 0 || n.IsWitness() || slices.Contains(m.electorate, n)
}

// SetElectorate says which nodes may vote; nil: all that are configured. The leader
// takes the raft ids of the others out of the configuration, one after the other: a
// node that comes back joins anew under another id, and votes when it is in the electorate.
// Every node is told alike, since each may lead.
func (m *Machine) SetElectorate(nodes []membership.NodeID) { m.electorate = slices.Clone(nodes) }

// SetNodes replaces the configured nodes; this one is among them. What is known of
// the others is kept, and a new one is as if its link were down. The leader takes those
// that are gone out of the configuration.
func (m *Machine) SetNodes(nodes []membership.NodeID) {
	nodes = slices.Clone(nodes)
	slices.Sort(nodes)
	m.cfg.Nodes = slices.Compact(nodes)
	had := m.peers
	m.peers = nil
	for _, n := range m.cfg.Nodes {
		if n == m.cfg.Self {
			continue
		}
		p := peer{node: n}
		if i := slices.IndexFunc(had, func(o peer) bool { return o.node == n }); i >= 0 {
			p = had[i]
		}
		m.peers = append(m.peers, p)
	}
}

// change is what the configuration needs for one peer; nil: nothing.
func (m *Machine) change(p *peer) *pb.ConfChangeV2 {
	known := m.members.node(p.raftID)
	switch {
	case known == p.node && p.noDisk:
		return m.demotion(p)
	case known == 0 && p.clusterID == "" && len(m.rivals()) > 0: // which side it joins is open until the other has given up
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
	case known == p.node && p.clusterID == m.id.ClusterID && isLearner(m.cs, p.raftID) && m.elects(p.node) && m.caughtUp(p.raftID):
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
