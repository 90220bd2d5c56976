package lockspace

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

func TestIDsAreTheIncumbents(t *testing.T) {
	for name, want := range map[string]uint32{"clvmd": 0x4104eefa, "lvm_global": 0x12aabd2d, "test": 0x77222027, "gfs2": 0xe4f48a18,
		"adqdhxzh": 1, // its checksum is 0, which the driver does not start
	} {
		if got := ID(name); got != want {
			t.Errorf("%s: %#x, want %#x", name, got, want)
		}
	}
}

func TestMountsJoinOneAfterAnother(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1)
	y.members("gfs", 1)
	mark := len(y.log)
	y.mount("gfs", 2, 3)
	y.members("gfs", 1, 2, 3)
	y.settled("gfs", 1, 2, 3)
	y.order(mark, "1 stop gfs", "1 start gfs [1 2 3]")
	y.order(mark, "1 stop gfs", "2 start gfs [1 2 3]")
}

func TestALossIsStoppedForFencedForAndRecovered(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2, 3)
	mark := len(y.log)
	lost := y.lose(3)
	y.run()
	if s := y.told(mark); strings.Contains(s, "start") || !strings.Contains(s, "1 stop gfs") || !strings.Contains(s, "2 stop gfs") {
		t.Fatalf("before the proof: %s", s)
	}
	if y.set.Holds(lost) || len(y.set.Unproved(y.set.Space("gfs"))) != 1 {
		t.Fatalf("waits for %v", y.set.Unproved(y.set.Space("gfs")))
	}
	y.proved(lost)
	y.members("gfs", 1, 2)
	y.settled("gfs", 1, 2)
	for _, n := range []string{"1 ", "2 "} {
		s := y.told(mark)
		if c, st := strings.Index(s, n+"comms -3"), strings.Index(s, n+"start gfs [1 2] gone 3 failed=true"); c < 0 || st < c {
			t.Fatalf("the comms entry goes before control=1: %s", s)
		}
	}
}

func TestNoStartBeforeEverybodyHasStopped(t *testing.T) { // I2
	y := newStory(t, 4)
	y.mount("gfs", 1, 2, 3, 4)
	y.nodes[1].frozen = true
	lost := y.lose(4)
	mark := len(y.log)
	y.proved(lost)
	if s := y.told(mark); strings.Contains(s, "start") {
		t.Fatalf("node 2 has not stopped: %s", s)
	}
	y.nodes[1].frozen = false
	y.run()
	y.settled("gfs", 1, 2, 3)
}

func TestALossInTheMiddleSupersedes(t *testing.T) {
	for _, at := range []string{"stopping", "starting"} {
		t.Run(at, func(t *testing.T) {
			y := newStory(t, 4)
			y.mount("gfs", 1, 2, 3, 4)
			y.nodes[2].frozen = at == "stopping"
			a := y.lose(4)
			y.run()
			if at == "starting" {
				y.nodes[2].frozen = true
			}
			y.proved(a)
			b := y.lose(3)
			y.run()
			y.members("gfs", 1, 2)
			mark := len(y.log)
			y.proved(b)
			y.settled("gfs", 1, 2)
			if s := y.told(mark); !strings.Contains(s, "1 start gfs [1 2]") || !strings.Contains(s, "gone 3 failed=true") {
				t.Fatalf("%s", s)
			}
		})
	}
}

func TestACleanLeaveKeepsTheCommsEntry(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2, 3)
	mark := len(y.log)
	y.unmount("gfs", 2)
	y.run()
	y.members("gfs", 1, 3)
	s := y.told(mark)
	if strings.Contains(s, "comms") || !strings.Contains(s, "2 left gfs") || !strings.Contains(s, "1 start gfs [1 3] gone 2 failed=false") {
		t.Fatalf("%s", s)
	}
	if _, _, ok := y.nodes[1].local.Phase("gfs"); ok {
		t.Fatal("its kernel is done with it")
	}
	y.unmount("gfs", 1)
	y.unmount("gfs", 3)
	y.run()
	if len(y.set.Spaces) != 0 {
		t.Fatalf("nobody is left: %+v", y.set.Spaces[0])
	}
}

