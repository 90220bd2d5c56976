package dlm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quorate/quorate/configfs"
	"github.com/quorate/quorate/membership"
)

const (
	closeLimit = 10 * time.Second // Close waits so long for operations under way
	haltLimit  = 5 * time.Second  // Halt waits so long for control=0
)

// Driver drives the DLM of this node's kernel. Its methods may be called from
// any goroutine, Options.Events included.
type Driver struct {
	o        Options
	features configfs.Features
	work     *workers
	ctx      context.Context // ends with Close or Halt
	cancel   context.CancelFunc
	side     sync.WaitGroup // uevents, plocks, polls

	emitting sync.Mutex // Events is called with it held

	addrs atomic.Pointer[map[membership.NodeID][]netip.Addr] // as Options.Addrs, or SetAddrs
	links atomic.Pointer[map[membership.NodeID][]netip.Addr] // as Options.Links, or SetAddrs

	mu      sync.Mutex
	spaces  map[string]*space
	peers   map[membership.NodeID]membership.Incarnation // comms entries that are there
	monitor Device
	plock   Device
	closed  bool
}

// Open takes control of the kernel's DLM. It returns when our own comms entry is
// there; from then on a mount can ask to join.
func Open(o Options) (*Driver, error) {
	if err := o.check(); err != nil {
		return nil, opError("open", o.Cluster, err)
	}
	o.fill()
	ctx, cancel := context.WithCancel(context.Background())
	d := &Driver{o: o, work: newWorkers(), ctx: ctx, cancel: cancel,
		spaces: map[string]*space{}, peers: map[membership.NodeID]membership.Incarnation{}}
	d.addrs.Store(&o.Addrs)
	d.links.Store(&o.Links)
	if err := d.open(); err != nil {
		d.undo()
		return nil, opError("open", o.Cluster, err)
	}
	d.o.Log.Info("dlm opened", slog.Any("features", d.features))
	d.rescan(false)
	d.side.Go(d.listen)
	if d.plock != nil {
		d.side.Go(d.servePlocks)
	}
	return d, nil
}

// open is the order of startup: nothing that lets a create succeed comes before
// the uevent socket, and no local comm before the monitor.
func (d *Driver) open() error {
	if err := d.prepare(); err != nil {
		return err
	}
	if d.o.Uevents == nil {
		u, err := openUevents()
		if err != nil {
			return fmt.Errorf("uevent socket: %w", err)
		}
		d.o.Uevents = u
	}
	want := configfs.Tree{Present: true, Attrs: d.o.attrs()}
	ops, err := configfs.Plan(configfs.Tree{}, want)
	if err != nil {
		return err
	}
	if err := configfs.Apply(d.o.Configfs, ops); err != nil {
		return err
	}
	if d.features, err = configfs.Probe(d.o.Configfs, uint32(d.o.Self)); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if d.monitor, err = d.o.Devices.Monitor(); err != nil {
		return fmt.Errorf("dlm-monitor: %w", err)
	}
	if d.plock, err = d.o.Devices.Plock(); err != nil {
		d.o.Log.Warn("dlm_plock is not available; POSIX locks on GFS2 and OCFS2 will hang", slog.Any("err", err))
		d.plock = nil
	}
	own, err := d.comm(d.o.Self)
	if err != nil {
		return err
	}
	if ops, err = configfs.PlanComm(uint32(d.o.Self), nil, &own); err != nil {
		return err
	}
	return configfs.Apply(d.o.Configfs, ops)
}

// prepare loads the module, sees that the kernel holds nothing, and clears what
// an earlier run left in configfs.
func (d *Driver) prepare() error {
	if err := d.o.Modprobe(d.ctx, "dlm"); err != nil {
		return fmt.Errorf("%w: %w", ErrModule, err)
	}
	for _, m := range []string{"inet_diag", "tcp_diag"} { // for SOCK_DESTROY; without them a dead peer's entry goes later
		if err := d.o.Modprobe(d.ctx, m); err != nil {
			d.o.Log.Debug("module is not available", slog.String("module", m), slog.Any("err", err))
		}
	}
	if err := d.o.openTrees(); err != nil {
		return err
	}
	held, err := d.held()
	if err != nil {
		return err
	}
	if len(held) > 0 {
		return listed(ErrUncontrolled, held)
	}
	return configfs.Clear(d.o.Configfs)
}

// undo takes back what a failed Open did.
func (d *Driver) undo() {
	d.cancel()
	if d.o.Configfs != nil && d.o.Sysfs != nil {
		if held, err := d.held(); err == nil && len(held) == 0 {
			_ = configfs.Clear(d.o.Configfs)
		}
	}
	if d.o.Uevents != nil {
		_ = d.o.Uevents.Close()
	}
	d.closeDevices()
}

