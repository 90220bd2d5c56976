package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/lab"
)

// Options are what a cluster is made of.
type Options struct {
	Nodes   int    // 0: 3
	Profile string // "": lan
	Agent   string // lab, redfish or manual; "": lab
	// Grace is join_grace; 0: 10 s, in which a node of the lab has booted.
	Grace time.Duration
	// DeadAfter is another dead_after than the profile's; 0: the profile's.
	DeadAfter time.Duration
	// FenceTimeout is the fence devices' timeout with the agent lab; 0: 20 s.
	FenceTimeout time.Duration
	// Fences are the [[fence]] sections as they stand in the file, in the place of
	// those of Agent.
	Fences string
	// Files are more files of the nodes, as lab.Config has them.
	Files map[string]string
	// Quorum are the lines of the section [quorum].
	Quorum string
	// Bug is a safety rule that the daemon leaves out: skip-fence, skip-stop or
	// skip-quorum. It is built for that (see cmd/quorated/planted.go).
	Bug string
	// List has the nodes work by a list of members with these names (group = "static").
	List []string
	// Links is how many cluster links the nodes have; 0: one. With Stable the DLM has an
	// address that is on none of them.
	Links  int
	Stable bool
	// Reflector is where the kernels answer probes; "": as the daemons have it by default.
	Reflector string
	// Absent is how many nodes are configured besides that have no machine:
	// absent1, absent2 …
	Absent int
	// Spare is how many of the nodes, the last ones, boot and are not configured at first.
	Spare int
	// Systemd has nodes with systemd as their process 1, which keep their root, with
	// quorate put there by `make install`.
	Systemd bool
	// OwnKeys has each node keep its key file with its state, where it may change.
	OwnKeys bool
	// Password is given to the fence agents with agent lab, which do not need it; it is
	// of stories that look for it. Empty: none.
	Password string
	// Patient stretches the times that are set here on a machine that is slower than
	// they are meant for. See Stretch.
	Patient bool
	Log     io.Writer
	Mem     int // MiB a node
	// Kernels are the nodes' kernels, as lab.Config has them.
	Kernels []string
}

// Cluster is a set of nodes with quorated on them.
type Cluster struct {
	Lab    *lab.Lab
	Events *Events
	opt    Options
	tmp    string
	// quorate is the host's copy of the operator's tool.
	quorate string
	files   map[string]string // guest path -> host file
	only    []int             // nodes in the configuration file; nil: all
	pace    float64           // see Stretch; 0: not known yet
	// witness: one was added, and votes.
	witness bool
}