func TestALeaverThatDiesInTheStopBarrierIsLost(t *testing.T) { // S19
	y := newStory(t, 3)
	y.mount("gfs", 1, 2, 3)
	y.nodes[1].frozen = true
	y.unmount("gfs", 2)
	y.run()
	if !y.set.Holds(y.nodes[1].self.Incarnation) {
		t.Fatal("it has not stopped: it holds the lockspace")
	}
	lost := y.lose(2)
	y.run()
	if len(y.set.Unproved(y.set.Space("gfs"))) != 1 {
		t.Fatal("its death needs proof")
	}
	y.proved(lost)
	y.settled("gfs", 1, 3)
}

func TestAJoinerThatDiesBeforeTheOpeningNeedsNoProof(t *testing.T) { // S14
	y := newStory(t, 3)
	y.mount("gfs", 1, 2)
	y.nodes[0].frozen = true
	y.mount("gfs", 3)
	joiner := y.nodes[2].self.Incarnation
	if y.set.Holds(joiner) {
		t.Fatal("nothing opened that names it")
	}
	y.lose(3)
	y.nodes[0].frozen = false
	y.run()
	y.members("gfs", 1, 2)
	y.settled("gfs", 1, 2)
}

func TestAReturningNodeJoinsAfterItsOldSelfIsRecovered(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2, 3)
	lost := y.lose(3)
	y.run()
	y.returns(3) // before the proof
	mark := len(y.log)
	y.mount("gfs", 3)
	if s := y.told(mark); strings.Contains(s, "start") {
		t.Fatalf("before the proof: %s", s)
	}
	y.proved(lost)
	y.members("gfs", 1, 2, 3)
	y.settled("gfs", 1, 2, 3)
	s := y.told(mark)
	first, again := strings.Index(s, "1 start gfs [1 2] gone 3 failed=true"), strings.Index(s, "1 start gfs [1 2 3]")
	if first < 0 || again < first || strings.Index(s, "1 comms +3") < first {
		t.Fatalf("recovered, then the comms entry anew, then joined: %s", s)
	}
}

// A node has one comms entry in a kernel, and "lvm" has still to be told that its
// old life is gone: its join of "gfs" waits for that, and nobody is stopped for it.
func TestAReturningNodeIsHeldBackByAnotherLockspace(t *testing.T) { // S21
	y := newStory(t, 4)
	y.mount("gfs", 1, 2, 3)
	y.mount("lvm", 1, 2, 3, 4)
	lost, first := y.lose(4), y.lose(3)
	y.run()
	y.proved(first)
	y.members("gfs", 1, 2)
	y.settled("gfs", 1, 2)
	m := y.returns(3)
	mark := len(y.log)
	y.mount("gfs", 3)
	if s := y.told(mark); strings.Contains(s, "stop") || strings.Contains(s, "start") {
		t.Fatalf("before lvm is recovered: %s", s)
	}
	if by := y.set.HeldBack("gfs", m); by != "lvm" {
		t.Fatalf("held back by %q", by)
	}
	y.proved(lost)
	y.members("gfs", 1, 2, 3)
	y.settled("gfs", 1, 2, 3)
	y.members("lvm", 1, 2)
}

func TestAllLostAndOneBack(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2, 3)
	a, b, c := y.lose(1), y.lose(2), y.lose(3)
	m := y.nodes[0]
	m.self.Incarnation.Boot, m.local, m.daemon, m.queue = "again", NewLocal(), true, nil
	y.view(membership.View{Number: 9, Quorate: true, Members: []membership.Incarnation{m.self.Incarnation}})
	y.mount("gfs", 1)
	for _, i := range []membership.Incarnation{a, b} {
		y.proved(i)
		y.phase(1, "gfs", Joining)
	}
	y.proved(c)
	y.members("gfs", 1)
	y.settled("gfs", 1)
}

func TestNoStartInAViewWithoutQuorum(t *testing.T) { // I4
	y := newStory(t, 3)
	v := y.set.Current
	v.Quorate = false
	y.view(v)
	y.mount("gfs", 1)
	y.phase(1, "gfs", Joining)
	v.Quorate = true
	y.view(v)
	y.run()
	y.settled("gfs", 1)
}

