package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
)

// fencedNode is node 1 of three, whose devices have just been run against node 3.
type fencedNode struct {
	*holder
	at    time.Duration
	alive map[membership.NodeID]time.Duration // when a peer was heard last
	runs  map[membership.NodeID]uint64
	// kernel says that the kernel of node 3 answers, and has no daemon.
	kernel bool
	heldAt membership.Mono // when it was last heard to; 0: until now
}

func newFenced(t *testing.T, reason membership.Reason) *fencedNode {
	h := newHolder(t)
	h.n.cfg.Devices = []membership.Device{{Nodes: []membership.NodeID{3}, Agent: "fence_x", Level: 1, Timeout: time.Second}}
	h.n.set.Spaces = []*lockspace.Space{{Name: "gfs", Live: []lockspace.Member{{Incarnation: h.m[2]}}}}
	f := &fencedNode{h, time.Second, map[membership.NodeID]time.Duration{2: time.Second, 3: time.Second}, map[membership.NodeID]uint64{2: 1, 3: 1}, false, 0}
	f.look()
	evict := cluster.Command{Evict: &cluster.Evict{View: 3, Departures: []membership.Departure{{Incarnation: h.m[2], Reason: reason, Observers: []membership.NodeID{1}}}}}
	h.n.apply(100, evict)
	h.g.index = 100
	f.look() // proposes the job, which the group orders at once
	if c := h.n.st.Case(h.m[2]); c == nil || c.Job == nil {
		t.Fatalf("no job: %+v", h.n.st.Cases)
	}
	return f
}

func (f *fencedNode) samples() (out []membership.Sample) {
	for _, id := range []membership.NodeID{2, 3} {
		s := membership.Sample{Peer: id, Heard: membership.Mono(f.alive[id]), Instance: f.runs[id]}
		if s.Alive = s.Heard; f.kernel {
			s.Alive = cmp.Or(f.heldAt, membership.Mono(f.at))
		}
		out = append(out, s)
	}
	return out
}

func (f *fencedNode) look() {
	f.alive[2] = f.at
	f.note(f.n.Step(membership.Mono(f.at), Timer{Samples: f.samples()}))
}

func (f *fencedNode) note(effs []Effect) {
	for _, e := range effs {
		if e, ok := e.(Emit); ok {
			f.said = append(f.said, string(e.Event.Kind)+" "+e.Event.Text)
		}
	}
}

// pass lets time go by; answers says that node 3 answers meanwhile.
func (f *fencedNode) pass(d time.Duration, answers bool) {
	for end := f.at + d; f.at < end; {
		f.at += 20 * time.Millisecond
		if answers {
			f.alive[3] = f.at
		}
		f.look()
	}
}

// success is the agent's.
func (f *fencedNode) success() {
	c := f.n.st.Case(f.m[2])
	f.note(f.n.Step(membership.Mono(f.at), FenceDone{Job: membership.FenceJob{Victim: f.m[2], Attempt: c.Attempts},
		Result: membership.FenceResult{OK: true, Agent: "fence_x", Level: 2}, Ended: membership.Mono(f.at), Samples: f.samples()}))
}

func (f *fencedNode) proved() bool { return f.n.st.Proved(f.m[2]) }

func (f *fencedNode) heard(words string) bool {
	return slices.ContainsFunc(f.said, func(s string) bool { return strings.Contains(s, words) })
}

// The common death costs nothing: the victim was silent for long enough before.
func TestASilentVictimsProofIsNotHeldUp(t *testing.T) {
	f := newFenced(t, membership.ReasonSilent)
	f.pass(300*time.Millisecond, false)
	f.success()
	if !f.proved() {
		t.Fatal("a silent victim's proof waits")
	}
}