// New makes the lab and builds the daemon; no node runs yet.
func New(ctx context.Context, opt Options) (_ *Cluster, err error) {
	opt.Profile, opt.Agent = cmp.Or(opt.Profile, "lan"), cmp.Or(opt.Agent, "lab")
	if opt.Nodes == 0 {
		opt.Nodes = 3
	}
	if opt.FenceTimeout == 0 {
		opt.FenceTimeout = 20 * time.Second
	}
	if opt.Log == nil {
		opt.Log = io.Discard
	}
	c := &Cluster{opt: opt}
	for i := range opt.Nodes - opt.Spare {
		if opt.Spare > 0 {
			c.only = append(c.only, i+1)
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.tmp, err = os.MkdirTemp("", "quorate-cluster-"); err != nil {
		return nil, err
	}
	if err = c.build(ctx); err != nil {
		return nil, err
	}
	for guest, host := range opt.Files {
		if c.files == nil {
			c.files = map[string]string{}
		}
		c.files[guest] = host
	}
	if c.Lab, err = lab.New(ctx, lab.Config{Nodes: opt.Nodes, Links: opt.Links, Systemd: opt.Systemd, Mem: opt.Mem, Kernels: opt.Kernels, Files: c.files, Log: opt.Log}); err != nil {
		return nil, err
	}
	c.Events = collect(c.Lab)
	return c, nil
}

// build makes the programs and the key.
func (c *Cluster) build(ctx context.Context) (err error) {
	c.quorate = filepath.Join(c.tmp, "quorate")
	if c.opt.Systemd {
		c.quorate = filepath.Join(c.staged(), binDir, "quorate")
		err = stage(ctx, c.staged())
	} else {
		c.files, err = programs(ctx, c.tmp, c.opt.Bug)
	}
	if err != nil {
		return err
	}
	key := filepath.Join(c.tmp, "secret")
	if b, err := exec.CommandContext(ctx, c.quorate, "keygen", "-f", key).CombinedOutput(); err != nil {
		return fmt.Errorf("quorate keygen: %w: %s", err, bytes.TrimSpace(b))
	}
	return nil
}

// programs makes the static programs in dir.
func programs(ctx context.Context, dir, bug string) (map[string]string, error) {
	files := map[string]string{}
	for _, p := range []string{"quorated", "quorate"} {
		out := filepath.Join(dir, p)
		args := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", out}
		if bug != "" && p == "quorated" {
			args = []string{"build", "-trimpath", "-tags=planted", "-ldflags=-s -w -X main.plantedBug=" + bug, "-o", out}
		}
		cmd := exec.CommandContext(ctx, "go", append(args, "github.com/quorate/quorate/cmd/"+p)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if b, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w: %s", p, err, bytes.TrimSpace(b))
		}
		files[binDir+"/"+p] = out
	}
	return files, nil
}

// Close ends everything and leaves nothing behind.
func (c *Cluster) Close() error {
	var errs []error
	if c.Events != nil {
		c.Events.close()
	}
	if c.Lab != nil {
		errs = append(errs, c.Lab.Close())
	}
	if c.tmp != "" {
		errs = append(errs, os.RemoveAll(c.tmp))
	}
	return errors.Join(errs...)
}

// Nodes are the numbers of all nodes.
func (c *Cluster) Nodes() []int {
	var out []int
	for _, n := range c.Lab.Nodes() {
		out = append(out, n.ID())
	}
	return out
}

// Up boots all nodes, starts quorated on each that is configured and waits until these are members.
func (c *Cluster) Up(ctx context.Context) error {
	if err := c.Boot(ctx); err != nil {
		return err
	}
	return c.Start(ctx)
}

// Boot boots all nodes; quorated does not run yet.
func (c *Cluster) Boot(ctx context.Context) error {
	if err := c.Lab.Up(ctx); err != nil {
		return err
	}
	c.setPace()
	return nil
}

// Start starts quorated on each node that is configured and waits until these are members.
func (c *Cluster) Start(ctx context.Context) error {
	var nodes []int
	for _, n := range c.configured() {
		nodes = append(nodes, n.ID())
	}
	if err := c.Each(ctx, nodes, c.StartDaemon); err != nil {
		return err
	}
	return c.WaitMembers(ctx, nodes, nodes)
}

// Each does something on several nodes at once.
func (c *Cluster) Each(ctx context.Context, nodes []int, f func(context.Context, int) error) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, i := range nodes {
		g.Go(func() error {
			if err := f(gctx, i); err != nil {
				return fmt.Errorf("node%d: %w", i, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Install puts key and configuration on a node.
func (c *Cluster) Install(ctx context.Context, i int) error {
	n := c.Lab.Node(i)
	if _, err := n.Run(ctx, "mkdir -p "+configDir+" "+filepath.Dir(LogFile)+" "+MountAt); err != nil {
		return err
	}
	if err := n.Put(ctx, filepath.Join(c.tmp, "secret"), configDir+"/quorate.key", 0o600); err != nil {
		return err
	}
	if c.opt.OwnKeys {
		if _, err := n.Run(ctx, "[ -e "+OwnKey+" ] || { cp -p "+configDir+"/quorate.key "+OwnKey+" && sync; }"); err != nil {
			return err
		}
	}
	if c.opt.List != nil {
		if err := c.WriteList(ctx, i, c.opt.List...); err != nil {
			return err
		}
	}
	return n.PutReader(ctx, strings.NewReader(c.tomlFile()), configDir+"/quorate.toml", 0o644)
}

// UseProfile is the liveness profile of the daemons that are started from now on.
func (c *Cluster) UseProfile(profile string) { c.opt.Profile = profile }

// UseNodes leaves these nodes alone in the configuration that daemons are started
// with from now on.
func (c *Cluster) UseNodes(nodes ...int) { c.only = nodes }

// WriteList gives a node another list of members.
func (c *Cluster) WriteList(ctx context.Context, i int, names ...string) error {
	n := c.Lab.Node(i)
	if err := n.PutReader(ctx, strings.NewReader(strings.Join(names, "\n")+"\n"), MembersFile+".new", 0o644); err != nil {
		return err
	}
	_, err := n.Run(ctx, "mv "+MembersFile+".new "+MembersFile)
	return err
}

// StartDaemon installs key and configuration and starts quorated.
func (c *Cluster) StartDaemon(ctx context.Context, i int) error {
	if c.opt.Systemd {
		return c.enable(ctx, i)
	}
	if err := c.Install(ctx, i); err != nil {
		return err
	}
	_, err := c.Lab.Node(i).Daemon(ctx, LogFile, binDir+"/quorated")
	return err
}

// BootAgain powers a node on, with its state, and starts quorated.
func (c *Cluster) BootAgain(ctx context.Context, i int) error {
	n := c.Lab.Node(i)
	if err := n.WaitGone(ctx); err != nil {
		return err
	}
	if !n.Powered() {
		if err := n.Boot(ctx); err != nil {
			return err
		}
	}
	return c.StartDaemon(ctx, i)
}

// Kill is the sudden death of a node, by the host's clock.
func (c *Cluster) Kill(ctx context.Context, i int) (time.Time, error) { return c.Lab.Node(i).Kill(ctx) }

// Status asks a node's daemon.
func (c *Cluster) Status(ctx context.Context, i int) (control.Status, error) {
	r, err := c.ask(ctx, i, "status")
	if err == nil && r.Status == nil {
		err = fmt.Errorf("node%d: %s", i, r.Error)
	}
	if err != nil {
		return control.Status{}, err
	}
	return *r.Status, nil
}

// Links asks a node's daemon for its ways to the others.
func (c *Cluster) Links(ctx context.Context, i int) (control.LinksReport, error) {
	r, err := c.ask(ctx, i, "links")
	if err == nil && r.Links == nil {
		err = fmt.Errorf("node%d: %s", i, r.Error)
	}
	if err != nil {
		return control.LinksReport{}, err
	}
	return *r.Links, nil
}

// ask asks a node's daemon, without starting a program for it: in UML that would stall
// the node for a tenth of a second.
func (c *Cluster) ask(ctx context.Context, i int, command string) (r control.Response, err error) {
	b, err := c.Lab.Node(i).Ask(ctx, control.DefaultSocket, fmt.Sprintf("{\"command\":%q}\n", command))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("node%d: %w: %.100q", i, err, b)
	}
	return r, nil
}

// Until asks again and again until f is content; the last reason is the error's.
func Until(ctx context.Context, every time.Duration, f func() error) error {
	t := time.NewTicker(every)
	defer t.Stop()
	var last error
	for {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		}
	}
}

// Sleep waits, unless the context ends before: then it says why.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// WaitMembers waits until each of the nodes asked sees exactly these members.
func (c *Cluster) WaitMembers(ctx context.Context, ask, members []int) error {
	return c.waitStatus(ctx, ask, func(s control.Status) error {
		if got := memberIDs(s); !slices.Equal(got, members) || !s.Member {
			return fmt.Errorf("members are %v, not %v: %s", got, members, Waits(s))
		}
		return nil
	})
}

// waitStatus waits until f is content with the status of each of the nodes asked.
func (c *Cluster) waitStatus(ctx context.Context, ask []int, f func(control.Status) error) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	return c.Each(ctx, ask, func(ctx context.Context, i int) error {
		return Until(ctx, 100*time.Millisecond, func() error {
			s, err := c.Status(ctx, i)
			if err != nil {
				return err
			}
			return f(s)
		})
	})
}

func memberIDs(s control.Status) []int {
	var out []int
	for _, n := range s.Nodes {
		if n.State == "member" || n.State == "suspect" {
			out = append(out, int(n.ID))
		}
	}
	return out
}

// Waits are what a node says it waits for, and its warnings.
func Waits(s control.Status) string {
	var out []string
	for _, w := range s.Waits {
		out = append(out, w.Reason)
	}
	for _, l := range s.Lockspaces {
		for _, w := range l.Waits {
			out = append(out, w.What+": "+w.Reason)
		}
	}
	return strings.Join(append(out, s.Warnings...), "; ")
}

// WaitLockspace waits until a node says that the lockspace runs with these members.
func (c *Cluster) WaitLockspace(ctx context.Context, ask, members []int) error {
	return c.waitStatus(ctx, ask, func(s control.Status) error {
		for _, l := range s.Lockspaces {
			if l.Name == Table && l.State == "running" && l.Local == "running" && slices.Equal(ints(l.Members), members) {
				return nil
			}
		}
		return fmt.Errorf("lockspace %s is not running with %v: %s", Table, members, Waits(s))
	})
}

// WaitDone waits until each of the nodes has told that it runs the lockspace with exactly these,
// all of them. Unlike WaitLockspace it asks nobody meanwhile.
func (c *Cluster) WaitDone(ctx context.Context, nodes []int, since time.Time) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 60*time.Second, fmt.Errorf("not all of %v told within a minute that the lockspace runs", nodes))
	defer cancel()
	return c.waitAll(ctx, nodes, since, func(e Event) bool {
		return e.Kind == membership.KindDone && e.Lockspace == Table && slices.Equal(Numbers(e.Text), nodes)
	})
}

func ints(ids []membership.NodeID) []int {
	out := make([]int, len(ids))
	for i, id := range ids {
		out[i] = int(id)
	}
	return out
}

// Leader is the node that a node's daemon takes for the leader.
func (c *Cluster) Leader(ctx context.Context, ask int) (int, error) {
	s, err := c.Status(ctx, ask)
	return int(s.Leader), err
}

// Mkfs makes the file system with a journal for each node.
func (c *Cluster) Mkfs(ctx context.Context, on int) error {
	_, err := c.Lab.Node(on).Run(ctx, fmt.Sprintf("mkfs.gfs2 -O -q -p lock_dlm -t %s:%s -j %d -J 8 %s", Name, Table, c.opt.Nodes, Disk))
	return err
}

// Mount mounts it, with as few programs as that takes: each one's start stops a node of
// User-Mode Linux for a while.
func (c *Cluster) Mount(ctx context.Context, i int) error {
	_, err := c.Lab.Node(i).Run(ctx, fmt.Sprintf("[ -d %[1]s ] || mkdir -p %[1]s && exec mount -t gfs2 %[2]s %[1]s", MountAt, Disk))
	return err
}

// MountInside mounts it without a program in the node at all, where times are measured that
// the start of mount(8) would be in the way of.
func (c *Cluster) MountInside(ctx context.Context, i int) error {
	p, err := c.Lab.Node(i).Start(ctx, lab.Cmd{Args: []string{"mount", "gfs2", Disk, MountAt}, Inside: true})
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}

// Unmount unmounts it.
func (c *Cluster) Unmount(ctx context.Context, i int) error {
	_, err := c.Lab.Node(i).Run(ctx, "umount "+MountAt)
	return err
}

// Log is the end of a node's daemon's log.
func (c *Cluster) Log(ctx context.Context, i, lines int) string {
	read := fmt.Sprintf("tail -n %d %s", lines, LogFile)
	if c.opt.Systemd {
		read = fmt.Sprintf("journalctl --no-pager -o short-monotonic -n %d", lines)
	}
	r, err := c.Lab.Node(i).Exec(ctx, read)
	if err != nil {
		return err.Error()
	}
	return r.Stdout
}