func TestAGlitchThatStoppedOneNodeRestartsAll(t *testing.T) { // S20
	y := newStory(t, 3)
	y.mount("gfs", 1, 2, 3)
	y.nodes[2].self.Quorum = false
	y.run()
	y.phase(3, "gfs", Stopped)
	y.phase(1, "gfs", Running)
	y.nodes[2].self.Quorum = true
	mark := len(y.log)
	y.run()
	y.settled("gfs", 1, 2, 3)
	if s := y.told(mark); !strings.Contains(s, "1 stop gfs") || strings.Contains(s, "gone") {
		t.Fatalf("%s", s)
	}
}

// A kernel that refuses to start is asked again, in the same change: its deadline stands.
func TestARefusedStartIsTriedAgain(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2, 3)
	y.nodes[1].refuses = true
	lost := y.lose(3)
	y.run()
	mark := len(y.log)
	y.proved(lost)
	seq := y.set.Space("gfs").Seq
	for range 3 {
		y.now = y.now.Add(retryAfter)
		y.run()
	}
	if n := strings.Count(y.told(mark), "2 start gfs"); n != 4 || y.set.Space("gfs").Seq != seq {
		t.Fatalf("%d starts, change %d after %d:\n%s", n, y.set.Space("gfs").Seq, seq, y.told(mark))
	}
	if name, since := y.nodes[1].local.Refusing(); name != "gfs" || y.now.Sub(since) < 3*retryAfter {
		t.Fatalf("%q refuses since %v of %v", name, since, y.now)
	}
	y.nodes[1].self.Quorum = false // nobody asks it now
	y.now = y.now.Add(time.Minute)
	y.run()
	y.nodes[1].self.Quorum = true
	y.run()
	if name, since := y.nodes[1].local.Refusing(); name != "gfs" || y.now.Sub(since) > retryAfter {
		t.Fatalf("%q refuses since %v of %v", name, since, y.now)
	}
	y.nodes[1].refuses = false
	y.now = y.now.Add(retryAfter)
	y.run()
	y.settled("gfs", 1, 2)
	if name, since := y.nodes[1].local.Refusing(); since != 0 {
		t.Fatalf("%q refuses still", name)
	}
}

func TestAnEvictedNodeStopsAndDoesNotStartAgain(t *testing.T) { // I7
	y := newStory(t, 3)
	y.mount("gfs", 1, 2, 3)
	y.lose(3)
	m := y.nodes[2]
	m.daemon, m.self.Evicted, m.self.Member = true, true, false
	y.run()
	y.phase(3, "gfs", Stopped)
	if h := m.local.Holding(); len(h) != 1 {
		t.Fatalf("its kernel still holds it: %v", h)
	}
}

func TestAJoinerThatDoesNotFinishIsTakenOut(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2)
	m := y.nodes[2]
	m.local.Step(y.now, Online{"gfs"})
	m.frozen = true
	y.run()
	y.refuse("gfs", 3)
	m.frozen = false
	mark := len(y.log)
	y.run()
	y.members("gfs", 1, 2)
	y.settled("gfs", 1, 2)
	// Both ends of each conversation begin anew: the joiner before its mount is told, the
	// others when their kernels have forgotten it.
	y.order(mark, "3 comms =1", "3 refused gfs")
	y.order(mark, "3 comms =2", "3 refused gfs")
	y.order(mark, "1 start gfs [1 2] gone 3 failed=false", "1 comms =3")
	y.order(mark, "2 start gfs [1 2] gone 3 failed=false", "2 comms =3")
	y.mount("gfs", 3) // and it may try again
	y.members("gfs", 1, 2, 3)
}

// What a refused joiner has in common with others is not touched.
func TestARefusedJoinerKeepsWhatItShares(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2)
	y.mount("other", 2, 3)
	m := y.nodes[2]
	m.local.Step(y.now, Online{"gfs"})
	m.frozen = true
	y.run()
	y.refuse("gfs", 3)
	m.frozen = false
	mark := len(y.log)
	y.run()
	y.settled("gfs", 1, 2)
	if s := y.told(mark); !strings.Contains(s, "1 comms =3") || !strings.Contains(s, "3 comms =1") || strings.Contains(s, "2 comms =") || strings.Contains(s, "3 comms =2") {
		t.Fatalf("%s", s)
	}
}

