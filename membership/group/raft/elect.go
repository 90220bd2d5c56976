package raft

import (
	"slices"
	"time"

	raftlib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/quorate/quorate/membership"
)

// election is everything about who leads and when to try.
type election struct {
	lead  uint64 // raft id, 0: none
	term  uint64
	state raftlib.StateType

	heard      membership.Mono // last traffic of the leader
	tickAt     membership.Mono // as leader
	campaignAt membership.Mono // without a leader
	none       membership.Mono // since when there is none, or since the start
	stepped    bool            // this node led, and there has been no leader since
	candidate  membership.Mono // since when a real vote is running
	outranks   membership.Mono // when a witness campaigns, since a candidate's log lacks something; 0: it does not
	tries      int             // campaigns since there was a leader
	votes      int             // real votes among them

	judged    bool
	judge     membership.GroupJudge
	convicted bool // the leader is to be replaced, and is not yet
	forced    bool // a majority convicted it
	since     membership.Mono
	deposed   uint64 // raft id whose leadership is not listened to …
	upTo      uint64 // … up to this term

	handOver membership.Mono // when a hand-over is given up; 0: none runs
	draws    uint64          // of jitter
}

// hears says whether a peer answered lately, by the detector, or by its link
// before the detector said anything.
func (m *Machine) hears(p *peer) bool {
	if !m.role.judged {
		return p.up
	}
	return slices.Contains(m.role.judge.Hears, p.node)
}

// heard says whether the node of a raft id is connected and answered lately.
func (m *Machine) heard(id uint64) bool {
	p := m.connected(id)
	return p != nil && m.hears(p)
}

func (m *Machine) hearsMajority() bool {
	return quorum(m.cs, func(id uint64) bool { return id == m.id.RaftID || m.heard(id) })
}

// MajorityRuns says whether a majority is heard whose daemons go on: it can agree, or
// will. Those of these nodes do.
func (m *Machine) MajorityRuns(nodes ...membership.NodeID) bool {
	return quorum(m.cs, func(id uint64) bool {
		return m.runs(id) || m.heard(id) && slices.Contains(nodes, m.nodeOf(id))
	})
}

// runs says whether a voter is this node, or is heard and its daemon goes on.
func (m *Machine) runs(id uint64) bool {
	return id == m.id.RaftID || m.heard(id) && !slices.Contains(m.role.judge.Stalled, m.nodeOf(id))
}

// silenced drops what convicted peers and a deposed leader still send (S6). A
// leader that nobody replaced within the backstop is listened to again: others
// may follow it, and a conviction that is never withdrawn must not keep this
// node out for ever.
func (m *Machine) silenced(p *peer, msg *pb.Message) bool {
	r := &m.role
	if r.judged && slices.Contains(r.judge.Dead, p.node) {
		return true
	}
	switch msg.GetType() {
	case pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap, pb.MsgTimeoutNow:
		if r.deposed != 0 && msg.GetFrom() == r.deposed && msg.GetTerm() <= r.upTo && m.now < r.since.Add(m.cfg.Backstop) {
			return true
		}
		return msg.GetType() == pb.MsgTimeoutNow && (r.judge.Barred || m.noDisk != "")
	}
	return false
}

// hear notes traffic of a leader.
func (m *Machine) hear(msg *pb.Message) {
	switch msg.GetType() {
	case pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap:
		if msg.GetTerm() >= m.role.term {
			m.role.heard = m.now
		}
	}
}

// forgetLeader makes this node one that follows nobody.
func (m *Machine) forgetLeader() {
	_ = m.node.ForgetLeader()
	m.role.lead, m.role.none = 0, m.now
}

// disown forgets a leader that asks for votes itself: it has stepped down, for want
// of a majority perhaps, and does not lead. The library would ignore it, since to a
// follower that does not tick its leader is alive for ever.
func (m *Machine) disown(msg *pb.Message) {
	r := &m.role
	asks := msg.GetType() == pb.MsgPreVote || msg.GetType() == pb.MsgVote
	if !asks || r.state == raftlib.StateLeader || msg.GetFrom() != r.lead || msg.GetTerm() <= r.term {
		return
	}
	m.forgetLeader()
	r.campaignAt = m.now.Add(m.cfg.Backstop/4 + m.jitter(m.cfg.Backstop/2)) // its turn is first
}

