package node

import (
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
)

// The DLM's path is cut when data stay unanswered for PathLimit under a lockspace that
// runs at both ends, and not otherwise.
func TestUnansweredDataMakeACut(t *testing.T) {
	h := newHolder(t)
	h.n.cfg.PathLimit = 15 * time.Second
	at := func(d time.Duration) membership.Mono { return membership.Mono(d) }
	want := func(what string, ids ...membership.NodeID) {
		t.Helper()
		if got := h.n.blocked(heard(h.n.now, 2, 3)); !slices.Equal(got, ids) {
			t.Errorf("%s: %v, not %v", what, got, ids)
		}
	}
	says := func(d time.Duration, ids ...membership.NodeID) {
		h.n.now = at(d)
		h.n.paths(Unanswered{Peers: ids})
	}
	says(time.Second, 2)
	says(18*time.Second, 2)
	want("twice may be by chance")
	says(20*time.Second, 2)
	want("no lockspace runs")
	h.n.set = &lockspace.Set{Spaces: []*lockspace.Space{{Name: "gfs", Live: []lockspace.Member{{Incarnation: h.m[0]}, {Incarnation: h.m[1]}}}}}
	running(h.n.local, "gfs")
	want("one runs with it", 2)
	h.n.set.Spaces[0].Change = &lockspace.Change{Seq: 2}
	want("a change has not opened")
	h.n.set.Spaces[0].Change.Opened = 7
	want("their recovery is waited for", 2)
	h.n.set.Spaces[0].Live[1].Joining = true
	want("it joins")
	h.n.set.Spaces[0].Live[1].Joining = false
	h.n.set.Spaces[0].Change = nil
	says(21*time.Second, 3)
	want("it answered, and the other has no lockspace")
	for _, d := range []time.Duration{22, 24, 26} {
		says(d*time.Second, 2, 3)
	}
	h.n.now = at(60 * time.Second)
	want("nobody has looked since")
	says(36*time.Second, 2, 3)
	want("counted anew")
	says(37*time.Second, 2, 3)
	want("and for long again", 2)
}

// heard are samples of peers that have just answered.
func heard(at membership.Mono, ids ...membership.NodeID) (out []membership.Sample) {
	for _, id := range ids {
		out = append(out, membership.Sample{Peer: id, Heard: at})
	}
	return out
}

// A peer that stood still, as announced, gets what it missed after as long again: until
// then it leaves data unanswered, and is well. So may all be after an own pause.
func TestDataThatWereMissedMakeNoCut(t *testing.T) {
	h := newHolder(t)
	h.n.cfg.PathLimit = 15 * time.Second
	h.n.set = &lockspace.Set{Spaces: []*lockspace.Space{{Name: "gfs", Live: []lockspace.Member{{Incarnation: h.m[0]}, {Incarnation: h.m[1]}, {Incarnation: h.m[2]}}}}}
	running(h.n.local, "gfs")
	who := []membership.NodeID{2}
	look := func(at time.Duration, peer2 time.Duration, want ...membership.NodeID) {
		t.Helper()
		h.n.now = membership.Mono(at)
		h.n.paths(Unanswered{Peers: who})
		samples := append(heard(membership.Mono(peer2), 2), heard(h.n.now, 3)...)
		samples = append(samples, membership.Sample{Peer: 2, Link: 1, Heard: h.n.now}) // the DLM does not use it
		if got := h.n.blocked(samples); !slices.Equal(got, want) {
			t.Errorf("%v: %v, not %v", at, got, want)
		}
	}
	look(10*time.Second, 9*time.Second)
	look(12*time.Second, 9*time.Second)
	look(50*time.Second, 9*time.Second)
	look(51*time.Second, 51*time.Second) // TCP tries again before 91 s
	look(100*time.Second, 100*time.Second)
	look(105*time.Second, 105*time.Second, 2)

	who[0] = 3
	look(105*time.Second, 105*time.Second)
	look(119*time.Second, 119*time.Second)
	h.n.pathsMissed(10 * time.Second)
	look(125*time.Second, 125*time.Second)
	look(130*time.Second, 130*time.Second, 3)
}

// running brings a lockspace to where the kernel has recovered it.
func running(l *lockspace.Local, name string) {
	self := membership.Incarnation{Node: 1, Boot: "a"}
	set := &lockspace.Set{Current: membership.View{Quorate: true, Members: []membership.Incarnation{self}},
		Spaces: []*lockspace.Space{{Name: name, Live: []lockspace.Member{{Incarnation: self}},
			Change: &lockspace.Change{Seq: 1, Opened: 1, New: []lockspace.Member{{Incarnation: self}}}}}}
	l.Step(1, lockspace.Online{Lockspace: name})
	effects, _ := l.Reconcile(1, set, lockspace.Self{Incarnation: self, Member: true, Quorum: true})
	for _, e := range effects {
		if s, ok := e.(lockspace.Start); ok {
			l.Step(2, lockspace.StartDone{Lockspace: name, Token: s.Token})
			l.Step(3, lockspace.RecoverDone{Lockspace: name, Token: s.Token})
		}
	}
}

// The path is link 0's, where there is one and the DLM's address is on it.
func TestHeardOnPath(t *testing.T) {
	both := []membership.Sample{{Peer: 2, Link: 0, Heard: 5}, {Peer: 2, Link: 1, Heard: 9}, {Peer: 3, Link: 1, Heard: 7}}
	for _, c := range []struct {
		id      membership.NodeID
		anyLink bool
		want    membership.Mono
	}{{2, false, 5}, {2, true, 9}, {3, false, 7}, {3, true, 7}, {4, false, 0}} {
		if got := heardOnPath(both, c.id, c.anyLink); got != c.want {
			t.Errorf("node %d, any link %v: %d, not %d", c.id, c.anyLink, got, c.want)
		}
	}
}