// One that has still to begin anew with a refused joiner does not meet it elsewhere
// before: it would be cut off from it there.
func TestNobodyMeetsARefusedJoinerTooEarly(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2)
	y.mount("other", 3)
	m := y.nodes[2]
	m.local.Step(y.now, Online{"gfs"})
	m.frozen = true
	y.run()
	y.nodes[1].frozen = true // has not stopped yet
	y.refuse("gfs", 3)
	m.frozen = false
	mark := len(y.log)
	y.mount("other", 1)
	if by := y.set.HeldBack("other", y.nodes[0].self.Incarnation); by != "gfs" {
		t.Fatalf("held back by %q", by)
	}
	y.nodes[1].frozen = false
	y.run()
	y.settled("gfs", 1, 2)
	y.settled("other", 1, 3)
	y.order(mark, "1 comms =3", "1 start other [1 3]")
	y.order(mark, "3 comms =1", "3 start other [1 3]")
}

// A leaver that has to begin anew with a refused joiner stays for that.
func TestALeaverBeginsAnewWithARefusedJoiner(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2)
	y.mount("other", 2)
	m := y.nodes[2]
	m.local.Step(y.now, Online{"gfs"})
	m.frozen = true
	y.run()
	y.unmount("gfs", 2)
	y.run()
	y.refuse("gfs", 3)
	m.frozen = false
	mark := len(y.log)
	y.run()
	y.members("gfs", 1)
	y.settled("gfs", 1)
	y.order(mark, "3 comms =2", "2 left gfs")
	y.order(mark, "2 comms =3", "2 left gfs")
	y.mount("other", 3)
	y.settled("other", 2, 3)
}

// The same when another one dies before the joiner is refused.
func TestALeaverStaysForAJoiner(t *testing.T) {
	y := newStory(t, 4)
	y.mount("gfs", 1, 2, 4)
	y.mount("other", 2)
	m := y.nodes[2]
	m.local.Step(y.now, Online{"gfs"})
	m.frozen = true
	y.run()
	y.unmount("gfs", 2)
	m.frozen, m.slow = false, true
	y.proved(y.lose(4))
	y.members("gfs", 1, 2, 3)
	y.refuse("gfs", 3)
	mark := len(y.log)
	y.run()
	y.members("gfs", 1)
	y.settled("gfs", 1)
	y.order(mark, "2 comms =3", "2 left gfs")
}

// A kernel that may not know the slot of a former member yet is not told that it
// failed: the entry goes when the kernel has forgotten the member.
func TestNoKernelIsToldOfADeathWithoutASlot(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2)
	m := y.nodes[2]
	m.local.Step(y.now, Online{"gfs"})
	m.frozen = true
	y.run()
	mark := len(y.log)
	inc := y.lose(3) // as it joins
	y.run()
	y.proved(inc)
	y.settled("gfs", 1, 2)
	y.order(mark, "1 start gfs [1 2] gone 3 failed=false", "1 comms -3")
	y.order(mark, "2 start gfs [1 2] gone 3 failed=false", "2 comms -3")

	m.frozen = false
	y.returns(3)
	m.local.Step(y.now, Online{"gfs"})
	m.slow = true
	y.run()
	y.phase(3, "gfs", Recovering)
	mark = len(y.log)
	inc = y.lose(2)
	y.run()
	m.slow = false
	y.proved(inc)
	y.settled("gfs", 1, 3)
	y.order(mark, "1 comms -2", "1 start gfs [1 3] gone 2 failed=true") // has its slot, and replays its journal
	y.order(mark, "3 start gfs [1 3] gone 2 failed=false", "3 comms -2")
}

// Kernels that can be told replay the journal of a node that withdrew; where one stays
// that knows of deaths alone, nothing goes on before the node was evicted and proved
// gone (S21).
func TestWhoWithdraws(t *testing.T) {
	for _, older := range []bool{false, true} {
		y := newStory(t, 3)
		for i, m := range y.nodes {
			m.self.Recovers = i != 0 || !older
		}
		y.mount("gfs", 1, 2, 3)
		mark := len(y.log)
		y.withdraw("gfs", 3)
		y.run()
		if !older {
			y.settled("gfs", 1, 2)
			y.order(mark, "3 stop gfs", "1 start gfs [1 2] gone 3 failed=false recover")
			y.order(mark, "3 stop gfs", "3 left gfs")
			continue
		}
		sp := y.set.Space("gfs")
		if w := sp.Withdrawn(); len(w) != 1 || w[0].Node != 3 || sp.Change == nil || sp.Change.Opened != 0 {
			t.Fatalf("to be evicted: %v; change %+v", w, sp.Change)
		}
		inc := y.lose(3)
		y.run()
		y.proved(inc)
		y.settled("gfs", 1, 2)
		y.order(mark, "1 comms -3", "1 start gfs [1 2] gone 3 failed=true")
	}
}

