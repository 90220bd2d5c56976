package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/quorum"
)

func (h *holder) report(at time.Duration) *control.QuorumReport {
	h.t.Helper()
	r := h.n.Status(membership.Mono(at), nil).Quorum
	if r == nil {
		h.t.Fatal("no report")
	}
	return r
}

// waiting is node 1 of three with wait_for_all, in its first second.
func waiting(t *testing.T) *holder {
	h := newHolder(t)
	h.n.policy.Rules.WaitForAll, h.n.cfg.Quorum.WaitForAll = true, true
	h.n.st.View = membership.View{}
	h.n.st.Nodes = nil
	return h
}

func TestTheReportOfMembers(t *testing.T) {
	h := newHolder(t)
	h.looks(10*time.Second, 2, 3)
	r := h.report(10 * time.Second)
	if !r.Quorate || r.Text != "quorate: 3 of 3 votes, 2 needed; any one node may be lost" || r.Rule != "majority" || r.Missing != "" || len(r.Nodes) != 3 {
		t.Errorf("%+v", r)
	}
	if x := r.Nodes[1]; x.Name != "n2" || x.State != "member" || !x.Present || !x.Counts || x.IfLost == nil || x.IfLost.Outcome != "stays" {
		t.Errorf("%+v", x)
	}
	h.n.st.View.Members = h.m[:2]
	r = h.report(10 * time.Second)
	if x := r.Nodes[0]; x.IfLost == nil || *x.IfLost != (control.QuorumLoss{Outcome: "stops", Missing: 1, Text: "STOPS: 1 vote missing"}) {
		t.Errorf("%+v", x.IfLost)
	}
	if x := r.Nodes[2]; x.IfLost != nil || x.Present || x.State == "member" {
		t.Errorf("%+v", x)
	}
}

func TestTheReportNamesWhoIsSuspect(t *testing.T) {
	h := newHolder(t)
	h.looks(10*time.Second, 2, 3)
	h.looks(10*time.Second+300*time.Millisecond, 2)
	at := 10*time.Second + 300*time.Millisecond
	const want = "quorate: 3 of 3 votes, 2 needed; any one node may be lost; but suspect: n3, and without: 2 of 3 votes, 2 needed"
	if r := h.report(at); r.Text != want || !r.Quorate {
		t.Errorf("%+v", r)
	}
}

func TestTheReportSaysTheSameAsTheStatus(t *testing.T) {
	h := newHolder(t)
	check := func(at time.Duration) {
		t.Helper()
		s := h.n.Status(membership.Mono(at), nil)
		if q := s.Quorum; q.Quorate != s.Quorate || q.Have != s.Votes || q.Needed != s.Needed || q.Expected != s.Expected ||
			strings.HasPrefix(q.Text, "quorate: ") != s.Quorate || (q.Missing == "") != s.Quorate {
			t.Errorf("%+v beside %d of %d votes, quorate %v", q, s.Votes, s.Expected, s.Quorate)
		}
	}
	check(0)
	h.looks(10*time.Second, 2)
	check(10 * time.Second)
	h.n.st.View.Quorate = false
	check(10 * time.Second)
	if r := h.report(10 * time.Second); r.Missing != "an agreement of those who are there; see `quorate why`" || r.Nodes[1].IfLost != nil {
		t.Errorf("%+v", r)
	}
	h.n.st.Nodes[0].Instance = 99 // of the run before
	if r := h.report(10 * time.Second); r.Text != "not yet: 2 of 3 votes, 2 needed, enough; this node is no member yet; see `quorate why`" {
		t.Errorf("%+v", r)
	}
	h.looks(20 * time.Second)
	check(20 * time.Second)
	if r := h.report(20 * time.Second); r.Text != "no quorum: 1 of 3 votes, 2 needed: 1 missing" || r.Missing != "1 vote, of n2 or n3" {
		t.Errorf("%+v", r)
	}
}

func TestTheReportOfAnElectorate(t *testing.T) {
	h := newHolder(t)
	h.looks(10*time.Second, 2)
	h.n.cfg.Quorum.LeaveRemoves, h.n.policy.Rules.LeaveRemoves = true, true
	h.n.policy = h.n.policy.Of([]membership.NodeID{1, 2})
	h.n.st.View.Members = h.m[:2]
	h.n.st.Nodes[2].Left = true
	r := h.report(10 * time.Second)
	if r.Rule != "leave_removes_vote" || r.Expected != 2 || !slices.Equal(r.Rules, []string{"leave_removes_vote"}) {
		t.Errorf("%+v", r)
	}
	if x := r.Nodes[2]; x.Counts || x.Votes != 1 || x.State != "left" || x.Why != "left cleanly (leave_removes_vote)" {
		t.Errorf("%+v", x)
	}
}

