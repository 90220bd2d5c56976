// Command chaos boots virtual nodes with real kernels and lets everything go
// wrong that a seed says, again and again; after each round an audit looks at
// what the nodes told and at the disk. See the package tools/chaos.
//
// Its settings are environment variables, as in `make chaos MINUTES=15 SEED=7`:
// SEED (none: the time's), MINUTES, NODES=3..5, ROUND (that round alone, again and again),
// BUG=skip-fence|skip-stop|skip-quorum (daemons that leave out a rule), OUT. It ends with 0
// when no rule was broken, else with 1.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/quorate/quorate/tools/chaos"
	"github.com/quorate/quorate/tools/lab"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	opt, err := settings(os.Getenv, time.Now())
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 64
	}
	opt.Log = os.Stdout
	if !lab.Check(os.Stdout, lab.Config{Nodes: opt.Nodes}) {
		fmt.Fprintln(os.Stderr, "chaos: this machine lacks what the lines above say")
		return 1
	}
	fmt.Printf("chaos: SEED=%d NODES=%d MINUTES=%.3g\n", opt.Seed, opt.Nodes, opt.For.Minutes())
	res, err := chaos.Run(ctx, opt)
	if err != nil {
		fmt.Println("chaos: FAILED", err)
	}
	fmt.Println(res)
	if err != nil || len(res.Violations) > 0 {
		return 1
	}
	return 0
}

// bugs are the rules of node.Rules that chaos notices the lack of: nobody announces a hold in it.
var bugs = []string{"", "skip-fence", "skip-stop", "skip-quorum"}

func settings(env func(string) string, now time.Time) (chaos.Options, error) {
	o := chaos.Options{Nodes: 3, Seed: uint64(now.UnixNano()) % 1e6, For: 3 * time.Minute, Bug: env("BUG"), Out: "out"}
	if v := env("OUT"); v != "" {
		o.Out = v
	}
	if !slices.Contains(bugs, o.Bug) {
		return o, fmt.Errorf("BUG=%s: say one of%q", o.Bug, bugs[1:])
	}
	for _, s := range []struct {
		name   string
		lo, hi float64
		set    func(float64)
	}{
		{"NODES", 3, 5, func(v float64) { o.Nodes = int(v) }},
		{"ROUND", 1, 1e6, func(v float64) { o.Round = int(v) }},
		{"MINUTES", 0.01, 24 * 60, func(v float64) { o.For = time.Duration(v * float64(time.Minute)) }},
	} {
		text := env(s.name)
		if text == "" {
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || v < s.lo || v > s.hi {
			return o, fmt.Errorf("%s=%s: say a number from %g to %g", s.name, text, s.lo, s.hi)
		}
		s.set(v)
	}
	if text := env("SEED"); text != "" {
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return o, fmt.Errorf("SEED=%s: say a whole number", text)
		}
		o.Seed = v
	}
	return o, nil
}
