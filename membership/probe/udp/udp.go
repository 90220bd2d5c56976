package udp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/udp/alarm"
)

// Defaults and limits.
const (
	DefaultPort = 21061
	MinInterval = time.Millisecond
	maxLinks    = 256
)

// Options are what a Prober is made of. Self, Nodes, Interval, Keys and
// Instance must be given.
type Options struct {
	Self     membership.NodeID
	Nodes    []membership.Node
	Interval time.Duration // between two probes of one peer on one link
	Keys     []probe.Key   // the first is sent with, all are accepted (secret.ProbeKeys)
	Instance uint64        // of this run, what peers learn over their Comm; not 0
	Epoch    uint64        // of its answers, which they learn as well; 0: Instance

	Port  int                       // 0: DefaultPort
	Ports map[membership.NodeID]int // overrides Port for nodes that share an address, as in tests
	// LockMemory asks for mlockall, of the whole process, as pages are touched.
	LockMemory bool
	// Rate is how many probes a second of one peer on one link are answered;
	// 0: eight times what its interval asks for, at least 200.
	Rate int
	// Arrivals are the answers that the kernel takes in; nil: it leaves all to this prober.
	// They must be those to Instance.
	Arrivals probe.Arrivals
	Logger   *slog.Logger // nil: silent; it must not block
}

// Prober probes every other node on every link that both have.
type Prober struct {
	opt     Options
	rate    int // as in the options: 0, by the interval
	links   []*link
	table   atomic.Pointer[table]
	retable chan struct{} // wakes the sender: another table, or a hint
	drops   [reasons]atomic.Uint64
	keys    atomic.Pointer[[]probe.Key]

	started  membership.Mono
	ticks    atomic.Uint64
	tickedAt atomic.Int64
	view     atomic.Uint64

	setting sync.Mutex // of the table, and of sockets by it
	sender  sender

	mu       sync.Mutex
	warnings map[string]string // by what they are about

	clock func() membership.Mono // that of stamps, and of turns
}

var _ membership.Prober = (*Prober)(nil)

// link is one own address.
type link struct {
	index int
	addr  netip.AddrPort
	zone  uint32       // set before fd
	fd    atomic.Int32 // -1 until open
	out   outbox       // the sender's own
	in    inbox
}

// New checks the options. It opens nothing.
func New(opt Options) (*Prober, error) {
	rate := opt.Rate
	self, err := opt.fill()
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	p := &Prober{
		opt:      opt,
		rate:     rate,
		retable:  make(chan struct{}, 1),
		started:  now(),
		clock:    now,
		warnings: map[string]string{},
	}
	p.tickedAt.Store(int64(p.started))
	if err := p.SetKeys(opt.Keys); err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	for i, a := range self.Addrs {
		l := &link{index: i, addr: netip.AddrPortFrom(a.Unmap(), p.port(self.ID)), in: inbox{resume: make(chan struct{}, 1)}}
		l.fd.Store(-1)
		p.links = append(p.links, l)
	}
	p.table.Store(p.makeTable(opt, nil))
	return p, nil
}

func (o *Options) fill() (self membership.Node, err error) {
	i := slices.IndexFunc(o.Nodes, func(n membership.Node) bool { return n.ID == o.Self })
	switch {
	case o.Self == 0 || i < 0:
		return self, fmt.Errorf("node %d (self) is not among the configured nodes", o.Self)
	case len(o.Nodes[i].Addrs) == 0 || len(o.Nodes[i].Addrs) > maxLinks:
		return self, fmt.Errorf("node %d (self) has %d addresses, expected 1 to %d", o.Self, len(o.Nodes[i].Addrs), maxLinks)
	case o.Interval < MinInterval:
		return self, fmt.Errorf("the interval is %s, at least %s is possible", o.Interval, MinInterval)
	case o.Instance == 0:
		return self, errors.New("the instance must not be 0")
	}
	if o.Epoch == 0 {
		o.Epoch = o.Instance
	}
	if o.Port == 0 {
		o.Port = DefaultPort
	}
	if o.Rate <= 0 {
		o.Rate = Rate(o.Interval)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o.Nodes[i], nil
}

// Rate is how many probes a second of one peer on one link are answered, where Options
// do not say.
func Rate(interval time.Duration) int {
	return max(200, 8*int(math.Ceil(float64(time.Second)/float64(interval))))
}

func (p *Prober) port(n membership.NodeID) uint16 {
	if port, ok := p.opt.Ports[n]; ok {
		return uint16(port)
	}
	return uint16(p.opt.Port)
}

// SetKeys has the prober send with the first of these keys, and accept all, from now
// on. It may be called at any time. A probe that is under way loses nothing by it as
// long as the key that it was sent with stays: an answer is made with that.
func (p *Prober) SetKeys(keys []probe.Key) error {
	if len(keys) == 0 || slices.ContainsFunc(keys, probe.Key.Zero) {
		return errors.New("there is no key")
	}
	own := slices.Clone(keys)
	p.keys.Store(&own)
	return nil
}

// Progress ticks the daemon's progress word.
func (p *Prober) Progress(view uint64) {
	p.view.Store(view)
	p.ticks.Add(1)
	p.tickedAt.Store(int64(now()))
}

// SetEpoch is Learn of a peer whose answers have no epoch but its run.
func (p *Prober) SetEpoch(peer membership.NodeID, instance uint64) { p.Learn(peer, instance, instance) }

// Learn tells which run of a peer the authenticated Comm talks to, and what epoch its
// answers have. Only these count; 0 means that none is known, and none count.
func (p *Prober) Learn(peer membership.NodeID, instance, epoch uint64) {
	for _, t := range p.table.Load().index[peer] {
		if t != nil {
			t.learn(instance, epoch)
		}
	}
}

// Snapshot returns the newest sample of every peer and link, by node and link.
func (p *Prober) Snapshot() []membership.Sample {
	return p.AppendSnapshot(make([]membership.Sample, 0, len(p.targets())))
}

// AppendSnapshot is Snapshot into memory of the caller's.
func (p *Prober) AppendSnapshot(out []membership.Sample) []membership.Sample {
	var passed membership.Mono
	for _, t := range p.targets() {
		p.look(t, &passed)
		out = append(out, t.snapshot())
	}
	return out
}

// look counts what the kernel has taken in of a target's answers. An answer of a time that
// is yet to be is none: by it, whoever wrote it, a peer would be heard for as long as that
// takes, and by nothing else. passed is a time that has been; it becomes a later one where
// that matters.
func (p *Prober) look(t *target, passed *membership.Mono) {
	if p.opt.Arrivals == nil {
		return
	}
	came := p.opt.Arrivals.Last(t.peer, t.link.index)
	if came.At > *passed {
		*passed = p.clock()
	}
	if came.At == 0 || came.At > *passed {
		return
	}
	if n := t.take(came); n != 0 {
		p.drops[accepted].Add(n)
	}
}

// Run probes and answers until ctx ends and its goroutines are gone. It is called once.
func (p *Prober) Run(ctx context.Context) error {
	if p.opt.LockMemory {
		if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
			p.warn("memory", "memory is not locked (%v): a busy machine will look slow to its peers; set LimitMEMLOCK=infinity in the unit, or give it CAP_IPC_LOCK", err)
			p.opt.Logger.Warn("memory is not locked", "err", err)
		}
	}
	wake, err := alarm.New()
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.openLoop(ctx, &wg) })
	wg.Go(func() { p.sendLoop(ctx, wake) })
	wg.Go(func() { p.mtuLoop(ctx) })
	wg.Wait()
	return nil
}
