package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
)

// forcer is a group without a majority, which goes on when it is forced. The others give
// their word when asked, unless they withhold it.
type forcer struct {
	echo
	tail     [][]byte // ordered by force only
	withheld bool
	may      string
	voters   int
	heard    int  // voters, this node counted, that go on
	told     bool // by the judgments that it is given
	pledged  []membership.NodeID
	asked    int
	forced   []cluster.Takeover
	given    int // how often it was given up
}

func (g *forcer) MajorityRuns(...membership.NodeID) bool { return 2*g.heard > g.voters }

func (g *forcer) MayForce(nodes []membership.NodeID) string {
	switch {
	case g.MajorityRuns(nodes...):
		return "a majority of the voters can be heard"
	case 2*len(nodes) < g.voters:
		return "they are less than half of the voters"
	}
	return g.may
}

func (g *forcer) Undelivered() [][]byte { return g.tail }

func (g *forcer) Pledged(nodes []membership.NodeID) bool { return slices.Equal(nodes, g.pledged) }

func (g *forcer) Step(_ membership.Mono, in ...membership.GroupInput) (out []membership.GroupEffect) {
	for _, i := range in {
		if j, ok := i.(membership.GroupJudge); ok && g.told {
			g.heard = 1 + len(j.Hears) - len(j.Stalled)
		}
		f, ok := i.(membership.GroupForce)
		switch {
		case !ok:
		case len(f.Nodes) == 0:
			g.pledged, g.given = nil, g.given+1
		case len(f.Data) == 0:
			if g.asked++; !g.withheld {
				g.pledged = f.Nodes
			}
		default:
			for _, data := range append(g.tail, f.Data) {
				g.index++
				out = append(out, membership.GroupDeliver{Index: g.index, Data: data})
			}
			c, _ := cluster.Decode(f.Data)
			g.forced = append(g.forced, *c.Takeover)
			g.voters = len(f.Nodes)
		}
	}
	return out
}

// survivor is node 1 of some members, with the rules of a configuration.
type survivor struct {
	t   *testing.T
	n   *Node
	g   *forcer
	now time.Duration
	ran []membership.FenceJob // agents that were started and have not ended
	out []Effect
}

func newSurvivor(t *testing.T, nodes int, q membership.Quorum) *survivor {
	cfg := membership.Config{Self: 1, Quorum: q,
		Timing: membership.Timing{Interval: 40 * time.Millisecond, DeadAfter: 200 * time.Millisecond, LinkSettle: 320 * time.Millisecond, StallLimit: time.Minute, RecoveryStall: time.Minute}}
	v := &survivor{t: t, g: &forcer{voters: nodes, heard: nodes}}
	var members []membership.Incarnation
	var records []cluster.NodeRecord
	for id := membership.NodeID(1); int(id) <= nodes; id++ {
		boot := membership.BootID(string('a' - 1 + rune(id)))
		cfg.Nodes = append(cfg.Nodes, membership.Node{ID: id, Name: "n" + string('0'+rune(id)), Votes: 1})
		cfg.Devices = append(cfg.Devices, membership.Device{Nodes: []membership.NodeID{id}, Agent: "fence_x", Timeout: 2 * time.Second})
		m := membership.Incarnation{Node: id, Boot: boot}
		members = append(members, m)
		records = append(records, cluster.NodeRecord{Node: id, Instance: uint64(id), Last: m, Machine: string(boot)})
	}
	v.n, _ = New(1, Options{Config: cfg, Group: v.g, Identity: Identity{Boot: "a", Instance: 1, Machine: "a"}, Docs: "/usr/share/doc/quorate"})
	v.n.st.View = membership.View{Number: 3, Quorate: true, Members: members}
	v.n.st.Nodes = records
	v.n.newView()
	return v
}

// give is a step; what is asked of the fence agents is kept.
func (v *survivor) give(in Input) {
	effs := v.n.Step(membership.Mono(v.now), in)
	v.out = append(v.out, effs...)
	for _, e := range effs {
		switch e := e.(type) {
		case Fence:
			v.ran = append(v.ran, e.Job)
		case CancelFence:
			if !slices.Contains(v.ran, e.Job) {
				v.t.Fatalf("an agent that does not run is ended: %+v", e.Job)
			}
		}
	}
}

