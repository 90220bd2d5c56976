package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/static"
)

// lists is a few nodes that work by lists, without a network between them: what
// one sends the other has at once.
type lists struct {
	t     *testing.T
	now   membership.Mono
	nodes map[membership.NodeID]*Node
	told  map[membership.NodeID][]Effect // what each did but send
	mute  map[membership.NodeID]bool     // switched off
	queue []func()                       // what is to be done, in its order
	busy  bool
}

func newLists(t *testing.T, words map[membership.NodeID][]membership.NodeID) *lists {
	t.Helper()
	l := &lists{t: t, now: 1, nodes: map[membership.NodeID]*Node{}, told: map[membership.NodeID][]Effect{}, mute: map[membership.NodeID]bool{}}
	for id := membership.NodeID(1); id <= 3; id++ {
		if words[id] != nil {
			l.boot(id, 1, words[id])
		}
	}
	return l
}

// boot starts the daemon of a node in a new life.
func (l *lists) boot(id membership.NodeID, life uint64, word []membership.NodeID) {
	l.t.Helper()
	cfg := membership.Config{Cluster: "tank", Self: id, JoinTimeout: 10 * time.Second, Timing: membership.Timing{Profile: "lan", Interval: 40 * time.Millisecond, DeadAfter: 200 * time.Millisecond,
		LinkSettle: 280 * time.Millisecond, StallLimit: 10 * time.Second, RecoveryStall: 3 * time.Second}}
	for i := membership.NodeID(1); i <= 3; i++ {
		cfg.Nodes = append(cfg.Nodes, membership.Node{ID: i, Name: fmt.Sprintf("n%d", i)})
	}
	g, err := static.New(static.Config{Self: id, Members: word, Run: life*100 + uint64(id)})
	if err != nil {
		l.t.Fatal(err)
	}
	delete(l.nodes, id)
	l.mute[id] = false
	n, effs := New(l.now, Options{Config: cfg, Group: g, List: &List{Nodes: word, From: "members"},
		Identity: Identity{Boot: membership.BootID(fmt.Sprintf("boot%d-%d", id, life)), Instance: life*1000 + uint64(id), Machine: fmt.Sprint(id)}})
	l.nodes[id] = n
	l.do(id, effs)
	for _, o := range l.ids() {
		if o != id && !l.mute[o] {
			l.step(o, Disconnected{Peer: id, Err: "new life"})
			l.step(o, Connected{Peer: id})
			l.step(id, Connected{Peer: o})
		}
	}
}

