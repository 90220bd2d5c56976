package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

const wid = membership.FirstWitness

// voting is a group in which the witness votes, or not.
type voting struct {
	echo
	voters []membership.NodeID
	nodes  []membership.NodeID
	links  []membership.GroupLink
	judge  membership.GroupJudge
}

func (g *voting) Step(now membership.Mono, in ...membership.GroupInput) []membership.GroupEffect {
	for _, i := range in {
		switch i := i.(type) {
		case membership.GroupLink:
			g.links = append(g.links, i)
		case membership.GroupJudge:
			g.judge = i
		}
	}
	return g.echo.Step(now, in...)
}

func (g *voting) SetNodes(nodes []membership.NodeID) { g.nodes = nodes }
func (g *voting) Status() membership.GroupStatus {
	s := g.echo.Status()
	s.Voters, s.ClusterID = g.voters, "c1"
	return s
}

// witnessed is node 1 of two, whose other is silent, with a witness.
type witnessed struct {
	t *testing.T
	n *Node
	g *voting
	e []Effect
}

func newWitnessed(t *testing.T) *witnessed {
	cfg := membership.Config{Self: 1, Nodes: []membership.Node{{ID: 1, Name: "n1", Votes: 1}, {ID: 2, Name: "n2", Votes: 1}},
		Timing: membership.Timing{Interval: 40 * time.Millisecond, DeadAfter: 200 * time.Millisecond, LinkSettle: time.Second, StallLimit: time.Minute, RecoveryStall: time.Minute}}
	y := &witnessed{t: t, g: &voting{echo: echo{leader: 1}, voters: []membership.NodeID{1, 2}}}
	y.n, y.e = New(1, Options{Config: cfg, Group: y.g, Identity: Identity{Boot: "a", Instance: 1, Machine: "a"}})
	m := []membership.Incarnation{{Node: 1, Boot: "a"}, {Node: 2, Boot: "b"}}
	y.n.st.View = membership.View{Number: 2, Quorate: true, Members: m}
	y.n.st.Nodes = []cluster.NodeRecord{{Node: 1, Instance: 1, Last: m[0]}, {Node: 2, Instance: 1, Last: m[1]}}
	y.n.newView()
	return y
}

func (y *witnessed) step(at time.Duration, in Input) []Effect {
	y.e = y.n.Step(membership.Mono(at), in)
	return y.e
}

func (y *witnessed) add(at time.Duration) string {
	y.t.Helper()
	w := cluster.Witness{Name: "eye", Addr: "w:21062", Fingerprint: strings.Repeat("0", 64)}
	for _, e := range y.step(at, Operator{Token: 3, Command: "witness-add", Witness: &w, Who: "root"}) {
		if r, ok := e.(Reply); ok {
			return r.Text + r.Err
		}
	}
	y.t.Fatal("no answer")
	return ""
}

// pings answers what the witness was asked in the last step.
func (y *witnessed) pings(at time.Duration) (asked bool) {
	for _, e := range y.e {
		if s, ok := e.(Send); ok && s.To == wid {
			if pong, _, ok := Pong(s.Data); ok {
				asked = true
				y.step(at, Received{From: wid, Data: pong})
			}
		}
	}
	return asked
}

func find[T Effect](effs []Effect) (found []T) {
	for _, e := range effs {
		if x, ok := e.(T); ok {
			found = append(found, x)
		}
	}
	return found
}

