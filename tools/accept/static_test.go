package accept

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/tools/cluster"
)

// TestOneNodeByAList: one node has the DLM and nothing else. While its list names
// a second node, which does not exist, its mount waits; when the list has lost
// it, the file system is used, without a fence device, and left.
func TestOneNodeByAList(t *testing.T) {
	w := newWorld(t, cluster.Options{Nodes: 1, Absent: 1, List: []string{"node1", "absent1"}})
	from := time.Now()
	w.must(w.Mkfs(w.ctx, 1))
	s := w.until("a member that waits for absent1", func(s control.Status) bool {
		return s.Member && !s.Quorate && slices.ContainsFunc(s.Waits, func(x control.Wait) bool { return strings.Contains(x.Reason, "absent1") })
	})
	t.Logf("%s: %s", s.Group, s.Promise)
	mounted := make(chan error, 1)
	go func() { mounted <- w.Mount(w.ctx, 1) }()
	w.until("the join of the mount", func(s control.Status) bool { return len(s.Lockspaces) == 1 && s.Lockspaces[0].Local == "joining" })
	w.must(w.WriteList(w.ctx, 1, "node1"))
	select {
	case err := <-mounted:
		w.must(err)
	case <-time.After(30 * time.Second):
		t.Fatal("the mount still waits")
	}
	s = w.until("everything runs", func(s control.Status) bool { return s.Level == control.OK && s.Quorate })
	t.Logf("%s: %s", s.Group, s.Promise)
	w.must(w.WaitLockspace(w.ctx, []int{1}, []int{1}))
	wr := w.write("alone", 50, 1)
	for range 5 {
		wr.progress(1, time.Now())
	}
	wr.stop()
	wr.verify(1, 1)
	w.unmount(1)
	w.quorate(1, "leave", 0)
	w.none(from, evil...)
}

// until waits for a status of node 1.
func (w *world) until(what string, is func(control.Status) bool) control.Status {
	w.t.Helper()
	return w.statusOf(1, 30*time.Second, what, func(s control.Status) error {
		if !is(s) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}
