package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	"github.com/quorate/quorate/membership"
)

// Corosync runs corosync, as the distribution has it, with nothing on top.
type Corosync struct {
	fabric  *Fabric
	views   *Views
	program string
	dir     string // configuration, logs and state
	fail    func(error)

	mu      sync.Mutex
	daemons map[int]*process // those that should be running
}

// CorosyncOptions are what a run of corosync needs.
type CorosyncOptions struct {
	Setting string // of settings
	Nodes   int
	// Fail is called when a daemon ends that should be running.
	Fail func(error)
}

// corosyncMounts hides the machine's /run, where the lock is that lets one
// corosync run, and its shared memory, of which a killed one leaves some behind.
const corosyncMounts = "mount -t tmpfs tmpfs /run\nmount -t tmpfs tmpfs /dev/shm"

// NewCorosync makes the files of a cluster on a fabric.
func NewCorosync(f *Fabric, o CorosyncOptions) (_ *Corosync, err error) {
	c := &Corosync{fabric: f, views: NewViews(), fail: o.Fail, daemons: map[int]*process{}}
	set, err := settingNamed(o.Setting)
	if err != nil {
		return nil, err
	}
	if c.program, err = exec.LookPath("corosync"); err != nil {
		return nil, fmt.Errorf("%w: install the package corosync, or leave it out with -systems", err)
	}
	if c.dir, err = os.MkdirTemp("", "quorate-bench-"); err != nil {
		return nil, err
	}
	for n := 1; n <= o.Nodes; n++ {
		err := errors.Join(os.Mkdir(c.path("state%d", n), 0o700),
			os.WriteFile(c.path("%d.conf", n), []byte(corosyncConf(set, c.path("state%d", n), o.Nodes)), 0o600))
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(c.dir))
		}
	}
	return c, nil
}

func (c *Corosync) path(format string, args ...any) string {
	return filepath.Join(c.dir, fmt.Sprintf(format, args...))
}

// Name is corosync's.
func (c *Corosync) Name() string { return "corosync" }

// Views is where the daemons' views are.
func (c *Corosync) Views() *Views { return c.views }

// Packets counts a node's.
func (c *Corosync) Packets(node int) (uint64, error) { return c.fabric.Packets(node) }

// Leader is 0: there is none.
func (c *Corosync) Leader(context.Context) (int, error) { return 0, nil }

// Start starts all daemons.
func (c *Corosync) Start(ctx context.Context) error {
	for n := range c.fabric.nodes {
		if err := c.run(n + 1); err != nil {
			return err
		}
	}
	return c.Whole(ctx)
}

// run starts a node's daemon and reads what it says.
func (c *Corosync) run(node int) error {
	var p *process
	ready := make(chan struct{})
	reader := &corosyncReader{}
	p, err := c.fabric.start(node, program{
		argv: []string{c.program, "-f", "-c", c.path("%d.conf", node)}, log: c.path("%d.log", node),
		mounts: corosyncMounts, dir: c.dir,
		ended: func() { <-ready; c.ended(node, p) },
		lines: func(line string) {
			seen := boottime()
			v, err := reader.read(line)
			if err != nil {
				c.fail(fmt.Errorf("node %d: %w", node, err))
			}
			if v.ID != "" {
				v.Node, v.Seen = node, seen
				c.views.Add(v)
			}
		},
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.daemons[node] = p
	c.mu.Unlock()
	close(ready)
	return nil
}

// ended tells of a daemon that nobody killed.
func (c *Corosync) ended(node int, p *process) {
	c.mu.Lock()
	mine := c.daemons[node] == p
	c.mu.Unlock()
	if mine {
		c.fail(fmt.Errorf("corosync of node %d ended:\n%s", node, p.tail()))
	}
}

// Kill drops a node's packets, then ends its daemon.
func (c *Corosync) Kill(_ context.Context, node int) (membership.Mono, error) {
	p := c.take(node)
	if p == nil {
		return 0, fmt.Errorf("node %d does not run", node)
	}
	at, err := c.fabric.Cut(node)
	return at, errors.Join(err, p.kill())
}

// take returns a daemon that is not to run any longer.
func (c *Corosync) take(node int) *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.daemons[node]
	delete(c.daemons, node)
	return p
}

// Restart gives the node a new namespace and its daemon the old state.
func (c *Corosync) Restart(ctx context.Context, node int) error {
	if err := c.fabric.Renew(node); err != nil {
		return err
	}
	if err := c.run(node); err != nil {
		return err
	}
	return c.Whole(ctx)
}

// Whole waits until the newest view of every node is the same, of all nodes.
func (c *Corosync) Whole(ctx context.Context) error {
	all := others(len(c.fabric.nodes), 0)
	return until(ctx, formLimit, func(context.Context) error {
		newest := c.views.Newest()
		for _, n := range all {
			if v := newest[n]; !slices.Equal(v.Members, all) || v.ID != newest[1].ID {
				return fmt.Errorf("the newest view of node %d is %s of %v, that of node 1 %s", n, v.ID, v.Members, newest[1].ID)
			}
		}
		return nil
	})
}

// Pids is the one process of a node.
func (c *Corosync) Pids(node int) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.daemons[node]; p != nil {
		return []int{p.pid()}
	}
	return nil
}

// Close ends the daemons and removes the files.
func (c *Corosync) Close() error {
	c.mu.Lock()
	left := c.daemons
	c.daemons = map[int]*process{}
	c.mu.Unlock()
	var errs []error
	for _, p := range left {
		errs = append(errs, p.kill())
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}
