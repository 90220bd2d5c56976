package liveness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// Options are what a Reflector is made of. Cluster and Epoch must be given.
type Options struct {
	Cluster string
	// Epoch is of the answers, unless a program of this boot has one already.
	Epoch  uint64
	Want   Want         // empty: Auto
	Root   string       // empty: Root
	Logger *slog.Logger // nil: silent
	// Tell is called by Maintain, when it is done, with each link on which something else
	// answers than before, or the same again. It may be nil.
	Tell func(Change)

	noTimers    bool                            // of tests: as on a kernel that has none
	linkByIndex func(int) (netlink.Link, error) // nil, but in tests: netlink.LinkByIndex
}

var errNoTimers = errors.New("switched off")

// Reflector is the program of one cluster in this kernel. Its methods may be called by
// several goroutines. It is the prober's probe.Arrivals.
type Reflector struct {
	opt  Options
	pins pins
	log  *slog.Logger

	// tending is held by who attaches, which may take long: a driver may stop its
	// hardware for it.
	tending sync.Mutex
	ifaces  map[int]*iface // by index

	mu     sync.Mutex
	obj    *objects // nil: closed; set by who has tending, too
	cfg    Config   // Self is 0 before the first one
	learnt map[membership.NodeID]identity
	homes  map[[16]byte]home // of own addresses
	links  []LinkStatus
	why    string // there are no timers; empty: there are

	// page is held to write progress and to read stamps, and for nothing that takes time.
	page  sync.Mutex
	own   *objects // nil: closed
	epoch uint64   // of the answers
}

// LinkStatus is what answers on one own link.
type LinkStatus struct {
	Link      int    `json:"link"`
	Interface string `json:"interface,omitempty"` // empty: none has the address
	Parent    string `json:"parent,omitempty"`    // at the bottom of that, as of a VLAN; empty: it is one itself
	Mode      Mode   `json:"mode,omitempty"`
	Why       string `json:"why,omitempty"` // it is not what was wanted first
	// Since is when the program was attached, by this daemon, or taken over; 0: it is not.
	Since membership.Mono `json:"since,omitempty"`
	// Driver is the interface's, where it says; XDP is yes, no or unknown: whether that runs
	// programs itself.
	Driver string `json:"driver,omitempty"`
	XDP    string `json:"xdp,omitempty"`
	// Lost is how often the program was found taken from the interface, in this daemon's
	// time, and LostAt when the last time was noticed.
	Lost   int             `json:"lost,omitempty"`
	LostAt membership.Mono `json:"lost_at,omitempty"`
}

// Change is a link on which something else answers now, or the same again.
type Change struct {
	LinkStatus
	Was   Mode
	Taken bool // the program was found taken from the interface
}

// changes are what Maintain found and did. Nothing answers before the first one.
func changes(old, now []LinkStatus) (out []Change) {
	for l, s := range now {
		c := Change{LinkStatus: s}
		var was LinkStatus
		if l < len(old) {
			was = old[l]
		}
		c.Was, c.Taken = was.Mode, s.Interface == was.Interface && s.Lost > was.Lost
		if c.Taken || s.Mode != was.Mode || s.Mode == None && l >= len(old) {
			out = append(out, c)
		}
	}
	return out
}

// Load gives the program to the kernel, or takes over what an earlier daemon of this
// boot has left there, its epoch too. Nothing is attached, and nothing that is attached
// changes, before Maintain.
func Load(opt Options) (*Reflector, error) {
	if opt.Epoch == 0 || opt.Cluster == "" {
		return nil, errors.New("reflector: the cluster's name and an epoch are needed")
	}
	if opt.Want != "" && !slices.Contains(Wants, opt.Want) {
		return nil, fmt.Errorf("reflector: there is no mode %q, say one of %q", opt.Want, Wants)
	}
	if opt.Root == "" {
		opt.Root = Root
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.linkByIndex == nil {
		opt.linkByIndex = netlink.LinkByIndex
	}
	r := &Reflector{opt: opt, pins: pinsOf(opt.Root, opt.Cluster), log: opt.Logger, learnt: map[membership.NodeID]identity{}, homes: map[[16]byte]home{}, ifaces: map[int]*iface{}}
	if err := r.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("reflector: %w", err), r.Close())
	}
	return r, nil
}

