package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

var secrets = Refused{Peer: 2, Why: "the secrets differ", Do: "copy the secret"}

// Who is refused is said to be, as the cause of all else, until it is connected or nothing
// of it has come for a minute.
func TestARefusalIsTheCause(t *testing.T) {
	h := waiting(t)
	h.n.group = &unformed{}
	h.n.Step(membership.Mono(10*time.Second), secrets)
	h.n.Step(membership.Mono(20*time.Second), secrets)
	h.n.Step(membership.Mono(20*time.Second), Refused{Peer: 9})
	w := h.wait(30*time.Second, "cluster", "config")
	if w.Owner != 2 || w.Reason != "n2 is refused: the secrets differ: copy the secret" || w.Command != "copy the secret" || w.Since != 20*time.Second {
		t.Errorf("%+v", w)
	}
	if state, reason := h.n.stateOf(2); state != "refused" || reason != "the secrets differ: copy the secret" {
		t.Error(state, reason)
	}
	h.n.Step(membership.Mono(81*time.Second), Timer{})
	if state, _ := h.n.stateOf(2); state == "refused" {
		t.Error("nothing of it came for a minute")
	}
	h.n.Step(membership.Mono(90*time.Second), secrets)
	h.n.Step(membership.Mono(91*time.Second), Connected{Peer: 2})
	h.n.Step(membership.Mono(92*time.Second), Disconnected{Peer: 2, Err: "EOF"})
	if state, _ := h.n.stateOf(2); state == "refused" {
		t.Error("it was connected since")
	}
}

// A node whom a member says that it was removed says so itself, before all that its old
// log has, and fences nobody by an operator's word.
func TestARemovedNodeSaysSo(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	v.n.group, v.n.seasoned = &vetting{forcer{voters: 2, heard: 1}}, false
	v.n.st.Drains = []cluster.Drain{{Incarnation: v.n.st.View.Members[1], Who: "root"}}
	v.run(time.Second)
	drains := func() bool {
		return slices.ContainsFunc(v.n.Status(membership.Mono(v.now), nil).Waits, func(w control.Wait) bool { return w.What == "drain of n2" })
	}
	if do := v.n.overrideHint(); drains() || !strings.HasSuffix(do, "quorate quorum override") {
		t.Errorf("%q", do)
	}
	v.give(Refused{Peer: 2, Why: "this node was removed", Do: "add it", Removed: true})
	ws := v.n.refusedWaits()
	if len(ws) != 1 || ws[0].What != "this node" || ws[0].For != "config" || ws[0].Reason != "n2 says: this node was removed" || ws[0].Command != "add it" {
		t.Errorf("%+v", ws)
	}
	if r := v.answer(says); r.Err != "n2 says: this node was removed: add it" || v.n.overrideHint() != "" {
		t.Errorf("%+v", r)
	}
	v.n.group = v.g
	if !drains() {
		t.Error("a log that is not outdated has a drain, and it is not told of")
	}
}

// absence is the wait for a node that is no member.
func (h *holder) absence(id membership.NodeID) control.Wait {
	h.t.Helper()
	for _, w := range h.n.absentWaits() {
		if w.Owner == id {
			return w
		}
	}
	h.t.Fatalf("nothing waits for %d", id)
	return control.Wait{}
}

// One that left, and does not get in again, is not only to be started. What is to be done
// is about what is said of it.
func TestWhatToDoIsOfTheCause(t *testing.T) {
	h := degraded(t)
	h.n.st.Node(3).Left = true
	in := secrets
	in.Peer = 3
	h.n.Step(h.n.now, in)
	if w := h.absence(3); w.Reason != "n3 is no member: the secrets differ: copy the secret" || w.Command != "copy the secret" {
		t.Errorf("%+v", w)
	}
	h.n.Step(h.n.now, Connected{Peer: 3})
	p := h.n.peers[3]
	p.differs = []string{"cluster.name"}
	b := refusal("put it there", ": ", "it is not on the list")
	p.said, p.do = b.why, b.do
	if w := h.absence(3); w.Reason != "n3 is no member: it is not on the list: put it there" || w.Command != "put it there" {
		t.Errorf("%+v", w)
	}
	p.said = ""
	if w := h.absence(3); !strings.HasSuffix(w.Command, "then where it was changed: `quorate leave && systemctl start quorated`") {
		t.Errorf("%+v", w)
	}
}

// Before anybody is a member, those count that are heard: this node is up itself.
func TestVotesBeforeAView(t *testing.T) {
	h := waiting(t)
	h.looks(10*time.Second, 2)
	if s := h.n.Status(membership.Mono(10*time.Second), nil); s.Votes != 2 || s.Expected != 3 {
		t.Errorf("%d of %d", s.Votes, s.Expected)
	}
	got := h.ask(11*time.Second, Operator{Token: 7, Command: "leave"})
	h.want(got, "this node was not a member yet; quorated has ended")
}
