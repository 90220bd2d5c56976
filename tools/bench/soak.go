package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/bench/internal/figures"
	"github.com/quorate/quorate/tools/cluster"
)

// soakOptions are what a user of bench soak may choose.
type soakOptions struct {
	kinds  []kind
	nodes  int
	time   time.Duration
	least  int // rounds, however long they take
	seed   uint64
	faults []string
	length time.Duration // of a fault that is no stop
	rest   time.Duration
	stop   [2]time.Duration // the shortest and the longest
	daemon string
	out    string
}

// soakLimit is for all to be members again after a fault: who was lost
// again and again is let in after a minute (liveness.Machine.Steady).
const soakLimit = 3 * time.Minute

// soakMain is bench soak. It returns the exit status.
func soakMain(ctx context.Context, args []string, out, errw io.Writer) int {
	o, err := parseSoak(args, errw)
	return carryOut("bench soak", err, func() error { return o.run(ctx, out, errw) }, errw)
}

func parseSoak(args []string, errw io.Writer) (o soakOptions, err error) {
	var systems, kinds string
	o.least = len(faultKinds)
	o.length, o.rest, o.stop = 8*time.Second, 2*time.Second, [2]time.Duration{time.Second, 8 * time.Second}
	minutes := 0.0
	fs := flag.NewFlagSet("bench soak", flag.ContinueOnError)
	fs.SetOutput(errw)
	fs.StringVar(&systems, "systems", "quorate/lan,corosync/safe", "which `systems`, side by side under the same faults")
	fs.StringVar(&kinds, "faults", strings.Join(faultKinds, ","), "which `faults`")
	fs.IntVar(&o.nodes, "nodes", 3, "nodes of each cluster, 3 to 32")
	fs.Float64Var(&minutes, "minutes", 10, "for how long there are faults")
	fs.Uint64Var(&o.seed, "seed", 1, "what the order, lengths and victims come from")
	fs.StringVar(&o.daemon, "daemon", "bin/quorated", "the `program` to run")
	fs.StringVar(&o.out, "out", "out/bench/soak.json", "`file` for the figures")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%w: unexpected argument %q: see bench soak -h", errUsage, fs.Arg(0))
	}
	if o.time = time.Duration(minutes * float64(time.Minute)); o.time <= 0 || o.nodes < minNodes || o.nodes > maxNodes {
		return o, fmt.Errorf("%w: -minutes is more than 0, -nodes %d to %d", errUsage, minNodes, maxNodes)
	}
	if o.faults, err = chooseFaults(kinds); err != nil {
		return o, err
	}
	o.kinds, err = chooseKinds(systems)
	return o, err
}

// soaked is a system in the soak.
type soaked struct {
	kind
	fabric *Fabric
	system System
}

func (o soakOptions) run(ctx context.Context, out, log io.Writer) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("it makes network namespaces and has to run as root")
	}
	if _, err := exec.LookPath("nft"); err != nil && slices.Contains(o.faults, faultLoss) {
		return fmt.Errorf("%w: install the package nftables, or leave loss out with -faults", err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r := SoakReport{Machine: figures.This(os.TempDir()), Minutes: o.time.Minutes(), Seed: o.seed, Nodes: o.nodes}
	var all []*soaked
	defer func() {
		for _, s := range all {
			err = errors.Join(err, s.close())
		}
	}()
	for _, k := range o.kinds {
		fmt.Fprintf(log, "%s: forming\n", k)
		s, err := o.start(ctx, k, fail)
		if s != nil {
			all = append(all, s)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		r.Systems = append(r.Systems, SoakSystem{kind: k})
	}
	if err := o.rounds(ctx, all, &r, log); err != nil {
		return err
	}
	for i, s := range all {
		q, ok := s.system.(*Quorate)
		if !ok {
			continue
		}
		if r.Systems[i].Kernel, err = q.KernelAnswers(ctx); err != nil {
			return err
		}
	}
	return errors.Join(figures.Save(o.out, r), r.print(out), r.failure())
}

// start starts a cluster. With an error what it returns has to be closed all the same.
func (o soakOptions) start(ctx context.Context, k kind, fail func(error)) (*soaked, error) {
	f, err := NewFabric(o.nodes)
	if err != nil {
		return nil, err
	}
	s := &soaked{kind: k, fabric: f}
	if s.system, err = newSystem(f, k, QuorateOptions{Program: o.daemon, Nodes: o.nodes, Env: []string{"GODEBUG=gctrace=1"}, Fail: fail}); err != nil {
		return s, err
	}
	return s, s.system.Start(ctx)
}

func (s *soaked) close() error {
	var err error
	if s.system != nil {
		err = s.system.Close()
	}
	return errors.Join(err, s.fabric.Close())
}

// rounds brings one fault after the other over all systems at once. A round is over
// when everybody is a member again; who was lost until then was lost by its fault.
func (o soakOptions) rounds(ctx context.Context, all []*soaked, r *SoakReport, log io.Writer) error {
	began := time.Now()
	for n := 0; n < o.least || time.Since(began) < o.time; n++ {
		f := o.plan(n)
		fmt.Fprintf(log, "round %d: %s\n", n+1, f)
		from := boottime()
		before, err := collections(all)
		if err == nil {
			err = f.over(ctx, all)
		}
		if err != nil {
			return fmt.Errorf("round %d, %s: %w", n+1, f, err)
		}
		after, err := collections(all)
		if err != nil {
			return err
		}
		if err := o.settle(ctx, all); err != nil {
			return fmt.Errorf("round %d, %s: %w", n+1, f, err)
		}
		round := SoakRound{Fault: f.Kind, Victim: f.Victim, StopMS: f.Stop.Milliseconds(), Collections: after - before}
		for _, s := range all {
			lost := convictions(s.system.Views().Since(from), o.nodes)
			round.Lost = append(round.Lost, lost)
			if len(lost) > 0 {
				fmt.Fprintf(log, "round %d: %s lost %v\n", n+1, s.kind, lost)
			}
		}
		r.Rounds = append(r.Rounds, round)
	}
	return nil
}

// collections counts how often the daemons have collected garbage until now, those that do.
func collections(all []*soaked) (sum int, err error) {
	for _, s := range all {
		if q, ok := s.system.(*Quorate); ok {
			n, err := q.collections()
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// settle waits until all are members, and a rest longer.
func (o soakOptions) settle(ctx context.Context, all []*soaked) error {
	ctx, cancel := context.WithTimeoutCause(ctx, soakLimit, fmt.Errorf("not within %v", soakLimit))
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range all {
		g.Go(func() error {
			for {
				err := s.system.Whole(gctx)
				if err == nil {
					return nil
				}
				if gctx.Err() != nil {
					return fmt.Errorf("%s does not come back: %w", s.kind, err)
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return cluster.Sleep(ctx, o.rest)
}

// convictions are the nodes that a majority lost, one after the other, while all kernels
// were alive. Who comes back and is lost again is there twice.
func convictions(views []View, nodes int) (lost []int) {
	out := map[int]bool{}
	for _, v := range views {
		if 2*len(v.Members) <= nodes || !slices.Contains(v.Members, v.Node) {
			continue // a minority's view of the others is no verdict
		}
		for _, n := range others(nodes, 0) {
			in := slices.Contains(v.Members, n)
			if !in && !out[n] {
				lost = append(lost, n)
			}
			out[n] = !in
		}
	}
	return lost
}

// Since are the views that were told after a time.
func (v *Views) Since(after membership.Mono) (out []View) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range v.all {
		if w.Seen > after {
			out = append(out, w)
		}
	}
	return out
}