// One that answered up to the cut has to be silent for dead_after.
func TestAVictimThatAnsweredHasToFallSilent(t *testing.T) {
	f := newFenced(t, membership.ReasonOperator)
	f.pass(100*time.Millisecond, true)
	f.success()
	if f.proved() {
		t.Fatal("it was heard just before")
	}
	if w := f.n.fenceWait("x", f.m[2]); !strings.Contains(w.Reason, "fence_x reported success, and n3 was heard since: it has to be silent for 200ms") || w.Deadline <= 9*time.Second {
		t.Errorf("%+v", w)
	}
	f.pass(180*time.Millisecond, false)
	if f.proved() {
		t.Fatal("after less than dead_after")
	}
	f.pass(40*time.Millisecond, false)
	if !f.proved() {
		t.Fatal("silent for dead_after since the end")
	}
	if f.heard("lied ") {
		t.Errorf("%q", f.said)
	}
}

// S13: what answers is not off, whatever the device says.
func TestAnAnsweringVictimsDeviceLies(t *testing.T) {
	f := newFenced(t, membership.ReasonStalled)
	f.success()
	f.pass(9900*time.Millisecond, true)
	if f.n.st.Case(f.m[2]).Lied != 0 {
		t.Error("nothing is ordered yet")
	}
	if f.proved() || f.heard("fence-end") {
		t.Fatalf("too soon: %q", f.said)
	}
	f.pass(200*time.Millisecond, true)
	c := f.n.st.Case(f.m[2])
	if f.proved() || !strings.Contains(c.LastErr, "fence_x: the device lies: it reported success, and n3 still answers in the same boot: check that its plug or address is that of n3") {
		t.Fatalf("%+v", c)
	}
	if c.Lied != 2 {
		t.Errorf("level 2 lied: %+v", c)
	}
	if h := f.n.st.History; len(h) != 1 || h[0].OK {
		t.Errorf("%+v", h)
	}
}

// Another node may hear what this one does not.
func TestAVictimThatOthersHearIsNotOff(t *testing.T) {
	f := newFenced(t, membership.ReasonUnlinked)
	f.n.Step(membership.Mono(f.at), Connected{Peer: 2})
	row := func(age time.Duration, instance uint64) {
		r := liveness.Row{From: 2, Round: uint64(f.at), View: 4, Instance: 1, Ages: []liveness.Age{{Peer: 1}, {Peer: 3, Age: age, Instance: instance}}}
		f.note(f.n.Step(membership.Mono(f.at), Received{From: 2, Data: envelope(kindRow, encodeRow(r))}))
	}
	f.pass(300*time.Millisecond, false)
	row(20*time.Millisecond, 1)
	f.success()
	for range 20 {
		f.pass(100*time.Millisecond, false)
		row(10*time.Millisecond, 1)
	}
	if f.proved() {
		t.Fatal("node 2 hears it")
	}
	row(0, 99) // of a run that nobody knows: it may be of another boot
	f.pass(300*time.Millisecond, false)
	if !f.proved() {
		t.Fatal("nobody hears it any more")
	}
}

// A node that stood still has heard nobody in that time, and knows nothing.
func TestSilenceOfOnesOwnPauseIsNone(t *testing.T) {
	f := newFenced(t, membership.ReasonStalled)
	f.pass(100*time.Millisecond, true)
	f.at += 3 * time.Second // the agent ends, and the answers of that time are not read yet
	f.success()
	if f.proved() {
		t.Fatal("it stood still itself")
	}
	f.pass(20*time.Millisecond, true)
	f.pass(150*time.Millisecond, false)
	if f.proved() {
		t.Fatal("after less than dead_after")
	}
	f.pass(400*time.Millisecond, false)
	if !f.proved() {
		t.Fatal("never")
	}
}

// newDaemonless has node 3 evicted for silence and its agent succeed, while its kernel answers
// without a daemon.
func newDaemonless(t *testing.T) *fencedNode {
	f := newFenced(t, membership.ReasonSilent)
	f.pass(300*time.Millisecond, false)
	f.kernel = true
	f.pass(300*time.Millisecond, false)
	f.success()
	return f
}

