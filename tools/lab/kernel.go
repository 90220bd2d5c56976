package lab

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// EnvKernel names the kernels of labs whose Config names none, as Config.Kernels
// with commas in between.
const EnvKernel = "QUORATE_LAB_KERNEL"

// DefaultKernel is the kernel of nodes that nobody chose one for: the fastest, see
// seccompArg.
const DefaultKernel = "uml-7.2"

// kernelSpec is where a kernel comes from. Suites move on: the number in a name
// is what the suite had once, Kernel.Release what was fetched.
type kernelSpec struct {
	name  string
	suite string // of Debian
	pkg   string // and the package in it
	args  string // a word of its command line, or ""
}

// seccompArg has User-Mode Linux, from 6.16 on, catch its processes' system calls by
// seccomp and not by ptrace where the host can: on a host whose own system calls are
// slow that is three times as fast. Without it a node of such a host stands still for
// longer than dead_after in profile lan now and then.
const seccompArg = "seccomp=auto"

var kernelSpecs = []kernelSpec{
	{"uml-6.1", "bookworm", umlPackage, ""},
	{"uml-6.12", "trixie", umlPackage, ""},
	{"uml-7.2", "sid", umlPackage, seccompArg},
	{"qemu-6.1", "bookworm", "linux-image-amd64", ""},
	{"qemu-6.12", "trixie", "linux-image-amd64", ""},
	{"qemu-7.3", "trixie-backports", "linux-image-amd64", ""},
}

const umlPackage = "user-mode-linux"

func (s kernelSpec) uml() bool { return s.pkg == umlPackage }

// KernelNames lists the kernels that a node may have.
func KernelNames() (names []string) {
	for _, s := range kernelSpecs {
		names = append(names, s.name)
	}
	return names
}

// Emulated says whether a kernel of KernelNames runs in an emulator.
func Emulated(name string) bool {
	s, err := findKernel(name)
	return err == nil && !s.uml()
}

func findKernel(name string) (kernelSpec, error) {
	for _, s := range kernelSpecs {
		if s.name == name {
			return s, nil
		}
	}
	return kernelSpec{}, fmt.Errorf("no kernel %q: one of %s", name, strings.Join(KernelNames(), ", "))
}

// kernelsOf gives each node a kernel: the last one named is for all further nodes.
func kernelsOf(names []string, nodes int) ([]kernelSpec, error) {
	if len(names) == 0 {
		names = strings.Split(cmp.Or(os.Getenv(EnvKernel), DefaultKernel), ",")
		names = names[:min(len(names), nodes)]
	}
	if len(names) > nodes {
		return nil, fmt.Errorf("%d kernels for %d nodes", len(names), nodes)
	}
	specs := make([]kernelSpec, nodes)
	for i := range specs {
		var err error
		if specs[i], err = findKernel(names[min(i, len(names)-1)]); err != nil {
			return nil, err
		}
	}
	return specs, nil
}

// distinct drops repetitions.
func distinct(specs []kernelSpec) (out []kernelSpec) {
	for _, s := range specs {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Kernel is a kernel and its modules in the cache.
type Kernel struct {
	Name    string // one of KernelNames
	Release string // what uname -r says
	Dir     string // everything below; removing it fetches anew
	spec    kernelSpec
}

// program is what the host runs, or what it gives to an emulator.
func (k *Kernel) program() string {
	if k.spec.uml() {
		return filepath.Join(k.Dir, "linux.uml")
	}
	return filepath.Join(k.Dir, "vmlinuz")
}

func (k *Kernel) path(name string) string { return filepath.Join(k.Dir, name) }

// dir is where the cache has the kernel, or will.
func (s kernelSpec) dir(cache string) string {
	return filepath.Join(cache, "kernel-"+s.name+"-"+s.key())
}

// loadKernel reads a kernel that is in the cache.
func loadKernel(cache string, s kernelSpec) (*Kernel, error) {
	dir := s.dir(cache)
	v, err := os.ReadFile(filepath.Join(dir, "release"))
	if err != nil {
		return nil, err
	}
	return &Kernel{s.name, strings.TrimSpace(string(v)), dir, s}, nil
}
