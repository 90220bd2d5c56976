package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

type demo struct {
	set    set
	out    io.Writer
	began  time.Time
	c      *cluster.Cluster
	victim int
	rest   []int
	r      report

	mu   sync.Mutex
	live func(cluster.Event) // prints events as they come
}

func (d *demo) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.out, format+"\n", args...)
}

// act announces an act, with the time since the start.
func (d *demo) act(format string, args ...any) {
	d.say("\n[%5.1f s] %s", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context) (line string, err error) {
	defer func() {
		if d.c == nil {
			return
		}
		if err != nil {
			d.post(err)
		}
		if cerr := d.c.Close(); err == nil {
			err = cerr
		}
	}()
	if err := d.acts(ctx); err != nil {
		return "", err
	}
	return d.r.line(), d.keep(ctx)
}

// acts tells the story within the time that one may take.
func (d *demo) acts(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Minute, errors.New("20 minutes were not enough"))
	defer cancel()
	for _, act := range []func(context.Context) error{d.form, d.mount, d.kill, d.rejoin, d.unhappy, d.report} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// post keeps what helps to understand a failure.
func (d *demo) post(why error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	dir := filepath.Join(d.set.out, "demo")
	if err := d.c.Keep(ctx, dir); err != nil {
		d.say("%v", err)
	}
	d.say("what the nodes said is in %s (%v)", dir, why)
}

func (d *demo) form(ctx context.Context) error {
	if !lab.Check(d.out, lab.Config{Nodes: d.set.nodes, Kernels: d.set.kernels}) {
		return errors.New("this machine lacks what the lines above say")
	}
	d.act("building quorated and the lab's nodes (the first run downloads about 200 MB)")
	c, err := cluster.New(ctx, cluster.Options{Nodes: d.set.nodes, Profile: d.set.profile, DeadAfter: d.set.deadAfter, Agent: d.set.agent, Kernels: d.set.kernels, Log: d.out})
	if err != nil {
		return err
	}
	d.c = c
	c.Events.Hook(d.print)
	if d.set.deadAfter != 0 {
		d.say("  dead_after is %v here, in the place of the profile's", d.set.deadAfter)
	}
	d.act("booting %d nodes with kernel %s, and making a GFS2 file system on their shared disk", d.set.nodes, c.Lab.KernelVersion())
	if err := c.Boot(ctx); err != nil {
		return err
	}
	if err := c.Mkfs(ctx, 1); err != nil {
		return err
	}
	d.act("starting quorated on each")
	d.show(d.forming)
	if err := c.Start(ctx); err != nil {
		return err
	}
	d.show(nil)
	return d.quorate(ctx, 1, "status")
}

// quorate runs the operator's tool against a node's daemon and shows what it prints.
func (d *demo) quorate(ctx context.Context, i int, args string) error {
	r, err := d.c.Operator(ctx, i, strings.Fields(args)...)
	if err != nil {
		return err
	}
	said := fmt.Sprintf("  node%d# quorate %s", i, args)
	for l := range strings.Lines(r.Stdout + r.Stderr) {
		said += "\n    " + strings.TrimRight(l, "\n")
	}
	d.say("%s", said) // in one piece: events may come
	return nil
}

func (d *demo) mount(ctx context.Context) error {
	d.act("mounting it on every node")
	from := time.Now()
	for _, i := range d.c.Nodes() { // the first mounter checks all journals
		if err := d.c.MountInside(ctx, i); err != nil {
			return err
		}
	}
	if err := d.runs(ctx, from); err != nil {
		return err
	}
	return d.quorate(ctx, 1, "ls")
}

// runs waits until all nodes run the lockspace. It listens first: what asks every node again and
// again is in the way of nodes whose times are short.
func (d *demo) runs(ctx context.Context, since time.Time) error {
	if err := d.c.WaitDone(ctx, d.c.Nodes(), since); err != nil {
		return err
	}
	return d.c.WaitLockspace(ctx, d.c.Nodes(), d.c.Nodes())
}

// choose picks the victim and the file that it will hold a lock on.
func (d *demo) choose(ctx context.Context) error {
	leader, err := d.c.Leader(ctx, 1)
	if err != nil {
		return err
	}
	if leader == 0 {
		return errors.New("no leader is known")
	}
	d.victim, d.r.Leader = leader, true
	if d.set.victim == "follower" {
		d.r.Leader = false
		for _, i := range slices.Backward(d.c.Nodes()) {
			if i != leader {
				d.victim = i
				break
			}
		}
	}
	d.rest = slices.DeleteFunc(d.c.Nodes(), func(i int) bool { return i == d.victim })
	return nil
}

func (d *demo) kill(ctx context.Context) error {
	if err := d.choose(ctx); err != nil {
		return err
	}
	stop, err := d.c.HoldFlock(ctx, d.victim, d.rest)
	if err != nil {
		return err
	}
	defer stop()
	if err := d.c.WaitCalm(ctx, time.Second); err != nil {
		d.say("  (%v; going on)", err)
	}
	d.act("node%d holds an exclusive flock that all others wait for; killing node%d", d.victim, d.victim)
	at, err := d.c.Kill(ctx, d.victim)
	if err != nil {
		return err
	}
	d.show(func(e cluster.Event) { d.recovering(e, at) })
	d.r.Recovery, err = d.c.WaitRecovery(ctx, d.victim, at, d.rest)
	d.show(nil)
	if err != nil {
		return err
	}
	d.r.Recovery.Leader = d.r.Leader
	d.table()
	return nil
}

func (d *demo) rejoin(ctx context.Context) error {
	d.act("node%d boots, joins and mounts again", d.victim)
	from := time.Now()
	d.show(d.forming)
	defer d.show(nil)
	if err := d.c.BootAgain(ctx, d.victim); err != nil {
		return err
	}
	ready := time.Now()
	if err := d.c.WaitMembers(ctx, []int{d.victim}, d.c.Nodes()); err != nil {
		return err
	}
	if err := d.c.MountInside(ctx, d.victim); err != nil {
		return err
	}
	if err := d.runs(ctx, ready); err != nil {
		return err
	}
	d.r.RejoinMS = float64(time.Since(ready).Milliseconds())
	d.say("  back after %.1f s, %.1f s of them for the boot", time.Since(from).Seconds(), ready.Sub(from).Seconds())
	return nil
}

func (d *demo) unhappy(ctx context.Context) error {
	d.act("now the fence devices fail, and node%d dies again", d.victim)
	d.c.Misbehave(fencedev.Fault{Mode: fencedev.Fail})
	at, err := d.c.Kill(ctx, d.victim)
	if err != nil {
		return err
	}
	d.show(func(e cluster.Event) { d.recovering(e, at) })
	defer d.show(nil)
	if err := d.waitFailures(ctx, at); err != nil {
		return err
	}
	d.say("  nothing may start: nothing proves that node%d cannot write", d.victim)
	for _, i := range d.rest {
		if err := d.quorate(ctx, i, "why"); err != nil {
			return err
		}
		if err := d.c.BlockedByFencing(ctx, i, d.victim); err != nil {
			return err
		}
	}
	ack := time.Now()
	if err := d.quorate(ctx, d.rest[0], fmt.Sprintf("fence ack --yes node%d", d.victim)); err != nil {
		return err
	}
	if err := d.c.WaitLockspace(ctx, d.rest, d.rest); err != nil {
		return err
	}
	d.show(nil)
	d.say("  the acknowledgement released the lockspace after %.0f ms", float64(time.Since(ack).Milliseconds()))
	d.c.Misbehave(fencedev.Fault{})
	return nil
}

// waitFailures waits until each survivor knows of two attempts to fence in vain: two
// nodes have tried.
func (d *demo) waitFailures(ctx context.Context, at time.Time) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("not all nodes told of two failed attempts to fence within a minute"))
	defer cancel()
	return d.c.Each(ctx, d.rest, func(ctx context.Context, i int) error {
		_, err := d.c.Events.Wait(ctx, at, func(e cluster.Event) bool { return e.Node == i && failedTwice(e) })
		return err
	})
}

