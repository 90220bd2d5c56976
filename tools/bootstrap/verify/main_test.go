package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/tools/transcript"
)

func fakeRun(out *strings.Builder) *run {
	return &run{ctx: context.Background(), out: out, dir: "."}
}

func TestClosingLine(t *testing.T) {
	var out strings.Builder
	sum := runAll(fakeRun(&out), []phase{
		{name: "one", run: func(*run) Tally { return Tally{Passed: 3} }},
		{name: "two", run: func(*run) Tally { return Tally{Passed: 1, Failed: []string{"x"}} }},
		{name: "three", run: func(*run) Tally { return Tally{} }},
	})
	if len(sum.Failed) != 2 {
		t.Errorf("a phase without a check must fail: %+v", sum)
	}
	if !strings.HasSuffix(out.String(), "\n4 passed, 2 failed\n") || !strings.Contains(out.String(), "FAILED: x\n") {
		t.Errorf("shown:\n%s", out.String())
	}
}

func TestInterrupted(t *testing.T) {
	var out strings.Builder
	r := fakeRun(&out)
	ctx, cancel := context.WithCancel(r.ctx)
	r.ctx = ctx
	sum := runAll(r, []phase{
		{name: "one", run: func(*run) Tally { cancel(); return Tally{Passed: 1} }},
		{name: "two", run: func(*run) Tally { t.Error("ran"); return Tally{} }},
	})
	if len(sum.Failed) != 0 || sum.Passed != 1 || sum.good() {
		t.Errorf("%+v", sum)
	}
	if !strings.HasSuffix(out.String(), "\ninterrupted: one; not begun: two\n1 passed, 0 failed, interrupted\n") {
		t.Errorf("shown:\n%s", out.String())
	}
}

// An interruption is blamed on no check, and a failure before it still counts.
func TestInterruptedChecks(t *testing.T) {
	var out strings.Builder
	r := fakeRun(&out)
	ctx, cancel := context.WithCancel(r.ctx)
	r.ctx = ctx
	sum := runAll(r, []phase{{name: "all", run: func(r *run) Tally {
		sum := r.check("before", nil, "false")
		cancel()
		sum.add(r.check("after", nil, "false"))
		sum.add(r.finds("bug", "sh", "-c", "exit 2"))
		sum.add(r.fuzz())
		sum.add(r.fuzzOne(target{"p", "FuzzX"}, time.Second))
		sum.add(r.tests(false, nil, "./nowhere"))
		return sum
	}}})
	if len(sum.Failed) != 1 || !strings.HasPrefix(sum.Failed[0], "before: ") || sum.Passed != 0 {
		t.Errorf("%+v", sum)
	}
	if !strings.HasSuffix(out.String(), "\ninterrupted: all\n0 passed, 1 failed, interrupted\n") || strings.Contains(out.String(), "ok  ") {
		t.Errorf("shown:\n%s", out.String())
	}
}

// A phase beside others counts, speaks in one piece, and is over before one that
// is alone begins.
func TestBeside(t *testing.T) {
	var out strings.Builder
	begun, over := make(chan bool), false
	sum := runAll(fakeRun(&out), []phase{
		{name: "long", beside: true, run: func(r *run) Tally {
			<-begun
			fmt.Fprintln(r.out, "said by long")
			over = true
			return Tally{Passed: 2, Failed: []string{"y"}}
		}},
		{name: "short", run: func(*run) Tally { begun <- true; return Tally{Passed: 1} }},
		{name: "lonely", alone: true, run: func(*run) Tally {
			if !over {
				t.Error("not alone")
			}
			return Tally{Passed: 1}
		}},
	})
	if sum.Passed != 4 || len(sum.Failed) != 1 {
		t.Errorf("%+v", sum)
	}
	if !strings.Contains(out.String(), "== long: \nsaid by long\n== long: 2 passed, 1 failed in") {
		t.Errorf("shown:\n%s", out.String())
	}
}

func TestChoose(t *testing.T) {
	got, err := choose(phases, []string{"sim", "format"}, false)
	if err != nil || len(got) != 2 || got[0].name != "format" {
		t.Errorf("%v %v", got, err)
	}
	if _, err := choose(phases, []string{"simm"}, true); err == nil {
		t.Error("an unknown phase was accepted")
	}
	if all, err := choose(phases, nil, true); err != nil || len(all) != len(phases) {
		t.Errorf("%v %v", all, err)
	}
	isLong := func(p phase) bool { return p.long }
	if short, err := choose(phases, nil, false); err != nil || len(short) != len(phases)-1 || slices.ContainsFunc(short, isLong) {
		t.Errorf("%v %v", short, err)
	}
	if named, err := choose(phases, []string{"others"}, false); err != nil || len(named) != 1 {
		t.Errorf("%v %v", named, err)
	}
}

