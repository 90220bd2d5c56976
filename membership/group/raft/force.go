package raft

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	raftlib "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/confchange"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/quorate/quorate/membership"
)

// Generation names a configuration that was forced: made by half of the voters
// without a majority's agreement (S16). The zero value is the one that the cluster
// was formed with. Ordinary changes of the configuration keep it.
type Generation struct {
	Number uint64
	ID     uint64 // random: two of the same number are rivals
	Parent uint64 // ID of the one that it was made from
}

// Pledge is a voter's word that it goes on in a generation that another one makes. It
// is durable before it is given: whoever forces a configuration has the word of
// everyone in it, and none of them goes on in the former one.
type Pledge struct {
	Generation
	Maker uint64 // raft id; 0: no word was given
}

// forcing is an attempt to force a configuration.
type forcing struct {
	Pledge
	nodes   []membership.NodeID // ascending, with this one
	pledged []uint64            // raft ids
	askedAt membership.Mono
	until   membership.Mono
}

// forceLimit is how long an attempt waits for the others' word.
const forceLimit = 2 * time.Second

// MayForce says why these nodes, this one among them, may not go on without the
// others; empty: they may, once all others are proved gone. They are at least half of
// the voters in every configuration that may be in force, they hear each other, and
// no majority can be heard, or its daemons stand still: there the others are proved
// gone as well before anything is forced.
func (m *Machine) MayForce(nodes []membership.NodeID) string {
	switch {
	case m.fault != nil:
		return m.fault.Error()
	case m.node == nil:
		return "this node has no log of the cluster"
	case m.noDisk != "":
		return "the log cannot be written here"
	case !isVoter(m.cs, m.id.RaftID):
		return "this node does not vote"
	case m.id.Pledge.Maker != 0:
		return fmt.Sprintf("this node gave its word to go on with %s, which has not come to it", m.cfg.Name(m.nodeOf(m.id.Pledge.Maker)))
	case m.MajorityRuns(nodes...):
		return "a majority of the voters can be heard"
	case len(m.rivals()) > 0:
		return m.rivalry()
	}
	for _, n := range nodes {
		if p := m.peer(n); n != m.cfg.Self && (p == nil || !p.up || p.raftID == 0 || p.gen != m.members.gen) {
			return m.cfg.Name(n) + " is not connected, or has another generation of the configuration"
		}
	}
	if _, last := m.last(); m.told.index > last {
		return "the log here ends before what is known to be ordered"
	}
	for _, c := range m.configurations() {
		if !m.halfOf(c.cs, nodes) {
			return fmt.Sprintf("they are less than half of the %d voters", max(len(c.cs.GetVoters()), len(c.cs.GetVotersOutgoing())))
		}
	}
	if n := m.unsettled(nodes); n != 0 && !m.halfOf(m.before, nodes) {
		return "it is not known whether " + m.cfg.Name(n) + " has kept the last change of who votes: by the one before they are less than half"
	}
	return ""
}

// unsettled is a voter besides these nodes that may act, after a restart, by the
// configuration before the last change: it need not have written that the change is
// ordered. 0: there is none. No voter is further behind: with the entry of a change it
// writes that the change before is ordered. And one whose log ends before the change
// wins no vote of a majority of those who could vote then, who have it.
func (m *Machine) unsettled(nodes []membership.NodeID) membership.NodeID {
	if m.before == nil || m.id.Kept == m.lastChange() {
		return 0
	}
	ids := m.idsOf(nodes)
	for _, id := range append(slices.Clone(m.cs.GetVoters()), m.cs.GetVotersOutgoing()...) {
		if !slices.Contains(ids, id) && m.settled[id] < m.confIndex {
			return m.nodeOf(id)
		}
	}
	return 0
}

// lastChange names the last change of the voters.
func (m *Machine) lastChange() Kept { return Kept{m.members.gen, m.confIndex} }

// keep makes it durable that no voter can act by the configuration before the last change
// any more, and tells it: from then on who is left may go on by the new one.
func (m *Machine) keep() {
	if m.before != nil && m.noDisk == "" && m.id.Kept != m.lastChange() && m.unsettled([]membership.NodeID{m.cfg.Self}) == 0 {
		m.id.Kept = m.lastChange()
		m.persistIdentity()
		m.trace("config", "voters %v: all of them keep it", m.Status().Voters)
	}
}

// halfOf says whether the raft ids of these nodes are half of each part of a configuration.
func (m *Machine) halfOf(cs *pb.ConfState, nodes []membership.NodeID) bool {
	ids := m.idsOf(nodes)
	for _, set := range [][]uint64{cs.GetVoters(), cs.GetVotersOutgoing()} {
		n := 0
		for _, id := range set {
			if slices.Contains(ids, id) {
				n++
			}
		}
		if 2*n < len(set) {
			return false
		}
	}
	return true
}

