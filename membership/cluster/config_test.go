package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

func ids(all ...membership.NodeID) []membership.NodeID { return all }

// configured is a cluster of three with version 1 in force.
func configured(t *testing.T) (y *story, a, b, c membership.Incarnation) {
	y, a, b, c = three(t)
	y.done(Command{ConfigFirst: &ConfigFirst{Text: "one", Nodes: ids(1, 2, 3)}})
	return y, a, b, c
}

func propose(ask, text string, base uint64, nodes ...membership.NodeID) Command {
	if len(nodes) == 0 {
		nodes = ids(1, 2, 3)
	}
	return Command{ConfigPropose: &ConfigPropose{Ask: ask, Base: base, Text: text, Nodes: nodes, Who: "root"}}
}

func vote(ask string, who membership.Incarnation, why string) Command {
	return Command{ConfigVote: &ConfigVote{Ask: ask, Voter: who, Why: why}}
}

func (y *story) commit(ask string) Command {
	return Command{ConfigCommit: &ConfigCommit{Ask: ask, View: y.s.View.Number}}
}

func (y *story) inForce(version uint64, text string) {
	y.t.Helper()
	if c := y.s.Conf.Now; c.Version != version || c.Text != text || c.Digest != ConfigDigest(text) {
		y.t.Fatalf("in force is version %d, %q; want %d, %q", c.Version, c.Text, version, text)
	}
}

func TestAChangeIsInForceWhenEveryMemberSaidYes(t *testing.T) {
	y, a, b, c := configured(t)
	if p := y.done(propose("x", "two", 1)).Proposed; p == nil || p.Text != "two" {
		t.Fatal(p)
	}
	for i, m := range []membership.Incarnation{a, b, c} {
		y.refused(y.commit("x"), "have not said yes")
		if got := len(y.s.Awaited()); got != 3-i {
			t.Fatalf("%d are awaited", got)
		}
		y.done(vote("x", m, ""))
	}
	y.refused(vote("x", a, ""), "already")
	y.inForce(1, "one")
	out := y.done(y.commit("x"))
	if out.Configured == nil || out.Configured.Version != 2 || out.Ask != "x" {
		t.Fatal(out)
	}
	y.inForce(2, "two")
	y.refused(y.commit("x"), "no such change")
	if old, ok := y.s.ConfigVersion(1); !ok || old.Text != "one" {
		t.Fatal(old, ok)
	}
	if _, ok := y.s.ConfigVersion(0); ok {
		t.Fatal("version 0")
	}
}

func TestOneNoEndsAChange(t *testing.T) {
	y, a, b, _ := configured(t)
	y.done(propose("x", "two", 1))
	y.done(vote("x", a, ""))
	out := y.done(vote("x", b, "fence_x is not installed"))
	if out.Aborted == nil || out.Aborted.By != 2 || out.Aborted.Why != "fence_x is not installed" || out.Ask != "x" {
		t.Fatal(out)
	}
	y.inForce(1, "one")
	y.refused(vote("x", a, ""), "no such change")
	y.refused(y.commit("x"), "no such change")
	y.refused(propose("x", "two", 1), "already") // a late copy
	y.done(propose("y", "three", 1))
	if out := y.done(Command{ConfigAbort: &ConfigAbort{Ask: "y", Why: "late"}}); out.Aborted.By != 0 {
		t.Fatal(out)
	}
	y.refused(Command{ConfigAbort: &ConfigAbort{Ask: "y", Why: "late"}}, "no such change")
}

func TestWhoLeavesIsAskedNoMoreAndWhoComesIs(t *testing.T) {
	y, a, b, c := configured(t)
	y.done(propose("x", "two", 1))
	y.done(vote("x", a, ""))
	y.done(vote("x", b, ""))
	late := y.commit("x")
	y.evict(membership.ReasonSilent, c)
	y.refused(late, "decided in view")
	y.refused(vote("x", c, ""), "not a member")
	again := y.admit(3, "c2")
	y.refused(y.commit("x"), "[3] have not said yes")
	y.done(vote("x", again, ""))
	y.done(y.commit("x"))
	y.inForce(2, "two")
}

