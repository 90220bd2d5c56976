package accept

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// world is a cluster that the stories of one test share.
type world struct {
	*cluster.Cluster
	t   *testing.T
	ctx context.Context
	out string
	// deadAfter is the options', on this machine; 0: the profile's.
	deadAfter time.Duration
}

// testLog gives the lab's progress to the test's log.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// full says that this is make test-full, in which stories have all their variants.
func full() bool { return os.Getenv("QUORATE_FULL") == "1" }

// onlyFull skips what is too long for every day.
func onlyFull(t *testing.T) {
	t.Helper()
	if !full() {
		t.Skip("QUORATE_FULL is not 1: this is a story of make test-full")
	}
}

func newWorld(t *testing.T, opt cluster.Options) *world {
	t.Helper()
	if os.Getenv(lab.EnvGate) != "1" {
		t.Skipf("%s is not 1: these stories boot real kernels, as root", lab.EnvGate)
	}
	opt.Log, opt.Patient = testLog{t}, true
	c, err := cluster.New(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	watch := lab.WatchHost()
	w := &world{Cluster: c, t: t, ctx: t.Context(), out: filepath.Join("..", "..", "out", "accept", t.Name())}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(watch)
			t.Log(w.latest(12))
			w.keep()
		}
		watch.Close()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	w.must(c.Up(w.ctx))
	w.deadAfter = w.Stretch(opt.DeadAfter)
	return w
}

// newMounted is a cluster with a new file system, mounted everywhere.
func newMounted(t *testing.T, opt cluster.Options) *world {
	t.Helper()
	w := newWorld(t, opt)
	w.must(w.Mkfs(w.ctx, 1))
	w.mountAll()
	return w
}

// latest are the last events of the kinds that decide about a node's life, of all nodes.
func (w *world) latest(n int) string {
	_, what := w.count(time.Time{}, append([]membership.Kind{membership.KindSuspect, membership.KindCleared, membership.KindView, membership.KindQuorum}, evil...)...)
	lines := strings.Split(what, "\n")
	return "what was decided last:" + strings.Join(append([]string{""}, lines[max(1, len(lines)-n):]...), "\n")
}

// keep saves what helps to understand a failure.
func (w *world) keep() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	w.t.Log("the nodes of the failed story:") // verify shows what stands above this line again at its end
	if err := w.Keep(ctx, w.out); err != nil {
		w.t.Log(err)
	}
	for _, n := range w.Lab.Nodes() {
		for _, ext := range []string{".why", ".dmesg", ".console.log"} {
			if b, err := os.ReadFile(filepath.Join(w.out, n.Name()+ext)); err == nil {
				w.t.Logf("%s%s\n%s", n.Name(), ext, tail(string(b), 60))
			}
		}
	}
	w.t.Logf("what the nodes said is in %s", w.out)
}

// tail is the last lines of a text.
func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// story runs one story; after a failed one the cluster is not what the next expects.
func (w *world) story(name string, f func(*world)) {
	w.t.Helper()
	parent := w.t
	ok := parent.Run(name, func(t *testing.T) {
		s := *w
		s.t, s.ctx = t, t.Context()
		f(&s)
	})
	if !ok {
		parent.FailNow()
	}
}

// within bounds a wait; on a slow machine it is longer.
func (w *world) within(d time.Duration, what string, f func(context.Context) error) {
	w.t.Helper()
	d = w.Stretch(d)
	ctx, cancel := context.WithTimeoutCause(w.ctx, d, fmt.Errorf("not within %v: %s", d, what))
	defer cancel()
	w.must(f(ctx))
}

// statusOf waits until f is content with what a node's daemon says, and returns that.
func (w *world) statusOf(i int, d time.Duration, what string, f func(control.Status) error) (last control.Status) {
	w.t.Helper()
	w.within(d, fmt.Sprintf("node%d: %s", i, what), func(ctx context.Context) error {
		return cluster.Until(ctx, 50*time.Millisecond, func() (err error) {
			if last, err = w.Status(ctx, i); err == nil {
				err = f(last)
			}
			return err
		})
	})
	return last
}

// offs are the nodes that fence devices were asked to switch off since a time, by
// ascending number, each as often as that was.
func (w *world) offs(since time.Time) (plugs []int) {
	for _, p := range w.Lab.PowerLog() {
		if p.Asked.After(since) && p.Action == fencedev.Off {
			plugs = append(plugs, p.Plug)
		}
	}
	slices.Sort(plugs)
	return plugs
}

// fencedOnly: since a time no other than these nodes was fenced.
func (w *world) fencedOnly(since time.Time, may ...int) {
	w.t.Helper()
	for _, plug := range w.offs(since) {
		if !slices.Contains(may, plug) {
			w.t.Errorf("node%d was fenced", plug)
		}
	}
}