// idsOf are the raft ids that nodes have now.
func (m *Machine) idsOf(nodes []membership.NodeID) []uint64 {
	var ids []uint64
	for _, n := range nodes {
		if n == m.cfg.Self {
			ids = append(ids, m.id.RaftID)
		} else if p := m.peer(n); p != nil && p.raftID != 0 {
			ids = append(ids, p.raftID)
		}
	}
	slices.Sort(ids)
	return ids
}

// configurations are the one in force, and those that the rest of the log makes of it:
// any of them may have been agreed.
func (m *Machine) configurations() []configuration {
	out := []configuration{{m.confIndex, m.cs}}
	for _, e := range m.unapplied() {
		if e.GetType() != pb.EntryConfChangeV2 {
			continue
		}
		cc, _, err := parseChange(e.GetData())
		must(err)
		out = append(out, configuration{e.GetIndex(), changed(out[len(out)-1].cs, cc)})
	}
	return out
}

// unapplied are the entries after the applied one.
func (m *Machine) unapplied() []*pb.Entry {
	_, last := m.last()
	if last <= m.applied {
		return nil
	}
	entries, err := m.storage.Entries(m.applied+1, last+1, ^uint64(0))
	must(err)
	return entries
}

// Undelivered is as membership.Forcer has it.
func (m *Machine) Undelivered() (data [][]byte) {
	if m.node == nil {
		return nil
	}
	for _, e := range m.unapplied() {
		if e.GetType() == pb.EntryNormal && len(e.GetData()) > 0 {
			data = append(data, e.GetData())
		}
	}
	return data
}

// changed is what raft makes of a configuration by a change.
func changed(cs *pb.ConfState, cc *pb.ConfChangeV2) *pb.ConfState {
	t := tracker.MakeProgressTracker(1, 0)
	var err error
	t.Config, t.Progress, err = confchange.Restore(confchange.Changer{Tracker: t}, cs)
	must(err)
	c := confchange.Changer{Tracker: t}
	if cc.LeaveJoint() {
		t.Config, t.Progress, err = c.LeaveJoint()
	} else if autoLeave, ok := cc.EnterJoint(); ok {
		t.Config, t.Progress, err = c.EnterJoint(autoLeave, cc.GetChanges()...)
	} else {
		t.Config, t.Progress, err = c.Simple(cc.GetChanges()...)
	}
	if err != nil { // raft refuses it as well, and leaves everything as it was
		return cs
	}
	return t.ConfState()
}

// force takes a step of an attempt.
func (m *Machine) force(in membership.GroupForce) {
	nodes := slices.Clone(in.Nodes)
	slices.Sort(nodes)
	f := m.forcing
	if f != nil && !slices.Equal(f.nodes, nodes) {
		m.giveUpForce()
		f = nil
	}
	if len(nodes) == 0 {
		return
	}
	if why := m.MayForce(nodes); why != "" || !slices.Contains(nodes, m.cfg.Self) {
		m.trace("refused", "to go on with %s alone: %s", m.names(nodes), why)
		return
	}
	if f == nil {
		g := Generation{Number: m.members.gen.Number + 1, ID: m.draw(), Parent: m.members.gen.ID}
		f = &forcing{Pledge: Pledge{g, m.id.RaftID}, nodes: nodes, pledged: []uint64{m.id.RaftID}, until: m.now.Add(forceLimit)}
		m.forcing = f
	}
	if len(in.Data) > 0 && m.Pledged(nodes) {
		m.forcing = nil
		m.forced(f, in.Data)
		return
	}
	m.pursue()
}

// giveUpForce says so, and whoever gave its word is free again.
func (m *Machine) giveUpForce() {
	m.forcing = nil
	m.helloSoon()
}

// Pledged is as membership.Forcer has it.
func (m *Machine) Pledged(nodes []membership.NodeID) bool {
	f := m.forcing
	if f == nil || len(f.nodes) != len(nodes) {
		return false
	}
	for _, n := range nodes {
		if ids := m.idsOf([]membership.NodeID{n}); len(ids) == 0 || !slices.Contains(f.pledged, ids[0]) {
			return false
		}
	}
	return true
}

// draw is a number that nobody else draws: the seed is random in each run.
func (m *Machine) draw() uint64 { return uint64(m.jitter(1<<62)) | 1 }

