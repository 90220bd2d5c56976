package main

import (
	"slices"
	"strings"
	"testing"
)

const stream = `{"Action":"start","Package":"p/a"}
{"Action":"run","Package":"p/a","Test":"TestOne"}
{"Action":"output","Package":"p/a","Test":"TestOne","Output":"=== RUN   TestOne\n"}
{"Action":"output","Package":"p/a","Test":"TestOne","Output":"    a_test.go:3: hidden\n"}
{"Action":"pass","Package":"p/a","Test":"TestOne","Elapsed":0.1}
{"Action":"run","Package":"p/a","Test":"TestTwo"}
{"Action":"run","Package":"p/a","Test":"TestTwo/x"}
{"Action":"pass","Package":"p/a","Test":"TestTwo/x","Elapsed":0}
{"Action":"run","Package":"p/a","Test":"TestTwo/y"}
{"Action":"output","Package":"p/a","Test":"TestTwo/y","Output":"    a_test.go:9: the reason\n"}
{"Action":"output","Package":"p/a","Test":"TestTwo/y","Output":"    a_test.go:7: the nodes of the failed story:\n"}
{"Action":"output","Package":"p/a","Test":"TestTwo/y","Output":"    a_test.go:7: a long log\n"}
{"Action":"fail","Package":"p/a","Test":"TestTwo/y","Elapsed":0}
{"Action":"fail","Package":"p/a","Test":"TestTwo","Elapsed":0}
{"Action":"run","Package":"p/a","Test":"TestThree"}
{"Action":"skip","Package":"p/a","Test":"TestThree","Elapsed":0}
{"Action":"run","Package":"p/a","Test":"TestLong"}
{"Action":"output","Package":"p/a","Test":"TestLong","Output":"    a_test.go:20: QUORATE_FULL is not 1: too long\n"}
{"Action":"skip","Package":"p/a","Test":"TestLong","Elapsed":0}
{"Action":"output","Package":"p/a","Output":"FAIL\n"}
{"Action":"fail","Package":"p/a","Elapsed":0.5}
{"Action":"start","Package":"p/b"}
{"Action":"output","Package":"p/b","Output":"?   \tp/b\t[no test files]\n"}
{"Action":"skip","Package":"p/b","Elapsed":0}
`

func never() bool { return false }

func TestCountsLeaves(t *testing.T) {
	var out strings.Builder
	got, err := readTests(strings.NewReader(stream), &out, false, never)
	if err != nil {
		t.Fatal(err)
	}
	if got.Passed != 2 || !slices.Equal(got.Failed, []string{"p/a TestTwo/y"}) || !slices.Equal(got.Skipped, []string{"p/a TestThree"}) {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(got.Later, []string{"p/a TestLong"}) {
		t.Errorf("%+v", got)
	}
	if s := out.String(); !strings.Contains(s, "the reason") || strings.Contains(s, "hidden") || !strings.Contains(s, "fail p/a (0.5 s)") {
		t.Errorf("shown:\n%s", s)
	}
	if w := got.why["p/a TestTwo/y"]; w != "    a_test.go:9: the reason\n" {
		t.Errorf("its reason: %q", w)
	}
	if got.String() != "2 passed, 1 failed, 1 skipped" {
		t.Error(got)
	}
}

func TestVerboseShowsEverything(t *testing.T) {
	var out strings.Builder
	if _, err := readTests(strings.NewReader(stream), &out, true, never); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "hidden") {
		t.Errorf("shown:\n%s", out.String())
	}
}

func TestSkipsAreFailuresInCI(t *testing.T) {
	got := Tally{Passed: 1, Skipped: []string{"p TestX"}}
	got.noSkips()
	if len(got.Failed) != 1 || got.Skipped != nil {
		t.Errorf("%+v", got)
	}
}

