package node

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// counted is a group that says who its voters are.
type counted struct {
	forcer
	ids []membership.NodeID
}

func (g *counted) Status() membership.GroupStatus {
	return membership.GroupStatus{Formed: true, Term: 1, Voters: g.ids}
}

var says = Operator{Token: 7, Command: "quorum-override", Who: "root"}

// quorumWait is the wait of this node for a quorum.
func (v *survivor) quorumWait() control.Wait {
	v.t.Helper()
	for _, w := range v.n.Status(membership.Mono(v.now), nil).Waits {
		if w.What == "this node" && w.For == "quorum" {
			return w
		}
	}
	v.t.Fatal("no wait for a quorum")
	return control.Wait{}
}

func (v *survivor) answer(in Operator) Reply {
	v.t.Helper()
	v.out = nil
	v.give(in)
	for _, e := range v.out {
		if r, ok := e.(Reply); ok {
			return r
		}
	}
	v.t.Fatalf("no answer to %+v", in)
	return Reply{}
}

// One of two nodes whose witness is gone, too, is less than half: an override would do
// nothing, so it is neither advised nor taken, and what would do is said.
func TestAnOverrideOfTooFewIsRefused(t *testing.T) {
	const few = "here is 1 of 3 voters, of whom the witness is one: less than half"
	w := membership.FirstWitness
	v := newSurvivor(t, 2, membership.Quorum{})
	v.n.group, v.n.seasoned = &counted{forcer{voters: 3, heard: 1}, []membership.NodeID{1, 2, w}}, false
	v.n.st.Witness = &cluster.Witness{ID: w, Name: "vm", Addr: "vm:21062"}
	v.n.policy = v.n.agreedPolicy()
	v.n.witness = &witness{Witness: *v.n.st.Witness}
	v.run(time.Second)
	r := v.answer(says)
	for _, want := range []string{few, "bring n2 or the network between up", "start `quorated --witness` at vm:21062", "When too few nodes are left for good"} {
		if !strings.Contains(r.Err, want) {
			t.Errorf("%q lacks %q", r.Err, want)
		}
	}
	q := v.n.Status(membership.Mono(v.now), nil).Quorum
	if v.n.override != "" || q.NoOverride != r.Err || !strings.Contains(q.Takeover, few) || strings.Contains(q.Takeover, "quorate quorum override") {
		t.Errorf("%q, %+v", v.n.override, q)
	}
	if do := v.quorumWait().Command; !strings.Contains(do, "quorated --witness") || !strings.Contains(do, "/usr/share/doc/quorate/operating.md") {
		t.Errorf("%q", do)
	}
}

// With wait_for_all an override of too few is a word for later, and says so.
func TestAnOverrideOfTooFewWhoWait(t *testing.T) {
	v := newSurvivor(t, 3, membership.Quorum{WaitForAll: true})
	v.n.group, v.n.seasoned = &counted{forcer{voters: 3, heard: 1}, []membership.NodeID{1, 2, 3}}, false
	v.n.st.View, v.n.st.Nodes = membership.View{}, nil
	v.run(time.Second)
	if r := v.answer(says); r.Err != "" || !strings.Contains(r.Text, "but here is 1 of 3 voters: less than half") {
		t.Errorf("%+v", r)
	}
}

// Where the log bars those who are half of the voters, an operator's word is kept, and it is
// said that it does not do, why, and what is left.
func TestAnOverrideThatTheLogBars(t *testing.T) {
	const bar = "it is not known whether n2 has kept the last change of who votes"
	v := newSurvivor(t, 2, twoNode)
	v.n.group, v.n.seasoned = &counted{forcer{voters: 2, heard: 1, may: bar}, []membership.NodeID{1, 2}}, false
	v.run(time.Second)
	if w := v.quorumWait(); strings.Contains(w.Reason, bar) || strings.Contains(w.Command, "quorate quorum override") {
		t.Errorf("before: %+v", w)
	}
	if r := v.answer(says); r.Err != "" || v.n.override == "" || !strings.Contains(r.Text, "it no longer waits for n2; but by that alone it does not go on: "+bar+"; see `quorate why`") {
		t.Errorf("%+v", r)
	}
	v.run(time.Second)
	if w := v.quorumWait(); !strings.HasSuffix(w.Reason, "; overridden, and it does not go on: "+bar) ||
		!strings.Contains(w.Command, "bring n2 or the network between up") || !strings.Contains(w.Command, "in /usr/share/doc/quorate/operating.md") {
		t.Errorf("after: %+v", w)
	}
	if q := v.n.Status(membership.Mono(v.now), nil).Quorum; strings.Contains(q.Missing, "proof") || q.Takeover != bar {
		t.Errorf("a proof would not do: %+v", q)
	}
}

// What a rule gives needs no word of an operator's, but a proof.
func TestAnOverrideOfWhatARuleGivesIsRefused(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	v.g.heard = 1
	v.run(3 * time.Second)
	const want = "two_node gives that already: what is missing is the proof that n2 is gone; see `quorate why`"
	if r := v.answer(says); r.Err != want || v.n.override != "" {
		t.Errorf("%+v", r)
	}
}

// A node whose kernel answers and whose daemon does not run is to be started, not to be
// looked for.
func TestADesertedNodeIsToBeStarted(t *testing.T) {
	h := newHolder(t)
	h.looks(10*time.Second, 2, 3)
	h.n.st.View.Members, h.n.st.View.Quorate = h.m[:1], false
	h.n.newView()
	h.n.quorate = false
	if do := h.n.quorumDo(); !strings.HasPrefix(do, "start quorated on n2 or n3; whose votes are missing") {
		t.Errorf("%q", do)
	}
	h.n.peers[2].connected = true
	if do := h.n.quorumDo(); !strings.HasPrefix(do, "start quorated on n3, or bring n2 or") {
		t.Errorf("%q", do)
	}
}

// While it is the other one's turn to fence, who waits is told so, until when, and what
// ends it.
func TestTheOthersTurnIsToldOf(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	v.run(time.Second, 2)
	v.g.heard = 1
	for range 2000 {
		v.run(50 * time.Millisecond)
		for _, j := range v.ran {
			v.give(FenceDone{Job: j, Result: membership.FenceResult{Err: "no answer"}, Ended: membership.Mono(v.now)})
		}
		v.ran = nil
		k := v.n.takeover
		if k == nil || len(k.shots) == 0 || v.n.turnText(k, k.shots[0]) == "" {
			continue
		}
		w := v.n.takeoverWaits()[0]
		if !strings.Contains(w.Reason, "failed: no answer; for ") || !strings.Contains(w.Reason, "it is n2's turn to fence") || w.Deadline <= 0 ||
			!strings.HasPrefix(w.Command, "wait for this node's turn, in ") || !strings.Contains(w.Command, "quorate fence ack n2") {
			t.Errorf("%+v", w)
		}
		if r := v.answer(Operator{Token: 9, Command: "fence-node", Node: 2}); !strings.Contains(r.Text, "now it is n2's turn to fence") {
			t.Errorf("%+v", r)
		}
		return
	}
	t.Fatal("its turn never ended")
}
