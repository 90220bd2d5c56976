package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCleanSeedsEndWithTheCount(t *testing.T) {
	var out bytes.Buffer
	found, err := run(flags{seeds: 3, base: 1, workers: 2, verbose: true}, &out)
	if found || err != nil {
		t.Fatal(err, out.String())
	}
	if s := out.String(); !strings.Contains(s, "sim: seeds=3 steps=") || !strings.HasSuffix(s, "violations=0\n") || strings.Count(s, "hash") != 3 {
		t.Fatal(s)
	}
}

func TestAFindingNamesSeedInvariantAndReplay(t *testing.T) {
	var out bytes.Buffer
	found, err := run(flags{seeds: 300, base: 1, workers: 1, brk: "skip-stop"}, &out)
	if !found || err != nil {
		t.Fatal(err, out.String())
	}
	s := out.String()
	for _, want := range []string{": I2 stop-before-start: ", "-seeds 1 -bug skip-stop -trace\n", "kernel: start", "violations=1\n"} {
		if !strings.Contains(s, want) {
			t.Errorf("no %q in:\n%s", want, s)
		}
	}
	if strings.Contains(s, "not deterministic") {
		t.Error(s)
	}
}

func TestScenarioFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.txt")
	if err := os.WriteFile(file, []byte("running 30s\nexpect 1s evicted 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	found, err := run(flags{seeds: 1, base: 1, story: file, static: true, trace: true}, &out)
	if !found || err != nil || !strings.Contains(out.String(), "story: line 2") || !strings.Contains(out.String(), "-seeds 1 -static -scenario "+file+" -trace\n") {
		t.Fatal(err, out.String())
	}
}

func TestWrongFlags(t *testing.T) {
	for _, f := range []flags{{brk: "skip-all"}, {story: "no such file"}, {profile: "no/such/dir/file"}} {
		if _, err := run(f, &bytes.Buffer{}); err == nil {
			t.Errorf("%+v: no error", f)
		}
	}
}
