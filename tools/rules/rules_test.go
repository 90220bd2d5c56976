package rules

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestTree holds the whole checkout to the rules.
func TestTree(t *testing.T) {
	pkgs, texts, err := ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 10 {
		t.Fatalf("only %d packages were found", len(pkgs))
	}
	for name, found := range map[string][]string{
		"imports": Imports(pkgs), "purity": Purity(pkgs), "docs": Docs(pkgs), "sizes": Sizes(pkgs), "places": Places(texts),
	} {
		t.Run(name, func(t *testing.T) {
			for _, f := range found {
				t.Error(f)
			}
		})
	}
}

// Every package that a table names exists, so that a rename does not void a rule.
func TestTablesAreCurrent(t *testing.T) {
	pkgs, _, err := ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{}
	for _, p := range pkgs {
		files[p.Path] = true
		for _, f := range p.Files {
			files[f.Name] = true
		}
	}
	for p, edges := range pure {
		if !files[p] {
			t.Errorf("pure: there is no package %s", p)
		}
		for _, e := range edges {
			if !files[p+"/"+e] {
				t.Errorf("pure: there is no file %s/%s", p, e)
			}
		}
	}
	for f := range longFiles {
		if !files[f] {
			t.Errorf("longFiles: there is no file %s", f)
		}
	}
}

func read(t *testing.T, files map[string]string) ([]Package, []Text) {
	t.Helper()
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	pkgs, texts, err := Read(tree)
	if err != nil {
		t.Fatal(err)
	}
	return pkgs, texts
}

// one is a package of one file that imports something.
func one(t *testing.T, file, imp string) []Package {
	t.Helper()
	pkgs, _ := read(t, map[string]string{file: "// Package p.\npackage p\nimport _ \"" + imp + "\"\n"})
	return pkgs
}

func TestImports(t *testing.T) {
	const m = Module + "/"
	for _, c := range []struct {
		file, imp string
		ok        bool
	}{
		{"membership/a.go", "slices", true},
		{"membership/a.go", "golang.org/x/sys/unix", false},
		{"membership/a.go", m + "membership/quorum", false},
		{"membership/liveness/a.go", m + "membership/quorum", true},
		{"membership/cluster/a.go", m + "membership/secret", false},
		{"membership/cluster/a.go", "pgregory.net/rapid", false},
		{"membership/cluster/a_test.go", "pgregory.net/rapid", true},
		{"membership/group/raft/a.go", "go.etcd.io/raft/v3", true},
		{"membership/group/raft/a.go", m + "membership", true},
		{"membership/group/raft/a.go", m + "membership/group/static", false},
		{"membership/group/raft/a.go", m + "membership/comm/tcp", false},
		{"membership/group/raft/a.go", m + "membership/cluster", false},
		{"membership/group/raft/a.go", m + "membership/group/raft/wire", true},
		{"membership/group/grouptest/a.go", m + "membership/group/raft", false},
		{"membership/comm/tcp/a.go", m + "membership/secret", true},
		{"membership/probe/udp/a.go", m + "membership/probe", true},
		{"membership/probe/udp/a.go", m + "kbridge/dlm", false},
		{"kbridge/dlm/a.go", m + "membership", true},
		{"kbridge/dlm/a.go", m + "configfs", true},
		{"kbridge/dlm/a.go", m + "kbridge/lockspace", true},
		{"kbridge/dlm/a.go", m + "membership/cluster", false},
		{"kbridge/dlm/a.go", m + "membership/group/raft", false},
		{"kbridge/dlm/a.go", m + "cmd/quorated/control", false},
		{"configfs/a.go", m + "membership", false},
		{"configfs/configfstest/a.go", m + "configfs", true},
		{"cmd/quorated/daemon/a.go", m + "membership/group/raft", true},
		{"cmd/quorated/daemon/a.go", m + "tools/lab", false},
		{"tools/sim/a.go", m + "cmd/quorated/node", true},
		{"tools/sim/a.go", m + "membership/group/raft", true},
		{"tools/lab/a.go", "github.com/cilium/ebpf", false},
		{"tools/lab/a_test.go", "github.com/cilium/ebpf/link", false},
		{"ebpf/liveness/a.go", "github.com/cilium/ebpf", true},
		{"ebpf/liveness/a.go", m + "membership/probe", true},
		{"ebpf/liveness/a.go", m + "membership/probe/udp", false},
		{"ebpf/liveness/a_test.go", m + "membership/probe/udp", true},
		{"cmd/quorated/daemon/a.go", m + "ebpf/liveness", true},
		{"kbridge/dlm/a.go", m + "ebpf/liveness", false},
		{"configfs/a.go", m + "ebpf/liveness", false},
	} {
		if found := Imports(one(t, c.file, c.imp)); (len(found) == 0) != c.ok {
			t.Errorf("%s imports %s: allowed should be %v: %v", c.file, c.imp, c.ok, found)
		}
	}
}

