package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// number reads a number out of a file.
func number(file string, what *regexp.Regexp) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	m := what.FindSubmatch(b)
	if m == nil {
		return 0, fmt.Errorf("%s: nothing like %s", file, what)
	}
	return strconv.Atoi(string(m[1]))
}

// story is a call of world.story, under one name.
type story struct {
	name  string
	times int
	full  bool
}

// function is one of tools/accept.
type function struct {
	stories []story
	calls   []string // every name that it speaks of
	full    bool     // it calls onlyFull
}

// readStories reads the stories of tools/accept. A test without any is one itself.
func (s *sources) readStories(top string) error {
	files, err := filepath.Glob(filepath.Join(top, "tools/accept/*.go"))
	if err != nil {
		return err
	}
	set := token.NewFileSet()
	var decls []*ast.FuncDecl
	for _, name := range files {
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				decls = append(decls, fn)
			}
		}
	}
	told, all := tellers(decls), map[string]*function{}
	for _, fn := range decls {
		if all[fn.Name.Name], err = readFunction(set, fn, told); err != nil {
			return err
		}
	}
	for _, fn := range decls {
		if strings.HasPrefix(fn.Name.Name, "Test") {
			s.addTest(fn.Name.Name, all)
		}
	}
	return nil
}

// tellers are the functions whose first argument is the name of a story: story
// itself, and those that pass theirs on to it.
func tellers(decls []*ast.FuncDecl) map[string]bool {
	told := map[string]bool{"story": true}
	for known := 0; known < len(told); {
		known = len(told)
		for _, fn := range decls {
			params := fn.Type.Params.List
			if len(params) == 0 || len(params[0].Names) == 0 {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if call := telling(n, told); call != nil && is(call.Args[0], params[0].Names[0].Name) {
					told[fn.Name.Name] = true
				}
				return true
			})
		}
	}
	return told
}

// telling is n when it is a call of a teller.
func telling(n ast.Node, told map[string]bool) *ast.CallExpr {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) < 2 {
		return nil
	}
	if sel, ok := call.Fun.(*ast.SelectorExpr); ok && told[sel.Sel.Name] {
		return call
	}
	return nil
}

// addTest adds the stories of a test and of all functions that it leads to.
func (s *sources) addTest(test string, all map[string]*function) {
	var told []story
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		f := all[name]
		if f == nil || seen[name] {
			return
		}
		seen[name] = true
		told = append(told, f.stories...)
		for _, n := range f.calls {
			if !strings.HasPrefix(n, "Test") {
				visit(n)
			}
		}
	}
	visit(test)
	if len(told) == 0 {
		told = []story{{times: 1}}
	}
	for _, x := range told {
		t := tried{ref: strings.TrimSuffix(test+"/"+x.name, "/"), must: true}
		if x.full || all[test].full {
			t.full = x.times
		} else {
			t.real = x.times
		}
		s.add(t)
	}
}

// readFunction reads what a function tells and calls. Of a teller that is nothing:
// the names are where it is called.
func readFunction(set *token.FileSet, fn *ast.FuncDecl, told map[string]bool) (*function, error) {
	f := &function{}
	if told[fn.Name.Name] {
		return f, nil
	}
	var err error
	var above []ast.Node
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if n == nil {
			above = above[:len(above)-1]
			return true
		}
		above = append(above, n)
		switch n := n.(type) {
		case *ast.Ident:
			f.calls = append(f.calls, n.Name)
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "onlyFull" {
				f.full = true
			}
			if telling(n, told) != nil && err == nil {
				err = f.read(set, n, above)
			}
		}
		return true
	})
	return f, err
}

// read adds the stories of one call: several, when the name comes out of a list.
func (f *function) read(set *token.FileSet, call *ast.CallExpr, above []ast.Node) error {
	names, list := namesOf(call.Args[0], above)
	if len(names) == 0 {
		return fmt.Errorf("%s: the story's name cannot be read here: say it in words, with Sprintf, or from the list that the loop goes through", set.Position(call.Pos()))
	}
	times, full := 1, false
	for _, n := range above {
		switch n := n.(type) {
		case *ast.ForStmt:
			times *= bound(n)
		case *ast.RangeStmt:
			if n != list {
				times *= elements(n.X)
			}
		case *ast.IfStmt:
			full = full || speaksOfFull(n.Cond)
		}
	}
	for _, name := range names {
		f.stories = append(f.stories, story{name, times, full})
	}
	return nil
}

