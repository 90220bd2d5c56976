package raft

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	raftlib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/quorate/quorate/membership"
)

// peer is what is known of another configured node since its link came up.
type peer struct {
	node      membership.NodeID
	up        bool
	raftID    uint64 // 0: no hello yet
	clusterID string // empty: it is empty
	lost      bool   // it is empty and was not
	noDisk    bool   // nothing is durable there any more
	witness   bool   // it makes no snapshots
	given     uint64 // index of the consumers' state that it was given last
	gen       Generation
	was       Generation // of before its link went, of a rival: what it may still act by
	hash      [32]byte
	vetted    bool            // by its own word and by what was seen of it, it keeps its log
	helloAt   membership.Mono // when the next hello is due
	snapshot  uint64          // index of the snapshot that was on its way at the last hello tick
}

func (m *Machine) peer(n membership.NodeID) *peer {
	i, ok := slices.BinarySearchFunc(m.peers, n, func(p peer, n membership.NodeID) int { return cmp.Compare(p.node, n) })
	if !ok {
		return nil
	}
	return &m.peers[i]
}

func (m *Machine) link(in membership.GroupLink) {
	p := m.peer(in.Peer)
	if p == nil {
		return
	}
	if id := p.raftID; id != 0 && m.node != nil {
		m.node.ReportSnapshot(id, raftlib.SnapshotFailure)
		m.node.ReportUnreachable(id)
	}
	was := p.was
	if p.raftID != 0 {
		was = Generation{}
	}
	if p.up && m.rival(p) {
		was = p.gen
	}
	*p = peer{node: in.Peer, up: in.Up, was: was}
	if in.Up {
		m.sendHello(p)
	}
}

// sendHello tells a peer who this node is, and what it saw.
func (m *Machine) sendHello(p *peer) {
	h := hello{
		clusterID: m.id.ClusterID,
		raftID:    m.id.RaftID,
		hash:      m.cfg.ConfigHash,
		term:      m.hs.GetTerm(),
		retired:   p.raftID != 0 && m.members.isRetired(p.raftID),
		lost:      m.cfg.Lost && m.id.ClusterID == "",
		noDisk:    m.noDisk != "",
		vetted:    m.vetted,
		witness:   m.cfg.Witness,
		gen:       m.members.gen,
		seen:      m.seen,
	}
	if m.forcing != nil {
		h.making = m.forcing.ID
	}
	_, h.lastIndex = m.last()
	h.conf = m.ordered()
	if m.noDisk == "" {
		h.commit = m.synced.GetCommit()
	}
	m.emit(membership.GroupSend{To: p.node, Data: encodeHello(h)})
	every := m.cfg.HelloTick
	if p.raftID == 0 || !m.vetted || p.clusterID != m.id.ClusterID {
		every /= 5
	}
	p.helloAt = m.now.Add(every)
}

// hellos sends what is due, and retries snapshots that got lost on the way.
func (m *Machine) hellos() {
	for i := range m.peers {
		p := &m.peers[i]
		if !p.up || m.now < p.helloAt {
			continue
		}
		m.retrySnapshot(p)
		m.giveState(p)
		m.offer(p)
		m.sendHello(p)
	}
}

// helloSoon has every peer told at the next step.
func (m *Machine) helloSoon() {
	for i := range m.peers {
		m.peers[i].helloAt = 0
	}
}

// retrySnapshot gives up a snapshot that a whole hello period has not settled.
func (m *Machine) retrySnapshot(p *peer) {
	if m.node == nil || p.raftID == 0 || m.role.state != raftlib.StateLeader {
		p.snapshot = 0
		return
	}
	pending := uint64(0)
	m.node.WithProgress(func(id uint64, _ raftlib.ProgressType, pr tracker.Progress) {
		if id == p.raftID {
			pending = pr.PendingSnapshot
		}
	})
	if pending != 0 && pending == p.snapshot {
		m.node.ReportSnapshot(p.raftID, raftlib.SnapshotFailure)
		pending = 0
	}
	p.snapshot = pending
}

func (m *Machine) receive(in membership.GroupReceive) {
	p := m.peer(in.From)
	if p == nil || !p.up {
		return
	}
	kind, body, err := envelope(in.Data)
	if err == nil {
		switch kind {
		case kindHello:
			err = m.receiveHello(p, body)
		case kindForm:
			err = m.receiveForm(body)
		case kindRaft:
			err = m.receiveRaft(p, body)
		case kindState:
			err = m.receiveState(p, body)
		case kindPledge:
			err = m.receivePledge(p, body)
		default:
			err = fmt.Errorf("kind %d: %w", kind, ErrWire)
		}
	}
	if err != nil {
		m.trace("refused", "message of %s: %v", m.cfg.Name(in.From), err)
	}
}

