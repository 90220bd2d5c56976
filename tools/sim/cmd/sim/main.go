// Command sim hunts for broken invariants: it runs whole clusters on virtual
// time, one a seed, and shows how the first finding came about.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/tools/sim"
)

type flags struct {
	seeds, base uint64
	brk, story  string
	verbose     bool
	trace, keep bool
	static      bool
	workers     int
	profile     string
}

func main() {
	var f flags
	flag.Uint64Var(&f.seeds, "seeds", 1000, "how many seeds to run")
	flag.Uint64Var(&f.base, "seed", 1, "the first seed")
	flag.StringVar(&f.brk, "bug", "", "a safety rule that the nodes leave out: "+strings.Join(node.Rules, ", "))
	flag.StringVar(&f.story, "scenario", "", "tell the story in this file instead of random faults")
	flag.BoolVar(&f.static, "static", false, "a list of members in the place of raft")
	flag.BoolVar(&f.trace, "trace", false, "print the whole timeline of each run")
	flag.BoolVar(&f.keep, "k", false, "keep going after a finding, and count them by invariant")
	flag.BoolVar(&f.verbose, "v", false, "print a line for each seed")
	flag.IntVar(&f.workers, "workers", 1, "how many runs at once")
	flag.StringVar(&f.profile, "cpuprofile", "", "write a CPU profile to this file")
	flag.Parse()
	found, err := run(f, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(2)
	case found:
		os.Exit(1)
	}
}

func run(f flags, out io.Writer) (found bool, err error) {
	h := &hunt{flags: f, out: out, seeds: map[string][]uint64{}}
	if f.brk != "" && !slices.Contains(node.Rules, f.brk) {
		return false, fmt.Errorf("-bug %s: one of %s", f.brk, strings.Join(node.Rules, ", "))
	}
	if f.story != "" {
		if h.story, err = read(f.story); err != nil {
			return false, err
		}
	}
	if f.profile != "" {
		p, err := os.Create(f.profile)
		if err != nil {
			return false, err
		}
		defer func() { pprof.StopCPUProfile(); _ = p.Close() }()
		if err := pprof.StartCPUProfile(p); err != nil {
			return false, err
		}
	}
	return h.run(), nil
}

func read(file string) (*sim.Story, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	s, err := sim.ParseStory(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}
