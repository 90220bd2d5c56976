package accept

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

const stallLimit = 2 * time.Second // from the death to the first survivor's flock; longer on a slow machine, as dead_after is

func TestThreeNodes(t *testing.T) {
	// Three kernels with writers share two cores here: a guest may stand still for
	// the 200 ms of lan without being dead.
	w := newMounted(t, cluster.Options{Nodes: 3, DeadAfter: 500 * time.Millisecond})
	w.story("kernels answer", (*world).kernelsAnswer)
	w.story("kernels have deadlines", (*world).kernelsWatch)
	rounds := 1
	if full() {
		rounds = 3
	}
	for round := range rounds {
		w.story(fmt.Sprintf("the leader dies %d", round+1), func(w *world) { w.dies(w.leader()) })
		w.story(fmt.Sprintf("a follower dies %d", round+1), func(w *world) { w.dies(w.follower()) })
		w.story(fmt.Sprintf("the creator of all files dies %d", round+1), func(w *world) {
			creator := w.Nodes()[round]
			w.creates(creator)
			w.dies(creator)
		})
	}
	w.story("fencing fails until an operator acknowledges", (*world).fencingFails)
	w.story("all die and two boot", (*world).allDie)
	w.story("every node leaves and returns", (*world).leaveInTurn)
	w.story("a daemon has no privileges", (*world).unprivileged)
	w.story("quorated is killed", (*world).daemonKilled)
	w.story("strangers and garbage change nothing", (*world).strangers)
}

// leader waits until node 1 knows one: a busy machine changes leaders.
func (w *world) leader() (l int) {
	w.t.Helper()
	w.within(30*time.Second, "a leader", func(ctx context.Context) error {
		return cluster.Until(ctx, 50*time.Millisecond, func() (err error) {
			if l, err = w.Leader(ctx, 1); err == nil && l == 0 {
				err = errors.New("no leader")
			}
			return err
		})
	})
	return l
}

func (w *world) follower() int {
	l := w.leader()
	others := w.Others(l)
	return others[len(others)-1]
}

// creates makes many files whose locks the node masters.
func (w *world) creates(i int) {
	_, err := w.Lab.Node(i).Run(w.ctx, fmt.Sprintf("d=%s/dir-$$-%d; mkdir $d; n=0; while [ $n -lt 200 ]; do : > $d/f$n; n=$((n+1)); done; sync", cluster.MountAt, i))
	w.must(err)
}

// dies: sudden death, and the return.
func (w *world) dies(victim int) {
	w.t.Helper()
	wr := w.isLost(victim)
	w.back(victim)
	wr.verify(victim, w.Nodes()...)
}

// isLost: sudden death with writes in flight and a flock held. The others recover
// and go on; the node stays off.
func (w *world) isLost(victim int) *writers {
	w.t.Helper()
	rest := w.Others(victim)
	wr := w.write(fmt.Sprintf("w%d", time.Now().UnixNano()), 20, w.Nodes()...)
	defer wr.stop()
	release, err := w.HoldFlock(w.ctx, victim, rest)
	w.must(err)
	defer release()
	if err := w.WaitCalm(w.ctx, time.Second); err != nil {
		w.t.Log(err)
	}
	at, err := w.Kill(w.ctx, victim)
	w.must(err)
	r, err := w.WaitRecovery(w.ctx, victim, at, rest)
	w.must(err)
	w.t.Logf("node%d: detect %.0f ms, agree %.0f ms, fence %.0f ms, ours %.0f ms, flock %.0f and %.0f ms", victim, r.DetectMS, r.AgreeMS, r.FenceMS, r.OursMS, r.StallMS, r.LastMS)
	w.fencedBeforeStart(victim, at, rest)
	w.silentAfterProof(victim, at)
	if limit := w.Stretch(stallLimit); r.StallMS > float64(limit.Milliseconds()) {
		w.t.Errorf("the first survivor got the flock after %.0f ms, at most %v", r.StallMS, limit)
	}
	for _, i := range rest {
		wr.progress(i, time.Now())
	}
	wr.stop()
	for _, i := range rest {
		wr.verify(i, w.Nodes()...)
	}
	return wr
}

func (w *world) fencedBeforeStart(victim int, at time.Time, rest []int) {
	w.t.Helper()
	w.must(cluster.FencedBeforeStart(w.Events.All(), victim, at, rest))
}

func (w *world) silentAfterProof(victim int, at time.Time) {
	w.t.Helper()
	w.within(30*time.Second, "the proof, and the end of the dead node's processes", func(ctx context.Context) error {
		return w.SilentAfterProof(ctx, victim, at)
	})
}

func (w *world) fencingFails() {
	victim := w.follower()
	rest := w.Others(victim)
	w.Misbehave(fencedev.Fault{Mode: fencedev.Fail})
	defer w.Misbehave(fencedev.Fault{})
	at, err := w.Kill(w.ctx, victim)
	w.must(err)
	// Both actors have failed, and one of them again: still nothing may start.
	w.within(60*time.Second, "three failed attempts", func(ctx context.Context) error {
		seen := at
		for range 3 {
			e, err := w.Events.Wait(ctx, seen, cluster.Of(rest[0], membership.KindFenceEnd))
			if err != nil {
				return err
			}
			seen = e.At
		}
		return nil
	})
	w.none(at, membership.KindOpened, membership.KindStarted, membership.KindFenced)
	for _, i := range rest {
		w.must(w.BlockedByFencing(w.ctx, i, victim))
	}
	w.quorate(rest[1], fmt.Sprintf("fence ack --yes node%d", victim), 0)
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	w.fencedBeforeStart(victim, at, rest)
	w.shows(w.quorate(rest[0], "fence history", 0), "manual")
	w.Misbehave(fencedev.Fault{})
	w.back(victim)
}

func (w *world) allDie() {
	third := 3
	first := w.Others(third)
	wr := w.write(fmt.Sprintf("all%d", time.Now().UnixNano()), 20, w.Nodes()...)
	at := time.Now()
	w.must(w.Each(w.ctx, w.Nodes(), func(ctx context.Context, i int) error { _, err := w.Kill(ctx, i); return err }))
	wr.procs = nil
	w.must(w.Each(w.ctx, first, w.BootAgain))
	w.must(w.WaitMembers(w.ctx, first, first))
	for _, i := range first {
		w.mount(i)
	}
	w.must(w.WaitLockspace(w.ctx, first, first))
	if plugs := w.offs(at); !slices.Equal(plugs, []int{third}) {
		w.t.Errorf("nodes %v were fenced, not node%d once: the others had come back by themselves", plugs, third)
	}
	for _, i := range first {
		wr.verify(i, w.Nodes()...)
	}
	w.back(third)
}
