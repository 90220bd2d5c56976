package accept

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
)

const (
	joinTimeout = 10 * time.Second // the default of join_timeout
	joinSlack   = 6 * time.Second  // until the refusal is agreed and the others run again; longer on a slow machine
	pathLimit   = 15 * time.Second // the default of path_limit
	pathSlack   = 15 * time.Second // until somebody sends twice in vain, and until the others have agreed
)

// TestPaths blocks the paths of a node's data in ways that membership notices, and
// in ways that it does not. The kernel is one whose refused mount ends: since 6.12 it waits
// for the DLM's attempts to connect, 131 s, unless they can be ended by SOCK_DESTROY, which
// no User-Mode Linux has been built with.
func TestPaths(t *testing.T) {
	kernel := cmp.Or(os.Getenv(lab.EnvKernel), "uml-6.1")
	w := newMounted(t, cluster.Options{Nodes: 3, Kernels: []string{kernel}, DeadAfter: 2 * time.Second})
	w.story("the DLM's port is closed to one who mounts", func(w *world) {
		v := w.follower()
		w.blockedJoin(v, "SYN unanswered", func() error { return w.Lab.ClosePort(v, dlm.DefaultPort) })
	})
	w.story("long packets are lost to one who mounts", func(w *world) {
		v := w.follower()
		w.manyLocks(w.Others(v)...)
		w.blockedJoin(v, "bytes unanswered", func() error { return w.Lab.LowerMTU(v, 1300) })
	})
	w.story("long packets are lost to one who leaves", (*world).blockedLeave)
	w.story("the DLM's port is closed to one of those who run", (*world).blockedMember)
	w.story("a node's address is removed", func(w *world) {
		v := w.follower()
		w.cut([]int{v}, func() error { return w.onLink(v, "addr flush dev DEV") })
	})
	w.story("a node's link is set down", func(w *world) {
		v := w.leader()
		w.cut([]int{v}, func() error { return w.onLink(v, "link set DEV down") })
	})
}

// blockedJoin: membership is well and something of the DLM's path is not. Who mounts
// there is refused, and told why; the others stand still once, until then.
func (w *world) blockedJoin(victim int, reason string, block func() error) {
	w.t.Helper()
	w.calm()
	rest := w.Others(victim)
	w.unmount(victim)
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	wr := w.write(fmt.Sprintf("blocked%d", time.Now().UnixNano()), 20, rest...)
	defer wr.stop()
	toAndFro := w.writeShared(fmt.Sprintf("shared%d", time.Now().UnixNano()), 20, rest...)
	defer toAndFro.stop()
	at := time.Now()
	w.must(block())
	defer func() { w.must(w.Lab.Heal()) }()

	w.refusedMount(victim, reason, at)
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	for _, i := range rest {
		wr.progress(i, time.Now())
		toAndFro.progress(i, time.Now())
		toAndFro.stoodStillOnce(i, at, joinTimeout+w.Stretch(joinSlack))
	}
	toAndFro.stop()
	w.none(at, evil...)
	w.must(w.Lab.Heal())
	w.mountLast(victim)
	w.none(at, evil...)
	wr.stop()
	for _, i := range w.Nodes() {
		wr.verify(i, rest...)
	}
}

// blockedLeave: a node unmounts on a path that loses long packets. It leaves, or what
// it says in vain is a cut after path_limit; either way it comes to an end, and what
// remains of the kernels' conversations does not keep it from mounting again.
func (w *world) blockedLeave() {
	w.t.Helper()
	w.calm()
	v := w.follower()
	rest := w.Others(v)
	wr := w.write(fmt.Sprintf("leave%d", time.Now().UnixNano()), 20, rest...)
	defer wr.stop()
	at := time.Now()
	w.must(w.Lab.LowerMTU(v, 1300))
	defer func() { w.must(w.Lab.Heal()) }()
	ctx, cancel := context.WithTimeout(w.ctx, pathLimit+w.Stretch(pathSlack))
	defer cancel()
	if err := w.Unmount(ctx, v); err == nil {
		w.t.Logf("it left after %v", time.Since(at).Round(time.Millisecond))
		w.must(w.WaitLockspace(w.ctx, rest, rest))
		w.none(at, evil...)
		w.must(w.Lab.Heal())
		w.mount(v)
	} else {
		w.t.Log(err)
		w.lost(at, v)
		e := w.first(at, membership.KindEvicted, v)
		w.t.Logf("after %v: %s", e.At.Sub(at).Round(time.Millisecond), e.Text)
		w.must(w.Lab.Heal())
		w.back(v)
	}
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
	w.none(at, membership.KindJoinFailed)
	wr.stop()
	for _, i := range w.Nodes() {
		wr.verify(i, rest...)
	}
}

