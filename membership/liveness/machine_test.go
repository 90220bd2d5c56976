package liveness

import (
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

const ms = time.Millisecond

// rig is one machine, node 1 of n, in profile lan, whose peers answer unless
// they are in mute.
type rig struct {
	t    *testing.T
	m    *Machine
	now  membership.Mono
	ids  []membership.NodeID
	mute map[membership.NodeID]membership.Mono // since when
	age  map[membership.NodeID]time.Duration   // of its daemon
	tell map[membership.NodeID][]membership.NodeID
	out  []Effect // of the last run

	blocked []membership.NodeID
	asks    membership.Mono // since when this node's prober stands still; 0: it does not
}

func newRig(t *testing.T, n int) *rig {
	r := &rig{t: t, now: membership.Mono(time.Hour), mute: map[membership.NodeID]membership.Mono{},
		age: map[membership.NodeID]time.Duration{}, tell: map[membership.NodeID][]membership.NodeID{}}
	for i := range n {
		r.ids = append(r.ids, membership.NodeID(i+1))
	}
	r.m = New(Config{Self: 1, Nodes: r.ids, Timing: profile("round"), Policy: quorum.Majority(r.ids...)}, r.now)
	r.m.Step(r.now, ViewIn{View: r.view(1, r.ids...)})
	r.m.Step(r.now, Leader{Node: 1})
	r.run(500 * ms)
	return r
}

func (r *rig) view(number uint64, ids ...membership.NodeID) membership.View {
	v := membership.View{Number: number, Quorate: true}
	for _, id := range ids {
		v.Members = append(v.Members, membership.Incarnation{Node: id, Boot: "b"})
	}
	return v
}

// look gives an Observed now.
func (r *rig) look() []Effect {
	var s []membership.Sample
	for _, id := range r.ids[1:] {
		asked := r.now
		if r.asks != 0 {
			asked = r.asks
		}
		heard := asked
		if at, is := r.mute[id]; is {
			heard = min(at, asked)
		}
		s = append(s, membership.Sample{Peer: id, Heard: heard, DaemonAge: r.age[id], Asked: asked})
	}
	out := r.m.Step(r.now, Observed{Samples: s, Blocked: r.blocked})
	r.out = append(r.out, out...)
	return out
}

// run answers the deadlines; those in tell send a row every 40 ms, which accuses the nodes listed.
func (r *rig) run(d time.Duration) {
	r.out = nil
	rows := r.now
	for end := r.now.Add(d); ; {
		next := min(max(r.m.Deadline(), r.now), end)
		if len(r.tell) > 0 && rows <= next {
			r.now, rows = max(rows, r.now), max(rows, r.now).Add(40*ms)
			for _, id := range r.ids {
				if bad, is := r.tell[id]; is {
					r.row(id, bad...)
				}
			}
			continue
		}
		if r.now = next; r.now >= end {
			return
		}
		r.look()
	}
}

// row gives a row of a peer that accuses some and hears the others.
func (r *rig) row(from membership.NodeID, silent ...membership.NodeID) {
	row := Row{From: from}
	for _, id := range r.ids {
		a := Age{Peer: id, DaemonAge: r.age[id]}
		if slices.Contains(silent, id) {
			a.Age, a.Path = 250*ms, 250*ms
		}
		if id != from {
			row.Ages = append(row.Ages, a)
		}
	}
	r.out = append(r.out, r.m.Step(r.now, RowIn{Row: row})...)
}

func (r *rig) silence(id membership.NodeID) { r.mute[id] = r.now }

// convicted is the last verdict of the run, and whether there was one.
func convicted(out []Effect) (ids []membership.NodeID, said bool) {
	for _, e := range out {
		if v, is := e.(Convicted); is {
			ids, said = nil, true
			for _, d := range v.Departures {
				ids = append(ids, d.Incarnation.Node)
			}
		}
	}
	return ids, said
}

func count[E Effect](out []Effect) (n int) {
	for _, e := range out {
		if _, is := e.(E); is {
			n++
		}
	}
	return n
}

func (r *rig) wantVerdict(want ...membership.NodeID) {
	r.t.Helper()
	if got, _ := convicted([]Effect{Convicted{Departures: r.m.verdict}}); !slices.Equal(got, want) {
		r.t.Fatalf("at %v the verdict is %v, want %v", r.now.Sub(membership.Mono(time.Hour)), got, want)
	}
}

func TestOneRowThatHearsStopsConviction(t *testing.T) {
	r := newRig(t, 5)
	r.tell = map[membership.NodeID][]membership.NodeID{2: {5}, 3: {5}, 4: nil}
	r.silence(5)
	r.run(200*ms + 270*ms) // before link_settle is over
	r.wantVerdict()
	r.tell[4] = []membership.NodeID{5}
	r.run(50 * ms)
	r.wantVerdict(5)
}

func TestRowOfASilentNodeIsVoid(t *testing.T) {
	r := newRig(t, 5)
	r.tell = map[membership.NodeID][]membership.NodeID{2: {4, 5}, 3: {4, 5}, 4: nil, 5: nil}
	r.silence(4)
	r.silence(5)
	r.run(210 * ms) // 4 and 5 say that they hear each other
	r.wantVerdict(4, 5)
}

func TestVerdictNeedsQuorum(t *testing.T) {
	r := newRig(t, 5)
	r.tell = map[membership.NodeID][]membership.NodeID{2: {3, 4, 5}}
	for _, id := range r.ids[2:] {
		r.silence(id)
	}
	r.run(5 * time.Second)
	r.wantVerdict()
	if r.m.quorate || count[QuorumChanged](r.out) != 1 {
		t.Errorf("quorate %v, said %d times", r.m.quorate, count[QuorumChanged](r.out))
	}
}

func TestVerdictIsRepeatedAndTakenBack(t *testing.T) {
	r := newRig(t, 3)
	r.tell = map[membership.NodeID][]membership.NodeID{2: {3}}
	r.silence(3)
	r.run(3300 * ms)
	if n := count[Convicted](r.out); n != 4 {
		t.Errorf("said %d times in 3.1 s", n)
	}
	delete(r.mute, 3)
	r.run(100 * ms)
	if ids, said := convicted(r.out); len(ids) > 0 || !said || count[Cleared](r.out) != 1 {
		t.Errorf("%v, %v", ids, r.out)
	}
}

func TestRowsBeforeAPauseAreVoid(t *testing.T) {
	r := newRig(t, 3)
	r.tell = map[membership.NodeID][]membership.NodeID{2: {3}}
	r.silence(3)
	r.run(230 * ms)
	r.wantVerdict(3)
	clear(r.tell)
	r.now = r.now.Add(130 * ms)
	if out := r.look(); count[Paused](out) != 1 {
		t.Fatalf("%v", out)
	}
	r.wantVerdict()
	r.run(150 * ms) // the old row would still be young enough
	r.wantVerdict()
	r.row(2, 3)
	r.run(ms)
	r.wantVerdict(3)
}

func TestNoVerdictJustAfterAPause(t *testing.T) {
	r := newRig(t, 3)
	r.tell = map[membership.NodeID][]membership.NodeID{2: {3}}
	r.silence(3)
	r.run(230 * ms)
	r.now = r.now.Add(time.Second)
	r.look()
	r.run(75 * ms) // what waited in the queue accuses
	r.wantVerdict()
	r.run(10 * ms)
	r.wantVerdict(3)
}

func TestFlappingLinkCannotPutTheChoiceOff(t *testing.T) {
	r := newRig(t, 5)
	r.tell = map[membership.NodeID][]membership.NodeID{2: {3}, 3: {2}, 4: nil, 5: nil}
	var took time.Duration
	for ; took < 2*time.Second && len(r.m.verdict) == 0; took += 100 * ms {
		if r.tell[4] = nil; took/(100*ms)%2 == 0 {
			r.tell[4] = []membership.NodeID{5}
		}
		r.run(100 * ms)
	}
	if took < 800*ms || took > 1000*ms {
		t.Errorf("chosen after %v, want three times link_settle (840ms)", took)
	}
}

func TestAcquittalRestartsTheClock(t *testing.T) {
	r := newRig(t, 4) // halves, for long
	r.tell = map[membership.NodeID][]membership.NodeID{2: {3, 4}}
	r.silence(3)
	r.silence(4)
	r.run(2 * time.Second)
	r.wantVerdict()
	clear(r.mute) // this node hears everybody again, node 2 not yet
	r.tell[3], r.tell[4] = nil, nil
	r.run(200 * ms)
	r.wantVerdict()
	r.tell[2] = nil
	r.run(time.Second)
	r.wantVerdict()
}

func TestHeldNodeIsNotSuspected(t *testing.T) {
	r := newRig(t, 2)
	r.m.Step(r.now, Hold{Node: 2, Until: r.now.Add(time.Second)})
	r.silence(2)
	r.run(time.Second + 190*ms)
	if count[Suspected](r.out) != 0 {
		t.Errorf("suspected in the hold: %v", r.out)
	}
	r.run(20 * ms)
	if count[Suspected](r.out) != 1 {
		t.Errorf("not suspected after it: %v", r.out)
	}
}

func TestHeldNodeKeepsQuorum(t *testing.T) {
	r := newRig(t, 2)
	r.m.Step(r.now, Hold{Node: 2, Until: r.now.Add(time.Second)})
	r.silence(2)
	if r.run(990 * ms); !r.m.quorate {
		t.Error("quorum lost in the hold")
	}
	if r.run(300 * ms); r.m.quorate {
		t.Error("quorum kept after it")
	}
}

// An accusation is answered by a look and a row at once, and not again and again.
func TestAccusationIsAnswered(t *testing.T) {
	r := newRig(t, 3)
	r.run(15 * ms)
	r.row(2, 3)
	if r.m.Deadline() != r.now {
		t.Fatalf("deadline is %v away", r.m.Deadline().Sub(r.now))
	}
	if out := r.look(); count[SendRow](out) != 1 {
		t.Fatalf("%v", out)
	}
	r.row(2, 3)
	if out := r.look(); count[SendRow](out) != 0 {
		t.Fatalf("answered twice: %v", out)
	}
	if r.run(200 * ms); count[SendRow](r.out) > 6 {
		t.Errorf("%d rows in 200 ms", count[SendRow](r.out))
	}
	if r.run(10 * time.Second); count[SendRow](r.out) > 18 {
		t.Errorf("%d rows in 10 s, and the accusation is old", count[SendRow](r.out))
	}
}

// Who has left a probe unanswered here as well is not answered for at once: a row follows
// when it answers, and with this node's own suspicion when it does not. In doubt there is
// one every interval all the same.
func TestAnswerWaitsForWhatIsKnown(t *testing.T) {
	for what, comes := range map[string]bool{"it answers again": true, "it does not": false} {
		r := newRig(t, 3)
		r.silence(3)
		r.run(100 * ms)
		if r.row(2, 3); r.m.Deadline() != r.now {
			t.Fatalf("%s: nobody looks", what)
		}
		if out := r.look(); count[SendRow](out) != 0 {
			t.Fatalf("%s: answered before anything is known: %v", what, out)
		}
		if comes {
			delete(r.mute, 3)
			if r.run(15 * ms); count[SendRow](r.out) != 1 {
				t.Errorf("%s: %v", what, r.out)
			}
			continue
		}
		if r.run(99 * ms); count[SendRow](r.out) > 3 || count[Suspected](r.out) != 0 {
			t.Errorf("%s: %v", what, r.out)
		}
		if r.run(2 * ms); count[SendRow](r.out) != 1 || count[Suspected](r.out) != 1 {
			t.Errorf("%s: %v", what, r.out)
		}
	}
}

func TestOvertakenRowIsDropped(t *testing.T) {
	r := newRig(t, 3)
	give := func(instance, round uint64, age time.Duration) time.Duration {
		r.m.Step(r.now, RowIn{Row: Row{From: 2, Instance: instance, Round: round, Ages: []Age{{Peer: 3, Age: age}}}})
		return r.m.peers[1].cells[2].Age
	}
	if got := give(7, 5, 50*ms); got != 50*ms {
		t.Error(got)
	}
	if got := give(7, 4, 60*ms); got != 50*ms {
		t.Errorf("an older row counts: %v", got)
	}
	if got := give(8, 1, 70*ms); got != 70*ms {
		t.Errorf("the row of a new daemon does not count: %v", got)
	}
}

func TestStrangersRowsAreIgnored(t *testing.T) {
	r := newRig(t, 3)
	for _, from := range []membership.NodeID{0, 1, 9} {
		r.m.Step(r.now, RowIn{Row: Row{From: from, Ages: []Age{{Peer: 3, Age: time.Hour}, {Peer: 77, Age: 1}}}})
	}
	if rows := r.m.Matrix(); len(rows) != 1 || rows[0].From != 1 || len(rows[0].Ages) != 2 {
		t.Errorf("%+v", rows)
	}
}

func TestNeverHeardMember(t *testing.T) {
	r := newRig(t, 4)
	fresh := New(Config{Self: 1, Nodes: r.ids, Timing: profile("round"), Policy: quorum.Majority(r.ids...)}, r.now)
	r.m = fresh
	r.mute[4] = 0
	r.m.Step(r.now, ViewIn{View: r.view(1, r.ids...)})
	r.tell = map[membership.NodeID][]membership.NodeID{2: {4}, 3: {4}}
	r.run(190 * ms)
	if r.m.Age(4) != never || r.m.row().Ages[2].Age != never || len(r.m.Suspects()) > 0 {
		t.Errorf("%v %+v %v", r.m.Age(4), r.m.row(), r.m.Suspects())
	}
	r.run(20 * ms)
	r.wantVerdict(4)
	if r.m.Age(4) != never || r.m.row().Ages[2].Age < 200*ms {
		t.Errorf("%v %+v", r.m.Age(4), r.m.row())
	}
}

func TestNobodyOutsideTheViewJudges(t *testing.T) {
	r := newRig(t, 4)
	r.m.Step(r.now, ViewIn{View: r.view(2, 2, 3, 4)})
	r.tell = map[membership.NodeID][]membership.NodeID{2: {4}, 3: {4}}
	r.silence(4)
	r.run(2 * time.Second)
	r.wantVerdict()
}

func TestNewIncarnationStartsClean(t *testing.T) {
	r := newRig(t, 3)
	r.tell = map[membership.NodeID][]membership.NodeID{2: {3}}
	r.silence(3)
	r.run(300 * ms)
	v := r.view(2, 1, 2, 3)
	v.Members[2].Boot = "c"
	r.m.Step(r.now, ViewIn{View: v})
	r.run(150 * ms)
	r.wantVerdict()
	if got := r.m.judge.Dead; len(got) > 0 {
		t.Errorf("dead %v", got)
	}
}

func TestLeaderNeedsAMajorityThatMissesIt(t *testing.T) {
	r := newRig(t, 5)
	r.m.Step(r.now, Leader{Node: 5})
	r.tell = map[membership.NodeID][]membership.NodeID{2: {5}, 3: nil, 4: nil}
	r.silence(5)
	if r.run(230 * ms); r.m.judge.LeaderDead {
		t.Error("dead by two of five")
	}
	r.tell[3] = []membership.NodeID{5}
	r.run(50 * ms)
	if j := r.m.judge; !j.LeaderDead || !slices.Equal(j.Dead, []membership.NodeID{5}) {
		t.Errorf("%+v", j)
	}
	r.wantVerdict() // node 4 hears it
}

func TestLeaderStalled(t *testing.T) {
	r := newRig(t, 3)
	r.m.Step(r.now, Leader{Node: 3})
	r.age[3] = 130 * ms
	if r.run(60 * ms); r.m.judge.LeaderStalled {
		t.Error("stalled on this node's word alone")
	}
	r.row(2)
	if r.run(50 * ms); !r.m.judge.LeaderStalled || r.m.judge.LeaderDead {
		t.Errorf("%+v", r.m.judge)
	}
	r.age[3] = 0
	if r.run(60 * ms); r.m.judge.LeaderStalled {
		t.Error("and stays so")
	}
}

func TestRank(t *testing.T) {
	r := newRig(t, 5)
	log := func(from membership.NodeID, term, index uint64) {
		r.m.Step(r.now, RowIn{Row: Row{From: from, LastTerm: term, LastIndex: index}})
	}
	r.m.Step(r.now, LogIn{Term: 3, Index: 10})
	log(2, 3, 11)
	log(3, 4, 1)
	log(4, 3, 10)
	log(5, 9, 9)
	r.m.Step(r.now, Leader{Node: 5})
	if r.run(60 * ms); r.m.judge.Rank != 0 {
		t.Errorf("rank %d while the leader is well, want that of the id", r.m.judge.Rank)
	}
	r.m.Step(r.now, Leader{Node: 0})
	if r.run(60 * ms); r.m.judge.Rank != 3 {
		t.Errorf("rank %d, want 3: after 5, 3 and 2, before 4", r.m.judge.Rank)
	}
	r.silence(3)
	if r.run(300 * ms); r.m.judge.Rank != 2 {
		t.Errorf("rank %d without 3", r.m.judge.Rank)
	}
}

// What a row of before the leader fell silent says of its sender's log is old by then: two
// nodes with the last entry, neither of which had heard so of the other, would both ask for
// votes at once, and neither get them.
func TestRankOfOldRows(t *testing.T) {
	r := newRig(t, 5)
	log := func(from membership.NodeID, index uint64) {
		r.m.Step(r.now, RowIn{Row: Row{From: from, LastTerm: 3, LastIndex: index, Ages: []Age{{Peer: 5, Age: 250 * ms, Path: 250 * ms}}}})
	}
	r.m = New(Config{Self: 3, Nodes: r.ids, Timing: profile("round"), Policy: quorum.Majority(r.ids...)}, r.now)
	r.m.Step(r.now, ViewIn{View: r.view(1, r.ids...)})
	r.ids = []membership.NodeID{3, 1, 2, 4, 5}
	for _, id := range []membership.NodeID{1, 2, 4} {
		log(id, 10)
	}
	r.m.Step(r.now, LogIn{Term: 3, Index: 11})
	r.m.Step(r.now, Leader{Node: 5})
	r.run(time.Second)
	r.silence(5)
	if r.run(210 * ms); r.m.judge.Rank != 2 {
		t.Errorf("rank %d, want that of the id", r.m.judge.Rank)
	}
	log(1, 10)
	if r.run(ms); r.m.judge.Rank != 1 {
		t.Errorf("rank %d, want to be before 1, which lacks the last entry", r.m.judge.Rank)
	}
	log(2, 12)
	if r.run(50 * ms); r.m.judge.Rank != 1 {
		t.Errorf("rank %d, want to be after 2 and before 1", r.m.judge.Rank)
	}
}

// The group forgets its leader when the first node asks for votes. That is no reason to
// listen to the dead one again, and not to ask for votes oneself when the first has none.
func TestLeaderForgotten(t *testing.T) {
	r := newRig(t, 3)
	r.m.Step(r.now, Leader{Node: 3})
	r.tell = map[membership.NodeID][]membership.NodeID{2: {3}}
	r.silence(3)
	if r.run(220 * ms); !r.m.judge.LeaderDead {
		t.Fatalf("%+v", r.m.judge)
	}
	r.m.Step(r.now, Leader{})
	if r.run(300 * ms); !r.m.judge.LeaderDead {
		t.Error("alive when nobody follows it")
	}
	r.m.Step(r.now, Leader{Node: 2})
	if r.run(50 * ms); r.m.judge.LeaderDead {
		t.Error("the new one is dead")
	}
	r.m.Step(r.now, Leader{})
	if r.run(50 * ms); r.m.judge.LeaderDead || r.m.judge.Rank != 0 {
		t.Errorf("%+v", r.m.judge)
	}
}

// A leader that left and has no successor yet is silent for a good reason: that is no
// news, though it is why somebody has to lead.
func TestLeaderLeft(t *testing.T) {
	r := newRig(t, 3)
	r.m.Step(r.now, Leader{Node: 3})
	r.tell = map[membership.NodeID][]membership.NodeID{2: {3}}
	r.run(100 * ms)
	r.m.Step(r.now, ViewIn{View: r.view(2, 1, 2)})
	r.m.Step(r.now, Leader{})
	r.silence(3)
	r.run(500 * ms)
	for _, e := range r.out {
		if s, is := e.(Suspected); is {
			t.Errorf("%+v", s)
		}
	}
	if !r.m.judge.LeaderDead {
		t.Error("it is to lead again")
	}
	delete(r.mute, 3)
	r.run(500 * ms)
	for _, e := range r.out {
		if c, is := e.(Cleared); is {
			t.Errorf("%+v", c)
		}
	}
	if r.m.judge.LeaderDead {
		t.Error("it answers")
	}
}

// Who led last and was taken out of the configuration is nobody's concern, nor is another
// node that is given its number.
func TestLeaderRemoved(t *testing.T) {
	r := newRig(t, 4)
	r.m.Step(r.now, Leader{Node: 4})
	r.tell = map[membership.NodeID][]membership.NodeID{2: {4}, 3: {4}}
	r.silence(4)
	if r.run(220 * ms); !r.m.judge.LeaderDead {
		t.Fatalf("%+v", r.m.judge)
	}
	r.m.Step(r.now, Leader{})
	r.m.Step(r.now, ViewIn{View: r.view(2, 1, 2, 3)})
	conf := func(ids ...membership.NodeID) {
		r.m.Step(r.now, ConfigIn{Nodes: ids, Timing: profile("round"), Policy: quorum.Majority(1, 2, 3)})
		r.run(500 * ms)
		if r.m.judge.LeaderDead || slices.Contains(r.m.judge.Dead, 4) {
			t.Errorf("of %v: %+v", ids, r.m.judge)
		}
	}
	conf(1, 2, 3)
	conf(1, 2, 3, 4)
}

func TestSteady(t *testing.T) {
	r := newRig(t, 3)
	if !r.m.Steady(2) || r.m.Steady(1) || r.m.Steady(9) {
		t.Error("a node that was never suspected is steady at once")
	}
	want := time.Second
	for n := uint64(2); n < 20; n += 2 {
		v := r.view(n, 1, 2)
		v.Left = []membership.Departure{{Incarnation: membership.Incarnation{Node: 3, Boot: "b"}, Reason: membership.ReasonSilent}}
		r.m.Step(r.now, ViewIn{View: v})
		r.run(ms)
		if r.run(want - 100*ms); r.m.Steady(3) {
			t.Fatalf("eviction %d: steady before %v", n/2, want)
		}
		if b := r.m.Probation(3); !b.Evicted || b.Whole != want || b.Left < 50*ms || b.Left > 110*ms || b.Whom != 0 {
			t.Fatalf("eviction %d: %+v", n/2, b)
		}
		if r.run(200 * ms); !r.m.Steady(3) {
			t.Fatalf("eviction %d: not steady after %v", n/2, want)
		}
		r.m.Step(r.now, ViewIn{View: r.view(n+1, 1, 2, 3)})
		want = min(2*want, time.Minute)
	}
	r.run(calmAfter)
	if r.m.peer(3).evictions != 0 {
		t.Error("ten calm minutes do not forget")
	}
}

func TestSteadyNeedsEverybody(t *testing.T) {
	r := newRig(t, 3)
	r.m.Step(r.now, ViewIn{View: r.view(2, 1, 2)})
	r.row(2, 3)
	if r.run(100 * ms); r.m.Steady(3) {
		t.Error("steady, and node 2 does not hear it")
	}
	if b := r.m.Probation(3); b.Who != 2 || b.Whom != 3 || b.Left != b.Whole {
		t.Errorf("%+v", b)
	}
	r.row(2)
	r.row(3, 2)
	if r.run(100 * ms); r.m.Steady(3) {
		t.Error("steady, and it does not hear node 2")
	}
	if b := r.m.Probation(3); b.Who != 3 || b.Whom != 2 {
		t.Errorf("%+v", b)
	}
	r.row(3)
	if r.run(100 * ms); !r.m.Steady(3) {
		t.Error("not steady, and everybody hears everybody")
	}
}

func TestAloneAndInPairs(t *testing.T) {
	one := newRig(t, 1)
	if !one.m.quorate || len(one.m.Hears()) > 0 {
		t.Error("a cluster of one has no quorum")
	}
	two := newRig(t, 2)
	two.silence(2)
	two.run(2 * time.Second)
	two.wantVerdict()
	if two.m.quorate {
		t.Error("one of two has quorum")
	}
}

// Above 32 nodes there is no choice of cliques, and silence still convicts.
func TestLargeView(t *testing.T) {
	r := newRig(t, 40)
	for _, id := range r.ids[1:39] {
		r.tell[id] = []membership.NodeID{40}
	}
	r.tell[2] = []membership.NodeID{3, 40}
	r.silence(40)
	r.run(time.Second)
	r.wantVerdict(40)
}

func TestFutureStampsAndUnknownPeers(t *testing.T) {
	r := newRig(t, 2)
	r.m.Step(r.now, Observed{Samples: []membership.Sample{
		{Peer: 2, Heard: r.now.Add(time.Hour), DaemonAge: -5}, {Peer: 1, Heard: r.now}, {Peer: 44, Heard: r.now}}})
	r.silence(2)
	r.run(230 * ms)
	if !slices.Equal(r.m.Suspects(), []membership.NodeID{2}) {
		t.Errorf("suspects %v", r.m.Suspects())
	}
}

func TestANewBootIsNotHeldToItsFormerLives(t *testing.T) {
	m := New(Config{Self: 1, Nodes: []membership.NodeID{1, 2, 3}, Timing: membership.Timing{Interval: 40 * time.Millisecond,
		DeadAfter: 200 * time.Millisecond, LinkSettle: 280 * time.Millisecond, StallLimit: 10 * time.Second, RecoveryStall: 3 * time.Second}}, 0)
	p := m.peer(2)
	p.evictions = 6
	if got := m.steadyTime(p); got != 32*time.Second {
		t.Fatalf("after six evictions %v", got)
	}
	m.Step(1, Anew{Node: 2})
	if got := m.steadyTime(p); got != 280*time.Millisecond {
		t.Fatalf("booted anew %v", got)
	}
	m.Step(2, Anew{Node: 9}) // nobody of that number is configured
}

// A peer to which the DLM's data stay unanswered is heard, and cut off on its path.
func TestBlockedPathIsACut(t *testing.T) {
	r := newRig(t, 3)
	r.tell = map[membership.NodeID][]membership.NodeID{2: nil, 3: nil}
	r.blocked = []membership.NodeID{3}
	r.run(2 * time.Second)
	if !slices.ContainsFunc(r.out, func(e Effect) bool { s, is := e.(Suspected); return is && s.Node == 3 && s.Path }) {
		t.Fatalf("%+v", r.out)
	}
	if !slices.Contains(r.m.judge.Hears, 3) {
		t.Fatalf("it is not heard: %+v", r.m.judge)
	}
	r.wantVerdict(3)
	r.blocked = nil
	r.run(100 * ms)
	if count[Cleared](r.out) != 1 {
		t.Fatalf("%+v", r.out)
	}
	r.wantVerdict()
}

// withWitness is node 1 of two, and a witness that is heard or not.
func withWitness(t *testing.T, heard bool) *rig {
	r := newRig(t, 2)
	p := quorum.Majority(1, 2, membership.FirstWitness)
	p.Witness = membership.FirstWitness
	r.m.Step(r.now, PolicyIn{Policy: p})
	r.m.Step(r.now, WitnessIn{Heard: heard})
	r.run(100 * ms)
	return r
}

// A node of two that hears the witness decides without the other; no observer is the witness.
func TestTheWitnessLetsOneOfTwoDecide(t *testing.T) {
	r := withWitness(t, true)
	r.m.Step(r.now, Leader{Node: 2})
	r.silence(2)
	r.run(2 * time.Second)
	r.wantVerdict(2)
	if !r.m.quorate || !r.m.judge.LeaderDead || slices.Contains(r.m.verdict[0].Observers, membership.FirstWitness) {
		t.Errorf("quorate %v, %+v, %+v", r.m.quorate, r.m.judge, r.m.verdict)
	}
}

func TestWithoutTheWitnessOneOfTwoDecidesNothing(t *testing.T) {
	r := withWitness(t, false)
	r.m.Step(r.now, Leader{Node: 2})
	r.silence(2)
	r.run(2 * time.Second)
	r.wantVerdict()
	if r.m.quorate || r.m.judge.LeaderDead {
		t.Errorf("quorate %v, %+v", r.m.quorate, r.m.judge)
	}
	r.m.Step(r.now, WitnessIn{Heard: true})
	r.run(1 * time.Second)
	r.wantVerdict(2)
	r.m.Step(r.now, WitnessIn{})
	r.run(100 * ms)
	if r.m.quorate {
		t.Error("its vote counts after its silence")
	}
}

// Two that hear each other need no witness, and one that nobody agreed on has no vote.
func TestAWitnessThatIsNotNeeded(t *testing.T) {
	r := withWitness(t, false)
	if !r.m.quorate {
		t.Error("two of three are a quorum")
	}
	r = newRig(t, 2)
	r.m.Step(r.now, WitnessIn{Heard: true})
	r.silence(2)
	r.run(2 * time.Second)
	if r.m.quorate || len(r.m.Linked()) != 1 {
		t.Error("a vote that is in no policy counts")
	}
}

// The DLM's path is lost and the other link is not: the pair is no more, and one stays.
func TestTheWitnessAndALostPath(t *testing.T) {
	r := withWitness(t, true)
	r.blocked = []membership.NodeID{2}
	r.tell[2] = nil
	r.run(3 * time.Second)
	r.wantVerdict(2)
}
