package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/configfs"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/comm/tcp"
	"github.com/quorate/quorate/membership/group/raft"
	"github.com/quorate/quorate/membership/links"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/udp"
	"github.com/quorate/quorate/membership/secret"
	"github.com/quorate/quorate/membership/witness"
)

// ErrBroken says that the daemon stopped because it could not go on safely.
var ErrBroken = errors.New("quorated stopped because it could not go on safely")

// Options are what main found out.
type Options struct {
	Config config.Config // bound to this node
	Socket string        // control socket
	Log    *slog.Logger
	// Fencer cuts nodes off; main chooses it from the configuration.
	Fencer membership.Fencer
	// Ready is called once when requests are served and it is known that the log is kept, or
	// 5 s later (systemd's notify): mounts that are ordered after it wait for the DLM then.
	Ready func()
	// Term asks for a clean leave; refused while lockspaces are in use.
	Term <-chan os.Signal
	// Break is a safety rule to leave out (node.Options.Break); empty in every
	// build that is not made to show that tests notice.
	Break string

	// fake is of tests: their kernel in the place of the real one. The process
	// stays an ordinary one then.
	fake func(dlm.Options) dlm.Options
	// pins, of tests, is below which the kernel's program is pinned; empty with a fake
	// kernel: there is none.
	pins string
}

// Daemon is the edge of one node.
type Daemon struct {
	opt    Options
	cfg    config.Config
	log    *slog.Logger
	id     node.Identity
	node   *node.Node
	fault  func() error                  // of the group: why it cannot go on
	vetted func() bool                   // of the group: it has no log that it may have to give up
	store  *raft.Store                   // nil: a group without a log
	shown  atomic.Pointer[config.Config] // cfg, for those outside the loop
	group  membership.Group
	comm   *tcp.Comm
	prober *udp.Prober
	weak   atomic.Pointer[string] // why its threads have no real-time priority; nil: they have
	carry  *links.Machine         // which links carry; the loop's own
	stable *stableAddress         // nil: the DLM uses the first addresses
	// reflector answers the peers' probes in the kernel.
	reflector reflector
	keys      *keyring
	// witness keeps the connection to the cluster's witness, if there is one.
	witness *witness.Client
	kernel  kernel
	events  *eventLog
	fencer  membership.Fencer
	// members watches the list of members; nil: there is none.
	members *memberList
	socket  net.Listener // the control socket, until it is served

	inputs chan node.Input
	asks   chan func()
	silent chan struct{} // a peer's deadline has passed
	done   chan struct{} // closed when the loop has ended
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // agents and other slow effects
	runCtx context.Context

	stopAsk context.CancelFunc            // of the device that is asked; nil: none is
	tests   map[uint64]context.CancelFunc // `quorate fence test`, by token
	noDisk  bool                          // a record could not be written: none is any more
	ask     uint64                        // last operator token
	wallAt  membership.Mono               // when the wall clock was last read, and told to the machine
	wall    time.Time                     // what it said
	replies map[uint64]chan node.Reply
	cancels map[membership.FenceJob]context.CancelFunc // of the jobs that run
	exit    *node.Exit
}

const inputQueue = 4096

// Run is the daemon from start to end. It returns nil after a clean leave. A
// log that is damaged, cut short, a copy, older than what peers saw of it, or whose
// raft id was replaced is given up: the node joins anew under another id (S1, S2).
func Run(ctx context.Context, opt Options) error {
	if opt.Break != "" && !slices.Contains(node.Rules, opt.Break) {
		return fmt.Errorf("this build of quorated leaves out no rule: there is no %q, say one of %q", opt.Break, node.Rules)
	}
	if opt.Ready != nil {
		opt.Ready = sync.OnceFunc(opt.Ready)
	}
	for try := 1; ; try++ {
		err := runOnce(ctx, opt)
		if !raft.GivenUp(err) || try == maxAnew {
			return err
		}
		opt.Log.Error("the log is given up; joining anew under another raft id", "err", err)
		if rerr := setAside(logDir(opt.Config)); rerr != nil {
			return errors.Join(err, rerr)
		}
	}
}

const maxAnew = 3

func logDir(cfg config.Config) string { return filepath.Join(cfg.StateDir, "raft") }