func TestAWitnessIsAgreedDialledAndCounted(t *testing.T) {
	y := newWitnessed(t)
	if text := y.add(time.Second); !strings.Contains(text, "the witness eye at w:21062 is added") {
		t.Fatal(text)
	}
	d := find[DialWitness](y.e)
	if len(d) != 1 || d[0].Witness == nil || d[0].Witness.ID != wid || d[0].ClusterID != "c1" || !slices.Equal(y.g.nodes, []membership.NodeID{1, 2, wid}) {
		t.Fatalf("%+v, nodes %v", d, y.g.nodes)
	}
	if text := y.add(time.Second); !strings.Contains(text, "already") {
		t.Error(text)
	}
	if v := y.n.votes(); v.Expected != 3 {
		t.Errorf("%+v", v)
	}
	y.step(2*time.Second, Connected{Peer: wid})
	if !y.pings(2*time.Second) || len(y.g.links) != 1 || y.g.links[0] != (membership.GroupLink{Peer: wid, Up: true}) {
		t.Fatalf("no ping, or no link: %v", y.g.links)
	}
	if !slices.Contains(y.g.judge.Hears, wid) || y.n.WitnessCounts() {
		t.Errorf("the group hears %v, counted %v, and it does not vote yet", y.g.judge.Hears, y.n.WitnessCounts())
	}
	y.g.voters = []membership.NodeID{1, 2, wid}
	y.step(2100*time.Millisecond, Timer{})
	y.step(2200*time.Millisecond, Timer{}) // liveness looks at what it was told
	if !y.n.WitnessCounts() || !y.n.quorate {
		t.Errorf("counted %v, quorate %v with the witness alone", y.n.WitnessCounts(), y.n.quorate)
	}
}

// Its silence is seen after dead_after, and a second at least; then its vote is gone.
func TestAWitnessThatIsSilent(t *testing.T) {
	y := newWitnessed(t)
	y.g.voters = []membership.NodeID{1, 2, wid}
	y.add(time.Second)
	y.step(time.Second, Connected{Peer: wid})
	y.pings(time.Second)
	at := time.Second
	until := func(end time.Duration) {
		for at < end {
			at += 20 * time.Millisecond
			y.step(at, Timer{})
		}
	}
	until(1980 * time.Millisecond)
	if !y.n.WitnessCounts() {
		t.Fatal("its silence is seen too soon")
	}
	if d := y.n.Deadline(); d > membership.Mono(2*time.Second+time.Millisecond) {
		t.Errorf("nobody looks at its time: %v", d)
	}
	until(2100 * time.Millisecond)
	if y.n.WitnessCounts() || y.n.quorate || slices.Contains(y.g.judge.Hears, wid) {
		t.Errorf("counted %v, quorate %v, the group hears %v", y.n.WitnessCounts(), y.n.quorate, y.g.judge.Hears)
	}
	if w := strings.Join(y.n.warnings(), "\n"); !strings.Contains(w, "the witness eye (w:21062) has not been heard for") {
		t.Error(w)
	}
	if why := y.n.hearsWhom(); !strings.Contains(why, "not the witness eye") || !strings.Contains(why, "1 of 3 votes, 2 needed") {
		t.Error(why)
	}
	s := y.n.Status(membership.Mono(3*time.Second), nil)
	if s.Witness == nil || !s.Witness.Votes || s.Witness.Heard != 2*time.Second || !s.Witness.Connected {
		t.Errorf("%+v", s.Witness)
	}
}

// An answer that was long on its way says nothing of now, nor does one that was not asked for.
func TestAnswersThatSayNothing(t *testing.T) {
	y := newWitnessed(t)
	y.add(time.Second)
	y.step(time.Second, Connected{Peer: wid})
	pong, _, _ := Pong(Ping(membership.Mono(time.Second), time.Second))
	y.step(2500*time.Millisecond, Received{From: wid, Data: pong})
	early, _, _ := Pong(Ping(membership.Mono(time.Hour), time.Second))
	y.step(2500*time.Millisecond, Received{From: wid, Data: early})
	for _, b := range [][]byte{nil, []byte("Q"), pong[:5], []byte("H{}"), []byte("?")} {
		y.step(2500*time.Millisecond, Received{From: wid, Data: b})
	}
	if y.n.witness.hears {
		t.Error("it is taken for heard")
	}
	y.step(2600*time.Millisecond, Connected{Peer: wid + 1})
	y.step(2600*time.Millisecond, Received{From: wid + 1, Data: pong})
	if len(y.g.links) != 1 {
		t.Errorf("another than the agreed witness has a link: %v", y.g.links)
	}
}