func (r *Reflector) load() (err error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("memory for maps: %w", err)
	}
	timed := errNoTimers
	if !r.opt.noTimers {
		timed = selfTest(true)
	}
	if timed != nil {
		if err := selfTest(false); err != nil {
			return err
		}
		r.why = untimed(timed)
		r.log.Info("silence is noticed by timerfd", "why", r.why)
		r.log.Debug("silence is noticed by timerfd", "err", timed)
	}
	if err := r.pins.make(); err != nil {
		return err
	}
	if r.obj, err = loadObjects(r.pins.maps(), r.why == ""); err != nil {
		return err
	}
	if err := r.takeEpoch(); err != nil {
		return err
	}
	r.own, r.epoch = r.obj, r.obj.self.Epoch
	owns, err := dump[[16]byte, ownValue](r.obj.Owns)
	if err != nil {
		return err
	}
	for a, v := range owns {
		r.homes[a] = homeOf(v)
	}
	peers, err := dump[peerKey, peerValue](r.obj.Peers)
	if err != nil {
		return err
	}
	for k, v := range peers {
		r.learnt[membership.NodeID(k.Node)] = identity{Instance: v.Instance} // the epoch may be another by now
	}
	return r.adopt()
}

// takeEpoch keeps the epoch that answers have had since this boot: every layout has it
// first in the map of this node.
func (r *Reflector) takeEpoch() error {
	if r.obj.self.Epoch != 0 {
		return nil
	}
	old, err := r.pins.oldMaps()
	if err != nil {
		return err
	}
	epoch := r.opt.Epoch
	for _, dir := range old {
		m, err := ebpf.LoadPinnedMap(filepath.Join(dir, bpfMapSelf), nil)
		if err != nil {
			continue // it was not finished
		}
		value, err := m.LookupBytes(uint32(0))
		if err == nil && len(value) >= 8 {
			epoch = nativeEndian.Uint64(value)
		}
		if err := errors.Join(err, m.Close()); err != nil {
			return err
		}
	}
	r.obj.self.Epoch = epoch
	return nil
}

// Epoch is what answers are of, this kernel's and, so that they agree, the daemon's.
func (r *Reflector) Epoch() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.obj == nil {
		return 0
	}
	return r.obj.self.Epoch
}

// Configure has the kernel answer by c from now on. With no keys in c those stay that it
// has: who changes a configuration does not undo a change of keys.
func (r *Reflector) Configure(c Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(c.Keys) == 0 {
		c.Keys = r.cfg.Keys
	}
	return r.configure(c)
}

// SetKeys has the kernel accept these keys and no other.
func (r *Reflector) SetKeys(keys []probe.Key) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.cfg
	c.Keys = keys
	return r.configure(c)
}

func (r *Reflector) configure(c Config) error {
	if err := r.open(); err != nil {
		return err
	}
	if err := r.obj.configure(c, r.learnt, r.homes); err != nil {
		return fmt.Errorf("reflector: %w", err)
	}
	r.cfg = c
	r.cfg.Links, r.cfg.Peers, r.cfg.Keys = slices.Clone(c.Links), slices.Clone(c.Peers), slices.Clone(c.Keys)
	return nil
}

// ErrClosed says that the Reflector is closed.
var ErrClosed = errors.New("reflector: closed")

func (r *Reflector) open() error {
	if r.obj == nil {
		return ErrClosed
	}
	return nil
}

// Learn tells which run of a peer's prober its authenticated connection named, and what
// epoch its answers have.
func (r *Reflector) Learn(peer membership.NodeID, instance, epoch uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.open(); err != nil {
		return err
	}
	is := identity{instance, epoch}
	r.learnt[peer] = is
	slots := *r.obj.slots.Load()
	for _, p := range r.cfg.Peers {
		slot, ok := slots[p.key()]
		if p.Node != peer || !ok {
			continue
		}
		if err := r.obj.Peers.Put(p.key(), p.value(is, slot)); err != nil {
			return fmt.Errorf("reflector: node %d: %w", peer, err)
		}
	}
	return nil
}

