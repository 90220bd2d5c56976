package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/tools/cluster"
)

// Options are what a run is made of.
type Options struct {
	Nodes int // 0: 3
	Seed  uint64
	For   time.Duration // so long after the first round began, no other begins
	Round int           // this round alone, again and again; 0: from the first on
	Bug   string        // a safety rule that the daemons leave out: see cluster.Options
	Out   string        // where a failing round leaves what the nodes said
	Log   io.Writer
}

// Result is what a run was.
type Result struct {
	Rounds, Faults int
	Ops            uint64 // appends and increments that were told to be on the disk
	Lost           int    // events and increments that were told and never came: they are not checked
	Violations     []cluster.Violation
}

func (r Result) String() string {
	return fmt.Sprintf("chaos: rounds=%d faults=%d ops=%d lost=%d violations=%d", r.Rounds, r.Faults, r.Ops, r.Lost, len(r.Violations))
}

const (
	// profile has a dead_after of DeadAfter: the nodes share the host's processors with
	// each other's programs, and a healthy one may stand still for half a second.
	profile      = "safe"
	fenceTimeout = 5 * time.Second
	// backBound is how long everything may take to run again, from the end of all
	// faults. Most of it is for boots; an actor that died with its agent is waited for
	// (2 s + 2 x fenceTimeout) x 1.25 + 5 s.
	backBound  = 90 * time.Second
	setUpLimit = 5 * time.Minute // most of it for boots on a busy machine
)

// ErrSetup says that there was no cluster to do anything to.
var ErrSetup = errors.New("the cluster did not come up")

type runner struct {
	*cluster.Cluster
	opt   Options
	began time.Time
	res   Result
	load  load
	tasks sync.WaitGroup

	mu      sync.Mutex
	frozen  []cluster.Pause
	lost    map[int]bool // whose state is gone at its next boot
	leaving map[int]bool
	logMu   sync.Mutex
}

// Run boots a cluster and does its worst. It ends at the first round in which a
// rule was broken; the error is of what kept it from going on, not of that.
func Run(ctx context.Context, opt Options) (Result, error) {
	if opt.Nodes == 0 {
		opt.Nodes = 3
	}
	if opt.Log == nil {
		opt.Log = io.Discard
	}
	r := &runner{opt: opt, began: time.Now(), lost: map[int]bool{}, leaving: map[int]bool{}}
	c, err := cluster.New(ctx, cluster.Options{Nodes: opt.Nodes, Profile: profile, DeadAfter: DeadAfter, FenceTimeout: fenceTimeout, Bug: opt.Bug, Log: opt.Log})
	if err != nil {
		return r.res, err
	}
	r.Cluster, r.load.c = c, c
	err = errors.Join(r.run(ctx), c.Close())
	r.tasks.Wait() // what they wait for ended with the nodes
	return r.res, err
}

func (r *runner) say(format string, args ...any) {
	r.logMu.Lock()
	defer r.logMu.Unlock()
	fmt.Fprintf(r.opt.Log, "[%5.1f s] %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (r *runner) run(ctx context.Context) error {
	if err := r.setUp(ctx); err != nil {
		r.judge(ctx, Round{}, cluster.Violation{Rule: "I8 progress", Text: err.Error()})
		return fmt.Errorf("%w: %w", ErrSetup, err)
	}
	first := time.Now()
	for n := 1; len(r.res.Violations) == 0 && (n == 1 || time.Since(first) < r.opt.For); n++ {
		number := n
		if r.opt.Round != 0 {
			number = r.opt.Round
		}
		if err := r.round(ctx, Draw(r.opt.Seed, number, r.opt.Nodes)); err != nil {
			return err
		}
	}
	return nil
}

// setUp is a calm beginning: all are members and have the file system and the
// lockspace of the counter.
func (r *runner) setUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, setUpLimit, fmt.Errorf("not within %v", setUpLimit))
	defer cancel()
	if err := r.Up(ctx); err != nil {
		return err
	}
	if err := r.Mkfs(ctx, 1); err != nil {
		return err
	}
	for _, i := range r.Nodes() { // the first mounter checks all journals
		if err := r.bounded(ctx, endLimit, fmt.Sprintf("node%d mounts", i), func(ctx context.Context) error { return r.Mount(ctx, i) }); err != nil {
			return err
		}
	}
	if err := r.Each(ctx, r.Nodes(), r.load.join); err != nil {
		return err
	}
	return r.bounded(ctx, endLimit, "all runs on all nodes", func(ctx context.Context) error {
		return cluster.Until(ctx, look, func() error { return r.everywhere(ctx) })
	})
}