// judge takes what liveness says and acts on it.
func (m *Machine) judge(j membership.GroupJudge) {
	r := &m.role
	before := r.judge
	j.Barred = j.Barred || m.cfg.Witness
	r.judged = true
	r.judge = j
	r.judge.Hears, r.judge.Dead, r.judge.Stalled = slices.Clone(j.Hears), slices.Clone(j.Dead), slices.Clone(j.Stalled)
	if m.node == nil {
		return
	}
	lead := m.nodeOf(r.lead)
	switch {
	case lead == m.cfg.Self:
		if j.Barred {
			m.stepAside()
		}
	case j.LeaderDead && (lead == 0 || !slices.Contains(j.Hears, lead)):
		m.convict(true)
	case j.LeaderStalled && lead != 0 && !before.LeaderStalled:
		m.convict(false)
	case !j.LeaderDead && !j.LeaderStalled:
		m.absolve()
	}
}

// convict forgets the leader and makes this node campaign in its rank's turn.
func (m *Machine) convict(forced bool) {
	r := &m.role
	turn := time.Duration(r.judge.Rank) * m.cfg.Stagger
	if r.convicted {
		if forced && !r.forced {
			r.forced, r.tries, r.votes = true, 0, 0
		}
		r.campaignAt = min(r.campaignAt, max(m.now, r.since.Add(turn)))
		return
	}
	r.convicted, r.forced, r.since = true, forced, m.now
	if r.lead != 0 {
		r.deposed, r.upTo = r.lead, r.term
	}
	r.tries, r.votes = 0, 0
	m.forgetLeader()
	r.campaignAt = m.now.Add(turn)
}

// absolve takes a conviction back: the old leader is listened to again.
func (m *Machine) absolve() {
	r := &m.role
	if !r.convicted {
		return
	}
	r.convicted, r.forced, r.deposed, r.upTo = false, false, 0, 0
	r.campaignAt = m.now.Add(m.cfg.Backstop/2 + m.jitter(m.cfg.Backstop))
}

// SetTimes replaces Config.Heartbeat and Config.Backstop while the machine runs; each
// counts from the next time that it is used.
func (m *Machine) SetTimes(heartbeat, backstop time.Duration) {
	setDuration(&heartbeat, m.cfg.Heartbeat)
	setDuration(&backstop, m.cfg.Backstop)
	m.cfg.Heartbeat, m.cfg.Backstop = heartbeat, backstop
}

// mayCampaign: formed, vetted, a voter, not barred, and not alone.
func (m *Machine) mayCampaign() bool {
	return m.node != nil && m.vetted && m.noDisk == "" && m.id.Pledge.Maker == 0 && (!m.role.judge.Barred || m.now >= m.lastResort()) &&
		isVoter(m.cs, m.id.RaftID) && m.hearsMajority()
}

// lastResort is when a barred node campaigns all the same: the others have tried for
// long, and its log may be the only complete one. If it wins, it hands over at once.
func (m *Machine) lastResort() membership.Mono {
	at := m.role.none.Add(3 * m.cfg.Backstop)
	if m.role.outranks != 0 {
		at = min(at, m.role.outranks)
	}
	return at
}

// timers does what is due.
func (m *Machine) timers() {
	if m.fault != nil {
		return
	}
	m.hellos()
	if m.node == nil {
		m.single() // after Init
		return
	}
	m.settle()
	m.pursue()
	r := &m.role
	if r.state == raftlib.StateLeader {
		if m.now >= r.tickAt {
			m.node.Tick()
			r.tickAt = m.now.Add(m.cfg.Heartbeat)
		}
		if r.handOver != 0 && m.now >= r.handOver {
			m.giveUpHandOver()
		}
		return
	}
	if r.lead != 0 {
		if m.now < r.heard.Add(m.cfg.Backstop) {
			return
		}
		m.trace("leader-silent", "nothing from leader %d for %v", m.nodeOf(r.lead), m.now.Sub(r.heard))
		m.forgetLeader()
		r.campaignAt = m.now.Add(m.jitter(m.cfg.Backstop / 2))
	}
	if m.mayCampaign() && m.now >= m.nextCampaign() {
		m.campaign()
	}
}

