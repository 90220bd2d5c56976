package node

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
)

// says has a peer say hello.
func (h *holder) says(at time.Duration, from membership.NodeID, hello Hello) {
	h.t.Helper()
	hello.Protocol, hello.Boot, hello.Instance = Protocol, h.m[from-1].Boot, 1
	b, err := json.Marshal(hello)
	if err != nil {
		h.t.Fatal(err)
	}
	h.n.Step(membership.Mono(at), Received{From: from, Data: envelope(kindHello, b)})
}

// hears has a peer tell whom it hears.
func (h *holder) hears(at time.Duration, from membership.NodeID, ages ...liveness.Age) {
	h.n.Step(membership.Mono(at), Received{From: from, Data: envelope(kindRow, encodeRow(liveness.Row{
		From: from, Round: uint64(at), View: h.n.st.View.Number, Ages: ages, Instance: 1}))})
}

// back is node 1, which leads, node 2, and node 3, which was evicted and is back.
func back(t *testing.T) *holder {
	h := newHolder(t)
	h.looks(10*time.Second, 2, 3)
	at := 10 * time.Second
	for _, id := range []membership.NodeID{2, 3} {
		h.n.Step(membership.Mono(at), Connected{Peer: id})
		h.says(at, id, Hello{})
	}
	h.n.apply(100, cluster.Command{Evict: &cluster.Evict{View: 3, Departures: []membership.Departure{{Incarnation: h.m[2], Reason: membership.ReasonSilent, Observers: []membership.NodeID{1, 2}}}}})
	h.g.index = 100
	h.looks(at+20*time.Millisecond, 2, 3)
	return h
}

func TestTheLeaderSaysWhyItKeepsANodeOut(t *testing.T) {
	h := back(t)
	at := 10*time.Second + 500*time.Millisecond
	h.looks(at, 2, 3)
	w := h.wait(at, "cluster", "join")
	const steady = "n3 is connected and no member yet: it was evicted before, and has to answer everybody for 1s without a gap"
	if w.Reason != steady || w.Deadline <= 300*time.Millisecond || w.Deadline > 600*time.Millisecond || w.Owner != 3 {
		t.Errorf("%+v", w)
	}
	h.hears(at, 3, liveness.Age{Peer: 1, Age: 0, Path: 0}, liveness.Age{Peer: 2, Age: time.Hour, Path: time.Hour})
	h.looks(at+100*time.Millisecond, 2, 3)
	if w := h.wait(at+100*time.Millisecond, "cluster", "join"); w.Reason != steady+"; now n3 does not hear n2" || w.Deadline != 0 {
		t.Errorf("%+v", w)
	}
	at += 5 * time.Second // its row is old
	h.looks(at, 2, 3)
	if w := h.wait(at, "cluster", "join"); !strings.HasSuffix(w.Reason, ": it has not said lately whom it hears") {
		t.Errorf("%+v", w)
	}
	h.hears(at, 3, liveness.Age{Peer: 1, Age: 0, Path: 0}, liveness.Age{Peer: 2, Age: time.Hour, Path: 0})
	if b := h.n.barOf(3); b.why != "it has to hear every member; now n3 does not hear n2" || !b.passes || !b.soon {
		t.Errorf("%+v", b)
	}
	h.n.policy.Rules.TwoNode = true
	h.n.st.Cases = append(h.n.st.Cases, cluster.Case{Victim: h.m[1], Needed: true})
	if b := h.n.barOf(3); b.why != "nobody is admitted before n2, which was evicted, is proved gone" {
		t.Errorf("%+v", b)
	}
	h.n.strays = map[membership.Incarnation]uint64{h.m[2]: 1}
	if b := h.n.barOf(3); !strings.Contains(b.why, "fence agent") {
		t.Errorf("%+v", b)
	}
	h.n.rivals = []membership.NodeID{2}
	if b := h.n.barOf(3); b.why != "n2 went on without this side, and one of the two has to give up its log first" {
		t.Errorf("%+v", b)
	}
	h.n.rivals = nil
	h.n.leader = 2 // another one knows
	if w := h.wait(at, "cluster", "join"); w.Reason != "n3 is connected and no member yet" || w.Command != "on n2, which leads: quorate why" {
		t.Errorf("%+v", w)
	}
}

// A node that may have to give up its log, and start anew for that, is admitted when it
// says that it keeps it: it was evicted in the same second otherwise.
func TestNobodyIsAdmittedWithALogThatMayBeGivenUp(t *testing.T) {
	h := back(t)
	h.g.unvetted = []membership.NodeID{3}
	h.n.followLeader()
	all := []liveness.Age{{Peer: 1}, {Peer: 2}}
	for at := 11 * time.Second; at < 15*time.Second; at += 100 * time.Millisecond {
		h.looks(at, 2, 3)
		h.hears(at, 3, all...)
	}
	if b := h.n.barOf(3); h.member(3) || b.why != "it is not known yet whether it has to give up its log" || !b.passes {
		t.Fatalf("member %v, %+v", h.member(3), b)
	}
	h.g.unvetted = nil
	h.n.Step(membership.Mono(15*time.Second), Received{From: 3, Data: envelope(kindGroup, []byte("x"))})
	if !h.member(3) {
		t.Fatalf("not admitted: %+v", h.n.barOf(3))
	}
}

