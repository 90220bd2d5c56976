package accept

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// TestLastManStanding: five nodes lose one after the other, and the last one goes on.
func TestLastManStanding(t *testing.T) {
	w := newWorld(t, cluster.Options{Nodes: 5, Mem: 256, DeadAfter: fiveDead, FenceTimeout: fiveFence,
		Quorum: "last_man_standing = true\nlast_man_standing_window = \"2s\"\nwait_for_all = true"})
	w.must(w.Mkfs(w.ctx, 1))
	w.must(w.Each(w.ctx, w.Nodes(), w.Mount))
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
	w.story("a cut in three ways", (*world).threeWays)
	w.story("from five to one", (*world).fiveToOne)
	w.story("all were off, one is missing, and it is overridden", (*world).missingOne)
	w.audit()
}

// threeWays: two, two and one do not hear each other. No part is a majority, and none
// of them the last: all stop and shoot nobody. After the cut all go on where they stood.
func (w *world) threeWays() {
	w.calm()
	wr := w.write("ways", 5, w.Nodes()...)
	defer wr.stop()
	at := time.Now()
	w.must(w.Lab.CutApart([]int{1, 2}, []int{3, 4, 5}))
	w.must(w.Lab.CutApart([]int{3, 4}, []int{5}))
	w.must(w.WaitEach(w.ctx, w.Nodes(), at, membership.KindStopped))
	w.shows(w.quorate(1, "why", 2), "of 5 votes, 3 needed")
	w.never(at, 2*w.deadAfter, append([]membership.Kind{membership.KindTakeover, membership.KindStarted}, evil...)...)
	w.must(w.Lab.Heal())
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
	healed := time.Now()
	for _, i := range w.Nodes() {
		wr.progress(i, healed)
	}
	w.none(at, evil...)
	wr.stop()
	wr.verify(1, w.Nodes()...)
}

// fiveToOne kills one after the other, each when the last one counts no more.
func (w *world) fiveToOne() {
	w.calm()
	wr := w.write("last", 5, w.Nodes()...)
	defer wr.stop()
	rest := w.Nodes()
	for len(rest) > 1 {
		victim := rest[len(rest)-1]
		rest = rest[:len(rest)-1]
		at := w.kill(victim)
		w.must(w.WaitLockspace(w.ctx, rest, rest))
		w.fencedBeforeStart(victim, at, rest)
		w.silentAfterProof(victim, at)
		w.evictedOnly(at, victim)
		for _, i := range rest {
			wr.progress(i, w.first(at, membership.KindStarted, 0).At)
		}
		if len(rest) > 1 {
			w.counts(rest)
			w.vote(at, rest)
		}
	}
	wr.stop()
	wr.verify(1, w.Nodes()...)
	w.returnAll(2, 3, 4, 5)
	w.counts(w.Nodes())
	wr.verify(5, w.Nodes()...)
}

// counts waits until a quorum is a majority of these nodes.
func (w *world) counts(nodes []int) {
	w.t.Helper()
	w.statusOf(nodes[0], 30*time.Second, fmt.Sprintf("the votes of %v alone", nodes), func(s control.Status) error {
		if s.Expected != len(nodes) || s.Votes != len(nodes) {
			return fmt.Errorf("%d of %d votes", s.Votes, s.Expected)
		}
		return nil
	})
}

// vote waits until these nodes alone are the group's voters, and each knows that all of them
// keep that. It follows the votes that count some 20 ms later; who dies in between is one of
// a majority that is still needed.
func (w *world) vote(since time.Time, nodes []int) {
	w.t.Helper()
	text := fmt.Sprintf("voters %v: all of them keep it", nodes)
	w.within(30*time.Second, text, func(ctx context.Context) error {
		return w.Each(ctx, nodes, func(ctx context.Context, i int) error {
			_, err := w.Events.Wait(ctx, since, func(e cluster.Event) bool {
				return e.Node == i && e.Kind == membership.KindConfig && e.Text == text
			})
			return err
		})
	})
}

