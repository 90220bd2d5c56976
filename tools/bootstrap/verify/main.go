package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := verify(ctx, os.Args[1:], os.Stdout)
	stop()
	os.Exit(status)
}

func verify(ctx context.Context, args []string, out io.Writer) int {
	r := &run{ctx: ctx, out: out, dir: ".", ci: os.Getenv("CI") == "true"}
	fs := flag.NewFlagSet("verify", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.BoolVar(&r.full, "full", false, "the long form of every phase")
	fs.IntVar(&r.seeds, "seeds", 0, "simulated `clusters` (default 2000, -full 20000)")
	fs.DurationVar(&r.fuzztime, "fuzztime", 0, "for each fuzz target (default 3s, -full 1m)")
	if err := fs.Parse(args); err != nil {
		return 64
	}
	r.defaults()
	chosen, err := choose(phases, fs.Args())
	if err != nil {
		fmt.Fprintln(out, "verify:", err)
		return 64
	}
	if sum := runAll(r, chosen); len(sum.Failed) > 0 {
		return 1
	}
	return 0
}

func (r *run) defaults() {
	seeds, fuzztime := 2000, 3*time.Second
	if r.full {
		seeds, fuzztime = 20000, time.Minute
	}
	if r.seeds == 0 {
		r.seeds = seeds
	}
	if r.fuzztime == 0 {
		r.fuzztime = fuzztime
	}
}

// choose returns the named phases in their own order, or all without a name.
func choose(all []phase, names []string) ([]phase, error) {
	if len(names) == 0 {
		return all, nil
	}
	var out []phase
	var known []string
	for _, p := range all {
		known = append(known, p.name)
		if slices.Contains(names, p.name) {
			out = append(out, p)
		}
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("no phase %q: one of %s", n, strings.Join(known, ", "))
		}
	}
	return out, nil
}

// runAll runs the phases, says what each took, and ends with the closing line.
func runAll(r *run, chosen []phase) Tally {
	var sum Tally
	var times []string
	begin := time.Now()
	for _, p := range chosen {
		if r.ctx.Err() != nil {
			sum.Failed = append(sum.Failed, p.name+": interrupted before it ran")
			continue
		}
		fmt.Fprintf(r.out, "== %s: %s\n", p.name, p.what)
		at := time.Now()
		t := p.run(r)
		if t.empty() {
			t.Failed = append(t.Failed, p.name+": nothing was checked")
		}
		took := time.Since(at).Round(100 * time.Millisecond)
		fmt.Fprintf(r.out, "== %s: %v in %v\n", p.name, t, took)
		times = append(times, fmt.Sprintf("%s %v", p.name, took))
		sum.add(t)
	}
	fmt.Fprintf(r.out, "== times: %s; all %v\n", strings.Join(times, ", "), time.Since(begin).Round(time.Second))
	for _, s := range sum.Skipped {
		fmt.Fprintln(r.out, "skipped:", s)
	}
	for _, f := range sum.Failed {
		fmt.Fprintln(r.out, "FAILED:", f)
	}
	fmt.Fprintln(r.out, sum)
	return sum
}
