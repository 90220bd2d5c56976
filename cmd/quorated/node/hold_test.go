package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// echo is a group that orders at once what is proposed to it, unless it has no leader.
type echo struct {
	leader   membership.NodeID
	index    uint64
	handedTo membership.NodeID
	unvetted []membership.NodeID
}

func (g *echo) Step(_ membership.Mono, in ...membership.GroupInput) (out []membership.GroupEffect) {
	for _, i := range in {
		switch i := i.(type) {
		case membership.GroupPropose:
			g.index++
			out = append(out, membership.GroupDeliver{Index: g.index, Data: i.Data})
		case membership.GroupHandOver:
			g.handedTo = i.To
		}
	}
	return out
}

func (g *echo) Deadline() membership.Mono { return 0 }
func (g *echo) Status() membership.GroupStatus {
	return membership.GroupStatus{Formed: true, Leader: g.leader, Term: 1, Unvetted: g.unvetted}
}

// holder is node 1 of three members, of which nobody is heard.
type holder struct {
	t *testing.T
	n *Node
	g *echo
	m []membership.Incarnation

	said []string // the texts of events, by looks
}

func newHolder(t *testing.T) *holder {
	cfg := membership.Config{Self: 1, Nodes: []membership.Node{{ID: 1, Name: "n1", Votes: 1}, {ID: 2, Name: "n2", Votes: 1}, {ID: 3, Name: "n3", Votes: 1}},
		Timing: membership.Timing{Interval: 40 * time.Millisecond, DeadAfter: 200 * time.Millisecond, LinkSettle: time.Second, StallLimit: time.Minute, RecoveryStall: time.Minute}}
	h := &holder{t: t, g: &echo{leader: 1}, m: []membership.Incarnation{{Node: 1, Boot: "a"}, {Node: 2, Boot: "b"}, {Node: 3, Boot: "c"}}}
	h.n, _ = New(1, Options{Config: cfg, Group: h.g, Identity: Identity{Boot: "a", Instance: 1, Machine: "a"}})
	h.n.st.View = membership.View{Number: 3, Quorate: true, Members: h.m}
	h.n.st.Nodes = []cluster.NodeRecord{{Node: 1, Instance: 1, Last: h.m[0]}, {Node: 2, Instance: 1, Last: h.m[1]}, {Node: 3, Instance: 1, Last: h.m[2]}}
	h.n.newView()
	return h
}

// ask is an operator's wish at a time; it returns the answers of that step.
func (h *holder) ask(at time.Duration, in Operator) []Reply {
	return h.replies(h.n.Step(membership.Mono(at), in))
}

func (h *holder) tick(at time.Duration) []Reply {
	return h.replies(h.n.Step(membership.Mono(at), Timer{}))
}

func (h *holder) replies(effs []Effect) (out []Reply) {
	for _, e := range effs {
		if r, ok := e.(Reply); ok {
			out = append(out, r)
		}
	}
	return out
}

func (h *holder) want(got []Reply, words string) {
	h.t.Helper()
	if len(got) != 1 || !strings.Contains(got[0].Text+got[0].Err, words) {
		h.t.Fatalf("answered %+v, want %q", got, words)
	}
}

func hold(id membership.NodeID, d time.Duration) Operator {
	return Operator{Token: 7, Command: "hold", Node: id, For: d, Who: "root"}
}

// left is what the status says of the hold of node 2; -1: there is none.
func (h *holder) left(at time.Duration) time.Duration {
	for _, x := range h.n.Status(membership.Mono(at), nil).Nodes {
		if x.ID == 2 && x.HeldBy != "" {
			return x.Hold
		}
	}
	return -1
}

func TestAHoldIsAgreedShownAndEndedByItsTime(t *testing.T) {
	h := newHolder(t)
	h.want(h.ask(time.Second, hold(2, 30*time.Second)), "n2 is held for 30s")
	if got := h.left(11 * time.Second); got != 20*time.Second {
		t.Fatalf("%v are left", got)
	}
	if w := h.n.warnings(); !slices.ContainsFunc(w, func(s string) bool { return strings.Contains(s, "n2 is silent and held") }) {
		t.Errorf("no word of its silence: %q", w)
	}
	h.tick(30 * time.Second)
	if h.left(30*time.Second) < 0 {
		t.Fatal("ended too soon")
	}
	h.tick(31 * time.Second)
	if h.left(31*time.Second) >= 0 {
		t.Fatal("its time is over, and it is still in force")
	}
}

func TestAHoldIsTakenBack(t *testing.T) {
	h := newHolder(t)
	release := Operator{Token: 9, Command: "release", Node: 2, Who: "root"}
	h.want(h.ask(time.Second, release), "not held")
	h.ask(time.Second, hold(2, 30*time.Second))
	h.want(h.ask(2*time.Second, release), "held no more")
	if h.left(2*time.Second) >= 0 {
		t.Fatal("still in force")
	}
}

func TestAHoldThatCannotBe(t *testing.T) {
	h := newHolder(t)
	h.want(h.ask(time.Second, hold(9, time.Minute)), "not a member")
	h.want(h.ask(time.Second, hold(2, cluster.MaxHold+1)), "from 1s to 10m,")
	h.want(h.ask(time.Second, hold(2, time.Millisecond)), "from 1s to 10m,")
	h.g.leader = 0
	h.n.followLeader()
	if r := h.ask(2*time.Second, hold(2, time.Minute)); len(r) != 0 {
		t.Fatalf("answered %+v before it was agreed", r)
	}
	h.want(h.tick(2*time.Second+askLimit), "not agreed within 10s")
	if h.left(20*time.Second) >= 0 {
		t.Fatal("held by nobody's agreement")
	}
}

