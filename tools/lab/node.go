package lab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/tools/lab/internal/wire"
)

// Errors of nodes.
var (
	ErrDown    = errors.New("node is not up")
	ErrRunning = errors.New("node runs already")
	ErrClosed  = errors.New("lab is closed")
)

// helloAddr is where nodes that came up report.
var helloAddr = fmt.Sprintf("10.78.0.1:%d", wire.HelloPort)

// Node is one virtual machine: all its processes are in one cgroup.
type Node struct {
	lab     *Lab
	id      int
	cg      cgroup
	console *os.File

	mu      sync.Mutex
	back    backend       // of the running life and the next
	run     *boot         // nil: powered off
	started chan struct{} // closed and replaced when a life begins
	gone    chan struct{}
	hurry   func() // takes a dead life's processes away now
	unplug  func() // a node that is about to start again by itself does not
	deaths  []*Death
	frozen  bool
	closed  bool
}

// boot is one life of a node, from power on to death.
type boot struct {
	nonce string
	begin time.Time
	took  time.Duration   // until it was up; 0: it is not yet
	ready chan struct{}   // closed when the node has said hello
	ctx   context.Context // ends with the life; the cause says how
	end   context.CancelCauseFunc

	up wire.Hello // of Node.mu
}

// Death is the end of one life of a node. The times are the host's.
type Death struct {
	BootID   string    // of the life that ended, "" when it never came up
	Asked    time.Time // just before the freeze was ordered
	Frozen   time.Time // every process stands still: nothing is written after this
	AtFreeze Writes    // what its processes had written when frozen
	AtKill   Writes    // the same, right before they were killed: no difference
	Gone     time.Time // no process is left; zero while the killing goes on
	// Uncounted says why one of the two counts is none.
	Uncounted error
}

func newNode(l *Lab, id int, back backend) (*Node, error) {
	n := &Node{lab: l, id: id, back: back, gone: make(chan struct{}), started: make(chan struct{}), hurry: func() {}, unplug: func() {}}
	n.cg = cgroup{filepath.Join(l.cg.dir, n.Name())}
	close(n.gone)
	var err error
	if n.console, err = os.OpenFile(n.ConsoleLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		return nil, err
	}
	if err := sparse(n.StateDisk(), l.cfg.StateSize); err != nil {
		return nil, err
	}
	return n, command("", "mkfs.ext4", "-q", "-F", "-L", "state", "-E", "lazy_itable_init=0", n.StateDisk())
}

// ID is the node's number, from 1.
func (n *Node) ID() int { return n.id }

// Name is the node's host name.
func (n *Node) Name() string { return fmt.Sprintf("node%d", n.id) }

// Kernel is the name of the node's kernel, such as uml-6.1.
func (n *Node) Kernel() string { return n.kernel().Name }

// KernelVersion is the release of the node's kernel.
func (n *Node) KernelVersion() string { return n.kernel().Release }

func (n *Node) kernel() *Kernel {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.back.kernel()
}

// SetKernel chooses the kernel of the node's next lives, among those that the lab
// was made with. The node must be off. Its disks stay what they are.
func (n *Node) SetKernel(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run != nil {
		return fmt.Errorf("kernel of %s: %w", n.Name(), ErrRunning)
	}
	for _, b := range n.lab.backs {
		if b.kernel().Name == name {
			n.back = b
			return nil
		}
	}
	return fmt.Errorf("kernel of %s: no node of this lab was made with %q", n.Name(), name)
}

// Addr is the node's address on the first cluster link.
func (n *Node) Addr() string { return n.LinkAddr(0) }

// LinkAddr is the node's address on a cluster link, from 0.
func (n *Node) LinkAddr(link int) string { return fmt.Sprintf("10.77.%d.%d", link, 10+n.id) }

// MgmtAddr is the node's address on the management network.
func (n *Node) MgmtAddr() string { return fmt.Sprintf("10.78.0.%d", 10+n.id) }

// ConsoleLog is the host file with the node's console, all boots after another.
func (n *Node) ConsoleLog() string { return filepath.Join(n.lab.dir, n.Name()+".log") }

