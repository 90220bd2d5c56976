package node

import (
	"slices"
	"strings"
	"testing"
)

// diskless is a group that can go on without a log.
type diskless struct{ echo }

func (*diskless) DiskLost(string) bool { return true }

func TestANodeWithoutALogGoesOnWhereItCan(t *testing.T) {
	h := newHolder(t)
	h.n.group = &diskless{echo{leader: 1}}
	if effs := h.n.Step(2, DiskLost{Why: "read-only"}); slices.ContainsFunc(effs, func(e Effect) bool { _, is := e.(Exit); return is }) {
		t.Fatal("it ends")
	}
	if w := h.n.warnings(); !slices.ContainsFunc(w, func(s string) bool {
		return strings.Contains(s, "does not vote any more") && strings.Contains(s, "read-only")
	}) {
		t.Fatalf("no word of it: %q", w)
	}
	h = newHolder(t) // a group that cannot
	var exit *Exit
	for _, e := range h.n.Step(2, DiskLost{Why: "read-only"}) {
		if x, is := e.(Exit); is {
			exit = &x
		}
	}
	if exit == nil || exit.Clean || !strings.Contains(exit.Why, "read-only") {
		t.Fatalf("%+v", exit)
	}
}

func TestGroupMessage(t *testing.T) {
	if b, ok := GroupMessage(envelope(kindGroup, []byte("x"))); !ok || string(b) != "x" {
		t.Error(b, ok)
	}
	for _, m := range [][]byte{nil, envelope(kindRow, []byte("x")), envelope(kindHello, nil)} {
		if _, ok := GroupMessage(m); ok {
			t.Errorf("%q is of a group", m)
		}
	}
}
