package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/tools/bench/internal/figures"
)

func testRow(trace tracer) Row {
	return row(newFake(3), "lan", plan{nodes: 3, trace: trace}, result{cpu: 1.26, rss: 16.04, pps: 100,
		deaths: []Death{{SeenMS: 210.44}, {SeenMS: 190}, {SeenMS: 200}}, death: syncs{leader: 2, follower: 1}, join: syncs{leader: 3, follower: 4}})
}

func TestRow(t *testing.T) {
	f := newFake(3)
	want := Row{System: "fake", Profile: "lan", Nodes: 3, Kills: 3, P50MS: 200, MaxMS: 210.4, CPU: 1.3, RSS: 16, PPS: 100,
		FsyncsLeader: 2, FsyncsFollower: 1, JoinFsyncsLeader: 3, JoinFsyncsFollower: 4}
	if got := testRow(f.trace); got != want {
		t.Errorf("%+v", got)
	}
	want.FsyncsLeader, want.FsyncsFollower, want.JoinFsyncsLeader, want.JoinFsyncsFollower = -1, -1, -1, -1
	if got := testRow(nil); got != want {
		t.Errorf("%+v", got)
	}
	if got := row(f, "lan", plan{nodes: 3}, result{}); got.P50MS != 0 || got.MaxMS != 0 {
		t.Errorf("no deaths: %+v", got)
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := printTable(&b, []Row{testRow(newFake(3).trace), testRow(nil)}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if len(lines) < 4 || len(lines[0]) != len(lines[1]) || len(lines[1]) != len(lines[2]) {
		t.Fatalf("columns do not line up:\n%s", b.String())
	}
	if got := strings.Join(strings.Fields(lines[1]), " "); got != "fake lan 3 3 200.0 210.4 1.3 16.0 100.0 2/1 3/4" {
		t.Error(got)
	}
	if !strings.HasSuffix(strings.TrimSpace(lines[2]), "-     -") {
		t.Error(lines[2])
	}
}

// TestFile: the names in the file are what other programs read.
func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a", "view.json")
	r := Report{Rows: []Row{testRow(nil)}, Deaths: []Death{{Nodes: 3}}}
	if err := figures.Save(file, r); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Rows []map[string]any `json:"rows"`
	}
	if err := json.Unmarshal(data, &back); err != nil || len(back.Rows) != 1 {
		t.Fatalf("%v: %s", err, data)
	}
	have := slices.Collect(maps.Keys(back.Rows[0]))
	for _, k := range []string{"system", "profile", "nodes", "kills", "p50_ms", "max_ms", "cpu_ms_per_s", "rss_mib", "pps", "fsyncs_leader", "fsyncs_follower"} {
		if !slices.Contains(have, k) {
			t.Errorf("%s is missing in %v", k, have)
		}
	}
}