func runOnce(ctx context.Context, opt Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &Daemon{opt: opt, cfg: opt.Config, log: opt.Log, fencer: opt.Fencer, cancel: cancel, runCtx: ctx,
		inputs: make(chan node.Input, inputQueue), asks: make(chan func(), 16), silent: make(chan struct{}, 1), done: make(chan struct{}), replies: map[uint64]chan node.Reply{}, cancels: map[membership.FenceJob]context.CancelFunc{}, tests: map[uint64]context.CancelFunc{}}
	if err := d.open(); err != nil {
		d.closeAll(true)
		return err
	}
	err := d.serve(ctx)
	if raft.GivenUp(err) {
		d.release()
	}
	d.closeAll(d.exit != nil && d.exit.Clean)
	if d.exit != nil && d.exit.Clean {
		return nil
	}
	return err
}

// release gives the kernel back to who starts anew: a mount that waits to join is
// refused, and comes again. Nothing else can be there, unless the node was a member.
func (d *Daemon) release() {
	if err := d.kernel.Release(syscall.EAGAIN); err != nil {
		d.log.Error("the kernel keeps its lockspaces: this node has to be rebooted", "err", err)
	}
}

// open opens everything, the kernel last: nothing may answer a mount before
// the rest is there, and nothing may touch a kernel that another daemon drives.
func (d *Daemon) open() (err error) {
	if d.events, err = newEventLog(d.log, d.cfg.EventsTo); err != nil {
		return fmt.Errorf("[events] send_to = %q: %w", d.cfg.EventsTo, err)
	}
	d.log = d.events.logger()
	restored, conf, err := d.openStore()
	if err != nil {
		return err
	}
	if d.id, err = identify(d.cfg); err != nil {
		return err
	}
	key, err := secret.Load(d.cfg.KeyFile)
	if err != nil {
		return err
	}
	now := boottime()
	opt := node.Options{Config: d.cfg.Config, Conf: conf, Identity: d.id, ProbePort: d.cfg.ProbePort, Docs: config.DocDir, Break: d.opt.Break}
	if opt.Break != "" {
		d.log.Error(Planted(opt.Break))
		d.note(membership.KindDegraded, "", Planted(opt.Break))
	}
	if d.cfg.Group == config.GroupStatic {
		err = d.openStatic(&opt)
	} else {
		err = d.openRaft(&opt, restored)
	}
	if err != nil {
		return err
	}
	d.group = opt.Group
	d.openReflector()
	opt.Identity = d.id
	keys, err := key.ProbeKeys()
	if err != nil {
		return err
	}
	if err := d.openNetwork(key, keys); err != nil {
		return err
	}
	if opt.Keys, err = d.openKeys(key); err != nil {
		return err
	}
	if conf != nil {
		d.comm.SetVersion(conf.Version)
	}
	d.openWitness()
	if d.socket, err = control.Listen(d.opt.Socket); err != nil {
		return err
	}
	d.startReflector(keys)
	if opt.Recovers, err = d.openKernel(); err != nil {
		return err
	}
	var effs []node.Effect
	d.node, effs = node.New(now, opt)
	d.setWall(now)
	return d.execute(now, effs)
}

// Planted says that a program without a safety rule must not be used.
func Planted(rule string) string {
	return "THIS BUILD OF QUORATED LEAVES OUT A SAFETY RULE (" + rule + ") AND DESTROYS DATA: it is for tests; install another"
}

// openStore opens the log, of a group that has one, and finds the configuration that
// was agreed on.
func (d *Daemon) openStore() (restored raft.Restored, conf *node.Replicated, err error) {
	d.workBy(d.cfg, nil)
	if d.cfg.Group == config.GroupStatic {
		return restored, nil, nil
	}
	dir := logDir(d.cfg)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return restored, nil, fmt.Errorf("state directory: %w", err)
	}
	if d.store, restored, err = raft.Open(dir); err != nil {
		return restored, nil, err
	}
	conf, err = d.begin(restored.Identity.ClusterID)
	return restored, conf, err
}

// clusterID is that of the group, once it is formed.
func (d *Daemon) clusterID() string { return d.group.Status().ClusterID }