// run lets time pass; these nodes are heard, and hear each other and nobody else.
func (v *survivor) run(d time.Duration, ids ...membership.NodeID) {
	v.g.heard = len(ids) + 1
	for end := v.now + d; v.now < end; {
		v.now += 20 * time.Millisecond
		var ages []liveness.Age
		for _, c := range v.n.cfg.Nodes {
			age := time.Minute
			if c.ID == 1 || slices.Contains(ids, c.ID) {
				age = 0
			}
			ages = append(ages, liveness.Age{Peer: c.ID, Age: age, Path: age})
		}
		for _, id := range ids {
			others := slices.DeleteFunc(slices.Clone(ages), func(a liveness.Age) bool { return a.Peer == id })
			v.give(Received{From: id, Data: envelope(kindRow, encodeRow(liveness.Row{From: id, Round: uint64(v.now), View: v.n.View(), Ages: others, Instance: uint64(id)}))})
		}
		v.give(Timer{Samples: heard(membership.Mono(v.now), ids...)})
	}
}

// ends ends an agent.
func (v *survivor) ends(job membership.FenceJob, ok bool) {
	v.ran = slices.DeleteFunc(v.ran, func(j membership.FenceJob) bool { return j == job })
	r := membership.FenceResult{OK: ok, Agent: "fence_x"}
	if !ok {
		r.Err = "no answer"
	}
	v.give(FenceDone{Job: job, Result: r, Ended: membership.Mono(v.now)})
}

// shot is the one agent that runs.
func (v *survivor) shot(victim membership.NodeID) membership.FenceJob {
	v.t.Helper()
	if len(v.ran) != 1 || v.ran[0].Victim.Node != victim {
		v.t.Fatalf("agents run: %+v, want one against node %d; %s", v.ran, victim, v.n.noTakeover)
	}
	return v.ran[0]
}

func (v *survivor) nobody(when string) {
	v.t.Helper()
	if len(v.ran) != 0 || len(v.g.forced) != 0 {
		v.t.Fatalf("%s: agents %+v, forced %+v", when, v.ran, v.g.forced)
	}
}

// job is a job that was proposed just now.
func (v *survivor) job() *job {
	return &job{start: fenceStart, lease: 6 * time.Second, deadline: membership.Mono(v.now).Add(fenceStart)}
}

var twoNode = membership.Quorum{TwoNode: true, WaitForAll: true}

func TestOneOfTwoGoesOnWithProof(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	v.run(time.Second, 2)
	v.nobody("both are there")
	v.run(time.Second)
	job := v.shot(2)
	if len(v.g.forced) > 0 {
		t.Fatal("it went on without proof")
	}
	if w := v.n.takeoverWaits(); len(w) != 1 || !strings.Contains(w[0].Reason, "this node is fencing it") || w[0].Owner != 2 || w[0].Deadline <= time.Second || w[0].Deadline > 2*time.Second {
		t.Errorf("%+v, and its device has 2s", w)
	}
	v.ends(job, true)
	if len(v.g.forced) != 1 || v.n.takeover != nil {
		t.Fatalf("%+v", v.g.forced)
	}
	f := v.g.forced[0]
	if f.Rule != "two_node" || !slices.Equal(f.Survivors, []membership.NodeID{1}) || !slices.Equal(f.Electorate, f.Survivors) || len(f.Proofs) != 1 || f.Proofs[0].How != "agent" {
		t.Errorf("%+v", f)
	}
	if !v.n.st.View.Quorate || len(v.n.Members()) != 1 {
		t.Errorf("%+v", v.n.st.View)
	}
}

