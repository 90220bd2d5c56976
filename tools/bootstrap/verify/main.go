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

	"github.com/quorate/quorate/tools/transcript"
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
	fs.IntVar(&r.seeds, "seeds", 0, "simulated `clusters` (default 2000, -full 10000)")
	fs.DurationVar(&r.fuzztime, "fuzztime", 0, "for each fuzz target (default 2s; -full: 6 minutes are shared)")
	if err := fs.Parse(args); err != nil {
		return 64
	}
	r.defaults()
	chosen, err := choose(phases, fs.Args(), r.full)
	if err != nil {
		fmt.Fprintln(out, "verify:", err)
		return 64
	}
	if sum := runAll(r, chosen); !sum.good() {
		return 1
	}
	return 0
}

func (r *run) defaults() {
	seeds := 2000
	if r.full {
		seeds = 10000
	}
	if r.seeds == 0 {
		r.seeds = seeds
	}
}

// choose returns the named phases in their own order; without a name all, or all
// that are not for -full alone.
func choose(all []phase, names []string, full bool) ([]phase, error) {
	var out []phase
	var known []string
	for _, p := range all {
		known = append(known, p.name)
		if slices.Contains(names, p.name) || len(names) == 0 && (full || !p.long) {
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
// A phase beside others begins in its turn, what follows does not wait for it,
// and the next one that is alone does.
func runAll(r *run, chosen []phase) Tally {
	var s summary
	begin := time.Now()
	for _, p := range chosen {
		if r.ctx.Err() != nil {
			s.left = append(s.left, p.name)
			continue
		}
		if p.beside {
			s.start(r, p)
			continue
		}
		if p.alone {
			s.collect(r)
		}
		fmt.Fprintf(r.out, "== %s: %s\n", p.name, p.what)
		s.add(r.out, p.measure(r))
	}
	s.collect(r)
	fmt.Fprintf(r.out, "== times: %s; all %v\n", strings.Join(s.times, ", "), time.Since(begin).Round(time.Second))
	for _, x := range s.sum.Later {
		fmt.Fprintln(r.out, "left to -full:", x)
	}
	for _, x := range s.sum.Skipped {
		fmt.Fprintln(r.out, "skipped:", x)
	}
	for _, f := range s.sum.Failed {
		fmt.Fprintln(r.out, "FAILED:", f)
		fmt.Fprint(r.out, s.sum.why[f])
	}
	if s.sum.Cut = s.interrupted(); s.sum.Cut != "" {
		fmt.Fprintln(r.out, "interrupted:", s.sum.Cut)
	}
	fmt.Fprintln(r.out, s.sum)
	return s.sum
}

// result is what one phase found, and how long it took.
type result struct {
	name  string
	tally Tally
	took  time.Duration
}

// summary is what all phases found until now.
type summary struct {
	sum    Tally
	times  []string
	beside []chan result
	said   []*transcript.Buffer
	cut    []string // phases that ran when the run was interrupted
	left   []string // and those that never began
}

// interrupted is what of the run was not done, "" when it came to its end.
func (s *summary) interrupted() string {
	var out []string
	if len(s.cut) > 0 {
		out = append(out, strings.Join(s.cut, ", "))
	}
	if len(s.left) > 0 {
		out = append(out, "not begun: "+strings.Join(s.left, ", "))
	}
	return strings.Join(out, "; ")
}

func (p phase) measure(r *run) result {
	at := time.Now()
	t := p.run(r)
	if r.ctx.Err() != nil {
		t.Cut = p.name
	} else if t.empty() {
		t.Failed = append(t.Failed, p.name+": nothing was checked")
	}
	return result{p.name, t, time.Since(at).Round(100 * time.Millisecond)}
}

func (s *summary) add(out io.Writer, x result) {
	fmt.Fprintf(out, "== %s: %v in %v\n", x.name, x.tally, x.took)
	s.times = append(s.times, fmt.Sprintf("%s %v", x.name, x.took))
	s.sum.add(x.tally)
	if x.tally.Cut != "" {
		s.cut = append(s.cut, x.name)
	}
}

// start begins a phase beside those that follow. What it says is shown at its end.
func (s *summary) start(r *run, p phase) {
	said, done, own := &transcript.Buffer{}, make(chan result, 1), *r
	own.out = said
	fmt.Fprintf(r.out, "== %s begins beside what follows\n", p.name)
	fmt.Fprintf(said, "== %s: %s\n", p.name, p.what)
	go func() { done <- p.measure(&own) }()
	s.beside, s.said = append(s.beside, done), append(s.said, said)
}

// collect waits for the phases beside.
func (s *summary) collect(r *run) {
	for i, done := range s.beside {
		x := <-done
		fmt.Fprint(r.out, s.said[i])
		s.add(r.out, x)
	}
	s.beside, s.said = nil, nil
}