// What answers for a daemon that has ended is a kernel that may write: its device lies, too.
func TestAKernelWithoutADaemonIsNotOff(t *testing.T) {
	f := newDaemonless(t)
	f.pass(10100*time.Millisecond, false)
	if c := f.n.st.Case(f.m[2]); f.proved() || !strings.Contains(c.LastErr, "fence_x: the device lies") {
		t.Fatalf("%+v", c)
	}

	f = newFenced(t, membership.ReasonSilent)
	f.pass(300*time.Millisecond, false)
	f.success()
	f.kernel = true
	f.pass(time.Second, false)
	if !f.proved() || !f.heard("lied fence_x lied") {
		t.Errorf("%q", f.said)
	}
}

// What this node did not hear because it stood still itself is no silence of a kernel either.
func TestSilenceOfAKernelInOnesOwnPauseIsNone(t *testing.T) {
	f := newDaemonless(t)
	f.heldAt, f.at = membership.Mono(f.at), f.at+3*time.Second // what came in that time is not read yet
	f.look()
	if f.proved() {
		t.Fatal("it stood still itself")
	}
	f.heldAt = 0
	f.pass(100*time.Millisecond, false)
	f.heldAt = membership.Mono(f.at)
	if f.pass(150*time.Millisecond, false); f.proved() {
		t.Fatal("after less than dead_after")
	}
	if f.pass(100*time.Millisecond, false); !f.proved() {
		t.Fatal("never")
	}
}

// What has its keys taken from the storage, and keeps its power, answers on: no agent that takes
// keys lies by that. Of other devices an answer says that they lie, but of those that are said
// to leave the power a kernel's alone does not.
func TestADeviceThatLeavesThePowerDoesNotLie(t *testing.T) {
	for _, c := range []struct {
		agent          string
		unfence        bool
		daemon, kernel bool // answers
		proved         bool
	}{
		{"fence_scsi", false, true, false, true},
		{"/sbin/fence_mpath", false, true, true, true},
		{"/usr/sbin/fence_x", true, false, true, true},
		{"/usr/sbin/fence_x", true, true, false, false},
		{"fence_x", false, false, true, false},
	} {
		f := newFenced(t, membership.ReasonStalled)
		f.n.cfg.Devices = append(f.n.cfg.Devices, membership.Device{Nodes: []membership.NodeID{3}, Agent: c.agent, Level: 2, Timeout: time.Second, Unfence: c.unfence})
		f.pass(300*time.Millisecond, c.daemon)
		f.kernel = c.kernel
		f.look()
		f.success()
		if f.proved() != c.proved {
			t.Errorf("%+v: proved is %v", c, f.proved())
		}
		f.pass(time.Second, c.daemon)
		if f.heard("lied ") {
			t.Errorf("%+v: %q", c, f.said)
		}
	}
}

// After the proof the lie is said loudly, once, until the node is back anew.
func TestALieThatWasBelievedIsToldLoudly(t *testing.T) {
	f := newFenced(t, membership.ReasonSilent)
	f.pass(300*time.Millisecond, false)
	f.success()
	f.pass(time.Second, false)
	if f.heard("lied ") || !f.proved() {
		t.Fatalf("%q", f.said)
	}
	f.pass(time.Second, true)
	text := "fence_x lied: it reported success against n3, which still answers in the same boot"
	told := 0
	for _, s := range f.said {
		if strings.HasPrefix(s, "lied "+text) {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times: %q", told, f.said)
	}
	s := f.n.Status(membership.Mono(f.at), nil)
	if !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.HasPrefix(w, text) }) {
		t.Errorf("%q", s.Warnings)
	}
}

