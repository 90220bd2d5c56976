package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
)

// counts is how often something is tried in a run: of `make test`, but for full.
type counts struct {
	random    int // entries in the simulator's list of random faults
	simulated int // seeds of a scenario
	real      int // stories on real kernels
	full      int // stories on real kernels, only in `make test-full`
}

func (c *counts) add(o counts) {
	c.random += o.random
	c.simulated += o.simulated
	c.real += o.real
	c.full += o.full
}

func (c counts) String() string {
	var out []string
	for _, x := range []struct {
		n    int
		what string
	}{{c.random, "random"}, {c.simulated, "simulated"}, {c.real, "real"}, {c.full, "real in full"}} {
		if x.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	return strings.Join(out, ", ")
}

// tried is something that a row of the table may speak of.
type tried struct {
	ref  string
	must bool // it has to be in the table
	counts
}

// title is what a new row calls the fault.
func (t tried) title() string {
	for _, sep := range []string{"/", "scenario ", "random "} {
		if _, name, ok := strings.Cut(t.ref, sep); ok {
			return name
		}
	}
	return t.ref
}

// sources are what is tried, in the order of the sources.
type sources struct{ tried []tried }

func (s *sources) find(ref string) (tried, bool) {
	for _, t := range s.tried {
		if t.ref == ref {
			return t, true
		}
	}
	return tried{}, false
}

// add counts what is there already once more.
func (s *sources) add(t tried) {
	for i := range s.tried {
		if s.tried[i].ref == t.ref {
			s.tried[i].counts.add(t.counts)
			return
		}
	}
	s.tried = append(s.tried, t)
}

func readSources(top string) (*sources, error) {
	s := &sources{}
	for _, read := range []func(string) error{s.readStories, s.readScenarios, s.readRandom, s.readTests} {
		if err := read(top); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// scenarioSeeds is how tools/sim says under how many seeds a scenario is told.
var scenarioSeeds = regexp.MustCompile(`(?m)^const scenarioSeeds = (\d+)`)

func (s *sources) readScenarios(top string) error {
	seeds, err := number(filepath.Join(top, "tools/sim/sim_test.go"), scenarioSeeds)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(top, "tools/sim/testdata/*.txt"))
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		s.add(tried{"scenario " + name, true, counts{simulated: seeds}})
	}
	return err
}

// readRandom reads the lists of the simulator's faults: each line of one has the
// same chance to be drawn.
func (s *sources) readRandom(top string) error {
	for _, of := range []struct{ file, list string }{{"tools/sim/faults.go", "kinds"}, {"tools/sim/witness.go", "witnessKinds"}} {
		if err := s.readKinds(filepath.Join(top, of.file), of.list); err != nil {
			return err
		}
	}
	return nil
}

func (s *sources) readKinds(file, name string) error {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		return err
	}
	var list *ast.CompositeLit
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && v.Names[0].Name == name && len(v.Values) == 1 {
			list, _ = v.Values[0].(*ast.CompositeLit)
		}
		return true
	})
	if list == nil {
		return fmt.Errorf("%s has no list %s of the kinds of faults", file, name)
	}
	for _, e := range list.Elts {
		if sel, ok := e.(*ast.SelectorExpr); ok {
			s.add(tried{"random " + sel.Sel.Name, true, counts{random: 1}})
		}
	}
	return nil
}

// readTests reads the names of all other tests.
func (s *sources) readTests(top string) error {
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != top {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		pkg := filepath.Base(filepath.Dir(path))
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "Test") || strings.HasPrefix(fn.Name.Name, "Fuzz")) {
				s.tried = append(s.tried, tried{ref: pkg + "." + fn.Name.Name})
			}
		}
		return nil
	})
}