// pursue asks for the words that are missing.
func (m *Machine) pursue() {
	f := m.forcing
	if f == nil {
		return
	}
	all := m.Pledged(f.nodes)
	if why := m.MayForce(f.nodes); why != "" || !all && m.now >= f.until {
		m.trace("refused", "to go on with %s alone: %s", m.names(f.nodes), cmp.Or(why, "not all gave their word in time"))
		m.giveUpForce()
		return
	}
	if all || f.askedAt != 0 && m.now < f.askedAt.Add(m.cfg.Heartbeat) {
		return
	}
	f.askedAt = m.now
	term, index := m.last()
	for _, id := range m.idsOf(f.nodes) {
		if !slices.Contains(f.pledged, id) {
			m.emit(membership.GroupSend{To: m.nodeOf(id), Data: encodePledge(pledgeMessage{Pledge: f.Pledge, ask: true, term: term, index: index})})
		}
	}
}

// receivePledge gives this node's word, or takes another's.
func (m *Machine) receivePledge(p *peer, body []byte) error {
	in, err := parsePledge(body)
	if err != nil {
		return err
	}
	if !in.ask {
		if f := m.forcing; f != nil && in.Pledge == f.Pledge && slices.Contains(m.idsOf(f.nodes), p.raftID) && !slices.Contains(f.pledged, p.raftID) {
			f.pledged = append(f.pledged, p.raftID)
		}
		return nil
	}
	term, index := m.last()
	switch {
	case in.Maker != p.raftID || m.node == nil || !m.vetted || m.noDisk != "":
	case m.id.Pledge.Maker != 0 && m.id.Pledge != in.Pledge:
	case in.Number != m.members.gen.Number+1 || in.Parent != m.members.gen.ID:
	case m.hearsMajority() || in.term < term || in.term == term && in.index < index || in.index < m.told.index:
	case m.forcing != nil && (m.Pledged(m.forcing.nodes) || in.term == term && in.index == index && m.id.RaftID < in.Maker):
	default:
		m.forcing = nil
		if m.id.Pledge != in.Pledge {
			m.pledgeTo(in.Pledge)
		}
		m.emit(membership.GroupSend{To: p.node, Data: encodePledge(pledgeMessage{Pledge: in.Pledge})})
	}
	return nil
}

// pledgeTo makes a word durable; the zero value takes it back.
func (m *Machine) pledgeTo(p Pledge) {
	m.id.Pledge = p
	m.persistIdentity()
	if p.Maker != 0 {
		m.forgetLeader()
		m.trace("generation", "this node goes on in generation %d, which %s makes", p.Number, m.cfg.Name(m.nodeOf(p.Maker)))
	}
}

// keepWord takes a word back that is kept, or that its receiver does not need: it
// says by its hello that it neither made nor is making that generation.
func (m *Machine) keepWord(p *peer, h hello) {
	switch {
	case m.id.Pledge.Maker == 0:
	case m.members.gen == m.id.Pledge.Generation:
		m.pledgeTo(Pledge{})
	case p != nil && p.raftID == m.id.Pledge.Maker && h.gen.Number < m.id.Pledge.Number && h.making != m.id.Pledge.ID:
		m.trace("generation", "%s does not make generation %d: this node goes on in the former one", m.cfg.Name(p.node), m.id.Pledge.Number)
		m.pledgeTo(Pledge{})
	}
}

// rival says that a peer has another generation of the same number: each was made
// without the other, which cannot be if both were proved gone.
func (m *Machine) rival(p *peer) bool {
	return m.node != nil && p.raftID != 0 && p.clusterID == m.id.ClusterID && p.gen.Number == m.members.gen.Number && p.gen.ID != m.members.gen.ID
}