// missingOne: after a loss of power four of five boot. They wait for the fifth, and say
// so, until an operator has said that it is not coming; then it is fenced, and they run.
func (w *world) missingOne() {
	at := time.Now()
	w.must(w.Each(w.ctx, w.Nodes(), func(ctx context.Context, i int) error { _, err := w.Kill(ctx, i); return err }))
	four := w.Others(5)
	w.within(90*time.Second, "boot", func(ctx context.Context) error { return w.Each(ctx, four, w.BootAgain) })
	w.within(30*time.Second, "a node to say for whom it waits", func(ctx context.Context) error {
		return cluster.Until(ctx, 200*time.Millisecond, func() error { return w.waitsFor(w.leader(), "wait_for_all") })
	})
	w.never(at, w.Stretch(5*time.Second), membership.KindStarted, membership.KindFenceStart)
	w.override(four)
	w.must(w.WaitMembers(w.ctx, four, four))
	for _, i := range four {
		w.mount(i)
	}
	w.must(w.WaitLockspace(w.ctx, four, four))
	w.fencedOnly(at, 5)
	w.back(5)
}

// override is said on the node that leads; another one refuses it, and says which does.
func (w *world) override(nodes []int) {
	w.t.Helper()
	for _, i := range nodes {
		r, err := w.Lab.Node(i).Exec(w.ctx, "/usr/local/sbin/quorate quorum override --yes")
		w.must(err)
		if r.Code == 0 {
			return
		}
		if !strings.Contains(r.Stderr, "run it there") {
			w.t.Fatalf("overriding on node%d: exit %d: %s%s", i, r.Code, r.Stdout, r.Stderr)
		}
	}
	w.t.Fatalf("none of %v leads", nodes)
}

// TestTieBreaker: of two halves the one with the lowest node goes on.
func TestTieBreaker(t *testing.T) {
	w := newWorld(t, cluster.Options{Nodes: 4, Mem: 256, DeadAfter: fiveDead, FenceTimeout: fiveFence, Quorum: `auto_tie_breaker = "lowest"`})
	w.must(w.Mkfs(w.ctx, 1))
	w.must(w.Each(w.ctx, w.Nodes(), w.Mount))
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
	halves := [][]int{{1, 2}}
	if full() {
		halves = append(halves, []int{1, 4})
	}
	for _, half := range halves {
		w.story(fmt.Sprintf("%v are cut from the other half", half), func(w *world) { w.half(half) })
	}
	w.audit()
}

// half: two of four with the lowest among them fence the other two and go on; those get
// no lock any more, and shoot nobody.
func (w *world) half(half []int) {
	w.calm()
	others := w.Others(half...)
	wr := w.write(fmt.Sprintf("half%d", time.Now().UnixNano()), 5, w.Nodes()...)
	defer wr.stop()
	w.Misbehave(fencedev.Fault{Mode: fencedev.Slow, Delay: w.Stretch(fiveFence) * 5 / 6}) // so that they have the time for it
	defer w.Misbehave(honest)
	at := time.Now()
	w.must(w.Lab.CutApart(half, others))
	w.must(w.WaitEach(w.ctx, others, at, membership.KindStopped))
	file := w.attempts(others)
	w.lost(at, others...)
	if got := w.granted(file, others...); len(got) > 0 {
		w.t.Fatalf("%v, without a quorum, were granted a lock", got)
	}
	for _, v := range others {
		w.fencedBeforeStart(v, at, half)
	}
	for _, i := range half {
		wr.progress(i, w.first(at, membership.KindStarted, 0).At)
	}
	w.fencedOnly(at, others...)
	wr.stop()
	w.must(w.Lab.Heal())
	w.returnAll(others...)
	for _, i := range []int{half[0], others[0]} {
		wr.verify(i, w.Nodes()...)
	}
}
