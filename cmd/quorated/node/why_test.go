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
	"github.com/quorate/quorate/membership/cluster"
)

// stuck is a group that says why it orders nothing.
type stuck struct{ waiting string }

func (*stuck) Step(membership.Mono, ...membership.GroupInput) []membership.GroupEffect { return nil }
func (*stuck) Deadline() membership.Mono                                               { return 0 }
func (g *stuck) Status() membership.GroupStatus {
	return membership.GroupStatus{Formed: true, Waiting: g.waiting}
}

// looks passes the time until then, while some nodes answer all the time.
func (h *holder) looks(until time.Duration, hears ...membership.NodeID) {
	for at := h.n.now; at < membership.Mono(until); {
		at = min(at.Add(h.n.cfg.Timing.Interval), membership.Mono(until))
		t := Timer{}
		for _, id := range hears {
			t.Samples = append(t.Samples, membership.Sample{Peer: id, Heard: at})
		}
		for _, e := range h.n.Step(at, t) {
			if e, ok := e.(Emit); ok {
				h.said = append(h.said, e.Event.Text)
			}
		}
	}
}

func (h *holder) wait(at time.Duration, what, kind string) control.Wait {
	h.t.Helper()
	s := h.n.Status(membership.Mono(at), nil)
	for _, w := range s.Waits {
		if w.What == what && w.For == kind {
			return w
		}
	}
	h.t.Fatalf("%s does not wait for %s: %+v", what, kind, s.Waits)
	return control.Wait{}
}

func TestTheWaitForAQuorumIsAsOldAsTheLossOfIt(t *testing.T) {
	h := newHolder(t)
	g := &stuck{}
	h.n.group = g
	h.looks(10*time.Second, 2)
	if !h.n.quorate {
		t.Fatal("two of three are heard")
	}
	if !slices.Contains(h.said, "n1, n2 connected: 2 of 3 votes, 2 needed") {
		t.Errorf("%q", h.said)
	}
	g.waiting = "no leader yet"
	h.looks(20*time.Second, 2)
	g.waiting = "no majority of the voters can be heard; missing n3"
	h.looks(21 * time.Second)
	g.waiting = "no majority of the voters can be heard; missing n2, n3"
	h.looks(30 * time.Second)
	at := 35 * time.Second
	if w := h.wait(at, "cluster", "quorum"); w.Since.Round(time.Second) != 15*time.Second || w.Reason != g.waiting {
		t.Errorf("the cluster: %+v", w)
	}
	w := h.wait(at, "this node", "quorum")
	if w.Since.Round(time.Second) != 15*time.Second || w.Reason != "it hears none of the other nodes (silent: n2, n3); 1 of 3 votes, 2 needed: 1 missing" {
		t.Errorf("this node: %+v", w)
	}
	if s := h.n.Status(membership.Mono(at), nil); s.Quorate || s.Votes != 1 {
		t.Errorf("%d votes, quorate %v", s.Votes, s.Quorate)
	}
	h = newHolder(t)
	if w := h.wait(time.Minute, "this node", "quorum"); w.Since != time.Minute-1 {
		t.Errorf("since the start: %+v", w)
	}
}

func TestTheWaitForAdmissionBeginsWithTheQuorum(t *testing.T) {
	h := newHolder(t)
	h.n.st.View.Members = h.m[1:]
	h.n.st.Nodes[0].Instance = 99       // of the run before
	h.n.group, h.n.leader = &stuck{}, 0 // nobody admits it
	h.looks(20 * time.Second)
	h.looks(30*time.Second, 2, 3)
	if w := h.wait(40*time.Second, "this node", "join"); w.Since.Round(time.Second) != 20*time.Second {
		t.Errorf("%+v", w)
	}
}