// One with an older kernel that joins as a member withdraws is not told, in the changes
// after that either: its kernel did not know the member, which lives.
func TestAJoinerIsNotToldWhoWithdrewBefore(t *testing.T) {
	y := newStory(t, 4)
	for i, m := range y.nodes {
		m.self.Recovers = i != 3
	}
	y.mount("gfs", 1, 2, 3)
	y.nodes[2].frozen = true // until both are asked for
	y.withdraw("gfs", 1)
	y.run()
	y.nodes[2].slow = true
	mark := len(y.log)
	y.mount("gfs", 4)
	y.nodes[2].frozen = false
	y.run()
	if c := y.set.Space("gfs").Change; c == nil || c.Opened == 0 || !slices.Contains(c.Done, 4) {
		t.Fatalf("%+v", c)
	}
	inc := y.lose(3)
	y.run()
	y.proved(inc)
	y.settled("gfs", 2, 4)
	y.order(mark, "2 start gfs [2 3 4] gone 1 failed=false recover", "2 start gfs [2 4] gone 1 failed=false recover gone 3 failed=true")
	y.order(mark, "4 start gfs [2 3 4] gone 1 failed=false", "4 start gfs [2 4] gone 1 failed=false gone 3 failed=true")
}

// What a kernel failed to do it is asked for again, after a while.
func TestWhatTheKernelFailedIsTriedAgain(t *testing.T) {
	y := newStory(t, 2)
	m := y.nodes[1]
	m.ill = true
	m.local.Step(y.now, Online{"gfs"})
	mark := len(y.log)
	y.run()
	y.mount("gfs", 1)
	if s := y.told(mark); strings.Count(s, "2 comms +1") != 1 || strings.Contains(s, "2 start gfs [1 2]") {
		t.Fatalf("no start without the comms entry, and no other attempt at once:\n%s", s)
	}
	m.ill = false
	y.now = y.now.Add(retryAfter)
	y.run()
	y.settled("gfs", 1, 2)

	m.ill = true
	mark = len(y.log)
	y.unmount("gfs", 2)
	y.run()
	y.settled("gfs", 1)
	y.phase(2, "gfs", Stopped)
	if s := y.told(mark); strings.Count(s, "2 left gfs") != 1 || m.local.Err("gfs") == "" {
		t.Fatalf("error %q after\n%s", m.local.Err("gfs"), s)
	}
	m.ill = false
	y.now = y.now.Add(retryAfter)
	y.run()
	if _, _, ok := m.local.Phase("gfs"); ok {
		t.Fatal("the kernel was not asked again to end it")
	}
}

// Each of two lockspaces has to be told that one failed whose clean leave of the other
// is not done there: neither waits for the other with the comms entry.
func TestLeaversOfTwoLockspacesDie(t *testing.T) {
	y := newStory(t, 4)
	y.mount("gfs", 1, 2, 3, 4)
	y.mount("lvm", 1, 2, 3, 4)
	y.nodes[0].slow = true
	y.unmount("gfs", 3)
	y.unmount("lvm", 4)
	y.run()
	y.phase(1, "gfs", Recovering)
	y.phase(1, "lvm", Recovering)
	mark := len(y.log)
	a, b := y.lose(3), y.lose(4)
	y.run()
	y.nodes[0].slow = false
	y.proved(a)
	y.proved(b)
	y.settled("gfs", 1, 2)
	y.settled("lvm", 1, 2)
	y.order(mark, "1 comms -4", "1 start gfs [1 2] gone 3 failed=false gone 4 failed=true")
	y.order(mark, "1 comms -3", "1 start lvm [1 2] gone 4 failed=false gone 3 failed=true")
}