func TestWhatCannotBeProposed(t *testing.T) {
	y, _, _, _ := configured(t)
	y.refused(propose("0", "two", 0), "made from version 0")
	y.refused(propose("1", "two", 7), "made from version 7, and 1 is in force")
	y.refused(propose("2", "one", 1), "which is in force")
	y.refused(propose("3", strings.Repeat("x", MaxConfig+1), 1), "bytes")
	y.refused(propose("4", "", 1), "bytes")
	y.refused(propose("5", "two", 1, 1, 2), "node 3 is a member and cannot be removed")
	y.done(propose("6", "two", 1))
	y.refused(propose("7", "three", 1), "another change is under way, by root")
	y.refused(Command{ConfigFirst: &ConfigFirst{Text: "x"}}, "version 1 is in force")
	fresh, _, _, _ := three(t)
	fresh.refused(propose("1", "two", 0), "made from version 0")
	fresh.refused(Command{ConfigFirst: &ConfigFirst{}}, "0 bytes")
}

// agree brings a change into force by the votes of all members.
func (y *story) agree(c Command) {
	y.t.Helper()
	y.done(c)
	for _, m := range y.s.View.Members {
		y.done(vote(c.ConfigPropose.Ask, m, ""))
	}
	y.done(y.commit(c.ConfigPropose.Ask))
}

func TestATextThatIsTooLarge(t *testing.T) {
	for text, fits := range map[string]bool{
		"":                               true,
		strings.Repeat("x", MaxConfig):   true,
		strings.Repeat("x", MaxConfig+1): false,
		strings.Repeat("<", MaxConfig):   false, // six bytes each in JSON
	} {
		if err := ConfigFits(text); fits != (err == nil) || !fits && !errors.Is(err, ErrConfigSize) {
			t.Errorf("%d bytes of %.1q: %v", len(text), text, err)
		}
	}
}

func TestANodeIsRemovedAfterItsEndIsProved(t *testing.T) {
	y, a, _, c := configured(t)
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	y.refused(propose("1", "two", 1, 1, 2), "node 3 was evicted and is not proved gone")
	y.refused(propose("2", "four", 1, 1, 2, 3, 4), "no node is added while node 3 is evicted") // S16
	y.done(Command{FenceAck: &FenceAck{Victim: c, Who: "root"}})
	y.agree(propose("3", "two", 1, 1, 2))
	if y.s.Node(3) != nil || y.s.Case(c) != nil {
		t.Fatal("something is known of a node that was removed")
	}
	y.refused(Command{Admit: &Admit{Incarnation: inc(3, "c3", 0), Machine: "m3", View: y.s.View.Number}}, "not configured in version 2")
	y.agree(propose("4", "four", 2, 1, 2, 4))
	y.admit(4, "d")
	_ = a
}

// A removal that was agreed to while the node was away does not throw out one that came back.
func TestARemovalMeetsAReturn(t *testing.T) {
	y, a, b, c := configured(t)
	y.evict(membership.ReasonSilent, c)
	y.done(propose("x", "two", 1, 1, 2))
	y.done(vote("x", a, ""))
	y.done(vote("x", b, ""))
	back := y.admit(3, "c2")
	y.done(vote("x", back, ""))
	y.refused(y.commit("x"), "node 3 is a member and cannot be removed")
}

func TestAReplacedNodeMayBeAnotherMachine(t *testing.T) {
	y, _, _, c := configured(t)
	change := func(ask string, replace ...membership.NodeID) Command {
		p := propose(ask, "two", 1)
		p.ConfigPropose.Replace = replace
		return p
	}
	y.refused(change("1", 3), "is a member and cannot be replaced")
	y.refused(change("2", 9), "node 9 is not configured")
	y.done(Command{Leave: &Leave{Incarnation: c}})
	y.agree(change("3", 3))
	if m := y.s.Node(3).Machine; m != "" {
		t.Fatalf("still machine %q", m)
	}
}

