package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/format"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
)

// envFull is 1 for what is too long for every day. A test that is skipped without
// it says "QUORATE_FULL is not 1".
const envFull = "QUORATE_FULL"

// staticcheck is pinned, so that a new release never breaks an old commit.
const staticcheck = "honnef.co/go/tools/cmd/staticcheck@v0.8.2"

// run is what the phases share.
type run struct {
	ctx      context.Context
	out      io.Writer
	dir      string // of the checkout
	full     bool
	ci       bool
	seeds    int
	fuzztime time.Duration // 0: see fuzzFor
}

// phase is one step of the verification.
type phase struct {
	name   string
	what   string
	run    func(*run) Tally
	beside bool // begins in its turn, beside what follows
	alone  bool // waits for those beside: it measures, or needs the machine
	long   bool // only with -full
}

var phases = []phase{
	{name: "format", what: "gofmt", run: (*run).format},
	{name: "vet", what: "go vet", run: func(r *run) Tally { return r.check("vet", nil, "go", "vet", "./...") }},
	{name: "lint", what: "staticcheck", run: func(r *run) Tally { return r.check("lint", nil, "go", "run", staticcheck, "./...") }},
	{name: "generate", what: "the kernel's programs, compiled anew", run: func(r *run) Tally {
		return r.check("generate", nil, "sh", "tools/bootstrap/generate.sh", "verify")
	}},
	{name: "patient", what: "real kernels on a busy host: five minutes without a fault, and stories that measure nothing", run: (*run).patient, beside: true},
	{name: "test", what: "unit and property tests, race detector on", run: (*run).unit},
	{name: "sim", what: "simulated clusters", run: (*run).sim},
	{name: "fuzz", what: "every fuzz target", run: (*run).fuzz},
	{name: "bootstrap", what: "a clone in a clean root without Go", run: (*run).bootstrap},
	{name: "kernel", what: "real kernels", run: (*run).kernel, alone: true},
	{name: "others", what: "other kernels", run: (*run).others, alone: true, long: true},
}

// command prepares a program of the checkout. CGO is off unless env turns it on. An
// interruption reaches whatever it started, too: unshare, which the clean root begins
// with, passes none on.
func (r *run) command(env []string, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(r.ctx, name, args...)
	c.Dir = r.dir
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "QUORATE_LAB=", envFull+"=")
	c.Env = append(c.Env, env...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGINT) }
	c.WaitDelay = 2 * time.Minute
	return c
}

// check runs a program as one check of that name.
func (r *run) check(name string, env []string, program string, args ...string) Tally {
	c := r.command(env, program, args...)
	c.Stdout, c.Stderr = r.out, r.out
	if err := c.Run(); err != nil {
		return r.failed(fmt.Sprintf("%s: %s %s: %v", name, program, strings.Join(args, " "), err))
	}
	return Tally{Passed: 1}
}

// failed is a failed check, or nothing once the run was interrupted: that is said
// once, and no check is blamed for it.
func (r *run) failed(what string) Tally {
	if r.interrupted() {
		return Tally{}
	}
	return Tally{Failed: []string{what}}
}

// interrupted is asked when something failed. Ctrl-C reaches what runs as soon as
// it reaches us, and its end may be seen a moment before.
func (r *run) interrupted() bool {
	select {
	case <-r.ctx.Done():
		return true
	case <-time.After(100 * time.Millisecond):
		return false
	}
}

// tests runs `go test -json` with the arguments and counts.
func (r *run) tests(verbose bool, env []string, args ...string) Tally {
	c := r.command(env, "go", append([]string{"test", "-json"}, args...)...)
	c.Stderr = r.out
	pipe, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return r.failed("go test: " + err.Error())
	}
	t, err := readTests(pipe, r.out, verbose, r.interrupted)
	if werr := c.Wait(); err == nil {
		err = werr
	}
	if err != nil && len(t.Failed) == 0 {
		t.add(r.failed("go test " + strings.Join(args, " ") + ": " + err.Error()))
	}
	return t
}

