package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// asker is node 1 of three and its devices.
type asker struct {
	*holder
	at   time.Duration
	asks []int
	when []time.Duration
	stop int
}

func newAsker(t *testing.T, devices ...membership.Device) *asker {
	h := newHolder(t)
	h.n.cfg.Devices = devices
	return &asker{holder: h}
}

func monitored(id membership.NodeID, every time.Duration) membership.Device {
	return membership.Device{Nodes: []membership.NodeID{id}, Agent: "/usr/sbin/fence_x", Level: 1, Timeout: time.Second, Monitor: every}
}

func (a *asker) step(in Input) {
	for _, e := range a.n.Step(membership.Mono(a.at), in) {
		switch e := e.(type) {
		case AskDevice:
			a.asks = append(a.asks, e.Device)
			a.when = append(a.when, a.at)
		case StopAsking:
			a.stop++
		case Emit:
			if e.Event.Kind == membership.KindDegraded && !strings.Contains(e.Event.Text, "did not run") {
				a.said = append(a.said, e.Event.Text)
			}
		}
	}
}

// pass lets time go by; each question is answered at once.
func (a *asker) pass(d time.Duration, errs ...string) {
	for end := a.at + d; a.at < end; {
		a.at += 100 * time.Millisecond
		asked := len(a.asks)
		a.step(Timer{Samples: []membership.Sample{{Peer: 2, Heard: membership.Mono(a.at), Instance: 1}, {Peer: 3, Heard: membership.Mono(a.at), Instance: 1}}})
		if len(a.asks) > asked {
			i := a.asks[asked]
			in := DeviceAnswered{Device: i}
			if i < len(errs) {
				in.Answer.Err = errs[i]
			}
			a.step(in)
		}
	}
}

func (a *asker) count(i int) (c int) {
	for _, x := range a.asks {
		if x == i {
			c++
		}
	}
	return c
}

func TestDevicesAreAskedInTurn(t *testing.T) {
	a := newAsker(t, monitored(2, time.Minute), monitored(3, 5*time.Minute), monitored(1, time.Minute), monitored(2, 0))
	a.pass(monitorFirst)
	if len(a.asks) > 0 {
		t.Fatalf("at the start, when everything else begins: %v", a.asks)
	}
	a.pass(time.Hour)
	for i, want := range []int{60, 12, 0, 0} { // not one's own, and not one that is off
		if got := a.count(i); got < want*8/10 || got > want*12/10+1 {
			t.Errorf("device %d was asked %d times in an hour, want about %d", i, got, want)
		}
	}
	gaps := map[time.Duration]bool{}
	for i := 1; i < len(a.when); i++ {
		gap := a.when[i] - a.when[i-1]
		gaps[gap] = true
		if gap < monitorEach {
			t.Errorf("two within %v", gap)
		}
	}
	if len(gaps) < 10 {
		t.Errorf("no jitter: %v", gaps)
	}
}

// Who would not be the first to fence a node asks its devices less often.
func TestOthersAskLessOften(t *testing.T) {
	a := newAsker(t, monitored(2, time.Minute), monitored(3, time.Minute))
	a.g.leader, a.n.leader = 2, 2 // whose own devices this node, the next by id, would use first
	a.pass(time.Hour)
	if first, other := a.count(0), a.count(1); first < 50 || other < 10 || other > 15 {
		t.Errorf("%d and %d", first, other)
	}
}

