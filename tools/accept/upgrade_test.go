package accept

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/tools/cluster"
)

// TestUpgradeByDeath is a cluster of three kernels. Each node dies once and comes
// back with the next kernel in turn, the newest with the oldest: each kernel dies
// among others, recovers from the death of another, and joins a cluster of others.
func TestUpgradeByDeath(t *testing.T) {
	onlyFull(t)
	w := newMounted(t, cluster.Options{Nodes: 3, Kernels: []string{"uml-6.1", "uml-6.12", "uml-7.2"}, DeadAfter: 500 * time.Millisecond})
	w.story("a file system on 7.2 withdraws among older kernels", func(w *world) { w.withdrawsAmongOlder(3) })
	w.story("6.1 dies and 6.12 takes its place", func(w *world) { w.replaced(1, "uml-6.12") })
	w.story("6.12 dies and 7.2 takes its place", func(w *world) { w.replaced(2, "uml-7.2") })
	w.story("7.2 dies and 6.1 takes its place", func(w *world) { w.replaced(3, "uml-6.1") })
}

// replaced: a node dies and its disk, its address and its number come back with
// another kernel.
func (w *world) replaced(i int, kernel string) {
	w.t.Helper()
	n := w.Lab.Node(i)
	old := n.KernelVersion()
	wr := w.isLost(i)
	w.must(n.SetKernel(kernel))
	w.back(i)
	wr.verify(i, w.Nodes()...)
	is, err := n.Run(w.ctx, "uname -r")
	w.must(err)
	if is = strings.TrimSpace(is); is != n.KernelVersion() || is == old {
		w.t.Fatalf("node%d runs Linux %s, not %s in the place of %s", i, is, n.KernelVersion(), old)
	}
	w.t.Logf("node%d: Linux %s in the place of %s; the cluster is %s", i, is, old, w.Lab.KernelVersion())
}