// nextCampaign is when to try again: never while a real vote may still be won.
func (m *Machine) nextCampaign() membership.Mono {
	r := &m.role
	if r.state != raftlib.StateCandidate {
		return r.campaignAt
	}
	wait := 4 * m.cfg.Retry << min(r.votes, 5)
	return max(r.campaignAt, r.candidate.Add(wait))
}

// campaign tries to become leader. The first in rank, with a majority's
// conviction at hand, skips the pre-vote, which a peer that has not yet
// forgotten the old leader would silently ignore (S6).
func (m *Machine) campaign() {
	r := &m.role
	r.tries++
	if r.convicted && r.forced && r.judge.Rank == 0 && r.tries == 1 && m.follower() {
		m.trace(string(membership.KindCampaign), "for term %d, without pre-vote", r.term+1)
		_ = m.node.Step(&pb.Message{Type: pb.MsgTimeoutNow.Enum(), From: new(m.id.RaftID), To: new(m.id.RaftID)})
	} else {
		if r.tries == 1 || r.tries%32 == 0 {
			m.trace(string(membership.KindCampaign), "for term %d, try %d", r.term+1, r.tries)
		}
		_ = m.node.Campaign()
	}
	r.campaignAt = m.now.Add(m.retry())
}

// follower says whether this node is one, and gives a pre-vote up that is under way: those
// who follow the leader still do not answer it, as a witness does for as long as the backstop.
func (m *Machine) follower() bool {
	for _, e := range m.members.list {
		if m.role.state == raftlib.StatePreCandidate && e.id != m.id.RaftID {
			_ = m.node.Step(&pb.Message{Type: pb.MsgPreVoteResp.Enum(), From: new(e.id), To: new(m.id.RaftID), Term: new(m.role.term), Reject: new(true)})
		}
	}
	m.settle()
	return m.role.state == raftlib.StateFollower
}

// retry is the time to the next campaign: short after a conviction, and longer
// when that has not helped for long; the backstop's otherwise.
func (m *Machine) retry() time.Duration {
	r := &m.role
	switch {
	case r.stepped: // the others may follow this node still, and forget it when it asks
		return m.cfg.Heartbeat + m.jitter(m.cfg.Heartbeat)
	case !r.convicted:
		return m.cfg.Backstop/2 + m.jitter(m.cfg.Backstop)
	}
	base := m.cfg.Retry << min(max(0, r.tries-16), 5)
	return base + base*time.Duration(min(r.judge.Rank, 8))/4 + m.jitter(base/3)
}

// settle notes a change of leader, term or role.
func (m *Machine) settle() {
	if m.node == nil || m.fault != nil {
		return
	}
	st := m.node.BasicStatus()
	r := &m.role
	lead, term, state := st.Lead, st.HardState.GetTerm(), st.RaftState
	if lead == r.lead && term == r.term && state == r.state {
		return
	}
	old := *r
	r.lead, r.term, r.state = lead, term, state
	if state == raftlib.StateCandidate && (old.state != state || old.term != term) {
		r.candidate = m.now
		r.votes++
	}
	if lead == 0 {
		if old.lead != 0 {
			r.none = m.now
			m.trace("leader", "none, term %d", term)
			r.handOver = 0
			r.stepped = old.state == raftlib.StateLeader
			r.campaignAt = m.now.Add(m.cfg.Backstop/4 + m.jitter(m.cfg.Backstop/2))
			if r.stepped {
				r.campaignAt = m.now.Add(m.retry())
			}
		}
		return
	}
	if lead != old.lead || term != old.term {
		m.newLeader(state)
	}
}