func TestUsage(t *testing.T) {
	var out strings.Builder
	if got := verify(context.Background(), []string{"nothing"}, &out); got != 64 {
		t.Errorf("status %d:\n%s", got, out.String())
	}
}

func TestFormat(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("good.go", "package p\n")
	var out strings.Builder
	r := fakeRun(&out)
	r.dir = dir
	if got := r.format(); got.Passed != 1 || len(got.Failed) != 0 {
		t.Errorf("%+v", got)
	}
	write("bad.go", "package p\nvar  x int\n")
	if got := r.format(); len(got.Failed) != 1 || !strings.Contains(got.Failed[0], "bad.go") {
		t.Errorf("%+v", got)
	}
}

func TestCheck(t *testing.T) {
	var out strings.Builder
	r := fakeRun(&out)
	if got := r.check("yes", nil, "true"); got.Passed != 1 {
		t.Errorf("%+v", got)
	}
	if got := r.check("no", nil, "false"); len(got.Failed) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestFinds(t *testing.T) {
	var out strings.Builder
	r := fakeRun(&out)
	for script, ok := range map[string]bool{"exit 1": true, "exit 0": false, "exit 2": false, "kill -9 $$": false} {
		if got := r.finds("bug", "sh", "-c", script); (got.Passed == 1) != ok {
			t.Errorf("%s: %+v", script, got)
		}
	}
}

// The kernel phase and no other turns the lab on.
func TestCommandEnvironment(t *testing.T) {
	t.Setenv("QUORATE_LAB", "1")
	var out strings.Builder
	r := fakeRun(&out)
	if got := r.check("env", nil, "sh", "-c", `test -z "$QUORATE_LAB" && test "$CGO_ENABLED" = 0`); got.Passed != 1 {
		t.Errorf("%+v", got)
	}
	if got := r.check("env", []string{"QUORATE_LAB=1"}, "sh", "-c", `test "$QUORATE_LAB" = 1`); got.Passed != 1 {
		t.Errorf("%+v", got)
	}
}

// TestBesideSaysWhatItsTestsSay: go test's output and its errors are written at a time.
func TestBesideSaysWhatItsTestsSay(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module m\n", "m_test.go": "package m\nimport \"testing\"\nfunc TestM(t *testing.T) { t.Log(\"a word\") }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out transcript.Buffer
	sum := runAll(&run{ctx: t.Context(), out: &out, dir: dir}, []phase{{name: "p", beside: true, run: func(r *run) Tally { return r.tests(true, nil, "./...") }}})
	if sum.Passed != 1 || !strings.Contains(out.String(), "a word") {
		t.Errorf("%v: %s", sum, out.String())
	}
}

func TestFuzzFor(t *testing.T) {
	for _, c := range []struct {
		run     run
		targets int
		want    time.Duration
	}{
		{run{}, 24, 2 * time.Second},
		{run{full: true}, 24, 15 * time.Second},
		{run{full: true}, 1000, 3 * time.Second},
		{run{full: true}, 0, fuzzBudget},
		{run{full: true, fuzztime: time.Minute}, 24, time.Minute},
	} {
		if got := c.run.fuzzFor(c.targets); got != c.want {
			t.Errorf("%+v, %d targets: %v", c.run, c.targets, got)
		}
	}
}

// What a program started ends with it, even if the program passes no signal on, as unshare.
func TestInterruptionReachesAll(t *testing.T) {
	var out strings.Builder
	r := fakeRun(&out)
	ctx, cancel := context.WithCancel(r.ctx)
	r.ctx = ctx
	c := r.command(nil, "sh", "-c", "trap : INT; sh -c 'echo begun; exec sleep 60'; exit 7")
	begun, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := begun.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cancel()
	at := time.Now()
	_ = c.Wait()
	if c.ProcessState.ExitCode() != 7 || time.Since(at) > 10*time.Second {
		t.Errorf("%v after %v", c.ProcessState, time.Since(at))
	}
}
