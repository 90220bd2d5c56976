package links

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

// routed is a wire on which paths are chosen at each look.
type routed struct {
	*wire
	p     Paths
	moves []string
}

func (r *routed) run(d time.Duration) {
	for end := r.now.Add(d); r.now < end; {
		r.wire.run(r.timing.Interval)
		r.choose()
	}
}

func (r *routed) choose() {
	was := r.p.All()
	if r.p.Choose(r.now, r.m, r.samples) == slices.Equal(was, r.p.All()) {
		panic("what changed is not told, or told and not so")
	}
	for _, x := range r.p.All() {
		if !slices.Contains(was, x) {
			r.moves = append(r.moves, fmt.Sprintf("%v: %d over %d", r.now.Sub(membership.Mono(time.Hour)), x.Peer, x.Link))
		}
	}
}

func (r *routed) want(t *testing.T, what ...string) {
	t.Helper()
	if !slices.Equal(r.moves, what) {
		t.Errorf("moved\n\t%s\nwant\n\t%s", strings.Join(r.moves, "\n\t"), strings.Join(what, "\n\t"))
	}
	r.moves, r.told = nil, nil
}

func TestPathLeavesAndReturns(t *testing.T) {
	r := &routed{wire: newWire(lan, 2, 2)}
	r.run(time.Second)
	r.want(t, "40ms: 2 over 0", "40ms: 3 over 0")
	r.cut["2 0"] = true
	r.run(time.Second)
	r.want(t, "1.2s: 2 over 1")
	delete(r.cut, "2 0")
	r.run(ReturnAfter + time.Second)
	r.want(t, "12.32s: 2 over 0")
	r.cut["3 1"] = true // nothing is on it
	r.run(time.Second)
	r.want(t)
	if r.p.Of(2) != 0 || r.p.Of(3) != 0 || r.p.Of(9) != -1 {
		t.Errorf("%+v", r.p.All())
	}
}

// One that loses long packets is left as one that is silent, for one that does not.
func TestPathLeavesABlackHole(t *testing.T) {
	r := &routed{wire: newWire(lan, 2, 3)}
	r.run(time.Second)
	r.moves = nil
	r.hole(2, 0, 1500, true)
	r.run(time.Second)
	r.want(t, "1.04s: 2 over 1")
	r.hole(2, 1, 1500, true)
	r.cut["2 2"] = true
	r.run(time.Second) // when the last one is found to be silent it is the first again
	r.want(t, "2.04s: 2 over 2", "2.2s: 2 over 0")
	r.hole(2, 0, 0, false)
	r.run(ReturnAfter + time.Second)
	r.want(t)
	r.hole(2, 0, 1500, false)
	delete(r.cut, "2 2")
	r.run(time.Second)
	r.want(t, "14.32s: 2 over 2")
	r.hole(2, 0, 0, false)
	r.hole(2, 1, 0, false)
	r.run(ReturnAfter + time.Second)
	r.want(t, "25.04s: 2 over 0")
}

// A link that comes and goes is left once, and not taken again.
func TestPathOfAFlappingLink(t *testing.T) {
	r := &routed{wire: newWire(lan, 1, 2)}
	r.run(time.Second)
	r.moves = nil
	for range 10 {
		r.cut["2 0"] = true
		r.run(time.Second)
		delete(r.cut, "2 0")
		r.run(ReturnAfter - time.Second)
	}
	r.want(t, "1.2s: 2 over 1")
}

// A pause of this node, or of the peer, in which no link was heard, does not count
// against the one to which it is to go back.
func TestPathReturnsInSpiteOfAPause(t *testing.T) {
	r := &routed{wire: newWire(lan, 1, 2)}
	r.cut["2 0"] = true
	r.run(time.Second)
	delete(r.cut, "2 0")
	r.run(ReturnAfter / 2)
	r.moves = nil
	r.cut["2"] = true
	r.run(time.Second)
	delete(r.cut, "2")
	r.run(ReturnAfter/2 + time.Second)
	r.want(t, "11.32s: 2 over 0")
}