// What ends without a verdict has failed.
func TestNoVerdict(t *testing.T) {
	for name, c := range map[string]struct{ in, shown, failed string }{
		"does not build": {`{"ImportPath":"p/a","Action":"build-output","Output":"a.go:1: undefined\n"}
{"ImportPath":"p/a","Action":"build-fail"}
{"Action":"start","Package":"p/a"}
{"Action":"fail","Package":"p/a","Elapsed":0,"FailedBuild":"p/a"}
`, "undefined", "p/a (failed outside of any test, or does not build)"},
		"exits in a test": {`{"Action":"start","Package":"p/a"}
{"Action":"run","Package":"p/a","Test":"TestOne"}
{"Action":"output","Package":"p/a","Test":"TestOne","Output":"panic: oh\n"}
{"Action":"fail","Package":"p/a","Elapsed":0}
`, "panic: oh", "p/a (failed outside of any test, or does not build)"},
		"cut off": {`{"Action":"start","Package":"p/a"}
{"Action":"run","Package":"p/a","Test":"TestOne"}
{"Action":"output","Package":"p/a","Test":"TestOne","Output":"half\n"}
`, "half", "p/a (did not end)"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			got, err := readTests(strings.NewReader(c.in), &out, false, never)
			if err != nil || !slices.Equal(got.Failed, []string{c.failed}) {
				t.Errorf("%+v %v", got, err)
			}
			if !strings.Contains(out.String(), c.shown) {
				t.Errorf("shown:\n%s", out.String())
			}
		})
	}
}

func TestReadTargets(t *testing.T) {
	got, err := readTargets(strings.NewReader(`{"Action":"output","Package":"p/a","Output":"FuzzParse\n"}
{"Action":"output","Package":"p/a","Output":"ok  \tp/a\t0.1s\n"}
{"Action":"output","Package":"p/b","Output":"FuzzRead\n"}
noise
`))
	if err != nil || !slices.Equal(got, []target{{"p/a", "FuzzParse"}, {"p/b", "FuzzRead"}}) {
		t.Errorf("%v %v", got, err)
	}
}

func TestRaced(t *testing.T) {
	const race = `fuzz: elapsed: 0s, gathering baseline coverage: 5/5 completed, now fuzzing with 2 workers
fuzz: elapsed: 1s, execs: 16411 (13585/sec), new interesting: 2 (total: 7)
--- FAIL: FuzzX (1.21s)
    context deadline exceeded
FAIL
exit status 1
FAIL	p/a	1.237s
`
	if !raced(race) {
		t.Error("Go's race is not recognised")
	}
	for _, log := range []string{
		"",
		"--- FAIL: FuzzX (0.1s)\n",
		race + "    Failing input written to testdata/fuzz/FuzzX/1\n",
		"panic: oh\n" + race,
		"    x_test.go:9: context deadline exceeded\n",
	} {
		if raced(log) {
			t.Errorf("taken for Go's race:\n%s", log)
		}
	}
}

// What fails once the run was interrupted is not counted; what failed before is.
func TestInterruptedTests(t *testing.T) {
	const first = `{"Action":"start","Package":"p/a"}
{"Action":"run","Package":"p/a","Test":"TestOne"}
{"Action":"fail","Package":"p/a","Test":"TestOne"}
`
	const rest = `{"Action":"run","Package":"p/a","Test":"TestTwo"}
{"Action":"fail","Package":"p/a","Test":"TestTwo"}
{"Action":"fail","Package":"p/a"}
{"Action":"start","Package":"p/b"}
{"Action":"run","Package":"p/b","Test":"TestOne"}
{"Action":"fail","Package":"p/b"}
{"Action":"start","Package":"p/c"}
{"Action":"run","Package":"p/c","Test":"TestOne"}
`
	asked := 0
	var out strings.Builder
	got, err := readTests(strings.NewReader(first+rest), &out, false, func() bool { asked++; return asked > 1 })
	if err != nil || !slices.Equal(got.Failed, []string{"p/a TestOne"}) || got.Passed != 0 {
		t.Errorf("%+v %v", got, err)
	}
}