func (d *demo) keep(ctx context.Context) error {
	if !d.set.keep {
		return nil
	}
	d.say("\n%s\n\n%s", d.r.line(), kept(d.c.Lab.Name(), d.victim))
	ctx, cancel := context.WithCancel(ctx)
	tended := make(chan struct{})
	go func() {
		defer close(tended)
		d.tend(ctx)
	}()
	err := d.c.Lab.ServeControl(ctx)
	over := ctx.Err() != nil
	cancel()
	<-tended
	if over {
		return nil
	}
	return err
}

// kept says what one may do with a cluster that stays up.
func kept(lab string, dead int) string {
	do := "bin/lab --lab " + lab
	return fmt.Sprintf(`the cluster stays up. From another terminal:
  %[1]s sh 1      a shell in node1; or exec, kill, cut, console, see bin/lab --help
  %[1]s boot %[2]d    boots the dead node%[2]d, and quorated is started there
  %[1]s down      ends it all, as Ctrl-C does here`, do, dead)
}

// tend starts quorated on every node that somebody boots.
func (d *demo) tend(ctx context.Context) {
	boots := map[int]string{}
	ids := func() map[int]string {
		now := map[int]string{}
		for _, n := range d.c.Lab.Nodes() {
			now[n.ID()] = n.BootID()
		}
		return now
	}
	booted(boots, ids())
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
		for _, i := range booted(boots, ids()) {
			if err := d.c.StartDaemon(ctx, i); err != nil && ctx.Err() == nil {
				d.say("quorated does not start on node%d: %v", i, err)
			}
		}
	}
}

// booted returns the nodes with another boot id than before, and keeps those of now.
// A node that is not up has none.
func booted(before, now map[int]string) (out []int) {
	for _, i := range slices.Sorted(maps.Keys(now)) {
		if id := now[i]; id != "" && id != before[i] {
			before[i] = id
			out = append(out, i)
		}
	}
	return out
}
