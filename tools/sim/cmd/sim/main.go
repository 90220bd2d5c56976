// Command sim hunts for broken invariants: it runs whole clusters on virtual
// time, one a seed, and stops at the first finding.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/tools/sim"
)

func main() { os.Exit(run()) }

type flags struct {
	seeds, base uint64
	brk, story  string
	verbose     bool
	trace, keep bool
	workers     int
	profile     string
	script      *sim.Story
}

func run() int {
	var f flags
	flag.Uint64Var(&f.seeds, "seeds", 1000, "how many seeds to run")
	flag.Uint64Var(&f.base, "seed", 1, "the first seed")
	flag.StringVar(&f.brk, "bug", "", "a safety rule that the nodes leave out: skip-fence, skip-stop or skip-quorum")
	flag.StringVar(&f.story, "scenario", "", "run the scenario in this file instead of random faults")
	flag.BoolVar(&f.trace, "trace", false, "print the whole timeline of the run (with -seeds 1)")
	flag.BoolVar(&f.keep, "k", false, "keep going after a finding, and count them by invariant")
	flag.BoolVar(&f.verbose, "v", false, "print a line for each seed")
	flag.IntVar(&f.workers, "workers", 1, "how many runs at once")
	flag.StringVar(&f.profile, "cpuprofile", "", "write a CPU profile to this file")
	flag.Parse()
	if f.story != "" {
		in, err := os.Open(f.story)
		if err != nil {
			fmt.Fprintln(os.Stderr, "sim:", err)
			return 2
		}
		f.script, err = sim.ParseStory(in)
		_ = in.Close()
		if err != nil {
			fmt.Fprintf(os.Stderr, "sim: %s: %v\n", f.story, err)
			return 2
		}
	}
	if f.profile != "" {
		out, err := os.Create(f.profile)
		if err != nil {
			fmt.Fprintln(os.Stderr, "sim:", err)
			return 2
		}
		defer func() { pprof.StopCPUProfile(); _ = out.Close() }()
		if err := pprof.StartCPUProfile(out); err != nil {
			fmt.Fprintln(os.Stderr, "sim:", err)
			return 2
		}
	}
	return hunt(f)
}

// hunt runs the seeds and reports the finding of the lowest one.
func hunt(f flags) int {
	var next, steps, bad atomic.Uint64
	var mu sync.Mutex
	var first *sim.Result
	var virtual time.Duration
	counts := map[string][]uint64{}
	began := time.Now()
	var wg sync.WaitGroup
	for range max(f.workers, 1) {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= f.seeds || bad.Load() > 0 && !f.keep {
					return
				}
				opt := sim.Options{Seed: f.base + i, Break: f.brk, Story: f.script}
				if f.trace {
					opt.Trace = func(l string) { fmt.Println(l) }
				}
				r := sim.Run(opt)
				steps.Add(r.Steps)
				mu.Lock()
				virtual += r.Virtual
				if f.verbose {
					fmt.Printf("seed %d: %v virtual, %d steps, hash %016x%s\n", r.Seed, r.Virtual.Round(time.Millisecond), r.Steps, r.Hash, finding(r))
				}
				if r.Violation != nil {
					bad.Add(1)
					counts[r.Violation.Name] = append(counts[r.Violation.Name], r.Seed)
					if first == nil || r.Seed < first.Seed {
						first = &r
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	done := min(next.Load(), f.seeds)
	if first != nil {
		report(f, *first)
		for name, seeds := range counts {
			fmt.Printf("sim: %s: %d seeds, %v\n", name, len(seeds), seeds[:min(len(seeds), 12)])
		}
	}
	fmt.Printf("sim: seeds=%d steps=%d virtual=%v took=%v violations=%d (%.0f seeds/min)\n",
		done, steps.Load(), virtual.Round(time.Second), took.Round(time.Millisecond), bad.Load(), float64(done)/took.Minutes())
	if first != nil {
		return 1
	}
	return 0
}

func finding(r sim.Result) string {
	if r.Violation == nil {
		return ""
	}
	return ": " + r.Violation.String()
}

const shown = 60 // lines of the timeline

// report runs the seed again to show how it came to the finding.
func report(f flags, r sim.Result) {
	var lines []string
	again := sim.Run(sim.Options{Seed: r.Seed, Break: f.brk, Story: f.script, Trace: func(l string) { lines = append(lines, l) }})
	for _, l := range lines[max(0, len(lines)-shown):] {
		fmt.Println(l)
	}
	fmt.Printf("\nseed %d: %s\n", r.Seed, r.Violation)
	if again.Hash != r.Hash {
		fmt.Printf("the replay differs (hash %016x, then %016x): something is not deterministic\n", r.Hash, again.Hash)
	}
	how := ""
	if f.brk != "" {
		how = " -bug " + f.brk
	}
	if f.story != "" {
		how += " -scenario " + f.story
	}
	fmt.Printf("replay: go run ./tools/sim/cmd/sim -seed %d -seeds 1%s -trace\n", r.Seed, how)
}
