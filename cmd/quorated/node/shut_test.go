package node

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/liveness"
)

// A node whose daemon is connected is up, however its probes fail: the port is what to
// look at, and nothing is overridden, be it that another one is off.
func TestWhoIsConnectedIsNotOverridden(t *testing.T) {
	h := waiting(t)
	h.n.group, h.n.probePort = &stuck{}, 4711
	const why = "n2's daemon is connected, and probes to it are not answered: open udp 4711 on n2 (and here), in both directions"
	override := Operator{Token: 7, Command: "quorum-override", Who: "root"}

	h.n.Step(membership.Mono(time.Second), Connected{Peer: 2})
	h.says(time.Second, 2, Hello{})
	h.want(h.ask(1100*time.Millisecond, override), "n2's daemon is connected, and was not heard yet; nobody goes on without a node that is up")
	h.says(9*time.Second, 2, Hello{})
	h.looks(10 * time.Second)
	w := h.wait(10*time.Second, "cluster", "probes")
	if w.Owner != 2 || w.Reason != why || w.Command != "open udp 4711 on n2 (and here), in both directions" || w.Since.Round(time.Second) != 9*time.Second {
		t.Errorf("%+v", w)
	}
	if w := h.wait(10*time.Second, "cluster", "quorum"); !strings.HasSuffix(w.Reason, "not seen: n2, n3; "+why) || w.Command != "open udp 4711 on n2 (and here), in both directions; start quorated on n3" {
		t.Errorf("%+v", w)
	}
	h.want(h.ask(10*time.Second, override), why+"; nobody goes on without a node that is up")
	if h.n.override != "" {
		t.Error("it is overridden")
	}
	h.n.group = &forcer{}
	if _, _, got := h.n.mayTakeOver(); !strings.HasSuffix(got, "; "+why) {
		t.Error(got)
	}
	h.n.group = &stuck{}
	if state, reason := h.n.stateOf(2); state != "absent" || reason+": open udp 4711 on n2 (and here), in both directions" != why {
		t.Error(state, reason)
	}

	h.looks(14 * time.Second) // its connection stands, and it says nothing more
	if w := h.wait(14*time.Second, "cluster", "quorum"); w.Command != "start quorated on n2, n3" {
		t.Errorf("%+v", w)
	}
	h.want(h.ask(14*time.Second, override), "overridden on this node")
}

// The other side of it: the node is heard, and does not hear this one.
func TestWhoDoesNotHearThisNodeSaysSo(t *testing.T) {
	h := waiting(t)
	h.n.group = &stuck{}
	h.n.Step(membership.Mono(time.Second), Connected{Peer: 2})
	h.says(time.Second, 2, Hello{})
	h.looks(9*time.Second, 2)
	h.hears(9*time.Second, 2, liveness.Age{Peer: 1, Age: 8 * time.Second})
	h.says(9*time.Second, 2, Hello{})
	const why = "n2's daemon is connected, and does not hear this node: open udp 21061 here (and on n2), in both directions"
	if w := h.wait(9*time.Second, "cluster", "probes"); w.Owner != 2 || w.Reason != why {
		t.Errorf("%+v", w)
	}
	h.want(h.ask(9*time.Second, Operator{Token: 7, Command: "quorum-override", Who: "root"}), why+"; nobody goes on without a node that is up")
	h.hears(9*time.Second, 2, liveness.Age{Peer: 1, Age: time.Millisecond})
	if ws := h.n.shutWaits(); len(ws) > 0 {
		t.Errorf("%+v", ws)
	}
}

// Whom it hears and who is no member of its view is not called silent.
func TestWhoIsHeardIsNotSilent(t *testing.T) {
	h := newHolder(t)
	h.n.st.View.Members = h.m[:1]
	h.n.newView()
	h.looks(10*time.Second, 2)
	if got := h.n.hearsWhom(); got != "it hears none of the other members, and n2, no member (silent: n3); 1 of 3 votes, 2 needed: 1 missing" {
		t.Error(got)
	}
}