// StateDisk is the host file behind the node's own disk, /var/lib/quorate in it.
func (n *Node) StateDisk() string { return filepath.Join(n.lab.dir, n.Name()+".img") }

// BootTook is how long the node's present life took to come up; 0: it is not up.
func (n *Node) BootTook() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == nil {
		return 0
	}
	return n.run.took
}

// Powered says whether the node is on: booting, up or frozen.
func (n *Node) Powered() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.run != nil
}

// BootID is the kernel's boot id of the running life, "" when it is not up.
func (n *Node) BootID() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == nil {
		return ""
	}
	return n.run.up.BootID
}

// LastDeath tells how the last life ended that has ended.
func (n *Node) LastDeath() (Death, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if d := n.lastDeath(); d != nil {
		return *d, true
	}
	return Death{}, false
}

// lastDeath is nil before the first one; n.mu is held.
func (n *Node) lastDeath() *Death {
	if len(n.deaths) == 0 {
		return nil
	}
	return n.deaths[len(n.deaths)-1]
}

// Deaths tells how all lives ended that have ended, the first one first.
func (n *Node) Deaths() []Death {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]Death, len(n.deaths))
	for i, d := range n.deaths {
		out[i] = *d
	}
	return out
}

// Boot powers the node on and returns when it is ready for Exec. A node that
// fails to boot is off again; the error has the end of its console.
func (n *Node) Boot(ctx context.Context) error {
	b, err := n.powerOn(ctx)
	if err != nil {
		return fmt.Errorf("boot %s: %w", n.Name(), err)
	}
	limit := time.NewTimer(n.lab.cfg.BootLimit)
	defer limit.Stop()
	select {
	case <-b.ready:
		return nil
	case <-b.ctx.Done():
		err = context.Cause(b.ctx)
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-limit.C:
		err = fmt.Errorf("not ready after %v", n.lab.cfg.BootLimit)
	}
	n.Kill(context.WithoutCancel(ctx))
	return fmt.Errorf("boot %s: %w; end of its console:\n%s", n.Name(), err, n.ConsoleTail(25))
}

// WaitUp waits until a node that a fence device powered on is ready for Exec.
func (n *Node) WaitUp(ctx context.Context) error {
	n.mu.Lock()
	b := n.run
	n.mu.Unlock()
	if b == nil {
		return fmt.Errorf("%s: %w", n.Name(), ErrDown)
	}
	select {
	case <-b.ready:
		return nil
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	case <-ctx.Done():
		return fmt.Errorf("%s is not up: %w", n.Name(), context.Cause(ctx))
	}
}

