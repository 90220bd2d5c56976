package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/tools/cluster"
)

// Faults of which nobody may be convicted: every kernel is alive.
const (
	faultHogs    = "hogs"    // two programs for each CPU that compute without end
	faultLoss    = "loss"    // one packet in twenty is lost, both ways
	faultGarbage = "garbage" // quorate's daemons are asked again and again, and collect garbage
	faultStop    = "stop"    // a daemon stands still (SIGSTOP)
	faultAll     = "all"     // all of them at once
)

var faultKinds = []string{faultHogs, faultLoss, faultGarbage, faultStop, faultAll}

// chooseFaults reads "hogs,stop". With less than all of them there is no faultAll but
// where it is asked for.
func chooseFaults(text string) (out []string, err error) {
	for w := range strings.SplitSeq(text, ",") {
		if w = strings.TrimSpace(w); !slices.Contains(faultKinds, w) {
			return nil, fmt.Errorf("%w: -faults %s: write some of %s, with commas between", errUsage, text, strings.Join(faultKinds, ", "))
		}
		out = append(out, w)
	}
	return out, nil
}

// soakFault is the fault of a round.
type soakFault struct {
	Kind   string
	Victim int           // of a stop
	Stop   time.Duration // 0: nobody stands still
	Length time.Duration // of the others
}

func (f soakFault) has(kind string) bool { return f.Kind == kind || f.Kind == faultAll }

func (f soakFault) String() string {
	if f.Stop == 0 {
		return fmt.Sprintf("%s for %v", f.Kind, f.Length)
	}
	return fmt.Sprintf("%s, the daemon of node %d stands still for %v", f.Kind, f.Victim, f.Stop)
}

// plan is the fault of the n-th round, from 0: each kind in turn, the rest by the seed
// and the round's number alone.
func (o soakOptions) plan(n int) soakFault {
	rng := rand.New(rand.NewPCG(o.seed, uint64(n)))
	f := soakFault{Kind: o.faults[n%len(o.faults)], Length: o.length}
	if f.has(faultStop) {
		f.Victim = rng.IntN(o.nodes) + 1
		f.Stop = (o.stop[0] + time.Duration(rng.Int64N(int64(o.stop[1]-o.stop[0])+1))).Round(time.Millisecond)
		f.Length = f.Stop + time.Second // it comes back under the same faults
	}
	return f
}

// over brings a fault over all systems, and takes it away again.
func (f soakFault) over(ctx context.Context, all []*soaked) (err error) {
	fctx, cancel := context.WithTimeout(ctx, f.Length)
	defer cancel()
	g, gctx := errgroup.WithContext(fctx)
	if f.has(faultLoss) {
		for _, s := range all {
			if err := s.fabric.Lose(5); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.fabric.Lose(0)) }()
		}
	}
	if f.has(faultHogs) {
		all, err := hogs(2 * runtime.NumCPU())
		if err != nil {
			return err
		}
		defer endHogs(all)
	}
	for _, s := range all {
		if q, ok := s.system.(*Quorate); ok && f.has(faultGarbage) {
			g.Go(func() error { return q.Pester(gctx) })
		}
		if f.has(faultStop) {
			g.Go(func() error { return standStill(gctx, s.system.Pids(f.Victim), f.Stop) })
		}
	}
	g.Go(func() error { <-gctx.Done(); return nil })
	if err := g.Wait(); err != nil && fctx.Err() == nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// standStill stops processes, and has them go on whatever happens.
func standStill(ctx context.Context, pids []int, d time.Duration) error {
	var errs []error
	for _, p := range pids {
		errs = append(errs, syscall.Kill(p, syscall.SIGSTOP))
	}
	errs = append(errs, cluster.Sleep(ctx, d))
	for _, p := range pids {
		errs = append(errs, syscall.Kill(p, syscall.SIGCONT))
	}
	return errors.Join(errs...)
}

// hogs starts so many programs that compute without end, with the priority of an
// ordinary program. With an error none is left.
func hogs(n int) (all []*exec.Cmd, err error) {
	defer func() {
		if err != nil {
			endHogs(all)
		}
	}()
	for range n {
		c := exec.Command("/bin/sh", "-c", "while :; do :; done")
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := c.Start(); err != nil {
			return all, err
		}
		all = append(all, c)
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
		if err := unix.SchedSetAttr(c.Process.Pid, &attr, 0); err != nil { // bench's own would starve the machine
			return all, fmt.Errorf("take the priority of a hog: %w", err)
		}
	}
	return all, nil
}

func endHogs(all []*exec.Cmd) {
	for _, c := range all {
		_ = c.Process.Kill() // it has not ended: it never does
		_ = c.Wait()         // killed
	}
}

// lossRules are nftables' for a bridge: each packet that it passes on is lost with
// that probability.
func lossRules(percent int) string {
	rules := "table bridge loss\ndelete table bridge loss\n" // the first line makes the second one right
	if percent > 0 {
		rules += fmt.Sprintf("table bridge loss {\n  chain pass {\n    type filter hook forward priority 0\n    numgen random mod 100 < %d counter drop\n  }\n}\n", percent)
	}
	return rules
}

// Lose drops so many of a hundred packets between the nodes from now on; 0: none.
func (f *Fabric) Lose(percent int) error {
	return f.hub.Do(func() error {
		c := exec.Command("nft", "-f", "-")
		c.Stdin = strings.NewReader(lossRules(percent))
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}
