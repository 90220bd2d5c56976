package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/liveness"
)

// cold is node 1 after a start of the whole cluster: it leads, hears node 2, and the
// log names node 3 as well, which nobody has heard.
func cold(t *testing.T, how membership.Startup, devices ...membership.Device) *holder {
	h := newHolder(t)
	h.n.cfg.JoinGrace, h.n.cfg.StartupFencing, h.n.cfg.Devices = 30*time.Second, how, devices
	h.n.leader = 1
	h.n.convicted([]membership.Departure{{Incarnation: h.m[2], Reason: membership.ReasonSilent, Observers: []membership.NodeID{1, 2}}})
	return h
}

func (h *holder) member(id membership.NodeID) bool {
	_, ok := h.n.st.View.Find(id)
	return ok
}

// row is what node 2 says of node 3.
func (h *holder) row(a liveness.Age) {
	a.Peer = 3
	h.n.gotRow(2, h.n.peers[2], encodeRow(liveness.Row{From: 2, Round: uint64(h.n.now), Instance: 1, Ages: []liveness.Age{{Peer: 1, Instance: 1}, a}}))
}

func device(id membership.NodeID) membership.Device {
	return membership.Device{Nodes: []membership.NodeID{id}, Timeout: time.Second}
}

func TestWhoWasNotSeenHasItsGrace(t *testing.T) {
	for _, how := range []membership.Startup{"", membership.StartupNeeded} {
		h := cold(t, how, device(3))
		h.looks(29*time.Second, 2)
		w := h.wait(29*time.Second, "cluster", "view")
		if w.Owner != 3 || w.Deadline.Round(time.Second) != time.Second || !strings.HasSuffix(w.Reason, "it is evicted when its grace ends") ||
			w.Command != "boot n3 and start quorated there; when it will not come back, quorate fence node n3" {
			t.Errorf("%+v", w)
		}
		if ws := h.n.absentWaits(); len(ws) != 0 {
			t.Errorf("told twice: %+v", ws)
		}
		if !h.member(3) {
			t.Fatal("evicted in its grace")
		}
		h.looks(31*time.Second, 2)
		if h.member(3) || h.n.st.Cases[0].Reason != membership.ReasonSilent {
			t.Fatalf("not evicted after it: %+v", h.n.st.Cases)
		}
	}
}

func TestWhoWasNotSeenIsWaitedFor(t *testing.T) {
	h := cold(t, membership.StartupWait)
	h.looks(2*time.Hour, 2)
	w := h.wait(2*time.Hour, "cluster", "view")
	if w.Owner != 3 || w.Deadline != 0 || !strings.Contains(w.Reason, `is waited for (startup_fencing = "wait")`) ||
		w.Command != "boot n3 and start quorated there; when it will not come back, quorate fence ack n3 (only when it is off or cut from the disk)" {
		t.Errorf("%+v", w)
	}
	if !h.member(3) || len(h.n.st.Cases) != 0 {
		t.Fatalf("evicted: %+v", h.n.st.Cases)
	}
	// It answers once: from then on it is a member like any other.
	h.looks(2*time.Hour+time.Second, 2, 3)
	h.n.convicted([]membership.Departure{{Incarnation: h.m[2], Reason: membership.ReasonSilent, Observers: []membership.NodeID{1, 2}}})
	h.looks(2*time.Hour+10*time.Second, 2)
	if h.member(3) {
		t.Fatal("it was heard, is silent, and is waited for still")
	}
}