func TestAWitnessIsRemoved(t *testing.T) {
	y := newWitnessed(t)
	remove := Operator{Token: 4, Command: "witness-remove", Who: "root"}
	if r := find[Reply](y.step(time.Second, remove)); len(r) != 1 || !strings.Contains(r[0].Err, "no witness") {
		t.Errorf("%+v", r)
	}
	y.add(time.Second)
	refused := "without the witness eye the members that are heard (n1) are no quorum"
	if r := find[Reply](y.step(time.Second, remove)); len(r) != 1 || !strings.Contains(r[0].Err, refused) {
		t.Errorf("a member that is silent: %+v", r)
	}
	y.step(time.Second, Timer{Samples: []membership.Sample{{Peer: 2, Heard: membership.Mono(time.Second)}}})
	y.n.st.View.Members = y.n.st.View.Members[:1]
	if r := find[Reply](y.step(time.Second, remove)); len(r) != 1 || !strings.Contains(r[0].Err, refused) {
		t.Errorf("%+v", r)
	}
	y.n.st.View.Members = []membership.Incarnation{{Node: 1, Boot: "a"}, {Node: 2, Boot: "b"}}
	if r := find[Reply](y.step(time.Second, remove)); len(r) != 1 || r[0].Text != "the witness eye is removed; it may be switched off" {
		t.Errorf("%+v", r)
	}
	if d := find[DialWitness](y.e); len(d) != 1 || d[0].Witness != nil || !slices.Equal(y.g.nodes, []membership.NodeID{1, 2}) || y.n.votes().Expected != 2 {
		t.Errorf("%+v, %v, %+v", d, y.g.nodes, y.n.votes())
	}
	y.add(2 * time.Second)
	if y.n.st.Witness.ID != wid+1 {
		t.Errorf("%+v", y.n.st.Witness)
	}
}

// A hint is dialled, and votes for nothing before it is agreed; an old one is no news.
func TestAHintOfAWitness(t *testing.T) {
	y := newWitnessed(t)
	y.g.voters = []membership.NodeID{1, 2, wid}
	w := cluster.Witness{ID: wid, Name: "eye", Addr: "w:21062", Fingerprint: strings.Repeat("0", 64), Who: "root"}
	y.n.hintWitness(&w)
	y.e = y.n.take()
	if d := find[DialWitness](y.e); len(d) != 1 || d[0].Witness == nil || !slices.Equal(y.g.nodes, []membership.NodeID{1, 2, wid}) {
		t.Fatalf("%+v", d)
	}
	y.step(time.Second, Connected{Peer: wid})
	y.pings(time.Second)
	if !slices.Contains(y.g.judge.Hears, wid) || y.n.WitnessCounts() || y.n.votes().Expected != 2 {
		t.Errorf("hears %v, counts %v, %+v", y.g.judge.Hears, y.n.WitnessCounts(), y.n.votes())
	}
	y.add(time.Second) // the same becomes agreed
	y.step(1100*time.Millisecond, Timer{})
	if len(find[DialWitness](y.e)) != 0 || !y.n.WitnessCounts() || y.n.votes().Expected != 3 {
		t.Errorf("counts %v, %+v", y.n.WitnessCounts(), y.n.votes())
	}
	y.n.hintWitness(&w)
	bad := w
	bad.ID, bad.Addr = wid+3, "nowhere"
	y.n.hintWitness(&bad)
	if y.n.hinted != nil {
		t.Errorf("taken for news: %+v", y.n.hinted)
	}
}

func TestAWitnessThatIsNoUse(t *testing.T) {
	y := newWitnessed(t)
	w := cluster.Witness{Name: "eye", Addr: "w:21062", Fingerprint: strings.Repeat("0", 64)}
	for want, spoil := range map[string]func(){
		"is not host:port":   func() { w.Addr = "w" },
		"a single node":      func() { y.n.cfg.Nodes = y.n.cfg.Nodes[:1] },
		"a list's word":      func() { y.n.list = &List{} },
		"contradict each":    func() { y.n.policy.Rules.TieBreaker.Mode = membership.TieLowest },
		"does not work with": func() { y.n.policy.Rules.LastManStanding = true },
		"no place":           func() { y.g.voters = make([]membership.NodeID, maxVoters) },
		"nothing can be ag":  func() { y.n.leader = 0 },
	} {
		y = newWitnessed(t)
		w.Addr = "w:21062"
		spoil()
		if why := y.n.RefusesWitness(&w); !strings.Contains(why, want) {
			t.Errorf("%q, not %q", why, want)
		}
	}
}

