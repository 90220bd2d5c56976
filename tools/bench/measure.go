package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
)

// plan is what is measured of one cluster.
type plan struct {
	nodes int
	kills int
	idle  time.Duration // 0: not measured
	// rest is between one disturbance and the next measurement.
	rest time.Duration
	// limit is for a view after a death.
	limit time.Duration
	trace tracer // nil: fsyncs are not counted
	log   io.Writer
}

// Death is one killed node.
type Death struct {
	Nodes  int  `json:"nodes"`
	Victim int  `json:"victim"`
	Leader bool `json:"victim_was_leader"`
	// SeenMS is until bench had read the view from the last survivor; StampMS until
	// the last survivor's own stamp on it, 0 when it has none.
	SeenMS  float64 `json:"seen_ms"`
	StampMS float64 `json:"stamp_ms,omitempty"`
	way
}

// result is what was found.
type result struct {
	deaths        []Death
	cpu, rss, pps float64 // of one daemon: ms/s, MiB, packets/s
	death, join   syncs
}

// syncs are the fsyncs of one view change; views is how many the two nodes told
// meanwhile, so 2 when nothing else happened.
type syncs struct{ leader, follower, views int }

// uncounted is what is said of a view change that could not be watched alone.
var uncounted = syncs{leader: -1, follower: -1}

func (s syncs) clean() bool { return s.views == 2 }

// syncTries is how often a view change is watched until nothing else happens meanwhile.
const syncTries = 3

// measure does all that the plan says, on a system that has not been started.
func measure(ctx context.Context, s System, p plan) (r result, err error) {
	p.say("%d nodes: forming", p.nodes)
	if err := s.Start(ctx); err != nil {
		return r, fmt.Errorf("start %d nodes: %w", p.nodes, err)
	}
	if err := cluster.Sleep(ctx, p.rest); err != nil {
		return r, err
	}
	if p.idle > 0 {
		p.say("%d nodes: idle for %s", p.nodes, p.idle)
		if err := r.idle(ctx, s, p); err != nil {
			return r, fmt.Errorf("idle: %w", err)
		}
	}
	for k := range p.kills {
		d, err := kill(ctx, s, p, victim(k, p.nodes))
		if err != nil {
			return r, fmt.Errorf("death %d of node %d: %w", k+1, victim(k, p.nodes), err)
		}
		r.deaths = append(r.deaths, d)
		if err := back(ctx, s, p, d.Victim); err != nil {
			return r, err
		}
	}
	if p.trace != nil {
		p.say("%d nodes: counting fsyncs", p.nodes)
		if err := r.syncs(ctx, s, p); err != nil {
			return r, fmt.Errorf("count fsyncs: %w", err)
		}
	}
	return r, nil
}

func (p plan) say(format string, args ...any) { fmt.Fprintf(p.log, format+"\n", args...) }

// victim is the node of the k-th death, from 0: each in turn.
func victim(k, nodes int) int { return k%nodes + 1 }

// others are all nodes but one, ascending; of 0 all.
func others(nodes, but int) (out []int) {
	for n := 1; n <= nodes; n++ {
		if n != but {
			out = append(out, n)
		}
	}
	return out
}

func back(ctx context.Context, s System, p plan, node int) error {
	if err := s.Restart(ctx, node); err != nil {
		return fmt.Errorf("node %d does not come back: %w", node, err)
	}
	return cluster.Sleep(ctx, p.rest)
}