func TestWithoutAQuorumRefusalsSaySo(t *testing.T) {
	h := newHolder(t)
	h.n.cfg.Devices = []membership.Device{{Nodes: []membership.NodeID{2}, Timeout: time.Second}}
	const want = "no quorum: nothing can be agreed, and n2 is not evicted; bring up n2 or n3; see `quorate why`"
	for _, c := range []string{"fence-ack", "fence-node"} {
		h.want(h.ask(time.Second, Operator{Token: 7, Command: c, Node: 2}), want)
	}
	h.looks(time.Minute, 2, 3)
	h.n.st.View.Members = h.m[:2]
	h.want(h.ask(time.Minute, Operator{Token: 7, Command: "fence-ack", Node: 2}), "nothing of n2 waits for proof")
	h.want(h.ask(time.Minute, Operator{Token: 7, Command: "fence-node", Node: 3}), "n3 is not a member")
	h.want(h.ask(time.Minute, Operator{Token: 7, Command: "fence-node", Node: 2}), "without n2 the members left (n1) are no quorum")
}

// degraded is node 1 of the members 1 and 2, and node 3 is none.
func degraded(t *testing.T) *holder {
	h := newHolder(t)
	h.looks(time.Minute, 2)
	h.n.st.View.Members = h.m[:2]
	return h
}

func TestADegradedClusterSaysWhoIsNoMember(t *testing.T) {
	h := degraded(t)
	wall := "2026-03-01T00:05:00Z"
	at, err := time.Parse(time.RFC3339, wall)
	if err != nil {
		t.Fatal(err)
	}
	h.n.st.Cases = []cluster.Case{{Victim: h.m[2], Reason: membership.ReasonSilent, Index: 5, Needed: true, Proof: &cluster.Proof{How: "agent", Actor: 2, Index: 6}}}
	h.n.st.History = []cluster.Record{{Victim: h.m[2], How: "agent", Actor: 2, OK: true, Wall: wall, Index: 6}}
	h.n.clock(h.m[2])
	w := h.wait(time.Minute+5*time.Second, "cluster", "join")
	want := fmt.Sprintf("n3 is no member: silent; fenced at %s by n2", at.Local().Format("2006-01-02 15:04:05"))
	if w.Owner != 3 || w.Reason != want || w.Command != "boot n3 and start quorated there" || w.Since != 5*time.Second {
		t.Errorf("%+v, want %q", w, want)
	}
	h.n.st.Cases[0].Proof, h.n.st.History = nil, nil // it is not closed
	if w := h.wait(time.Minute, "cluster", "fencing"); w.Owner != 3 || !strings.Contains(w.Command, "fence ack n3") {
		t.Errorf("%+v", w)
	}
	h.n.st.Cases, h.n.st.Nodes[2].Left = nil, true
	if w := h.wait(time.Minute, "cluster", "join"); w.Reason != "n3 is no member: it left" || w.Command != "start quorated on n3" {
		t.Errorf("%+v", w)
	}
	h.n.peers[3].connected = true // that is not noticed yet
	if w := h.wait(time.Minute, "cluster", "join"); w.Reason != "n3 is no member: it left" {
		t.Errorf("%+v", w)
	}
	h.looks(66*time.Second, 2, 3)
	if w := h.wait(66*time.Second, "cluster", "join"); w.Reason != "n3 is connected and no member yet" {
		t.Errorf("%+v", w)
	}
	h.n.peers[3].differs = []string{"liveness.dead_after"}
	if w := h.wait(66*time.Second, "cluster", "join"); w.Reason != "n3 is no member: its configuration differs" || !strings.Contains(w.Command, "quorate.toml") {
		t.Errorf("%+v", w)
	}
}

func TestASilentMemberIsACause(t *testing.T) {
	h := degraded(t)
	h.looks(62*time.Second, 2, 3) // so that it was heard once
	h.n.st.View.Members = h.m
	h.n.newView()
	h.looks(63*time.Second, 2, 3)
	h.looks(64*time.Second, 2)
	if w := h.wait(64*time.Second, "cluster", "answer"); w.Owner != 3 || w.Since.Round(100*time.Millisecond) != time.Second || !strings.HasPrefix(w.Reason, "n3 is silent") {
		t.Errorf("%+v", w)
	}
}

