package raft

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quorate/quorate/membership"
)

func TestHelloRoundTrip(t *testing.T) {
	for _, h := range []hello{
		{raftID: 1},
		{
			clusterID: "c", raftID: 1 << 63, hash: [32]byte{1, 31: 2}, term: 3, lastIndex: 9,
			retired: true, lost: true, vetted: true, witness: true, seen: []seen{{1, 2, 3}, {4, 5, 6}},
			conf: agreed{7, []elector{{member{1, 1}, true, true}, {member{2, 3}, false, true}, {member{4, 3}, true, false}}},
		},
	} {
		_, body, err := envelope(encodeHello(h))
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseHello(body)
		if err != nil || !reflect.DeepEqual(got, h) {
			t.Fatalf("got %+v, %v, want %+v", got, err, h)
		}
	}
}

func TestHelloRefusesAConfigurationThatIsNone(t *testing.T) {
	for name, a := range map[string]agreed{
		"no voters":            {index: 7},
		"outgoing voters only": {7, []elector{{member{1, 1}, false, true}}},
		"voters of nothing":    {0, []elector{{member{1, 1}, true, false}}},
		"no raft id":           {7, []elector{{member{0, 1}, true, false}}},
		"an id twice":          {7, []elector{{member{1, 1}, true, false}, {member{1, 2}, true, false}}},
		"no voter":             {7, []elector{{member{1, 1}, true, false}, {member{2, 2}, false, false}}},
	} {
		if _, err := parseHello(encodeHello(hello{raftID: 1, conf: a})[2:]); !errors.Is(err, ErrWire) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMembersRoundTripAndRetire(t *testing.T) {
	m := members{}
	m.add(member{9, 2})
	m.add(member{4, 1})
	m.add(member{9, 3}) // known already
	m.keep(&pb.ConfState{Voters: []uint64{4}})
	m.add(member{9, 2}) // retired: never again
	got, rest, err := parseMembers(append(appendMembers(nil, m), "rest"...))
	if err != nil || string(rest) != "rest" || !reflect.DeepEqual(got, m) {
		t.Fatalf("got %+v, %q, %v, want %+v", got, rest, err, m)
	}
	if len(m.list) != 1 || !m.isRetired(9) || m.node(4) != 1 {
		t.Fatalf("%+v", m)
	}
}

func TestFormRefusesWhatIsNoGenesis(t *testing.T) {
	good := snapshot(1, 1, "")
	later := snapshot(2, 1, "")
	stranger := snapshot(1, 1, "")
	stranger.Metadata.ConfState.Voters = []uint64{7, 9}
	for _, c := range []struct {
		s  *pb.Snapshot
		ok bool
	}{{nil, true}, {good, true}, {later, false}, {stranger, false}} {
		b, err := encodeForm(form{clusterID: "c", raftID: 7, genesis: c.s})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseForm(b[2:]); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.s, err)
		}
	}
}

