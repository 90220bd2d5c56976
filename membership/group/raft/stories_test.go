package raft_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/grouptest"
	"github.com/quorate/quorate/membership/group/raft"
)

// formed starts a calm cluster and waits for a leader that all know.
func formed(t *testing.T, nodes int, tune func(*raft.Config)) *grouptest.Sim {
	t.Helper()
	s := grouptest.NewSim(provider(tune), calm(nodes))
	s.Trace = t.Logf
	s.StartAll()
	await(t, s, "a leader", func() bool { return leader(s) != 0 && settled(s) })
	return s
}

func await(t *testing.T, s *grouptest.Sim, what string, ok func() bool) {
	t.Helper()
	if !s.Run(20*time.Second, ok) {
		for _, n := range s.Nodes {
			if n.Alive {
				t.Logf("node %d: %+v", n.ID, n.Group.Status())
			}
		}
		t.Fatalf("no %s (%v)", what, s.Check.Err)
	}
	if s.Check.Err != nil {
		t.Fatal(s.Check.Err)
	}
}

// leader is the node that leads in the highest term.
func leader(s *grouptest.Sim) membership.NodeID {
	var id membership.NodeID
	var term uint64
	for _, n := range s.Nodes {
		if n.Alive {
			if st := n.Group.Status(); st.Leader == n.ID && st.Term > term {
				id, term = n.ID, st.Term
			}
		}
	}
	return id
}

// settled: every node that lives knows the leader and is where it is.
func settled(s *grouptest.Sim) bool {
	l := leader(s)
	if l == 0 {
		return false
	}
	want := s.Node(l).Group.Status()
	for _, n := range s.Nodes {
		if !n.Alive {
			continue
		}
		st := n.Group.Status()
		if st.Leader != l || st.LastIndex != want.LastIndex || st.Applied != want.LastIndex || st.Waiting != "" {
			return false
		}
	}
	return true
}

// order proposes at a node until it is delivered everywhere.
func order(t *testing.T, s *grouptest.Sim, at membership.NodeID, n int) {
	t.Helper()
	before := s.Check.Highest
	for i := range n {
		s.Propose(at, fmt.Sprintf("%d at %d", i, before))
	}
	await(t, s, "delivery", func() bool { return s.Check.Highest >= before+uint64(n) && settled(s) })
}

func machine(s *grouptest.Sim, id membership.NodeID) *raft.Machine {
	return s.Node(id).Group.(*raft.Machine)
}

