package recovery

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/tools/bench/internal/figures"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; look at it, then run with -update:\n%s", file, got)
	}
}

// madeUp is a report of figures that nobody measured.
func madeUp() Report {
	r := Report{Machine: figures.Machine{Kernel: "6.18", CPUs: 2, StateFS: "tmpfs"}, Kernel: "6.1", Nodes: 3, Fencing: "instant",
		Systems: []System{{Name: "quorate", Setting: "lan", Config: "a"}, {Name: "incumbent", Setting: "default", Config: "b"}, {Name: "incumbent", Setting: "safe", Config: "c"}},
		Failed:  []Failure{{3, "incumbent", "safe", "it broke"}}}
	for i, base := range []float64{0, 100, 30} {
		k := base * 1.04
		r.Rounds = append(r.Rounds,
			Round{i + 1, "quorate", "lan", 41 + base, Change{1, 500 + base, 300 + base, 80}, Change{1, 400 + base, 0, 90}, Death{3, 200 + k, 240 + k, 300 + k, 420 + k, 640 + k, 700 + k, 340, &Told{190, 210, 300}}},
			Round{i + 1, "incumbent", "default", 40 + base, Change{1, 1500 + base, 700 + base, 180}, Change{1, 800 + base, 0, 190}, Death{3, 8000 + k, 8040 + k, 8100 + k, 8300 + k, 8500 + k, 9500 + k, 400, nil}})
	}
	r.sum()
	return r
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := madeUp().table(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", b.Bytes())
}

func TestFile(t *testing.T) {
	b, err := json.MarshalIndent(madeUp(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "recovery.json", append(b, '\n'))
}

func TestPlot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a", "plot.svg")
	if err := madeUp().draw(file); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "plot.svg", b)
}

// TestNothing: a run in which every round failed has a report too.
func TestNothing(t *testing.T) {
	r := Report{Systems: []System{{Name: "quorate", Setting: "lan"}}}
	r.sum()
	var b bytes.Buffer
	if err := r.table(&b); err != nil || r.Systems[0].Figures != nil || len(r.lanes()) != 0 {
		t.Errorf("%v %+v", err, r)
	}
}