func TestTheReportOfAWitness(t *testing.T) {
	h := newHolder(t)
	h.looks(10*time.Second, 2, 3)
	h.n.policy.Witness = 3
	h.n.st.View.Members = h.m[:2]
	r := h.report(10 * time.Second)
	if x := r.Nodes[2]; r.Witness != 3 || x.State != "silent" || x.Present || !x.Counts || !strings.HasPrefix(r.Text, "quorate: 2 of 3 votes") {
		t.Errorf("one that nobody hears: %+v", r)
	}
	h.n.witness = &witness{counted: true}
	h.n.cfg.Quorum = membership.Quorum{TwoNode: true, WaitForAll: true}
	r = h.report(10 * time.Second)
	if !slices.Equal(r.Rules, []string{"two_node (rests: there is a witness)", "wait_for_all (rests: there is a witness)"}) {
		t.Errorf("%q", r.Rules)
	}
	if x := r.Nodes[2]; x.State != "witness" || !x.Present || !strings.HasPrefix(r.Text, "quorate: 3 of 3 votes") {
		t.Errorf("one that votes: %+v", r)
	}
}

func TestTheReportOfAList(t *testing.T) {
	l := newLists(t, three(1, 2, 3))
	l.run(3 * time.Second)
	r := l.status(1).Quorum
	if !r.Quorate || r.Rule != "all" || r.Expected != 3 || len(r.Rules) != 0 || r.Nodes[2].IfLost.Outcome != "stops" {
		t.Errorf("%+v", r)
	}
	l.step(3, Operator{Token: 1, Command: "leave"})
	l.step(3, Quiesced{})
	l.off(3)
	l.run(3 * time.Second)
	r = l.status(1).Quorum
	if x := r.Nodes[2]; r.Expected != 2 || x.Counts || x.Why != "left cleanly" {
		t.Errorf("%+v", r)
	}
}

func TestTheReportNamesWhoIsAwaited(t *testing.T) {
	h := waiting(t)
	r := h.report(0)
	if !slices.Equal(r.Awaited, []membership.NodeID{2, 3}) || r.Rule != "wait_for_all" || r.Quorate || !strings.HasPrefix(r.Text, "not yet: wait_for_all waits for n2 and n3") {
		t.Errorf("%+v", r)
	}
	h.looks(10*time.Second, 2)
	if r := h.report(10 * time.Second); !slices.Equal(r.Awaited, []membership.NodeID{3}) {
		t.Errorf("%+v", r)
	}
	m := newHolder(t) // in a quorate cluster nobody is awaited
	m.n.policy.Rules.WaitForAll = true
	m.looks(10*time.Second, 2)
	if r := m.report(10 * time.Second); len(r.Awaited) != 0 || !r.Quorate {
		t.Errorf("%+v", r)
	}
}

func TestWaitForAllIsOverridden(t *testing.T) {
	h := waiting(t)
	effs := h.n.Step(membership.Mono(time.Second), Operator{Token: 7, Command: "quorum-override", Who: "root (uid 0)"})
	h.want(h.replies(effs), "no longer waits for n2, n3, and with half of the voters it goes on when all others are proved gone")
	if h.n.override != "root (uid 0)" || !slices.ContainsFunc(effs, func(e Effect) bool {
		x, ok := e.(Emit)
		return ok && x.Event.Kind == membership.KindQuorum && strings.Contains(x.Event.Text, "overridden by root (uid 0): this node need not wait for n2, n3, and may go on with half")
	}) {
		t.Errorf("%q, %+v", h.n.override, effs)
	}
	if r := h.report(time.Second); len(r.Awaited) != 0 || r.Override != "root (uid 0)" || r.Rule != "majority" {
		t.Errorf("%+v", r)
	}
}

func TestAnOverrideThatChangesNothingIsRefused(t *testing.T) {
	ask := Operator{Token: 7, Command: "quorum-override", Who: "root"}
	h := newHolder(t)
	h.n.policy.Rules.WaitForAll = true
	h.looks(10*time.Second, 2, 3)
	h.want(h.ask(10*time.Second, ask), "the cluster is quorate")
	h = waiting(t)
	h.looks(10*time.Second, 2, 3)
	h.want(h.ask(10*time.Second, ask), "all nodes are there")
	if h.n.override != "" {
		t.Errorf("overridden by %q", h.n.override)
	}
}

