package lab

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// recipe is everything a root file system is made from. Its hash names the
// result, so a change of any part builds anew.
type recipe struct {
	suite    string
	arch     string
	packages []string
	without  []string // files left out
}

// nodePackages is what a node has: the kernel consumers' tools, the stack that
// quorate is compared with, fence agents, and what tests look with.
var nodePackages = []string{
	"gfs2-utils", "dlm-controld", "corosync", "lvm2-lockd", "lvm2", "ocfs2-tools", "mdadm",
	"fence-agents", "python3", "udev", "kmod", "procps", "iproute2", "iputils-ping",
	"util-linux", "mount", "e2fsprogs", "strace", "tcpdump",
}

// systemdPackages is what a node with systemd as its process 1 has: what a
// machine of the field has when quorate is put on it, the stack that must not run
// beside it among that, and little else, so that it boots soon.
var systemdPackages = []string{
	"systemd", "systemd-sysv", "dbus", "ifupdown", "gfs2-utils", "dlm-controld", "corosync",
	"udev", "kmod", "procps", "iproute2", "iputils-ping", "util-linux", "mount", "e2fsprogs",
}

// leftOut keeps the folder small: half of the installed size is of no use here.
var leftOut = []string{
	"/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/share/info/*",
	"/usr/share/zoneinfo/*", "/usr/lib/python3/dist-packages/botocore/data/*",
	"/usr/lib/udev/hwdb.d/*", "/usr/share/bash-completion/*",
}

// hostRecipe is the recipe of the nodes' root file system, for the host's release.
func hostRecipe(systemd bool) (recipe, error) {
	r := recipe{arch: runtime.GOARCH, packages: nodePackages, without: leftOut}
	if systemd {
		r.packages = systemdPackages
	}
	var err error
	r.suite, err = hostSuite()
	return r, err
}

// hostSuite is the code name of the host's release.
func hostSuite() (string, error) {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return "", err
	}
	defer f.Close()
	name := codename(f)
	if name == "" {
		return "", errors.New("/etc/os-release names no release: the lab needs a Debian host")
	}
	return name, nil
}

func codename(osRelease io.Reader) string {
	sc := bufio.NewScanner(osRelease)
	for sc.Scan() {
		if v, ok := strings.CutPrefix(sc.Text(), "VERSION_CODENAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

func (r recipe) key() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", []any{r.suite, r.arch, r.packages, r.without})
	return fmt.Sprintf("%x", h.Sum(nil))[:16]
}

// image is where the result is, there or not.
func (r recipe) image(cache string) *Image {
	dir := filepath.Join(cache, "root-"+r.key())
	return &Image{Dir: dir, Root: filepath.Join(dir, "root"), Disk: filepath.Join(dir, "root.ext4")}
}

// build makes the image in dir.
func (r recipe) build(ctx context.Context, dir string, out io.Writer) error {
	fmt.Fprintf(out, "lab: building the nodes' root file system once, in %s\n", dir)
	fmt.Fprintf(out, "lab: Debian %s; fetching: %s\n", r.suite, strings.Join(r.packages, " "))
	return whole(dir, func(tmp string) error {
		if err := aptLists(ctx, out, r.packages[0]); err != nil {
			return err
		}
		if err := r.debootstrap(ctx, filepath.Join(tmp, "root"), out); err != nil {
			return err
		}
		if err := r.finish(ctx, tmp); err != nil {
			return err
		}
		fmt.Fprintln(out, "lab: root file system ready")
		return nil
	})
}

// debootstrap makes the root from the host's own package sources.
func (r recipe) debootstrap(ctx context.Context, root string, out io.Writer) error {
	args := []string{"--variant=essential", "--include=" + strings.Join(r.packages, ",")}
	for _, w := range r.without {
		args = append(args, "--dpkgopt=path-exclude="+w)
	}
	if exists(debianKeys) {
		args = append(args, "--keyring="+debianKeys, "--keyring=/etc/apt/trusted.gpg.d")
	}
	args = append(args, r.suite, root)
	sources, err := hostSources(ctx, r.suite)
	if err != nil {
		return err
	}
	if sources != "" {
		args = append(args, "-")
	}
	c := exec.CommandContext(ctx, "mmdebstrap", args...)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) } // it cleans up after itself
	c.WaitDelay = 20 * time.Second
	c.Stdin = strings.NewReader(sources)
	pr, pw := io.Pipe()
	c.Stdout, c.Stderr = pw, pw
	seen := make(chan []string)
	go func() { seen <- progress(pr, out) }()
	err = c.Run()
	pw.Close()
	if tail := <-seen; err != nil {
		return fmt.Errorf("mmdebstrap: %w\n%s", err, strings.Join(tail, "\n"))
	}
	return nil
}

// progress shows the milestones of mmdebstrap and keeps its last lines.
func progress(r io.Reader, out io.Writer) (tail []string) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if s, ok := strings.CutPrefix(sc.Text(), "I: "); ok {
			fmt.Fprintln(out, "lab:  ", s)
		}
		if tail = append(tail, sc.Text()); len(tail) > 20 {
			tail = tail[1:]
		}
	}
	return tail
}

// hostSources are one-line apt sources for a suite, as the host has them.
func hostSources(ctx context.Context, suite string) (string, error) {
	targets, err := hostTargets(ctx)
	return sourcesOf(targets, suite), err
}

// hostTargets are the host's package sources of Debian, one a line.
func hostTargets(ctx context.Context) (string, error) {
	b, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format",
		"$(CODENAME) deb $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages", "Origin: Debian").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	return string(b), nil
}

// sourcesOf picks a suite, its updates and its security fixes.
func sourcesOf(targets, suite string) string {
	var b strings.Builder
	for line := range strings.Lines(targets) {
		name, src, _ := strings.Cut(line, " ")
		if name == suite || name == suite+"-updates" || name == suite+"-security" {
			b.WriteString(src)
		}
	}
	return b.String()
}

func (r recipe) finish(ctx context.Context, tmp string) error {
	root := filepath.Join(tmp, "root")
	pkgs, err := exec.CommandContext(ctx, "dpkg-query", "--admindir="+filepath.Join(root, "var/lib/dpkg"), "-W").Output()
	if err != nil {
		return fmt.Errorf("dpkg-query: %w", err)
	}
	return errors.Join(
		os.MkdirAll(filepath.Join(root, "usr/lib/modules"), 0o755), // where a kernel's are mounted
		os.RemoveAll(filepath.Join(root, "var/cache/apt")),
		os.RemoveAll(filepath.Join(root, "var/lib/apt/lists")),
		os.WriteFile(filepath.Join(tmp, "packages"), pkgs, 0o644))
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
