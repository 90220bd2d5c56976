package raft

import (
	"slices"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/quorate/quorate/membership"
)

// TestWhoIsEnough: by which configurations it is judged that enough have said what they saw.
func TestWhoIsEnough(t *testing.T) {
	voters := func(index uint64, ids ...uint64) agreed {
		a := agreed{index: index}
		for _, id := range ids {
			a.voters = append(a.voters, elector{member: member{id: id}, in: true})
		}
		return a
	}
	joint := agreed{index: 9, voters: []elector{
		{member{1, 1}, true, true}, {member{2, 2}, true, true}, {member{3, 3}, false, true}, {member{4, 3}, true, false},
	}}
	inLog := func(index uint64, ids ...uint64) configuration {
		return configuration{index, &pb.ConfState{Voters: ids}}
	}
	for _, c := range []struct {
		name  string
		known agreed
		last  configuration
		said  []uint64
		want  bool
	}{
		{"the own one", voters(5, 1, 2, 3), inLog(5, 1, 2, 3), []uint64{1, 2}, true},
		{"the own one, too few", voters(5, 1, 2, 3), inLog(5, 1, 2, 3), []uint64{1}, false},
		{"one that is told", voters(9, 1, 3), inLog(5, 1, 2, 3, 4, 5), []uint64{1, 3}, true},
		{"one that is told, without this node", voters(9, 2, 4, 5), inLog(5, 1, 2, 3), []uint64{1, 4, 5}, true},
		{"a majority of what it replaced alone", voters(9, 1, 3), inLog(5, 1, 2, 3, 4, 5), []uint64{1, 2, 4, 5}, false},
		{"this node alone of what is told", voters(9, 1, 3), inLog(5, 1, 3), []uint64{1}, false},
		{"what the log holds beyond", voters(5, 1, 2), inLog(6, 1, 2, 3), []uint64{1, 3}, true},
		{"what the log holds beyond what is told", voters(5, 1, 2), inLog(7, 1, 3), []uint64{1, 3}, true},
		{"what the log holds up to there", voters(9, 1, 2), inLog(9, 1, 3), []uint64{1, 3}, false},
		{"both parts of a joint one", joint, inLog(5, 1, 2, 3), []uint64{1, 2}, true},
		{"the old part of it alone", joint, inLog(5, 1, 2, 3), []uint64{1, 3}, false},
		{"the new part of it alone", joint, inLog(5, 1, 2, 3), []uint64{1, 4}, false},
		{"one of each part", joint, inLog(5, 1, 2, 3), []uint64{1, 3, 4}, true},
		{"a log without any", voters(9, 1, 2), configuration{}, []uint64{1, 2}, true},
	} {
		if got := enough(c.known, c.last, func(id uint64) bool { return slices.Contains(c.said, id) }); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestTheNewestWordCounts: peers may be behind, of another cluster or of another generation.
func TestTheNewestWordCounts(t *testing.T) {
	word := func(index, id uint64) agreed {
		return agreed{index: index, voters: []elector{{member: member{id: id}, in: true}}}
	}
	m, _, err := New(Config{Self: 1, Nodes: []membership.NodeID{1, 2, 3}}, Restored{
		Identity: Identity{RaftID: 1, ClusterID: "c"}, HardState: hardState(3, 0, 5),
		Snapshot: &pb.Snapshot{
			Data:     appendMembers(nil, members{list: []member{{1, 1}, {2, 2}, {3, 3}}}),
			Metadata: &pb.SnapshotMetadata{Index: new(uint64(5)), Term: new(uint64(2)), ConfState: &pb.ConfState{Voters: []uint64{1, 2, 3}, AutoLeave: new(false)}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		h    hello
		want uint64 // index of the newest
	}{
		{"nobody has said anything", hello{}, 5},
		{"older", hello{clusterID: "c", conf: word(4, 2)}, 5},
		{"newer", hello{clusterID: "c", conf: word(9, 2)}, 9},
		{"newer than the own, older than what is known", hello{clusterID: "c", conf: word(7, 2)}, 9},
		{"of another cluster", hello{clusterID: "d", conf: word(20, 2)}, 9},
		{"of a former generation", hello{clusterID: "c", gen: Generation{Number: 1, ID: 7}, conf: word(20, 2)}, 9},
		{"an empty peer", hello{}, 9},
	} {
		if m.learn(c.h); m.newest().index != c.want {
			t.Errorf("%s: %+v", c.name, m.newest())
		}
	}
	if why := m.MayForce([]membership.NodeID{1}); why != "the log here ends before what is known to be ordered" {
		t.Errorf("a log that is behind may go on alone: %q", why)
	}
}

// TestWhatWasSeenOfTheRetiredIsForgotten: hundreds join anew in the life of a cluster.
func TestWhatWasSeenOfTheRetiredIsForgotten(t *testing.T) {
	m := &Machine{members: members{retired: []uint64{7}}}
	for id := uint64(1); id <= maxSeen+9; id++ {
		m.note(seen{id: id, term: 1, index: id})
	}
	m.note(seen{id: 1, term: 2, index: 5})
	m.note(seen{id: 1, term: 1, index: 9})
	if len(m.seen) != maxSeen || m.seen[0] != (seen{1, 2, 5}) || !m.keeps(seen{7, 0, 0}) || m.keeps(seen{8, 1, 7}) || !m.keeps(seen{8, 1, 8}) {
		t.Fatalf("%d of at most %d: %+v", len(m.seen), maxSeen, m.seen[:8])
	}
}

// A candidate that loses its disk may win by a vote for itself that is on no disk: it
// sends nothing as a leader, so that nobody has an entry of that term from it.
func TestWithoutADiskNothingIsSentThatItForgets(t *testing.T) {
	m := &Machine{}
	types := []pb.MessageType{pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap, pb.MsgVoteResp, pb.MsgPreVoteResp,
		pb.MsgAppResp, pb.MsgHeartbeatResp, pb.MsgProp, pb.MsgTimeoutNow}
	for _, m.noDisk = range []string{"", "lost"} {
		for i, k := range types {
			if got := m.unbacked(&pb.Message{Type: k.Enum()}); got != (m.noDisk != "" && i < 5) {
				t.Errorf("disk %q: %v is unbacked: %v", m.noDisk, k, got)
			}
		}
	}
}
