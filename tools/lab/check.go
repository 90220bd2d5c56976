package lab

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A probe looks at one thing that the lab needs.
type probe struct {
	name string
	look func() (detail string, err error)
}

// Check says of each thing that a lab needs whether this machine has it, one
// line each, and what to do if not. It reports whether all is well. Packages
// that Prepare can install are no failure, nor are kernels that it can fetch.
func Check(out io.Writer, cfg Config) bool {
	if err := cfg.fill(); err != nil {
		fmt.Fprintf(out, "FAIL  %v\n", err)
		return false
	}
	all := true
	for _, p := range probes(&cfg) {
		detail, err := p.look()
		if err != nil {
			all = false
			fmt.Fprintf(out, "FAIL  %-20s %v\n", p.name, err)
			continue
		}
		fmt.Fprintf(out, "ok    %-20s %s\n", p.name, detail)
	}
	return all
}

func probes(cfg *Config) []probe {
	ps := []probe{{"root", checkRoot}, {"architecture", checkArch}, {"/dev/net/tun", checkTun}}
	if slices.ContainsFunc(cfg.kernels, kernelSpec.uml) {
		ps = append(ps, probe{"executable /dev/shm", checkShm}, probe{"ptrace", checkPtrace})
	}
	ps = append(ps, probe{"memory", func() (string, error) { return checkMemory(cfg) }}, probe{"cgroup v2", checkCgroup})
	w := want{kernels: distinct(cfg.kernels)}
	var err error
	if w.cache = cfg.Cache; w.cache == "" {
		w.cache, err = CacheDir()
	}
	if err == nil {
		w.root, err = hostRecipe(cfg.Systemd)
	}
	if err != nil {
		return append(ps, probe{"cache", func() (string, error) { return "", err }})
	}
	ps = append(ps, probe{"programs", w.checkPrograms}, probe{"root file system", w.checkRootImage})
	for _, s := range w.kernels {
		ps = append(ps, probe{"kernel " + s.name, func() (string, error) { return w.checkKernel(s) }})
	}
	return ps
}

func checkRoot() (string, error) {
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("run as root: network namespaces, taps and cgroups need it")
	}
	return "", nil
}

func checkArch() (string, error) {
	if runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("%s: nodes run on amd64 only", runtime.GOARCH)
	}
	return runtime.GOARCH, nil
}

func checkTun() (string, error) {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("%w: modprobe tun, or give the container the device", err)
	}
	return "", f.Close()
}

// checkShm maps a page of /dev/shm for execution, as a node does with its memory.
func checkShm() (string, error) {
	f, err := os.CreateTemp("/dev/shm", "lab-check-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Truncate(4096); err != nil {
		return "", err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_SHARED)
	if err != nil {
		return "", fmt.Errorf("%w: mount -o remount,exec /dev/shm", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d MiB free", st.Bavail*uint64(st.Bsize)>>20), unix.Munmap(m)
}

// checkPtrace reads who may trace whom; a node traces its own children, which
// every setting but 3 allows root.
func checkPtrace() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if os.IsNotExist(err) {
		return "no restriction", nil
	}
	if err != nil {
		return "", err
	}
	scope := strings.TrimSpace(string(b))
	if scope == "3" {
		return "", fmt.Errorf("kernel.yama.ptrace_scope is 3, which only a reboot undoes: set it to 1 in sysctl.d")
	}
	return "ptrace_scope " + scope, nil
}

func checkMemory(cfg *Config) (string, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	mib, need := memAvailable(f), memNeeded(cfg)
	if mib < need {
		return "", fmt.Errorf("%d MiB available; %d nodes want about %d: choose fewer, or less for each", mib, cfg.Nodes, need)
	}
	return fmt.Sprintf("%d MiB available, %d nodes want about %d", mib, cfg.Nodes, need), nil
}

// memNeeded is what the nodes take, and the host's own share.
func memNeeded(cfg *Config) int {
	need := 600
	for _, s := range cfg.kernels {
		_, costs := memOf(s, cfg.Mem)
		need += costs
	}
	return need
}

func memAvailable(meminfo io.Reader) (mib int) {
	sc := bufio.NewScanner(meminfo)
	for sc.Scan() {
		if f := strings.Fields(sc.Text()); len(f) > 1 && f[0] == "MemAvailable:" {
			kib, _ := strconv.Atoi(f[1])
			return kib >> 10
		}
	}
	return 0
}

// checkCgroup makes a cgroup and looks for what Kill needs in it.
func checkCgroup() (string, error) {
	root, err := cgroupRoot()
	if err != nil {
		return "", err
	}
	c, err := newCgroup(filepath.Join(root, "check-"+strconv.Itoa(os.Getpid())))
	if err != nil {
		return "", fmt.Errorf("%w: the hierarchy must be writable", err)
	}
	defer c.remove()
	for _, f := range []string{"cgroup.freeze", "cgroup.kill"} {
		if !exists(filepath.Join(c.dir, f)) {
			return "", fmt.Errorf("%s has no %s: the host's kernel must be 5.14 or newer", filepath.Dir(root), f)
		}
	}
	return filepath.Dir(root), nil
}

func (w want) checkPrograms() (string, error) {
	if pkgs := lacking(w.programs()); len(pkgs) > 0 {
		return "`lab prepare` will install: " + strings.Join(pkgs, " "), nil
	}
	return "all there", nil
}

func (w want) checkRootImage() (string, error) {
	img := w.root.image(w.cache)
	if !exists(img.Root) {
		return "`lab prepare` will build it in " + w.cache, nil
	}
	return img.Dir, nil
}

func (w want) checkKernel(s kernelSpec) (string, error) {
	k, err := loadKernel(w.cache, s)
	if err != nil {
		return "`lab prepare` will fetch " + s.pkg + " of Debian " + s.suite, nil
	}
	return "Linux " + k.Release + " in " + k.Dir, nil
}
