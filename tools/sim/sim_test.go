package sim

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/cmd/quorated/node"
)

// TestSeeds runs random faults; make sim runs many more.
func TestSeeds(t *testing.T) {
	n := 200
	if testing.Short() || raced {
		n = 15
	}
	for seed := range n {
		if r := Run(Options{Seed: uint64(seed + 1)}); r.Violation != nil {
			t.Errorf("seed %d: %s", r.Seed, r.Violation)
		}
	}
}

// TestBroken: each safety rule that is left out is found, by its own name.
func TestBroken(t *testing.T) {
	names := map[string][]string{
		"skip-fence":  {"I3 fence-before-recover"},
		"skip-stop":   {"I2 stop-before-start"},
		"skip-quorum": {"I4 quorum-before-start"},
		"skip-hold":   {"hold"},
		"skip-lie":    {"I3 fence-before-recover"},
		// What was ordered in a generation that is forgotten is ordered otherwise again.
		"skip-generation": {"log-agreement"},
		"early-proof":     {"I4 quorum-before-start", "I3 fence-before-recover", "I1 one-primary", "I2 stop-before-start"},
		"double-actor":    {"one-agent"},
	}
	for _, rule := range node.Rules {
		t.Run(rule, func(t *testing.T) {
			for seed := uint64(1); seed <= 300; seed++ {
				if r := Run(Options{Seed: seed, Break: rule}); r.Violation != nil && slices.Contains(names[rule], r.Violation.Name) {
					return
				}
			}
			t.Fatal("not found in 300 seeds")
		})
	}
}

// TestStatic: a list of members gives safety, and everything runs again as long
// as all of them come back.
func TestStatic(t *testing.T) {
	n := 60
	if testing.Short() || raced {
		n = 5
	}
	for seed := range n {
		if r := Run(Options{Seed: uint64(seed + 1), Static: true}); r.Violation != nil {
			t.Errorf("seed %d: %s", r.Seed, r.Violation)
		}
	}
}

// TestReplay: one seed is one run, to the last byte.
func TestReplay(t *testing.T) {
	for seed := uint64(1); seed <= 12; seed++ {
		a := Run(Options{Seed: seed})
		lines := 0
		b := Run(Options{Seed: seed, Trace: func(string) { lines++ }})
		if a.Hash != b.Hash || a.Steps != b.Steps || a.Virtual != b.Virtual {
			t.Fatalf("seed %d: %+v, then %+v", seed, a, b)
		}
		if lines == 0 {
			t.Fatal("no timeline")
		}
	}
}

// scenarioSeeds is under how many seeds each scenario is told; docs/evidence.md counts them.
const scenarioSeeds = 5

// TestScenarios tells every story, under a few seeds.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			s, seeds := readStory(t, f), uint64(scenarioSeeds)
			if testing.Short() || raced {
				seeds = 1
			}
			for seed := range seeds {
				var lines []string
				r := Run(Options{Seed: seed, Story: s, Trace: func(l string) { lines = append(lines, l) }})
				if r.Violation != nil {
					t.Fatalf("seed %d: %s\n%s", seed, r.Violation, strings.Join(lines[max(0, len(lines)-40):], "\n"))
				}
				if seed == 0 {
					sameTwice(t, r, Options{Seed: seed, Story: s})
				}
			}
		})
	}
}

func sameTwice(t *testing.T, first Result, o Options) {
	t.Helper()
	if again := Run(o); again.Hash != first.Hash || again.Steps != first.Steps {
		t.Fatalf("told twice, it is not the same: %+v, then %+v", first, again)
	}
}