// Two that each have what the other joins die as they join. A kernel would have to be told
// of each death in one lockspace, and not in the other, whose slots it does not know: there
// is no order for that, so they do not join at once.
func TestJoinersOfTwoLockspacesDie(t *testing.T) {
	y := newStory(t, 4)
	y.mount("gfs", 1, 2, 4)
	y.mount("lvm", 1, 2, 3)
	y.nodes[2].frozen, y.nodes[3].frozen = true, true
	y.nodes[2].local.Step(y.now, Online{"gfs"})
	y.nodes[3].local.Step(y.now, Online{"lvm"})
	y.nodes[2].slow, y.nodes[3].slow, y.nodes[0].slow = true, true, true
	y.nodes[2].frozen, y.nodes[3].frozen = false, false
	y.run()
	y.phase(1, "gfs", Recovering)
	if by := y.set.HeldBack("lvm", y.nodes[3].self.Incarnation); by != "gfs" {
		t.Errorf("held back by %q", by)
	}
	a, b := y.lose(3), y.lose(4)
	y.run()
	y.nodes[0].slow = false
	y.proved(a)
	y.proved(b)
	y.settled("gfs", 1, 2)
	y.settled("lvm", 1, 2)
}

func TestTwoLockspacesShareOneStopEntry(t *testing.T) { // S22
	y := newStory(t, 3)
	y.mount("a", 1, 2, 3)
	y.mount("b", 1, 2, 3)
	y.lose(3)
	m := y.nodes[0]
	m.local.Reconcile(y.now, y.set, m.self)
	m.local.Step(y.now, StopDone{"a", m.local.spaces["a"].token, ""})
	m.local.Step(y.now, StopDone{"b", m.local.spaces["b"].token, ""})
	_, wishes := m.local.Reconcile(y.now, y.set, m.self)
	if len(wishes) != 1 || len(wishes[0].Message.Stopped) != 2 {
		t.Fatalf("%+v", wishes)
	}
}

func TestAnOldWordOfStoppingDoesNotCountAfterAnOpening(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2, 3)
	sp := y.set.Space("gfs")
	old := sp.Seq
	y.nodes[0].frozen = true
	y.lose(3)
	y.run()
	y.index++
	late := Message{Stopped: []StopAck{{Lockspace: "gfs", Change: old}}}
	if err := y.set.Message(y.index, y.nodes[0].self.Incarnation, late.Encode()); err != nil {
		t.Fatal(err)
	}
	if len(sp.Change.Acks) != 1 {
		t.Fatalf("node 1 has not stopped for change %d: %+v", sp.Change.Seq, sp.Change)
	}
}

func TestLockspacesOfOneIDCannotShareACluster(t *testing.T) {
	y := newStory(t, 2)
	y.mount("a", 1)
	y.set.Space("a").ID = ID("b")
	y.mount("b", 2)
	if s := y.told(0); !strings.Contains(s, "2 refused b") {
		t.Fatalf("%s", s)
	}
}

func TestWordsOfStrangersChangeNothing(t *testing.T) {
	y := newStory(t, 2)
	y.mount("gfs", 1)
	before, _ := y.set.Snapshot()
	y.index++
	m := Message{Join: &Join{Lockspace: "gfs"}}
	if err := y.set.Message(y.index, membership.Incarnation{Node: 2, Boot: "older"}, m.Encode()); err != nil {
		t.Fatal(err)
	}
	if after, _ := y.set.Snapshot(); !bytes.Equal(before, after) {
		t.Fatal("an incarnation that is no member was heard")
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, b := range []string{``, `{}`, `{"join":{"ls":"a"},"leave":{"ls":"a"}}`, `[1]`} {
		if _, err := Decode([]byte(b)); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v", b, err)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"join":{"ls":"gfs"}}`), []byte(`{"leave":{"ls":"gfs"}}`))
	f.Add([]byte(`{"stopped":[{"ls":"gfs","change":1}]}`), []byte(`{"recovered":{"ls":"gfs","change":1}}`))
	f.Add([]byte(`{"restart":{"ls":"gfs","change":1}}`), []byte(`{"refuse":{"ls":"gfs","change":1,"joiner":{"node":1,"boot":"boot1"}}}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		y := newStory(t, 2)
		y.mount("gfs", 1, 2)
		for _, m := range [][]byte{a, b} {
			y.index++
			if err := y.set.Message(y.index, y.nodes[0].self.Incarnation, m); err != nil && !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
		}
	})
}
