package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/cmd/quorated/realtime"
	"github.com/quorate/quorate/tools/bench/internal/figures"
	"github.com/quorate/quorate/tools/bench/recovery"
)

const (
	minNodes = 3 // one dies, and of those that are left one leads and one follows
	maxNodes = 32
)

// profiles are those that a bench can wait for.
var profiles = []string{"fast", "lan", "safe", "vm"}

// errUsage is the user's mistake.
var errUsage = errors.New("usage")

// options are what a user may choose.
type options struct {
	nodes   []int
	profile string
	kills   int
	idle    time.Duration
	fsyncs  bool
	daemon  string
	out     string
	rest    time.Duration // between a disturbance and the next measurement
}

// defaultRest is longer than anything that a view change leaves behind.
const defaultRest = time.Second

// priority is below the daemons' and above all ordinary programs': bench has to read
// a view when it is told, and strace must not keep a daemon waiting. A daemon
// that it starts chooses its own.
const priority = 5

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "recovery" {
		os.Exit(recovery.Main(ctx, os.Args[2:], os.Stdout, os.Stderr))
	}
	if err := realtime.Threads(priority); err != nil && os.Geteuid() == 0 {
		fmt.Fprintf(os.Stderr, "bench: %v: on a busy machine views are read late\n", err)
	}
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command finds what is to be measured.
func command(ctx context.Context, args []string, out, errw io.Writer) int {
	if len(args) > 0 {
		switch args[0] {
		case "liveness":
			return livenessMain(ctx, args[1:], out, errw)
		case "soak":
			return soakMain(ctx, args[1:], out, errw)
		}
	}
	return run(ctx, args, out, errw)
}

func run(ctx context.Context, args []string, out, errw io.Writer) int {
	o, err := parseArgs(args, errw)
	return carryOut("bench", err, func() error { return o.run(ctx, out, errw) }, errw)
}

// carryOut runs what was asked for, unless it cannot be read, and returns the exit status.
func carryOut(name string, unread error, run func() error, errw io.Writer) int {
	switch {
	case errors.Is(unread, flag.ErrHelp):
		return 0
	case unread != nil:
		fmt.Fprintln(errw, name+":", unread)
		return 64
	}
	if err := run(); err != nil {
		fmt.Fprintln(errw, name+":", err)
		return 1
	}
	return 0
}

func parseArgs(args []string, errw io.Writer) (o options, err error) {
	var nodes string
	o.rest = defaultRest
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(errw)
	fs.StringVar(&nodes, "nodes", "3,5,8", "`sizes` of the clusters, 3 to 32")
	fs.StringVar(&o.profile, "profile", "lan", "liveness profile: "+strings.Join(profiles, ", "))
	fs.IntVar(&o.kills, "kills", 10, "deaths for each size")
	fs.DurationVar(&o.idle, "idle", 20*time.Second, "for how long the idle cluster is watched; 0: not")
	fs.BoolVar(&o.fsyncs, "fsyncs", true, "count fsyncs, with strace")
	fs.StringVar(&o.daemon, "daemon", "bin/quorated", "the `program` to run")
	fs.StringVar(&o.out, "out", "out/bench/view.json", "`file` for the figures")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%w: unexpected argument %q: see bench -h", errUsage, fs.Arg(0))
	}
	if o.nodes, err = sizes(nodes); err != nil {
		return o, err
	}
	if !slices.Contains(profiles, o.profile) {
		return o, fmt.Errorf("%w: -profile %s: write one of %s", errUsage, o.profile, strings.Join(profiles, ", "))
	}
	if o.kills < 0 || o.idle < 0 {
		return o, fmt.Errorf("%w: -kills and -idle are 0 or more", errUsage)
	}
	return o, nil
}

// sizes reads "3,5,8".
func sizes(text string) (out []int, err error) {
	for _, w := range strings.Split(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(w))
		if err != nil || n < minNodes || n > maxNodes {
			return nil, fmt.Errorf("%w: -nodes %s: write numbers from %d to %d, with commas between", errUsage, text, minNodes, maxNodes)
		}
		out = append(out, n)
	}
	return out, nil
}

func (o options) run(ctx context.Context, out, errw io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("it makes network namespaces and has to run as root")
	}
	if _, err := exec.LookPath("strace"); o.fsyncs && err != nil {
		return fmt.Errorf("%w: install the package strace, or run with -fsyncs=false", err)
	}
	report := Report{Machine: figures.This(os.TempDir())}
	for _, n := range o.nodes {
		r, deaths, err := o.one(ctx, n, errw)
		if err != nil {
			return err
		}
		report.Rows = append(report.Rows, r)
		report.Deaths = append(report.Deaths, deaths...)
	}
	if err := printTable(out, report.Rows); err != nil {
		return err
	}
	return figures.Save(o.out, report)
}

// one measures one size, and leaves nothing of it.
func (o options) one(ctx context.Context, nodes int, log io.Writer) (_ Row, _ []Death, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	f, err := NewFabric(nodes)
	if err != nil {
		return Row{}, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	q, err := NewQuorate(f, QuorateOptions{Program: o.daemon, Profile: o.profile, Nodes: nodes, Fail: fail})
	if err != nil {
		return Row{}, nil, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	p := o.plan(nodes, log)
	r, err := measure(ctx, q, p)
	if err != nil {
		return Row{}, nil, err
	}
	return row(q, o.profile, p, r), r.deaths, nil
}

func (o options) plan(nodes int, log io.Writer) plan {
	p := plan{nodes: nodes, kills: o.kills, idle: o.idle, rest: o.rest, limit: time.Minute, log: log}
	if o.fsyncs {
		p.trace = straced
	}
	return p
}
