// Command demo shows quorate at work on real kernels: it boots virtual nodes,
// forms a cluster, mounts GFS2 everywhere, kills a node, shows the recovery as
// it happens, brings the node back, and then lets a fence device fail.
//
// Its settings are environment variables, as in `make demo NODES=5`: NODES,
// VICTIM=leader|follower, AGENT=lab|redfish, PROFILE, KERNEL=uml-6.1 and others of
// `lab up --help`, several with commas, KEEP=1, OUT.
//
// `demo matrix` tells the story once on every kernel of the lab, or on each that
// KERNEL names, and ends with a table. PROFILE and KEEP are not asked: emulated
// nodes have profile safe, since their time dilates, all others lan with a
// dead_after of 500 ms, so that a busy machine fences nobody.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s, err := settings()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 64
	}
	switch {
	case len(os.Args) == 1:
		return one(ctx, s)
	case len(os.Args) == 2 && os.Args[1] == "matrix":
		return matrix(ctx, s, os.Stdout)
	}
	fmt.Fprintf(os.Stderr, "demo: %v: say nothing, or matrix\n", os.Args[1:])
	return 64
}

// one tells the story once.
func one(ctx context.Context, s set) int {
	d := &demo{set: s, out: os.Stdout, began: time.Now()}
	line, err := d.tell(ctx)
	if err != nil {
		d.say("")
		fmt.Printf("demo: FAILED %v\n", err)
		return 1
	}
	fmt.Println(line)
	return 0
}

// tell runs the demo.
func (d *demo) tell(ctx context.Context) (line string, err error) {
	if err := forget(d.set.out, "demo.json", "demo.svg"); err != nil {
		return "", err
	}
	return d.run(ctx)
}

// forget removes what an earlier run wrote: a run that fails leaves none of it to be
// taken for its own.
func forget(dir string, names ...string) error {
	for _, n := range names {
		if err := os.Remove(filepath.Join(dir, n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// set is what a user may choose.
type set struct {
	nodes   int
	victim  string
	agent   string
	profile string
	kernels []string
	// deadAfter is another dead_after than the profile's; 0: the profile's.
	deadAfter time.Duration
	keep      bool
	out       string
}

func settings() (set, error) {
	s := set{nodes: 3, victim: env("VICTIM", "follower"), agent: env("AGENT", "lab"), profile: env("PROFILE", "lan"),
		keep: env("KEEP", "") != "" && env("KEEP", "") != "0", out: env("OUT", "out")}
	if v := env("NODES", ""); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 3 || n > 16 {
			return s, fmt.Errorf("NODES=%s: say a number from 3 to 16", v)
		}
		s.nodes = n
	}
	if v := env("KERNEL", ""); v != "" {
		s.kernels = strings.Split(v, ",")
	}
	for _, c := range []struct {
		name, value string
		allowed     []string
	}{
		{"VICTIM", s.victim, []string{"leader", "follower"}}, {"AGENT", s.agent, []string{"lab", "redfish"}},
		{"PROFILE", s.profile, []string{"fast", "lan", "safe", "vm", "auto"}},
	} {
		ok := false
		for _, a := range c.allowed {
			ok = ok || a == c.value
		}
		if !ok {
			return s, fmt.Errorf("%s=%s: say one of %v", c.name, c.value, c.allowed)
		}
	}
	if s.agent == "redfish" && s.profile == "lan" {
		s.deadAfter = pythonPause
	}
	return s, nil
}

// pythonPause is the dead_after of profile lan where agents are programs in
// Python: to start one stops a node of User-Mode Linux, which has one processor and
// a kernel that does not preempt itself, for up to 400 ms.
const pythonPause = time.Second

func env(name, or string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return or
}
