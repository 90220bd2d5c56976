package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/tools/bench/internal/figures"
	"github.com/quorate/quorate/tools/cluster"
)

// kind is a system with one way of setting it up.
type kind struct {
	System  string `json:"system"`
	Profile string `json:"profile"`
}

func (k kind) String() string { return k.System + "/" + k.Profile }

// kinds are those that are compared, in the order in which they are measured.
var kinds = []kind{{"quorate", "fast"}, {"quorate", "lan"}, {"corosync", "extreme"}, {"corosync", "safe"}, {"corosync", "default"}}

// chooseKinds reads "quorate,corosync/safe": a system alone is all of its kinds.
func chooseKinds(text string) (out []kind, err error) {
	words := strings.Split(text, ",")
	for _, w := range words {
		if w = strings.TrimSpace(w); !slices.ContainsFunc(kinds, func(k kind) bool { return k.named(w) }) {
			return nil, fmt.Errorf("%w: -systems %s: write some of %s, or a system alone, with commas between", errUsage, text, strings.Trim(fmt.Sprint(kinds), "[]"))
		}
	}
	for _, k := range kinds {
		if slices.ContainsFunc(words, func(w string) bool { return k.named(strings.TrimSpace(w)) }) {
			out = append(out, k)
		}
	}
	return out, nil
}

func (k kind) named(word string) bool { return word == k.System || word == k.String() }

// cell is what makes one row of the table.
type cell struct {
	kind
	nodes int
	kills int
}

func (c cell) String() string { return fmt.Sprintf("%s, %d nodes", c.kind, c.nodes) }

// liveOptions are what a user of bench liveness may choose.
type liveOptions struct {
	kinds  []kind
	nodes  []int
	kills  int // of quorate
	others int // of corosync
	idle   time.Duration
	rest   time.Duration
	budget time.Duration
	daemon string
	out    string
}

// liveRest is between two disturbances.
const liveRest = 300 * time.Millisecond

// livenessMain is bench liveness. It returns the exit status.
func livenessMain(ctx context.Context, args []string, out, errw io.Writer) int {
	o, err := parseLiveness(args, errw)
	return carryOut("bench liveness", err, func() error { return o.run(ctx, out, errw) }, errw)
}

func parseLiveness(args []string, errw io.Writer) (o liveOptions, err error) {
	var nodes, systems string
	o.rest = liveRest
	fs := flag.NewFlagSet("bench liveness", flag.ContinueOnError)
	fs.SetOutput(errw)
	fs.StringVar(&systems, "systems", "quorate,corosync", "which `systems`, as in quorate/lan,corosync")
	fs.StringVar(&nodes, "nodes", "3,8,16", "`sizes` of the clusters, 3 to 32")
	fs.IntVar(&o.kills, "kills", 30, "deaths for each size and profile of quorate")
	fs.IntVar(&o.others, "corosync-kills", 5, "deaths for each size and setting of corosync, -kills at most")
	fs.DurationVar(&o.idle, "idle", 10*time.Second, "for how long an idle cluster is watched; 0: not")
	fs.DurationVar(&o.budget, "budget", 20*time.Minute, "for all: what does not fit into it is left out, and the run has failed")
	fs.StringVar(&o.daemon, "daemon", "bin/quorated", "the `program` to run")
	fs.StringVar(&o.out, "out", "out/bench/liveness.json", "`file` for the figures")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%w: unexpected argument %q: see bench liveness -h", errUsage, fs.Arg(0))
	}
	if o.nodes, err = sizes(nodes); err != nil {
		return o, err
	}
	if o.kinds, err = chooseKinds(systems); err != nil {
		return o, err
	}
	if o.kills < 1 || o.others < 1 || o.idle < 0 || o.budget <= 0 {
		return o, fmt.Errorf("%w: -kills and -corosync-kills are 1 or more, -idle 0 or more, -budget more than 0", errUsage)
	}
	return o, nil
}

// cells are all rows, in the order in which they are measured.
func (o liveOptions) cells() (out []cell) {
	for _, k := range o.kinds {
		for _, n := range o.nodes {
			c := cell{kind: k, nodes: n, kills: o.kills}
			if k.System == "corosync" {
				c.kills = min(o.kills, o.others)
			}
			out = append(out, c)
		}
	}
	return out
}

func (o liveOptions) run(ctx context.Context, out, log io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("it makes network namespaces and has to run as root")
	}
	began := time.Now()
	b := budget{left: func() time.Duration { return o.budget - time.Since(began) }}
	r := LiveReport{Machine: figures.This(os.TempDir()), BudgetS: o.budget.Seconds()}
	for _, c := range o.cells() {
		if ctx.Err() != nil {
			break // what there is until then is worth keeping
		}
		got, err := o.one(ctx, c, b, log)
		if errors.Is(err, errSetup) {
			return err
		}
		if err != nil {
			fmt.Fprintf(log, "%s: %v\n", c, err)
		}
		r.add(c, got, err)
	}
	r.TookS = figures.Round(time.Since(began).Seconds())
	r.judge()
	return errors.Join(context.Cause(ctx), figures.Save(o.out, r), r.print(out), r.failure())
}