// TestAFailedShotIsNoProofAndIsTriedAgain: within its own turn, as long as another attempt
// may end in it, and then in the next.
func TestAFailedShotIsNoProofAndIsTriedAgain(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	v.run(time.Second, 2)
	since := v.now
	v.run(200 * time.Millisecond)
	first := v.shot(2)
	until := first.Until
	if over := until.Sub(membership.Mono(since)); over < 2*time.Second || over > 2700*time.Millisecond {
		t.Errorf("the turn is over %v after the silence began", over)
	}
	v.ends(first, false)
	v.nobody("at once")
	v.run(400 * time.Millisecond)
	second := v.shot(2)
	if second.Attempt == first.Attempt || second.Until != until || second.Deadline > until {
		t.Errorf("%+v after %+v", second, first)
	}
	v.run(time.Second)
	v.ends(second, false)
	v.run(2 * time.Second)
	v.nobody("in the other's turn")
	if w := v.n.takeoverWaits(); len(w) != 1 || !strings.Contains(w[0].Reason, "attempt 2 to fence it failed: no answer") || w[0].Deadline <= 0 {
		t.Errorf("%+v", w)
	}
	v.run(2 * turnOfTwo)
	third := v.shot(2)
	if d := third.Until.Sub(until); d != 2*turnOfTwo {
		t.Errorf("its next turn is over %v after the first", d)
	}
	history := func() (out []string) {
		for _, r := range v.n.History() {
			out = append(out, fmt.Sprintf("%v by %d: %v %s", r.Victim, r.Actor, r.OK, r.Err))
		}
		return out
	}
	failed := "2/b#0 by 1: false no answer"
	if got := history(); !slices.Equal(got, []string{failed, failed}) {
		t.Errorf("before it is over: %q", got)
	}
	v.ends(third, true)
	if len(v.g.forced) != 1 {
		t.Fatal("the proof is not taken")
	}
	if got := history(); !slices.Equal(got, []string{failed, failed, "2/b#0 by 1: true "}) || len(v.n.st.History) != 3 || len(v.n.attempts) != 0 {
		t.Errorf("agreed: %q", got)
	}
}

// turnOfTwo is the turn of a survivor of two with a device of 2 s each.
const turnOfTwo = 200*time.Millisecond + 80*time.Millisecond + 2*time.Second + takeoverSlack

// TestAHangingAttemptEndsWithItsTurn: what its agent did not do by then is the other's to do.
func TestAHangingAttemptEndsWithItsTurn(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	v.run(time.Second, 2)
	v.run(200 * time.Millisecond)
	first := v.shot(2)
	v.run(first.Until.Sub(membership.Mono(v.now)) + 100*time.Millisecond)
	v.ends(first, false) // the edge has killed it
	v.run(2 * time.Second)
	v.nobody("in the other's turn")
}

// TestWhoWakesInTheOthersTurnWaits: its own turn passed while it stood still.
func TestWhoWakesInTheOthersTurnWaits(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	v.run(time.Second, 2)
	v.run(200 * time.Millisecond)
	first := v.shot(2)
	v.ends(first, false)
	v.now = time.Duration(first.Until) + 100*time.Millisecond
	v.run(2 * time.Second)
	v.nobody("in the other's turn")
	v.run(turnOfTwo)
	if again := v.shot(2); again.Until.Sub(first.Until) != 2*turnOfTwo {
		t.Errorf("%+v after %+v", again, first)
	}
}

func TestWhoHasFewerLockspacesYieldsItsTurn(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	to := &takeover{have: []membership.NodeID{1}}
	v.n.cfg.Quorum.Delay = 3 * time.Second
	if x := v.n.turns(to); v.n.yields(2) || x.first != 0 || x.each != 3*time.Second {
		t.Fatalf("node 1 yields to node 2, or turns are %+v", x)
	}
	v.n.cfg.Quorum.Delay = 0
	if x := v.n.turns(to); x.each != turnOfTwo {
		t.Errorf("a turn is %v, want %v", x.each, turnOfTwo)
	}
	v.n.cfg.Self = 2
	v.n.st.View.Members[0].Node, v.n.st.View.Members[1].Node = 2, 1 // the other one has the lower id
	if x := v.n.turns(to); !v.n.yields(1) || x.first != membership.Mono(turnOfTwo) {
		t.Errorf("node 2 does not yield to node 1: %+v", x)
	}
}

// TestTheLinksCameBack: the agent is ended, and until it has nobody is admitted whom it could hit.
func TestTheLinksCameBack(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	v.run(time.Second, 2)
	v.run(time.Second)
	job := v.shot(2)
	v.run(100*time.Millisecond, 2)
	if v.n.takeover != nil || v.g.given == 0 {
		t.Fatal("it is not given up")
	}
	if !slices.ContainsFunc(v.out, func(e Effect) bool { c, ok := e.(CancelFence); return ok && c.Job == job }) {
		t.Fatal("the agent is not ended")
	}
	if !v.n.shotAt(2) || !v.n.inadmissible(2).passes || !slices.Equal(v.n.shooting(), []membership.NodeID{2}) {
		t.Error("its victim may be admitted")
	}
	v.ends(job, true)
	if v.n.shotAt(2) || len(v.g.forced) > 0 {
		t.Error("after its end")
	}
	if h := v.n.History(); len(h) != 1 || h[0].OK || h[0].Err != "given up: it is off" || h[0].Victim != job.Victim {
		t.Errorf("%+v", h)
	}
	for range 2 * maxTried {
		v.n.tried(job.Victim, 1, membership.FenceResult{})
	}
	if len(v.n.History()) != maxTried {
		t.Errorf("%d are kept", len(v.n.History()))
	}
}