func TestAFailingDeviceIsToldOnceAndShown(t *testing.T) {
	a := newAsker(t, monitored(2, time.Minute), monitored(3, time.Minute))
	const err = "fence_x monitor: agent failed: exit status 1: Unable to connect"
	a.pass(20*time.Second, err) // the second look comes soon
	if len(a.said) != 1 || !strings.Contains(a.said[0], "fence device fence_x of n2 (level 1) does not work, asked from here: "+err) {
		t.Fatalf("%q", a.said)
	}
	a.pass(5*time.Minute, err, err)
	if len(a.said) != 2 { // the other node's device failed as well meanwhile
		t.Fatalf("%q", a.said)
	}
	s := a.n.Status(membership.Mono(a.at), nil)
	i := slices.IndexFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "fence device fence_x of n2, n3 (level 1)") })
	if i < 0 || s.Level != 1 || !strings.Contains(s.Warnings[i], err) || !strings.Contains(s.Warnings[i], "for 5m") || !strings.Contains(s.Warnings[i], "quorate fence test n2") {
		t.Fatalf("%v %q", s.Level, s.Warnings)
	}
	a.pass(3*time.Minute, "", err)
	if len(a.said) != 3 || a.said[2] != "fence device fence_x of n2 (level 1) works again, asked from here" {
		t.Fatalf("%q", a.said)
	}
	a.pass(3 * time.Minute)
	if w := a.n.deviceWarnings(); len(w) != 0 || len(a.said) != 4 {
		t.Errorf("%q %q", w, a.said)
	}
}

func TestOneFailureIsNobodysFault(t *testing.T) {
	a := newAsker(t, monitored(2, time.Minute))
	for range 5 {
		for n := len(a.asks); len(a.asks) == n; {
			a.pass(100*time.Millisecond, "fence_x monitor: busy")
		}
		a.pass(monitorAgain * 3 / 2)
	}
	if len(a.said) > 0 || len(a.n.deviceWarnings()) > 0 {
		t.Errorf("%q", a.said)
	}
}

// Nothing is asked while anything is fenced or changes, and what is being asked is stopped.
func TestFencingAndChangesComeFirst(t *testing.T) {
	for name, begin := range map[string]func(*asker){
		"fencing": func(a *asker) { a.n.st.Cases = []cluster.Case{{Victim: a.m[2], Needed: true}} },
		"job":     func(a *asker) { a.n.st.Cases = []cluster.Case{{Victim: a.m[2], Job: &cluster.Job{}}} },
		"change":  func(a *asker) { a.n.set.Spaces = []*lockspace.Space{{Name: "gfs", Change: &lockspace.Change{}}} },
		"evicted": func(a *asker) { a.n.st.View.Members = a.m[1:] },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAsker(t, monitored(2, time.Minute))
			begin(a)
			if a.n.mayMonitor() {
				t.Error("it may be asked now")
			}
			a.n.asking = 1
			a.n.unmonitor()
			a.n.unmonitor()
			if effs := a.n.take(); !slices.Equal(effs, []Effect{StopAsking{}}) {
				t.Fatalf("%v", effs)
			}
			a.n.answered(DeviceAnswered{Device: 0, Stopped: true})
			if w := a.n.watch(0); a.n.asking != 0 || w.last != 0 || w.fails != 0 {
				t.Errorf("%+v", w)
			}
		})
	}
}

func TestJitter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		if x := jitter(a, b); x < 0 || x >= 1 || x != jitter(a, b) {
			t.Fatal(x)
		}
	})
}

func TestTheLeaseHasRoomForAll(t *testing.T) {
	a := newAsker(t, membership.Device{Nodes: []membership.NodeID{3}, Level: 1, Timeout: 20 * time.Second, Delay: 5 * time.Second, RandomDelay: 3 * time.Second},
		membership.Device{Nodes: []membership.NodeID{3}, Level: 2, Timeout: 10 * time.Second, Delay: time.Second})
	if got, want := a.n.lease(3), fenceStart+(8+40)*time.Second+21*time.Second+lieLimit; got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if a.n.lease(2) != 0 {
		t.Error("a lease without a device")
	}
	a.n.st.Cases = []cluster.Case{{Victim: a.m[2], Needed: true, Attempts: 1, Job: &cluster.Job{FenceStart: cluster.FenceStart{Victim: a.m[2], Attempt: 1, Actor: a.m[1]}}}}
	a.n.clock(a.m[2]).jobSeen = 0
	a.n.now = membership.Mono(3 * time.Second)
	if s := a.n.fenceStatus(); len(s) != 1 || s[0].Delay != 5*time.Second {
		t.Errorf("%+v", s)
	}
	if w := a.n.fenceWait("x", a.m[2]); !strings.Contains(w.Reason, "off is delayed for up to 5s more") {
		t.Errorf("%q", w.Reason)
	}
}
