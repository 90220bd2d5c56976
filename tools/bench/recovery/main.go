package recovery

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/tools/bench/internal/figures"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
)

const (
	minNodes = 3 // two have to be left, or nobody has a majority
	maxNodes = 16
)

// profiles are quorate's that differ; auto is one of them.
var profiles = []string{"fast", "lan", "safe", "vm"}

// errUsage is the user's mistake.
var errUsage = errors.New("usage")

// options are what a user may choose.
type options struct {
	rounds   int
	nodes    int
	profiles []string // of quorate
	settings []string // of the incumbent
	kernels  []string
	out      string // the JSON file; the plot is beside it
}

// Main is the command, with the words behind "recovery". It returns the exit status.
func Main(ctx context.Context, args []string, out, errw io.Writer) int {
	o, err := parseArgs(args, errw)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(errw, "bench recovery:", err)
		return 64
	}
	if _, err := o.run(ctx, out, errw); err != nil {
		fmt.Fprintln(errw, "bench recovery:", err)
		return 1
	}
	return 0
}

func parseArgs(args []string, errw io.Writer) (o options, err error) {
	var profile, setting, kernel string
	fs := flag.NewFlagSet("bench recovery", flag.ContinueOnError)
	fs.SetOutput(errw)
	fs.IntVar(&o.rounds, "rounds", 5, "how often each system is measured")
	fs.IntVar(&o.nodes, "nodes", 3, "nodes of the cluster, 3 to 16")
	fs.StringVar(&profile, "profiles", "lan,safe", "quorate's liveness `profiles`: "+strings.Join(profiles, ", "))
	fs.StringVar(&setting, "settings", "default,safe", "the incumbent's `settings`: "+strings.Join(settingNames(), ", "))
	fs.StringVar(&kernel, "kernel", "", "the nodes' kernel, or several with commas; see lab up --help")
	fs.StringVar(&o.out, "out", "out/bench/recovery.json", "`file` for the figures; the plot gets the same name with .svg")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%w: unexpected argument %q: see bench recovery -h", errUsage, fs.Arg(0))
	}
	if o.rounds < 1 || o.nodes < minNodes || o.nodes > maxNodes {
		return o, fmt.Errorf("%w: -rounds is 1 or more, -nodes %d to %d", errUsage, minNodes, maxNodes)
	}
	if o.profiles, err = choose("-profiles", profile, profiles); err != nil {
		return o, err
	}
	if o.settings, err = choose("-settings", setting, settingNames()); err != nil {
		return o, err
	}
	if len(o.profiles)+len(o.settings) == 0 {
		return o, fmt.Errorf("%w: nothing is left to measure", errUsage)
	}
	if kernel != "" {
		o.kernels = strings.Split(kernel, ",")
	}
	return o, nil
}

// choose reads words with commas between; "" is none.
func choose(name, text string, allowed []string) (out []string, err error) {
	if text == "" {
		return nil, nil
	}
	for w := range strings.SplitSeq(text, ",") {
		if w = strings.TrimSpace(w); !slices.Contains(allowed, w) {
			return nil, fmt.Errorf("%w: %s %s: write some of %s, with commas between", errUsage, name, text, strings.Join(allowed, ", "))
		}
		out = append(out, w)
	}
	return out, nil
}

// run measures everything and writes it. A round that fails is told and counted,
// and the others go on; the error says so in the end.
func (o options) run(ctx context.Context, out, log io.Writer) (_ Report, err error) {
	if os.Geteuid() != 0 {
		return Report{}, errors.New("it boots virtual nodes and has to run as root")
	}
	if !lab.Check(log, lab.Config{Nodes: o.nodes, Kernels: o.kernels}) {
		return Report{}, errors.New("this machine lacks what the lines above say")
	}
	c, err := cluster.New(ctx, cluster.Options{Nodes: o.nodes, Kernels: o.kernels, Log: io.Discard})
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	b := &bench{c: c, log: log, began: time.Now(), keep: strings.TrimSuffix(o.out, filepath.Ext(o.out)) + "-failed"}
	r := Report{Machine: figures.This(c.Lab.Dir()), Kernel: c.Lab.KernelVersion(), Nodes: o.nodes, Fencing: fencing}
	systems := o.systems(c)
	for _, s := range systems {
		r.Systems = append(r.Systems, System{Name: s.Name(), Setting: s.Setting(), Config: s.Config()})
	}
	early := b.rounds(ctx, systems, o.rounds, &r) // what there is until then is worth keeping
	r.sum()
	if err := errors.Join(figures.Save(o.out, r), r.draw(strings.TrimSuffix(o.out, filepath.Ext(o.out))+".svg"), r.table(out), early); err != nil {
		return r, err
	}
	if n := len(r.Failed); n > 0 {
		return r, fmt.Errorf("%d of %d rounds failed: see %s", n, n+len(r.Rounds), o.out)
	}
	return r, nil
}

func (o options) systems(c *cluster.Cluster) (out []system) {
	for _, p := range o.profiles {
		out = append(out, &quorate{c: c, profile: p})
	}
	for _, s := range o.settings {
		out = append(out, &incumbent{c: c, set: named(s), pids: map[int]daemons{}})
	}
	return out
}
