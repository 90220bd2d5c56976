package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/cmd/quorated/control"
	ebpf "github.com/quorate/quorate/ebpf/liveness"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/secret"
	"github.com/quorate/quorate/tools/cluster"
)

// formLimit is for forming a cluster, and for a node's return to it.
const formLimit = 60 * time.Second

// Quorate runs quorated. A machine without a DLM will do: the daemons are told
// kernel = "none", so they hold no lockspace and nobody has to be fenced.
type Quorate struct {
	fabric  *Fabric
	views   *Views
	steps   steps
	program string
	dir     string // configuration, sockets, logs and state
	env     []string
	fail    func(error)

	mu      sync.Mutex
	daemons map[int]*process // those that should be running
	work    sync.WaitGroup
}

// QuorateOptions are what a run of quorated needs.
type QuorateOptions struct {
	Program string // of the daemon
	Profile string
	Nodes   int
	Env     []string // of the daemons, beside bench's own
	// Fail is called when a daemon ends that should be running.
	Fail func(error)
}

// NewQuorate makes the files of a cluster on a fabric.
func NewQuorate(f *Fabric, o QuorateOptions) (_ *Quorate, err error) {
	q := &Quorate{fabric: f, views: NewViews(), env: o.Env, fail: o.Fail, daemons: map[int]*process{}}
	if q.program, err = filepath.Abs(o.Program); err != nil {
		return nil, err
	}
	if _, err := os.Stat(q.program); err != nil {
		return nil, fmt.Errorf("%w: run make build, or say -daemon FILE", err)
	}
	if q.dir, err = os.MkdirTemp("", "quorate-bench-"); err != nil {
		return nil, err
	}
	if err := q.files(o); err != nil {
		return nil, errors.Join(err, os.RemoveAll(q.dir))
	}
	return q, nil
}