func (m *Machine) receiveHello(p *peer, body []byte) error {
	h, err := parseHello(body)
	if err != nil {
		return err
	}
	changed := p.raftID != h.raftID || p.clusterID != h.clusterID
	p.raftID, p.clusterID, p.lost, p.noDisk, p.witness, p.hash, p.gen = h.raftID, h.clusterID, h.lost, h.noDisk, h.witness, h.hash, h.gen
	p.vetted = h.clusterID == ""
	if m.id.ClusterID != "" && h.clusterID != "" && h.clusterID != m.id.ClusterID {
		if changed {
			m.trace("refused", "%s is of another cluster, %s", m.cfg.Name(p.node), h.clusterID)
		}
		return nil
	}
	if m.rival(p) {
		if changed {
			m.trace("refused", "%s has another generation %d of the configuration", m.cfg.Name(p.node), h.gen.Number)
		}
		return nil
	}
	if why := m.outdated(p, h); why != nil {
		m.fail(why, "replaced")
		return nil
	}
	m.keepWord(p, h)
	if h.commit > m.settled[h.raftID] {
		m.settled[h.raftID] = h.commit
		m.keep()
	}
	m.learn(h)
	for _, s := range h.seen {
		m.note(s)
	}
	p.vetted = p.vetted || h.vetted && m.keeps(seen{h.raftID, h.term, h.lastIndex})
	if m.id.ClusterID != "" && h.clusterID != "" {
		m.note(seen{id: h.raftID, term: h.term}) // a term that is said is on disk
	}
	m.vet()
	m.found()
	if changed && m.fault == nil {
		m.offer(p)
		m.sendHello(p)
	}
	return nil
}

// note keeps the highest that a raft id said it has.
func (m *Machine) note(s seen) {
	i, ok := slices.BinarySearchFunc(m.seen, s.id, func(e seen, id uint64) int { return cmp.Compare(e.id, id) })
	switch {
	case ok:
		if older(m.seen[i], s) {
			m.seen[i] = s
		}
	case len(m.seen) < maxSeen && !m.members.isRetired(s.id):
		m.seen = slices.Insert(m.seen, i, s)
	}
}

// keeps says whether a raft id has, by its own word, what was seen of it.
func (m *Machine) keeps(has seen) bool {
	return !slices.ContainsFunc(m.seen, func(s seen) bool { return s.id == has.id && older(has, s) })
}

// older says whether what a raft id has is less than what was seen of it.
func older(has, s seen) bool {
	return s.term > has.term || s.term == has.term && s.index > has.index
}

// connected returns the peer that has a raft id and can be talked to as such.
func (m *Machine) connected(id uint64) *peer {
	for i := range m.peers {
		if p := &m.peers[i]; p.up && p.raftID == id && p.clusterID == m.id.ClusterID && !m.rival(p) {
			return p
		}
	}
	return nil
}

// single forms a cluster of one, or goes on with it: there is nobody to ask.
func (m *Machine) single() {
	if len(m.peers) == 0 {
		m.found()
		m.vet()
	}
}

// found makes the cluster when all configured nodes are here, empty, and agree
// on the configuration, and this is the lowest of them.
func (m *Machine) found() {
	if m.id.ClusterID != "" || m.fault != nil || m.cfg.Witness || m.cfg.Nodes[0] != m.cfg.Self || m.obstacle() != "" {
		return
	}
	if m.cfg.NewClusterID == "" {
		return
	}
	mem := members{list: []member{{m.id.RaftID, m.cfg.Self}}}
	for i := range m.peers {
		mem.add(member{m.peers[i].raftID, m.peers[i].node})
	}
	if len(mem.list) != len(m.cfg.Nodes) {
		return // two nodes say the same raft id
	}
	cs := &pb.ConfState{AutoLeave: new(false)}
	for _, e := range mem.list {
		if slices.Index(m.cfg.Nodes, e.node) < m.cfg.MaxVoters {
			cs.Voters = append(cs.Voters, e.id)
		} else {
			cs.Learners = append(cs.Learners, e.id)
		}
	}
	genesis := &pb.Snapshot{
		Data:     appendMembers(nil, mem),
		Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1)), ConfState: cs},
	}
	m.become(m.cfg.NewClusterID, genesis)
	for i := range m.peers {
		m.offer(&m.peers[i])
	}
	m.role.campaignAt = m.now
	if len(m.peers) > 0 {
		m.role.campaignAt = m.now.Add(m.cfg.Heartbeat) // the others adopt it first
	}
}