// openRaft makes the group of a log. A log that has to start anew gets a fresh raft id.
func (d *Daemon) openRaft(opt *node.Options, restored raft.Restored) error {
	was, err := wasFormed(d.cfg)
	if err != nil {
		return err
	}
	if restored.Identity.ClusterID != "" {
		d.noteFormed()
	}
	m, effs, err := raft.New(raft.Config{Self: d.cfg.Self, Nodes: d.cfg.IDs(), ConfigHash: sha256.Sum256([]byte(d.cfg.Digest.Total)), Name: func(id membership.NodeID) string { return d.cfg.Name(id) },
		NewID: random64(), NewClusterID: fmt.Sprintf("%016x%016x", random64(), random64()), Seed: random64(),
		Heartbeat: node.Heartbeat(d.cfg.Timing),
		// The detector drives elections; raft's own timer is for what it cannot see.
		Backstop: node.Backstop(d.cfg.Timing), Careless: d.opt.Break == node.Careless, Lost: was && restored.Identity.ClusterID == ""}, restored)
	if err != nil {
		return err
	}
	d.fault, d.vetted = m.Fault, m.Vetted
	opt.Group, opt.Boot = m, effs
	return nil
}

func (d *Daemon) openNetwork(key secret.Secret, keys []probe.Key) (err error) {
	d.comm, err = tcp.New(tcp.Options{Self: d.cfg.Self, Cluster: d.cfg.Cluster, Nodes: d.cfg.Nodes, Secret: key, Handler: handler{d},
		Instance: d.id.Instance, ConfigHash: sha256.Sum256([]byte(d.cfg.Digest.Total)), Port: int(d.cfg.Port), Logger: d.log, Refused: d.refused})
	if err != nil {
		return err
	}
	d.carry = links.New(d.cfg.Timing)
	d.prober, err = udp.New(udp.Options{Self: d.cfg.Self, Nodes: d.cfg.Nodes, Interval: d.cfg.Timing.Interval, Keys: keys,
		Instance: d.id.Instance, Epoch: d.id.Epoch, Port: int(d.cfg.ProbePort), LockMemory: d.opt.fake == nil, Arrivals: d.arrivals(), Logger: d.log})
	return err
}

func (d *Daemon) refused(addr netip.AddrPort, err error) {
	d.post(node.Seen{Event: membership.Event{Kind: membership.KindRefused, Text: fmt.Sprintf("connection from %v: %v", addr, err)}})
	var op *tcp.OpError
	var r *tcp.RefusedError
	if !errors.As(err, &op) || !errors.As(err, &r) {
		return
	}
	peer := op.Peer
	if peer == 0 {
		peer = nodeAt(d.cfgNow().Nodes, addr.Addr())
	}
	d.post(met(peer, r))
}

// met is what the machine is told of a refusal.
func met(peer membership.NodeID, r *tcp.RefusedError) node.Refused {
	in := node.Refused{Peer: peer}
	if r.Remote && errors.Is(r, tcp.ErrRemoved) {
		in.Removed = true
		in.Why = "this node was removed from the cluster, or is not added yet: the configuration that was agreed on has not got it (" + r.Text + ")"
		in.Do = "on a member: quorate node add NAME --addr ADDR brings it back (first move its log away here: " + filepath.Join(config.DocDir, "operating.md") + "); if it shall not come back, here: systemctl disable --now quorated"
		return in
	}
	in.Why, in.Do, _ = strings.Cut(r.Reason.Error(), ": ")
	if r.Text != "" && !errors.Is(r, tcp.ErrKey) {
		in.Why += " (" + r.Text + ")"
	}
	return in
}

// nodeAt is the node that has an address; 0: none has.
func nodeAt(nodes []membership.Node, a netip.Addr) membership.NodeID {
	for _, n := range nodes {
		if slices.ContainsFunc(n.Addrs, func(x netip.Addr) bool { return x.Unmap().WithZone("") == a.Unmap().WithZone("") }) {
			return n.ID
		}
	}
	return 0
}

// openKernel says, too, whether this kernel can be told of a leave whose journal is
// to be replayed.
func (d *Daemon) openKernel() (recovers bool, err error) {
	if d.cfg.NoKernel {
		d.kernel, err = openNone(sysDLM, func(in lockspace.Input) { d.async(func() { d.kernelSays(in) }) })
		return true, err
	}
	if err := d.openStable(); err != nil {
		return false, err
	}
	opt := dlm.Options{Cluster: d.cfg.Cluster, Self: d.cfg.Self, Addrs: dlmAddrs(d.cfg), Links: linkAddrs(d.cfg), Port: d.cfg.DLMPort, Log: d.log, Events: d.kernelEvent}
	if d.opt.fake != nil {
		opt = d.opt.fake(opt)
	}
	driver, err := dlm.Open(opt)
	if err != nil {
		return false, err
	}
	d.kernel = driver
	return driver.Features().ReleaseRecover == configfs.Yes, nil
}

