package node

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
)

// alone is a group of one side, which has rivals.
type alone struct {
	echo
	ids   []membership.NodeID
	heard bool
	given bool
}

func (g *alone) Status() membership.GroupStatus {
	s := g.echo.Status()
	if s.Rivals = g.ids; len(g.ids) > 0 {
		s.Waiting = "n3, n4 and this node each went on without the other (generation 1)"
	}
	return s
}

func (g *alone) Rejoin() bool { g.given = g.heard; return g.heard }

func (g *alone) RivalGone(id membership.NodeID) bool {
	if g.heard {
		return false
	}
	g.ids = membership.Without(g.ids, id)
	return true
}

// side is node 1 of two of four that went on alone, with a lockspace that runs.
type side struct {
	*holder
	g   *alone
	now time.Duration
	out []lockspace.Effect
}

func newSide(t *testing.T) *side {
	cfg := membership.Config{Self: 1, Timing: membership.Timing{Interval: 40 * time.Millisecond, DeadAfter: 200 * time.Millisecond, LinkSettle: time.Second, StallLimit: time.Hour, RecoveryStall: time.Hour}}
	for id := membership.NodeID(1); id <= 4; id++ {
		cfg.Nodes = append(cfg.Nodes, membership.Node{ID: id, Name: "n" + string('0'+rune(id)), Votes: 1})
	}
	s := &side{g: &alone{echo: echo{leader: 1}}, now: time.Second}
	s.holder = &holder{t: t, m: []membership.Incarnation{{Node: 1, Boot: "a"}, {Node: 2, Boot: "b"}}}
	s.n, _ = New(1, Options{Config: cfg, Group: s.g, Identity: Identity{Boot: "a", Instance: 1, Machine: "a"}})
	s.n.st.Electorate = []membership.NodeID{1, 2}
	s.n.followElectorate()
	s.n.followVoters()
	s.n.st.View = membership.View{Number: 3, Quorate: true, Members: s.m}
	s.n.st.Nodes = []cluster.NodeRecord{{Node: 1, Instance: 1, Last: s.m[0]}, {Node: 2, Instance: 2, Last: s.m[1]}}
	s.n.set.View(1, s.n.st.View)
	s.n.newView()
	s.hear(3*time.Second, 2)
	s.give(Kernel{In: lockspace.Online{Lockspace: "gfs"}})
	if p, _, _ := s.n.local.Phase("gfs"); p != lockspace.Running {
		t.Fatalf("%v: %+v, quorate %v, member %v", p, s.out, s.n.quorate, s.n.Member())
	}
	return s
}

// give is a step; the kernel does at once what it is asked for.
func (s *side) give(in Input) {
	s.driven(s.n.Step(membership.Mono(s.now), in))
}

// asks is what an operator is answered.
func (s *side) asks(in Operator, words string) {
	s.t.Helper()
	effs := s.n.Step(membership.Mono(s.now), in)
	s.want(s.replies(effs), words)
	s.driven(effs)
}

func (s *side) driven(effs []Effect) {
	for _, e := range effs {
		d, ok := e.(Drive)
		if !ok {
			continue
		}
		s.out = append(s.out, d.Effect)
		switch e := d.Effect.(type) {
		case lockspace.Stop:
			s.give(Kernel{In: lockspace.StopDone{Lockspace: e.Lockspace, Token: e.Token}})
		case lockspace.Start:
			s.give(Kernel{In: lockspace.StartDone{Lockspace: e.Lockspace, Token: e.Token}})
			s.give(Kernel{In: lockspace.RecoverDone{Lockspace: e.Lockspace, Token: e.Token}})
		case lockspace.AnswerJoin:
			s.give(Kernel{In: lockspace.JoinDone{Lockspace: e.Lockspace, Token: e.Token}})
		}
	}
}

// hear lets time pass while some nodes are heard.
func (s *side) hear(d time.Duration, ids ...membership.NodeID) {
	for end := s.now + d; s.now < end; s.now += 20 * time.Millisecond {
		var heard []membership.Sample
		for _, id := range ids {
			p := s.n.peers[id]
			p.connected, p.hello, p.helloAt = true, &Hello{Protocol: Protocol, Boot: membership.BootID('a' - 1 + rune(id)), Instance: uint64(id), Machine: "m"}, membership.Mono(s.now)
			r := liveness.Row{From: id, Round: uint64(s.now), Instance: uint64(id)}
			for o := range s.n.peers {
				r.Ages = append(r.Ages, liveness.Age{Peer: o, Instance: uint64(o)})
			}
			r.Ages = append(r.Ages, liveness.Age{Peer: 1, Instance: 1})
			s.n.gotRow(id, p, encodeRow(r))
			heard = append(heard, membership.Sample{Peer: id, Heard: membership.Mono(s.now), Instance: uint64(id)})
		}
		s.give(Timer{Samples: heard})
	}
}