// become takes a cluster's identity, with its genesis or with an empty log.
func (m *Machine) become(clusterID string, genesis *pb.Snapshot) {
	m.id.ClusterID = clusterID
	m.vetted = true // under this id nothing was ever acknowledged
	if genesis == nil {
		m.persistIdentity()
	} else {
		m.hs = hardState(1, 0, 1)
		must(m.storage.ApplySnapshot(genesis))
		m.checkpoint(genesis)
	}
	m.trace("formed", "cluster %s, raft id %016x", clusterID, m.id.RaftID)
	must(m.boot())
	m.role.heard = m.now
	m.role.campaignAt = m.now.Add(2*m.cfg.Heartbeat + m.jitter(m.cfg.Backstop))
	m.helloSoon()
}

// offer hands the identity to an empty peer whose raft id is in the configuration.
func (m *Machine) offer(p *peer) {
	if m.node == nil || !p.up || p.raftID == 0 || p.clusterID != "" || !inConf(m.cs, p.raftID) {
		return
	}
	f := form{clusterID: m.id.ClusterID, raftID: p.raftID}
	snap, err := m.storage.Snapshot()
	must(err)
	if mem, _, err := parseMembers(snap.GetData()); err == nil && snap.GetMetadata().GetIndex() == 1 && mem.node(p.raftID) != 0 {
		f.genesis = snap
	}
	data, err := encodeForm(f)
	must(err)
	m.emit(membership.GroupSend{To: p.node, Data: data})
}

func (m *Machine) receiveForm(body []byte) error {
	f, err := parseForm(body)
	if err != nil {
		return err
	}
	if m.id.ClusterID != "" || f.raftID != m.id.RaftID {
		return nil // not for this id, or late
	}
	if f.genesis != nil {
		if mem, _, err := parseMembers(f.genesis.GetData()); err != nil || mem.node(m.id.RaftID) != m.cfg.Self {
			return fmt.Errorf("genesis does not name this node: %w", ErrWire)
		}
	}
	m.become(f.clusterID, f.genesis)
	return nil
}

// receiveRaft passes a raft message on, if it is from who it says, for this node,
// and this node may answer it.
func (m *Machine) receiveRaft(p *peer, body []byte) error {
	msg, err := parseRaft(body)
	if err != nil {
		return err
	}
	if m.node == nil || !m.vetted || msg.GetTo() != m.id.RaftID || msg.GetFrom() != p.raftID ||
		m.members.isRetired(p.raftID) || m.rival(p) || m.bound(p) || m.silenced(p, msg) {
		return nil
	}
	if p.clusterID != m.id.ClusterID {
		return nil
	}
	m.noteRaft(msg)
	if _, last := m.last(); msg.GetType() == pb.MsgHeartbeat && msg.GetCommit() > last {
		m.fail(fmt.Errorf("%w (the leader counts on index %d, the log ends at %d)",
			ErrRolledBack, msg.GetCommit(), last), "log-rolled-back")
		return nil
	}
	m.hear(msg)
	m.disown(msg)
	_ = m.node.Step(msg) // dropped proposals and responses of unknown peers
	m.outrank(msg)
	return nil
}

// noteRaft learns from a message what its sender must have (S2).
func (m *Machine) noteRaft(msg *pb.Message) {
	s := seen{id: msg.GetFrom(), term: msg.GetTerm()}
	switch msg.GetType() {
	case pb.MsgAppResp:
		if !msg.GetReject() {
			s.index = msg.GetIndex()
		}
	case pb.MsgApp:
		s.index = msg.GetCommit() // a leader writes before it counts
	case pb.MsgVoteResp, pb.MsgHeartbeat:
	default:
		return
	}
	m.note(s)
}

// obstacle says what stands in the way of forming a cluster; empty: nothing.
func (m *Machine) obstacle() string { why, _ := m.obstacles(); return why }

