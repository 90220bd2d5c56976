package accept

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
)

// withdrawLimit is for how long GFS2 waits for a helper that cuts the disk off before
// it gives its locks up (withdraw_helper_timeout, 5 s), and the change after that.
const withdrawLimit = 15 * time.Second

// TestWithdraw is a file system that meets an error and gives up, on kernels that tell
// the others (RELEASE_RECOVER, Linux 6.18): nobody is fenced, and the others replay its
// journal.
func TestWithdraw(t *testing.T) {
	onlyFull(t)
	w := newMounted(t, cluster.Options{Nodes: 3, Kernels: []string{"uml-7.2"}, DeadAfter: 500 * time.Millisecond})
	w.story("a file system withdraws", func(w *world) {
		v := w.follower()
		rest := w.Others(v)
		wr := w.write(fmt.Sprintf("withdraw%d", time.Now().UnixNano()), 20, w.Nodes()...)
		defer wr.stop()
		looked := w.looks(rest)
		at := w.withdraw(v)
		w.within(withdrawLimit, "the others go on without it", func(ctx context.Context) error { return w.WaitLockspace(ctx, rest, rest) })
		for _, i := range rest {
			wr.progress(i, time.Now())
		}
		wr.stop()
		w.none(at, evil...)
		for _, i := range rest {
			wr.verify(i, w.Nodes()...)
		}
		if w.looks(rest) == looked {
			w.t.Error("nobody looked at its journal")
		}
		w.within(30*time.Second, "unmount", func(ctx context.Context) error { return w.Unmount(ctx, v) })
		w.within(60*time.Second, "mount", func(ctx context.Context) error { return w.Mount(ctx, v) })
		w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
		w.none(at, evil...)
		wr.verify(v, w.Nodes()...)
	})
}

// looks counts how often the kernels of nodes looked at a journal.
func (w *world) looks(nodes []int) (n int) {
	w.t.Helper()
	for _, i := range nodes {
		out, err := w.Lab.Node(i).Run(w.ctx, "dmesg")
		w.must(err)
		n += strings.Count(out, "Looking at journal")
	}
	return n
}

// withdraw has the kernel give up the file system of a node.
func (w *world) withdraw(i int) time.Time {
	w.t.Helper()
	at := time.Now()
	_, err := w.Lab.Node(i).Run(w.ctx, fmt.Sprintf("echo 1 >/sys/fs/gfs2/%s:%s/withdraw", cluster.Name, cluster.Table))
	w.must(err)
	return at
}

// withdrawsAmongOlder: a node withdraws, and another's kernel knows of deaths alone. It
// is evicted and fenced, as if it had died.
func (w *world) withdrawsAmongOlder(i int) {
	w.t.Helper()
	wr := w.write(fmt.Sprintf("withdraw%d", time.Now().UnixNano()), 20, w.Nodes()...)
	defer wr.stop()
	at := w.withdraw(i)
	e := w.first(at, membership.KindEvicted, i)
	w.t.Logf("after %v: %s", e.At.Sub(at).Round(time.Millisecond), e.Text)
	w.lost(at, i)
	rest := w.Others(i)
	w.fencedBeforeStart(i, at, rest)
	for _, j := range rest {
		wr.progress(j, time.Now())
	}
	wr.stop()
	w.back(i)
	for _, j := range w.Nodes() {
		wr.verify(j, w.Nodes()...)
	}
}