func (m *Machine) newLeader(state raftlib.StateType) {
	r := &m.role
	m.trace("leader", "node %d, term %d", m.nodeOf(r.lead), r.term)
	r.heard = m.now
	r.convicted, r.forced, r.deposed, r.upTo = false, false, 0, 0
	r.tries, r.votes, r.handOver, r.stepped, r.outranks = 0, 0, 0, false, 0
	if state != raftlib.StateLeader {
		return
	}
	r.tickAt = m.now.Add(m.cfg.Heartbeat)
	_, m.electedAt = m.last()
	m.confWait = 0
	switch {
	case m.noDisk != "":
		m.abdicate()
	case r.judge.Barred:
		m.stepAside()
	}
}

// handOver starts to give leadership to a voter (S8) that can take it: one without
// a disk does not.
func (m *Machine) handOver(to membership.NodeID) {
	if m.node == nil || m.role.state != raftlib.StateLeader || to == m.cfg.Self {
		return
	}
	for _, id := range m.members.ids(to) {
		if p := m.connected(id); isVoter(m.cs, id) && p != nil && !p.noDisk && !p.witness {
			m.trace("hand-over", "to node %d", to)
			m.node.TransferLeader(id)
			m.role.handOver = m.now.Add(m.cfg.HandOver)
			return
		}
	}
}

// stepAside hands over to the most complete voter that is heard, or steps down.
func (m *Machine) stepAside() {
	if m.role.handOver != 0 || m.role.state != raftlib.StateLeader {
		return
	}
	best := m.heir()
	if best == 0 {
		m.stepDown()
		return
	}
	m.handOver(best)
}

// heir is the most complete voter that is heard and has a disk; 0: there is none.
func (m *Machine) heir() (best membership.NodeID) {
	var match uint64
	progress := m.node.Status().Progress
	for i := range m.peers {
		p := &m.peers[i]
		pr, ok := progress[p.raftID]
		if !ok || pr.IsLearner || p.noDisk || p.witness || m.connected(p.raftID) == nil || !m.hears(p) {
			continue
		}
		if best == 0 || pr.Match > match {
			best, match = p.node, pr.Match
		}
	}
	return best
}

// giveUpHandOver takes leadership back, or gives it to nobody when it may not keep it.
func (m *Machine) giveUpHandOver() {
	m.role.handOver = 0
	m.trace("hand-over", "given up")
	m.node.TransferLeader(m.id.RaftID) // to itself: aborts
	if m.role.judge.Barred {
		m.stepDown()
	}
}

// stepDown makes a leader a follower in the same term: two quorum checks in a
// row, with no answer between them.
func (m *Machine) stepDown() {
	for range 2 {
		_ = m.node.Step(&pb.Message{Type: pb.MsgCheckQuorum.Enum(), From: new(raftlib.LocalAppendThread)})
	}
}

// Deadline is when a GroupTimer is due.
func (m *Machine) Deadline() membership.Mono {
	if m.fault != nil {
		return 0
	}
	if !m.started {
		return 1
	}
	d := m.helloDeadline()
	if f := m.forcing; f != nil && !m.Pledged(f.nodes) {
		d = earliest(d, min(f.until, f.askedAt.Add(m.cfg.Heartbeat)))
	}
	r := &m.role
	switch {
	case m.node == nil:
	case r.state == raftlib.StateLeader:
		d = earliest(d, r.tickAt)
		d = earliest(d, r.handOver)
	case r.lead != 0:
		d = earliest(d, r.heard.Add(m.cfg.Backstop))
	case m.mayCampaign():
		d = earliest(d, m.nextCampaign())
	case r.judge.Barred && m.now < m.lastResort():
		d = earliest(d, m.lastResort())
	}
	return d
}

// jitter is a seeded length below d.
func (m *Machine) jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	m.role.draws++
	x := m.cfg.Seed + m.role.draws*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return time.Duration((x ^ x>>31) % uint64(d))
}

// earliest returns the earlier of two times of which 0 is none.
func earliest(a, b membership.Mono) membership.Mono {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