func TestPurity(t *testing.T) {
	for _, c := range []struct {
		file, imp string
		ok        bool
	}{
		{"kbridge/lockspace/a.go", "net/netip", true},
		{"kbridge/lockspace/a.go", "net", false},
		{"kbridge/lockspace/a.go", "math/rand/v2", false},
		{"kbridge/lockspace/a.go", "log/slog", false},
		{"kbridge/lockspace/a.go", "os/exec", false},
		{"kbridge/lockspace/a.go", "golang.org/x/sys/unix", false},
		{"kbridge/lockspace/a_test.go", "os", true},
		{"kbridge/dlm/a.go", "os", true},
		{"membership/group/raft/machine.go", "os", false},
		{"membership/group/raft/store.go", "os", true},
		{"cmd/quorated/node/a.go", Module + "/cmd/quorated/control", true},
		{"cmd/quorated/node/a.go", Module + "/cmd/quorated/config", false},
		{"cmd/quorated/node/a.go", Module + "/membership/liveness", true},
	} {
		if found := Purity(one(t, c.file, c.imp)); (len(found) == 0) != c.ok {
			t.Errorf("%s imports %s: allowed should be %v: %v", c.file, c.imp, c.ok, found)
		}
	}
}

func TestClock(t *testing.T) {
	const head = "package lockspace\nimport \"time\"\nconst limit = 3 * time.Second\n"
	for body, ok := range map[string]bool{
		"var d time.Duration":                            true,
		"func f() { time.Now() }":                        false,
		"func f() { g(time.Since) }":                     false,
		"func f() { <-time.After(1) }":                   false,
		"func f() { go f() }":                            false,
		"func f() { time := x{}; time.Add() }":           true,
		"func f(t time.Time) bool { return t.After(t) }": true,
		"func f() { _ = time.NewTimer(1) }":              false,
		"func f() { _, _ = time.ParseDuration(\"1s\") }": true,
	} {
		pkgs, _ := read(t, map[string]string{"kbridge/lockspace/a.go": head + body + "\n"})
		if found := Purity(pkgs); (len(found) == 0) != ok {
			t.Errorf("%s: allowed should be %v: %v", body, ok, found)
		}
	}
	pkgs, _ := read(t, map[string]string{"kbridge/lockspace/a.go": "package p\nimport clock \"time\"\nvar x = clock.Now\n"})
	if found := Purity(pkgs); len(found) != 1 || !strings.Contains(found[0], "a.go:3: time.Now") {
		t.Errorf("%v", found)
	}
}

func TestDocs(t *testing.T) {
	pkgs, _ := read(t, map[string]string{
		"good/doc.go": "// Package good.\npackage good\n", "good/b.go": "package good\n",
		"bad/b.go":        "package bad\n",
		"bad/b_test.go":   "// Package bad.\npackage bad\n",
		"only/b_test.go":  "package only\n",
		".hidden/b.go":    "package hidden\n",
		"out/demo/odd.go": "package odd\n",
	})
	if found := Docs(pkgs); len(found) != 1 || !strings.HasPrefix(found[0], "bad:") {
		t.Errorf("%v", found)
	}
}

func TestSizes(t *testing.T) {
	long := strings.Repeat("\n", maxLines+1)
	pkgs, _ := read(t, map[string]string{
		"a/short.go":     "package a\n",
		"a/long.go":      "package a\n" + long,
		"a/long_test.go": "package a\n" + long,
		"a/made.go":      "// Code generated by x. DO NOT EDIT.\npackage a\n" + long,
	})
	if found := Sizes(pkgs); len(found) != 1 || !strings.HasPrefix(found[0], "a/long.go:") {
		t.Errorf("%v", found)
	}
}

func TestPlaces(t *testing.T) {
	for line, ok := range map[string]bool{
		"cd /wor" + "k/main":                        false,
		"see \"/wor" + "k/shared/x\"":               false,
		"workdir=/mnt/wor" + "k/x":                  true,
		"deb http://deb.debian" + ".org/debian x":   false,
		"GOPROXY=https://proxy.golang" + ".org":     false,
		"Debian's package golang-1.23-go":           true,
		"honnef.co/go/tools/cmd/staticcheck@v1":     true,
		"upper=/x,work=$dir/wor" + "k/y":            true,
		"https://www.debian" + ".org/doc is a page": true,
	} {
		_, texts := read(t, map[string]string{"README.md": "x\n" + line + "\n"})
		if found := Places(texts); (len(found) == 0) != ok {
			t.Errorf("%q: allowed should be %v: %v", line, ok, found)
		}
	}
	_, texts := read(t, map[string]string{"x.bin": "\x00/wor" + "k/main"})
	if found := Places(texts); found != nil {
		t.Errorf("a binary file: %v", found)
	}
}