func (q *Quorate) files(o QuorateOptions) error {
	if err := secret.WriteFile(q.path("key")); err != nil {
		return err
	}
	for n := range o.Nodes {
		if err := os.WriteFile(q.path("%d.toml", n+1), []byte(configuration(q.dir, o, n+1)), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (q *Quorate) path(format string, args ...any) string {
	return filepath.Join(q.dir, fmt.Sprintf(format, args...))
}

// configuration is a node's file.
func configuration(dir string, o QuorateOptions, node int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[cluster]\nname = \"bench\"\nkernel = \"none\"\nfencing = \"manual\"\nkey_file = %q\n", filepath.Join(dir, "key"))
	fmt.Fprintf(&b, "[liveness]\nprofile = %q\n[state]\ndir = %q\n", o.Profile, filepath.Join(dir, fmt.Sprintf("state%d", node)))
	for n := 1; n <= o.Nodes; n++ {
		fmt.Fprintf(&b, "[[node]]\nname = \"n%d\"\nid = %d\naddr = [%q]\n", n, n, Addr(n))
	}
	return b.String()
}

// Name is quorate's.
func (q *Quorate) Name() string { return "quorate" }

// Views is where the daemons' views are.
func (q *Quorate) Views() *Views { return q.views }

// Packets counts a node's.
func (q *Quorate) Packets(node int) (uint64, error) { return q.fabric.Packets(node) }

// Start starts all daemons.
func (q *Quorate) Start(ctx context.Context) error {
	for n := range q.fabric.nodes {
		if err := q.run(n + 1); err != nil {
			return err
		}
	}
	return q.Whole(ctx)
}

// run starts a node's daemon and follows its events.
func (q *Quorate) run(node int) error {
	if err := os.MkdirAll(q.path("state%d", node), 0o700); err != nil {
		return err
	}
	var p *process
	ready := make(chan struct{})
	if err := os.WriteFile(q.path("boot%d", node), []byte(bootID()), 0o600); err != nil {
		return err
	}
	p, err := q.fabric.start(node, program{
		argv: []string{q.program, "-config", q.path("%d.toml", node), "-socket", q.socket(node)}, env: q.env, log: q.path("%d.log", node),
		// What it pins is its own and goes with it, as with the machine.
		mounts: fmt.Sprintf("mount --bind \"$0/boot%d\" %s\nmount -t bpf bpf %s || :", node, bootFile, filepath.Dir(ebpf.Root)), dir: q.dir,
		ended: func() { <-ready; q.ended(node, p) },
	})
	if err != nil {
		return err
	}
	q.mu.Lock()
	q.daemons[node] = p
	q.mu.Unlock()
	close(ready)
	q.work.Go(func() { q.follow(node, p) })
	return nil
}

// bootFile is where a daemon reads which life of the kernel this is.
const bootFile = "/proc/sys/kernel/random/boot_id"

// bootID is that of a life: a machine that died comes back with a new one, and is
// no node whose links fail again and again.
func bootID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return fmt.Sprintf("%x-%x-%x-%x-%x\n", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (q *Quorate) socket(node int) string { return q.path("%d.sock", node) }

// ended tells of a daemon that nobody killed.
func (q *Quorate) ended(node int, p *process) {
	q.mu.Lock()
	mine := q.daemons[node] == p
	q.mu.Unlock()
	if mine {
		q.fail(fmt.Errorf("the daemon of node %d ended:\n%s", node, p.tail()))
	}
}

// follow notes a daemon's views until it ends.
func (q *Quorate) follow(node int, p *process) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { <-p.done; cancel() }()
	for ctx.Err() == nil {
		if c, err := control.Dial(q.socket(node)); err == nil {
			_ = c.Follow(ctx, 0, func(e membership.Event) error { q.note(node, e); return nil }) // it ends with the daemon
		}
		_ = cluster.Sleep(ctx, 5*time.Millisecond) // the daemon is not listening yet
	}
}

func (q *Quorate) note(node int, e membership.Event) {
	seen := boottime()
	q.steps.add(node, e)
	if e.Kind != membership.KindView {
		return
	}
	members, err := viewMembers(e.Text)
	if err != nil {
		q.fail(err)
		return
	}
	q.views.Add(View{Node: node, ID: fmt.Sprintf("view %d at %d", e.View, e.Index), Members: members, Stamp: e.Mono, Seen: seen})
}

var viewText = regexp.MustCompile(`^members \[([0-9 ]*)\]`)

// viewMembers reads the members from the words of an event.
func viewMembers(text string) ([]int, error) {
	m := viewText.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("a view without members: %q: use the bench of the same version as quorated", text)
	}
	out := []int{}
	for _, w := range strings.Fields(m[1]) {
		n, err := strconv.Atoi(w)
		if err != nil {
			return nil, fmt.Errorf("a view with the member %q", w)
		}
		out = append(out, n)
	}
	return out, nil
}

// Kill drops a node's packets, then ends its daemon.
func (q *Quorate) Kill(_ context.Context, node int) (membership.Mono, error) {
	p := q.take(node)
	if p == nil {
		return 0, fmt.Errorf("node %d does not run", node)
	}
	at, err := q.fabric.Cut(node)
	return at, errors.Join(err, p.kill())
}

// take returns a daemon that is not to run any longer.
func (q *Quorate) take(node int) *process {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.daemons[node]
	delete(q.daemons, node)
	return p
}

// Restart gives the node a new namespace and its daemon the old state.
func (q *Quorate) Restart(ctx context.Context, node int) error {
	if err := q.fabric.Renew(node); err != nil {
		return err
	}
	if err := q.run(node); err != nil {
		return err
	}
	return q.Whole(ctx)
}

// Whole waits until every daemon says that all nodes are members and connected,
// and names the same leader.
func (q *Quorate) Whole(ctx context.Context) error {
	return until(ctx, formLimit, func(ctx context.Context) error {
		all := make([]control.Status, len(q.fabric.nodes))
		g, gctx := errgroup.WithContext(ctx)
		for i := range all {
			g.Go(func() (err error) {
				all[i], err = q.status(gctx, i+1)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		return whole(all)
	})
}

// whole says what keeps a cluster from being at rest.
func whole(all []control.Status) error {
	for _, s := range all {
		for _, n := range s.Nodes {
			if n.State != "member" || n.ID != s.Node && !n.Connected {
				return fmt.Errorf("%s sees %s: %s, connected %v", s.Name, n.Name, n.State, n.Connected)
			}
		}
		if !s.Member || s.View != all[0].View || s.Leader == 0 || s.Leader != all[0].Leader {
			return fmt.Errorf("%s: member %v, view %d, leader %d; %s: view %d, leader %d", s.Name, s.Member, s.View, s.Leader, all[0].Name, all[0].View, all[0].Leader)
		}
	}
	return nil
}

func (q *Quorate) status(ctx context.Context, node int) (control.Status, error) {
	r, err := q.call(ctx, node, control.Request{Command: "status"})
	if err != nil {
		return control.Status{}, err
	}
	if r.Status == nil {
		return control.Status{}, fmt.Errorf("node %d: an answer without status", node)
	}
	return *r.Status, nil
}

// Leader asks any daemon.
func (q *Quorate) Leader(ctx context.Context) (int, error) {
	q.mu.Lock()
	node := 0
	for n := range q.daemons {
		node = max(node, n)
	}
	q.mu.Unlock()
	s, err := q.status(ctx, node)
	return int(s.Leader), err
}

// Pids is the one process of a node.
func (q *Quorate) Pids(node int) []int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := q.daemons[node]; p != nil {
		return []int{p.pid()}
	}
	return nil
}

// Close ends the daemons and removes the files.
func (q *Quorate) Close() error {
	var errs []error
	q.mu.Lock()
	nodes := make([]int, 0, len(q.daemons))
	for n := range q.daemons {
		nodes = append(nodes, n)
	}
	q.mu.Unlock()
	slices.Sort(nodes)
	for _, n := range nodes {
		errs = append(errs, q.take(n).kill())
	}
	q.work.Wait()
	return errors.Join(append(errs, os.RemoveAll(q.dir))...)
}
