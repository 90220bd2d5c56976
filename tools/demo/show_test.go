package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/drawing"
)

// An attempt to fence is one, whoever tells of it; all other steps are each node's.
func TestEachAttemptOnce(t *testing.T) {
	var out strings.Builder
	d, at := &demo{out: &out}, time.Now()
	tell := func(node int, k membership.Kind, text string) cluster.Event {
		e := cluster.Event{Node: node, At: at, Event: membership.Event{Kind: k, Subject: 3, Index: 9, Text: text}}
		d.recovering(e, at)
		return e
	}
	first := tell(1, membership.KindFenceEnd, "attempt 1 by node 1 failed: oh")
	tell(2, membership.KindFenceEnd, "attempt 1 by node 1 failed: oh")
	second := tell(2, membership.KindFenceEnd, "attempt 2 by node 2 failed: oh")
	tell(1, membership.KindFenced, "gone")
	tell(2, membership.KindFenced, "gone")
	if s := out.String(); strings.Count(s, "attempt 1") != 1 || strings.Count(s, "attempt 2") != 1 || strings.Count(s, "gone") != 2 {
		t.Errorf("shown:\n%s", s)
	}
	if failedTwice(first) || !failedTwice(second) {
		t.Error("the second attempt is not told from the first")
	}
}

func TestKernelSpans(t *testing.T) {
	for name, c := range map[string]struct {
		recovered, journal float64
		want               []drawing.Span
	}{
		"journal later":  {300, 400, []drawing.Span{{From: 200, To: 300, Label: "DLM recovery"}, {From: 300, To: 400, Label: "journal"}, {From: 400, To: 500, Label: "locks"}}},
		"journal first":  {400, 300, []drawing.Span{{From: 200, To: 300, Label: "DLM recovery"}, {From: 300, To: 500, Label: "locks"}}},
		"journal nobody": {300, 0, []drawing.Span{{From: 200, To: 300, Label: "DLM recovery"}, {From: 300, To: 500, Label: "locks"}}},
		"journal before": {300, 100, []drawing.Span{{From: 200, To: 300, Label: "DLM recovery"}, {From: 300, To: 500, Label: "locks"}}},
	} {
		s := cluster.Survivor{GrantedMS: 500, Phases: []cluster.Phase{{Kind: membership.KindStarted, MS: 200}, {Kind: membership.KindRecovered, MS: c.recovered}}}
		if c.journal != 0 {
			s.Phases = append(s.Phases, cluster.Phase{Kind: membership.KindJournal, MS: c.journal})
		}
		got := kernelSpans(s)
		for i := range got {
			got[i].Class = ""
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := kernelSpans(cluster.Survivor{GrantedMS: 500}); got != nil {
		t.Errorf("never started: %+v", got)
	}
}

func TestTitle(t *testing.T) {
	r := report{Nodes: 3, Kernel: "6.1.1", Profile: "lan", Recovery: cluster.Recovery{Victim: 3}}
	if got := r.title(); got != "node3, a follower, was killed: 3 nodes, Linux 6.1.1, profile lan" {
		t.Error(got)
	}
	r.Leader, r.DeadMS = true, 500
	if got := r.title(); got != "node3, the leader, was killed: 3 nodes, Linux 6.1.1, profile lan, dead_after 500 ms" {
		t.Error(got)
	}
}

// What an earlier run wrote is gone before anything can fail.
func TestForget(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"demo.json", "other"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := forget(dir, "demo.json", "demo.svg"); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "other" {
		t.Errorf("%v %v", left, err)
	}
	if err := forget(filepath.Join(dir, "nowhere"), "demo.json"); err != nil {
		t.Error(err)
	}
}

func TestKept(t *testing.T) {
	got := kept("qlab-1", 3)
	for _, want := range []string{"bin/lab --lab qlab-1 boot 3 ", "bin/lab --lab qlab-1 down ", "Ctrl-C"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestBooted(t *testing.T) {
	boots := map[int]string{}
	for _, c := range []struct {
		now  map[int]string
		want []int
	}{
		{map[int]string{1: "a", 2: "b", 3: ""}, []int{1, 2}},
		{map[int]string{1: "a", 2: "", 3: ""}, nil},
		{map[int]string{1: "a", 2: "c", 3: "d"}, []int{2, 3}},
		{map[int]string{1: "a", 2: "c", 3: "d"}, nil},
	} {
		if got := booted(boots, c.now); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.now, got, c.want)
		}
	}
}