// format compares every Go file of the checkout with what gofmt makes of it.
func (r *run) format() Tally {
	var t Tally
	err := filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != r.dir {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if want, err := format.Source(src); err != nil {
			t.Failed = append(t.Failed, err.Error())
		} else if !bytes.Equal(src, want) {
			t.Failed = append(t.Failed, path+": run gofmt -w on it")
		}
		return nil
	})
	if err != nil {
		t.Failed = append(t.Failed, err.Error())
	}
	if len(t.Failed) == 0 {
		t.Passed = 1
	}
	return t
}

func (r *run) unit() Tally {
	return r.tests(false, []string{"CGO_ENABLED=1"}, "-race", "-timeout", "20m", "./...")
}

// sim has simulated clusters keep their promises, and then leave out one safety rule
// after the other: the simulator must notice each, or its silence means nothing.
func (r *run) sim() Tally {
	program := filepath.Join("bin", "sim")
	sum := r.check("sim", nil, "go", "build", "-buildvcs=false", "-o", program, "./tools/sim/cmd/sim")
	if len(sum.Failed) > 0 {
		return sum
	}
	workers := fmt.Sprintf("--workers=%d", runtime.NumCPU())
	sum = r.tests(false, nil, "./tools/sim", "./membership/group/raft") // the race detector had them tell less
	sum.add(r.check("sim", nil, program, fmt.Sprintf("--seeds=%d", r.seeds), workers))
	sum.add(r.check("sim -static", nil, program, "--static", fmt.Sprintf("--seeds=%d", r.seeds/4), workers))
	for _, b := range node.Rules {
		sum.add(r.finds("sim --bug="+b, program, "--bug="+b, fmt.Sprintf("--seeds=%d", r.seeds)))
	}
	return sum
}

// finds runs a program that has to find something: its status must be 1. What
// it prints is shown only when it is not.
func (r *run) finds(name, program string, args ...string) Tally {
	out, err := r.command(nil, program, args...).CombinedOutput()
	var status *exec.ExitError
	if errors.As(err, &status) && status.ExitCode() == 1 {
		fmt.Fprintf(r.out, "%s: found, as it must be\n", name)
		return Tally{Passed: 1}
	}
	t := r.failed(fmt.Sprintf("%s: not found (%v)", name, err))
	if len(t.Failed) > 0 {
		fmt.Fprintf(r.out, "%s", out)
	}
	return t
}

func (r *run) fuzz() Tally {
	list, err := r.command(nil, "go", "test", "-json", "-list", "^Fuzz", "./...").Output()
	targets, rerr := readTargets(bytes.NewReader(list))
	if err != nil || rerr != nil {
		return r.failed(fmt.Sprintf("fuzz: listing the targets: %v %v", err, rerr))
	}
	var sum Tally
	for _, x := range targets {
		sum.add(r.fuzzOne(x, r.fuzzFor(len(targets))))
	}
	return sum
}

// fuzzBudget is what all fuzz targets have together with -full.
const fuzzBudget = 6 * time.Minute

// fuzzFor is what each of so many targets has.
func (r *run) fuzzFor(targets int) time.Duration {
	switch {
	case r.fuzztime != 0:
		return r.fuzztime
	case r.full:
		return max(fuzzBudget/time.Duration(max(targets, 1)), 3*time.Second).Round(time.Second)
	}
	return 2 * time.Second
}

// fuzzOne runs one target, again when Go's own race ended it.
func (r *run) fuzzOne(x target, long time.Duration) Tally {
	for try := 1; ; try++ {
		var log bytes.Buffer
		quiet := *r
		quiet.out = &log
		t := quiet.check("fuzz "+x.name, nil, "go", "test", "-run", "^$", "-fuzz", "^"+x.name+"$",
			"-fuzztime", long.String(), x.pkg)
		switch {
		case t.empty(): // interrupted
		case len(t.Failed) == 0:
			fmt.Fprintf(r.out, "ok   %s %s\n", x.pkg, x.name)
		case try < 3 && raced(log.String()):
			fmt.Fprintf(r.out, "     %s %s: ended by Go's race at the end of -fuzztime, again\n", x.pkg, x.name)
			continue
		default:
			fmt.Fprint(r.out, log.String())
		}
		return t
	}
}

