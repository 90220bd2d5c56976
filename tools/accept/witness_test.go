package accept

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
)

// TestWitness has two nodes and a witness, which is a process of nobody on the host's
// side of the management network.
func TestWitness(t *testing.T) {
	// Nodes that boot take processors from the other: a shorter dead_after would be a story of its own.
	w := newWorld(t, cluster.Options{Nodes: 2, DeadAfter: time.Second})
	eye, err := w.NewWitness()
	w.must(err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the witness said:\n%s", tail(eye.Log(), 60))
		}
		if err := eye.Close(); err != nil {
			t.Error(err)
		}
	})
	w.must(eye.Start())
	w.must(w.AddWitness(w.ctx, 1, eye))
	w.shows(w.quorate(2, "witness show", 0), "witness eye at "+cluster.WitnessAddr+", votes")
	w.must(w.Mkfs(w.ctx, 1))
	w.mountAll()
	w.story("two live on and do not hear each other", func(w *world) {
		at := time.Now()
		w.cut([]int{1, 2}, func() error { return w.Lab.Cut(1, 2) })
		w.oneShot(at)
	})
	w.story("the leader dies", func(w *world) { w.dies(w.leader()) })
	w.story("the other dies", func(w *world) { w.dies(w.follower()) })
	w.story("the witness is lost, and is back", func(w *world) { w.blinks(eye) })
	w.story("the witness and a node are lost, and the node is back first", func(w *world) { w.leftAlone(eye, false) })
	w.story("the witness and a node are lost, and the witness is back first", func(w *world) { w.leftAlone(eye, true) })
	w.audit()
}

// oneShot: since a time the fence devices have been asked to switch off one node, and no other.
func (w *world) oneShot(at time.Time) {
	w.t.Helper()
	if plugs := w.offs(at); len(slices.Compact(slices.Clone(plugs))) != 1 {
		w.t.Fatalf("switched off: %v", plugs)
	}
}

// blinks: a witness that is lost alone is a warning, and writers do not notice.
func (w *world) blinks(eye *cluster.Witness) {
	w.calm()
	from := time.Now()
	wr := w.write(fmt.Sprintf("blinks%d", from.UnixNano()), 20, w.Nodes()...)
	defer wr.stop()
	w.must(eye.Kill())
	w.must(w.WaitWitness(w.ctx, w.Nodes(), false))
	for _, i := range w.Nodes() {
		text := w.quorate(i, "status", int(control.Degraded))
		w.shows(text, "the witness eye ("+cluster.WitnessAddr+") has not been heard for")
		wr.progress(i, time.Now())
	}
	w.must(eye.Start())
	w.must(w.WaitWitness(w.ctx, w.Nodes(), true))
	for _, i := range w.Nodes() {
		wr.progress(i, time.Now())
	}
	w.none(from, append([]membership.Kind{membership.KindStopped, membership.KindQuorum}, evil...)...)
	wr.stop()
	for _, i := range w.Nodes() {
		wr.verify(i, w.Nodes()...)
	}
}

// leftAlone: who is left without the other and the witness starts nothing, and says for
// whom it waits. When the other is back, both run; when the witness is, it fences the other
// and goes on.
func (w *world) leftAlone(eye *cluster.Witness, witnessFirst bool) {
	w.calm()
	victim := w.leader()
	i := w.Others(victim)[0]
	wr := w.write(fmt.Sprintf("alone%d", time.Now().UnixNano()), 20, w.Nodes()...)
	defer wr.stop()
	w.must(eye.Kill())
	at := w.kill(victim)
	s := w.statusOf(i, 30*time.Second, "it has no quorum", func(s control.Status) error {
		if s.Quorate || !strings.Contains(cluster.Waits(s), "not the witness eye") {
			return fmt.Errorf("quorate %v: %s", s.Quorate, cluster.Waits(s))
		}
		return nil
	})
	w.t.Logf("node%d waits: %s", i, cluster.Waits(s))
	w.shows(w.quorate(i, "why", int(control.Blocked)), "the witness eye")
	w.never(at, w.Stretch(5*time.Second), membership.KindEvicted, membership.KindFenceStart, membership.KindFenced, membership.KindStarted)
	if witnessFirst {
		w.must(eye.Start())
		w.must(w.WaitLockspace(w.ctx, []int{i}, []int{i}))
		w.fencedBeforeStart(victim, at, []int{i})
		w.silentAfterProof(victim, at)
		wr.progress(i, time.Now())
	}
	w.boot(victim)
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	w.must(w.WaitLockspace(w.ctx, []int{i}, []int{i}))
	w.mountLast(victim)
	wr.progress(i, time.Now())
	if !witnessFirst {
		w.must(eye.Start())
	}
	w.must(w.WaitWitness(w.ctx, w.Nodes(), true))
	wr.stop()
	for _, j := range w.Nodes() {
		wr.verify(j, w.Nodes()...)
	}
}