// What a node reads after it stood still was sent while the victim still ran.
func TestWordsReadLateAreNoLie(t *testing.T) {
	f := newFenced(t, membership.ReasonSilent)
	f.pass(300*time.Millisecond, false)
	f.success()
	f.pass(time.Second, false)
	f.at += 13 * time.Second
	f.look()
	f.n.Step(membership.Mono(f.at), Connected{Peer: 3})
	f.note(f.n.Step(membership.Mono(f.at), Received{From: 3, Data: []byte(`H{"protocol":1,"boot":"c","instance":1,"machine":"m"}`)}))
	f.pass(time.Second, false)
	if !f.heard("did not run") || f.heard("lied ") {
		t.Errorf("%q", f.said)
	}
}

// The next boot may answer: that is what the machine was fenced for.
func TestTheNextBootIsNoLie(t *testing.T) {
	f := newFenced(t, membership.ReasonSilent)
	f.pass(300*time.Millisecond, false)
	f.success()
	f.n.Step(membership.Mono(f.at), Connected{Peer: 3})
	b := `H{"protocol":1,"boot":"c2","instance":77,"machine":"m"}`
	f.note(f.n.Step(membership.Mono(f.at), Received{From: 3, Data: []byte(b)}))
	f.runs[3] = 77
	f.pass(2*time.Second, true)
	if f.heard("lied ") {
		t.Errorf("%q", f.said)
	}
}

// Answers have an epoch that may be older than the run of the daemon: both are of the boot
// that the hello named, and peers learn both.
func TestEpochsAreOfABoot(t *testing.T) {
	n := two(t)
	n.Step(2, Connected{Peer: 2})
	learnt := func(at membership.Mono, h Hello) (out []LearnEpoch) {
		t.Helper()
		h.Protocol, h.Boot, h.Machine = Protocol, "b1", "b"
		b, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range n.Step(at, Received{From: 2, Data: envelope(kindHello, b)}) {
			if l, ok := e.(LearnEpoch); ok {
				out = append(out, l)
			}
		}
		return out
	}
	for i, c := range []struct {
		hello Hello
		want  []LearnEpoch
	}{
		{Hello{Instance: 7}, []LearnEpoch{{Peer: 2, Instance: 7, Epoch: 7}}},
		{Hello{Instance: 7}, nil},
		{Hello{Instance: 8, Epoch: 7}, []LearnEpoch{{Peer: 2, Instance: 8, Epoch: 7}}},
		{Hello{Instance: 8, Epoch: 7}, nil},
		{Hello{Instance: 8, Epoch: 9}, []LearnEpoch{{Peer: 2, Instance: 8, Epoch: 9}}},
	} {
		if got := learnt(membership.Mono(3+i), c.hello); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %+v, want %+v", c.hello, got, c.want)
		}
	}
	for _, x := range []uint64{7, 8, 9} {
		if got := n.bootOf(2, x); got != "b1" {
			t.Errorf("%d is of boot %q", x, got)
		}
	}
	// Its own epoch is in its hello.
	n.id.Epoch = 44
	n.out = nil
	n.sayHello(2)
	h, err := DecodeHello(n.out[0].(Send).Data[1:])
	if err != nil || h.Epoch != 44 || h.Instance != 1 {
		t.Errorf("%+v, %v", h, err)
	}
}

// A run of the daemon is of the boot that its hello named, or its admission.
func TestRunsAreOfABoot(t *testing.T) {
	f := newFenced(t, membership.ReasonSilent)
	p := f.n.peers[3]
	for i := range uint64(2 * maxLives) {
		p.lived(life{100 + i, membership.BootID(fmt.Sprint("b", i))})
		p.lived(life{100 + i, membership.BootID(fmt.Sprint("b", i))})
	}
	for instance, want := range map[uint64]membership.BootID{1: "c", 100: "", 100 + maxLives: "b8", 99 + 2*maxLives: "b15", 7: ""} {
		if got := f.n.bootOf(3, instance); got != want {
			t.Errorf("%d: %q, want %q", instance, got, want)
		}
	}
}
