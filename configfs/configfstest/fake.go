package configfstest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/quorate/quorate/configfs"
)

// Kernel is what tells kernels apart.
type Kernel struct {
	NumericDirs    bool // Linux 6.17
	ReleaseRecover bool // Linux 6.18
}

// The kernels that tests run on.
var (
	Linux6_1  = Kernel{}
	Linux6_17 = Kernel{NumericDirs: true}
	Linux6_18 = Kernel{NumericDirs: true, ReleaseRecover: true}
)

// Fake is a configfs tree with the dlm subsystem registered.
type Fake struct {
	kernel Kernel

	// Before, when set, is called with every mkdir, rmdir, write, read and list before it is
	// done. It may block, as a kernel does, and its error is the operation's.
	// Set it before the first use.
	Before func(op, path string) error

	mu      sync.Mutex
	root    *inode
	seq     uint32
	globals map[string]string // values outlive the directory
	spaces  map[string]*space
	comms   map[uint32]*comm
	local   uint32
}

// inode is a directory: attributes, and directories below it.
type inode struct {
	attrs map[string]*attr
	kids  map[string]*inode
	fixed bool                              // a default group
	make  func(name string) (*inode, error) // nil: nobody can make anything here
	drop  func() error                      // on rmdir; an error keeps it
}

type attr struct {
	show  func() string      // nil: cannot be read
	store func(string) error // nil: cannot be written
}

// NewFake is the tree after modprobe dlm.
func NewFake(k Kernel) *Fake {
	f := &Fake{kernel: k, globals: defaults(), spaces: map[string]*space{}, comms: map[uint32]*comm{}}
	dlm := &inode{kids: map[string]*inode{}, fixed: true, make: f.makeCluster}
	f.root = &inode{kids: map[string]*inode{"dlm": dlm}}
	return f
}

func (f *Fake) before(op, path string) error {
	if f.Before == nil {
		return nil
	}
	return f.Before(op, path)
}

// find walks to a directory.
func (f *Fake) find(path string) (*inode, error) {
	at := f.root
	for p := range strings.SplitSeq(path, "/") {
		if p == "" || p == "." {
			continue
		}
		if at.attrs[p] != nil {
			return nil, syscall.ENOTDIR
		}
		if at = at.kids[p]; at == nil {
			return nil, syscall.ENOENT
		}
	}
	return at, nil
}

func split(path string) (dir, base string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// op runs one operation and wraps its error as a real tree does.
func (f *Fake) op(name, path string, do func() error) error {
	err := f.before(name, path)
	if err == nil {
		f.mu.Lock()
		err = do()
		f.mu.Unlock()
	}
	if err != nil {
		return &configfs.OpError{Op: name, Path: path, Err: err}
	}
	return nil
}

// Mkdir implements configfs.FS.
func (f *Fake) Mkdir(path string) error {
	return f.op("mkdir", path, func() error {
		dir, base := split(path)
		p, err := f.find(dir)
		switch {
		case err != nil:
			return err
		case p.kids[base] != nil || p.attrs[base] != nil:
			return syscall.EEXIST
		case p.make == nil:
			return syscall.EPERM
		}
		kid, err := p.make(base)
		if err != nil {
			return err
		}
		p.kids[base] = kid
		return nil
	})
}

// Rmdir implements configfs.FS.
func (f *Fake) Rmdir(path string) error {
	return f.op("rmdir", path, func() error {
		dir, base := split(path)
		p, err := f.find(dir)
		if err != nil {
			return err
		}
		d := p.kids[base]
		switch {
		case p.attrs[base] != nil:
			return syscall.ENOTDIR
		case d == nil:
			return syscall.ENOENT
		case d.fixed:
			return syscall.EPERM
		case d.populated():
			return syscall.ENOTEMPTY
		}
		if d.drop != nil {
			if err := d.drop(); err != nil {
				return err
			}
		}
		delete(p.kids, base)
		return nil
	})
}

// populated says whether user space made something below.
func (d *inode) populated() bool {
	for _, k := range d.kids {
		if !k.fixed || k.populated() {
			return true
		}
	}
	return false
}

func (f *Fake) attr(path string) (*attr, error) {
	dir, base := split(path)
	d, err := f.find(dir)
	if err != nil {
		return nil, err
	}
	if d.kids[base] != nil {
		return nil, syscall.EISDIR
	}
	a := d.attrs[base]
	if a == nil {
		return nil, syscall.ENOENT
	}
	return a, nil
}

// Write implements configfs.FS.
func (f *Fake) Write(path string, value []byte) error {
	return f.op("write", path, func() error {
		a, err := f.attr(path)
		if err != nil {
			return err
		}
		if a.store == nil {
			return syscall.EACCES
		}
		return a.store(string(value))
	})
}

// Read implements configfs.FS.
func (f *Fake) Read(path string) (b []byte, err error) {
	err = f.op("read", path, func() error {
		a, err := f.attr(path)
		if err != nil {
			return err
		}
		if a.show == nil {
			return syscall.EACCES
		}
		b = []byte(a.show())
		return nil
	})
	return b, err
}

// List implements configfs.FS.
func (f *Fake) List(path string) (names []string, err error) {
	err = f.op("list", path, func() error {
		d, err := f.find(path)
		if err != nil {
			return err
		}
		names = slices.AppendSeq(slices.Collect(maps.Keys(d.attrs)), maps.Keys(d.kids))
		slices.Sort(names)
		return nil
	})
	return names, err
}

// Dump is the whole tree as text: directories, and attributes with their values.
func (f *Fake) Dump() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	dump(&b, "", f.root)
	return b.String()
}

func dump(b *strings.Builder, path string, d *inode) {
	for _, n := range slices.Sorted(maps.Keys(d.attrs)) {
		v := "-"
		if s := d.attrs[n].show; s != nil {
			v = strings.TrimSuffix(s(), "\n")
		}
		fmt.Fprintf(b, "%s%s = %s\n", path, n, strings.ReplaceAll(v, "\n", "; "))
	}
	for _, n := range slices.Sorted(maps.Keys(d.kids)) {
		fmt.Fprintf(b, "%s%s/\n", path, n)
		dump(b, path+n+"/", d.kids[n])
	}
}
