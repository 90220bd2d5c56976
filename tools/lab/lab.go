package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what a lab is made of. The zero value is three nodes.
type Config struct {
	Nodes      int               // 1 to 32; 0: 3
	Links      int               // cluster links, 1 to 4; 0: 1
	Kernels    []string          // of node 1, 2 and so on, the last one for all further; nil: EnvKernel, or DefaultKernel
	Systemd    bool              // process 1 is Debian's systemd, and the root is kept from boot to boot: see the package
	Mem        int               // MiB a node; 0: 384, emulated 900
	SharedSize int64             // bytes of the shared disk; 0: 1 GiB, sparse
	StateSize  int64             // bytes of each node's own disk; 0: 64 MiB, sparse
	Files      map[string]string // guest path -> host file, copied to every node at boot, mode kept
	Modules    []string          // loaded at boot; nil: dlm and gfs2
	Append     []string          // further words for the kernel command line
	Dir        string            // images and logs live in a new folder below; "": /dev/shm/quorate-lab
	Cache      string            // built root file systems; "": QUORATE_LAB_CACHE or the user's cache folder
	Log        io.Writer         // progress; nil: discarded
	BootLimit  time.Duration     // for one node to boot; 0: 3 minutes, with emulated ones 6

	kernels []kernelSpec // of each node
}

func (c *Config) fill() error {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Nodes, 3)
	def(&c.Links, 1)
	if c.Nodes < 1 || c.Nodes > 32 {
		return fmt.Errorf("%d nodes: a lab has 1 to 32", c.Nodes)
	}
	if c.Links < 1 || c.Links > 4 {
		return fmt.Errorf("%d links: a lab has 1 to 4", c.Links)
	}
	if c.Mem != 0 && c.Mem < 128 {
		return fmt.Errorf("%d MiB a node: at least 128 are needed", c.Mem)
	}
	var err error
	if c.kernels, err = kernelsOf(c.Kernels, c.Nodes); err != nil {
		return err
	}
	c.fillRest()
	return nil
}