// TestWhoStoodStillLooksBeforeItShoots: its turn came while it stood still, and so did the
// other one's answers.
func TestWhoStoodStillLooksBeforeItShoots(t *testing.T) {
	for _, first := range []string{"the probes", "a message"} {
		v := newSurvivor(t, 2, twoNode)
		v.n.cfg.Quorum.Delay = time.Second
		v.run(time.Second, 2)
		v.run(time.Second)
		v.ends(v.shot(2), false) // the next turn is two later
		v.now += 20 * time.Second
		if first == "a message" {
			v.give(Received{From: 2, Data: []byte{kindGroup}})
		} else {
			v.give(Timer{})
		}
		v.nobody("when it wakes up to " + first)
		v.run(100*time.Millisecond, 2)
		v.nobody("the other one answers")
		if v.n.takeover != nil {
			t.Errorf("%s: it is not given up", first)
		}
	}
	v := newSurvivor(t, 2, twoNode)
	v.run(time.Second, 2)
	v.run(time.Second)
	v.ends(v.shot(2), false)
	v.now += 20 * time.Second
	v.run(2 * turnOfTwo)
	v.shot(2) // which is silent still
}

func TestNoTakeover(t *testing.T) {
	for name, c := range map[string]struct {
		rules   membership.Quorum
		prepare func(v *survivor)
		why     string
	}{
		"no rule":              {membership.Quorum{}, func(*survivor) {}, "no rule of [quorum]"},
		"never quorate":        {twoNode, func(v *survivor) { v.n.seasoned = false }, "it has not been in a quorate view"},
		"of another run":       {twoNode, func(v *survivor) { v.n.st.Nodes[0].Instance = 99 }, "it has not been in a quorate view"},
		"the group says no":    {twoNode, func(v *survivor) { v.g.may = "the log cannot be written here" }, "the log cannot be written"},
		"it is about to leave": {twoNode, func(v *survivor) { v.n.leaving = &leaving{} }, "does not belong"},
		"it has left":          {twoNode, func(v *survivor) { v.n.st.Nodes[0].Left = true; v.n.st.View.Members = v.n.st.View.Members[1:] }, "does not belong"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newSurvivor(t, 2, c.rules)
			v.run(time.Second, 2)
			c.prepare(v)
			v.run(10 * time.Second)
			v.nobody(name)
			if !strings.Contains(v.n.noTakeover, c.why) {
				t.Errorf("%q", v.n.noTakeover)
			}
		})
	}
}

// TestHeldAndNeverHeard: an announced freeze is known from the log. That this node booted
// in it, and never heard the other one, shortens it by nothing.
func TestHeldAndNeverHeard(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	v.n.liveness(liveness.Hold{Node: 2, Until: membership.Mono(v.now + 10*time.Second)})
	v.run(10 * time.Second)
	v.nobody("in the hold")
	if !strings.Contains(v.n.noTakeover, "n2 is announced to stand still") {
		t.Errorf("%q", v.n.noTakeover)
	}
	v.run(time.Second)
	v.shot(2)
}

// TestHalfOfFour: nobody is shot at before the other one has given its word, and not by the
// one whose log is less complete.
func TestHalfOfFour(t *testing.T) {
	rules := membership.Quorum{TieBreaker: membership.TieBreaker{Mode: membership.TieLowest}}
	v := newSurvivor(t, 4, rules)
	v.g.withheld = true
	v.run(time.Second, 2, 3, 4)
	v.run(5*time.Second, 2)
	v.nobody("without the other one's word")
	if w := v.n.takeoverWaits(); len(w) != 1 || !strings.Contains(w[0].Reason, "has not got the word of each of n2,") {
		t.Errorf("%+v", w)
	}
	if v.g.asked < 5 {
		t.Errorf("asked %d times", v.g.asked)
	}
	v.g.withheld = false
	v.run(time.Second, 2)
	if len(v.ran) != 2 {
		t.Fatalf("%+v %s", v.ran, v.n.noTakeover)
	}
	jobs := slices.Clone(v.ran)
	v.ends(jobs[0], true)
	if len(v.g.forced) > 0 {
		t.Fatal("one of two is proved gone")
	}
	v.ends(jobs[1], true)
	v.run(time.Second, 2)
	if len(v.g.forced) != 1 || !slices.Equal(v.g.forced[0].Survivors, []membership.NodeID{1, 2}) {
		t.Fatalf("%+v", v.g.forced)
	}

	v = newSurvivor(t, 4, rules)
	v.run(time.Second, 3, 4)
	v.run(5*time.Second, 3, 4)
	v.nobody("three of four are a quorum")
}