// errSetup is a failure of which no row tells: nothing could be tried.
var errSetup = errors.New("not measured")

// one measures one cell, and leaves nothing of it. With an error the result is what
// was measured until then.
func (o liveOptions) one(ctx context.Context, c cell, b budget, log io.Writer) (r liveResult, err error) {
	if !b.fits(0) {
		return r, nil
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	f, err := NewFabric(c.nodes)
	if err != nil {
		return r, fmt.Errorf("%w: %w", errSetup, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s, err := newSystem(f, c.kind, QuorateOptions{Program: o.daemon, Nodes: c.nodes, Fail: fail})
	if err != nil {
		return r, fmt.Errorf("%w: %w", errSetup, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	p := plan{nodes: c.nodes, kills: c.kills, idle: o.idle, rest: o.rest, limit: time.Minute, log: prefixed{log, c.kind.String() + ": "}}
	return measureLive(ctx, s, p, b)
}

// newSystem makes a system of a kind on a fabric; the options say the rest.
func newSystem(f *Fabric, k kind, o QuorateOptions) (System, error) {
	if k.System == "corosync" {
		return NewCorosync(f, CorosyncOptions{Setting: k.Profile, Nodes: o.Nodes, Fail: o.Fail})
	}
	o.Profile = k.Profile
	return NewQuorate(f, o)
}

// prefixed begins each write with the same words: whose line it is.
type prefixed struct {
	to     io.Writer
	prefix string
}

func (p prefixed) Write(b []byte) (int, error) {
	_, err := p.to.Write(append([]byte(p.prefix), b...))
	return len(b), err
}

// budget is the time that is left.
type budget struct{ left func() time.Duration }

// fits says whether something of a length still has room.
func (b budget) fits(d time.Duration) bool { return b.left() > d }

// liveResult is what was found in a cell.
type liveResult struct {
	result
	// alarms is how many views were told while nothing happened.
	alarms int
	// kernel says that the kernels of all nodes answered their peers' probes.
	kernel bool
}

// answering is a system whose nodes' kernels may answer for its daemons.
type answering interface {
	KernelAnswers(context.Context) (bool, error)
}

// answerTime is how soon after a start each kernel must have answered each other one.
const answerTime = 5 * time.Second

var errDaemons = errors.New("not all kernels answer the probes")

// kernelAnswers waits for that, and says whether it came.
func kernelAnswers(ctx context.Context, a answering) (bool, error) {
	limited, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	err := cluster.Until(limited, 100*time.Millisecond, func() error {
		ok, err := a.KernelAnswers(limited)
		if err == nil && !ok {
			err = errDaemons
		}
		return err
	})
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.Is(err, errDaemons):
		return false, nil
	}
	return err == nil, err
}

// measureLive measures a system that has not been started. Deaths for which there is no
// time are left out: there are fewer of them than the plan says.
func measureLive(ctx context.Context, s System, p plan, b budget) (r liveResult, err error) {
	p.say("%d nodes: forming", p.nodes)
	if err := s.Start(ctx); err != nil {
		return r, fmt.Errorf("start %d nodes: %w", p.nodes, err)
	}
	if err := cluster.Sleep(ctx, p.rest); err != nil {
		return r, err
	}
	if a, ok := s.(answering); ok {
		if r.kernel, err = kernelAnswers(ctx, a); err != nil {
			return r, err
		}
	}
	if p.idle > 0 {
		from := boottime()
		if err := r.idle(ctx, s, p); err != nil {
			return r, fmt.Errorf("idle: %w", err)
		}
		r.alarms = s.Views().Told(from, others(p.nodes, 0))
	}
	var longest time.Duration // from a death to the next
	for k := range p.kills {
		at := boottime()
		if !b.fits(longest) {
			p.say("%d nodes: %d of %d deaths are left out: no time is left", p.nodes, p.kills-k, p.kills)
			return r, nil
		}
		if err := s.Whole(ctx); err != nil { // it may have broken meanwhile, by itself
			return r, fmt.Errorf("before death %d: %w", k+1, err)
		}
		d, err := kill(ctx, s, p, victim(k, p.nodes))
		if err != nil {
			return r, fmt.Errorf("death %d of node %d: %w", k+1, victim(k, p.nodes), err)
		}
		r.deaths = append(r.deaths, d)
		if err := back(ctx, s, p, d.Victim); err != nil {
			return r, err
		}
		longest = max(longest, boottime().Sub(at))
	}
	return r, nil
}