// A peer that is dead, or heard on no link, moves nothing.
func TestPathOfADeadPeer(t *testing.T) {
	r := &routed{wire: newWire(lan, 1, 2)}
	r.cut["2"] = true
	r.run(time.Second)
	r.want(t, "40ms: 2 over 0")
	r.cut = map[string]bool{"2 0": true} // it boots, and its first link is dead
	r.run(time.Second)
	r.want(t, "1.24s: 2 over 1")
	r.cut["2"] = true
	r.run(time.Minute)
	r.want(t)
}

// The link that is taken dies while the other one has not carried for long enough to be
// told of: it is taken all the same.
func TestPathOfTwoSilentLinks(t *testing.T) {
	r := &routed{wire: newWire(lan, 1, 2)}
	r.run(time.Second)
	r.cut["2 0"] = true
	r.run(time.Second)
	r.moves = nil
	delete(r.cut, "2 0")
	r.cut["2 1"] = true
	r.run(time.Second)
	r.want(t, "2.2s: 2 over 0")
}

// What a daemon finds is kept until more is known.
func TestPathIsAdopted(t *testing.T) {
	r := &routed{wire: newWire(lan, 3, 3)}
	r.p.Adopt([]Path{{3, 1}, {2, 2}, {3, 2}, {9, 0}})
	r.cut["2"], r.cut["3 0"] = true, true
	r.choose() // before anybody was heard
	r.want(t, "0s: 4 over 0")
	r.run(ReturnAfter + time.Second)
	r.want(t)
	if got := r.p.All(); !slices.Equal(got, []Path{{2, 2}, {3, 1}, {4, 0}}) {
		t.Errorf("%+v", got)
	}
	r.samples = slices.DeleteFunc(r.samples, func(s membership.Sample) bool { return s.Peer == 3 && s.Link == 1 || s.Peer == 4 })
	r.run(r.timing.Interval)
	if got := r.p.All(); !slices.Equal(got, []Path{{2, 2}, {3, 2}}) {
		t.Errorf("a link and a node are gone: %+v", got)
	}
}

// Whatever is cut: where one link of a peer is whole for long enough, the path is on one
// that is; and in the end, when all is healed, on the first.
func TestPathProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &routed{wire: newWire(lan, rapid.IntRange(1, 3).Draw(t, "peers"), rapid.IntRange(2, 3).Draw(t, "links"))}
		changed := map[string]membership.Mono{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			s := rapid.SampledFrom(r.samples).Draw(t, "link")
			key := fmt.Sprint(s.Peer, " ", s.Link)
			r.cut[key], changed[key] = !r.cut[key], r.now
			r.run(time.Duration(rapid.IntRange(1, 60).Draw(t, "intervals")) * lan.Interval)
			whole := func(p membership.NodeID, link int) bool { return !r.cut[fmt.Sprint(p, " ", link)] }
			for _, s := range r.samples {
				settled := r.now.Sub(changed[fmt.Sprint(s.Peer, " ", r.p.Of(s.Peer))]) > 3*lan.DeadAfter
				if r.now.Sub(changed[fmt.Sprint(s.Peer, " ", s.Link)]) > 3*lan.DeadAfter && whole(s.Peer, s.Link) && settled && !whole(s.Peer, r.p.Of(s.Peer)) {
					t.Fatalf("the path to %d is on link %d, which is cut, and %d is whole", s.Peer, r.p.Of(s.Peer), s.Link)
				}
			}
		}
		r.cut = map[string]bool{}
		r.run(ReturnAfter + 2*time.Second)
		for _, x := range r.p.All() {
			if x.Link != 0 {
				t.Fatalf("all is healed, and to %d link %d is taken", x.Peer, x.Link)
			}
		}
	})
}

func TestChooseDoesNotAllocate(t *testing.T) {
	w := newWire(lan, 31, 2)
	var p Paths
	w.run(time.Second)
	p.Choose(w.now, w.m, w.samples)
	if n := testing.AllocsPerRun(100, func() { w.now++; p.Choose(w.now, w.m, w.samples) }); n != 0 {
		t.Errorf("%v allocations a look", n)
	}
}
