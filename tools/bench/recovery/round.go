package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
)

const (
	quiet      = 3 * time.Second        // for how long nothing happens
	rest       = time.Second            // between a disturbance and the next measurement
	tail       = 500 * time.Millisecond // of a planned change, after its last command
	rate       = 50                     // locks a second of a probe
	opLimit    = time.Minute            // for one step
	roundLimit = 4 * time.Minute        // for a round
)

// Round is one run of one system.
type Round struct {
	Round   int    `json:"round"`
	System  string `json:"system"`
	Setting string `json:"setting"`
	// QuietMS is the longest time without a new lock while nothing happens.
	QuietMS float64 `json:"quiet_ms"`
	Leave   Change  `json:"leave"`
	Join    Change  `json:"join"`
	Death   Death   `json:"death"`
}

// Failure is a round that came to no result.
type Failure struct {
	Round   int    `json:"round"`
	System  string `json:"system"`
	Setting string `json:"setting"`
	Error   string `json:"error"`
}

// bench runs rounds on one set of nodes.
type bench struct {
	c     *cluster.Cluster
	log   io.Writer
	began time.Time
	keep  string // folder for what helps to understand a failed round
}

// rounds runs every system once a round, in turn. Only the end of ctx ends it early.
func (b *bench) rounds(ctx context.Context, systems []system, n int, r *Report) error {
	for round := 1; round <= n; round++ {
		for _, s := range systems {
			b.say("round %d: %s, %s", round, s.Name(), s.Setting())
			got, err := b.round(ctx, s, round)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				b.say("  failed: %v", err)
				r.Failed = append(r.Failed, Failure{round, s.Name(), s.Setting(), err.Error()})
				b.save(ctx, s, round)
				continue
			}
			b.say("  flock %.0f and %.0f ms after the death, control=1 at %.0f; leave %.0f ms, stall %.0f; mount %.0f ms, stall %.0f; quiet %.0f",
				got.Death.FirstMS, got.Death.LastMS, got.Death.OursMS, got.Leave.TookMS, got.Leave.StallMS, got.Join.TookMS, got.Join.StallMS, got.QuietMS)
			r.Rounds = append(r.Rounds, got)
		}
	}
	return nil
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.log, "[%5.0f s] %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// mover is the node that leaves, joins and dies in a round: each in turn, the
// last one first.
func mover(round, nodes int) int { return nodes - (round-1)%nodes }

func (b *bench) round(ctx context.Context, s system, n int) (r Round, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, roundLimit, fmt.Errorf("the round took more than %v", roundLimit))
	defer cancel()
	r = Round{Round: n, System: s.Name(), Setting: s.Setting()}
	m := mover(n, len(b.c.Nodes()))
	s.Prepare()
	if err := b.form(ctx, s); err != nil {
		return r, fmt.Errorf("form the cluster: %w", err)
	}
	began := time.Now()
	stop, err := b.probe(ctx, b.c.Others(m))
	defer stop()
	if err != nil {
		return r, err
	}
	if r.QuietMS, err = b.quiet(ctx, m); err != nil {
		return r, fmt.Errorf("quiet: %w", err)
	}
	if r.Leave, err = b.leave(ctx, s, m); err != nil {
		return r, fmt.Errorf("leave: %w", err)
	}
	if r.Join, err = b.join(ctx, s, m); err != nil {
		return r, fmt.Errorf("join: %w", err)
	}
	stop()
	if r.Death, err = b.death(ctx, s, m); err != nil {
		return r, fmt.Errorf("death: %w", err)
	}
	return r, b.onlyFenced(m, began)
}

