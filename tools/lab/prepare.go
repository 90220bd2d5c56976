package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Image is a root file system and the kernels to run on it.
type Image struct {
	Dir     string // everything of the root file system; removing it builds anew
	Root    string // folder that nodes mount read-only
	Disk    string // the same as an ext4 image, for emulated nodes
	Kernels map[string]*Kernel
}

type program struct{ program, pkg string }

// hostPrograms are the programs the lab needs on the host, and their packages.
var hostPrograms = []program{{"ip", "iproute2"}, {"nft", "nftables"}, {"mkfs.ext4", "e2fsprogs"}}

// rootPrograms are needed as well while the root file system is built.
var rootPrograms = []program{{"mmdebstrap", "mmdebstrap"}}

// fetchPrograms are needed while a kernel is fetched, and of emulated ones.
var (
	fetchPrograms     = []program{{"depmod", "kmod"}, {"dpkg", "dpkg"}}
	fetchQEMUPrograms = []program{{"xz", "xz-utils"}}
	qemuPrograms      = []program{{qemuProgram, "qemu-system-x86"}}
)

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

// Prepare makes the host ready for labs like cfg: it installs the packages the
// host lacks, after saying which, builds the root file system and fetches the
// kernels that the cache has not. Without Config.Kernels those are the kernels
// that labs have by default. The first run fetches about 200 MB and takes one to
// three minutes; an emulated kernel is 100 MB more, the root file system with
// systemd 70 MB.
func Prepare(ctx context.Context, cfg Config, out io.Writer) (*Image, error) {
	cfg.Nodes = len(cfg.Kernels)
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	return prepare(ctx, &cfg, out)
}

// prepare is Prepare with a configuration that is complete.
func prepare(ctx context.Context, cfg *Config, out io.Writer) (*Image, error) {
	cache := cfg.Cache
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
	r, err := hostRecipe(cfg.Systemd)
	if err != nil {
		return nil, err
	}
	w := want{cache: cache, root: r, kernels: distinct(cfg.kernels)}
	if img := w.there(); img != nil && len(lacking(w.programs())) == 0 {
		return img, nil // without the lock: nobody waits for what somebody else makes
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lockFile(filepath.Join(cache, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := install(ctx, lacking(w.programs()), out); err != nil {
		return nil, err
	}
	if err := w.make(ctx, out); err != nil {
		return nil, err
	}
	return w.there(), nil
}

// want is what a lab wants from the cache.
type want struct {
	cache   string
	root    recipe
	kernels []kernelSpec
}

// programs are what the host must have to make and use it.
func (w want) programs() []program {
	need := slices.Clone(hostPrograms)
	if !exists(w.root.image(w.cache).Root) {
		need = append(need, rootPrograms...)
	}
	if w.emulated() {
		need = append(need, qemuPrograms...)
	}
	for _, s := range w.kernels {
		if _, err := loadKernel(w.cache, s); err != nil {
			need = append(need, fetchPrograms...)
			if !s.uml() {
				need = append(need, fetchQEMUPrograms...)
			}
		}
	}
	return need
}

// emulated says whether a kernel runs in an emulator.
func (w want) emulated() bool {
	return slices.ContainsFunc(w.kernels, func(s kernelSpec) bool { return !s.uml() })
}

// there is what the cache has, nil when something is missing.
func (w want) there() *Image {
	img := w.root.image(w.cache)
	if !exists(img.Root) || w.emulated() && !exists(img.Disk) {
		return nil
	}
	img.Kernels = map[string]*Kernel{}
	for _, s := range w.kernels {
		k, err := loadKernel(w.cache, s)
		if err != nil {
			return nil
		}
		img.Kernels[s.name] = k
	}
	return img
}

// make makes what is not there.
func (w want) make(ctx context.Context, out io.Writer) error {
	img := w.root.image(w.cache)
	if !exists(img.Root) {
		if err := w.root.build(ctx, img.Dir, out); err != nil {
			return fmt.Errorf("build the nodes' root file system: %w", err)
		}
	}
	for _, s := range w.kernels {
		if _, err := loadKernel(w.cache, s); err == nil {
			continue
		}
		if err := s.fetch(ctx, w.cache, out); err != nil {
			return fmt.Errorf("fetch kernel %s: %w", s.name, err)
		}
	}
	if !w.emulated() || exists(img.Disk) {
		return nil
	}
	fmt.Fprintln(out, "lab: making a disk of the root file system, for emulated nodes")
	return diskOf(ctx, img.Root, img.Disk, out)
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
func lacking(need []program) (pkgs []string) {
	for _, n := range need {
		if !have(n.program) && !slices.Contains(pkgs, n.pkg) {
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
