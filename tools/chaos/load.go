package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
)

const (
	counterSpace = "chaos" // the lockspace of the counter
	counterLock  = "counter"
	appendRate   = 5 // a second and node
	countRate    = 5
	endLimit     = 30 * time.Second // for a program to end when it is asked to
)

// load is what programs do on the nodes meanwhile: on each one appends to a file
// of GFS2, another counts under a lock.
type load struct {
	c *cluster.Cluster

	mu      sync.Mutex
	ctx     context.Context // of the programs
	from    time.Time
	workers map[int]*worker
	files   []cluster.Appends // of this round
	ended   int               // programs that counted and ended in the middle, in all rounds
	lost    int               // increments that were made and never heard of, in all rounds
}

// worker is the two programs of a node.
type worker struct {
	file          string
	append, count *lab.Proc
}

func (w *worker) runs() bool {
	select {
	case <-w.append.Done():
		return false
	case <-w.count.Done():
		return false
	default:
		return true
	}
}

// begin is the beginning of a round.
func (l *load) begin(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ctx, l.from, l.workers, l.files = ctx, time.Now(), map[int]*worker{}, nil
}

// join takes a node into the lockspace of the counter.
func (l *load) join(ctx context.Context, i int) error {
	_, err := l.c.Lab.Node(i).Run(ctx, cluster.Labnode+" dlm create "+counterSpace)
	return err
}

// start starts the programs of a node, unless they run. They outlive the call.
func (l *load) start(_ context.Context, i int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.workers[i]; w != nil {
		if w.runs() {
			return nil
		}
		l.drop(i)
	}
	w := &worker{file: fmt.Sprintf("%s/chaos-%d-%d-%d", cluster.MountAt, l.from.UnixNano(), i, len(l.files))}
	var err error
	if w.append, err = l.c.StartAppend(l.ctx, i, w.file, appendRate); err != nil {
		return err
	}
	args := []string{cluster.Labnode, "dlm", "count", counterSpace, counterLock, cluster.Disk, "--id", fmt.Sprint(i), "--rate", fmt.Sprint(countRate)}
	if w.count, err = l.c.Lab.Node(i).Start(l.ctx, lab.Cmd{Args: args}); err != nil {
		w.append.Stop()
		return err
	}
	l.workers[i] = w
	l.files = append(l.files, cluster.Appends{File: w.file, Writer: i})
	return nil
}

// drop ends what is left of a node's programs.
func (l *load) drop(i int) {
	w := l.workers[i]
	w.append.Stop()
	w.count.Stop()
	l.ended++
	delete(l.workers, i)
}

// stop asks a node's programs to end, and waits for it: nothing is unknown then.
func (l *load) stop(ctx context.Context, i int) error {
	l.mu.Lock()
	w := l.workers[i]
	l.mu.Unlock()
	if w == nil {
		return nil
	}
	for _, p := range []*lab.Proc{w.append, w.count} {
		err := p.Signal(syscall.SIGTERM)
		select {
		case <-p.Done():
			if code, werr := p.Wait(); err == nil && (werr != nil || code != 0) {
				err = errors.Join(werr, fmt.Errorf("exit status %d", code))
			}
		case <-ctx.Done(): // it hangs: drop kills it
			err = context.Cause(ctx)
		}
		if err != nil {
			l.mu.Lock()
			l.drop(i)
			l.mu.Unlock()
			return fmt.Errorf("node%d: the end of a program: %w", i, err)
		}
	}
	l.mu.Lock()
	delete(l.workers, i)
	l.mu.Unlock()
	return nil
}

// working waits until both programs of a node have done something after a time.
func (l *load) working(ctx context.Context, i int, after time.Time) error {
	for _, told := range []string{"append", "counted"} {
		if _, err := l.c.Events.Wait(ctx, after, func(e cluster.Event) bool { return e.Node == i && e.Told == told }); err != nil {
			return fmt.Errorf("node%d tells of no %q: %w", i, told, err)
		}
	}
	return nil
}

// ops counts what was told to be on the disk in this round.
func (l *load) ops() (n uint64) {
	for _, e := range l.c.Events.All() {
		if e.At.After(l.from) && (e.Told == "append" || e.Told == "counted") {
			n++
		}
	}
	return n
}

// finish ends the programs and looks at what they left: every append that was
// told is there once, in the eyes of every node, and no number was made twice.
func (l *load) finish(ctx context.Context) []cluster.Violation {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*endLimit, fmt.Errorf("not within %v", 2*endLimit))
	defer cancel()
	var found []cluster.Violation
	broken := func(rule string, err error) {
		if err != nil {
			found = append(found, cluster.Violation{Rule: rule, Text: err.Error()})
		}
	}
	broken("I8 progress", l.c.Each(ctx, l.c.Nodes(), l.stop))
	all := l.c.Events.All()
	for _, e := range all {
		if e.Told == "append-error" && e.At.After(l.from) {
			broken("disk", fmt.Errorf("node%d could not append: %s", e.Node, e.Text))
		}
	}
	var files []cluster.Appends
	for _, f := range l.files {
		if f.Last = l.c.Appended(f.Writer, f.File); f.Last > 0 {
			files = append(files, f)
		}
	}
	broken("disk", l.c.Each(ctx, l.c.Nodes(), func(ctx context.Context, i int) error { return l.c.VerifyAppends(ctx, i, files...) }))
	disk, err := l.c.Counter(ctx, 1)
	if err != nil {
		broken("lock", err)
		return found
	}
	counter, lost := cluster.AuditCounter(all, disk, l.ended)
	l.lost = lost
	return append(found, counter...)
}
