package raft

import (
	"testing"

	raftlib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// These tests show, on plain raft, why the rules S1 and S6 are what they are.

// plain is a few RawNodes with an instant network and instant disks.
type plain struct {
	nodes map[uint64]*plainNode
	down  map[uint64]bool
	queue []*pb.Message
}

type plainNode struct {
	*raftlib.RawNode
	storage *raftlib.MemoryStorage
	applied []string
}

func newPlain(t *testing.T, ids ...uint64) *plain {
	t.Helper()
	p := &plain{nodes: map[uint64]*plainNode{}, down: map[uint64]bool{}}
	for _, id := range ids {
		p.boot(t, id, ids)
	}
	return p
}

// boot starts a node with an empty log and the configuration from its file.
func (p *plain) boot(t *testing.T, id uint64, ids []uint64) {
	t.Helper()
	n := &plainNode{storage: raftlib.NewMemoryStorage()}
	genesis := &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: ids},
	}}
	if err := n.storage.ApplySnapshot(genesis); err != nil {
		t.Fatal(err)
	}
	if err := n.storage.SetHardState(hardState(1, 0, 1)); err != nil {
		t.Fatal(err)
	}
	rn, err := raftlib.NewRawNode(&raftlib.Config{
		ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: n.storage, Applied: 1, MaxInflightMsgs: 16, MaxSizePerMsg: 1 << 20,
		CheckQuorum: true, PreVote: true, Logger: logger{},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.RawNode = rn
	p.nodes[id] = n
}

// settle passes messages until there are none.
func (p *plain) settle() {
	for {
		p.collect()
		if len(p.queue) == 0 {
			return
		}
		m := p.queue[0]
		p.queue = p.queue[1:]
		if !p.down[m.GetTo()] && !p.down[m.GetFrom()] {
			_ = p.nodes[m.GetTo()].Step(m)
		}
	}
}

// collect persists and applies, and queues what is to be sent.
func (p *plain) collect() {
	for id := uint64(1); id <= 5; id++ {
		n := p.nodes[id]
		for n != nil && !p.down[id] && n.HasReady() {
			rd := n.Ready()
			if !raftlib.IsEmptyHardState(rd.HardState) {
				must(n.storage.SetHardState(rd.HardState))
			}
			must(n.storage.Append(rd.Entries))
			for _, e := range rd.CommittedEntries {
				if len(e.GetData()) > 0 {
					n.applied = append(n.applied, string(e.GetData()))
				}
			}
			p.queue = append(p.queue, rd.Messages...)
			n.Advance(rd)
		}
	}
}

func (p *plain) state(id uint64) raftlib.StateType { return p.nodes[id].BasicStatus().RaftState }

func (p *plain) elect(t *testing.T, id uint64) {
	t.Helper()
	must(p.nodes[id].Campaign())
	p.settle()
	if p.state(id) != raftlib.StateLeader {
		t.Fatalf("node %d is %v", id, p.state(id))
	}
}

// S1: a wiped node that bootstraps from its file votes from memory it does not
// have, and a committed entry is lost.
func TestPlainWipedNodeThatBootstrapsLosesEntries(t *testing.T) {
	ids := []uint64{1, 2, 3}
	p := newPlain(t, ids...)
	p.elect(t, 1)
	p.down[3] = true // 3 is away: the entry is on 1 and 2, a majority
	must(p.nodes[1].Propose([]byte("kept?")))
	p.settle()
	if len(p.nodes[1].applied) != 1 {
		t.Fatalf("not committed: %q", p.nodes[1].applied)
	}
	p.boot(t, 2, ids) // 2 is wiped and bootstraps
	p.down[1], p.down[3] = true, false
	must(p.nodes[3].ForgetLeader())
	p.elect(t, 3)
	must(p.nodes[3].Propose([]byte("other")))
	p.settle()
	if got := p.nodes[3].applied; len(got) != 1 || got[0] != "other" {
		t.Fatalf("applied %q; a majority lost an entry that had been applied", got)
	}
}

// S1: one that is put back under its old id panics on what the leader believes of it.
func TestPlainReAddedUnderItsOldIDPanics(t *testing.T) {
	ids := []uint64{1, 2, 3}
	p := newPlain(t, ids...)
	p.elect(t, 1)
	must(p.nodes[1].Propose([]byte("one")))
	p.settle()
	p.boot(t, 2, ids)
	defer func() {
		if recover() == nil {
			t.Fatal("a heartbeat with a commit index beyond the log was taken")
		}
	}()
	p.nodes[1].Tick()
	p.settle()
}

// S6: a pre-vote that meets a peer that has not forgotten the leader is dropped
// without an answer.
func TestPlainPreVoteIsSilentlyIgnored(t *testing.T) {
	p := newPlain(t, 1, 2, 3)
	p.elect(t, 1)
	p.down[1] = true
	must(p.nodes[2].ForgetLeader())
	must(p.nodes[2].Campaign())
	p.settle()
	if p.state(2) != raftlib.StatePreCandidate {
		t.Fatalf("node 2 is %v, it should wait for an answer that never comes", p.state(2))
	}
	must(p.nodes[3].ForgetLeader())
	p.settle()
	if p.state(2) != raftlib.StatePreCandidate {
		t.Fatal("the pre-vote was retried")
	}
	p.elect(t, 2) // now that 3 has forgotten, another try wins
}

// S6: a heartbeat that was under way makes a follower remember the leader.
func TestPlainLateHeartbeatUndoesForgetLeader(t *testing.T) {
	p := newPlain(t, 1, 2, 3)
	p.elect(t, 1)
	p.nodes[1].Tick()
	p.collect() // the heartbeats are on their way
	p.down[1] = true
	must(p.nodes[3].ForgetLeader())
	late := p.queue
	p.queue = nil
	for _, m := range late {
		if m.GetTo() == 3 {
			_ = p.nodes[3].Step(m)
		}
	}
	if lead := p.nodes[3].BasicStatus().Lead; lead != 1 {
		t.Fatalf("leader %d", lead)
	}
	must(p.nodes[2].ForgetLeader())
	must(p.nodes[2].Campaign())
	p.settle()
	if p.state(2) == raftlib.StateLeader {
		t.Fatal("3 voted although it remembers its leader")
	}
}

// S6: two that campaign in lock-step split the vote.
func TestPlainLockStepSplitsTheVote(t *testing.T) {
	p := newPlain(t, 1, 2, 3, 4)
	p.elect(t, 1)
	p.down[1], p.down[4] = true, true
	p.down[4] = false
	for id := uint64(2); id <= 4; id++ {
		must(p.nodes[id].ForgetLeader())
	}
	must(p.nodes[2].Campaign())
	must(p.nodes[3].Campaign())
	p.settle()
	if p.state(2) == raftlib.StateLeader || p.state(3) == raftlib.StateLeader {
		t.Fatal("somebody won")
	}
}

// S6: MsgTimeoutNow to itself needs neither a pre-vote nor that others forgot.
func TestPlainTimeoutNowToItselfWinsAtOnce(t *testing.T) {
	p := newPlain(t, 1, 2, 3)
	p.elect(t, 1)
	p.down[1] = true
	must(p.nodes[2].ForgetLeader())
	must(p.nodes[2].Step(&pb.Message{Type: pb.MsgTimeoutNow.Enum(), From: new(uint64(2)), To: new(uint64(2))}))
	p.settle()
	if p.state(2) != raftlib.StateLeader {
		t.Fatalf("node 2 is %v", p.state(2))
	}
}

// Two quorum checks in a row are how a barred leader steps down, in its own term.
func TestPlainStepDownByQuorumCheck(t *testing.T) {
	p := newPlain(t, 1, 2, 3)
	p.elect(t, 1)
	term := p.nodes[1].BasicStatus().HardState.GetTerm()
	for range 2 {
		must(p.nodes[1].Step(&pb.Message{Type: pb.MsgCheckQuorum.Enum(), From: new(raftlib.LocalAppendThread)}))
	}
	st := p.nodes[1].BasicStatus()
	if st.RaftState != raftlib.StateFollower || st.HardState.GetTerm() != term {
		t.Fatalf("%v in term %d, was %d", st.RaftState, st.HardState.GetTerm(), term)
	}
}