func others(s *grouptest.Sim, id membership.NodeID) []membership.NodeID {
	var ids []membership.NodeID
	for _, n := range s.Nodes {
		if n.ID != id {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

func TestFormation(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 9} {
		s := formed(t, n, nil)
		order(t, s, membership.NodeID(n), 5)
		for _, node := range s.Nodes {
			st := node.Group.Status()
			if !st.Formed || st.ClusterID != "test" || !st.Voter || len(st.Voters) != n {
				t.Fatalf("%d nodes: node %d: %+v", n, node.ID, st)
			}
		}
	}
}

func TestFormationMoreThanMaxVoters(t *testing.T) {
	s := formed(t, 5, func(c *raft.Config) { c.MaxVoters = 3 })
	order(t, s, 5, 5)
	st := s.Node(5).Group.Status()
	if st.Voter || !slices.Equal(st.Voters, []membership.NodeID{1, 2, 3}) || !slices.Equal(st.Learners, []membership.NodeID{4, 5}) {
		t.Fatalf("%+v", st)
	}
}

func TestFormationWaitsForAllAndSaysForWhom(t *testing.T) {
	s := grouptest.NewSim(provider(nil), calm(3))
	s.Start(1)
	s.Start(2)
	s.Run(5*time.Second, nil)
	if st := s.Node(1).Group.Status(); st.Formed || !strings.Contains(st.Waiting, "waiting for node 3") {
		t.Fatalf("%+v", st)
	}
	s.Start(3)
	await(t, s, "formation", func() bool { return settled(s) })
}

func TestFormationNeedsTheSameConfiguration(t *testing.T) {
	s := grouptest.NewSim(provider(func(c *raft.Config) {
		if c.Self == 2 {
			c.ConfigHash[0] = 1
		}
	}), calm(3))
	s.StartAll()
	s.Run(5*time.Second, nil)
	st := s.Node(1).Group.Status()
	if st.Formed || !strings.Contains(st.Waiting, "differs from that of node 2") {
		t.Fatalf("%+v", st)
	}
}

// The node that forms the cluster dies between any two effects of it: either
// nothing was formed, or the others are given it when it returns.
func TestFormationCrashAtEveryEffect(t *testing.T) {
	for k := 1; k < 40; k++ {
		s := grouptest.NewSim(provider(nil), calm(3))
		s.StartAll()
		s.CrashIn(1, k)
		s.Run(3*time.Second, nil)
		s.Start(1)
		s.CrashIn(1, 0)
		await(t, s, fmt.Sprintf("cluster after a crash at effect %d", k), func() bool { return settled(s) })
		order(t, s, 2, 3)
	}
}

func TestRestartKeepsTheOrder(t *testing.T) {
	s := formed(t, 3, nil)
	order(t, s, 1, 250) // through compactions
	for _, n := range s.Nodes {
		s.Crash(n.ID)
	}
	s.StartAll()
	await(t, s, "a leader", func() bool { return settled(s) })
	order(t, s, 2, 3)
}

func TestLaggardIsRestoredFromASnapshot(t *testing.T) {
	s := formed(t, 3, nil)
	s.Crash(3)
	order(t, s, 1, 300)
	s.Start(3)
	await(t, s, "node 3 caught up", func() bool { return settled(s) })
	order(t, s, 3, 1)
}

// S1: a node whose log was lost comes back as a learner under a fresh id, is
// promoted, its old id goes, and nothing that was ordered is lost.
func TestWipedNodeReturnsUnderAFreshID(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		s := formed(t, 3, nil)
		order(t, s, 1, 10)
		if compacted {
			order(t, s, 1, 250)
		}
		old := machine(s, 2).RaftID()
		s.Crash(2)
		s.Wipe(2)
		s.Start(2)
		await(t, s, "node 2 a voter again", func() bool {
			st := s.Node(2).Group.Status()
			return settled(s) && st.Voter && len(st.Voters) == 3 && len(st.Learners) == 0
		})
		if machine(s, 2).RaftID() == old {
			t.Fatal("the old id came back")
		}
		order(t, s, 2, 3)
	}
}

func TestWipedLeaderReturns(t *testing.T) {
	s := formed(t, 3, nil)
	order(t, s, 1, 10)
	l := leader(s)
	s.Crash(l)
	s.Wipe(l)
	s.Start(l)
	await(t, s, "it a voter again", func() bool { return settled(s) && s.Node(l).Group.Status().Voter })
	order(t, s, l, 3)
}

// Where every log is lost nobody invents a history: the nodes say which of them
// had one, and form a cluster when an operator has said so on each of those.
func TestLostLogsFormNoClusterByThemselves(t *testing.T) {
	lost := map[membership.NodeID]bool{2: true, 3: true} // node 1 is new
	s := grouptest.NewSim(provider(func(c *raft.Config) { c.Lost = lost[c.Self] }), calm(3))
	s.StartAll()
	refused := func(nodes string) {
		t.Helper()
		s.Run(5*time.Second, nil)
		for _, n := range s.Nodes {
			if st := n.Group.Status(); st.Formed || !strings.Contains(st.Waiting, nodes+" had one") || !strings.Contains(st.Waiting, "quorate init") ||
				!strings.HasSuffix(st.Do, "if there is none: quorate init, on each of"+strings.TrimPrefix(nodes, ";")) {
				t.Fatalf("node %d: %+v", n.ID, st)
			}
		}
	}
	refused("; node 2, node 3")
	if machine(s, 1).Init() || !machine(s, 2).Init() || machine(s, 2).Init() {
		t.Fatal("Init of a node that lost nothing, or twice")
	}
	refused("; node 3")
	if !machine(s, 3).Init() {
		t.Fatal("not needed?")
	}
	await(t, s, "a leader", func() bool { return leader(s) != 0 && settled(s) })
	order(t, s, 1, 3)
}

// A node that is alone has nobody who could ask it again.
func TestALostLogOfOneNode(t *testing.T) {
	s := grouptest.NewSim(provider(func(c *raft.Config) { c.Lost = true }), calm(1))
	s.StartAll()
	s.Run(5*time.Second, nil)
	if st := s.Node(1).Group.Status(); st.Formed || !strings.Contains(st.Waiting, "quorate init") {
		t.Fatalf("%+v", st)
	}
	if !machine(s, 1).Init() {
		t.Fatal("not needed?")
	}
	s.Input(1, membership.GroupTimer{})
	await(t, s, "a leader", func() bool { return leader(s) == 1 && settled(s) })
	order(t, s, 1, 3)
}

// A node that lost its log joins a cluster that has one without anybody's word.
func TestALostLogComesFromTheOthers(t *testing.T) {
	lost := map[membership.NodeID]bool{}
	s := formed(t, 3, func(c *raft.Config) { c.Lost = lost[c.Self] })
	order(t, s, 1, 3)
	s.Crash(1)
	s.Wipe(1)
	lost[1] = true
	s.Start(1)
	await(t, s, "node 1 a voter again", func() bool { return settled(s) && s.Node(1).Group.Status().Voter })
}

// S1: a voter that voted and lost its log does not vote again under another id:
// while the one it elected is away, with the log, nobody is elected.
func TestAVoterThatLostItsLogElectsNobody(t *testing.T) {
	s := formed(t, 3, nil)
	for range 6 {
		l := leader(s)
		rest := others(s, l)
		order(t, s, l, 2)
		s.Crash(l)
		await(t, s, "another leader", func() bool { return slices.Contains(rest, leader(s)) && settled(s) })
		elected := leader(s)
		voter := rest[0] + rest[1] - elected
		s.Crash(elected)
		s.Crash(voter)
		s.Wipe(voter)
		s.Start(l)
		s.Start(voter)
		if s.Run(5*time.Second, func() bool { return leader(s) != 0 }) {
			t.Fatalf("node %d leads by the voice of one that forgot", leader(s))
		}
		s.Start(elected)
		await(t, s, "three voters again", func() bool { return settled(s) && len(s.Node(voter).Group.Status().Voters) == 3 })
	}
	if s.Check.Votes < 6 {
		t.Fatalf("only %d votes were seen", s.Check.Votes)
	}
}

// An old disk that returns after its id was replaced is refused, and its node told why.
func TestReplacedDiskIsRefused(t *testing.T) {
	p := provider(nil)
	p.Replaced = nil
	s := grouptest.NewSim(p, calm(3))
	s.StartAll()
	await(t, s, "a leader", func() bool { return settled(s) })
	order(t, s, 1, 5)
	s.Crash(2)
	old := s.Node(2).Disk
	s.Wipe(2)
	s.Start(2)
	await(t, s, "node 2 a voter again", func() bool { return settled(s) && s.Node(2).Group.Status().Voter })
	s.Crash(2)
	s.Node(2).Disk = old
	s.Start(2)
	await(t, s, "the refusal", func() bool { return machine(s, 2).Fault() != nil })
	if err := machine(s, 2).Fault(); !errors.Is(err, raft.ErrReplaced) {
		t.Fatal(err)
	}
	if st := s.Node(2).Group.Status(); !strings.Contains(st.Waiting, "was replaced") {
		t.Fatalf("%+v", st)
	}
}

// S2: a log that went back in time is noticed from what peers saw.
func TestRolledBackLogIsRefused(t *testing.T) {
	p := provider(nil)
	p.Replaced = nil
	s := grouptest.NewSim(p, calm(3))
	s.StartAll()
	await(t, s, "a leader", func() bool { return settled(s) })
	order(t, s, 1, 5)
	victim := others(s, leader(s))[0]
	before := slices.Clone(s.Node(victim).Disk.Records)
	order(t, s, 1, 5)
	s.Crash(victim)
	s.Node(victim).Disk.Records = before
	s.Start(victim)
	await(t, s, "the refusal", func() bool { return machine(s, victim).Fault() != nil })
	if err := machine(s, victim).Fault(); !errors.Is(err, raft.ErrRolledBack) {
		t.Fatal(err)
	}
}

// The same for a node that led, and for the gossip: the peer that saw it is gone.
func TestRolledBackLeaderIsRefused(t *testing.T) {
	p := provider(nil)
	p.Replaced = nil
	s := grouptest.NewSim(p, calm(3))
	s.StartAll()
	await(t, s, "a leader", func() bool { return settled(s) })
	order(t, s, 1, 5)
	l := leader(s)
	before := slices.Clone(s.Node(l).Disk.Records)
	order(t, s, 1, 20)
	s.Run(3*time.Second, nil)
	s.Crash(l)
	s.Node(l).Disk.Records = before
	s.Crash(others(s, l)[0])
	s.Start(l)
	await(t, s, "the refusal", func() bool { return machine(s, l).Fault() != nil })
}

// Before a node knows that it keeps its log, or if it does not by what the leader saw of it,
// the leader says so: whoever admits nodes waits for that.
func TestTheLeaderKnowsWhoMayHaveToGiveUpItsLog(t *testing.T) {
	s := formed(t, 3, nil)
	l := leader(s)
	back, other := others(s, l)[0], others(s, l)[1]
	unvetted := func(want ...membership.NodeID) func() bool {
		return func() bool { return slices.Equal(s.Node(l).Group.Status().Unvetted, want) }
	}
	await(t, s, "everybody vetted", unvetted())
	order(t, s, l, 5)
	old := machine(s, back).RaftID()

	s.Crash(back)
	s.Cut(other, back, true)
	s.Start(back) // its log is whole, and nobody but the leader can say so: they are two of three
	await(t, s, "it vetted, and to follow", func() bool { return unvetted()() && settled(s) })
	s.Cut(other, back, false)
	s.Run(2500*time.Millisecond, nil)
	if machine(s, back).RaftID() != old {
		t.Fatal("it gave its log up")
	}

	records := slices.Clone(s.Node(back).Disk.Records)
	order(t, s, l, 5)
	s.Crash(back)
	s.Node(back).Disk.Records = records
	s.Cut(l, back, true)
	s.Start(back) // the other one was not told yet that it had more
	s.Run(30*time.Millisecond, nil)
	s.Cut(l, back, false)
	await(t, s, "the leader to doubt its log, by what it saw of it", func() bool {
		return s.Node(back).Alive && machine(s, back).RaftID() == old && unvetted(back)()
	})
	await(t, s, "it anew, and vetted", func() bool { return machine(s, back).RaftID() != old && settled(s) && unvetted()() })
}

// Refused and reset, it joins anew by itself.
func TestRolledBackNodeJoinsAnew(t *testing.T) {
	s := formed(t, 3, nil)
	order(t, s, 1, 5)
	victim := others(s, leader(s))[0]
	before := slices.Clone(s.Node(victim).Disk.Records)
	order(t, s, 1, 5)
	s.Crash(victim)
	s.Node(victim).Disk.Records = before
	s.Start(victim)
	await(t, s, "it a voter again", func() bool {
		st := s.Node(victim).Group.Status()
		return s.Node(victim).Alive && settled(s) && st.Voter && len(st.Voters) == 3
	})
}

// S2: before it knows what a majority saw, a restarted node takes no part.
func TestRestartedNodeAloneWaits(t *testing.T) {
	s := formed(t, 3, nil)
	order(t, s, 1, 5)
	for _, n := range s.Nodes {
		s.Crash(n.ID)
	}
	s.Start(2)
	s.Run(5*time.Second, nil)
	st := s.Node(2).Group.Status()
	if st.Leader != 0 || !strings.Contains(st.Waiting, "missing node 1, node 3") {
		t.Fatalf("%+v", st)
	}
	s.Start(3)
	await(t, s, "a leader of two", func() bool { return settled(s) })
	order(t, s, 2, 2)
}

func TestBarredLeaderHandsOver(t *testing.T) {
	s := formed(t, 3, nil)
	order(t, s, 1, 5)
	l := leader(s)
	term := s.Node(l).Group.Status().Term
	s.Node(l).Barred = true
	s.Input(l, membership.GroupJudge{Hears: others(s, l), Barred: true})
	await(t, s, "another leader", func() bool { return leader(s) != l && settled(s) })
	if now := s.Node(l).Group.Status().Term; now != term+1 {
		t.Fatalf("term went from %d to %d, one hand-over is one term", term, now)
	}
	order(t, s, l, 2)
}

// A barred leader whose successors do not answer steps down all the same.
func TestBarredLeaderStepsDownWithoutSuccessor(t *testing.T) {
	s := formed(t, 3, nil)
	l := leader(s)
	s.Isolate(l, true)
	s.Node(l).Barred = true
	s.Input(l, membership.GroupJudge{Barred: true})
	s.Run(20*time.Millisecond, nil)
	if st := s.Node(l).Group.Status(); st.Leader == l {
		t.Fatalf("still leads: %+v", st)
	}
}

func TestBarredNodeNeverCampaigns(t *testing.T) {
	s := formed(t, 3, nil)
	for _, n := range s.Nodes {
		n.Barred = true
		s.Input(n.ID, membership.GroupJudge{Hears: others(s, n.ID), Barred: true})
	}
	s.Run(10*time.Second, nil)
	if l := leader(s); l != 0 {
		t.Fatalf("node %d leads", l)
	}
}

func TestHandOver(t *testing.T) {
	s := formed(t, 5, nil)
	order(t, s, 1, 5)
	for _, to := range []membership.NodeID{4, 2, 5, 1} {
		if to == leader(s) {
			continue
		}
		s.Input(leader(s), membership.GroupHandOver{To: to})
		await(t, s, "hand-over", func() bool { return leader(s) == to && settled(s) })
		order(t, s, 3, 2)
	}
}

// S8: a hand-over to a node that does not answer is given up, and the leader goes on.
func TestHandOverIsGivenUp(t *testing.T) {
	s := formed(t, 3, nil)
	order(t, s, 1, 1)
	l := leader(s)
	to := others(s, l)[0]
	s.Node(to).Group = deaf{s.Node(to).Group}
	s.Input(l, membership.GroupHandOver{To: to})
	s.Run(30*time.Millisecond, nil)
	s.Propose(l, "dropped while the hand-over runs")
	before := s.Check.Highest
	s.Run(150*time.Millisecond, nil)
	s.Propose(l, "taken")
	s.Run(50*time.Millisecond, nil)
	if leader(s) != l || s.Check.Highest != before+1 {
		t.Fatalf("leader %d, %d entries", leader(s), s.Check.Highest-before)
	}
}

// deaf loses every input.
type deaf struct{ membership.Group }

func (deaf) Step(membership.Mono, ...membership.GroupInput) []membership.GroupEffect { return nil }
func (deaf) Deadline() membership.Mono                                               { return 0 }

// S7: a leader whose kernel answers and whose daemon stands still is replaced by the others.
func TestStalledLeaderIsReplaced(t *testing.T) {
	s := formed(t, 3, nil)
	order(t, s, 1, 5)
	l := leader(s)
	s.Node(l).Group = deaf{s.Node(l).Group}
	from := s.Now
	for rank, id := range others(s, l) {
		s.Input(id, membership.GroupJudge{Hears: others(s, id), LeaderStalled: true, Rank: rank})
	}
	await(t, s, "another leader", func() bool { n := leader(s); return n != l && n != 0 })
	if took := s.Now.Sub(from); took > 60*time.Millisecond {
		t.Fatalf("took %v", took)
	}
}

// A conviction that is wrong, and is never withdrawn, does not keep a node out for ever.
func TestWrongConvictionThatStays(t *testing.T) {
	o := calm(3)
	o.Detect = 0
	s := grouptest.NewSim(provider(nil), o)
	s.StartAll()
	await(t, s, "a leader", func() bool { return settled(s) })
	l, id := leader(s), others(s, leader(s))[0]
	hears := slices.DeleteFunc(others(s, id), func(n membership.NodeID) bool { return n == l })
	s.Input(id, membership.GroupJudge{Hears: hears, LeaderDead: true, Rank: 1})
	s.Run(10*time.Millisecond, nil)
	if st := s.Node(id).Group.Status(); st.Leader != 0 {
		t.Fatalf("still follows: %+v", st)
	}
	await(t, s, "it following again", func() bool { return settled(s) })
	if now := leader(s); now != l {
		t.Fatalf("node %d leads, %d did", now, l)
	}
}

// Who died a moment ago is linked still: it is named with those that are not.
func TestWaitingNamesWhoIsSilentOnItsLink(t *testing.T) {
	o := calm(3)
	o.Detect = 0
	s := grouptest.NewSim(provider(nil), o)
	s.StartAll()
	await(t, s, "a leader", func() bool { return settled(s) })
	l, id := leader(s), others(s, leader(s))[0]
	other := others(s, l)[1]
	s.Crash(other)
	s.Run(time.Second, nil)
	s.Input(id, membership.GroupJudge{LeaderDead: true, Rank: 1})
	s.Run(10*time.Millisecond, nil)
	want := fmt.Sprintf("no majority of the voters can be heard; missing node %d, node %d", min(l, other), max(l, other))
	if got := s.Node(id).Group.Status().Waiting; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A leader that lost its majority and has it back leads again at once: whoever
// followed it hears from itself that it had stepped down.
func TestSteppedDownLeaderIsNotWaitedFor(t *testing.T) {
	const backstop = 10 * time.Second
	for range 5 {
		s := formed(t, 5, func(c *raft.Config) { c.Backstop = backstop })
		l := leader(s)
		rest := others(s, l)
		s.Crash(rest[3])
		for _, near := range []membership.NodeID{l, rest[0]} {
			for _, far := range rest[1:3] {
				s.Cut(near, far, true)
			}
		}
		await(t, s, "the end of its leadership", func() bool { return s.Node(l).Group.Status().Leader == 0 })
		from := s.Now
		s.Heal()
		await(t, s, "a leader", func() bool { return leader(s) != 0 && settled(s) })
		if took := s.Now.Sub(from); took > backstop/10 {
			t.Fatalf("took %v", took)
		}
	}
}

// A leader that was started anew leads again at once, also when all were: nobody is
// convicted then, and the others follow it as before.
func TestRestartedLeaderIsNotWaitedFor(t *testing.T) {
	const backstop = 10 * time.Second
	for _, all := range []bool{false, true} {
		s := formed(t, 3, func(c *raft.Config) { c.Backstop = backstop })
		order(t, s, 1, 3)
		l := leader(s)
		for _, n := range s.Nodes {
			if all || n.ID == l {
				s.Crash(n.ID)
			}
		}
		s.StartAll()
		from := s.Now
		await(t, s, "a leader", func() bool { return leader(s) != 0 && settled(s) })
		if took := s.Now.Sub(from); took > backstop/10 {
			t.Errorf("all %v: took %v", all, took)
		}
		order(t, s, leader(s), 3)
	}
}

// The backstop works without any detector.
func TestBackstopWithoutDetector(t *testing.T) {
	o := calm(3)
	o.Detect = 0
	s := grouptest.NewSim(provider(nil), o)
	s.StartAll()
	await(t, s, "a leader", func() bool { return settled(s) })
	l := leader(s)
	s.Crash(l)
	from := s.Now
	await(t, s, "another", func() bool { n := leader(s); return n != 0 && n != l })
	if took := s.Now.Sub(from); took < 300*time.Millisecond || took > 3*time.Second {
		t.Fatalf("took %v", took)
	}
}

func TestProposalsTogetherSyncOnce(t *testing.T) {
	s := formed(t, 3, nil)
	l := machine(s, leader(s))
	var in []membership.GroupInput
	for i := range 50 {
		in = append(in, membership.GroupPropose{Data: []byte{byte(i + 1)}})
	}
	persists, sends := 0, 0
	for _, e := range l.Step(s.Now, in...) {
		switch e.(type) {
		case membership.GroupPersist:
			persists++
		case membership.GroupSend:
			sends++
			if persists > 0 {
				t.Fatal("a leader's append was held back by its own write")
			}
		}
	}
	if persists != 1 || sends > 4 {
		t.Fatalf("%d persists and %d sends for 50 proposals", persists, sends)
	}
}

// TestFailoverFigures states what the loss of the leader costs, in message
// delays D and writes W, and what an entry costs.
func TestFailoverFigures(t *testing.T) {
	const d, w = 10 * time.Millisecond, 0
	o := grouptest.Options{Nodes: 3, Seed: 1, MinDelay: d, Write: w, Detect: time.Millisecond}
	for _, c := range []struct {
		name  string
		write time.Duration
	}{{"delays", 0}, {"with writes of exactly 1 to 2 delays", d}} {
		o.Write = c.write
		s := grouptest.NewSim(provider(func(c *raft.Config) { c.Stagger = 10 * d }), o)
		s.StartAll()
		await(t, s, "a leader", func() bool { return settled(s) })
		order(t, s, 1, 3)
		s.Crash(leader(s))
		s.Run(time.Millisecond, nil) // convicted
		from, before := s.Now, s.Check.Highest
		await(t, s, "a leader", func() bool { l := leader(s); return l != 0 })
		elected := s.Now.Sub(from)
		s.Propose(leader(s), "first")
		await(t, s, "the first entry", func() bool { return s.Check.Highest > before })
		first := s.Now.Sub(from)
		t.Logf("%s: conviction to leader %.1f D, to first entry %.1f D", c.name,
			float64(elected)/float64(d), float64(first)/float64(d))
		if c.write == 0 && (elected > 2*d+time.Millisecond || first > 6*d+time.Millisecond) {
			t.Errorf("elected after %v, first entry after %v", elected, first)
		}
	}
}

func TestWritesPerEntry(t *testing.T) {
	s := formed(t, 3, func(c *raft.Config) { c.CompactEntries = 100000 })
	persists := func() (n int) {
		for _, node := range s.Nodes {
			n += node.Persists
		}
		return n
	}
	before := persists()
	const n = 200
	for range n {
		order(t, s, leader(s), 1)
	}
	if got := persists() - before; got != 3*n {
		t.Fatalf("%d writes for %d entries at 3 nodes, want one each", got, n)
	}
}