// round is one round, from calm to calm. The error is of a context that ended;
// what went wrong is a violation.
func (r *runner) round(ctx context.Context, plan Round) error {
	r.say("%v", plan)
	from := time.Now()
	r.load.begin(ctx)
	err := r.bounded(ctx, backBound, "the programs work on all nodes", func(ctx context.Context) error {
		if err := r.Each(ctx, r.Nodes(), r.load.start); err != nil {
			return err
		}
		return r.working(ctx, from)
	})
	if err == nil {
		r.res.Faults += r.inject(ctx, plan)
		err = r.bounded(ctx, backBound, "everything runs again", r.back)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var late []cluster.Violation
	if err != nil {
		late = append(late, cluster.Violation{Rule: "I8 progress", Text: err.Error()})
	}
	late = append(late, r.load.finish(ctx)...)
	r.judge(ctx, plan, late...)
	r.res.Rounds++
	r.res.Ops += r.load.ops()
	r.say("round %d took %.1f s, %d operations, %d violations", plan.Number, time.Since(from).Seconds(), r.load.ops(), len(r.res.Violations))
	return nil
}

func (r *runner) bounded(ctx context.Context, d time.Duration, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d, fmt.Errorf("not within %v: %s", d, what))
	defer cancel()
	return f(ctx)
}

// working waits until the programs of every node have done something after a time.
func (r *runner) working(ctx context.Context, after time.Time) error {
	return r.Each(ctx, r.Nodes(), func(ctx context.Context, i int) error { return r.load.working(ctx, i, after) })
}

// mostSaid bounds what is said of the violations of one round; round.txt has all.
const mostSaid = 20

// judge audits the record and keeps what helps to understand what it finds.
func (r *runner) judge(ctx context.Context, plan Round, found ...cluster.Violation) {
	rec := r.record()
	found = append(found, rec.Audit()...)
	found = append(found, r.kernels(ctx)...)
	if r.res.Lost = rec.Gaps() + r.load.lost; r.res.Lost > 0 {
		r.say("UNKNOWN: %d events and %d increments never came, and are not checked", rec.Gaps(), r.load.lost)
	}
	if len(found) == 0 {
		return
	}
	r.res.Violations = found
	for _, v := range found[:min(len(found), mostSaid)] {
		r.say("VIOLATION %v", v)
	}
	if more := len(found) - mostSaid; more > 0 {
		r.say("VIOLATION and %d more", more)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 60*time.Second)
	defer cancel()
	dir := filepath.Join(r.opt.Out, "chaos", fmt.Sprintf("%d-%d", r.opt.Seed, plan.Number))
	if err := errors.Join(r.Keep(ctx, dir), os.WriteFile(filepath.Join(dir, "round.txt"), []byte(r.story(plan)), 0o644)); err != nil {
		r.say("%v", err)
	}
	r.say("what the nodes said is in %s; again: %s", dir, r.opt.again(plan.Number))
}

// again is the command that does the same.
func (o Options) again(round int) string {
	s := fmt.Sprintf("make chaos SEED=%d NODES=%d", o.Seed, o.Nodes)
	if round != 0 {
		s += fmt.Sprintf(" ROUND=%d", round)
	}
	if o.Bug != "" {
		s += " BUG=" + o.Bug
	}
	return s + fmt.Sprintf(" MINUTES=%.3g", o.For.Minutes())
}

// story is the text beside the nodes' logs.
func (r *runner) story(plan Round) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n%s\n\n", plan, r.opt.again(plan.Number))
	for _, v := range r.res.Violations {
		fmt.Fprintln(&b, v)
	}
	for _, i := range r.Nodes() {
		fmt.Fprintf(&b, "\nnode%d:\n", i)
		for _, d := range r.Lab.Node(i).Deaths() {
			fmt.Fprintf(&b, "  boot %s stood still at %s\n", d.BootID, d.Frozen.Format("15:04:05.000"))
		}
	}
	for _, p := range r.record().Frozen {
		fmt.Fprintf(&b, "node%d was frozen from %s to %s\n", p.Node, p.From.Format("15:04:05.000"), p.To.Format("15:04:05.000"))
	}
	return b.String()
}

// record is all that is known from outside so far.
func (r *runner) record() cluster.Record {
	rec := r.Record()
	r.mu.Lock()
	defer r.mu.Unlock()
	rec.Frozen = append([]cluster.Pause(nil), r.frozen...)
	return rec
}

// kernels looks for faults in the kernels' logs: the consoles have the errors of
// every life, dmesg has the warnings too.
func (r *runner) kernels(ctx context.Context) []cluster.Violation {
	var out []cluster.Violation
	for _, i := range r.Nodes() {
		n := r.Lab.Node(i)
		log := n.ConsoleTail(1 << 20)
		if err := r.bounded(ctx, 20*time.Second, "dmesg", func(ctx context.Context) error {
			d, err := n.Run(ctx, "dmesg")
			log += "\n" + d
			return err
		}); err != nil {
			out = append(out, cluster.Violation{Rule: "kernel log", Text: fmt.Sprintf("node%d: it cannot be read: %v", i, err)})
		}
		for _, l := range cluster.KernelFaults(log) {
			out = append(out, cluster.Violation{Rule: "kernel log", Text: fmt.Sprintf("node%d: %s", i, l)})
		}
	}
	return out
}
