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

const (
	// fiveDead is longer than five kernels on two cores stand still when two of them boot.
	fiveDead  = 2 * time.Second
	fiveFence = 3 * time.Second // the devices' timeout, so that an agent that hangs is soon given up
)

// fiveExpiry is when the others give up a job of which they hear nothing: 2 s to
// start, twice the timeout, a quarter of that and 5 s.
func (w *world) fiveExpiry() time.Duration {
	return (2*time.Second+2*w.Stretch(fiveFence))*5/4 + 5*time.Second
}

// TestFiveNodes: five nodes survive two faults at a time, and tell the halves of
// a cut from a majority. Each story ends with all five at work.
func TestFiveNodes(t *testing.T) {
	w := newWorld(t, cluster.Options{Nodes: 5, Mem: 256, DeadAfter: fiveDead, FenceTimeout: fiveFence})
	w.must(w.Mkfs(w.ctx, 1))
	w.must(w.Each(w.ctx, w.Nodes(), w.Mount))
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
	w.trial("three are cut from two", (*world).majority)
	w.trial("two of four are cut from two", (*world).halves)
	gaps := []time.Duration{0, 500 * time.Millisecond}
	if full() {
		gaps = append(gaps, 50*time.Millisecond)
	}
	for _, gap := range gaps {
		w.trial(fmt.Sprintf("two die %v apart", gap), func(w *world) []int { return w.twoDie(gap) })
	}
	w.trial("the new leader dies", (*world).newLeaderDies)
	w.trial("who campaigns dies", (*world).candidateDies)
	w.trial("the actor dies with its agent running", (*world).actorDiesBusy)
	w.trial("the actor dies when it has fenced", (*world).actorDiesDone)
	w.trial("the actor dies while its agent hangs", (*world).actorDiesHanging)
	w.trial("the victim boots in the middle of its recovery", (*world).victimBoots)
	w.trial("an actor that stood still wakes up", (*world).actorWakes)
	if full() {
		w.dieInChanges(steps...)
		w.dieInChanges(steps...)
	} else {
		w.dieInChanges(membership.KindStopped, membership.KindStarted)
	}
}

// trial is a story with writers on all nodes. It returns who died; they boot
// again, and then everything runs, all that was told to be on the disk is there
// once, and the logs of all nodes agree with the invariants.
func (w *world) trial(name string, f func(*world) (dead []int)) {
	w.t.Helper()
	w.story(name, func(w *world) {
		wr := w.write(fmt.Sprintf("five%d", time.Now().UnixNano()), 5, w.Nodes()...)
		defer wr.stop()
		dead := f(w)
		rest := w.Others(dead...)
		goneOn := time.Now()
		for _, i := range rest {
			wr.progress(i, goneOn)
		}
		wr.stop()
		w.returnAll(dead...)
		for _, i := range []int{w.Nodes()[0], w.Nodes()[4]} {
			wr.verify(i, w.Nodes()...)
		}
		w.audit()
	})
}

func (w *world) audit() {
	w.t.Helper()
	rec := w.Record()
	for _, s := range rec.Audit() {
		w.t.Error(s)
	}
	if lost := rec.Gaps(); lost > 0 {
		w.t.Logf("%d events never came, and are not checked", lost)
	}
}

// returnAll boots nodes that are off and mounts on all of them.
func (w *world) returnAll(nodes ...int) {
	w.t.Helper()
	off := slices.DeleteFunc(slices.Clone(nodes), func(i int) bool { return w.Lab.Node(i).Powered() })
	w.within(90*time.Second, "boot", func(ctx context.Context) error { return w.Each(ctx, off, w.BootAgain) })
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	w.within(60*time.Second, "mount", func(ctx context.Context) error { return w.Each(ctx, nodes, w.Mount) })
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
}

// first waits for the first event of a kind after a time that is about a node (0: any).
func (w *world) first(at time.Time, k membership.Kind, about int) (e cluster.Event) {
	w.t.Helper()
	w.within(30*time.Second, fmt.Sprintf("%s of node%d", k, about), func(ctx context.Context) (err error) {
		e, err = w.Events.Wait(ctx, at, func(e cluster.Event) bool { return e.Kind == k && (about == 0 || int(e.Subject) == about) })
		return err
	})
	return e
}