// keepEpoch undoes what somebody has done to the epoch: answers of another one count nowhere.
func (r *Reflector) keepEpoch() {
	r.page.Lock()
	defer r.page.Unlock()
	if r.own != nil && r.own.self.Epoch != r.epoch {
		r.own.self.Epoch = r.epoch
	}
}

// Progress ticks the daemon's progress word, as of a time of the boot clock. It waits for
// nothing and makes no system call.
func (r *Reflector) Progress(at membership.Mono, view uint64) {
	r.page.Lock()
	defer r.page.Unlock()
	if r.own != nil {
		r.own.progress(at, view)
	}
}

// Status says what answers on each link, as of the last Maintain.
func (r *Reflector) Status() []LinkStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.links)
}

// Counters says what became of the frames that the program has seen, since its maps
// were made.
func (r *Reflector) Counters() (map[string]uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.open(); err != nil {
		return nil, err
	}
	n, err := r.obj.counters()
	if err != nil {
		return nil, fmt.Errorf("reflector: %w", err)
	}
	return n, nil
}

// Dropped says how many packets the program has refused since its maps were made, by
// reason; reasons without any are left out.
func (r *Reflector) Dropped() (map[string]uint64, error) {
	all, err := r.Counters()
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for _, why := range drops {
		if n := all[why.String()]; n > 0 {
			out[why.String()] = n
		}
	}
	return out, nil
}

// Peers is what the kernel saw of each peer and link, by node and link.
func (r *Reflector) Peers() ([]PeerState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peers()
}

func (r *Reflector) peers() ([]PeerState, error) {
	if err := r.open(); err != nil {
		return nil, err
	}
	all, err := r.obj.states()
	if err != nil {
		return nil, fmt.Errorf("reflector: %w", err)
	}
	out := make([]PeerState, 0, len(all))
	for k, v := range all {
		out = append(out, k.state(v))
	}
	slices.SortFunc(out, func(a, b PeerState) int {
		if a.Node != b.Node {
			return int(int64(a.Node) - int64(b.Node))
		}
		return a.Link - b.Link
	})
	return out, nil
}

// every is how long a lost attachment stays unnoticed.
const every = time.Second

// Run keeps the program attached until ctx ends. It is the daemon's that answers
// wherever that fails, and Status says why.
func (r *Reflector) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	said := ""
	for {
		err := r.Maintain()
		if text := fmt.Sprint(err); err != nil && text != said {
			r.log.Warn("the kernel's answers to probes", "err", err)
			said = text
		} else if err == nil {
			said = ""
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Close leaves the kernel answering.
func (r *Reflector) Close() error { return r.end(func() error { return nil }) }

// Remove ends the kernel's answers: the node has left.
func (r *Reflector) Remove() error {
	r.page.Lock()
	if r.epoch = 0; r.own != nil {
		r.own.self.Epoch = 0 // at once, whatever else fails
	}
	r.page.Unlock()
	return r.end(func() error { return r.pins.remove(r.opt.Root) })
}

func (r *Reflector) end(last func() error) error {
	r.tending.Lock()
	defer r.tending.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.page.Lock()
	defer r.page.Unlock()
	var errs []error
	for index, i := range r.ifaces {
		errs = append(errs, i.closeFD())
		delete(r.ifaces, index)
	}
	if r.obj != nil {
		errs = append(errs, r.obj.Close())
		r.obj, r.own = nil, nil
	}
	return errors.Join(append(errs, last())...)
}

// Remove takes away what was left of a cluster in this kernel. root may be empty.
func Remove(root, cluster string) error {
	if root == "" {
		root = Root
	}
	return pinsOf(root, cluster).remove(root)
}

func (p pins) remove(root string) error {
	if err := errors.Join(detachPinned(p), removeAll(p.dir)); err != nil {
		return fmt.Errorf("reflector: %w", err)
	}
	_ = os.Remove(root) // if it was the last one
	return nil
}

func boottime() membership.Mono {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail: since Linux 2.6.39
	return membership.Mono(ts.Nano())
}