// TestTheEndOfTheLogStartsNoAgent: a job that was proposed before is ordered by the
// takeover that has the proof. Its agent would hit the next life of the victim.
func TestTheEndOfTheLogStartsNoAgent(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	v.run(time.Second, 2)
	v.run(time.Second)
	job := v.shot(2)
	v.n.jobs[jobKey{job.Victim, 1}] = v.job()
	evict := cluster.Command{By: v.n.Self(), Evict: &cluster.Evict{View: 3, Alone: true, Fence: true,
		Departures: []membership.Departure{{Incarnation: job.Victim, Reason: membership.ReasonWithdrawn}}}}
	start := cluster.Command{By: v.n.Self(), FenceStart: &cluster.FenceStart{Victim: job.Victim, Attempt: 1, Actor: v.n.Self(), Start: fenceStart, Lease: 6 * time.Second}}
	v.g.tail = [][]byte{evict.Encode(), start.Encode()}
	v.ends(job, true)
	if len(v.g.forced) != 1 || len(v.ran) != 0 {
		t.Fatalf("forced %+v, agents %+v", v.g.forced, v.ran)
	}
	if c := v.n.st.Case(job.Victim); c == nil || c.Open() || c.Job != nil {
		t.Errorf("%+v", c)
	}
}

// TestAJobThatOthersMayKnowOf: it stands in this node's log, and whether it was agreed on
// it was not told. Its actor may run the agent: where that is to be fenced, it is first;
// where it goes on with this node, the job's lease ends it.
func TestAJobThatOthersMayKnowOf(t *testing.T) {
	v := newSurvivor(t, 4, membership.Quorum{TieBreaker: membership.TieBreaker{Mode: membership.TieLowest}})
	v.run(time.Second, 2, 3, 4)
	start := func(attempt uint64, actor membership.NodeID) []byte {
		victim, _ := v.n.st.View.Find(3)
		by, _ := v.n.st.View.Find(actor)
		return cluster.Command{By: by, FenceStart: &cluster.FenceStart{Victim: victim, Attempt: attempt, Actor: by, Start: fenceStart, Lease: 6 * time.Second}}.Encode()
	}
	victim, _ := v.n.st.View.Find(3)
	end := cluster.Command{FenceEnd: &cluster.FenceEnd{Victim: victim, Attempt: 1}}
	v.g.tail = [][]byte{start(1, 2), end.Encode(), start(2, 4), []byte("of a later version")}
	v.run(3*time.Second, 2)
	job := v.shot(4)
	if w := v.n.takeoverWaits(); len(w) != 2 || !strings.Contains(w[0].Reason, "n4 may be fencing it still, and is to be proved gone first") {
		t.Errorf("%+v", w)
	}
	v.ends(job, true)
	v.run(time.Second, 2)
	v.shot(3)

	v = newSurvivor(t, 4, membership.Quorum{TieBreaker: membership.TieBreaker{Mode: membership.TieLowest}})
	v.run(time.Second, 2, 3, 4)
	v.g.tail = [][]byte{start(1, 2)}
	v.run(2*time.Second, 2)
	v.shot(4)
	if w := v.n.takeoverWaits(); len(w) != 2 || !strings.Contains(w[0].Reason, "n2 may be fencing it still") || w[0].Deadline < 8*time.Second {
		t.Errorf("%+v", w)
	}
	v.run(jobOver(6*time.Second), 2)
	if len(v.ran) != 2 {
		t.Errorf("%+v", v.ran)
	}

	v = newSurvivor(t, 4, membership.Quorum{TieBreaker: membership.TieBreaker{Mode: membership.TieLowest}})
	v.run(time.Second, 2, 3, 4)
	v.g.tail = [][]byte{start(1, 1)}
	v.run(2*time.Second, 2)
	if len(v.ran) != 2 {
		t.Errorf("one of its own that was not delivered does not run: %+v", v.ran)
	}
}