// TestTheLeaderTellsWhomItKeepsOut: in what it says to everybody, and it is told there.
func TestTheLeaderTellsWhomItKeepsOut(t *testing.T) {
	h := back(t)
	var said Hello
	if err := json.Unmarshal(h.n.hello()[1:], &said); err != nil {
		t.Fatal(err)
	}
	b := said.Barred[3]
	if len(said.Barred) != 1 || !strings.HasPrefix(b.Why, "it was evicted before, and has to answer everybody for 1s") || b.Left != time.Second {
		t.Fatalf("%+v", said.Barred)
	}
	h.n.peers[3].differs = []string{strings.Repeat("ä", 400)}
	if got := h.n.keptOut()[3].Why; len(got) > maxBarText+3 || !strings.HasSuffix(got, "ä...") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	h.n.leader = 2
	if h.n.keptOut() != nil {
		t.Error("it does not lead")
	}

	h = newHolder(t)
	h.n.st.View.Members = h.m[1:]
	h.n.st.Nodes[0].Instance, h.g.leader = 99, 2
	h.n.leader = 2
	h.looks(10*time.Second, 2, 3)
	if w := h.wait(10*time.Second, "this node", "join"); w.Reason != "the leader n2 has not admitted it" || w.Command != "on n2, which leads: quorate why" || w.Owner != 2 {
		t.Errorf("%+v", w)
	}
	h.n.Step(membership.Mono(10*time.Second), Connected{Peer: 2})
	h.says(10*time.Second, 2, Hello{Barred: map[membership.NodeID]Barred{1: {Why: "why", Left: 8 * time.Second}, 3: {Why: "other"}}})
	h.looks(11*time.Second, 2, 3)
	if w := h.wait(11*time.Second, "this node", "join"); w.Reason != "the leader n2 does not admit it: why" || w.Deadline != 7*time.Second || w.Command != "" {
		t.Errorf("%+v", w)
	}
	h.n.st.Nodes[0].Instance = 1 // it was a member in this run
	h.n.st.Cases = []cluster.Case{{Victim: h.m[0], Reason: membership.ReasonSilent, Observers: []membership.NodeID{2, 3}}}
	h.n.clock(h.m[0])
	h.n.peers[2].hello.Barred = nil
	want := "the leader n2 has not admitted it; it was evicted 4s ago (silent, reported by n2, n3), and has to answer everybody for some time without a gap"
	if w := h.wait(15*time.Second, "this node", "join"); w.Reason != want {
		t.Errorf("%+v", w)
	}
	h.g.leader = membership.FirstWitness
	if w := h.wait(15*time.Second, "this node", "join"); !strings.HasPrefix(w.Reason, "no node leads that could admit it; it was evicted 4s ago") || w.Owner != 0 {
		t.Errorf("%+v", w)
	}
}

// TestWhoIsConnectedAndSilentIsAbsent: a connection of a machine without power stands for a while.
func TestWhoIsConnectedAndSilentIsAbsent(t *testing.T) {
	h := back(t)
	if state, _ := h.n.stateOf(3); state != "joining" {
		t.Fatal(state)
	}
	at := 10*time.Second + 400*time.Millisecond
	h.looks(at, 2)
	if state, reason := h.n.stateOf(3); state != "absent" || reason != "silent" {
		t.Errorf("%s, %s", state, reason)
	}
	const look = "look at n3, which may run behind a cut network: mend that, or start quorated there; boot it only if it is off"
	if w := h.wait(at, "cluster", "join"); w.Reason != "n3 is no member: silent" || w.Command != look {
		t.Errorf("%+v", w)
	}
	h.n.lastCase(3).Proof = &cluster.Proof{How: "agent", Actor: 2}
	if w := h.wait(at, "cluster", "join"); w.Reason != "n3 is no member: silent; fenced by n2" || w.Command != "boot n3 and start quorated there" {
		t.Errorf("%+v", w)
	}
	h.n.lastCase(3).Proof.How = "new-boot" // it runs, or did
	if w := h.wait(at, "cluster", "join"); w.Command != look {
		t.Errorf("%+v", w)
	}
}

// TestAnEvictedNodeThatHearsNotAllOfTheOthersSaysSo: it can do nothing about a leader.
func TestAnEvictedNodeThatHearsNotAllOfTheOthersSaysSo(t *testing.T) {
	h := newHolder(t)
	h.n.st.View.Members = h.m[1:]
	h.n.group, h.n.leader = &stuck{waiting: "no leader yet"}, 0
	h.looks(10*time.Second, 2, 3)
	h.n.st.Cases = []cluster.Case{{Victim: h.m[0], Reason: membership.ReasonSilent, Observers: []membership.NodeID{2}}}
	h.n.clock(h.m[0])
	if w := h.wait(10*time.Second, "cluster", "quorum"); w.Reason != "no leader yet" {
		t.Errorf("%+v", w)
	}
	h.n.policy.Votes = map[membership.NodeID]int{1: 1, 3: 2} // those whom it hears are a quorum
	h.looks(12*time.Second, 3)
	w := h.wait(12*time.Second, "this node", "quorum")
	if w.Reason != "this node was evicted (silent, reported by n2); the others lead, and it does not hear n2" || w.Since != 2*time.Second ||
		w.Owner != 2 || w.Command != "mend the path between this node and n2: see `quorate links` at both ends" {
		t.Errorf("%+v", w)
	}
	if ws := h.n.Status(membership.Mono(12*time.Second), nil).Waits; len(ws) != 1 {
		t.Errorf("%+v", ws)
	}
	h.n.rivals = []membership.NodeID{2}
	if w := h.wait(12*time.Second, "cluster", "quorum"); !strings.HasPrefix(w.Reason, "n2 went on without this node") {
		t.Errorf("%+v", w)
	}
	h.n.rivals = nil
	h.n.group = &stuck{waiting: "the log cannot be written"} // a graver one
	h.wait(12*time.Second, "cluster", "quorum")
}
