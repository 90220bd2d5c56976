package accept

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// TestCuts cuts the cluster network between living nodes. The management
// network, and so the fence devices, can be reached by all sides throughout.
func TestCuts(t *testing.T) {
	w := newMounted(t, cluster.Options{Nodes: 3, DeadAfter: 500 * time.Millisecond})
	w.story("a glitch shorter than dead_after", func(w *world) { w.glitch(250 * time.Millisecond) })
	w.story("a switch that is off for two seconds", func(w *world) { w.glitch(w.Stretch(2 * time.Second)) })
	w.story("a follower is cut off", func(w *world) { v := w.follower(); w.cut([]int{v}, func() error { return w.Lab.CutNode(v) }) })
	w.story("the leader is cut off", func(w *world) { v := w.leader(); w.cut([]int{v}, func() error { return w.Lab.CutNode(v) }) })
	w.story("a follower hears the leader and is not heard", func(w *world) {
		l, f := w.leader(), w.follower()
		w.cut([]int{l, f}, func() error { return w.Lab.CutOneWay(f, l) })
	})
	w.story("two hear the third and not each other", func(w *world) {
		l, f := w.leader(), w.follower()
		w.cut([]int{l, f}, func() error { return w.Lab.Cut(l, f) })
	})
	long := 20
	if full() {
		long = 60
	}
	w.story("a link flaps", func(w *world) { w.flaps(long) })
}

// glitch: nobody hears anybody for a while. There is no quorum to evict anybody, so
// when it is over everything goes on by itself.
func (w *world) glitch(d time.Duration) {
	w.t.Helper()
	w.calm()
	from := time.Now()
	wr := w.write(fmt.Sprintf("glitch%d", from.UnixNano()), 20, w.Nodes()...)
	defer wr.stop()
	for _, i := range w.Nodes() {
		w.must(w.Lab.CutNode(i))
	}
	time.Sleep(d) // the length of the glitch is the story
	w.must(w.Lab.Heal())
	healed := time.Now()
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
	for _, i := range w.Nodes() {
		wr.progress(i, healed)
	}
	w.t.Logf("everything runs %v after the end of it", time.Since(healed).Round(time.Millisecond))
	w.none(from, evil...)
	wr.stop()
	for _, i := range w.Nodes() {
		wr.verify(i, w.Nodes()...)
	}
}

func (w *world) calm() {
	if err := w.WaitCalm(w.ctx, time.Second); err != nil {
		w.t.Log(err)
	}
}

// stopSlack is how much later than dead_after a node may have stopped that was cut off.
const stopSlack = 500 * time.Millisecond

// cut: exactly one of the candidates is evicted, takes no new lock from dead_after on if
// it hears nobody, is fenced before anything starts, and writes nothing after its proof;
// the others go on.
func (w *world) cut(candidates []int, do func() error) {
	w.t.Helper()
	w.calm()
	wr := w.write(fmt.Sprintf("cut%d", time.Now().UnixNano()), 20, w.Nodes()...)
	defer wr.stop()
	// Fencing takes a while, so that a loser that went on would have the time for it.
	w.Misbehave(fencedev.Fault{Mode: fencedev.Slow, Delay: w.Stretch(4 * time.Second)})
	defer w.Misbehave(honest)
	at := time.Now()
	w.must(do())
	victim := w.evicted(at)
	if !slices.Contains(candidates, victim) {
		w.t.Fatalf("node%d was evicted, not one of %v", victim, candidates)
	}
	attempt := ""
	if len(candidates) == 1 { // it hears nobody; of two that do not hear each other both hear a quorum
		w.stoppedInTime(victim, at)
		attempt = w.attempts(candidates)
	}
	rest := w.Others(victim)
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	for _, i := range rest {
		wr.progress(i, time.Now())
	}
	w.fencedBeforeStart(victim, at, rest)
	w.silentAfterProof(victim, at)
	w.evictedOnly(at, victim)
	if attempt != "" && len(w.granted(attempt, victim)) > 0 {
		w.t.Fatalf("node%d, without a quorum, was granted a lock", victim)
	}
	for _, e := range w.Events.All() {
		if e.At.After(at) && e.Node == victim && (e.Kind == membership.KindOpened || e.Kind == membership.KindStarted) {
			w.t.Fatalf("node%d, cut off, says %s %s", victim, e.Kind, e.Text)
		}
	}
	wr.stop()
	w.must(w.Lab.Heal())
	w.Misbehave(honest)
	w.back(victim)
	for _, i := range w.Nodes() {
		wr.verify(i, w.Nodes()...)
	}
}

// stoppedInTime: a node that is cut off from all stops its lockspaces by itself.
func (w *world) stoppedInTime(i int, cut time.Time) {
	w.t.Helper()
	w.within(30*time.Second, fmt.Sprintf("node%d stops", i), func(ctx context.Context) error {
		e, err := w.Events.Wait(ctx, cut, cluster.Of(i, membership.KindStopped))
		if took := e.At.Sub(cut); err == nil && took > w.deadAfter+w.Stretch(stopSlack) {
			err = fmt.Errorf("node%d stopped %v after the cut, and dead_after is %v", i, took, w.deadAfter)
		}
		return err
	})
}

// evicted waits for the first eviction after a time.
func (w *world) evicted(at time.Time) (victim int) {
	w.t.Helper()
	w.within(30*time.Second, "an eviction", func(ctx context.Context) error {
		e, err := w.Events.Wait(ctx, at, func(e cluster.Event) bool { return e.Kind == membership.KindEvicted })
		victim = int(e.Subject)
		return err
	})
	return victim
}

// flaps: a node's links are gone for half of each of so many seconds.
func (w *world) flaps(seconds int) {
	w.calm()
	victim := w.follower()
	rest := w.Others(victim)
	from := time.Now()
	for range seconds {
		w.must(w.Lab.CutNode(victim))
		time.Sleep(500 * time.Millisecond)
		w.must(w.Lab.Heal())
		time.Sleep(500 * time.Millisecond)
	}
	seen := map[uint64]bool{}
	for _, e := range w.Events.All() {
		if e.At.After(from) && e.Kind == membership.KindEvicted {
			if int(e.Subject) != victim {
				w.t.Errorf("node%d was evicted: %s", e.Subject, e.Text)
			}
			seen[e.Index] = true
		}
	}
	w.t.Logf("%d evictions", len(seen))
	if len(seen) > 1 {
		w.t.Errorf("%d evictions of one node that flaps", len(seen))
	}
	if !w.Lab.Node(victim).Powered() {
		w.must(w.WaitLockspace(w.ctx, rest, rest))
		w.back(victim)
	}
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
}