func (d *Driver) closeDevices() {
	d.mu.Lock()
	plock, monitor := d.plock, d.monitor
	d.plock, d.monitor = nil, nil
	d.mu.Unlock()
	if plock != nil {
		_ = plock.Close()
	}
	if monitor != nil {
		_ = monitor.Close()
	}
}

// held lists the lockspaces in the kernel, by their names in sysfs.
func (d *Driver) held() ([]string, error) {
	names, err := d.o.Sysfs.List(".")
	if errors.Is(err, syscall.ENOENT) {
		return nil, nil
	}
	return names, err
}

// Features are what this kernel can be told.
func (d *Driver) Features() configfs.Features { return d.features }

// Busy lists what is under way in the kernel or waits for it.
func (d *Driver) Busy() []Operation { return d.work.busy() }

// Quiesce makes the kernel refuse new lockspaces (EUNATCH) if it has none: the
// first step of a clean leave. With lockspaces it is ErrHeld and nothing changed.
func (d *Driver) Quiesce() error {
	if err := d.empty("quiesce"); err != nil {
		return err
	}
	d.mu.Lock()
	monitor := d.monitor
	d.monitor = nil
	d.mu.Unlock()
	if monitor == nil {
		return nil
	}
	if err := monitor.Close(); err != nil {
		return opError("quiesce", "dlm-monitor", err)
	}
	err := d.empty("quiesce") // a create may have come just before
	if err != nil {
		if rerr := d.Resume(); rerr != nil {
			return errors.Join(err, rerr)
		}
	}
	return err
}

// Resume takes a Quiesce back.
func (d *Driver) Resume() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.monitor != nil {
		return nil
	}
	m, err := d.o.Devices.Monitor()
	if err != nil {
		return opError("resume", "dlm-monitor", err)
	}
	d.monitor = m
	return nil
}

func (d *Driver) empty(op string) error {
	held, err := d.held()
	if err == nil && len(held) > 0 {
		err = listed(ErrHeld, held)
	}
	return opError(op, "/sys/kernel/dlm", err)
}

// Close gives the kernel back: configfs is cleared and dlm-monitor closed last.
// With lockspaces it is ErrHeld and nothing changed.
func (d *Driver) Close() error {
	if d.shut() {
		return nil
	}
	if err := d.empty("close"); err != nil {
		return err
	}
	if !d.end() {
		return nil
	}
	joined := d.work.join(closeLimit)
	var err error
	d.aborting(d.allTargets(), func() { err = configfs.Clear(d.o.Configfs) })
	d.closeDevices()
	if !joined {
		return opError("close", d.o.Cluster, fmt.Errorf("%w: %v", ErrBusy, d.Busy()))
	}
	d.side.Wait()
	return opError("close", d.o.Cluster, err)
}

func (d *Driver) shut() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// end stops everything that listens; false if it was stopped before.
func (d *Driver) end() bool {
	d.mu.Lock()
	was := d.closed
	d.closed = true
	d.mu.Unlock()
	if was {
		return false
	}
	d.cancel()
	d.work.close()
	_ = d.o.Uevents.Close()
	return true
}

// Halt stops all lockspaces at once and for good: control=0 everywhere, then
// dlm-monitor is closed. It is for a broken invariant. It waits at most 5 s for
// the kernel and reports what did not stop; closing the monitor stops those that
// were running too.
func (d *Driver) Halt(reason string) error {
	if !d.end() {
		return nil
	}
	d.o.Log.Error("dlm halted; this node's lockspaces are stopped until it is rebooted", slog.String("reason", reason))
	err := d.stopAll()
	d.closeDevices()
	return opError("halt", d.o.Cluster, err)
}

func (d *Driver) stopAll() error {
	held, err := d.held()
	if err != nil {
		return err
	}
	type answer struct {
		ls  string
		err error
	}
	answers := make(chan answer, len(held))
	pending := map[string]bool{}
	for _, ls := range held {
		pending[ls] = true
		go func() { answers <- answer{ls, d.o.Sysfs.Write(path.Join(ls, "control"), []byte("0"))} }()
	}
	limit := time.NewTimer(haltLimit)
	defer limit.Stop()
	var errs []error
	for len(pending) > 0 {
		select {
		case a := <-answers:
			delete(pending, a.ls)
			errs = append(errs, a.err)
		case <-limit.C:
			for ls := range pending {
				errs = append(errs, opError("stop", ls, fmt.Errorf("no answer within %s", haltLimit)))
			}
			return errors.Join(errs...)
		}
	}
	return errors.Join(errs...)
}

// emit hands an event out, one at a time.
func (d *Driver) emit(e Event) {
	d.emitting.Lock()
	defer d.emitting.Unlock()
	d.o.Events(e)
}
