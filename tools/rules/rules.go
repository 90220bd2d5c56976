package rules

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// contracts is the vocabulary and what every provider shares with its peers: the
// cluster's secret and the wire format of the probes.
var contracts = []string{"./membership", "./membership/secret", "./membership/probe"}

// providerFolders hold one provider a folder.
var providerFolders = []string{"membership/group/", "membership/comm/", "membership/fence/", "membership/probe/"}

// pure packages decide everything; I/O files within them are listed.
var pure = map[string][]string{
	"membership":              nil,
	"membership/cluster":      nil,
	"membership/quorum":       nil,
	"membership/liveness":     nil,
	"membership/rotation":     nil,
	"membership/links":        nil,
	"membership/group/static": nil,
	"membership/group/raft":   {"store.go", "home.go", "segment.go", "errors.go"}, // Store is the edge, Machine the core
	"kbridge/lockspace":       nil,
	"cmd/quorated/node":       nil,

	"cmd/quorated/config/importer":       nil,
	"cmd/quorated/config/internal/quote": nil,
	"cmd/quorated/witness/voter":         nil,
}

// pureMayImport are imports of pure packages that are not pure themselves.
var pureMayImport = map[string]string{
	"cmd/quorated/node ./cmd/quorated/control": "for the types of status, which the control socket defines",
}

// longFiles may have more than maxLines, for the reason given.
var longFiles = map[string]string{}

const maxLines = 600

// provider returns the provider a package belongs to: "group/raft", or "".
func provider(pkg string) string {
	for _, f := range providerFolders {
		rest, ok := strings.CutPrefix(pkg, f)
		if !ok || rest == "" {
			continue
		}
		name, _, _ := strings.Cut(rest, "/")
		if strings.HasSuffix(name, "test") { // a conformance suite or a fake, not a provider
			return ""
		}
		return strings.TrimPrefix(f, "membership/") + name
	}
	return ""
}

func under(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// own returns the path of an import of this module.
func own(imp string) (string, bool) {
	if imp == "." {
		return ".", true
	}
	return strings.CutPrefix(imp, "./")
}

// standard says whether an import is of the standard library.
func standard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return first != "." && !strings.Contains(first, ".")
}

// Imports checks who imports whom.
func Imports(pkgs []Package) (found []string) {
	for _, p := range pkgs {
		for _, f := range p.Files {
			for _, i := range f.Imports {
				if under(i, "github.com/cilium/ebpf") && !under(p.Path, "ebpf") {
					found = append(found, f.Name+" imports "+i+": cilium/ebpf belongs under ebpf/, so that everything else builds and is tested without it")
				}
				if f.Test {
					continue
				}
				if why := refuse(p.Path, i); why != "" {
					found = append(found, f.Name+" imports "+i+": "+why)
				}
			}
		}
	}
	return found
}

// refuse says why a package may not import something; empty: it may.
func refuse(pkg, imp string) string {
	to, ours := own(imp)
	switch {
	case !ours:
		if (pkg == "membership" || pkg == "membership/cluster" || pkg == "membership/quorum" || pkg == "membership/liveness" || pkg == "membership/rotation" || pkg == "membership/links") && !standard(imp) {
			return "the vocabulary and the pure cores need the standard library alone, so that anybody can implement a contract"
		}
		return ""
	case under(to, "tools") && !under(pkg, "tools"):
		return "tools use the product, never the other way round"
	case under(to, "cmd") && !under(pkg, "cmd") && !under(pkg, "tools"):
		return "cmd wires everything and nothing depends on it"
	case provider(to) != "" && provider(to) != provider(pkg) && !wires(pkg):
		if under(pkg, "kbridge") {
			return "the DLM side must not know which membership runs"
		}
		return "providers and cores do not know each other; only cmd/ wires"
	case under(pkg, "membership"):
		return refuseMembership(pkg, imp, to)
	case under(pkg, "kbridge") && to != "membership" && !under(to, "kbridge") && !under(to, "configfs"):
		return "kbridge knows the vocabulary and configfs; the DLM side must not know which membership runs"
	case under(pkg, "ebpf") && to != "membership" && to != "membership/probe" && !under(to, "ebpf"):
		return "the kernel's programs share the vocabulary and the wire format with the rest, and nothing else"
	case under(to, "ebpf") && !under(pkg, "ebpf") && !wires(pkg):
		return "only cmd/ wires the kernel's programs to the rest"
	case under(pkg, "configfs") && !under(to, "configfs"):
		return "configfs is a view of a tree and knows nothing of clusters"
	}
	return ""
}