// powerOn starts a life once nothing of the last one is left.
func (n *Node) powerOn(ctx context.Context) (*boot, error) {
	for {
		n.mu.Lock()
		gone, running := n.gone, n.run != nil
		n.hurry()
		n.mu.Unlock()
		if running {
			return nil, ErrRunning
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if b, err := n.start(ctx, gone); b != nil || err != nil {
			return b, err
		}
	}
}

// start returns nothing when another life came and went since gone was read. Who
// cuts the node off ends ctx, and is not overtaken.
func (n *Node) start(ctx context.Context, gone chan struct{}) (*boot, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case n.closed:
		return nil, ErrClosed
	case n.run != nil:
		return nil, ErrRunning
	case n.gone != gone:
		return nil, nil
	}
	// A new cgroup for each life: on Linux 6.18 at least, what is cloned into a cgroup
	// that cgroup.kill was once written to is killed at birth.
	if _, err := newCgroup(n.cg.dir); err != nil {
		return nil, err
	}
	b := &boot{nonce: rand.Text(), begin: time.Now(), ready: make(chan struct{})}
	cmd := n.back.command(n, b.nonce)
	fmt.Fprintf(n.console, "\n--- %s%s%s ---\n", n.Name(), powerOnMark, time.Now().Format(time.RFC3339Nano))
	dir, err := os.Open(n.cg.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	if err := n.lab.ns.do(cmd.Start); err != nil {
		return nil, err
	}
	prefer(cmd.Process.Pid)
	b.ctx, b.end = context.WithCancelCause(context.Background())
	n.run, n.frozen, n.gone = b, false, make(chan struct{})
	close(n.started)
	n.started = make(chan struct{})
	n.lab.tasks.Go(func() { n.watch(b, cmd) })
	return b, nil
}

// watch notices a node that ends by itself: panic, reboot or poweroff in it.
func (n *Node) watch(b *boot, cmd *exec.Cmd) {
	_ = cmd.Wait() // its state says more
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n.mu.Lock()
	ours := n.run == b
	if ours {
		n.unplug = cancel
	}
	n.mu.Unlock()
	if !ours {
		return
	}
	why := ended(n.Name(), cmd.ProcessState.String(), n.ConsoleTail(60))
	n.lab.log.printf("%v", why)
	n.kill(context.WithoutCancel(ctx), b, why)
	if cmd.ProcessState.ExitCode() != wire.Rebooted { // else it is powered on again
		return
	}
	if _, err := n.powerOn(ctx); err != nil && !errors.Is(err, context.Canceled) {
		n.lab.log.printf("%s does not start again: %v", n.Name(), err)
	}
}

// Kill is sudden death. It returns the host's time just before the freeze was
// ordered, once every process of the node stands still and so nothing of it can
// reach a disk or a network any more. Taking the processes away goes on in the
// background. Killing a node that is off does nothing and returns the time of
// its last death.
func (n *Node) Kill(ctx context.Context) (time.Time, error) {
	n.mu.Lock()
	b := n.run
	n.unplug()
	n.mu.Unlock()
	return n.kill(ctx, b, fmt.Errorf("%s died: %w", n.Name(), ErrDown))
}

// kill ends a life, if it has not ended; why is what those hear who are connected.
func (n *Node) kill(ctx context.Context, b *boot, why error) (time.Time, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b == nil || n.run != b {
		if d := n.lastDeath(); d != nil {
			return d.Asked, nil
		}
		return time.Time{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	d := &Death{BootID: b.up.BootID, Asked: time.Now()}
	if err := n.cg.freeze(ctx); err != nil {
		return d.Asked, fmt.Errorf("kill %s: %w", n.Name(), err)
	}
	d.Frozen = time.Now()
	n.run, n.deaths = nil, append(n.deaths, d)
	b.end(why)
	gone, hurry := n.gone, make(chan struct{})
	n.hurry = sync.OnceFunc(func() { close(hurry) })
	n.lab.tasks.Go(func() { n.bury(d, gone, hurry) })
	return d.Asked, nil
}

// burial is when a dead node's processes are taken away at the latest.
const burial = 3 * time.Second

// bury takes the frozen processes away and completes the record of the death.
//
// It waits until somebody asks for it: giving the memory of a virtual machine back
// costs a processor some 100 ms, which the death of a real one costs nobody.
func (n *Node) bury(d *Death, gone, hurry chan struct{}) {
	first, err1 := n.cg.writes()
	select {
	case <-hurry:
		time.Sleep(20 * time.Millisecond) // in which a process that did not stand still would write
	case <-time.After(burial):
	}
	second, err2 := n.cg.writes()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := errors.Join(n.cg.kill(ctx), n.cg.remove())
	n.mu.Lock()
	d.AtFreeze, d.AtKill, d.Uncounted, d.Gone = first, second, errors.Join(err1, err2), time.Now()
	n.mu.Unlock()
	if err != nil { // the node stays frozen: it never boots again, and writes nothing
		n.lab.log.printf("%s: %v", n.Name(), err)
		return
	}
	close(gone)
}

// WaitGone waits until no process of the last life is left.
func (n *Node) WaitGone(ctx context.Context) error {
	n.mu.Lock()
	gone, b := n.gone, n.run
	n.hurry()
	n.mu.Unlock()
	if b != nil {
		return fmt.Errorf("%s: %w", n.Name(), ErrRunning)
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s is not gone: %w", n.Name(), context.Cause(ctx))
	}
}

// close is down for good.
func (n *Node) close(ctx context.Context) error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	return errors.Join(n.down(ctx), n.console.Close())
}

func (n *Node) down(ctx context.Context) error {
	if _, err := n.Kill(ctx); err != nil {
		return err
	}
	return n.WaitGone(ctx)
}

// Reboot kills the node and boots it with the same state disk.
func (n *Node) Reboot(ctx context.Context) error {
	if _, err := n.Kill(ctx); err != nil {
		return err
	}
	return n.Boot(ctx)
}

// Freeze stops the node without killing it: a hang. It returns the host's time
// just before the freeze was ordered, once every process stands still.
func (n *Node) Freeze(ctx context.Context) (time.Time, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == nil {
		return time.Time{}, fmt.Errorf("freeze %s: %w", n.Name(), ErrDown)
	}
	at := time.Now()
	n.frozen = true
	return at, n.cg.freeze(ctx)
}

// Thaw lets a frozen node go on.
func (n *Node) Thaw(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == nil {
		return fmt.Errorf("thaw %s: %w", n.Name(), ErrDown)
	}
	n.frozen = false
	return n.cg.thaw(ctx)
}

// Yield has the rest of a node's life take no processor time that another node
// wants. A kernel that has panicked spins: on a machine of its own that slows
// nobody down. One that is off takes none.
func (n *Node) Yield() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == nil {
		return nil
	}
	return n.cg.yield()
}

// State is one word for people: off, dying, booting, frozen or up.
func (n *Node) State() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.run == nil && n.cg.populated():
		return "dying"
	case n.run == nil:
		return "off"
	case n.frozen:
		return "frozen"
	case n.run.up.Node == 0:
		return "booting"
	}
	return "up"
}

