package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/tools/sim"
)

// shown is how many lines of the timeline lead up to a finding.
const shown = 60

// hunt is a range of seeds, run by some workers.
type hunt struct {
	flags
	out   io.Writer
	story *sim.Story

	mu      sync.Mutex
	next    uint64
	ran     uint64
	steps   uint64
	virtual time.Duration
	seeds   map[string][]uint64 // by invariant
	found   int
	first   *sim.Result
}

// run reports the finding of the lowest seed; it says whether there is one.
func (h *hunt) run() bool {
	began := time.Now()
	var wg sync.WaitGroup
	for range max(h.workers, 1) {
		wg.Go(func() {
			for seed, ok := h.take(); ok; seed, ok = h.take() {
				h.done(sim.Run(h.options(seed)))
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if h.first != nil {
		h.report(*h.first)
	}
	fmt.Fprintf(h.out, "sim: seeds=%d steps=%d virtual=%v took=%v seeds/min=%.0f violations=%d\n",
		h.ran, h.steps, h.virtual.Round(time.Second), took.Round(time.Millisecond), float64(h.ran)/took.Minutes(), h.found)
	return h.found > 0
}

func (h *hunt) take() (seed uint64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next >= h.flags.seeds || h.found > 0 && !h.keep {
		return 0, false
	}
	h.next++
	return h.base + h.next - 1, true
}

func (h *hunt) options(seed uint64) sim.Options {
	o := sim.Options{Seed: seed, Break: h.brk, Static: h.static, Story: h.story}
	if h.trace {
		o.Trace = func(l string) { fmt.Fprintln(h.out, l) }
	}
	return o
}

func (h *hunt) done(r sim.Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ran++
	h.steps += r.Steps
	h.virtual += r.Virtual
	if h.verbose {
		fmt.Fprintf(h.out, "seed %d: %v virtual, %d steps, hash %016x\n", r.Seed, r.Virtual.Round(time.Millisecond), r.Steps, r.Hash)
	}
	if r.Violation == nil {
		return
	}
	h.found++
	h.seeds[r.Violation.Name] = append(h.seeds[r.Violation.Name], r.Seed)
	if h.first == nil || r.Seed < h.first.Seed {
		h.first = &r
	}
	if h.keep {
		fmt.Fprintf(h.out, "seed %d: %s\n", r.Seed, r.Violation)
	}
}

// report runs the seed again to show how it came to the finding.
func (h *hunt) report(r sim.Result) {
	var lines []string
	o := h.options(r.Seed)
	o.Trace = func(l string) { lines = append(lines, l) }
	again := sim.Run(o)
	if !h.trace {
		for _, l := range lines[max(0, len(lines)-shown):] {
			fmt.Fprintln(h.out, l)
		}
	}
	fmt.Fprintf(h.out, "\nseed %d: %s\n", r.Seed, r.Violation)
	if again.Hash != r.Hash {
		fmt.Fprintf(h.out, "the replay differs (hash %016x, then %016x): something is not deterministic\n", r.Hash, again.Hash)
	}
	how := ""
	if h.brk != "" {
		how = " -bug " + h.brk
	}
	if h.static {
		how += " -static"
	}
	if h.flags.story != "" {
		how += " -scenario " + h.flags.story
	}
	fmt.Fprintf(h.out, "replay: go run ./tools/sim/cmd/sim -seed %d -seeds 1%s -trace\n", r.Seed, how)
	for _, name := range slices.Sorted(maps.Keys(h.seeds)) {
		s := slices.Sorted(slices.Values(h.seeds[name]))
		fmt.Fprintf(h.out, "sim: %s: %d seeds, %v\n", name, len(s), s[:min(len(s), 12)])
	}
}
