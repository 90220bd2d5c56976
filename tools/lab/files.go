package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
)

// sparse makes a file of a size that takes no room yet.
func sparse(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// guestPrograms run inside nodes: package -> where nodes have it.
var guestPrograms = map[string]string{
	"labnode":   "/usr/local/bin/labnode",
	"fence_lab": "/usr/sbin/fence_lab",
}

// buildGuestPrograms builds labnode and the fence agent into dir, or takes them
// from the folder QUORATE_LAB_PROGRAMS.
func buildGuestPrograms(ctx context.Context, dir string) error {
	if from := os.Getenv("QUORATE_LAB_PROGRAMS"); from != "" {
		var errs []error
		for name := range guestPrograms {
			errs = append(errs, copyFile(filepath.Join(from, name), filepath.Join(dir, name)))
		}
		return errors.Join(errs...)
	}
	args := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", dir + "/"}
	for name := range guestPrograms {
		args = append(args, "github.com/quorate/quorate/tools/lab/"+name)
	}
	c := exec.CommandContext(ctx, "go", args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if _, here, _, ok := runtime.Caller(0); ok && exists(here) {
		c.Dir = filepath.Dir(here)
	}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build the nodes' programs (run inside the checkout, or set QUORATE_LAB_PROGRAMS to a folder with them): %w: %s", err, out)
	}
	return nil
}

// sharedFile is an entry of the manifest that labnode reads at boot.
type sharedFile struct {
	Guest, Name string
	Mode        os.FileMode
}

// shareFiles copies Config.Files to where nodes can read them.
func (l *Lab) shareFiles() error {
	var fs []sharedFile
	for name, guest := range guestPrograms {
		fs = append(fs, sharedFile{guest, name, 0o755})
	}
	for guest, host := range l.cfg.Files {
		st, err := os.Stat(host)
		if err != nil {
			return fmt.Errorf("file for the nodes: %w", err)
		}
		name := fmt.Sprintf("file%d", len(fs))
		if err := copyFile(host, filepath.Join(l.shareDir(), name)); err != nil {
			return err
		}
		fs = append(fs, sharedFile{guest, name, st.Mode().Perm()})
	}
	slices.SortFunc(fs, func(a, b sharedFile) int { return len(a.Guest) - len(b.Guest) })
	b, err := json.MarshalIndent(fs, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.shareDir(), "files.json"), b, 0o644)
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// lineLog writes whole lines from several goroutines.
type lineLog struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineLog) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, "lab: "+format+"\n", args...)
}