// wait_for_all waits for those who do not count any more, too: where one of two ran alone
// last, nobody who counts is missing.
func TestTheWaitForWhoDoesNotCountIsOverridden(t *testing.T) {
	ask := Operator{Token: 7, Command: "quorum-override", Who: "root"}
	h := waiting(t)
	h.n.followVotes(h.n.policy.Of([]membership.NodeID{1}))
	h.looks(10 * time.Second)
	h.g.leader = 2
	h.n.followLeader()
	h.want(h.ask(10*time.Second, ask), "n2 leads, and waits for n2, n3: run it there")
	if do := h.report(10 * time.Second).Do; !strings.HasSuffix(do, "quorate quorum override, on n2, which leads") {
		t.Errorf("%q", do)
	}
	h.g.leader = 1
	h.n.followLeader()
	if h.tick(11 * time.Second); h.n.Member() {
		t.Fatal("admitted before the others were seen")
	}
	h.want(h.ask(11*time.Second, ask), "no longer waits for n2, n3, who left or was proved gone and does not count; follow")
	if !h.n.Member() {
		t.Error("still waits")
	}
	h = waiting(t)
	h.n.followVotes(h.n.policy.Of([]membership.NodeID{1}))
	h.g.leader = 0
	h.looks(10 * time.Second)
	h.ask(10*time.Second, ask)
	h.want(h.ask(10*time.Second, ask), "said already, by root")
}

// The policy that the report explains is the one that the machine decides by.
func TestTheReportIsOfThePolicyInForce(t *testing.T) {
	h := newHolder(t)
	h.n.policy = quorum.Policy{Votes: map[membership.NodeID]int{1: 1, 2: 1}}
	s := h.n.quorumSituation()
	if got := s.Policy.Of(s.Electorate).Quorate(s.Present); got != h.n.policy.Quorate(s.Present) {
		t.Errorf("%+v", got)
	}
}

func TestTheReportSaysWhatATakeoverWaitsFor(t *testing.T) {
	h := newHolder(t)
	h.n.noTakeover = "it is a quorum"
	h.looks(10*time.Second, 2, 3)
	h.n.noTakeover = "it is a quorum"
	if r := h.report(10 * time.Second); r.Takeover != "" {
		t.Errorf("in a quorum: %q", r.Takeover)
	}
	h.looks(20 * time.Second)
	beta, gamma := &shot{victim: h.m[1]}, &shot{victim: h.m[2], proof: &cluster.TakeoverProof{}}
	for _, c := range []struct {
		t    *takeover
		why  string
		want string
	}{
		{nil, "no rule of [quorum]", "no rule of [quorum]"},
		{&takeover{rule: quorum.TwoNode}, "", "by two_node, when it is this node's turn to fence"},
		{&takeover{rule: quorum.TwoNode, shots: []*shot{beta, gamma}}, "", "by two_node, with proof that these are gone: n2; see"},
		{&takeover{rule: quorum.TwoNode, shots: []*shot{gamma}}, "", "by two_node, as soon as it is agreed"},
	} {
		h.n.takeover, h.n.noTakeover = c.t, c.why
		if r := h.report(20 * time.Second); !strings.HasPrefix(r.Takeover, c.want) {
			t.Errorf("%q, want %q", r.Takeover, c.want)
		}
	}
}

// An override counts where it can be of use, and says so where it cannot.
func TestTheReportOfAnOverride(t *testing.T) {
	h := newHolder(t)
	h.looks(20 * time.Second)
	h.n.override = "root"
	if r := h.report(20 * time.Second); r.Override != "root" || r.Missing != "1 vote, of n2 or n3; override is for half of the nodes, and here are 1 of 3" {
		t.Errorf("%+v", r)
	}
	h.n.policy = h.n.policy.Of([]membership.NodeID{1, 2})
	if r := h.report(20 * time.Second); r.Missing != "1 vote, of n2; or proof that n2 is gone: then it goes on by override" {
		t.Errorf("%+v", r)
	}
}

// unformed is a group that was in no cluster yet.
type unformed struct{ stuck }

func (g *unformed) Status() membership.GroupStatus {
	return membership.GroupStatus{Waiting: "first start: waiting for node 2, 3"}
}

func TestAFirstStartIsNotOverridden(t *testing.T) {
	h := waiting(t)
	h.n.group = &unformed{}
	r := h.report(0)
	if r.Text != "not yet: no cluster is formed; 1 of 3 votes, 2 needed: 1 missing" || r.Missing != "first start: waiting for node 2, 3" || r.Rule != "first_start" || r.Takeover != "" || r.Awaited != nil {
		t.Errorf("%+v", r)
	}
	h.want(h.ask(time.Second, Operator{Token: 7, Command: "quorum-override", Who: "root"}), "a first start needs every configured node: first start: waiting for node 2, 3")
	for _, w := range h.n.Status(0, nil).Waits {
		if strings.Contains(w.Command, "override") {
			t.Errorf("%+v", w)
		}
	}
}

