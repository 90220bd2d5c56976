package configfs

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"syscall"
)

// Kind is what an operation does.
type Kind int

// The kinds of operations.
const (
	Mkdir Kind = iota + 1
	Rmdir
	Write
)

func (k Kind) String() string {
	switch k {
	case Mkdir:
		return "mkdir"
	case Rmdir:
		return "rmdir"
	case Write:
		return "write"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Op is one operation on the tree.
type Op struct {
	Kind  Kind
	Path  string
	Value []byte // of a Write
}

// String is the form that golden files have: the value quoted, an address
// spelt out.
func (o Op) String() string {
	if o.Kind != Write {
		return o.Kind.String() + " " + o.Path
	}
	if path.Base(o.Path) == "addr" {
		if a, err := ParseSockaddr(o.Value); err == nil {
			return fmt.Sprintf("write %s sockaddr(%s)", o.Path, a)
		}
	}
	return fmt.Sprintf("write %s %q", o.Path, o.Value)
}

// Text is the plan as lines.
func Text(ops []Op) string {
	var b strings.Builder
	for _, o := range ops {
		b.WriteString(o.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// Apply executes the operations in order and stops at the first error. It may be
// repeated: what is there already or gone already is no error.
func Apply(fs FS, ops []Op) error {
	for _, o := range ops {
		if err := apply(fs, o); err != nil {
			return err
		}
	}
	return nil
}

func apply(fs FS, o Op) error {
	switch o.Kind {
	case Mkdir:
		if err := fs.Mkdir(o.Path); err != nil && !errors.Is(err, syscall.EEXIST) {
			return err
		}
		return nil
	case Rmdir:
		if err := fs.Rmdir(o.Path); err != nil && !errors.Is(err, syscall.ENOENT) {
			return err
		}
		return nil
	case Write:
		return write(fs, o)
	}
	return opError(o.Kind.String(), o.Path, errors.ErrUnsupported)
}

func write(fs FS, o Op) error {
	addr := path.Base(o.Path) == "addr"
	err := fs.Write(o.Path, o.Value)
	if err != nil && (!addr || !errors.Is(err, syscall.EEXIST)) {
		return err
	}
	if addr {
		return readBackAddr(fs, o)
	}
	got, err := fs.Read(o.Path)
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
		return nil // can only be written
	}
	if err != nil {
		return err
	}
	if !sameValue(string(o.Value), string(got)) {
		return opError("write", o.Path, fmt.Errorf("%w: wrote %q, reads %q", ErrReadBack, o.Value, got))
	}
	return nil
}

// readBackAddr looks for the address in addr_list: addr itself cannot be read.
func readBackAddr(fs FS, o Op) error {
	a, err := ParseSockaddr(o.Value)
	if err != nil {
		return opError("write", o.Path, err)
	}
	list := path.Dir(o.Path) + "/addr_list"
	b, err := fs.Read(list)
	if err != nil {
		return err
	}
	addrs, err := parseAddrList(string(b))
	if err != nil {
		return opError("read", list, err)
	}
	for _, have := range addrs {
		if have == bare(a) {
			return nil
		}
	}
	return opError("write", o.Path, fmt.Errorf("%w: %s is not in addr_list", ErrReadBack, a))
}

// sameValue compares as numbers where both are, else as text without the
// newline that the kernel prints.
func sameValue(want, got string) bool {
	got = strings.TrimSuffix(got, "\n")
	if want == got {
		return true
	}
	w, werr := strconv.ParseInt(strings.TrimSpace(want), 0, 64)
	g, gerr := strconv.ParseInt(strings.TrimSpace(got), 0, 64)
	return werr == nil && gerr == nil && w == g
}