// rivals are the nodes that have another generation, ascending. One that was one stays one
// when its link goes: the cut that made them two must not let both go on again.
func (m *Machine) rivals() (nodes []membership.NodeID) {
	for i := range m.peers {
		p := &m.peers[i]
		lost := p.raftID == 0 && p.was.Number == m.members.gen.Number && p.was.ID != m.members.gen.ID
		if m.node != nil && (lost || m.rival(p)) {
			nodes = append(nodes, p.node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// rivalry says who they are; empty: there are none.
func (m *Machine) rivalry() string {
	nodes := m.rivals()
	if len(nodes) == 0 {
		return ""
	}
	return fmt.Sprintf("%s and this node each went on without the other (generation %d): nothing runs on both before one side gives up its log",
		m.names(nodes), m.members.gen.Number)
}

// Rejoin gives up the log of this node for that of a rival that is heard: an operator's
// word. It says whether there is one.
func (m *Machine) Rejoin() bool {
	if !slices.ContainsFunc(m.peers, func(p peer) bool { return p.up && m.rival(&p) }) {
		return false
	}
	m.fail(ErrReplaced, "replaced")
	return true
}

// RivalGone is an operator's word that a rival which is not heard is off. It says whether
// that is one.
func (m *Machine) RivalGone(n membership.NodeID) bool {
	p := m.peer(n)
	if p == nil || p.up || !slices.Contains(m.rivals(), n) {
		return false
	}
	*p = peer{node: n}
	return true
}

// Generation is the one that this node's log is of.
func (m *Machine) Generation() Generation { return m.members.gen }

// outdated says that the cluster went on without this raft id; nil: it did not. A node
// that gave its word to the maker of a generation is part of it, and an empty one of none yet.
func (m *Machine) outdated(p *peer, h hello) error {
	_, last := m.last()
	switch {
	case h.gen.Number < m.members.gen.Number:
		return nil
	case h.retired: // be it that it gave its word: that was before
		return ErrReplaced
	case m.id.Pledge.Maker != 0 && m.id.Pledge.Generation == h.gen:
		return nil
	case m.node != nil && last > 0 && h.clusterID == m.id.ClusterID && h.gen.Number > m.members.gen.Number:
		return fmt.Errorf("%w (%s is in generation %d of the configuration, this log in %d)", ErrReplaced, m.cfg.Name(p.node), h.gen.Number, m.members.gen.Number)
	}
	return nil
}

// bound says that a word keeps this node from listening to a peer, which neither makes
// the generation nor is in it.
func (m *Machine) bound(p *peer) bool {
	return m.id.Pledge.Maker != 0 && p.raftID != m.id.Pledge.Maker && p.gen != m.id.Pledge.Generation
}

// forced makes the generation: the whole log counts as ordered, the raft ids of all
// others are taken out of the configuration, and the entry follows. It is one durable
// record. Nobody else can have another log of that term: the others are gone.
func (m *Machine) forced(f *forcing, data []byte) {
	m.drain()
	all := m.configurations()
	term := m.hs.GetTerm()
	for _, s := range m.seen {
		term = max(term, s.term)
	}
	term++
	_, last := m.last()
	var entries []*pb.Entry
	add := func(kind pb.EntryType, data []byte) {
		last++
		entries = append(entries, &pb.Entry{Term: new(term), Index: new(last), Type: kind.Enum(), Data: data})
	}
	for _, cc := range expulsion(all[len(all)-1].cs, m.idsOf(f.nodes)) {
		cc.Context = appendMembers(nil, members{gen: f.Generation})
		add(pb.EntryConfChangeV2, marshal(cc))
	}
	add(pb.EntryNormal, data)
	must(m.storage.Append(entries))
	m.hs = hardState(term, m.id.RaftID, last)
	m.synced = m.hs
	if !m.cfg.Careless {
		m.persist(&Record{HardState: m.hs, Entries: entries})
	}
	m.trace("generation", "%d, of %s, is forced at %d", f.Number, m.names(f.nodes), last)
	m.rebuild()
}

// expulsion are the changes, each of them a simple one, after which only these ids are left.
func expulsion(cs *pb.ConfState, keep []uint64) []*pb.ConfChangeV2 {
	var out []*pb.ConfChangeV2
	if isJoint(cs) {
		out = append(out, &pb.ConfChangeV2{})
		cs = changed(cs, out[0])
	}
	for _, id := range append(slices.Clone(cs.GetVoters()), cs.GetLearners()...) {
		if !slices.Contains(keep, id) {
			cc := &pb.ConfChangeV2{}
			addChange(cc, pb.ConfChangeRemoveNode, id)
			out = append(out, cc)
		}
	}
	return out
}

// rebuild starts raft anew on the log as it is. What was delivered before is not
// delivered again.
func (m *Machine) rebuild() {
	snap, err := m.storage.Snapshot()
	must(err)
	m.delivered = max(m.delivered, m.applied)
	m.members, m.cs, m.before, m.applied, m.confIndex = members{}, &pb.ConfState{}, nil, 0, 0
	if !raftlib.IsEmptySnap(snap) {
		mem, _, err := parseMembers(snap.GetData())
		must(err)
		m.members, m.cs = mem, snap.GetMetadata().GetConfState()
		m.applied = snap.GetMetadata().GetIndex()
		m.confIndex = m.applied
	}
	must(m.storage.SetHardState(m.hs))
	must(m.raft())
	m.confWait = 0
	m.role = election{judged: m.role.judged, judge: m.role.judge, term: m.hs.GetTerm(), heard: m.now, none: m.now, campaignAt: m.now, draws: m.role.draws}
	m.drain()
	m.vet()
	m.helloSoon()
}