func TestRaftMessagesThatAPeerMayNotSend(t *testing.T) {
	base := func(typ pb.MessageType, term uint64) *pb.Message {
		return &pb.Message{Type: typ.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(term)}
	}
	prop := func(typ pb.EntryType, data string) *pb.Message {
		m := base(pb.MsgProp, 0)
		m.Entries = []*pb.Entry{{Type: typ.Enum(), Data: []byte(data)}}
		return m
	}
	app := func(entries ...*pb.Entry) *pb.Message {
		m := base(pb.MsgApp, 5)
		m.Index, m.LogTerm, m.Entries = new(uint64(3)), new(uint64(4)), entries
		return m
	}
	snap := func(cs *pb.ConfState) *pb.Message {
		m := base(pb.MsgSnap, 5)
		m.Snapshot = snapshot(3, 4, "")
		m.Snapshot.Metadata.ConfState = cs
		return m
	}
	later := &pb.ConfState{Voters: []uint64{7}}
	later.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	for _, c := range []struct {
		name string
		m    *pb.Message
		ok   bool
	}{
		{"heartbeat", base(pb.MsgHeartbeat, 1), true},
		{"heartbeat without term", base(pb.MsgHeartbeat, 0), false},
		{"local", base(pb.MsgHup, 0), false},
		{"quorum check", base(pb.MsgCheckQuorum, 0), false},
		{"transfer", base(pb.MsgTransferLeader, 1), false},
		{"proposal", prop(pb.EntryNormal, "x"), true},
		{"empty proposal", prop(pb.EntryNormal, ""), false},
		{"proposed configuration", prop(pb.EntryConfChangeV2, ""), false},
		{"append", app(entry(4, 4, "a"), entry(5, 5, "b")), true},
		{"append with a gap", app(entry(4, 4, "a"), entry(6, 5, "b")), false},
		{"append of a later term", app(entry(4, 6, "a")), false},
		{"append of falling terms", app(entry(4, 5, "a"), entry(5, 4, "b")), false},
		{"snapshot", snap(&pb.ConfState{Voters: []uint64{7, 8}, Learners: []uint64{9}}), true},
		{"snapshot of a joint configuration", snap(&pb.ConfState{
			Voters: []uint64{7, 8}, VotersOutgoing: []uint64{8, 9}, LearnersNext: []uint64{9}, AutoLeave: new(true),
		}), true},
		{"snapshot of a later version", snap(later), true},
		{"snapshot without voters", snap(&pb.ConfState{}), false},
		{"snapshot of one voter twice", snap(&pb.ConfState{Voters: []uint64{7, 7}}), false},
		{"snapshot of a voting learner", snap(&pb.ConfState{Voters: []uint64{7}, Learners: []uint64{7}}), false},
		{"snapshot of voter 0", snap(&pb.ConfState{Voters: []uint64{0, 7}}), false},
		{"snapshot without members", &pb.Message{
			Type: pb.MsgSnap.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(1)),
			Snapshot: &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1))}},
		}, false},
	} {
		b, err := encodeRaft(c.m)
		if err != nil {
			t.Fatal(err)
		}
		_, err = parseRaft(b[2:])
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrWire) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// FuzzReceive feeds bytes to a formed machine of two: it must neither panic nor break.
func FuzzReceive(f *testing.F) {
	f.Add(encodeHello(hello{clusterID: "c", raftID: 8, term: 3, seen: []seen{{7, 1, 1}}}))
	if b, err := encodeForm(form{clusterID: "c", raftID: 7, genesis: snapshot(1, 1, "")}); err == nil {
		f.Add(b)
	}
	for _, m := range []*pb.Message{
		{Type: pb.MsgHeartbeat.Enum(), From: new(uint64(8)), To: new(uint64(7)), Term: new(uint64(2)), Commit: new(uint64(1))},
		{Type: pb.MsgVote.Enum(), From: new(uint64(8)), To: new(uint64(7)), Term: new(uint64(9)), Index: new(uint64(9)), LogTerm: new(uint64(3))},
		{
			Type: pb.MsgApp.Enum(), From: new(uint64(8)), To: new(uint64(7)), Term: new(uint64(2)), Index: new(uint64(1)), LogTerm: new(uint64(1)),
			Entries: []*pb.Entry{entry(2, 2, "x")}, Commit: new(uint64(2)),
		},
		{Type: pb.MsgSnap.Enum(), From: new(uint64(8)), To: new(uint64(7)), Term: new(uint64(2)), Snapshot: snapshot(5, 2, "s")},
	} {
		if b, err := encodeRaft(m); err == nil {
			f.Add(b)
		}
	}
	f.Add(encodePledge(pledgeMessage{Pledge: Pledge{Generation{1, 9, 0}, 8}, ask: true, term: 1, index: 1}))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, _, err := New(Config{Self: 1, Nodes: []membership.NodeID{1, 2}}, Restored{
			Identity: Identity{RaftID: 7, ClusterID: "c"}, HardState: hardState(1, 0, 1), Snapshot: snapshot(1, 1, ""),
		})
		if err != nil {
			t.Fatal(err)
		}
		m.Step(1, membership.GroupLink{Peer: 2, Up: true})
		m.Step(2, membership.GroupReceive{From: 2, Data: encodeHello(hello{clusterID: "c", raftID: 8})})
		m.Step(3, membership.GroupReceive{From: 2, Data: bytes.Clone(data)})
		if err := m.Fault(); errors.Is(err, ErrBroken) {
			t.Fatal(err)
		}
	})
}

func TestReadBallot(t *testing.T) {
	vote := func(typ pb.MessageType, reject bool) []byte {
		b, err := encodeRaft(&pb.Message{Type: typ.Enum(), From: new(uint64(7)), To: new(uint64(8)), Term: new(uint64(5)), Reject: new(reject)})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if b, ok := ReadBallot(vote(pb.MsgVoteResp, false)); !ok || b != (Ballot{Term: 5, Voter: 7, For: 8}) {
		t.Errorf("%+v %v", b, ok)
	}
	for _, m := range [][]byte{vote(pb.MsgVoteResp, true), vote(pb.MsgPreVoteResp, false), vote(pb.MsgHeartbeat, false), encodeHello(hello{raftID: 7}), nil} {
		if b, ok := ReadBallot(m); ok {
			t.Errorf("%x is a vote %+v", m, b)
		}
	}
}

func TestStateRoundTrip(t *testing.T) {
	kind, body, err := envelope(encodeState(given{7, []byte("state")}))
	g, perr := parseState(body)
	if err != nil || perr != nil || kind != kindState || g.index != 7 || string(g.state) != "state" {
		t.Fatalf("%+v, %v, %v", g, err, perr)
	}
	for _, b := range [][]byte{nil, {1, 2, 3}, make([]byte, 8), make([]byte, 20)} {
		if g, err := parseState(b); !errors.Is(err, ErrWire) {
			t.Errorf("%v: %+v, %v", b, g, err)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add(encodeState(given{1, []byte("x")})[2:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := parseState(b); err == nil && (g.index == 0 || !bytes.Equal(encodeState(g)[2:], b)) {
			t.Errorf("%+v of %v", g, b)
		}
	})
}