// handler takes what the Comm reports.
type handler struct{ d *Daemon }

func (h handler) Connected(p membership.NodeID) { h.d.post(node.Connected{Peer: p}) }
func (h handler) Message(p membership.NodeID, data []byte) {
	if line, ok := node.HandedKey(data); ok {
		h.d.handed(line)
		return
	}
	h.d.post(node.Received{From: p, Data: data})
}
func (h handler) Disconnected(p membership.NodeID, err error) {
	h.d.post(node.Disconnected{Peer: p, Err: text(err)})
}

// post hands an input to the loop; it blocks while the loop is behind, and
// gives up when the loop has ended.
func (d *Daemon) post(in node.Input) {
	select {
	case d.inputs <- in:
	case <-d.done:
	}
}

// async runs something slow; it is joined before the daemon ends.
func (d *Daemon) async(f func()) {
	d.work.Add(1)
	go func() {
		defer d.work.Done()
		f()
	}()
}

// fail ends the daemon, unsafely: the lockspaces are stopped first.
func (d *Daemon) fail(err error) { d.cancel(fmt.Errorf("%w: %w", ErrBroken, err)) }

func (d *Daemon) serve(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	if d.opt.fake == nil {
		if err := goRealtime(); err != nil {
			d.weaken(err)
		} else {
			g.Go(func() error { return d.keepRealtime(gctx) })
		}
	}
	g.Go(func() error { return d.comm.Run(gctx) })
	g.Go(func() error { return d.witness.Run(gctx) })
	g.Go(func() error { return d.prober.Run(gctx) })
	g.Go(func() error { return d.runReflector(gctx) })
	g.Go(func() error { return d.watchSilences(gctx) })
	g.Go(func() error { return d.watchPaths(gctx) })
	g.Go(func() error { return d.watchHints(gctx) })
	g.Go(func() error { return d.watchFitness(gctx) })
	g.Go(func() error { return d.keepStable(gctx) })
	g.Go(func() error { return d.keys.run(gctx) })
	g.Go(func() error { return control.Serve(gctx, d.socket, d) })
	g.Go(func() error {
		defer close(d.done)
		return d.loop(gctx)
	})
	g.Go(func() error { return d.signals(gctx) })
	if d.members != nil {
		g.Go(func() error { return d.members.watch(gctx, d.cfg.ReadMembers, d.post) })
	}
	err := g.Wait()
	d.work.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// signals leaves cleanly when asked to, and never by force: a node that holds
// lockspaces stays.
func (d *Daemon) signals(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-d.opt.Term:
			if why := d.Leave(ctx); why != "" && ctx.Err() == nil {
				d.log.Error("not leaving", "signal", s.String(), "why", why)
			}
		}
	}
}

// closeAll ends what is open. Unless the end is clean every lockspace is
// stopped before dlm-monitor is closed.
func (d *Daemon) closeAll(clean bool) {
	if d.socket != nil {
		_ = d.socket.Close() // by Serve already, if there was anything to serve
	}
	if d.kernel != nil {
		if !clean {
			if err := d.kernel.Halt("quorated ends"); err != nil {
				d.log.Error("not every lockspace could be stopped; closing dlm-monitor stops the rest", "err", err)
			}
		}
		if err := d.kernel.Close(); err != nil {
			d.log.Warn("the kernel's DLM was not left clean", "err", err)
		}
	}
	d.endReflector(d.exit != nil && d.exit.Clean)
	d.closeStable()
	if c, ok := d.fencer.(io.Closer); ok {
		if err := c.Close(); err != nil {
			d.log.Warn("agents that waited to be needed", "err", err)
		}
	}
	if d.store != nil {
		if err := d.store.Close(); err != nil {
			d.log.Warn("close the log", "err", err)
		}
	}
	if d.events != nil {
		d.events.close()
	}
}

// selfFence ends this machine at once: no sync, no shutdown, nothing more is written.
func selfFence(log *slog.Logger, why string) {
	said := make(chan struct{})
	go func() { // a log that stands still must not keep it
		log.Error("this machine ends itself now", "why", why)
		close(said)
	}()
	select {
	case <-said:
	case <-time.After(100 * time.Millisecond):
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		_ = os.WriteFile("/proc/sysrq-trigger", []byte("b"), 0)
		log.Error("neither reboot nor sysrq ended this machine", "err", err)
	}
}
