package configfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// FS is a tree of kernel objects: configfs, or a part of sysfs. Paths are
// relative, separated by slashes; errors wrap the kernel's errno.
type FS interface {
	// Mkdir makes an object; its attribute files appear with it.
	Mkdir(path string) error
	// Rmdir removes an object together with its attribute files.
	Rmdir(path string) error
	// Write gives one attribute one value with exactly one write(2).
	Write(path string, value []byte) error
	// Read returns one attribute as the kernel prints it.
	Read(path string) ([]byte, error)
	// List returns the names in a directory in ascending order.
	List(path string) ([]string, error)
}

// OpError is the error of one operation on the tree.
type OpError struct {
	Op   string // mkdir, rmdir, write, read, list
	Path string
	Err  error
}

func (e *OpError) Error() string {
	return fmt.Sprintf("configfs: %s %s: %v", e.Op, e.Path, e.Err)
}

// Unwrap returns the cause, in most cases a syscall.Errno.
func (e *OpError) Unwrap() error { return e.Err }

// opError wraps err, dropping the wrapping of package os.
func opError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return &OpError{Op: op, Path: path, Err: err}
}

// maxAttr is the largest attribute that a kernel prints: one page.
const maxAttr = 64 << 10

// Root is an FS on a directory of this machine. Paths cannot leave it.
type Root struct{ root *os.Root }

// OpenRoot opens the directory, for example /sys/kernel/config.
func OpenRoot(dir string) (*Root, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, opError("open", dir, err)
	}
	return &Root{root: r}, nil
}

// Close gives the directory back.
func (r *Root) Close() error { return r.root.Close() }

// Mkdir implements FS.
func (r *Root) Mkdir(path string) error {
	return opError("mkdir", path, r.root.Mkdir(path, 0o755))
}

// Rmdir implements FS.
func (r *Root) Rmdir(path string) error {
	return opError("rmdir", path, r.root.Remove(path))
}

// Write implements FS. The descriptor is opened O_WRONLY alone, and there is
// one write(2): the kernel takes each as a whole value.
func (r *Root) Write(path string, value []byte) error {
	f, err := r.root.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return opError("write", path, err)
	}
	n, err := writeOnce(f, value)
	if err == nil && n != len(value) {
		err = io.ErrShortWrite
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return opError("write", path, err)
}

func writeOnce(f *os.File, value []byte) (n int, err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	if cerr := c.Control(func(fd uintptr) { n, err = unix.Write(int(fd), value) }); cerr != nil {
		return 0, cerr
	}
	return n, err
}

// Read implements FS.
func (r *Root) Read(path string) ([]byte, error) {
	f, err := r.root.Open(path)
	if err != nil {
		return nil, opError("read", path, err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxAttr))
	if err != nil {
		return nil, opError("read", path, err)
	}
	return b, nil
}

// List implements FS.
func (r *Root) List(path string) ([]string, error) {
	f, err := r.root.Open(path)
	if err != nil {
		return nil, opError("list", path, err)
	}
	defer func() { _ = f.Close() }()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, opError("list", path, err)
	}
	slices.Sort(names)
	return names, nil
}