// meets has the group learn of rivals, which are heard.
func (s *side) meets(ids ...membership.NodeID) {
	s.g.ids, s.g.heard = ids, true
	s.give(Received{From: 2, Data: envelope(kindGroup, nil)})
}

func TestRivalsRunNothingAndAdmitNobody(t *testing.T) { // S16
	s := newSide(t)
	s.meets(3, 4)
	if p, _, _ := s.n.local.Phase("gfs"); p != lockspace.Stopped {
		t.Fatalf("it is %v: new locks are granted", p)
	}
	s.out = nil
	s.hear(30*time.Second, 2, 3, 4)
	if ids := s.n.Members(); !slices.Equal(ids, []membership.NodeID{1, 2}) {
		t.Fatalf("members %v", ids)
	}
	if slices.ContainsFunc(s.out, func(e lockspace.Effect) bool { _, ok := e.(lockspace.Start); return ok }) {
		t.Fatalf("it was started: %+v", s.out)
	}
	st := s.n.Status(membership.Mono(s.now), nil)
	if st.Quorate || st.Quorum.Quorate || strings.HasPrefix(st.Quorum.Text, "quorate") || !strings.Contains(st.Quorum.Missing, "n3, n4 went on without this node") {
		t.Errorf("%+v", st.Quorum)
	}
	if !slices.ContainsFunc(st.Warnings, func(w string) bool { return strings.Contains(w, "check the file systems") }) {
		t.Errorf("%q", st.Warnings)
	}
	s.g.ids = nil
	s.give(Received{From: 2, Data: envelope(kindGroup, nil)})
	s.hear(30*time.Second, 2, 3, 4)
	if ids := s.n.Members(); !slices.Equal(ids, []membership.NodeID{1, 2, 3, 4}) {
		t.Fatalf("members %v, and there is no rival any more", ids)
	}
	if p, _, _ := s.n.local.Phase("gfs"); p != lockspace.Running {
		t.Fatalf("it is %v", p)
	}
}

func TestWhatToDoAboutRivals(t *testing.T) {
	s := newSide(t)
	s.meets(3, 4)
	s.hear(time.Second, 2, 3)
	w := s.wait(s.now, "cluster", "quorum")
	want := "quorate init --rejoin: on each of n3, n4 (it forgets what was agreed there since, and the part of n1, n2 stays), or on each of n1, n2 (the part of n3, n4 stays); " +
		"first reboot a node there that uses lockspaces"
	if w.Command != want || !strings.HasSuffix(w.Reason, "; not heard now: n4") {
		t.Errorf("%+v", w)
	}
	s.n.peers[3].connected = false
	if w := s.wait(s.now, "cluster", "quorum"); w.Command != "bring n3, n4 up, or the network; or, only when off, on each of n1, n2: quorate fence ack n3; quorate fence ack n4" {
		t.Errorf("%+v", w)
	}
}

// A log is given up where there is a rival, by a member, too, which each of them is of its own view.
func TestALogIsGivenUpWhereThereIsARival(t *testing.T) {
	ask := Operator{Token: 7, Command: "rejoin", Who: "root"}
	s := newSide(t)
	s.asks(ask, "no other node went on without this one")
	s.meets(3, 4)
	s.asks(ask, "in use here: gfs, and nothing can be unmounted while they stand still: reboot this node without mounting them, and run this again when quorated is up: then it joins n3, n4 anew")
	if s.g.given {
		t.Fatal("given up with lockspaces in use")
	}
	s.n.local = lockspace.NewLocal()
	s.g.heard = false
	s.asks(ask, "there is nobody to join")
	s.g.heard = true
	s.asks(ask, "it joins n3, n4 anew, when it is given up on n2, too")
	if !s.g.given {
		t.Fatal("not given up")
	}
}

func TestARivalThatIsOffIsNone(t *testing.T) {
	ack := Operator{Token: 7, Command: "fence-ack", Node: 3, Who: "root"}
	s := newSide(t)
	s.meets(3)
	s.asks(ack, "n3 answers: it is not off")
	s.g.heard = false
	s.asks(ack, "n3 is taken as gone")
	if s.n.rivalled() {
		t.Fatal("it is a rival still")
	}
	s.hear(5*time.Second, 2)
	if p, _, _ := s.n.local.Phase("gfs"); p != lockspace.Running {
		t.Fatalf("it is %v", p)
	}
}