func TestTheWaitForAllNamesWhatToDo(t *testing.T) {
	h := waiting(t)
	h.looks(10*time.Second, 2)
	for _, w := range h.n.Status(membership.Mono(10*time.Second), nil).Waits {
		if w.Command == "start quorated on n3; if that will not come up: quorate quorum override" && w.Owner == 3 && strings.HasSuffix(w.Reason, "not seen: n3") {
			return
		}
	}
	t.Errorf("%+v", h.n.Status(membership.Mono(10*time.Second), nil).Waits)
}

// vetting is a group that was started anew and has not heard what others saw of its log.
type vetting struct{ forcer }

func (g *vetting) Status() membership.GroupStatus {
	return membership.GroupStatus{Formed: true, Waiting: "restarted: asking a majority of the voters what they saw from this node"}
}

// Where an override would let a node go on that was in no quorate view since it booted,
// status and the report name it, and where it would not they do not.
func TestTheOverrideIsNamedWhereItHelps(t *testing.T) {
	const do = "start quorated on n2; if that will not come up: quorate quorum override"
	for name, c := range map[string]struct {
		nodes   int
		hears   []membership.NodeID
		prepare func(v *survivor)
		want    string
	}{
		"one of two":                      {2, nil, func(*survivor) {}, do},
		"one of two, without a rule":      {2, nil, func(v *survivor) { v.n.cfg.Quorum, v.n.policy.Rules = membership.Quorum{}, membership.Quorum{} }, do},
		"it was in a quorate view":        {2, nil, func(v *survivor) { v.n.seasoned = true }, ""},
		"it is overridden":                {2, nil, func(v *survivor) { v.n.override = "root" }, ""},
		"its log cannot be written":       {2, nil, func(v *survivor) { v.n.group.(*vetting).may = "no" }, ""},
		"one of three":                    {3, nil, func(*survivor) {}, ""},
		"two of four, of which each asks": {4, []membership.NodeID{2}, func(*survivor) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := newSurvivor(t, c.nodes, membership.Quorum{TwoNode: c.nodes == 2, WaitForAll: true})
			v.n.group, v.n.seasoned = &vetting{forcer{voters: c.nodes, heard: 1 + len(c.hears)}}, false
			c.prepare(v)
			v.run(time.Second, c.hears...)
			s := v.n.Status(membership.Mono(v.now), nil)
			if s.Quorum.Do != c.want {
				t.Errorf("%q", s.Quorum.Do)
			}
			for _, w := range s.Waits {
				if w.For == "quorum" && strings.Contains(w.Command, "override") != (c.want != "") {
					t.Errorf("%+v", w)
				}
			}
		})
	}
}

// Who left cleanly is neither fenced nor waited for: the other one of two says so until it
// goes on, and by which rule afterwards.
func TestOneOfTwoSaysThatTheOtherLeft(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	v.run(time.Second, 2)
	v.n.st.Nodes[1].Left = true
	v.n.st.View.Members, v.n.st.View.Quorate = v.n.st.View.Members[:1], false
	v.n.newView()
	v.g.heard = 1
	v.run(250 * time.Millisecond)
	s := v.n.Status(membership.Mono(v.now), nil)
	const want = "n2 left cleanly; n1 goes on alone in "
	i := slices.IndexFunc(s.Waits, func(w control.Wait) bool { return w.Rule == "two_node" })
	if i < 0 || !strings.HasPrefix(s.Waits[i].Reason, want) || s.Waits[i].Deadline <= 0 || !strings.HasPrefix(s.Quorum.Takeover, want) {
		t.Errorf("%+v, %q", s.Waits, s.Quorum.Takeover)
	}
	if s.Quorum.Missing != "an agreement of those who are here: n2 left cleanly, and it goes on by two_node; or 1 vote, of n2" {
		t.Errorf("%q", s.Quorum.Missing)
	}
	v.run(2 * time.Second)
	if len(v.g.forced) != 1 || len(v.ran) != 0 {
		t.Fatalf("%+v, agents %+v", v.g.forced, v.ran)
	}
	r := v.n.Status(membership.Mono(v.now), nil).Quorum
	if r.Rule != "two_node" || r.Nodes[1].Why != "left cleanly (two_node)" {
		t.Errorf("%+v", r)
	}
}

// An added node does not count before its first admission where some of the others did
// not count either; that is no rule's doing.
func TestTheReportOfAnAddedNode(t *testing.T) {
	h := newHolder(t)
	h.looks(10*time.Second, 2)
	h.n.policy = h.n.policy.Of([]membership.NodeID{1, 2})
	h.n.st.View.Members, h.n.st.Nodes = h.m[:2], h.n.st.Nodes[:2]
	if r := h.report(10 * time.Second); r.Rule != "majority" || r.Nodes[2].Why != "not admitted yet" {
		t.Errorf("%+v", r)
	}
}