// The leader passes leadership on to a connected member that is not held.
func TestAHeldLeaderHandsOver(t *testing.T) {
	h := newHolder(t)
	h.n.peers[2].connected, h.n.peers[3].connected = true, true
	h.ask(time.Second, hold(2, time.Minute))
	if h.g.handedTo != 0 {
		t.Fatal("handed over for another's hold")
	}
	h.want(h.ask(time.Second, hold(1, time.Minute)), "n1 is held")
	if h.g.handedTo != 3 {
		t.Fatalf("handed over to node %d", h.g.handedTo)
	}
}

// A hold lives on in a snapshot; whoever takes it over from there counts anew.
func TestAHoldIsRestored(t *testing.T) {
	h := newHolder(t)
	h.ask(time.Second, hold(2, 30*time.Second))
	b, err := h.n.State()
	if err != nil {
		t.Fatal(err)
	}
	o := newHolder(t)
	o.n.now = membership.Mono(100 * time.Second)
	o.n.restore(membership.GroupRestore{Index: 5, State: b})
	if got := o.left(110 * time.Second); got != 20*time.Second {
		t.Fatalf("%v are left", got)
	}
	h.n.restore(membership.GroupRestore{Index: 5, State: b})
	if got := h.left(11 * time.Second); got != 20*time.Second {
		t.Fatalf("%v are left where it was known", got)
	}
}

// A step that waits for a held member has its whole limit again after the hold.
func TestAHeldMemberIsNotStuck(t *testing.T) {
	h := newHolder(t)
	h.ask(time.Second, hold(2, 30*time.Second))
	sp := &lockspace.Space{Name: "gfs", Change: &lockspace.Change{Seq: 4}}
	evicted := func(at time.Duration) bool {
		h.n.now = membership.Mono(at)
		h.n.wished = map[string]bool{}
		h.n.overrunBy([]membership.NodeID{2}, membership.Mono(2*time.Second), stopLimit, sp, "stop")
		return len(h.n.wished) > 0
	}
	if evicted(25 * time.Second) {
		t.Fatal("evicted in its hold")
	}
	h.tick(31 * time.Second) // the hold ends
	if evicted(31*time.Second + stopLimit - 1) {
		t.Fatal("the limit did not count anew")
	}
	if !evicted(31*time.Second + stopLimit) {
		t.Fatal("not evicted at all")
	}
}

// lonely2 is node 1 of two, of which the other is held for five minutes and has died.
func lonely2(t *testing.T) *survivor {
	v := newSurvivor(t, 2, twoNode)
	v.run(time.Second, 2)
	m, _ := v.n.st.View.Find(2)
	v.n.st.Holds = []cluster.Held{{Hold: cluster.Hold{Incarnation: m, For: 5 * time.Minute, Who: "root on n1"}, Index: 7}}
	v.n.followHolds()
	v.run(20 * time.Second)
	v.nobody("in the hold")
	return v
}

func (v *survivor) answers() (out []string) {
	for _, e := range v.out {
		if r, ok := e.(Reply); ok {
			out = append(out, r.Text+r.Err)
		}
	}
	v.out = nil
	return out
}

// Where nobody can agree to the end of a hold it is over for the node that was asked, which
// fences the other one then, and goes on.
func TestAHoldEndsForOneAlone(t *testing.T) {
	v := lonely2(t)
	s := v.n.Status(membership.Mono(v.now), nil)
	if i := slices.IndexFunc(s.Waits, func(w control.Wait) bool { return w.For == "hold" }); i < 0 ||
		s.Waits[i].Owner != 2 || s.Waits[i].Deadline < 4*time.Minute || !strings.Contains(s.Waits[i].Command, "quorate node release n2") {
		t.Errorf("%+v", s.Waits)
	}
	v.give(Operator{Token: 9, Command: "release", Node: 2, Who: "root"})
	v.run(askLimit - time.Second)
	v.nobody("while it may be agreed")
	v.run(2 * time.Second)
	if a := v.answers(); len(a) != 1 || !strings.Contains(a[0], "the hold of n2 is over for this node alone") {
		t.Errorf("%q", a)
	}
	v.ends(v.shot(2), true)
	if len(v.g.forced) != 1 || v.g.forced[0].Rule != "two_node" {
		t.Errorf("%+v", v.g.forced)
	}
}

// Who has a held node fenced means it, also where that cannot be ordered; asked again it
// is no refusal.
func TestAHeldNodeIsFencedByOneAlone(t *testing.T) {
	fence := Operator{Token: 9, Command: "fence-node", Node: 2, Who: "root"}
	v := lonely2(t)
	v.give(fence)
	if a := v.answers(); len(a) != 1 || !strings.Contains(a[0], "its hold is over for this node, which goes on by two_node and fences it") {
		t.Errorf("%q", a)
	}
	v.run(time.Second)
	v.shot(2)
	v.out = nil
	v.give(fence)
	if a := v.answers(); len(a) != 1 || !strings.Contains(a[0], "by two_node n1 goes on alone and fences n2") {
		t.Errorf("%q", a)
	}
	v = lonely2(t)
	v.run(time.Second, 2)
	v.give(fence)
	if a := v.answers(); len(a) != 1 || strings.Contains(a[0], "over for this node") {
		t.Errorf("of one that answers: %q", a)
	}
}