func TestAChangedRuleMakesAView(t *testing.T) {
	y, _, _, _ := configured(t)
	n := y.s.View.Number
	if o := y.s.Recount(func([]membership.NodeID) bool { return true }); o.View != nil {
		t.Fatal("a view of nothing new")
	}
	o := y.s.Recount(func([]membership.NodeID) bool { return false })
	if o.View == nil || o.View.Quorate || o.View.Number != n+1 || len(o.View.Members) != 3 {
		t.Fatal(o.View)
	}
}

func TestFormerVersionsAreBounded(t *testing.T) {
	y, _, _, _ := configured(t)
	for v := uint64(1); v < 2*MaxPast; v++ {
		y.agree(propose(fmt.Sprint(v), fmt.Sprint("text ", v), v))
	}
	if len(y.s.Conf.Past) != MaxPast || len(y.s.Conf.Asks) != maxConfigAsks {
		t.Fatal(len(y.s.Conf.Past), len(y.s.Conf.Asks))
	}
	if c, ok := y.s.ConfigVersion(2*MaxPast - 1); !ok || c.Version != 2*MaxPast-1 {
		t.Fatal("the newest former version is not kept")
	}
}

// Whatever is proposed, voted and decided in which order: what one member that was
// asked refuses is never in force, versions grow by one, and two replicas agree.
func TestNoRefusedTextIsEverInForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		twins := [2]*State{New(), New()}
		index := uint64(0)
		holds := func(membership.Incarnation) bool { return false }
		quorum := func(ids []membership.NodeID) bool { return len(ids) >= 2 }
		refused := map[string]bool{}
		apply := func(c Command) Outcome {
			index++
			was := twins[0].Conf.Now.Version
			o := twins[0].Apply(index, c, holds, quorum)
			twins[1].Apply(index, c, holds, quorum)
			if now := twins[0].Conf.Now; now.Version != was && (now.Version != was+1 || refused[now.Text]) {
				t.Fatalf("version %d after %d, text %q", now.Version, was, now.Text)
			}
			return o
		}
		for n := membership.NodeID(1); n <= 3; n++ {
			apply(Command{Admit: &Admit{Incarnation: inc(n, "b", 0), Machine: "m", View: twins[0].View.Number}})
		}
		apply(Command{ConfigFirst: &ConfigFirst{Text: "t0", Nodes: ids(1, 2, 3)}})
		asks := 0
		for range rapid.IntRange(0, 60).Draw(t, "entries") {
			s := twins[0]
			ask := fmt.Sprint(rapid.IntRange(max(0, asks-2), asks).Draw(t, "ask"))
			who := membership.NodeID(rapid.IntRange(1, 3).Draw(t, "who"))
			m, _ := s.View.Find(who)
			switch rapid.IntRange(0, 6).Draw(t, "kind") {
			case 0:
				asks++
				apply(propose(fmt.Sprint(asks), fmt.Sprint("t", asks), s.Conf.Now.Version, ids(1, 2, 3)[:rapid.IntRange(2, 3).Draw(t, "nodes")]...))
			case 1, 2:
				apply(vote(ask, m, ""))
			case 3:
				if o := apply(vote(ask, m, "no")); o.Aborted != nil {
					refused[o.Aborted.Change.Text] = true
				}
			case 4:
				apply(Command{ConfigCommit: &ConfigCommit{Ask: ask, View: s.View.Number}})
			case 5:
				apply(Command{Evict: &Evict{View: s.View.Number, Departures: []membership.Departure{{Incarnation: m, Reason: membership.ReasonSilent}}}})
			case 6:
				apply(Command{Admit: &Admit{Incarnation: inc(who, "b", 0), Machine: "m", View: s.View.Number}})
			}
			for _, v := range s.View.Members {
				if s.Conf.Now.Version > 0 && !slices.Contains(s.Conf.Nodes, v.Node) {
					t.Fatalf("member %v is not configured in version %d", v, s.Conf.Now.Version)
				}
			}
		}
		a, err := twins[0].Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		b, _ := twins[1].Snapshot()
		if !bytes.Equal(a, b) {
			t.Fatalf("two replicas differ:\n%s\n%s", a, b)
		}
	})
}
