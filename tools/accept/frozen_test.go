package accept

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// TestFrozen has nodes stand still that are not dead: a snapshot of a virtual
// machine, a live migration. Profile safe is for those who have such things.
func TestFrozen(t *testing.T) {
	w := newMounted(t, cluster.Options{Nodes: 3, Profile: "safe"})
	w.story("frozen for less than dead_after", (*world).freezes)
	w.story("a freeze that is announced", (*world).held)
	w.story("a freeze that outlasts its hold", (*world).heldTooShort)
	w.story("maintenance", (*world).maintained)
	w.story("clocks are wrong and step", (*world).clocks)
}

// TestFrozenTooLong: a node that stands still for longer than dead_after is
// fenced, and writes nothing after the proof, whether it wakes up or not.
func TestFrozenTooLong(t *testing.T) {
	w := newMounted(t, cluster.Options{Nodes: 3, DeadAfter: 500 * time.Millisecond})
	w.story("frozen until it is fenced", func(w *world) { w.freezesFor(w.follower(), 0) })
	w.story("a leader that wakes up before it is fenced", func(w *world) { w.freezesFor(w.leader(), w.Stretch(1500*time.Millisecond)) })
}

// frozen stands a node still for a while.
func (w *world) frozen(i int, d time.Duration) {
	w.t.Helper()
	_, err := w.Lab.Node(i).Freeze(w.ctx)
	w.must(err)
	time.Sleep(d) // the length of the freeze is the story
	w.must(w.Lab.Node(i).Thaw(w.ctx))
}

// unharmed: everything runs and goes on, and nobody was evicted.
func (w *world) unharmed(wr *writers, from time.Time) {
	w.t.Helper()
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
	now := time.Now()
	for _, i := range w.Nodes() {
		wr.progress(i, now)
	}
	wr.stop()
	w.none(from, evil...)
	wr.verify(1, w.Nodes()...)
}

// freezes: 1.5 s are less than the 2 s of safe, of a follower and of the leader.
func (w *world) freezes() {
	w.calm()
	from := time.Now()
	wr := w.write("freezes", 20, w.Nodes()...)
	defer wr.stop()
	for _, i := range []int{w.follower(), w.leader()} {
		w.frozen(i, 1500*time.Millisecond)
	}
	w.unharmed(wr, from)
}

// quorate runs the operator's tool on a node and wants an exit status.
func (w *world) quorate(on int, args string, status int) string {
	w.t.Helper()
	r, err := w.Lab.Node(on).Exec(w.ctx, "/usr/local/sbin/quorate "+args)
	w.must(err)
	if r.Code != status {
		w.t.Fatalf("quorate %s on node%d: exit %d, not %d: %s%s", args, on, r.Code, status, r.Stdout, r.Stderr)
	}
	return r.Stdout + r.Stderr
}

func (w *world) shows(text, words string) {
	w.t.Helper()
	if !strings.Contains(text, words) {
		w.t.Fatalf("no %q in: %s", words, text)
	}
}

// held: the leader is announced to stand still, and does so for longer than
// dead_after. Another leads before that, and things are agreed on meanwhile.
func (w *world) held() {
	w.calm()
	victim := w.leader()
	on := w.Others(victim)[0]
	from := time.Now()
	wr := w.write("held", 20, w.Nodes()...)
	defer wr.stop()
	w.shows(w.quorate(on, fmt.Sprintf("node hold node%d --for 11m", victim), 1), "from 1s to 10m,")
	w.shows(w.quorate(on, fmt.Sprintf("node hold node%d --for 1m", victim), 0), "is held for 1m:")
	w.within(5*time.Second, "another leader", func(ctx context.Context) error {
		return cluster.Until(ctx, 20*time.Millisecond, func() error {
			l, err := w.Leader(ctx, on)
			if err == nil && (l == victim || l == 0) {
				err = fmt.Errorf("node%d leads", l)
			}
			return err
		})
	})
	w.shows(w.quorate(on, "nodes", 0), "left, by uid 0")
	_, err := w.Lab.Node(victim).Freeze(w.ctx)
	w.must(err)
	thaw := time.NewTimer(6 * time.Second) // three times dead_after
	w.within(5*time.Second, "status says that it is silent and held", func(ctx context.Context) error {
		return cluster.Until(ctx, 200*time.Millisecond, func() error {
			r, err := w.Lab.Node(on).Exec(ctx, "quorate status")
			if err == nil && (r.Code != 1 || !strings.Contains(r.Stdout, "is silent and held")) {
				err = fmt.Errorf("exit %d: %s", r.Code, r.Stdout)
			}
			return err
		})
	})
	w.quorate(on, fmt.Sprintf("node hold node%d --for 1s", on), 0) // is agreed, without the one that stands still
	<-thaw.C
	w.must(w.Lab.Node(victim).Thaw(w.ctx))
	w.unharmed(wr, from)
	w.quorate(on, fmt.Sprintf("node release node%d", victim), 0)
	w.shows(w.quorate(on, fmt.Sprintf("node release node%d", victim), 1), "is not held")
}

// heldTooShort: when a hold is over its node has dead_after, and no longer.
func (w *world) heldTooShort() {
	w.calm()
	const hold, deadAfter = 5 * time.Second, 2 * time.Second
	victim := w.follower()
	rest := w.Others(victim)
	wr := w.write("short", 20, w.Nodes()...)
	defer wr.stop()
	asked := time.Now()
	w.quorate(rest[0], fmt.Sprintf("node hold node%d --for %v", victim, hold), 0)
	at, err := w.Lab.Node(victim).Freeze(w.ctx)
	w.must(err)
	if got := w.evicted(at); got != victim {
		w.t.Fatalf("node%d was evicted", got)
	}
	if took := time.Since(asked); took < hold+deadAfter || took > 2*(hold+deadAfter) {
		w.t.Fatalf("evicted %v after it was held for %v", took, hold)
	}
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	w.fencedBeforeStart(victim, at, rest)
	w.silentAfterProof(victim, at)
	wr.stop()
	w.back(victim)
	wr.verify(victim, w.Nodes()...)
}

