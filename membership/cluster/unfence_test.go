package cluster

import (
	"bytes"
	"testing"

	"github.com/quorate/quorate/membership"
)

func (y *story) on(n membership.NodeID, boot string, attempt uint64, actor membership.Incarnation) Command {
	return Command{UnfenceStart: &UnfenceStart{Node: n, Boot: membership.BootID(boot), Attempt: attempt, Actor: actor}}
}

func onEnd(n membership.NodeID, attempt uint64, ok bool) Command {
	return Command{UnfenceEnd: &UnfenceEnd{Node: n, Attempt: attempt, OK: ok, Err: map[bool]string{false: "no route"}[ok]}}
}

func (y *story) readmit(n membership.NodeID, boot string) Command {
	return Command{Admit: &Admit{Incarnation: inc(n, boot, 0), Machine: "m3", View: y.s.View.Number}}
}

func TestNobodyIsAdmittedWhileItsDevicesAreSwitchedOn(t *testing.T) {
	y, a, b, c := three(t)
	y.refused(y.on(3, "c2", 1, a), "is a member")
	y.holds[c] = true
	y.evict(membership.ReasonSilent, c)
	y.refused(y.on(3, "c2", 1, a), "not proved gone")
	y.done(Command{NewBoot: &NewBoot{Victim: c, Boot: "c2", Machine: "m3"}})
	y.refused(y.on(3, "c2", 2, a), "attempt 2, expected 1")
	y.refused(y.on(3, "c2", 1, inc(1, "dead", 0)), "not a member")
	if o := y.done(y.on(3, "c2", 1, a)); o.Unfencing == nil || o.Unfencing.Actor != a {
		t.Fatalf("%+v", o)
	}
	y.refused(y.on(3, "c2", 2, b), "node 1 switches its devices on")
	y.refused(y.readmit(3, "c2"), "devices are being switched on")
	y.refused(onEnd(3, 2, true), "no such attempt")
	y.done(onEnd(3, 1, false))
	if x := y.s.Unfence(3); x.Done || x.Failed != 1 || x.Err != "no route" || x.Running != nil {
		t.Fatalf("%+v", x)
	}
	y.done(y.on(3, "c2", 2, b))
	if o := y.done(onEnd(3, 2, true)); o.UnfenceOver == nil || !o.UnfenceOver.Done || o.UnfenceOver.Failed != 0 {
		t.Fatalf("%+v", o)
	}
	y.refused(y.on(3, "c2", 3, a), "devices are on")
	y.done(y.readmit(3, "c2"))
}

func TestWhatIsFencedIsNotOnAnyMore(t *testing.T) {
	y, a, _, c := three(t)
	y.evict(membership.ReasonSilent, c)
	y.done(y.on(3, "c", 1, a))
	y.done(onEnd(3, 1, true))
	y.done(y.readmit(3, "c"))
	m, _ := y.s.View.Find(3)
	y.evict(membership.ReasonSilent, m) // it held nothing: nobody switched anything off
	if !y.s.Unfence(3).Done {
		t.Error("its devices are on still")
	}
	y.done(y.readmit(3, "c"))
	m, _ = y.s.View.Find(3)
	y.holds[m] = true
	y.evict(membership.ReasonSilent, m)
	y.done(y.start(m, a, 1))
	y.done(Command{FenceEnd: &FenceEnd{Victim: m, Attempt: 1, OK: true}})
	if y.s.Unfence(3).Done {
		t.Error("it was fenced")
	}
	y.done(y.on(3, "c2", 2, a)) // attempts are counted on: a late end of an old one fits nothing
}

// S12: an on that is slow must not come after the next off.
func TestAnActorThatSwitchesOnNeedsProof(t *testing.T) {
	y, a, b, c := three(t)
	y.admit(4, "d")
	y.evict(membership.ReasonSilent, c)
	y.done(y.on(3, "c2", 1, a))
	if o := y.evict(membership.ReasonSilent, a); !o.Evicted[0].Needed {
		t.Fatal("its agent may be running")
	}
	expire := Command{UnfenceExpire: &UnfenceExpire{Node: 3, Attempt: 1}}
	y.refused(expire, "not proved gone")
	y.refused(y.readmit(3, "c2"), "devices are being switched on")
	y.done(y.start(a, b, 1))
	y.done(Command{FenceEnd: &FenceEnd{Victim: a, Attempt: 1, OK: true}})
	if x := y.s.Unfence(3); x.Running != nil || x.Done || x.Err != "its actor is gone" {
		t.Fatalf("%+v", x)
	}
	y.refused(expire, "no such attempt")
	y.done(y.on(3, "c2", 2, b))
	y.done(Command{UnfenceExpire: &UnfenceExpire{Node: 3, Attempt: 2}}) // it lives, and knows nothing of it
	if x := y.s.Unfence(3); x.Running != nil || x.Failed != 2 {
		t.Fatalf("%+v", x)
	}
}

func TestANodeSwitchesItsOwnDevicesOn(t *testing.T) {
	y := newStory(t)
	self := inc(1, "a", 0)
	y.done(y.on(1, "a", 1, self)) // nobody is a member yet
	y.done(onEnd(1, 1, true))
	y.admit(1, "a")
	b, err := y.s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	r := New()
	if err := r.Restore(b); err != nil || r.Unfence(1) == nil || !r.Unfence(1).Done {
		t.Fatalf("%v %s", err, b)
	}
	if again, _ := r.Snapshot(); !bytes.Equal(b, again) {
		t.Errorf("%s\n%s", b, again)
	}
}