// verbs are what Sprintf fills in: the number of a round, mostly.
var verbs = regexp.MustCompile(`\s*%[a-z]`)

// namesOf reads the names that a story has, and the loop that they come from.
func namesOf(name ast.Expr, above []ast.Node) ([]string, *ast.RangeStmt) {
	switch e := name.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		if err == nil {
			return []string{s}, nil
		}
	case *ast.CallExpr: // fmt.Sprintf
		if len(e.Args) > 0 {
			names, list := namesOf(e.Args[0], above)
			for i := range names {
				names[i] = verbs.ReplaceAllString(names[i], "")
			}
			return names, list
		}
	case *ast.Ident:
		return fromList(e.Name, "", above)
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return fromList(x.Name, e.Sel.Name, above)
		}
	}
	return nil, nil
}

// fromList reads the values that a loop's variable takes, or a field of it.
func fromList(variable, field string, above []ast.Node) (names []string, from *ast.RangeStmt) {
	for _, n := range above {
		loop, ok := n.(*ast.RangeStmt)
		if !ok {
			continue
		}
		list, ok := loop.X.(*ast.CompositeLit)
		if !ok {
			continue
		}
		isKey, isValue := is(loop.Key, variable), is(loop.Value, variable)
		if !isKey && !isValue {
			continue
		}
		for _, e := range list.Elts {
			kv, pair := e.(*ast.KeyValueExpr)
			switch {
			case pair && isKey:
				e = kv.Key
			case pair:
				e = kv.Value
			}
			more, _ := namesOf(fieldOf(e, field, list.Type), nil)
			names, from = append(names, more...), loop
		}
	}
	return names, from
}

func is(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// fieldOf is the value of a field in one element of a list of structs.
func fieldOf(e ast.Expr, field string, list ast.Expr) ast.Expr {
	lit, ok := e.(*ast.CompositeLit)
	if field == "" || !ok {
		return e
	}
	at := 0
	if a, ok := list.(*ast.ArrayType); ok {
		at = position(a.Elt, field)
	}
	for i, x := range lit.Elts {
		if kv, ok := x.(*ast.KeyValueExpr); ok {
			if is(kv.Key, field) {
				return kv.Value
			}
		} else if i == at {
			return x
		}
	}
	return nil
}

func position(t ast.Expr, field string) int {
	s, ok := t.(*ast.StructType)
	if !ok {
		return 0
	}
	i := 0
	for _, f := range s.Fields.List {
		for _, n := range f.Names {
			if n.Name == field {
				return i
			}
			i++
		}
	}
	return 0
}

// bound is how often a loop like `for n := 1; n <= 3; n++` goes round.
func bound(f *ast.ForStmt) int {
	c, ok := f.Cond.(*ast.BinaryExpr)
	a, isAssign := f.Init.(*ast.AssignStmt)
	if !ok || !isAssign || len(a.Rhs) != 1 {
		return 1
	}
	n := literal(c.Y) - literal(a.Rhs[0])
	if c.Op == token.LEQ {
		n++
	}
	return max(n, 1)
}

// elements is how often a loop over n or over a list goes round.
func elements(e ast.Expr) int {
	if list, ok := e.(*ast.CompositeLit); ok {
		return max(len(list.Elts), 1)
	}
	return max(literal(e), 1)
}

func literal(e ast.Expr) int {
	l, ok := e.(*ast.BasicLit)
	if !ok {
		return 0
	}
	n, _ := strconv.Atoi(l.Value)
	return n
}

// speaksOfFull says whether a condition asks for `make test-full`.
func speaksOfFull(e ast.Expr) (does bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			does = does || strings.Contains(strings.ToLower(n.Name), "full")
		case *ast.BasicLit:
			does = does || strings.Contains(n.Value, "QUORATE_FULL")
		}
		return true
	})
	return does
}