// maintained: in a maintenance nobody is evicted who stands still, and that is told; when
// it was ended, the same has its node evicted and fenced.
func (w *world) maintained() {
	w.calm()
	victim := w.follower()
	rest := w.Others(victim)
	from := time.Now()
	wr := w.write("maintained", 20, w.Nodes()...)
	defer wr.stop()
	w.shows(w.quorate(rest[0], "maintenance on --yes --for 10s", 64), "1m")
	w.quorate(rest[0], "maintenance on --yes --for 30m", 0)
	for _, i := range w.Nodes() {
		w.statusOf(i, 5*time.Second, "status warns of what is not done meanwhile", func(s control.Status) error {
			if s.Maintenance == nil || !slices.ContainsFunc(s.Warnings, func(x string) bool { return strings.Contains(x, "no node is evicted or fenced") }) {
				return fmt.Errorf("%+v, %q", s.Maintenance, s.Warnings)
			}
			return nil
		})
	}
	w.frozen(victim, 6*time.Second) // three times dead_after
	w.unharmed(wr, from)
	w.quorate(rest[1], "maintenance off", 0)
	at, err := w.Lab.Node(victim).Freeze(w.ctx)
	w.must(err)
	if got := w.evicted(at); got != victim {
		w.t.Fatalf("node%d was evicted", got)
	}
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	w.fencedBeforeStart(victim, at, rest)
	w.back(victim)
}

// clocks: a node joins in 1970, and clocks of running nodes step by an hour, and
// nothing happens: everything is counted by a clock that nobody sets.
func (w *world) clocks() {
	w.calm()
	i, l := w.follower(), w.leader()
	from := w.leaves(i)
	set := func(n int, to string) {
		_, err := w.Lab.Node(n).Run(w.ctx, "date -s "+to)
		w.must(err)
	}
	set(i, "@86400") // 1970 has begun: a clock cannot be set to before its machine started
	w.returns(i, from)
	wr := w.write("clocks", 20, w.Nodes()...)
	defer wr.stop()
	for _, by := range []string{"+1hour", "-1hour", "-1hour", "+1hour"} {
		set(l, "'"+by+"'")
		wr.progress(l, time.Now())
		wr.progress(i, time.Now())
	}
	set(i, fmt.Sprintf("@%d", time.Now().Unix()))
	w.unharmed(wr, from)
	if n, what := w.count(from, membership.KindSuspect); n > 0 {
		w.t.Logf("%d suspicions, all withdrawn:%s", n, what)
	}
}

// restarts counts how often the kernel of a node has said that it starts anew.
func (w *world) restarts(i int) int {
	return strings.Count(w.Lab.Node(i).ConsoleTail(10_000), "reboot: Restarting system")
}

// startsAnew waits until the kernel of a node has said once more that it restarts.
// Whether its program ends then is no matter of the node's.
func (w *world) startsAnew(victim, restarts int) {
	w.t.Helper()
	w.within(30*time.Second, fmt.Sprintf("the restart of node%d, which woke up", victim), func(ctx context.Context) error {
		return cluster.Until(ctx, 20*time.Millisecond, func() error {
			if w.restarts(victim) == restarts {
				return fmt.Errorf("node%d runs as before: %s", victim, w.Lab.Node(victim).ConsoleTail(5))
			}
			return nil
		})
	})
}

// endsItself: a node that wakes up to find itself evicted does not wait for the device.
func (w *world) endsItself(victim int, at time.Time, restarts int) {
	w.t.Helper()
	w.startsAnew(victim, restarts)
	for _, p := range w.Lab.PowerLog() {
		if p.Plug == victim && p.Asked.After(at) && !p.Done.IsZero() {
			w.t.Fatalf("node%d waited until it was cut off: %+v", victim, p)
		}
	}
	w.t.Logf("node%d ended itself %v after it stood still", victim, time.Since(at).Round(10*time.Millisecond))
}

// freezesFor stands a node still until it is fenced, or, not 0, wakes it up when
// it was evicted and the devices have not cut it off yet.
func (w *world) freezesFor(victim int, wakes time.Duration) {
	w.t.Helper()
	w.calm()
	rest := w.Others(victim)
	wr := w.write(fmt.Sprintf("frozen%d", time.Now().UnixNano()), 20, w.Nodes()...)
	defer wr.stop()
	if wakes > 0 {
		w.Misbehave(fencedev.Fault{Mode: fencedev.Slow, Delay: 4 * wakes})
		defer w.Misbehave(honest)
	}
	restarts := w.restarts(victim)
	at, err := w.Lab.Node(victim).Freeze(w.ctx)
	w.must(err)
	if got := w.evicted(at); got != victim {
		w.t.Fatalf("node%d was evicted", got)
	}
	if wakes > 0 {
		time.Sleep(time.Until(at.Add(wakes)))
		w.must(w.Lab.Node(victim).Thaw(w.ctx))
		w.endsItself(victim, at, restarts)
	}
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	for _, i := range rest {
		wr.progress(i, time.Now())
	}
	w.fencedBeforeStart(victim, at, rest)
	w.silentAfterProof(victim, at)
	wr.stop()
	w.Misbehave(honest)
	for _, i := range rest {
		wr.verify(i, w.Nodes()...)
	}
	w.back(victim)
}
