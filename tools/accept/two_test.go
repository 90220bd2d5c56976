package accept

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// survivesIn is how long after a cut, or a death, the one of two nodes that is left
// goes on writing at the latest, with an agent that takes a second.
const survivesIn = 5 * time.Second

// secondAgent is a device that takes a second.
var secondAgent = fencedev.Fault{Mode: fencedev.Slow, Delay: time.Second}

// TestTwoNodes: whatever single thing happens to two nodes, exactly one of them goes
// on, and nothing that was written is lost.
func TestTwoNodes(t *testing.T) {
	w := newMounted(t, cluster.Options{Nodes: 2, DeadAfter: 500 * time.Millisecond, FenceTimeout: 1500 * time.Millisecond})
	w.Misbehave(secondAgent)
	for round := 1; round <= 5; round++ {
		w.story(fmt.Sprintf("the network between them is cut, node1 is first, %d", round), func(w *world) { w.cutOfTwo(1) })
	}
	w.story("node1 dies", func(w *world) { w.oneOfTwoDies(1) })
	w.story("node2 dies", func(w *world) { w.oneOfTwoDies(2) })
	// Who has more lockspaces is first.
	w.moreLockspaces(2)
	for round := 1; round <= 5; round++ {
		w.story(fmt.Sprintf("the network between them is cut, node2 is first, %d", round), func(w *world) { w.cutOfTwo(2) })
	}
	w.story("both are off and the one that was fenced boots alone", (*world).fencedBootsAlone)
	w.audit()
}

// moreLockspaces has a node use a second one.
func (w *world) moreLockspaces(i int) {
	w.t.Helper()
	_, err := w.Lab.Node(i).Run(w.ctx, cluster.Labnode+" dlm create second")
	w.must(err)
}

// cutOfTwo: with both alive the first one fences the other, and goes on in time.
func (w *world) cutOfTwo(first int) {
	w.t.Helper()
	w.calm()
	other := 3 - first
	wr := w.write(fmt.Sprintf("cut%d", time.Now().UnixNano()), 20, w.Nodes()...)
	defer wr.stop()
	at := time.Now()
	w.must(w.Lab.Cut(1, 2))
	w.goesOn(wr, first, other, at)
	w.must(w.Lab.Heal())
	w.back(other)
	for _, i := range w.Nodes() {
		wr.verify(i, w.Nodes()...)
	}
}

// oneOfTwoDies: the other one goes on, whichever it is.
func (w *world) oneOfTwoDies(victim int) {
	w.t.Helper()
	w.calm()
	wr := w.write(fmt.Sprintf("dies%d", time.Now().UnixNano()), 20, w.Nodes()...)
	defer wr.stop()
	at, err := w.Kill(w.ctx, victim)
	w.must(err)
	w.goesOn(wr, 3-victim, victim, at)
	w.back(victim)
	for _, i := range w.Nodes() {
		wr.verify(i, w.Nodes()...)
	}
}

// goesOn: exactly one of two goes on, in time, after the other was fenced, which
// wrote nothing since.
func (w *world) goesOn(wr *writers, winner, loser int, at time.Time) {
	w.t.Helper()
	w.within(30*time.Second, "the proof", func(ctx context.Context) error {
		_, err := w.Events.Wait(ctx, at, cluster.Of(winner, membership.KindFenced))
		return err
	})
	w.must(w.WaitLockspace(w.ctx, []int{winner}, []int{winner}))
	wr.progress(winner, w.first(at, membership.KindStarted, 0).At)
	if took := time.Since(at); took > w.Stretch(survivesIn) {
		w.t.Errorf("node%d writes again after %v, at most %v", winner, took.Round(time.Millisecond), w.Stretch(survivesIn))
	} else {
		w.t.Logf("node%d writes again after %v", winner, took.Round(time.Millisecond))
	}
	w.fencedBeforeStart(loser, at, []int{winner})
	w.silentAfterProof(loser, at)
	w.evictedOnly(at, loser)
	w.fencedOnly(at, loser)
	wr.stop()
}

// fencedBootsAlone: whoever was fenced and boots alone knows nothing of what came
// after; it waits, says why, and shoots nobody. When the other one boots both run.
func (w *world) fencedBootsAlone() {
	w.calm()
	wr := w.write(fmt.Sprintf("off%d", time.Now().UnixNano()), 20, w.Nodes()...)
	defer wr.stop()
	at, err := w.Kill(w.ctx, 2)
	w.must(err)
	w.goesOn(wr, 1, 2, at)
	off, err := w.Kill(w.ctx, 1)
	w.must(err)
	w.within(90*time.Second, "boot of node2", func(ctx context.Context) error { return w.BootAgain(ctx, 2) })
	w.within(30*time.Second, "node2 says for whom it waits", func(ctx context.Context) error {
		return cluster.Until(ctx, 200*time.Millisecond, func() error { return w.waitsFor(2, "node1") })
	})
	w.never(off, w.Stretch(8*time.Second), membership.KindTakeover, membership.KindFenceStart, membership.KindStarted)
	w.boot(1)
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	w.mount(1)
	w.mountLast(2)
	for _, i := range w.Nodes() {
		wr.verify(i, w.Nodes()...)
	}
	w.fencedOnly(off)
}

// never: for so long no node tells of any of these.
func (w *world) never(from time.Time, d time.Duration, kinds ...membership.Kind) {
	w.t.Helper()
	w.must(cluster.Sleep(w.ctx, d)) // what must not happen has so much time to
	w.none(from, kinds...)
}