func (w *world) kill(i int) time.Time {
	w.t.Helper()
	at, err := w.Kill(w.ctx, i)
	w.must(err)
	return at
}

// lost waits until the others run without the victims, all of which a device cut
// off, and nobody else was evicted.
func (w *world) lost(at time.Time, victims ...int) {
	w.t.Helper()
	rest := w.Others(victims...)
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	w.evictedOnly(at, victims...)
	for _, v := range victims {
		w.silentAfterProof(v, at)
	}
}

// evictedOnly: exactly these were evicted.
func (w *world) evictedOnly(at time.Time, victims ...int) {
	w.t.Helper()
	var got []int
	for _, e := range w.Events.All() {
		if e.At.After(at) && e.Kind == membership.KindEvicted && !slices.Contains(got, int(e.Subject)) {
			got = append(got, int(e.Subject))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, slices.Sorted(slices.Values(victims))) {
		w.t.Fatalf("%v were evicted, expected %v", got, victims)
	}
}

// actor is who runs the fencing of a node that started after a time.
func (w *world) actor(at time.Time, victim int) int {
	w.t.Helper()
	actor, err := w.first(at, membership.KindFenceStart, victim).Actor()
	w.must(err)
	return actor
}

// attempts have a program on each node ask for a flock on a new file: one that
// nobody has asked for before, so that no lock of it is cached.
func (w *world) attempts(nodes []int) (file string) {
	w.t.Helper()
	file = fmt.Sprintf("%s/new-%d", cluster.MountAt, time.Now().UnixNano())
	w.must(w.Each(w.ctx, nodes, func(ctx context.Context, i int) error {
		_, err := w.WaitFlock(w.ctx, i, file) // it outlives this call; the story's end ends it
		return err
	}))
	return file
}

func (w *world) granted(file string, nodes ...int) (got []int) {
	for _, e := range w.Events.All() {
		if e.Told == "granted" && e.File == file && slices.Contains(nodes, e.Node) {
			got = append(got, e.Node)
		}
	}
	return got
}

// majority: the leader and a follower are cut from the other three. The two stop
// by themselves and get no lock any more; the three cut them off and go on.
func (w *world) majority() []int {
	leader, follower := w.leader(), w.follower()
	few := []int{leader, follower}
	rest := w.Others(few...)
	// Fencing takes a while, so that a side that went on would have the time for it.
	w.Misbehave(fencedev.Fault{Mode: fencedev.Slow, Delay: w.Stretch(fiveFence) * 5 / 6})
	defer w.Misbehave(honest)
	at := time.Now()
	w.must(w.Lab.CutApart(few, rest))
	w.must(w.WaitEach(w.ctx, few, at, membership.KindStopped))
	file := w.attempts(few)
	w.lost(at, few...)
	if got := w.granted(file, few...); len(got) > 0 {
		w.t.Fatalf("%v, without a quorum, were granted a lock", got)
	}
	for _, v := range few {
		w.fencedBeforeStart(v, at, rest)
	}
	w.must(w.Lab.Heal())
	return few
}

// halves: one of five is dead, and the others are cut two from two. Nobody has a
// quorum: all stop, no lock is granted, nobody is evicted; after the cut all go on
// where they stood.
func (w *world) halves() []int {
	dead := w.follower()
	at := w.kill(dead)
	w.lost(at, dead)
	four := w.Others(dead)
	cut := time.Now()
	w.must(w.Lab.CutApart(four[:2], four[2:]))
	w.must(w.WaitEach(w.ctx, four, cut, membership.KindStopped))
	file := w.attempts(four)
	time.Sleep(time.Until(cut.Add(3 * w.deadAfter))) // the length of the cut is the story
	if got := w.granted(file, four...); len(got) > 0 {
		w.t.Fatalf("%v, without a quorum, were granted a lock", got)
	}
	w.none(cut, append([]membership.Kind{membership.KindOpened, membership.KindStarted}, evil...)...)
	w.must(w.Lab.Heal())
	healed := time.Now()
	w.must(w.WaitLockspace(w.ctx, four, four))
	w.within(30*time.Second, "the lock on all four", func(ctx context.Context) error {
		return cluster.Until(ctx, 50*time.Millisecond, func() error {
			if got := w.granted(file, four...); len(got) != len(four) {
				return fmt.Errorf("granted to %v", got)
			}
			return nil
		})
	})
	w.t.Logf("all four have the lock %v after the end of the cut", time.Since(healed).Round(time.Millisecond))
	w.none(cut, evil...)
	return []int{dead}
}

// twoDie: the leader and a follower, in turn the one and the other first.
func (w *world) twoDie(gap time.Duration) []int {
	victims := []int{w.leader(), w.follower()}
	if gap != 50*time.Millisecond {
		slices.Reverse(victims)
	}
	at := w.kill(victims[0])
	time.Sleep(gap) // the story
	w.kill(victims[1])
	w.lost(at, victims...)
	return victims
}

// newLeaderDies: the leader dies, and its successor as soon as one node says that it leads.
func (w *world) newLeaderDies() []int {
	old := w.leader()
	at := w.kill(old)
	var next int
	w.within(30*time.Second, "another leader", func(ctx context.Context) error {
		e, err := w.Events.Wait(ctx, at, func(e cluster.Event) bool {
			return e.Kind == membership.KindLeader && e.Subject != 0 && int(e.Subject) != old
		})
		next = int(e.Subject)
		return err
	})
	w.kill(next)
	w.lost(at, old, next)
	return []int{old, next}
}

// candidateDies: the leader dies, and the first that campaigns as soon as it says so.
func (w *world) candidateDies() []int {
	old := w.leader()
	at := w.kill(old)
	next := w.first(at, membership.KindCampaign, 0).Node
	w.kill(next)
	w.lost(at, old, next)
	return []int{old, next}
}

// actorDiesBusy: the device takes its time over the first victim, and the actor
// dies meanwhile. The next one begins when the first is proved gone.
func (w *world) actorDiesBusy() []int {
	victim := w.follower()
	w.Lab.Misbehave(victim, fencedev.Fault{Mode: fencedev.Slow, Delay: w.Stretch(fiveFence) * 5 / 6})
	defer w.Misbehave(honest)
	at := w.kill(victim)
	actor := w.actor(at, victim)
	asked := w.switched(at, victim, func(fencedev.Record) bool { return true })
	w.kill(actor)
	w.Lab.Misbehave(victim, honest)
	w.lost(at, victim, actor)
	w.anotherActor(at, victim, actor)
	// What was asked first is still in the device, and nobody can call it back.
	w.switched(at, victim, func(r fencedev.Record) bool { return r.Asked.Equal(asked.Asked) && !r.Done.IsZero() })
	return []int{victim, actor}
}

// switched waits for a request to a node's plug.
func (w *world) switched(at time.Time, plug int, is func(fencedev.Record) bool) (r fencedev.Record) {
	w.t.Helper()
	w.within(30*time.Second, fmt.Sprintf("a request to plug %d", plug), func(ctx context.Context) (err error) {
		r, err = w.Lab.Power().Wait(ctx, func(r fencedev.Record) bool { return r.Plug == plug && r.Asked.After(at) && is(r) })
		return err
	})
	return r
}

// anotherActor: the victim's proof is of another than the first actor, who was
// proved gone before the other began (S12).
func (w *world) anotherActor(at time.Time, victim, first int) {
	w.t.Helper()
	gone := w.first(at, membership.KindFenced, first)
	var second cluster.Event
	w.within(30*time.Second, "a second attempt", func(ctx context.Context) (err error) {
		second, err = w.Events.Wait(ctx, at, func(e cluster.Event) bool {
			return e.Kind == membership.KindFenceStart && int(e.Subject) == victim && e.Text != fmt.Sprintf("attempt 1 by node %d", first)
		})
		return err
	})
	if second.Index < gone.Index {
		w.t.Fatalf("%s, at index %d, before node%d was proved gone at index %d", second.Text, second.Index, first, gone.Index)
	}
}

// actorDiesDone: the actor dies as soon as its success is agreed.
func (w *world) actorDiesDone() []int {
	victim := w.follower()
	at := w.kill(victim)
	actor := w.actor(at, victim)
	w.first(at, membership.KindFenced, victim)
	w.kill(actor)
	w.lost(at, victim, actor)
	return []int{victim, actor}
}

// actorDiesHanging: the device never answers the actor, who dies. The next one is answered.
func (w *world) actorDiesHanging() []int {
	victim := w.follower()
	w.Lab.Misbehave(victim, fencedev.Fault{Mode: fencedev.Hang})
	defer w.Misbehave(honest)
	at := w.kill(victim)
	actor := w.actor(at, victim)
	w.switched(at, victim, func(fencedev.Record) bool { return true })
	w.kill(actor)
	w.Lab.Misbehave(victim, honest)
	w.lost(at, victim, actor)
	w.anotherActor(at, victim, actor)
	return []int{victim, actor}
}

// victimBoots: no device answers, and the victim boots by itself. Its new boot is
// the proof; it comes in when no job against it runs any more.
func (w *world) victimBoots() []int {
	victim := w.follower()
	rest := w.Others(victim)
	w.Lab.Misbehave(victim, fencedev.Fault{Mode: fencedev.Hang})
	defer w.Misbehave(honest)
	at := w.kill(victim)
	w.actor(at, victim)
	w.boot(victim)
	proof := w.first(at, membership.KindFenced, victim)
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	w.fencedBeforeStart(victim, at, rest)
	w.evictedOnly(at, victim)
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	w.jobsEnded(at, victim, rest[0])
	w.t.Logf("proof: %s", proof.Text)
	return []int{victim}
}

// jobsEnded: as one node tells it, every fencing of the victim had ended when it
// was a member again.
func (w *world) jobsEnded(at time.Time, victim, by int) {
	w.t.Helper()
	started, evicted := 0, false
	for _, e := range w.Events.All() {
		if e.Node != by || !e.At.After(at) {
			continue
		}
		switch {
		case e.Kind == membership.KindView && evicted && slices.Contains(cluster.Numbers(e.Text), victim):
			if started != 0 {
				w.t.Fatalf("node%d was a member again, by %q, while %d jobs against it ran", victim, e.Text, started)
			}
			return
		case int(e.Subject) != victim:
		case e.Kind == membership.KindEvicted:
			evicted = true
		case e.Kind == membership.KindFenceStart:
			started++
		case e.Kind == membership.KindFenceEnd:
			started--
		}
	}
	w.t.Fatalf("node%d did not see node%d return", by, victim)
}

// slowAgent has a node's fence agent wait before it turns to the device, as one
// does that takes long to log in.
const slowAgent = `cd /usr/sbin && mv fence_lab fence_lab.now && cat >fence_lab.new <<'EOF' && chmod 755 fence_lab.new && mv fence_lab.new fence_lab
#!/bin/sh
in=$(cat)
case $in in *action=off*) sleep 2;; esac
echo "$in" | /usr/sbin/fence_lab.now
EOF`

const quickAgent = "mv /usr/sbin/fence_lab.now /usr/sbin/fence_lab"

// agents does something to the fence agents of some nodes.
func (w *world) agents(nodes []int, script string) {
	w.t.Helper()
	w.must(w.Each(w.ctx, nodes, func(ctx context.Context, i int) error {
		_, err := w.Lab.Node(i).Run(ctx, script)
		return err
	}))
}

// actorWakes: the actor stands still with its agent running, and no device can cut
// it off. For as long as it is not proved gone its job stands, longer than the
// job's lease: the victim, which has booted, is kept out. So when the actor wakes
// up, nobody is shot who is a member; it finds itself evicted and ends itself.
func (w *world) actorWakes() []int {
	victim := w.follower()
	w.agents(w.Others(victim), slowAgent)
	at := w.kill(victim)
	actor := w.actor(at, victim)
	rest := w.Others(victim, actor)
	w.Lab.Misbehave(actor, fencedev.Fault{Mode: fencedev.Fail})
	defer w.Misbehave(honest)
	restarts := w.restarts(actor)
	still, err := w.Lab.Node(actor).Freeze(w.ctx)
	w.must(err)
	w.boot(victim)
	w.first(at, membership.KindFenced, victim)
	w.first(at, membership.KindEvicted, actor)
	time.Sleep(time.Until(still.Add(w.fiveExpiry() + 2*time.Second))) // the story: longer than the lease
	w.must(w.WaitMembers(w.ctx, rest, rest))
	w.none(at, membership.KindOpened, membership.KindStarted)
	w.must(w.waitsFor(victim, fmt.Sprintf("node%d may still be fencing its earlier incarnation", actor)))
	if rs := w.requests(at, victim); len(rs) > 0 {
		w.t.Fatalf("the actor stood still too late: %+v", rs)
	}
	w.must(w.Lab.Node(actor).Thaw(w.ctx))
	w.startsAnew(actor, restarts)
	_, err = w.Kill(w.ctx, actor)
	w.must(err)
	w.boot(actor)
	w.first(at, membership.KindFenced, actor)
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	w.agents(rest, quickAgent)
	w.t.Logf("requests for the victim's plug: %+v", w.requests(at, victim))
	return []int{victim, actor}
}

// waitsFor checks that a node itself waits, for a reason with these words.
func (w *world) waitsFor(i int, words string) error {
	s, err := w.Status(w.ctx, i)
	if err == nil && !slices.ContainsFunc(s.Waits, func(x control.Wait) bool { return strings.Contains(x.Reason, words) }) {
		err = fmt.Errorf("node%d waits for %+v, not because %s", i, s.Waits, words)
	}
	return err
}

// requests are those to a node's plug after a time.
func (w *world) requests(at time.Time, plug int) (rs []fencedev.Record) {
	for _, r := range w.Lab.PowerLog() {
		if r.Plug == plug && r.Asked.After(at) {
			rs = append(rs, r)
		}
	}
	return rs
}

// steps of a change, as events tell of them.
var steps = []membership.Kind{membership.KindChange, membership.KindStopped, membership.KindOpened, membership.KindStarted, membership.KindRecovered}

// dieInChanges: a joiner, and then a leaver, die at each of these steps of the change.
func (w *world) dieInChanges(steps ...membership.Kind) {
	for n, k := range steps {
		w.story(fmt.Sprintf("a joiner, then a leaver, dies at %q", k), func(w *world) {
			joiner := w.follower()
			leaver := w.Others(joiner)[n%4]
			rest := w.Others(joiner, leaver)
			w.unmount(joiner)
			wr := w.write(fmt.Sprintf("change%d", time.Now().UnixNano()), 5, rest...)
			defer wr.stop()
			w.diesIn(joiner, k, w.Others(joiner), w.Mount)
			w.diesIn(leaver, k, rest, w.Unmount)
			goneOn := time.Now()
			for _, i := range rest {
				wr.progress(i, goneOn)
			}
			wr.stop()
			w.returnAll(joiner, leaver)
			wr.verify(joiner, rest...)
			w.audit()
		})
	}
}

// diesIn: a node dies as soon as somebody tells of a step of the change that it
// asked for; the rest runs without it.
func (w *world) diesIn(victim int, k membership.Kind, rest []int, ask func(context.Context, int) error) {
	w.t.Helper()
	at := time.Now()
	asked := make(chan error, 1)
	go func() { asked <- ask(w.ctx, victim) }()
	e := w.first(at, k, 0)
	w.kill(victim)
	if err := <-asked; err == nil {
		w.t.Logf("node%d was done before it died", victim)
	}
	w.first(at, membership.KindEvicted, victim)
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	w.evictedOnly(at, victim)
	w.t.Logf("node%d died at %s %d of node%d", victim, e.Kind, e.Change, e.Node)
}
