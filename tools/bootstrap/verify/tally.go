package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Tally counts the checks of a phase.
type Tally struct {
	Passed  int
	Failed  []string // in the order seen
	Skipped []string
	Later   []string          // skipped, since they are for -full alone
	Cut     string            // what the end of the run interrupted, "" when nothing
	why     map[string]string // of a failed one: the last it said
}

func (t *Tally) add(o Tally) {
	t.Passed += o.Passed
	t.Failed = append(t.Failed, o.Failed...)
	t.Skipped = append(t.Skipped, o.Skipped...)
	for name, why := range o.why {
		t.because(name, why)
	}
	for _, l := range o.Later { // the phase of unit tests meets them, too
		if !slices.Contains(t.Later, l) {
			t.Later = append(t.Later, l)
		}
	}
}

func (t *Tally) because(name, why string) {
	if t.why == nil {
		t.why = map[string]string{}
	}
	t.why[name] = why
}

// empty says that nothing was checked.
func (t Tally) empty() bool { return t.Passed+len(t.Failed)+len(t.Skipped) == 0 }

// noSkips makes every skip a failure.
func (t *Tally) noSkips() {
	for _, s := range t.Skipped {
		t.Failed = append(t.Failed, s+" (skipped, which CI does not accept)")
	}
	t.Skipped = nil
}

// String is the plain closing line.
func (t Tally) String() string {
	s := fmt.Sprintf("%d passed, %d failed", t.Passed, len(t.Failed))
	if len(t.Skipped) > 0 {
		s += fmt.Sprintf(", %d skipped", len(t.Skipped))
	}
	if t.Cut != "" {
		s += ", interrupted"
	}
	return s
}

// good says that nothing failed and all was run.
func (t Tally) good() bool { return len(t.Failed) == 0 && t.Cut == "" }

// testEvent is a line of `go test -json` (cmd/test2json); BuildOutput lines
// carry ImportPath instead of Package.
type testEvent struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

// reader follows the events of one `go test -json`.
type reader struct {
	out     io.Writer
	verbose bool
	results map[string]map[string]string // package -> test -> pass, fail or skip
	output  map[string][]string          // what a test that has not ended printed
	later   map[string]bool              // tests that said that they are for -full alone
	tally   Tally

	// interrupted says of what fails now that the end of the run is why.
	interrupted func() bool
}

// readTests counts what `go test -json` reports and shows it: each package in a
// line, the output of what failed, and with verbose everything as it comes.
// Only tests without subtests are counted. Lines that are no events are shown.
// What failed once the run was interrupted is not counted.
func readTests(in io.Reader, out io.Writer, verbose bool, interrupted func() bool) (Tally, error) {
	r := &reader{out: out, verbose: verbose, interrupted: interrupted, results: map[string]map[string]string{}, output: map[string][]string{}, later: map[string]bool{}}
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var e testEvent
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil || e.Action == "" {
			fmt.Fprintln(out, sc.Text())
			continue
		}
		r.event(e)
	}
	for _, pkg := range slices.Sorted(maps.Keys(r.results)) {
		r.fail(pkg, "did not end")
	}
	return r.tally, sc.Err()
}

func (r *reader) event(e testEvent) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "start":
		r.results[e.Package] = map[string]string{}
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		if e.Test != "" && strings.Contains(e.Output, envFull+" is not 1") {
			r.later[key] = true
		}
		r.print(key, e)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
			return
		}
		if e.Action == "fail" && r.interrupted() {
			e.Action = "interrupted"
		}
		if tests := r.results[e.Package]; tests != nil {
			tests[e.Test] = e.Action
		}
		if e.Action == "fail" {
			r.tally.because(key, lastWords(r.output[key]))
			if !r.verbose {
				fmt.Fprint(r.out, strings.Join(r.output[key], ""))
			}
		}
		delete(r.output, key)
	}
}

func (r *reader) print(key string, e testEvent) {
	if r.verbose {
		fmt.Fprint(r.out, e.Output)
	}
	if e.Test != "" || !r.verbose && !noise(e.Output) {
		r.output[key] = append(r.output[key], e.Output)
	}
}

// kept begins what a story on real kernels shows of its nodes after it failed.
const kept = "the nodes of the failed story:"

// lastWords is the end of what a failed test printed, before what it kept.
func lastWords(output []string) string {
	const most = 8
	var said []string
	for _, l := range output {
		if strings.Contains(l, kept) {
			break
		}
		if !strings.HasPrefix(strings.TrimSpace(l), "--- FAIL") && !strings.HasPrefix(l, "=== ") {
			said = append(said, l)
		}
	}
	return strings.Join(said[max(0, len(said)-most):], "")
}

// noise is what go test says of a package that needs no reading.
func noise(s string) bool {
	return s == "PASS\n" || strings.HasPrefix(s, "ok  \t") || strings.HasPrefix(s, "?   \t")
}

// endPackage counts the package's tests that have no subtests.
func (r *reader) endPackage(e testEvent) {
	tests := r.results[e.Package]
	delete(r.results, e.Package)
	failed := len(r.tally.Failed)
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		if parent(tests, name) {
			continue
		}
		switch full := e.Package + " " + name; tests[name] {
		case "pass":
			r.tally.Passed++
		case "fail":
			r.tally.Failed = append(r.tally.Failed, full)
		case "skip":
			to := &r.tally.Skipped
			if r.later[full] {
				to = &r.tally.Later
			}
			*to = append(*to, full)
		}
	}
	if e.Action == "fail" && len(r.tally.Failed) == failed {
		r.fail(e.Package, "failed outside of any test, or does not build")
	} else if e.Action == "fail" {
		r.dump(e.Package)
	}
	if !r.verbose && len(tests) > 0 {
		fmt.Fprintf(r.out, "%-4s %s (%.1f s)\n", e.Action, e.Package, e.Elapsed)
	}
}

// parent says whether a test had subtests.
func parent(tests map[string]string, name string) bool {
	for other := range tests {
		if strings.HasPrefix(other, name+"/") {
			return true
		}
	}
	return false
}

func (r *reader) fail(pkg, why string) {
	if r.interrupted() {
		return
	}
	r.dump(pkg)
	r.tally.Failed = append(r.tally.Failed, pkg+" ("+why+")")
}

// dump shows what a package's tests printed that never ended, as after a panic.
func (r *reader) dump(pkg string) {
	for _, key := range slices.Sorted(maps.Keys(r.output)) {
		if strings.HasPrefix(key, pkg+" ") {
			if !r.verbose {
				fmt.Fprint(r.out, strings.Join(r.output[key], ""))
			}
			delete(r.output, key)
		}
	}
}
