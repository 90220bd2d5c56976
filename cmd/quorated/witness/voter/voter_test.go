package voter

import (
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/raft"
)

const self = membership.FirstWitness

func start(t *testing.T, nodes ...membership.NodeID) *Voter {
	t.Helper()
	v, effs, err := New(1, Options{Self: self, Nodes: nodes, NewID: 77, Seed: 1, Interval: 40 * time.Millisecond, Dead: 200 * time.Millisecond}, raft.Restored{})
	if err != nil {
		t.Fatal(err)
	}
	if len(effs) == 0 {
		t.Fatal("its id is not kept")
	}
	if p, ok := effs[0].(node.Persist); !ok || p.Record.(*raft.Record).Identity.RaftID != 77 {
		t.Fatalf("%+v", effs)
	}
	return v
}

func sent(effs []node.Effect, to membership.NodeID, is func([]byte) bool) bool {
	for _, e := range effs {
		if s, ok := e.(node.Send); ok && s.To == to && is(s.Data) {
			return true
		}
	}
	return false
}

func anyGroup(b []byte) bool { _, ok := node.GroupMessage(b); return ok }

// It forms no cluster, alone or with all nodes of one.
func TestAWitnessFormsNothing(t *testing.T) {
	for _, nodes := range [][]membership.NodeID{nil, {1}, {1, 2}} {
		v := start(t, nodes...)
		now := membership.Mono(time.Second)
		for _, id := range nodes {
			if !sent(v.Step(now, node.Connected{Peer: id}), id, anyGroup) {
				t.Errorf("it says nothing to node %d", id)
			}
		}
		for range 200 {
			now = now.Add(50 * time.Millisecond)
			v.Step(now, node.Timer{})
		}
		if s := v.Status(); s.Formed || s.Leader != 0 || v.Fault() != nil {
			t.Errorf("of %v: %+v, %v", nodes, s, v.Fault())
		}
	}
}

// A ping is answered with its own bytes, and makes its sender heard for as long as it says.
func TestPings(t *testing.T) {
	v := start(t, 1, 2)
	now := membership.Mono(time.Second)
	ping := node.Ping(now, 3*time.Second)
	if effs := v.Step(now, node.Received{From: 1, Data: ping}); len(effs) != 0 {
		t.Errorf("answered without a connection: %v", effs)
	}
	v.Step(now, node.Connected{Peer: 1})
	effs := v.Step(now, node.Received{From: 1, Data: ping})
	if !sent(effs, 1, func(b []byte) bool { return b[0] == 'Q' && string(b[1:]) == string(ping[1:9]) }) {
		t.Errorf("not answered: %v", effs)
	}
	for at, want := range map[time.Duration]int{2900 * time.Millisecond: 1, 3100 * time.Millisecond: 0} {
		x := start(t, 1, 2)
		x.Step(now, node.Connected{Peer: 1})
		x.Step(now, node.Received{From: 1, Data: ping})
		if x.Step(now.Add(at), node.Timer{}); len(x.Hears()) != want {
			t.Errorf("%v after the ping it hears %v", at, x.Hears())
		}
	}
	if d := v.Deadline(); d == 0 || d > now.Add(3*time.Second) {
		t.Errorf("it would not look in time: %v", d)
	}
	for _, b := range [][]byte{nil, {}, []byte("P"), ping[:16], append(ping[:17:17], 0), node.Ping(now, time.Hour), node.Ping(now, 0), []byte("Hx"), []byte("Rx"), []byte("Gx")} {
		v.Step(now, node.Received{From: 1, Data: b})
	}
	if v.Fault() != nil {
		t.Error(v.Fault())
	}
	v.Step(now, node.Disconnected{Peer: 1})
	if len(v.Hears()) != 0 {
		t.Error("it hears who is not connected")
	}
}

// Whom it does not know it neither hears nor answers; it learns of nodes while it runs.
func TestNodesComeAndGo(t *testing.T) {
	v := start(t, 1, 2)
	now := membership.Mono(time.Second)
	if effs := v.Step(now, node.Connected{Peer: 3}); len(effs) != 0 {
		t.Errorf("%v", effs)
	}
	v.SetNodes([]membership.NodeID{2, 3})
	if !sent(v.Step(now, node.Connected{Peer: 3}), 3, anyGroup) {
		t.Error("it says nothing to the new node")
	}
	if effs := v.Step(now, node.Connected{Peer: 1}); len(effs) != 0 {
		t.Errorf("it talks to one that is gone: %v", effs)
	}
}

func TestTimes(t *testing.T) {
	if Heartbeat(time.Millisecond) != 100*time.Millisecond || Heartbeat(400*time.Millisecond) != 2*time.Second ||
		Backstop(0) != time.Second || Backstop(2*time.Second) != 10*time.Second {
		t.Error("the times of the group")
	}
}

func FuzzReceived(f *testing.F) {
	f.Add(node.Ping(1, time.Second))
	f.Add(node.GroupEnvelope([]byte{1, 1, 0, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, _, err := New(1, Options{Self: self, Nodes: []membership.NodeID{1, 2}, NewID: 77, Interval: 1, Dead: 1}, raft.Restored{})
		if err != nil {
			t.Fatal(err)
		}
		v.Step(2, node.Connected{Peer: 1})
		v.Step(3, node.Received{From: 1, Data: b})
		v.Step(4, node.Timer{})
		if v.Fault() != nil {
			t.Errorf("a message ended it: %v", v.Fault())
		}
	})
}