// A change that waits for the word of one who was not seen evicts nobody for it, and
// says for how long it waits.
func TestAChangeWaitsForWhoWasNotSeen(t *testing.T) {
	for how, want := range map[membership.Startup]control.Wait{
		membership.StartupWait:   {Reason: `n3 was a member and has not been heard since this daemon started; it may hold the shared disk, and is waited for (startup_fencing = "wait")`},
		membership.StartupNeeded: {Reason: "n3 was a member and has not been heard since this daemon started; it is evicted when its grace ends", Deadline: 10 * time.Second},
	} {
		h := cold(t, how)
		sp := &lockspace.Space{Name: "gfs", Change: &lockspace.Change{Seq: 4, Stop: []membership.NodeID{2, 3}, Acks: []membership.NodeID{2}}}
		h.looks(20*time.Second, 2)
		h.n.overrunBy([]membership.NodeID{3}, 1, stopLimit, sp, "stop")
		h.n.stepQueued()
		if !h.member(3) {
			t.Fatalf("%s: evicted as stuck", how)
		}
		_, ws := h.n.changeWaits(sp, 20*time.Second)
		w := ws[len(ws)-1]
		if w.For != "stop" || w.Owner != 3 || w.Reason != want.Reason || w.Deadline.Round(time.Second) != want.Deadline || !strings.HasPrefix(w.Command, "boot n3") {
			t.Errorf("%s: %+v", how, w)
		}
	}
	// Who is here has the usual limit.
	h := cold(t, membership.StartupWait)
	h.looks(time.Second, 2, 3)
	sp := &lockspace.Space{Name: "gfs", Change: &lockspace.Change{Seq: 4, Stop: []membership.NodeID{3}}}
	if _, ws := h.n.changeWaits(sp, time.Second); ws[len(ws)-1].Deadline != stopLimit-time.Second || ws[len(ws)-1].Command != "" {
		t.Errorf("%+v", ws)
	}
}

// What one node has heard since it started is no start that takes longer, whoever leads:
// a leader whose daemon alone was started anew gives nobody a grace.
func TestWhatAPeerHasHeardCounts(t *testing.T) {
	for _, c := range []struct {
		name  string
		age   liveness.Age
		waits bool
	}{
		{"never, looked for a moment", liveness.Age{Age: -1}, true},
		{"never, looked for long", liveness.Age{Age: time.Minute}, true},
		{"heard a minute ago", liveness.Age{Age: time.Minute, Instance: 9}, false},
	} {
		h := cold(t, membership.StartupWait)
		h.looks(time.Second, 2)
		h.row(c.age)
		h.n.peers[2].connected = false // that it is gone takes nothing back
		if _, waits := h.n.grace(3); waits != c.waits {
			t.Errorf("%s: waits %v", c.name, waits)
		}
	}
}

func TestAnOperatorSaysThatWhoWasNotSeenIsGone(t *testing.T) {
	ack := Operator{Token: 7, Command: "fence-ack", Node: 3, Who: "root"}
	h := cold(t, membership.StartupWait)
	h.looks(time.Minute, 2)
	h.want(h.ask(time.Minute, ack), "acknowledged: n3 is evicted and taken as gone")
	c := h.n.st.Case(h.m[2])
	if h.member(3) || c == nil || c.Proof == nil || c.Proof.How != "manual" || c.Proof.Who != "root" {
		t.Fatalf("%+v", c)
	}
	if !slices.ContainsFunc(h.n.History(), func(r control.FenceRecord) bool { return r.Victim == h.m[2] && r.OK && r.Who == "root" }) {
		t.Error("it is not in the history")
	}
	// With a device it is fenced at the operator's word.
	h = cold(t, membership.StartupWait, device(3))
	h.looks(time.Minute, 2)
	h.want(h.ask(time.Minute, Operator{Token: 7, Command: "fence-node", Node: 1, Who: "root"}), "no fence device is configured for this node: power it off by hand")
	h.want(h.ask(time.Minute, Operator{Token: 7, Command: "fence-node", Node: 3, Who: "root"}), "will be evicted and fenced")
	if c := h.n.st.Case(h.m[2]); c == nil || !c.Open() {
		t.Errorf("%+v", c)
	}
	// Not by a daemon that has only just begun to listen, or does not know what another hears.
	h = cold(t, membership.StartupWait)
	h.looks(100*time.Millisecond, 2)
	h.want(h.ask(100*time.Millisecond, ack), "nothing of n3 waits for proof")
	h.looks(time.Minute, 2)
	h.n.peers[2].connected = true
	h.want(h.ask(time.Minute, ack), "nothing of n3 waits for proof")
	h.row(liveness.Age{Age: time.Minute})
	h.want(h.ask(time.Minute, ack), "acknowledged: n3")
	// Not in the place of a quorum, and not of one who is here.
	h = cold(t, membership.StartupWait)
	h.looks(time.Minute)
	h.want(h.ask(time.Minute, ack), "no quorum: nothing can be agreed")
	h = cold(t, membership.StartupWait)
	h.n.verdict = nil
	h.looks(time.Minute, 2, 3)
	h.want(h.ask(time.Minute, ack), "nothing of n3 waits for proof")
	if !h.member(3) {
		t.Error("evicted")
	}
}