func kill(ctx context.Context, s System, p plan, victim int) (Death, error) {
	leader, err := s.Leader(ctx)
	if err != nil {
		return Death{}, err
	}
	at, err := s.Kill(ctx, victim)
	if err != nil {
		return Death{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.limit, fmt.Errorf("not within %s", p.limit))
	defer cancel()
	views, err := s.Views().Agreed(ctx, at, others(p.nodes, victim))
	if err != nil {
		return Death{}, err
	}
	d := Death{Nodes: p.nodes, Victim: victim, Leader: leader == victim}
	for _, v := range views {
		d.SeenMS = max(d.SeenMS, ms(v.Seen.Sub(at)))
		if v.Stamp != 0 {
			d.StampMS = max(d.StampMS, ms(v.Stamp.Sub(at)))
		}
	}
	if q, ok := s.(*Quorate); ok {
		d.way = q.steps.of(victim, at)
	}
	p.say("%d nodes: node %d dies, leader %v: %.1f ms", p.nodes, victim, d.Leader, d.SeenMS)
	return d, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// idle reads what the daemons use while nothing happens: the mean of all.
func (r *result) idle(ctx context.Context, s System, p plan) error {
	from, at, err := counters(s, p.nodes)
	if err != nil {
		return err
	}
	if err := cluster.Sleep(ctx, p.idle); err != nil {
		return err
	}
	to, end, err := counters(s, p.nodes)
	if err != nil {
		return err
	}
	per := end.Sub(at).Seconds() * float64(p.nodes)
	r.cpu = ms(to.cpu-from.cpu) / per
	r.rss = float64(to.rss) / float64(p.nodes) / (1 << 20)
	r.pps = float64(to.packets-from.packets) / per
	return nil
}

type counted struct {
	usage
	packets uint64
}

// counters adds up all nodes.
func counters(s System, nodes int) (c counted, at membership.Mono, err error) {
	at = boottime()
	for _, n := range others(nodes, 0) {
		pids := s.Pids(n)
		if len(pids) == 0 {
			return c, at, fmt.Errorf("node %d does not run", n)
		}
		u, err := usageOf(pids)
		if err != nil {
			return c, at, err
		}
		packets, err := s.Packets(n)
		if err != nil {
			return c, at, err
		}
		c.cpu, c.rss, c.packets = c.cpu+u.cpu, c.rss+u.rss, c.packets+packets
	}
	return c, at, nil
}

// syncs counts what the leader and a follower write while another follower dies
// and comes back. Each window ends a rest after all agree. On a busy machine strace
// can slow a daemon down so much that others give it up; then it is done again.
func (r *result) syncs(ctx context.Context, s System, p plan) (err error) {
	for range syncTries {
		if r.death, r.join, err = syncsOnce(ctx, s, p); err != nil || r.death.clean() && r.join.clean() {
			return err
		}
		p.say("%d nodes: more than one view while fsyncs were counted", p.nodes)
	}
	r.death, r.join = uncounted, uncounted
	return nil
}

func syncsOnce(ctx context.Context, s System, p plan) (death, join syncs, err error) {
	leader, err := s.Leader(ctx)
	if err != nil {
		return death, join, err
	}
	leader = max(leader, 1) // of a system without one, any node
	rest := others(p.nodes, leader)
	if len(rest) < 2 {
		return death, join, errors.New("it takes three nodes: one dies, a leader and a follower are watched")
	}
	watched := []int{leader, rest[0]}
	dies := rest[len(rest)-1]
	death, err = watch(ctx, s, p, watched, func() error {
		_, err := kill(ctx, s, p, dies)
		return errors.Join(err, cluster.Sleep(ctx, p.rest))
	})
	if err != nil {
		return death, join, err
	}
	join, err = watch(ctx, s, p, watched, func() error { return back(ctx, s, p, dies) })
	return death, join, err
}

// watch traces the two nodes while f runs.
func watch(ctx context.Context, s System, p plan, nodes []int, f func() error) (syncs, error) {
	var stops []func() (int, error)
	var errs []error
	for _, n := range nodes {
		stop, err := p.trace(ctx, s.Pids(n))
		if err != nil {
			errs = append(errs, err)
			break
		}
		stops = append(stops, stop)
	}
	from := boottime()
	if len(errs) == 0 {
		errs = append(errs, f())
	}
	views := s.Views().Told(from, nodes)
	var n [2]int
	for i, stop := range stops {
		count, err := stop()
		n[i] = count
		errs = append(errs, err)
	}
	return syncs{leader: n[0], follower: n[1], views: views}, errors.Join(errs...)
}