func readStory(t *testing.T, file string) *Story {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	s, err := ParseStory(in)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseStoryNamesTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"running 5s\njump 3":     `line 2, "jump 3": unknown word`,
		"kill":                   "0 words follow, expected 1",
		"kill ten":               "invalid syntax",
		"kill 0":                 "1 to 9",
		"wait 5":                 "missing unit",
		"profile quick # hm":     "one of [safe lan fast]",
		"fencing perhaps":        "one of [works",
		"expect 3s evicted":      "2 words follow, expected 3",
		"nodes 3 4":              "2 words follow, expected 1",
		"xdp maybe":              "one of [on off]",
		"startup all":            "one of [needed wait]",
		"cut 1 2 3":              "3 words follow, expected 2",
		"\n\n  pause 1 forever":  "line 3",
		"kill a":                 "invalid syntax",
		"call a":                 "1 words follow, expected 2",
		"split":                  "0 words follow, expected 1",
		"split 1 ten":            "invalid syntax",
		"fencing-of 1 perhaps":   "one of [works",
		"when evicted 1":         "expected a kind, a node and what to do",
		"when evicted 1 wait 5s": `"wait" cannot be done in an instant`,
		"when evicted ten heal":  "invalid syntax",
		"when evicted any jump":  "unknown word",
	} {
		_, err := ParseStory(strings.NewReader(text))
		if !errors.Is(err, ErrStory) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, expected %s", text, err, want)
		}
	}
}

// A story that does not come true fails, and says which line.
func TestStoryFails(t *testing.T) {
	for text, want := range map[string]string{
		"running 30s\nexpect 1s evicted 3":               `line 2, "expect 1s evicted 3": not seen`,
		"running 1ms":                                    "line 1",
		"running 30s\nkill 3\nnever 20s evicted 3":       "it happened",
		"running 30s\nkill 9":                            "no such node",
		"running 30s\nhold 1 9 5s":                       "no such node",
		"running 30s\nmount 1 swap":                      "no such lockspace",
		"running 30s\nkill hit":                          "no such node",
		"running 30s\nwhen evicted 3 kill 2\nwait 1s":    "never came",
		"running 30s\nfencing fails\nkill 3\nrunning 9s": `line 4, "running 9s"`,
	} {
		s, err := ParseStory(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		r := Run(Options{Seed: 1, Story: s})
		if r.Violation == nil || r.Violation.Name != "story" || !strings.Contains(r.Violation.Text, want) {
			t.Errorf("%q: %v, expected %s", text, r.Violation, want)
		}
	}
}

func FuzzParseStory(f *testing.F) {
	f.Add("nodes 3\nrunning 20s\nkill 2 # why\nexpect 3s fenced 2\n")
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = ParseStory(strings.NewReader(text))
	})
}

func TestQueueOrder(t *testing.T) {
	var q queue
	r := stream(7, "test", 0)
	for i := range 500 {
		q.push(event{at: r.Between(0, 50), seq: uint64(i)})
	}
	last := event{at: -1}
	for len(q.h) > 0 {
		e := q.pop()
		if e.at < last.at || e.at == last.at && e.seq < last.seq {
			t.Fatalf("%v/%d after %v/%d", e.at, e.seq, last.at, last.seq)
		}
		last = e
	}
}

// Streams of one seed do not disturb each other, and are the same for ever.
func TestStreams(t *testing.T) {
	if a, b := stream(1, "disk", 0).Uint64(), stream(1, "disk", 0).Uint64(); a != b {
		t.Fatal("not the same twice")
	}
	seen := map[uint64]bool{}
	for _, c := range []string{"disk", "network", "faults"} {
		for n := range uint64(3) {
			seen[stream(1, c, n).Uint64()] = true
		}
	}
	if len(seen) != 9 {
		t.Fatalf("%d different streams of 9", len(seen))
	}
}

// TestMaintenanceIsChecked: that a maintenance is not kept is found, by its own name.
func TestMaintenanceIsChecked(t *testing.T) {
	s := readStory(t, "testdata/maintenance.txt")
	if r := Run(Options{Seed: 1, Story: s, Break: "skip-hold"}); r.Violation == nil || r.Violation.Name != "maintenance" {
		t.Fatalf("%+v", r.Violation)
	}
}
