package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Image is a root file system and the kernel to run on it.
type Image struct {
	Dir     string // everything below; removing it builds anew
	Root    string // folder that nodes mount read-only
	Program string // the kernel
	Kernel  string // its release
}

// hostPrograms are the programs the lab needs on the host, and their packages.
var hostPrograms = []struct{ program, pkg string }{
	{"ip", "iproute2"}, {"nft", "nftables"}, {"mkfs.ext4", "e2fsprogs"},
}

// buildPrograms are needed as well while the root file system is built.
var buildPrograms = []struct{ program, pkg string }{
	{"mmdebstrap", "mmdebstrap"}, {"depmod", "kmod"}, {"dpkg", "dpkg"},
}

// CacheDir is where built root file systems are kept.
func CacheDir() (string, error) {
	if d := os.Getenv("QUORATE_LAB_CACHE"); d != "" {
		return filepath.Abs(d)
	}
	if d := os.Getenv("XDG_CACHE_HOME"); d != "" {
		return filepath.Join(d, "quorate-lab"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder: set QUORATE_LAB_CACHE: %w", err)
	}
	return filepath.Join(home, ".cache", "quorate-lab"), nil
}

// Prepare makes the host ready: it installs the packages the host lacks, after
// saying which, and builds the root file system unless cache ("": CacheDir) has
// it. The first run fetches about 200 MB and takes one to three minutes.
func Prepare(ctx context.Context, cache string, out io.Writer) (*Image, error) {
	if cache == "" {
		var err error
		if cache, err = CacheDir(); err != nil {
			return nil, err
		}
	}
	cache, err := filepath.Abs(cache)
	if err != nil {
		return nil, err
	}
	r, err := hostRecipe()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lockFile(filepath.Join(cache, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	dir := filepath.Join(cache, "root-"+r.key())
	img, missing := loadImage(dir)
	need := hostPrograms
	if missing != nil {
		need = append(append(need[:0:0], need...), buildPrograms...)
	}
	if err := install(ctx, lacking(need), out); err != nil {
		return nil, err
	}
	if missing == nil {
		return img, nil
	}
	if err := r.build(ctx, dir, out); err != nil {
		return nil, fmt.Errorf("build the nodes' root file system: %w", err)
	}
	return loadImage(dir)
}

// loadImage reads a finished image.
func loadImage(dir string) (*Image, error) {
	v, err := os.ReadFile(filepath.Join(dir, "kernel"))
	if err != nil {
		return nil, err
	}
	return &Image{dir, filepath.Join(dir, "root"), filepath.Join(dir, "linux.uml"), strings.TrimSpace(string(v))}, nil
}

// lockFile keeps two builds from running at once.
func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// lacking returns the packages of programs that the host has not.
func lacking(need []struct{ program, pkg string }) (pkgs []string) {
	for _, n := range need {
		if !have(n.program) {
			pkgs = append(pkgs, n.pkg)
		}
	}
	return pkgs
}

// have also looks where a user's PATH may not.
func have(program string) bool {
	if _, err := exec.LookPath(program); err == nil {
		return true
	}
	for _, d := range []string{"/usr/sbin", "/sbin"} {
		if _, err := exec.LookPath(filepath.Join(d, program)); err == nil {
			return true
		}
	}
	return false
}

func install(ctx context.Context, pkgs []string, out io.Writer) error {
	if len(pkgs) == 0 {
		return nil
	}
	fmt.Fprintf(out, "lab: installing on this machine: %s\n", strings.Join(pkgs, " "))
	if err := aptLists(ctx, out, pkgs[0]); err != nil {
		return err
	}
	args := append([]string{"install", "-y", "-qq", "--no-install-recommends"}, pkgs...)
	return tool(ctx, out, "", "", "apt-get", args...)
}

// aptLists refreshes the host's package lists when they do not know a package.
func aptLists(ctx context.Context, out io.Writer, pkg string) error {
	if exec.CommandContext(ctx, "apt-cache", "show", pkg).Run() == nil {
		return nil
	}
	fmt.Fprintln(out, "lab: refreshing the package lists (apt-get update)")
	return tool(ctx, out, "", "", "apt-get", "update", "-qq")
}

// tool runs a program of the build in dir; its output is shown when it fails.
func tool(ctx context.Context, out io.Writer, dir, stdin, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	c.Stdin = strings.NewReader(stdin)
	c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	b, err := c.CombinedOutput()
	if err != nil {
		fmt.Fprintf(out, "%s\n", b)
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
