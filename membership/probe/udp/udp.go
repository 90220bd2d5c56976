package udp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
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

	Port  int                       // 0: DefaultPort
	Ports map[membership.NodeID]int // overrides Port for nodes that share an address, as in tests
	// LockMemory asks for mlockall, of the whole process, as pages are touched.
	LockMemory bool
	// Rate is how many probes a second of one peer on one link are answered;
	// 0: eight times what its interval asks for, at least 200.
	Rate   int
	Logger *slog.Logger // nil: silent
}

// Prober probes every other node on every link that both have.
type Prober struct {
	opt     Options
	links   []*link
	targets []*target                       // by node, then link
	index   map[membership.NodeID][]*target // by link; nil where there is none
	drops   [reasons]atomic.Uint64

	started  membership.Mono
	ticks    atomic.Uint64
	tickedAt atomic.Int64
	view     atomic.Uint64

	mu       sync.Mutex
	warnings map[string]string // by what they are about
}

var _ membership.Prober = (*Prober)(nil)

// link is one own address.
type link struct {
	index int
	addr  netip.AddrPort
	file  *os.File     // set before fd
	fd    atomic.Int32 // -1 until open
}

// New checks the options. It opens nothing.
func New(opt Options) (*Prober, error) {
	self, err := opt.fill()
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	p := &Prober{
		opt:      opt,
		index:    map[membership.NodeID][]*target{},
		started:  now(),
		warnings: map[string]string{},
	}
	p.tickedAt.Store(int64(p.started))
	for i, a := range self.Addrs {
		l := &link{index: i, addr: netip.AddrPortFrom(a.Unmap(), p.port(self.ID))}
		l.fd.Store(-1)
		p.links = append(p.links, l)
	}
	for _, n := range opt.Nodes {
		if n.ID != opt.Self {
			p.add(n)
		}
	}
	slices.SortFunc(p.targets, func(a, b *target) int {
		if a.peer != b.peer {
			return int(int64(a.peer) - int64(b.peer))
		}
		return a.link.index - b.link.index
	})
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
	case len(o.Keys) == 0 || slices.ContainsFunc(o.Keys, probe.Key.Zero):
		return self, errors.New("there is no key")
	case o.Instance == 0:
		return self, errors.New("the instance must not be 0")
	}
	if o.Port == 0 {
		o.Port = DefaultPort
	}
	if o.Rate <= 0 {
		o.Rate = max(200, 8*int(math.Ceil(float64(time.Second)/float64(o.Interval))))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o.Nodes[i], nil
}

func (p *Prober) port(n membership.NodeID) uint16 {
	if port, ok := p.opt.Ports[n]; ok {
		return uint16(port)
	}
	return uint16(p.opt.Port)
}

// add makes the targets of a peer: one for each link that both ends have.
func (p *Prober) add(n membership.Node) {
	byLink := make([]*target, len(p.links))
	for i, a := range n.Addrs {
		if i >= len(p.links) {
			break
		}
		a = a.Unmap()
		if a.Is4() != p.links[i].addr.Addr().Is4() {
			p.warn(fmt.Sprintf("node %d link %d", n.ID, i), "link %d is IPv4 at one end and IPv6 at the other, and is not probed: correct the addresses of node %d or %d", i, n.ID, p.opt.Self)
			continue
		}
		t := newTarget(n.ID, p.links[i], netip.AddrPortFrom(a, p.port(n.ID)), p.opt.Rate)
		byLink[i] = t
		p.targets = append(p.targets, t)
	}
	p.index[n.ID] = byLink
}

// Progress ticks the daemon's progress word.
func (p *Prober) Progress(view uint64) {
	p.view.Store(view)
	p.ticks.Add(1)
	p.tickedAt.Store(int64(now()))
}

// SetEpoch tells which instance of a peer the authenticated Comm talks to. Only
// its answers count; 0 means that none is known, and none count.
func (p *Prober) SetEpoch(peer membership.NodeID, instance uint64) {
	for _, t := range p.index[peer] {
		if t != nil {
			t.learn(instance)
		}
	}
}

// Snapshot returns the newest sample of every peer and link, by node and link.
func (p *Prober) Snapshot() []membership.Sample {
	return p.AppendSnapshot(make([]membership.Sample, 0, len(p.targets)))
}

// AppendSnapshot is Snapshot into memory of the caller's.
func (p *Prober) AppendSnapshot(out []membership.Sample) []membership.Sample {
	for _, t := range p.targets {
		out = append(out, t.snapshot())
	}
	return out
}

// Run probes and answers until ctx ends and its goroutines are gone. It is called once.
func (p *Prober) Run(ctx context.Context) error {
	if p.opt.LockMemory {
		if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
			p.warn("memory", "memory is not locked (%v): set LimitMEMLOCK=infinity in the unit", err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.openLoop(ctx, &wg) })
	wg.Go(func() { p.sendLoop(ctx) })
	wg.Wait()
	return nil
}