func (l *lists) ids() []membership.NodeID {
	var ids []membership.NodeID
	for id := membership.NodeID(1); id <= 3; id++ {
		if l.nodes[id] != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

func (l *lists) step(id membership.NodeID, in Input) {
	n := l.nodes[id]
	l.queue = append(l.queue, func() {
		if l.nodes[id] == n {
			l.do(id, n.Step(l.now, in))
		}
	})
	for !l.busy && len(l.queue) > 0 {
		f := l.queue[0]
		l.queue, l.busy = l.queue[1:], true
		f()
		l.busy = false
	}
}

func (l *lists) do(id membership.NodeID, effs []Effect) {
	for _, e := range effs {
		if s, ok := e.(Send); ok {
			if l.nodes[s.To] != nil && !l.mute[s.To] && !l.mute[id] {
				l.step(s.To, Received{From: id, Data: s.Data})
			}
			continue
		}
		l.told[id] = append(l.told[id], e)
		if d, ok := e.(Drive); ok {
			l.kernel(id, d.Effect)
		}
	}
}

// kernel does at once what it is asked for.
func (l *lists) kernel(id membership.NodeID, e lockspace.Effect) {
	answer := func(in lockspace.Input) { l.step(id, Kernel{In: in}) }
	switch e := e.(type) {
	case lockspace.Stop:
		answer(lockspace.StopDone{Lockspace: e.Lockspace, Token: e.Token})
	case lockspace.Start:
		answer(lockspace.StartDone{Lockspace: e.Lockspace, Token: e.Token})
		answer(lockspace.RecoverDone{Lockspace: e.Lockspace, Token: e.Token})
	case lockspace.AnswerJoin:
		answer(lockspace.JoinDone{Lockspace: e.Lockspace, Token: e.Token})
	case lockspace.FinishLeave:
		answer(lockspace.EndDone{Lockspace: e.Lockspace, Token: e.Token})
	case lockspace.RemovePeer:
		answer(lockspace.PeerRemoved(e))
	}
}

// run lets time pass.
func (l *lists) run(d time.Duration) {
	for end := l.now.Add(d); l.now < end; l.now = l.now.Add(20 * time.Millisecond) {
		for _, id := range l.ids() {
			if l.mute[id] {
				continue
			}
			var heard []membership.Sample
			for _, o := range l.ids() {
				if o != id && !l.mute[o] {
					heard = append(heard, membership.Sample{Peer: o, Heard: l.now, Instance: l.nodes[o].id.Instance})
				}
			}
			l.step(id, Timer{Samples: heard})
		}
	}
}

// off switches a node off.
func (l *lists) off(id membership.NodeID) {
	l.mute[id] = true
	for _, o := range l.ids() {
		if o != id {
			l.step(o, Disconnected{Peer: id, Err: "gone"})
		}
	}
}

// mount has nodes join a lockspace.
func (l *lists) mount(ids ...membership.NodeID) {
	l.t.Helper()
	for _, id := range ids {
		l.step(id, Kernel{In: lockspace.Online{Lockspace: "gfs"}})
	}
	l.run(time.Second)
	for _, id := range ids {
		l.runs(id, ids...)
	}
}

// runs says that the lockspace runs on a node, with these members.
func (l *lists) runs(id membership.NodeID, members ...membership.NodeID) {
	l.t.Helper()
	s := l.status(id)
	if len(s.Lockspaces) != 1 || s.Lockspaces[0].Local != "running" || s.Lockspaces[0].State != "running" || !slices.Equal(s.Lockspaces[0].Members, members) {
		l.t.Fatalf("node %d: %+v", id, s.Lockspaces)
	}
}

func (l *lists) stands(id membership.NodeID) {
	l.t.Helper()
	if p, _, ok := l.nodes[id].local.Phase("gfs"); !ok || p != lockspace.Stopped {
		l.t.Fatalf("node %d: the lockspace is %v", id, p)
	}
}

func (l *lists) status(id membership.NodeID) control.Status { return l.nodes[id].Status(l.now, nil) }

func (l *lists) wants(id membership.NodeID, quorate bool, members ...membership.NodeID) {
	l.t.Helper()
	if s := l.status(id); !slices.Equal(l.nodes[id].Members(), members) || s.Quorate != quorate {
		l.t.Fatalf("node %d: members %v, quorate %v, want %v, %v: %+v", id, l.nodes[id].Members(), s.Quorate, members, quorate, s.Waits)
	}
}

func (l *lists) warned(id membership.NodeID, words string) {
	l.t.Helper()
	if w := l.status(id).Warnings; !strings.Contains(strings.Join(w, "\n"), words) {
		l.t.Fatalf("node %d warns of %q, not of %q", id, w, words)
	}
}

func (l *lists) list(id membership.NodeID, word ...membership.NodeID) {
	l.step(id, Listed{List: List{Nodes: word, From: "members"}})
}

func three(ids ...membership.NodeID) map[membership.NodeID][]membership.NodeID {
	words := map[membership.NodeID][]membership.NodeID{}
	for _, id := range ids {
		words[id] = []membership.NodeID{1, 2, 3}
	}
	return words
}

// One node needs nobody, once it has seen that nobody works by another list.
func TestAListOfOne(t *testing.T) {
	l := newLists(t, map[membership.NodeID][]membership.NodeID{2: {2}})
	l.run(listAfter / 2)
	l.wants(2, false)
	l.run(listAfter)
	l.wants(2, true, 2)
	if s := l.status(2); s.Level != control.OK || s.Needed != 1 || s.Nodes[0].State != "unlisted" || !strings.Contains(s.Promise, "n2 alone, by members") {
		t.Fatalf("%+v", s)
	}
	l.step(2, Operator{Token: 1, Command: "leave"})
	l.step(2, Quiesced{})
	if e := l.told[2][len(l.told[2])-1]; e != (Exit{Clean: true, Why: "left the cluster"}) {
		t.Fatalf("%+v", e)
	}
}

// Every listed node is needed, its silence evicts nobody, and whoever left cleanly is not missed.
func TestAllOfTheListOrNothing(t *testing.T) {
	l := newLists(t, three(1, 2))
	l.run(3 * time.Second)
	l.wants(1, false, 1, 2)
	if w := l.status(1).Waits; len(w) == 0 || !slices.ContainsFunc(w, func(w control.Wait) bool { return w.Owner == 3 && strings.Contains(w.Reason, "take it off members") }) ||
		slices.ContainsFunc(w, func(w control.Wait) bool {
			return w.For == "quorum" && w.Command != "start quorated on n3, or, when it is off for good, take it off members"
		}) {
		t.Fatalf("%+v", w)
	}
	l.boot(3, 1, []membership.NodeID{1, 2, 3})
	l.run(3 * time.Second)
	l.wants(1, true, 1, 2, 3)
	l.wants(3, true, 1, 2, 3)
	l.mount(1, 3)
	l.off(3)
	l.run(time.Minute)
	l.wants(1, false, 1, 2, 3)
	l.stands(1)
	l.boot(3, 2, []membership.NodeID{1, 2, 3})
	l.run(3 * time.Second)
	l.wants(2, true, 1, 2, 3)
	l.runs(1, 1) // its new boot is proof, and recovery enough
	l.step(3, Operator{Token: 1, Command: "leave"})
	l.step(3, Quiesced{})
	l.off(3)
	l.run(3 * time.Second)
	l.wants(1, true, 1, 2)
	l.wants(2, true, 1, 2)
}

// A sequencer that has forgotten everything lets nobody in whose kernel holds
// something, and nothing begins without him.
func TestANewRunWaitsForEmptyHands(t *testing.T) {
	l := newLists(t, three(1, 2, 3))
	l.run(3 * time.Second)
	l.wants(1, true, 1, 2, 3)
	l.mount(3)
	l.off(1)
	l.run(time.Second)
	l.boot(1, 2, []membership.NodeID{1, 2, 3})
	l.run(5 * time.Second)
	l.wants(1, false, 1, 2)
	l.warned(1, "holds lockspaces of an earlier time: gfs; reboot it")
	l.list(1, 1, 2)
	l.run(5 * time.Second)
	l.wants(1, false, 1, 2) // nor is it gone because somebody says so
	l.warned(1, "members lacks n3: its kernel holds lockspaces: gfs")
	l.off(3)
	l.run(3 * time.Second)
	l.wants(1, true, 1, 2)
}

// Who is taken off the list is taken for gone, but never while it answers.
func TestTakenOffTheList(t *testing.T) {
	l := newLists(t, three(1, 2, 3))
	l.run(3 * time.Second)
	l.mount(1, 2, 3)
	l.list(1, 1, 2)
	l.run(3 * time.Second)
	l.wants(1, true, 1, 2, 3)
	l.warned(1, "its kernel holds lockspaces: gfs")
	l.step(1, Disconnected{Peer: 3, Err: "daemon gone"}) // its kernel answers the probes
	l.run(3 * time.Second)
	l.wants(1, true, 1, 2, 3)
	l.warned(1, "it holds lockspaces and still answers")
	l.off(3)
	l.run(3 * time.Second)
	l.wants(1, true, 1, 2)
	l.wants(2, true, 1, 2)
	l.runs(1, 1, 2)
	l.runs(2, 1, 2)
	if h := l.nodes[2].History(); len(h) != 1 || h[0].How != "manual" || h[0].Who != "members" || h[0].Victim.Node != 3 {
		t.Fatalf("%+v", h)
	}
	// It was not dead: it was out of reach. It hears of the list, and ends itself.
	l.mute[3] = false
	for _, id := range []membership.NodeID{1, 2} {
		l.step(3, Disconnected{Peer: id})
		l.step(3, Connected{Peer: id})
		l.step(id, Connected{Peer: 3})
	}
	l.run(3 * time.Second)
	if !slices.ContainsFunc(l.told[3], func(e Effect) bool {
		f, ok := e.(SelfFence)
		return ok && strings.Contains(f.Why, "taken off the list")
	}) {
		t.Fatal("it goes on")
	}
	l.wants(1, true, 1, 2)
}

// A node that is put on the list comes in when it is there.
func TestPutOnTheList(t *testing.T) {
	l := newLists(t, map[membership.NodeID][]membership.NodeID{1: {1}})
	l.run(3 * time.Second)
	l.wants(1, true, 1)
	l.boot(2, 1, []membership.NodeID{1, 2})
	l.run(3 * time.Second)
	l.wants(1, true, 1)
	l.warned(1, "it is not on the list of members (members)")
	l.list(1, 1, 2)
	l.run(3 * time.Second)
	l.wants(1, true, 1, 2)
	l.wants(2, true, 1, 2)
	if s := l.status(1); len(s.Warnings) > 0 || s.Level != control.OK {
		t.Fatalf("%+v", s)
	}
}

func TestListsThatAreRefused(t *testing.T) {
	l := newLists(t, map[membership.NodeID][]membership.NodeID{2: {2, 3}, 3: {2, 3}})
	l.run(5 * time.Second)
	l.wants(2, true, 2, 3)
	l.list(2, 1, 2, 3)
	l.run(time.Second)
	l.warned(2, "the lowest listed node orders everything, and that is n2 and would be n1")
	l.step(2, Listed{List: List{Nodes: []membership.NodeID{2, 3}, From: "members", Err: "members:1: nobody is listed"}})
	l.warned(2, "nobody is listed")
	l.list(2, 2, 3)
	l.list(3, 3)
	l.run(time.Second)
	l.warned(3, "members lists n3 here; the cluster works by the list of n2: n2, n3")
	l.wants(2, true, 2, 3)
}

// Two lists without a common node: whoever sees the other at work does not begin.
func TestTwoListsInOneCluster(t *testing.T) {
	l := newLists(t, map[membership.NodeID][]membership.NodeID{1: {1}})
	l.run(3 * time.Second)
	l.wants(1, true, 1)
	l.boot(2, 1, []membership.NodeID{2})
	l.run(30 * time.Second)
	l.wants(2, false)
	l.warned(2, "works by another list, on which n1 orders")
	l.wants(1, true, 1)

	both := newLists(t, map[membership.NodeID][]membership.NodeID{1: {1}, 2: {2}})
	both.run(30 * time.Second)
	both.wants(1, false)
	both.wants(2, false)

	// Lists that overlap, and two that order: the one with the lower id does not take the other in.
	l = newLists(t, map[membership.NodeID][]membership.NodeID{1: {1, 2}, 2: {2, 3}})
	l.run(5 * time.Second)
	l.wants(1, false, 1)
	l.warned(1, "by its list n2 orders")
}

// Nobody could order anything for those who hold lockspaces.
func TestWhoOrdersLeavesLast(t *testing.T) {
	l := newLists(t, three(1, 2, 3))
	l.run(3 * time.Second)
	l.mount(3)
	l.step(1, Operator{Token: 7, Command: "leave"})
	if e, ok := l.told[1][len(l.told[1])-1].(Reply); !ok || e.Token != 7 || !strings.Contains(e.Err, "lockspaces are in use there: gfs") {
		t.Fatalf("%+v", l.told[1][len(l.told[1])-1])
	}
}