// form boots all nodes anew, with nothing on their disks, starts the system and
// mounts a new file system everywhere.
func (b *bench) form(ctx context.Context, s system) error {
	if err := b.c.Lab.Down(ctx); err != nil {
		return err
	}
	if err := b.c.Lab.Up(ctx); err != nil {
		return err
	}
	all := b.c.Nodes()
	err := b.c.Each(ctx, all, func(ctx context.Context, i int) error {
		if _, err := b.c.Lab.Node(i).Run(ctx, "find /var/lib/quorate -mindepth 1 -delete"); err != nil {
			return err
		}
		return s.Start(ctx, i)
	})
	if err != nil {
		return err
	}
	if err := s.Members(ctx, all, all); err != nil {
		return err
	}
	if err := b.c.Mkfs(ctx, all[0]); err != nil {
		return err
	}
	for _, i := range all { // the first one looks at all journals
		if err := b.step(ctx, fmt.Sprintf("mount on node%d", i), func(ctx context.Context) error { return b.c.Mount(ctx, i) }); err != nil {
			return err
		}
	}
	if err := s.Lockspace(ctx, all, all); err != nil {
		return err
	}
	return b.followKernels(ctx, all)
}

// step bounds a step that would otherwise wait for ever.
func (b *bench) step(ctx context.Context, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, opLimit, fmt.Errorf("%s: not within %v", what, opLimit))
	defer cancel()
	return f(ctx)
}

// followKernels has every node tell what its kernel says of the DLM; the programs
// end with the node.
func (b *bench) followKernels(ctx context.Context, nodes []int) error {
	from := time.Now()
	for _, i := range nodes {
		if _, err := b.c.Lab.Node(i).Daemon(ctx, "", cluster.Labnode, "kmsg", "--notify", b.notify(), "dlm:"); err != nil {
			return err
		}
	}
	return b.told(ctx, "the kernels' logs", nodes, from, "kmsg-ready")
}

// told waits until each of the nodes has told a word after a moment.
func (b *bench) told(ctx context.Context, what string, nodes []int, after time.Time, word string) error {
	return b.step(ctx, what, func(ctx context.Context) error { return b.c.WaitTold(ctx, nodes, after, word) })
}

func (b *bench) notify() string { return fmt.Sprintf("%s:%d", lab.FenceAddr, lab.CollectPort) }

// probe has each of the nodes take one new lock after the other until stop is
// called, which may be done twice.
func (b *bench) probe(ctx context.Context, nodes []int) (stop func(), err error) {
	from := time.Now()
	var procs []*lab.Proc
	stop = func() {
		for _, p := range procs {
			p.Stop()
		}
		procs = nil
	}
	for _, i := range nodes {
		p, err := b.c.Lab.Node(i).Start(ctx, lab.Cmd{Args: []string{cluster.Labnode, "cycle", fmt.Sprintf("%s/probe-%d", cluster.MountAt, i),
			"--id", fmt.Sprint(i), "--rate", fmt.Sprint(rate), "--notify", b.notify()}})
		if err != nil {
			return stop, err
		}
		procs = append(procs, p)
	}
	if err := b.locksAfter(ctx, nodes, from); err != nil {
		return stop, err
	}
	return stop, cluster.Sleep(ctx, rest)
}

// locksAfter waits until each of the nodes has had a new lock after a moment.
func (b *bench) locksAfter(ctx context.Context, nodes []int, after time.Time) error {
	return b.told(ctx, "a new lock on each node", nodes, after, "locked")
}

// stall is the longest time without a new lock, on all nodes but the mover, from
// a moment until now.
func (b *bench) stall(ctx context.Context, mover int, from time.Time) (float64, error) {
	to, nodes := time.Now(), b.c.Others(mover)
	if err := b.locksAfter(ctx, nodes, to); err != nil { // the wait that lasts now has an end
		return 0, err
	}
	return ms(longestWait(b.c.Events.All(), nodes, from, to)), nil
}

func (b *bench) quiet(ctx context.Context, mover int) (float64, error) {
	from := time.Now()
	if err := cluster.Sleep(ctx, quiet); err != nil {
		return 0, err
	}
	return b.stall(ctx, mover, from)
}

