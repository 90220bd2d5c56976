package node

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// booting is node 1 of three that leads, while node 3 boots with a device that has to
// be switched on.
func booting(t *testing.T) *fencedNode {
	h := newHolder(t)
	h.n.cfg.Devices = []membership.Device{{Nodes: []membership.NodeID{3}, Agent: "fence_brocade", Level: 1, Timeout: time.Second, Unfence: true},
		{Nodes: []membership.NodeID{3}, Agent: "fence_x", Level: 2, Timeout: time.Minute}}
	h.n.st.View.Members = h.m[:2]
	h.n.newView()
	f := &fencedNode{h, time.Second, map[membership.NodeID]time.Duration{}, map[membership.NodeID]uint64{2: 1, 3: 1}, false, 0}
	return f
}

// wish is what the leader does for node 3 now; the effects are returned.
func (f *fencedNode) wish() (unfenced bool, effs []Effect) {
	f.n.now = membership.Mono(f.at)
	f.n.wished = map[string]bool{}
	unfenced = f.n.unfenced(3, "c2")
	f.n.unfenceWishes()
	f.n.stepQueued()
	effs = f.n.take()
	f.note(effs)
	return unfenced, effs
}

func unfences(effs []Effect) (out []Unfence) {
	for _, e := range effs {
		if u, ok := e.(Unfence); ok {
			out = append(out, u)
		}
	}
	return out
}

func TestDevicesAreSwitchedOnBeforeANodeComesIn(t *testing.T) {
	f := booting(t)
	f.n.take()
	ok, effs := f.wish()
	runs := unfences(effs)
	if ok || len(runs) != 1 || runs[0].Node != 3 || runs[0].Deadline != f.n.now.Add(fenceStart) {
		t.Fatalf("%v %+v", ok, effs)
	}
	if why, left, waits := f.n.unfenceWait(3); !waits || why != "n1 switches the fence devices of n3 on (attempt 1)" || left != 3*time.Second {
		t.Errorf("%q %v %v", why, left, waits)
	}
	if ok, effs = f.wish(); ok || len(unfences(effs)) > 0 {
		t.Fatal("twice at a time")
	}
	f.n.unfenceDone(UnfenceDone{Node: 3, Attempt: 1, Err: "fence_brocade on: no route"})
	f.wish()
	if why, left, waits := f.n.unfenceWait(3); !waits || !strings.Contains(why, "could not be switched on, 1 time: fence_brocade on: no route") || left != time.Second {
		t.Errorf("%q %v %v", why, left, waits)
	}
	if ok, effs = f.wish(); ok || len(unfences(effs)) > 0 {
		t.Fatal("at once after a failure")
	}
	f.at += time.Second
	if _, effs = f.wish(); len(unfences(effs)) != 1 || unfences(effs)[0].Attempt != 2 {
		t.Fatalf("%+v", effs)
	}
	f.n.unfenceDone(UnfenceDone{Node: 3, Attempt: 1}) // of the former attempt: late
	f.n.unfenceDone(UnfenceDone{Node: 3, Attempt: 2})
	f.wish()
	if ok, _ = f.wish(); !ok {
		t.Fatal("its devices are on")
	}
	if _, _, waits := f.n.unfenceWait(3); waits || !f.heard("unfence attempt 1 failed: fence_brocade on: no route") || !f.heard("unfence attempt 2: its devices are on") {
		t.Errorf("%q", f.said)
	}
	if !f.n.unfenced(2, "b") {
		t.Error("node 2 has no device that asks for it")
	}
}

func TestASwitchingOnOfWhichNothingIsHeardExpires(t *testing.T) {
	f := booting(t)
	f.wish()
	f.n.unfences = map[membership.NodeID]*unfencing{} // this run of the daemon did not begin it
	lease := f.n.unfenceLease(3)
	f.at += lease + lease/4 + 4*time.Second
	f.wish()
	if f.n.st.Unfence(3).Running == nil {
		t.Fatal("too soon")
	}
	f.at += 2 * time.Second
	f.wish()
	if x := f.n.st.Unfence(3); x.Running != nil || x.Failed != 1 {
		t.Fatalf("%+v", x)
	}
}
