package cluster

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/lab"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// Labnode is the lab's program in the nodes.
const Labnode = "/usr/local/bin/labnode"

// HoldFlock lets the victim hold an exclusive flock on a file of GFS2 and all
// others wait for it. Each tells the collector when it is granted.
func (c *Cluster) HoldFlock(ctx context.Context, victim int, others []int) (stop func(), err error) {
	file := fmt.Sprintf("%s/held-%d-%d", MountAt, victim, time.Now().UnixNano())
	from := time.Now()
	var procs []*lab.Proc
	stop = func() {
		for _, p := range procs {
			p.Stop()
		}
	}
	p, err := c.flock(ctx, victim, "hold", file)
	if err != nil {
		return stop, err
	}
	procs = append(procs, p)
	wait, cancel := context.WithTimeoutCause(ctx, 20*time.Second, fmt.Errorf("node%d did not get the flock on %s", victim, file))
	defer cancel()
	if _, err := c.Events.Wait(wait, from, func(e Event) bool { return e.Told == "held" && e.File == file }); err != nil {
		return stop, err
	}
	for _, i := range others {
		p, err := c.WaitFlock(ctx, i, file)
		if p != nil {
			procs = append(procs, p)
		}
		if err != nil {
			return stop, err
		}
	}
	return stop, nil
}

func (c *Cluster) flock(ctx context.Context, i int, how, file string) (*lab.Proc, error) {
	return c.Lab.Node(i).Start(ctx, lab.Cmd{Args: []string{"flock", how, file, "--notify", notify}, Inside: true})
}

// WaitFlock has a thread of a node ask for a shared flock, and returns when it
// is asleep for it. It tells the collector when it is granted.
func (c *Cluster) WaitFlock(ctx context.Context, i int, file string) (*lab.Proc, error) {
	p, err := c.flock(ctx, i, "wait", file)
	if err != nil {
		return nil, err
	}
	return p, c.waiting(ctx, i, p.Pid)
}

// waiting returns when the thread is asleep in flock(2): it is in uninterruptible
// sleep, and stays there.
func (c *Cluster) waiting(ctx context.Context, i, thread int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	asleep := 0
	return Until(ctx, 50*time.Millisecond, func() error {
		stat, err := c.Lab.Node(i).ReadFile(ctx, fmt.Sprintf("/proc/%d/stat", thread))
		if err != nil {
			return err
		}
		if !bytes.Contains(stat, []byte(") D ")) {
			asleep = 0
			return fmt.Errorf("node%d does not wait for the flock yet", i)
		}
		if asleep++; asleep < 3 {
			return fmt.Errorf("node%d has just begun to wait for the flock", i)
		}
		return nil
	})
}

// WaitEach waits until each of the nodes has told of a kind of event after a time.
func (c *Cluster) WaitEach(ctx context.Context, nodes []int, after time.Time, k membership.Kind) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 60*time.Second, fmt.Errorf("no %q within a minute", k))
	defer cancel()
	return c.waitAll(ctx, nodes, after, func(e Event) bool { return e.Kind == k })
}

// WaitTold waits until a program of each of the nodes has told a word after a time.
func (c *Cluster) WaitTold(ctx context.Context, nodes []int, after time.Time, word string) error {
	return c.waitAll(ctx, nodes, after, func(e Event) bool { return e.Told == word })
}

func (c *Cluster) waitAll(ctx context.Context, nodes []int, after time.Time, f func(Event) bool) error {
	return c.Each(ctx, nodes, func(ctx context.Context, i int) error {
		_, err := c.Events.Wait(ctx, after, func(e Event) bool { return e.Node == i && f(e) })
		return err
	})
}

// WaitRecovery waits until every survivor has the victim's flock and every
// kernel has recovered, and reads the recovery from the events.
func (c *Cluster) WaitRecovery(ctx context.Context, victim int, at time.Time, survivors []int) (Recovery, error) {
	wait, cancel := context.WithTimeoutCause(ctx, 90*time.Second, fmt.Errorf("the flock of node%d was not granted to all of %v", victim, survivors))
	defer cancel()
	if err := c.WaitTold(wait, survivors, at, "granted"); err != nil {
		return Recovery{}, err
	}
	if err := c.WaitLockspace(ctx, survivors, survivors); err != nil {
		return Recovery{}, err
	}
	return c.Recovery(victim, at, survivors), nil
}

// BlockedByFencing checks that a node says that the lockspace waits for the
// victim's fencing, that this is the first cause it names, and that it names
// the command.
func (c *Cluster) BlockedByFencing(ctx context.Context, i, victim int) error {
	s, err := c.Status(ctx, i)
	if err != nil {
		return err
	}
	for _, l := range s.Lockspaces {
		if l.Name != Table {
			continue
		}
		if len(l.Waits) == 0 || l.Waits[0].For != "fencing" || int(l.Waits[0].Owner) != victim || !strings.Contains(l.Waits[0].Command, "quorate fence ack") {
			return fmt.Errorf("node%d: lockspace %s waits for %+v, not for the fencing of node%d", i, Table, l.Waits, victim)
		}
		r, err := c.Operator(ctx, i, "why")
		if err != nil {
			return err
		}
		if !strings.Contains(r.Stdout, fmt.Sprintf("quorate fence ack node%d", victim)) || r.Code != 2 {
			return fmt.Errorf("node%d: quorate why (exit %d) does not name the command: %s", i, r.Code, r.Stdout)
		}
		return nil
	}
	return fmt.Errorf("node%d knows no lockspace %s", i, Table)
}

// Others are all nodes but some.
func (c *Cluster) Others(not ...int) []int {
	return slices.DeleteFunc(c.Nodes(), func(i int) bool { return slices.Contains(not, i) })
}

// WaitCalm waits until no daemon has told of a pause or a suspicion for a while:
// a death is measured on a machine that is not busy with what came before.
func (c *Cluster) WaitCalm(ctx context.Context, calm time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, fmt.Errorf("the nodes were never calm for %v", calm))
	defer cancel()
	from := time.Now()
	for {
		wait, done := context.WithTimeout(ctx, time.Until(from.Add(calm)))
		e, err := c.Events.Wait(wait, from, func(e Event) bool {
			return e.Kind == membership.KindDegraded || e.Kind == membership.KindSuspect || e.Kind == membership.KindView
		})
		done()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return nil
		}
		from = e.At
	}
}

// Misbehave tells the fence devices how to treat every node from now on.
func (c *Cluster) Misbehave(f ...fencedev.Fault) {
	for _, i := range c.Nodes() {
		c.Lab.Misbehave(i, f...)
	}
}