// A lockspace's change without a quorum counts the votes that the cluster's wait counts.
func TestALockspaceCountsTheVotesThatAreHeard(t *testing.T) {
	h := newHolder(t)
	sp := &lockspace.Space{Name: "gfs", Change: &lockspace.Change{}}
	_, ws := h.n.changeWaits(sp, time.Second)
	if !slices.ContainsFunc(ws, func(w control.Wait) bool { return w.For == "quorum" && strings.HasPrefix(w.Reason, "1 of 3 votes") }) {
		t.Errorf("%+v", ws)
	}
}

// A node that has just booted has nothing to finish in the recovery of an earlier life: it
// waits for a quorum, and for the others.
func TestARecoveryOfAnEarlierLifeWaitsForTheQuorum(t *testing.T) {
	h := newHolder(t)
	h.n.leader = 0
	sp := &lockspace.Space{Name: "gfs", Change: &lockspace.Change{Opened: 1, New: []lockspace.Member{{Incarnation: h.m[0]}, {Incarnation: h.m[1]}}}}
	state, ws := h.n.changeWaits(sp, time.Second)
	if state != "recovering" || len(ws) != 2 || ws[0].For != "quorum" || ws[1].For != "recovery" || ws[1].Owner != 2 {
		t.Errorf("%s, %+v", state, ws)
	}
	h.looks(10*time.Second, 2, 3)
	if _, ws = h.n.changeWaits(sp, time.Second); len(ws) != 2 || ws[0].For != "recovery" || ws[0].Owner != 1 {
		t.Errorf("%+v", ws)
	}
}

// A stop that is waited for because a daemon stands still is not waited for as long as
// another one, and says why.
func TestAStopOfWhoStandsStillHasItsOwnLimit(t *testing.T) {
	h := newHolder(t)
	h.n.cfg.Timing.RecoveryStall = 3 * time.Second
	h.looks(time.Minute, 2, 3)
	c := &lockspace.Change{Stop: []membership.NodeID{3}}
	wait := func() control.Wait {
		t.Helper()
		ws := h.n.stopWaits("lockspace gfs", c, control.Wait{Since: time.Second})
		i := slices.IndexFunc(ws, func(w control.Wait) bool { return w.Owner == 3 })
		if i < 0 {
			t.Fatalf("%+v", ws)
		}
		return ws[i]
	}
	const plain = "n3 has not confirmed that its kernel stopped the lockspace"
	if w := wait(); w.Reason != plain || w.Deadline != stopLimit-time.Second {
		t.Errorf("%+v", w)
	}
	h.n.samples = append(heard(h.n.now-5, 3), membership.Sample{Peer: 3, Link: 1, Heard: h.n.now, DaemonAge: 2 * time.Second})
	const stands = plain + ": the daemon of n3 has stood still for 2s, and its kernel answers"
	if w := wait(); w.Reason != stands+"; it is evicted after 3s of that (recovery_stall)" || w.Deadline != time.Second {
		t.Errorf("%+v", w)
	}
	h.n.st.Holds = append(h.n.st.Holds, cluster.Held{Hold: cluster.Hold{Incarnation: h.m[2]}})
	if w := wait(); w.Reason != stands || w.Deadline != stopLimit-time.Second {
		t.Errorf("held: %+v", w)
	}
	h.n.st.Holds = nil
	h.looks(61*time.Second, 2)
	if w := wait(); w.Reason != plain {
		t.Errorf("silent: %+v", w)
	}
}

func TestTextsForPeopleNameNodes(t *testing.T) {
	h := newHolder(t)
	d := membership.Departure{Incarnation: h.m[2], Reason: membership.ReasonSilent, Observers: []membership.NodeID{1, 2}}
	h.n.convicted([]membership.Departure{d})
	out := h.n.take()
	if e, ok := out[len(out)-1].(Emit); !ok || e.Event.Text != "silent, reported by n1, n2" {
		t.Errorf("%+v", out)
	}
	if got := h.n.proofText(h.m[2], cluster.Proof{How: "agent", Actor: 2}); !strings.HasSuffix(got, "is gone: agent, by n2") {
		t.Error(got)
	}
	for d, want := range map[time.Duration]string{10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Second: "1m30s", 30 * time.Second: "30s"} {
		if got := membership.Short(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}
