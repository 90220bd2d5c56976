package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestTheTableIsComplete: every story and scenario of this checkout is in the
// table, and every word of the table is somewhere. To put it right:
// go run ./tools/evidence -w.
func TestTheTableIsComplete(t *testing.T) {
	var out strings.Builder
	if run("../..", false, &out) != 0 {
		t.Error(out.String())
	}
}

// checkout makes a small one.
func checkout(t *testing.T, accept, table string) string {
	t.Helper()
	top := t.TempDir()
	for name, text := range map[string]string{
		"tools/accept/a_test.go":         "package accept\n" + accept,
		"tools/sim/sim_test.go":          "package sim\n\nconst scenarioSeeds = 5\n",
		"tools/sim/faults.go":            "package sim\n\nvar kinds = []func(*faults){(*faults).kill, (*faults).kill, (*faults).cut}\n",
		"tools/sim/witness.go":           "package sim\n\nvar witnessKinds = []func(*faults){}\n",
		"tools/sim/testdata/dies.txt":    "kill 1\n",
		"membership/raft/store_test.go":  "package raft\n\nfunc TestStore() {}\n",
		"docs/evidence.md":               table,
		".git/some/other/broken_test.go": "no Go",
	} {
		file := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

const someStories = `
func TestDeaths(t *testing.T) {
	for round := 1; round <= 3; round++ {
		w.story(fmt.Sprintf("the leader dies %d", round), f)
	}
	for range 4 {
		w.story("again", f)
	}
	if full() {
		w.story("at length", f)
	}
	for _, gap := range []int{0, 50} {
		w.trial(fmt.Sprintf("two die %d apart", gap), f)
	}
	more(w)
}

func (w *world) trial(name string, f func(*world)) { w.story(name, f) }

func more(w *world) {
	for _, c := range []struct{ do, name string }{{"x", "one"}, {name: "two", do: "y"}} {
		w.story(c.name, f)
	}
	for name, f := range map[string]func(){"three": nil} {
		w.story(name, f)
	}
	for _, name := range []string{"four"} {
		w.story("story "+name, f)
	}
}

func TestAlone(t *testing.T) { onlyFull(t) }
`

const head = "# Evidence\n\n" + heading + "\n|---|---|---|---|\n"

func TestStories(t *testing.T) {
	src := strings.ReplaceAll(someStories, `"story "+name`, "name")
	s, err := readSources(checkout(t, src, head))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]counts{}
	for _, x := range s.tried {
		if x.must {
			got[x.ref] = x.counts
		}
	}
	want := map[string]counts{
		"TestDeaths/the leader dies": {real: 3}, "TestDeaths/again": {real: 4}, "TestDeaths/two die apart": {real: 2}, "TestDeaths/at length": {full: 1},
		"TestDeaths/one": {real: 1}, "TestDeaths/two": {real: 1}, "TestDeaths/three": {real: 1}, "TestDeaths/four": {real: 1},
		"TestAlone": {full: 1}, "scenario dies": {simulated: 5}, "random kill": {random: 2}, "random cut": {random: 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestANameThatCannotBeRead(t *testing.T) {
	_, err := readSources(checkout(t, someStories, head))
	if err == nil || !strings.Contains(err.Error(), "a_test.go:29") {
		t.Error(err)
	}
}

func TestRowsAreAddedAndFilledIn(t *testing.T) {
	top := checkout(t, "func TestCuts(t *testing.T) { w.story(\"one node\", f) }\n", head+
		"| a death |  `scenario dies` `random kill` `raft.TestStore` | 99 | it was so |\n\nAfter.\n")
	var out strings.Builder
	if run(top, false, &out) != 1 || !strings.Contains(out.String(), "make evidence") {
		t.Error(out.String())
	}
	if run(top, true, &out) != 0 || run(top, false, &out) != 0 {
		t.Error(out.String())
	}
	b, err := os.ReadFile(filepath.Join(top, tablePath))
	want := head + "| a death | `scenario dies` `random kill` `raft.TestStore` | 2 random, 5 simulated | it was so |\n" +
		"| one node | `TestCuts/one node` | 1 real | |\n| cut | `random cut` | 1 random | |\n\nAfter.\n"
	if err != nil || string(b) != want {
		t.Errorf("%v, got:\n%s\nwant:\n%s", err, b, want)
	}
}

func TestWhatAPersonHasToMend(t *testing.T) {
	for row, want := range map[string]string{
		"| a | `TestGone/x` | | |":    "`TestGone/x` is nowhere",
		"| a | somewhere | | |":       `"a" is tried nowhere`,
		"| a | `scenario dies` | | b": "not four columns",
	} {
		top := checkout(t, "", head+row+"\n\n")
		var out strings.Builder
		if run(top, true, &out) != 1 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s", row, out.String())
		}
	}
	var out strings.Builder
	if run(checkout(t, "", "no table"), false, &out) != 1 {
		t.Error(out.String())
	}
}

func TestBound(t *testing.T) {
	for loop, want := range map[string]int{"for i := 0; i < 5; i++ {}": 5, "for i := 1; i <= 3; i++ {}": 3, "for {}": 1, "for i := 0; i < n; i++ {}": 1, "for range 7 {}": 7} {
		src := "package accept\nfunc TestX() { " + strings.Replace(loop, "{}", `{ w.story("x", f) }`, 1) + " }\n"
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", src, 0)
		if err != nil {
			t.Fatal(err)
		}
		fn, err := readFunction(token.NewFileSet(), funcOf(f), map[string]bool{"story": true})
		if err != nil || len(fn.stories) != 1 || fn.stories[0].times != want {
			t.Errorf("%s: %+v, %v", loop, fn.stories, err)
		}
	}
}

func funcOf(f *ast.File) *ast.FuncDecl { return f.Decls[0].(*ast.FuncDecl) }