func (r *run) bootstrap() Tally {
	goal := "build"
	if r.full {
		goal = "demo PROFILE=safe" // nothing is measured, and other phases may run beside it
	}
	return r.check("bootstrap", nil, "sh", "tools/bootstrap/cleanroom.sh", goal)
}

// patient are the stories in which nothing is measured, with a dead_after of a second
// or more: nobody may be evicted in them however busy the host is. TestPaths is not among
// them: its kernel is slow as it is.
const patient = "^(TestFiveMinutesOfPeace|TestKeys|TestConfig|TestStorms|TestFencing|TestState|TestFrozen|TestWitness)$"

func (r *run) patient() Tally {
	env := []string{"QUORATE_LAB=1"}
	if r.full {
		env = append(env, envFull+"=1")
	}
	t := r.tests(true, env, "-count", "1", "-timeout", "30m", "-run", patient, "./tools/accept")
	if r.ci {
		t.noSkips()
	}
	return t
}

// emulated are the stories of nodes with all of a distribution's kernel, which others runs.
const emulated = "^TestEmulated$"

// kernel runs what boots real kernels: -p 1, so that no two labs share the cores.
func (r *run) kernel() Tally {
	env := []string{"QUORATE_LAB=1"}
	pkgs := []string{"./tools/lab/...", "./tools/accept/..."}
	if r.full {
		env = append(env, envFull+"=1")
		pkgs = append(pkgs, "./tools/bench/recovery")
	}
	t := r.tests(true, env, append([]string{"-p", "1", "-count", "1", "-timeout", "60m", "-skip", patient + "|" + emulated}, pkgs...)...)
	t.add(r.on(oldest))
	if r.ci {
		t.noSkips()
	}
	return t
}

// oldest is the oldest kernel that is supported: what the packages that write to
// kernels rely on is looked at there each time, and not only on the lab's default one.
var oldest = onKernel{"uml-6.1", "^TestKernelContracts$", "./tools/accept"}

// onKernel are tests of a package with nodes of that kernel.
type onKernel struct{ kernel, tests, pkg string }

func (r *run) on(k onKernel) Tally {
	env := []string{"QUORATE_LAB=1", "QUORATE_LAB_KERNEL=" + k.kernel, envFull + "=1"}
	return r.tests(true, env, "-p", "1", "-count", "1", "-timeout", "20m", "-run", k.tests, k.pkg)
}

// others tries other kernels than the default one, and ends with the demo's table.
func (r *run) others() (t Tally) {
	for _, k := range otherKernels {
		t.add(r.on(k))
	}
	if r.ci {
		t.noSkips()
	}
	program := filepath.Join("bin", "demo")
	built := r.check("demo-matrix", nil, "go", "build", "-buildvcs=false", "-o", program, "./tools/demo")
	if len(built.Failed) == 0 {
		built = r.check("demo-matrix", []string{"KERNEL="}, program, "matrix")
	}
	t.add(built)
	return t
}

// otherKernels are short runs on other kernels than the default one: what the
// lab promises, on emulated nodes and on different nodes side by side, what
// the packages that write to kernels rely on, on each, and stories that need
// virtio, a JIT and BPF's timers.
var otherKernels = []onKernel{
	{"qemu-6.12", "^TestRealNodes$", "./tools/lab"},
	{"uml-6.12", "^TestKernelContracts$", "./tools/accept"},
	{"qemu-6.1", "^TestKernelContracts$", "./tools/accept"},
	{"qemu-6.12", "^TestKernelContracts$", "./tools/accept"},
	{"qemu-7.3", "^TestKernelContracts$", "./tools/accept"},
	{"qemu-6.12", emulated, "./tools/accept"},
}