// blockedMember: locks that go to and fro stand still, and nobody's probes do. After
// path_limit one is evicted, and the others run on.
func (w *world) blockedMember() {
	w.t.Helper()
	w.calm()
	victim := w.follower()
	rest := w.Others(victim)
	toAndFro := w.writeShared(fmt.Sprintf("shared%d", time.Now().UnixNano()), 20, w.Nodes()...)
	defer toAndFro.stop()
	at := time.Now()
	w.must(w.Lab.ClosePort(victim, dlm.DefaultPort))
	defer func() { w.must(w.Lab.Heal()) }()
	w.within(pathLimit, "quorate status warns", func(ctx context.Context) error {
		return cluster.Until(ctx, time.Second, func() error {
			s, err := w.Status(ctx, victim)
			if err == nil && !strings.Contains(strings.Join(s.Warnings, "\n"), "bytes unanswered") {
				err = fmt.Errorf("node%d warns of %q", victim, s.Warnings)
			}
			return err
		})
	})
	w.within(pathLimit+pathSlack, "the eviction", func(ctx context.Context) error {
		e, err := w.Events.Wait(ctx, at, func(e cluster.Event) bool { return e.Kind == membership.KindEvicted })
		if err == nil {
			w.t.Logf("after %v: %s", e.At.Sub(at).Round(time.Millisecond), e.Text)
		}
		return err
	})
	goneOn := time.Now()
	w.lost(at, victim)
	for _, i := range rest {
		toAndFro.progress(i, goneOn)
	}
	toAndFro.stop()
	w.must(w.Lab.Heal())
	w.back(victim)
}

// refusedMount: the mount fails in time; meanwhile `quorate why` names the reason, and
// afterwards the events do.
func (w *world) refusedMount(victim int, reason string, at time.Time) {
	w.t.Helper()
	mounted := make(chan error, 1)
	go func() { mounted <- w.Mount(w.ctx, victim) }()
	w.within(joinTimeout, "quorate why says "+reason, func(ctx context.Context) error { return w.whySays(ctx, "DLM port to node", reason) })
	select {
	case err := <-mounted:
		if err == nil {
			w.t.Fatal("a mount without a way to the others was successful")
		}
		w.t.Logf("after %v: %v", time.Since(at).Round(time.Millisecond), err)
	case <-time.After(time.Until(at.Add(joinTimeout + w.Stretch(joinSlack)))):
		w.t.Fatalf("the mount still hangs after %v", time.Since(at))
	}
	n, what := w.count(at, membership.KindJoinFailed)
	if n == 0 {
		w.t.Fatal("no node tells of the join that failed")
	}
	w.t.Logf("the nodes tell:%s", what)
}

// whySays waits until `quorate why` says these words on any node.
func (w *world) whySays(ctx context.Context, words ...string) error {
	said := ""
	return cluster.Until(ctx, 200*time.Millisecond, func() error {
		for _, i := range w.Nodes() {
			r, err := w.Lab.Node(i).Exec(ctx, "quorate why")
			if err != nil {
				return fmt.Errorf("%w; it said %s", err, said)
			}
			if said = r.Stdout; hasAll(said, words) {
				w.t.Logf("node%d# quorate why\n%s", i, said)
				return nil
			}
		}
		return fmt.Errorf("it says %s", said)
	})
}

func hasAll(s string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(s, word) {
			return false
		}
	}
	return true
}

// manyLocks has nodes keep locks of many files, so that recovery has long messages.
func (w *world) manyLocks(nodes ...int) {
	w.t.Helper()
	for _, i := range nodes {
		_, err := w.Lab.Node(i).Run(w.ctx, fmt.Sprintf("mkdir -p %[1]s/many%[2]d && cd %[1]s/many%[2]d && for f in $(seq 200); do echo $f > $f; done", cluster.MountAt, i))
		w.must(err)
	}
}

// stoodStillOnce: between a node's appends after a time there is one long gap at
// most, and it is not longer than limit. A lock that goes to and fro makes short ones.
func (s *writers) stoodStillOnce(i int, after time.Time, limit time.Duration) {
	s.w.t.Helper()
	last, gaps := time.Time{}, 0
	for _, e := range s.w.Events.All() {
		if !s.appended(i, e) {
			continue
		}
		if gap := e.At.Sub(last); e.At.After(after) && !last.IsZero() && gap > joinTimeout/2 {
			s.w.t.Logf("node%d stood still for %v", i, gap.Round(time.Millisecond))
			if gaps++; gap > limit || gaps > 1 {
				s.w.t.Errorf("node%d stood still %d times, for %v", i, gaps, gap)
			}
		}
		last = e.At
	}
}

// onLink does something to the network device of a node's cluster link.
func (w *world) onLink(i int, what string) error {
	_, err := w.Lab.Node(i).Run(w.ctx, fmt.Sprintf("set -- $(ip -o -4 addr show to 10.77.0.0/24) && ip %s", strings.ReplaceAll(what, "DEV", `"$2"`)))
	return err
}