// TestANodeThatMayHaveBeenAdmitted: that stands in this node's log, and whether it was agreed
// on it was not told. It may be a member for those who are gone.
func TestANodeThatMayHaveBeenAdmitted(t *testing.T) {
	v := newSurvivor(t, 4, membership.Quorum{TieBreaker: membership.TieBreaker{Mode: membership.TieLowest}})
	v.n.st.View.Members = slices.DeleteFunc(v.n.st.View.Members, func(i membership.Incarnation) bool { return i.Node == 3 })
	v.n.newView()
	v.run(time.Second, 2, 4)
	back := membership.Incarnation{Node: 3, Boot: "c2"}
	by, _ := v.n.st.View.Find(4)
	v.g.tail = [][]byte{cluster.Command{By: by, Admit: &cluster.Admit{Incarnation: back, Machine: "c", Instance: 7, View: 3}}.Encode()}
	v.run(2*time.Second, 2)
	if len(v.ran) != 2 || v.ran[0].Victim != back && v.ran[1].Victim != back {
		t.Fatalf("agents run: %+v, want one against %v and one against node 4; %s", v.ran, back, v.n.noTakeover)
	}
	for _, job := range slices.Clone(v.ran) {
		if len(v.g.forced) > 0 {
			t.Fatalf("it went on without proof: %+v", v.g.forced)
		}
		v.ends(job, true)
	}
	if len(v.g.forced) != 1 || len(v.g.forced[0].Proofs) != 2 {
		t.Fatalf("%+v", v.g.forced)
	}
	if c := v.n.st.Case(back); c == nil || c.Open() {
		t.Errorf("%+v", c)
	}
}

// TestAnAgentThatIsNotNeededAnyMoreIsEnded: another one's takeover has the proof.
func TestAnAgentThatIsNotNeededAnyMoreIsEnded(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	victim := v.n.st.View.Members[1]
	v.n.st.Cases = []cluster.Case{{Victim: victim, Needed: true}}
	v.n.st.View.Members = v.n.st.View.Members[:1]
	v.n.jobs[jobKey{victim, 1}] = v.job()
	v.n.apply(10, cluster.Command{FenceStart: &cluster.FenceStart{Victim: victim, Attempt: 1, Actor: v.n.Self()}})
	v.give(Timer{})
	job := v.shot(2)
	v.n.apply(11, cluster.Command{Takeover: &cluster.Takeover{Survivors: []membership.NodeID{1}, Electorate: []membership.NodeID{1},
		Proofs: []cluster.TakeoverProof{{Victim: victim, How: "manual", Who: "root"}}}})
	v.give(Timer{})
	if !v.n.shotAt(2) {
		t.Fatal("its victim may be admitted")
	}
	v.ends(job, true)
	if v.n.shotAt(2) {
		t.Error("after its end")
	}
}

// TestAnOverrideIsForOnce: when the cluster runs again it is nobody's word any more.
func TestAnOverrideIsForOnce(t *testing.T) {
	v := newSurvivor(t, 2, membership.Quorum{})
	v.run(time.Second)
	v.give(Operator{Command: "quorum-override", Who: "root"})
	v.run(time.Second)
	v.ends(v.shot(2), true)
	if len(v.g.forced) != 1 || v.g.forced[0].Rule != "override" {
		t.Fatalf("%+v", v.g.forced)
	}
	if v.n.override != "" {
		t.Error("it is still in force")
	}
}

func TestAnOperatorsWordIsAProof(t *testing.T) {
	v := newSurvivor(t, 2, twoNode)
	v.n.cfg.Devices = nil
	v.run(time.Second, 2)
	v.run(time.Second)
	v.nobody("without a device")
	if w := v.n.takeoverWaits(); len(w) != 1 || !strings.Contains(w[0].Reason, "no fence device") {
		t.Errorf("%+v", w)
	}
	v.give(Operator{Command: "fence-ack", Node: 2, Who: "root"})
	v.run(time.Second)
	if len(v.g.forced) != 1 || v.g.forced[0].Proofs[0].Who != "root" {
		t.Fatalf("%+v", v.g.forced)
	}
}
