package rules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// Module is the module's path.
const Module = "github.com/quorate/quorate"

// Package is what one folder holds.
type Package struct {
	Path  string // relative to the module, "." for its root
	Files []File
}

// File is one Go file.
type File struct {
	Name      string // with the package's path
	Test      bool
	Generated bool
	Doc       bool // has a package comment
	Lines     int
	Imports   []string // of this module without the module's path: ./membership
	Impure    []string // clock reads and goroutines, as line: what
}

// Text is one file of any kind.
type Text struct {
	Name string
	Data []byte
}

// Read parses a tree. Hidden folders (but .ci), bin and out are not looked at.
func Read(root fs.FS) (pkgs []Package, texts []Text, err error) {
	index := map[string]int{}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipped(name) {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || name == ".git" { // a worktree's is a file
			return nil
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		texts = append(texts, Text{name, data})
		if path.Ext(name) != ".go" {
			return nil
		}
		f, err := ParseFile(name, data)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		if _, ok := index[dir]; !ok {
			index[dir] = len(pkgs)
			pkgs = append(pkgs, Package{Path: dir})
		}
		pkgs[index[dir]].Files = append(pkgs[index[dir]].Files, f)
		return nil
	})
	return pkgs, texts, err
}

func skipped(dir string) bool {
	base := path.Base(dir)
	return dir == "bin" || dir == "out" || base != "." && base != ".ci" && strings.HasPrefix(base, ".")
}

// ReadDir is Read of a directory.
func ReadDir(dir string) ([]Package, []Text, error) { return Read(os.DirFS(dir)) }

// ParseFile reads what the rules need from one file.
func ParseFile(name string, data []byte) (File, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return File{}, err
	}
	f := File{
		Name: name, Test: strings.HasSuffix(name, "_test.go"), Generated: ast.IsGenerated(tree),
		Doc: tree.Doc != nil, Lines: fset.Position(tree.FileEnd).Line,
	}
	clock := "" // what the file calls package time
	for _, i := range tree.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return File{}, err
		}
		if p == "time" {
			clock = "time"
			if i.Name != nil {
				clock = i.Name.Name
			}
		}
		if rest, ok := strings.CutPrefix(p, Module); ok && (rest == "" || rest[0] == '/') {
			p = "." + rest
		}
		f.Imports = append(f.Imports, p)
	}
	f.Impure = impure(fset, tree, clock)
	return f, nil
}

// clockReads are the functions of package time that read a clock or start one.
var clockReads = map[string]bool{
	"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "AfterFunc": true,
	"Tick": true, "NewTimer": true, "NewTicker": true,
}

func impure(fset *token.FileSet, tree *ast.File, clock string) (found []string) {
	note := func(n ast.Node, what string) {
		found = append(found, fmt.Sprintf("%d: %s", fset.Position(n.Pos()).Line, what))
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			note(n, "a goroutine")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && clock != "" && x.Name == clock && clockReads[n.Sel.Name] {
				note(n, "time."+n.Sel.Name)
			}
		}
		return true
	})
	return found
}
