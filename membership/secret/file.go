package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// WriteFile makes a new secret file at path, mode 0600, and makes it durable. Its
// directory is made, mode 0755, where there is none. It never replaces a file: that
// would cut this node off from its cluster.
func WriteFile(path string) error {
	if err := write(path); err != nil {
		return &OpError{Op: "write", Path: path, Err: err}
	}
	return nil
}

func write(path string) error {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: to rotate, run \"quorate key rotate\"; to begin anew, move the file away first", ErrExists)
	}
	if err != nil {
		return cause(err)
	}
	if err := fill(f); err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return err
	}
	if err := f.Close(); err != nil {
		return cause(err)
	}
	return cause(SyncDir(filepath.Dir(path)))
}

// makeDir makes a directory, but not those that it is in.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("there is no directory %s, and it cannot be made: %w", dir, cause(err))
	}
	return cause(SyncDir(filepath.Dir(dir)))
}

func fill(f *os.File) error {
	if err := f.Chmod(0o600); err != nil { // whatever the umask
		return cause(err)
	}
	if err := Generate(f); err != nil {
		return cause(err)
	}
	return cause(f.Sync())
}

// SyncDir makes the names in a directory durable: of files that were made there,
// and of those that were renamed.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	_ = d.Close() // nothing was written through it
	return err
}

// cause strips the path that OpError names already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Load reads the secret file. It must be a regular file of at most MaxFile
// bytes that belongs to the user the daemon runs as (root) and that nobody else
// can read or write.
func Load(path string) (Secret, error) {
	s, err := load(path)
	if err != nil {
		return Secret{}, &OpError{Op: "load", Path: path, Err: err}
	}
	return s, nil
}

func load(path string) (Secret, error) {
	text, err := readText(path)
	if err != nil {
		return Secret{}, err
	}
	return Parse(text)
}

func readText(path string) ([]byte, error) {
	// O_NONBLOCK: opening a fifo by mistake must not hang the daemon.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		keygen := "quorate keygen"
		if path != Path {
			keygen += " -f " + path
		}
		return nil, fmt.Errorf("%w: run %q on one node and copy the file to all others", ErrMissing, keygen)
	}
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	if err := check(f, path); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, cause(err)
	}
	return text, nil
}

func check(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return cause(err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it is not a regular file", ErrFormat)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%w: its mode is %04o; run \"chmod 0600 %s\", and make a new secret if others may have read it", ErrMode, mode, path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: it belongs to uid %d, expected %d; run \"chown %d %s\"", ErrMode, st.Uid, os.Geteuid(), os.Geteuid(), path)
	}
	return nil
}