func (c *Config) fillRest() {
	if c.SharedSize == 0 {
		c.SharedSize = 1 << 30
	}
	if c.StateSize == 0 {
		c.StateSize = 64 << 20
	}
	if c.Modules == nil {
		c.Modules = []string{"dlm", "gfs2"}
	}
	if c.Dir == "" {
		c.Dir = defaultDir
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	if c.BootLimit == 0 {
		c.BootLimit = 3 * time.Minute
		if (want{kernels: c.kernels}).emulated() {
			c.BootLimit *= 2
		}
	}
}

// Lab is a set of virtual nodes, their networks and disks. Its methods may be
// called from several goroutines.
type Lab struct {
	cfg   Config
	owner owner
	dir   string
	cg    cgroup
	ns    netns
	backs []backend // of each node when the lab was made
	nodes []*Node
	net   network
	hello net.Listener
	log   *lineLog
	fence *fencing

	// Collector takes datagrams to port 9999 of the host on every network.
	Collector *Collector

	collMu     sync.Mutex
	collectors []*Collector

	undo      func() // what was done to the session that the lab runs in
	tasks     sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

var labs atomic.Int64 // made by this process

// New makes the networks and disks, with no node running. It builds the root
// file system when it is not in the cache. Close must be called.
func New(ctx context.Context, cfg Config) (*Lab, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if err := Sweep(ctx, cfg.Dir); err != nil {
		return nil, fmt.Errorf("leftovers of an earlier lab: %w", err)
	}
	img, err := prepare(ctx, &cfg, cfg.Log)
	if err != nil {
		return nil, err
	}
	l := &Lab{cfg: cfg, owner: self(int(labs.Add(1))), log: &lineLog{w: cfg.Log}}
	l.dir = filepath.Join(cfg.Dir, l.owner.String())
	l.undo = prefer(os.Getpid())
	l.backs = backends(img, cfg.kernels)
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context) (err error) {
	for _, d := range []string{"proc", "mnt"} { // for labnode's first steps
		if err = os.MkdirAll(filepath.Join(l.shareDir(), d), 0o755); err != nil {
			return err
		}
	}
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	if l.cg, err = newCgroup(filepath.Join(root, l.owner.String())); err != nil {
		return err
	}
	if err = l.buildNetwork(ctx); err != nil {
		return err
	}
	if err = buildGuestPrograms(ctx, l.shareDir()); err != nil {
		return err
	}
	if err = l.shareFiles(); err != nil {
		return err
	}
	if err = sparse(l.SharedDisk(), l.cfg.SharedSize); err != nil {
		return err
	}
	for i, back := range l.backs {
		if !slices.Contains(l.backs[:i], back) {
			if err := back.prepare(l); err != nil {
				return err
			}
		}
		n, err := newNode(l, i+1, back)
		if err != nil {
			return err
		}
		l.nodes = append(l.nodes, n)
	}
	return l.startFencing(ctx)
}

func (l *Lab) buildNetwork(ctx context.Context) (err error) {
	if l.ns, err = newNetns(l.owner.String()); err != nil {
		return err
	}
	if err = l.ns.run(layout(l.cfg.Nodes, l.cfg.Links), "ip", "-batch", "-"); err != nil {
		return err
	}
	if err = l.Heal(); err != nil {
		return err
	}
	if l.hello, err = l.ns.listen(ctx, "tcp", helloAddr); err != nil {
		return err
	}
	l.tasks.Go(l.hear)
	l.Collector, err = l.Collect(ctx, fmt.Sprintf("0.0.0.0:%d", CollectPort))
	return err
}

// Up boots every node that is not up, all at once, and returns when all are ready.
func (l *Lab) Up(ctx context.Context) error {
	return l.each(func(n *Node) error {
		if n.Powered() {
			return n.WaitUp(ctx)
		}
		return n.Boot(ctx)
	})
}

// Node returns node i, from 1. It panics when the lab has no such node.
func (l *Lab) Node(i int) *Node { return l.nodes[i-1] }

// Nodes returns all nodes in order.
func (l *Lab) Nodes() []*Node { return append([]*Node(nil), l.nodes...) }

// Name is unique on the host; it names the network namespace and the cgroup.
func (l *Lab) Name() string { return l.owner.String() }

// Dir is the folder of images and console logs. Close removes it.
func (l *Lab) Dir() string { return l.dir }

// SharedDisk is the host file behind /dev/ubda of every node, emulated or not.
func (l *Lab) SharedDisk() string { return filepath.Join(l.dir, "shared.img") }

// KernelVersion is the nodes' kernel release, several when they differ.
func (l *Lab) KernelVersion() string {
	var all []string
	for _, n := range l.nodes {
		if v := n.KernelVersion(); !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return strings.Join(all, ", ")
}

func (l *Lab) shareDir() string { return filepath.Join(l.dir, "share") }

// Dial connects from the host's side of the lab's networks. addr is numeric.
func (l *Lab) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return l.ns.dial(ctx, network, addr)
}

// Down kills every node and waits until nothing of them runs. Disks are kept.
func (l *Lab) Down(ctx context.Context) error {
	return l.each(func(n *Node) error { return n.down(ctx) })
}

// each calls f for all nodes at once.
func (l *Lab) each(f func(*Node) error) error {
	errs := make([]error, len(l.nodes))
	var wg sync.WaitGroup
	for i, n := range l.nodes {
		wg.Go(func() { errs[i] = f(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close takes everything down and removes it: processes, cgroups, the network
// namespace, images and logs. It may be called again.
func (l *Lab) Close() error {
	l.closeOnce.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Lab) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var errs []error
	if l.fence != nil {
		errs = append(errs, l.fence.close())
	}
	errs = append(errs, l.each(func(n *Node) error { return n.close(ctx) }))
	if l.hello != nil {
		errs = append(errs, l.hello.Close())
	}
	l.collMu.Lock()
	cs := append([]*Collector(nil), l.collectors...)
	l.collMu.Unlock()
	for _, c := range cs {
		c.Close()
	}
	l.tasks.Wait()
	if l.cg.dir != "" {
		errs = append(errs, l.cg.kill(ctx), l.cg.remove())
	}
	if l.ns.name != "" {
		errs = append(errs, l.ns.remove())
	}
	l.undo()
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}