func (b *bench) leave(ctx context.Context, s system, node int) (c Change, err error) {
	others, from := b.c.Others(node), time.Now()
	c.Node = node
	if err := b.step(ctx, "unmount", func(ctx context.Context) error { return b.c.Unmount(ctx, node) }); err != nil {
		return c, err
	}
	c.UnmountMS = ms(time.Since(from))
	if err := b.step(ctx, "leave", func(ctx context.Context) error { return s.Leave(ctx, node) }); err != nil {
		return c, err
	}
	c.TookMS = ms(time.Since(from))
	if err := cluster.Sleep(ctx, tail); err != nil {
		return c, err
	}
	if c.StallMS, err = b.stall(ctx, node, from); err != nil {
		return c, err
	}
	return c, errors.Join(s.Members(ctx, others, others), s.Lockspace(ctx, others, others))
}

// join mounts on a node that is a member already.
func (b *bench) join(ctx context.Context, s system, node int) (c Change, err error) {
	c.Node = node
	if err := s.Start(ctx, node); err != nil {
		return c, err
	}
	all := b.c.Nodes()
	if err := errors.Join(s.Members(ctx, all, all), cluster.Sleep(ctx, rest)); err != nil {
		return c, err
	}
	from := time.Now()
	if err := b.step(ctx, "mount", func(ctx context.Context) error { return b.c.Mount(ctx, node) }); err != nil {
		return c, err
	}
	c.TookMS = ms(time.Since(from))
	if err := cluster.Sleep(ctx, tail); err != nil {
		return c, err
	}
	if c.StallMS, err = b.stall(ctx, node, from); err != nil {
		return c, err
	}
	return c, s.Lockspace(ctx, all, all)
}

func (b *bench) death(ctx context.Context, s system, victim int) (Death, error) {
	others := b.c.Others(victim)
	release, err := b.c.HoldFlock(ctx, victim, others)
	defer release()
	if err != nil {
		return Death{}, err
	}
	if err := cluster.Sleep(ctx, rest); err != nil {
		return Death{}, err
	}
	at, err := b.c.Kill(ctx, victim)
	if err != nil {
		return Death{}, err
	}
	if err := b.told(ctx, fmt.Sprintf("the flock of node%d", victim), others, at, "granted"); err != nil {
		return Death{}, err
	}
	var d Death
	soon, cancel := context.WithTimeout(ctx, 3*time.Second) // for the kernels' last words
	defer cancel()
	if err := cluster.Until(soon, 50*time.Millisecond, func() (err error) {
		d, err = deathOf(b.c.Events.All(), b.c.Lab.PowerLog(), victim, at, others)
		return err
	}); err != nil {
		return d, err
	}
	d.Told = toldOf(b.c.Recovery(victim, at, others))
	return d, s.Lockspace(ctx, others, others)
}

// onlyFenced fails a round in which a node was fenced that had not died: a false alarm.
func (b *bench) onlyFenced(victim int, after time.Time) error {
	for _, p := range b.c.Lab.PowerLog() {
		if p.Asked.After(after) && p.Plug != victim {
			return fmt.Errorf("node%d was fenced, and node%d had died", p.Plug, victim)
		}
	}
	return nil
}

// save keeps what helps to understand a failed round.
func (b *bench) save(ctx context.Context, s system, round int) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	dir := filepath.Join(b.keep, fmt.Sprintf("%d-%s-%s", round, s.Name(), s.Setting()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.say("  %v", err)
		return
	}
	for _, n := range b.c.Lab.Nodes() {
		script := "dmesg | tail -n 200"
		for _, l := range s.Logs() {
			script += fmt.Sprintf("; echo '== %s'; tail -n 500 %s", l, l)
		}
		r, err := n.Exec(ctx, script)
		text := r.Stdout + r.Stderr
		if err != nil { // a dead node has a console
			text += fmt.Sprintf("%v\n%s\n", err, n.ConsoleTail(50))
		}
		if err := os.WriteFile(filepath.Join(dir, n.Name()+".log"), []byte(text), 0o644); err != nil {
			b.say("  %v", err)
		}
	}
	b.say("  what the nodes said is in %s", dir)
}
