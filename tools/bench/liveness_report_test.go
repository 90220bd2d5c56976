package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/tools/bench/internal/figures"
)

func found(cpu float64, seen ...float64) liveResult {
	r := liveResult{result: result{cpu: cpu, pps: 100}, kernel: true}
	for _, ms := range seen {
		r.deaths = append(r.deaths, Death{SeenMS: ms})
	}
	return r
}

func report(t *testing.T) LiveReport {
	t.Helper()
	var r LiveReport
	fast, lan := kinds[0], kinds[1]
	r.add(cell{fast, 8, 3}, found(90, 40, 50, 80), nil)
	r.add(cell{fast, 16, 1}, found(150, 500), nil) // no limit
	r.add(cell{lan, 3, 2}, found(20, 190, 251), nil)
	r.add(cell{lan, 8, 2}, found(120, 201, 201), nil)
	r.add(cell{incumbent, 3, 1}, found(110, 109), nil)
	r.add(cell{incumbent, 8, 1}, found(100), errors.New("it does not hold"))
	r.judge()
	return r
}

func TestLimits(t *testing.T) {
	want := map[string]bool{
		"quorate/fast, 8 nodes: p50 ms": true, "quorate/fast, 8 nodes: max ms": true,
		"quorate/fast, 8 nodes: cpu ms/s, less than corosync/extreme": true,
		"quorate/lan, 3 nodes: p50 ms":                                false, "quorate/lan, 3 nodes: max ms": false,
		"quorate/lan, 3 nodes: cpu ms/s, less than corosync/extreme": true,
		"quorate/lan, 8 nodes: p50 ms":                               false, "quorate/lan, 8 nodes: max ms": true,
		"quorate/lan, 8 nodes: cpu ms/s, less than corosync/extreme": false,
	}
	r := report(t)
	for _, l := range r.Limits {
		if met, ok := want[l.What]; !ok || met != l.Met {
			t.Errorf("%+v", l)
		}
		delete(want, l.What)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// TestLiveFailure: what is left out and what is not met fail the run; that the most
// extreme corosync does not hold does not.
func TestLiveFailure(t *testing.T) {
	var good LiveReport
	good.add(cell{kinds[1], 3, 2}, found(20, 190, 195), nil)
	good.add(cell{incumbent, 3, 1}, found(0), errors.New("it does not hold"))
	good.judge()
	if err := good.failure(); err != nil {
		t.Error(err)
	}
	for what, add := range map[string]func(r *LiveReport){
		"corosync/safe, 3 nodes: 0 of 1":    func(r *LiveReport) { r.add(cell{kinds[3], 3, 1}, found(0), errors.New("no")) },
		"corosync/extreme, 8 nodes: 1 of 2": func(r *LiveReport) { r.add(cell{incumbent, 8, 2}, found(0, 1), nil) },
		"quorate/lan, 8 nodes: 1 of 2":      func(r *LiveReport) { r.add(cell{kinds[1], 8, 2}, found(1, 190), nil) },
		"quorate/fast, 3 nodes: not all kernels": func(r *LiveReport) {
			deaf := found(1, 20)
			deaf.kernel = false
			r.add(cell{kinds[0], 3, 1}, deaf, nil)
		},
		"1 of 4 limits": func(r *LiveReport) { r.add(cell{kinds[1], 8, 1}, found(1, 249), nil) },
	} {
		r := good
		add(&r)
		r.judge()
		if err := r.failure(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLiveTable(t *testing.T) {
	var b bytes.Buffer
	r := report(t)
	r.add(cell{kinds[4], 3, 5}, found(0), nil)
	r.add(cell{kinds[1], 16, 1}, found(80, 195), nil)
	r.add(cell{incumbent, 16, 1}, found(0), errors.New("it does not form"))
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"quorate fast 8 3 50.0 80.0 90.0 100.0 0", "corosync extreme 8 0 - - 100.0 100.0 0", "corosync/extreme, 8 nodes: 0 of 1 deaths: it does not hold",
		"corosync/default, 3 nodes: 0 of 5 deaths: " + outOfTime, "not compared: quorate/lan, 16 nodes: cpu: corosync/extreme had none while idle", "met quorate/fast, 8 nodes: p50 ms: 50.0, at most 50.0", "NOT MET quorate/lan, 3 nodes: max ms: 251.0, at most 250.0"} {
		if !strings.Contains(strings.Join(strings.Fields(b.String()), " "), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// TestLiveFile: the names that others read.
func TestLiveFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a", "b.json")
	if err := figures.Save(file, report(t)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Rows []map[string]any }
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"system", "profile", "nodes", "kills", "p50_ms", "max_ms", "cpu_ms_per_s", "pps", "kernel_answers"} {
		if _, ok := got.Rows[0][name]; !ok {
			t.Errorf("no %s in %v", name, got.Rows[0])
		}
	}
}