// obstacles says, too, what to do about it.
func (m *Machine) obstacles() (why, do string) {
	var absent, differ, formed, lost []membership.NodeID
	if m.cfg.Lost {
		lost = append(lost, m.cfg.Self)
	}
	for i := range m.peers {
		p := &m.peers[i]
		switch {
		case !p.up || p.raftID == 0:
			absent = append(absent, p.node)
		case p.hash != m.cfg.ConfigHash:
			differ = append(differ, p.node)
		case p.clusterID != "":
			formed = append(formed, p.node)
		case p.lost:
			lost = append(lost, p.node)
		}
	}
	switch {
	case len(formed) > 0:
		return "to be admitted to the cluster of " + m.names(formed), ""
	case len(differ) > 0:
		return "first start: the configuration file differs from that of " + m.names(differ) + "; make them the same",
			"make the files the same, then where one was changed: `quorate leave && systemctl start quorated`"
	case len(absent) > 0:
		what := "first start"
		if len(lost) > 0 {
			what = "the log of " + m.names(lost) + " is lost"
		}
		return what + ": waiting for " + m.names(absent), "start quorated on " + m.names(absent) + "; where it runs, look at both ends with: quorated -check"
	case len(lost) > 0:
		return "every node is here and none has a log; " + m.names(lost) +
				" had one. Bring back a log that is only misplaced; if there is none, run `quorate init` on each of these nodes",
			"bring back a log that is only misplaced; if there is none: quorate init, on each of " + m.names(lost)
	}
	return "", ""
}

// remedy is what to do about what waiting says; empty: it is not known.
func (m *Machine) remedy() string {
	if m.fault != nil || m.rivalry() != "" || m.node != nil {
		return ""
	}
	_, do := m.obstacles()
	return do
}

// Init lets a node that lost its log take part in the formation of a cluster all
// the same: an operator's word. It says whether that was needed.
func (m *Machine) Init() bool {
	needed := m.cfg.Lost && m.id.ClusterID == ""
	m.cfg.Lost = false
	m.helloSoon()
	return needed
}

// waiting says why nothing can be ordered now.
func (m *Machine) waiting() string {
	switch {
	case m.fault != nil:
		return m.fault.Error()
	case m.rivalry() != "":
		return m.rivalry()
	case m.node == nil:
		if o := m.obstacle(); o != "" {
			return o
		}
		return fmt.Sprintf("first start: waiting for %s to form the cluster", m.cfg.Name(m.cfg.Nodes[0]))
	case !m.vetted:
		return "restarted: asking a majority of the voters what they saw from this node" + m.missing()
	case m.role.lead == 0 && !m.hearsMajority():
		return "no majority of the voters can be heard" + m.missing()
	case m.role.lead == 0 && !m.MajorityRuns():
		return "no leader: the daemon of " + m.names(m.role.judge.Stalled) + " stands still"
	case m.role.lead == 0:
		return "no leader yet" + m.unwritable()
	}
	return ""
}

// unwritable names the voters whose logs cannot be written.
func (m *Machine) unwritable() string {
	var nodes []membership.NodeID
	for _, e := range m.members.list {
		p := m.connected(e.id)
		if isVoter(m.cs, e.id) && (e.id == m.id.RaftID && m.noDisk != "" || p != nil && p.noDisk) {
			nodes = append(nodes, e.node)
		}
	}
	if len(nodes) == 0 {
		return ""
	}
	return "; the log cannot be written on " + m.names(nodes)
}

// missing names the voters that do not answer, be it that their link is still up.
func (m *Machine) missing() string {
	var nodes []membership.NodeID
	for _, e := range m.newest().voters {
		if e.node != 0 && e.id != m.id.RaftID && !m.heard(e.id) && !slices.Contains(nodes, e.node) {
			nodes = append(nodes, e.node)
		}
	}
	if len(nodes) == 0 {
		return ""
	}
	return "; missing " + m.names(nodes)
}

// names are those of nodes, by ascending id.
func (m *Machine) names(nodes []membership.NodeID) string {
	slices.Sort(nodes)
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = m.cfg.Name(n)
	}
	return strings.Join(out, ", ")
}

// helloDeadline is when the next hello is due; 0: never.
func (m *Machine) helloDeadline() membership.Mono {
	var d membership.Mono
	for i := range m.peers {
		if p := &m.peers[i]; p.up {
			d = earliest(d, max(p.helloAt, m.now.Add(time.Millisecond)))
		}
	}
	return d
}
