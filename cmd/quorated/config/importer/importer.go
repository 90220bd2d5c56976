package importer

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// MaxSize is the largest file that is taken, in bytes.
const MaxSize = 1 << 20

// ErrInvalid is what every fault of a file is.
var ErrInvalid = errors.New("the file cannot be imported")

// File is one file of the incumbents. The name is used in comments and faults.
type File struct {
	Name string
	Data []byte
}

// Options are what the conversion needs from outside.
type Options struct {
	// Secret says whether the value of a fence agent's option must never be shown.
	// nil: all are secrets.
	Secret func(option string) bool
	// Resolve returns the addresses of a host name. nil: host names are refused.
	Resolve func(name string) ([]netip.Addr, error)
	// Suggest returns ` (did you mean "x"?)` for the known word that is nearest, or
	// nothing. nil: nothing is suggested.
	Suggest func(word string, known []string) string
}

// Fault is one fault of a file.
type Fault struct {
	File string
	Line int    // from 1
	Text string // what is wrong, and what to write instead
}

func (f Fault) Error() string { return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text) }

// Faults are all that was found, by file and line. It is an ErrInvalid.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, x := range f {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// Is makes every Faults an ErrInvalid.
func (f Faults) Is(target error) bool { return target == ErrInvalid }

// Result is a quorate.toml.
type Result struct {
	TOML []byte
	Todo []string // what is left to do, as the file says at its top
}

// Import converts a corosync.conf, a corosync.conf and a dlm.conf, or a
// cluster.conf. An error is Faults.
func Import(files []File, o Options) (Result, error) {
	if o.Secret == nil {
		o.Secret = func(string) bool { return true }
	}
	if o.Suggest == nil {
		o.Suggest = func(string, []string) string { return "" }
	}
	p := &plan{opt: o}
	p.read(files)
	p.resolve()
	p.check()
	p.votes()
	p.cover()
	if len(p.faults) > 0 {
		return Result{}, p.sorted(files)
	}
	text := p.render(files)
	return Result{TOML: text, Todo: p.todo}, nil
}

// read gives each file to its reader, by what is in it.
func (p *plan) read(files []File) {
	if len(files) == 0 || len(files) > 2 {
		p.fault(pos{"", 1}, "%d files were given: give corosync.conf, corosync.conf and dlm.conf, or cluster.conf", len(files))
		return
	}
	for _, f := range files {
		switch at := (pos{f.Name, 1}); {
		case len(f.Data) > MaxSize:
			p.fault(at, "larger than %d bytes: is this the right file?", MaxSize)
		case bytes.IndexByte(f.Data, 0) >= 0:
			p.fault(at, "not a text file: give corosync.conf, dlm.conf or cluster.conf")
		}
	}
	if len(p.faults) > 0 {
		return
	}
	first := files[0]
	if isXML(first.Data) {
		if len(files) == 2 {
			p.fault(pos{files[1].Name, 1}, "a second file beside %s, which has all that cman knows: give cluster.conf alone", first.Name)
			return
		}
		p.cman(first)
		return
	}
	if looksLikeDLM(first.Data) {
		p.fault(pos{first.Name, 1}, "this is a dlm.conf, which does not name the nodes: give corosync.conf first, then this file")
		return
	}
	p.corosync(first)
	p.broken = p.broken || len(p.faults) > 0
	if len(files) == 2 {
		p.dlm(files[1])
	}
}

func isXML(data []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), " \t\r\n"), []byte("<"))
}

// sorted gives the faults in the order of the files, then of the lines, each once.
func (p *plan) sorted(files []File) Faults {
	rank := func(name string) int { return slices.IndexFunc(files, func(f File) bool { return f.Name == name }) }
	slices.SortStableFunc(p.faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(rank(a.File), rank(b.File)), cmp.Compare(a.Line, b.Line))
	})
	return slices.Compact(p.faults)
}