// Where one node alone counts, by a takeover or since the other has left, the witness's vote
// rests: the node would stand still without it. It counts again with the second node.
func TestTheWitnessRestsBesideASingleNode(t *testing.T) {
	y := newWitnessed(t)
	y.g.voters = []membership.NodeID{1, 2, wid}
	y.add(time.Second)
	y.step(time.Second, Connected{Peer: wid})
	y.pings(time.Second)
	y.n.st.Electorate = []membership.NodeID{1}
	y.n.followElectorate()
	y.n.followVoters()
	if !slices.Equal(y.g.nodes, []membership.NodeID{1, 2}) || y.n.policy.Witness != 0 || !y.n.quorum([]membership.NodeID{1}) || !slices.Equal(y.n.electorate(), []membership.NodeID{1}) {
		t.Fatalf("the group has %v, %+v", y.g.nodes, y.n.policy)
	}
	links := len(y.g.links)
	y.n.st.Electorate = []membership.NodeID{1, 2}
	y.n.followElectorate()
	y.n.followVoters()
	y.step(1100*time.Millisecond, Timer{})
	if !slices.Equal(y.g.nodes, []membership.NodeID{1, 2, wid}) || y.n.policy.Witness != wid || !slices.Equal(y.n.electorate(), []membership.NodeID{1, 2}) {
		t.Fatalf("the group has %v, %+v", y.g.nodes, y.n.policy)
	}
	if len(y.g.links) != links+1 || !y.g.links[links].Up {
		t.Errorf("the group does not know that the witness is connected: %v", y.g.links)
	}
}

// The report on votes has the witness among those who count, there or not.
func TestTheReportHasTheWitness(t *testing.T) {
	y := newWitnessed(t)
	y.g.voters = []membership.NodeID{1, 2, wid}
	y.add(time.Second)
	at := time.Second
	look := func() (x struct {
		present bool
		state   string
		text    string
	}) {
		at += 20 * time.Millisecond
		y.step(at, Timer{Samples: []membership.Sample{{Peer: 2, Heard: membership.Mono(at)}}})
		r := y.n.Status(membership.Mono(at), nil).Quorum
		if len(r.Nodes) != 3 || r.Nodes[2].ID != wid || !r.Nodes[2].Counts || r.Expected != 3 {
			t.Fatalf("%+v", r)
		}
		x.present, x.state, x.text = r.Nodes[2].Present, r.Nodes[2].State, r.Text
		return x
	}
	if x := look(); x.present || x.state != "silent" || !strings.HasPrefix(x.text, "quorate: 2 of 3 votes, 2 needed; the loss of any node stops") {
		t.Errorf("%+v", x)
	}
	y.step(at, Connected{Peer: wid})
	y.pings(at)
	look()
	if x := look(); !x.present || x.state != "witness" || !strings.HasPrefix(x.text, "quorate: 3 of 3 votes, 2 needed") {
		t.Errorf("%+v", x)
	}
}

// A node that has booted and leads with the witness alone does not take a job of the other,
// which it never heard, for over: that one may stand still in its middle.
func TestAJobOfWhoWasNeverHeardIsNotOver(t *testing.T) {
	y := newWitnessed(t)
	other := membership.Incarnation{Node: 2, Boot: "b"}
	if !y.n.standsStill(other) || y.n.standsStill(y.n.Self()) {
		t.Error("a member that was never heard")
	}
	y.n.st.View.Members = y.n.st.View.Members[:1]
	if y.n.standsStill(other) {
		t.Error("one that is no member, and was never heard, would be waited for for ever")
	}
}