// ConsoleTail returns the last lines of the console log.
func (n *Node) ConsoleTail(lines int) string {
	b, err := os.ReadFile(n.ConsoleLog())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// ended is the end of a virtual machine that nobody killed.
func ended(name, status, console string) error {
	return fmt.Errorf("%s's virtual machine ended: %s: %w%s", name, status, ErrDown, lastPanic(console))
}

// powerOnMark begins a life's part of the console.
const powerOnMark = ", power on at "

// lastPanic is what a console's end says of the kernel's death in its last life, if
// it does.
func lastPanic(console string) string {
	console = console[max(0, strings.LastIndex(console, powerOnMark)):]
	i := strings.LastIndex(console, "Kernel panic")
	if i < 0 {
		return ""
	}
	return "; its console:\n" + console[i:]
}

// hear takes the reports of nodes that came up.
func (l *Lab) hear() {
	for {
		c, err := l.hello.Accept()
		if err != nil {
			return
		}
		l.tasks.Go(func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			var h wire.Hello
			if json.NewDecoder(c).Decode(&h) == nil && h.Node >= 1 && h.Node <= len(l.nodes) {
				l.nodes[h.Node-1].heard(h)
			}
		})
	}
}

func (n *Node) heard(h wire.Hello) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == nil || n.run.nonce != h.Nonce || n.run.up.Node != 0 {
		return
	}
	n.run.up, n.run.took = h, time.Since(n.run.begin)
	close(n.run.ready)
	n.lab.log.printf("%s is up after %.1f s: Linux %s, boot %s", n.Name(), n.run.took.Seconds(), h.Kernel, h.BootID)
}

// WaitReboot waits until a node that reboots by itself (with Config.Systemd) has
// ended the boot with that id, and is ready for Exec in another one.
func (n *Node) WaitReboot(ctx context.Context, bootID string) error {
	for {
		n.mu.Lock()
		next, on := (<-chan struct{})(n.started), n.run != nil
		old := on && n.run.up.BootID == bootID
		if old {
			next = n.run.ctx.Done()
		}
		n.mu.Unlock()
		if on && !old {
			return n.WaitUp(ctx)
		}
		select {
		case <-next:
		case <-ctx.Done():
			return fmt.Errorf("%s has not rebooted: %w", n.Name(), context.Cause(ctx))
		}
	}
}