func (w *world) boot(i int) {
	w.t.Helper()
	w.within(90*time.Second, fmt.Sprintf("boot of node%d", i), func(ctx context.Context) error { return w.BootAgain(ctx, i) })
}

func (w *world) mount(i int) {
	w.t.Helper()
	w.within(60*time.Second, fmt.Sprintf("mount on node%d", i), func(ctx context.Context) error { return w.Mount(ctx, i) })
}

func (w *world) unmount(i int) {
	w.t.Helper()
	w.within(60*time.Second, fmt.Sprintf("unmount on node%d", i), func(ctx context.Context) error { return w.Unmount(ctx, i) })
}

// mountLast mounts on the node that has not; then the file system runs on all.
func (w *world) mountLast(i int) {
	w.t.Helper()
	w.mount(i)
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
}

func (w *world) mountAll() {
	w.t.Helper()
	for _, i := range w.Nodes() {
		w.mount(i)
	}
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
}

// back boots a dead node and mounts again.
func (w *world) back(i int) {
	w.t.Helper()
	w.boot(i)
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	w.mountLast(i)
}

// count counts the events of a kind after a time, at all nodes.
func (w *world) count(after time.Time, kinds ...membership.Kind) (n int, what string) {
	for _, e := range w.Events.All() {
		if e.At.After(after) && slices.Contains(kinds, e.Kind) {
			n++
			what += fmt.Sprintf("\n  %s node%d %s: %s", e.At.Format("15:04:05.000"), e.Node, e.Kind, e.Text)
		}
	}
	return n, what
}

func (w *world) none(after time.Time, kinds ...membership.Kind) {
	w.t.Helper()
	if n, what := w.count(after, kinds...); n > 0 {
		w.t.Fatalf("%d events that should not be:%s", n, what)
	}
}

// writers append to a file of their own on each node, with fsync.
type writers struct {
	w      *world
	name   string
	shared bool // one file for all
	procs  map[int]*lab.Proc
}

func (w *world) write(name string, rate float64, nodes ...int) *writers {
	w.t.Helper()
	s := &writers{w: w, name: name, procs: map[int]*lab.Proc{}}
	s.start(rate, nodes...)
	return s
}

// writeShared is write to one file, so that its lock goes to and fro. The file is not
// to be verified: GFS2 looks for the end of a file before it has the lock to write,
// so appends of several nodes may overwrite each other.
func (w *world) writeShared(name string, rate float64, nodes ...int) *writers {
	w.t.Helper()
	s := &writers{w: w, name: name, shared: true, procs: map[int]*lab.Proc{}}
	s.start(rate, nodes...)
	return s
}

func (s *writers) start(rate float64, nodes ...int) {
	s.w.t.Helper()
	w := s.w
	for _, i := range nodes {
		p, err := w.StartAppend(w.ctx, i, s.file(i), rate)
		w.must(err)
		s.procs[i] = p
	}
	for _, i := range nodes {
		s.progress(i, time.Time{})
	}
}

func (s *writers) file(i int) string {
	if s.shared {
		return cluster.MountAt + "/" + s.name
	}
	return fmt.Sprintf("%s/%s-%d", cluster.MountAt, s.name, i)
}

// progress waits until the node's writer has told of an append after a time. A
// writer that had to give up says why.
func (s *writers) progress(i int, after time.Time) {
	s.w.t.Helper()
	s.w.within(60*time.Second, fmt.Sprintf("an append on node%d", i), func(ctx context.Context) error {
		err := s.w.WaitAppend(ctx, i, s.file(i), after)
		if err != nil {
			err = fmt.Errorf("%w: %s", err, s.state(i))
		}
		return err
	})
}

// state is what is known of a node's writer.
func (s *writers) state(i int) string {
	text := "it has told of no append"
	for _, e := range s.w.Events.All() {
		if e.Node == i && e.File == s.file(i) {
			text = fmt.Sprintf("its last word is %s %d at %s %s", e.Told, e.Number, e.At.Format("15:04:05.000"), e.Text)
		}
	}
	select {
	case <-s.procs[i].Done():
		code, err := s.procs[i].Wait()
		return fmt.Sprintf("%s; it ended with %d, %v", text, code, err)
	default:
		return text + "; it runs"
	}
}

// appended: a node's writer tells of an append.
func (s *writers) appended(i int, e cluster.Event) bool {
	return e.Told == "append" && e.Node == i && e.File == s.file(i)
}

func (s *writers) stop() {
	for i, p := range s.procs {
		p.Stop()
		delete(s.procs, i)
	}
}

// verify reads every file on one node: what was told is there, exactly once.
func (s *writers) verify(on int, of ...int) {
	s.w.t.Helper()
	for _, i := range of {
		last := s.w.Appended(i, s.file(i))
		s.w.must(s.w.VerifyAppends(s.w.ctx, on, cluster.Appends{File: s.file(i), Writer: i, Last: last}))
		s.w.t.Logf("node%d reads all %d appends of node%d", on, last, i)
	}
}