func refuseMembership(pkg, imp, to string) string {
	if !under(to, "membership") {
		return "membership knows neither kernels nor daemons"
	}
	switch pkg {
	case "membership":
		return "the vocabulary depends on nothing"
	case "membership/cluster", "membership/quorum", "membership/liveness", "membership/rotation", "membership/links":
		if to == "membership" || to == "membership/quorum" || to == "membership/cluster" {
			return ""
		}
		return "a pure core knows the vocabulary and its sibling cores"
	}
	if provider(pkg) != "" && provider(pkg) != provider(to) && !slices.Contains(contracts, imp) {
		return "a provider knows the contracts, the secret and the wire format, and no other part"
	}
	return ""
}

// wires says whether a package may name concrete providers.
func wires(pkg string) bool { return under(pkg, "cmd") || under(pkg, "tools") }

// notPure are the imports that bring a clock, randomness or I/O.
var notPure = []string{"os", "net", "log", "math/rand", "crypto/rand", "syscall", "io/fs", "io/ioutil", "golang.org/x/sys", "embed", "runtime", "plugin", "unsafe", "sync"}

// Purity checks that the cores do nothing but decide.
func Purity(pkgs []Package) (found []string) {
	for _, p := range pkgs {
		edges, isPure := pure[p.Path]
		if !isPure {
			continue
		}
		for _, f := range p.Files {
			if f.Test || slices.Contains(edges, path.Base(f.Name)) {
				continue
			}
			for _, i := range f.Imports {
				if why := refusePure(p.Path, i); why != "" {
					found = append(found, f.Name+" imports "+i+": "+why)
				}
			}
			for _, x := range f.Impure {
				found = append(found, f.Name+":"+x+": the same input must give the same output; time comes in as a value and work goes out as an effect")
			}
		}
	}
	return found
}

func refusePure(pkg, imp string) string {
	if to, ours := own(imp); ours {
		if _, ok := pure[to]; !ok && pureMayImport[pkg+" "+imp] == "" {
			return "a pure package imports pure packages"
		}
		return ""
	}
	for _, n := range notPure {
		if under(imp, n) && imp != "net/netip" {
			return "a pure package does no I/O, reads no clock and draws no random number: every bug must be a replayable seed"
		}
	}
	return ""
}

// Docs checks that every package has one comment that says what it is.
func Docs(pkgs []Package) (found []string) {
	for _, p := range pkgs {
		code, doc := false, false
		for _, f := range p.Files {
			code = code || !f.Test
			doc = doc || f.Doc && !f.Test
		}
		if code && !doc {
			found = append(found, p.Path+": no package comment: write doc.go, what it is, what it promises, the order of things")
		}
	}
	return found
}

// Sizes checks that files can be read in one go.
func Sizes(pkgs []Package) (found []string) {
	for _, p := range pkgs {
		for _, f := range p.Files {
			if !f.Test && !f.Generated && f.Lines > maxLines && longFiles[f.Name] == "" {
				found = append(found, fmt.Sprintf("%s: %d lines, more than %d: split it by concern", f.Name, f.Lines, maxLines))
			}
		}
	}
	return found
}

// places are what belongs to one machine. They are put together here, so that
// this file does not find itself.
var places = []*regexp.Regexp{
	regexp.MustCompile(`(^|[^A-Za-z0-9_.$})-])/wor` + `k/`),
	regexp.MustCompile(`\b(deb|security|ftp|snapshot)\.debian` + `\.org\b`),
	regexp.MustCompile(`\b(proxy|sum)\.golang` + `\.org\b`),
	regexp.MustCompile(`\b(registry\.npmjs|pypi)` + `\.org\b`),
}

// Places checks that no file names a path or a package host of one machine.
func Places(texts []Text) (found []string) {
	for _, t := range texts {
		if bytes.IndexByte(t.Data, 0) >= 0 {
			continue // not text
		}
		for n, line := range strings.Split(string(t.Data), "\n") {
			for _, p := range places {
				if p.MatchString(line) {
					found = append(found, fmt.Sprintf("%s:%d: %s: mirrors and paths come from the machine, not from the tree", t.Name, n+1, strings.TrimSpace(p.FindString(line))))
				}
			}
		}
	}
	return found
}