// Another member hears what this node does not.
func TestAMemberTellsOfRivals(t *testing.T) {
	s := newSide(t)
	tell := func(ids ...membership.NodeID) {
		b, err := json.Marshal(Hello{Protocol: Protocol, Boot: "b", Instance: 2, Machine: "m", Leaving: true, Rivals: ids})
		if err != nil {
			t.Fatal(err)
		}
		s.give(Received{From: 2, Data: envelope(kindHello, b)})
	}
	tell(1, 3)
	if p, _, _ := s.n.local.Phase("gfs"); p != lockspace.Stopped || !slices.Equal(s.n.rivals, []membership.NodeID{3}) {
		t.Fatalf("it is %v, rivals %v", p, s.n.rivals)
	}
	s.asks(Operator{Token: 7, Command: "fence-ack", Node: 3, Who: "root"}, "this node has not met n3")
	if w := s.wait(s.now, "cluster", "quorum"); !strings.HasPrefix(w.Command, "quorate init --rejoin: on n3") {
		t.Errorf("%+v", w)
	}
	tell()
	if s.n.rivalled() {
		t.Fatal("for ever")
	}
	tell(3)
	s.give(Disconnected{Peer: 2, Err: "gone"})
	if s.n.rivalled() {
		t.Fatal("by the word of one that is gone")
	}
	s.n.st.View.Members = s.m[:1]
	s.n.peers[2].connected = true
	if tell(3); s.n.rivalled() {
		t.Fatal("by the word of one that is no member")
	}
}

// A member that cannot hear that a rival has given up its log keeps the others waiting: they
// say whose word it is, and not to give up a log that is given up already.
func TestARivalByHearsay(t *testing.T) {
	s := newSide(t)
	s.hear(time.Second, 2, 3)
	s.n.peers[2].hello.Rivals = []membership.NodeID{3}
	s.give(Received{From: 2, Data: envelope(kindGroup, nil)})
	w := s.wait(s.now, "cluster", "quorum")
	if !strings.HasSuffix(w.Reason, "; that is the word of n2: by what this node hears from n3 the log there is given up") ||
		!strings.HasPrefix(w.Command, "bring the network between n2 and n3 up; or, only when") || !strings.HasSuffix(w.Command, "on n2: quorate fence ack n3") {
		t.Errorf("%+v", w)
	}
	s.meets(3) // it has not
	if w := s.wait(s.now, "cluster", "quorum"); !strings.HasPrefix(w.Command, "quorate init --rejoin: on n3") {
		t.Errorf("%+v", w)
	}
}

// What is known of a rival is not forgotten with its section: it may run.
func TestARivalIsNotRemoved(t *testing.T) {
	for name, c := range map[string]struct {
		rivals, nodes, replace []membership.NodeID
		no                     bool
	}{
		"removed":        {[]membership.NodeID{3}, []membership.NodeID{1, 2, 4}, nil, true},
		"replaced":       {[]membership.NodeID{3}, []membership.NodeID{1, 2, 3, 4}, []membership.NodeID{3}, true},
		"another one":    {[]membership.NodeID{3}, []membership.NodeID{1, 2, 3}, nil, false},
		"there are none": {nil, []membership.NodeID{1, 2, 4}, nil, false},
	} {
		s := newSide(t)
		s.meets(c.rivals...)
		ask := &cluster.ConfigChange{ConfigPropose: cluster.ConfigPropose{Nodes: c.nodes, Replace: c.replace}}
		s.n.conf = &configState{}
		for _, id := range c.nodes {
			s.n.conf.want.Nodes = append(s.n.conf.want.Nodes, membership.Node{ID: id})
		}
		why := s.n.unlike(ask)
		if s.n.conf = nil; (why != "") != c.no || c.no && !strings.HasSuffix(why, "or, only when it is off: quorate fence ack n3; see `quorate why`") {
			t.Errorf("%s: %q", name, why)
		}
	}
}

// Who is late while there are rivals has its time from their end.
func TestRivalsMakeNobodyStuck(t *testing.T) {
	s := newSide(t)
	late := &lockspace.Space{Name: "lvm", Change: &lockspace.Change{Seq: 1, Stop: []membership.NodeID{1, 2}, Acks: []membership.NodeID{1}}}
	s.n.st.Electorate = []membership.NodeID{1}
	s.n.followElectorate()
	s.meets(3)
	s.n.set.Spaces = append(s.n.set.Spaces, late)
	s.hear(stopLimit+5*time.Second, 2, 3)
	if !s.member(2) {
		t.Fatal("evicted, and nothing is started before one side has given up")
	}
	s.g.ids = nil
	s.give(Received{From: 2, Data: envelope(kindGroup, nil)})
	s.hear(stopLimit-time.Second, 2)
	if !s.member(2) {
		t.Fatal("evicted at once")
	}
	s.hear(2*time.Second, 2)
	if s.member(2) {
		t.Fatal("not evicted")
	}
}
