package udp

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// running is a set of probers that share keys.
type running struct {
	t    *testing.T
	r    *rig
	keys []probe.Key
}

func (s *running) start(self membership.NodeID, nodes []membership.Node) *Prober {
	s.t.Helper()
	p, err := New(Options{Self: self, Nodes: nodes, Interval: 5 * time.Millisecond, Keys: s.keys, Instance: uint64(self), Ports: s.r.ports})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	s.t.Cleanup(func() { cancel(); wg.Wait() })
	s.learn(p, nodes)
	return p
}

func (s *running) learn(p *Prober, nodes []membership.Node) {
	for _, n := range nodes {
		p.SetEpoch(n.ID, uint64(n.ID))
	}
}

// answered waits until a peer has answered so many probes on each of its links.
func (s *running) answered(p *Prober, peer membership.NodeID, more uint64) {
	s.t.Helper()
	count := func() (n uint64, links int) {
		n = 1 << 62
		for _, x := range p.Snapshot() {
			if x.Peer == peer {
				n, links = min(n, x.Answered), links+1
			}
		}
		return n, links
	}
	from, _ := count()
	if from == 1<<62 {
		from = 0
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if n, links := count(); links > 0 && n >= from+more {
			return
		}
		if time.Since(began) > 20*time.Second {
			s.t.Fatalf("node %d does not answer node %d: %+v", peer, p.opt.Self, p.Status())
		}
	}
}

func TestNodesComeAndGo(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 3, 2)
	s := &running{t, r, key()}
	two := nodes[:2]
	a, b := s.start(1, two), s.start(2, two)
	s.answered(a, 2, 3)
	c := s.start(3, nodes)
	before := a.Snapshot()
	for _, p := range []*Prober{a, b} {
		if err := p.SetNodes(nodes, 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		s.learn(p, nodes)
	}
	s.answered(a, 3, 3)
	s.answered(c, 1, 3)
	s.answered(b, 3, 3)
	for i, x := range a.Snapshot()[:2] {
		if was := before[i]; x.Peer != 2 || x.Answered < was.Answered || x.Instance != was.Instance {
			t.Fatalf("%+v was forgotten: %+v", was, x)
		}
	}
	if err := a.SetNodes(two, 5*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(a.Snapshot(), func(x membership.Sample) bool { return x.Peer == 3 }) {
		t.Fatal("a node that was removed is probed")
	}
	s.answered(a, 2, 3)
}

func TestAnotherIntervalHoldsAtOnce(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 2, 1)
	s := &running{t, r, key()}
	a := s.start(1, nodes)
	s.start(2, nodes)
	s.answered(a, 2, 3)
	if err := a.SetNodes(nodes, time.Hour); err != nil {
		t.Fatal(err)
	}
	s.answered(a, 2, 0)
	if err := a.SetNodes(nodes, 5*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	s.answered(a, 2, 5) // not after an hour
}

func TestNodesThatCannotBeProbed(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 2, 1)
	s := &running{t, r, key()}
	a := s.start(1, nodes)
	moved := slices.Clone(nodes)
	moved[0].Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.99")}
	for what, err := range map[string]error{
		"without this node":   a.SetNodes(nodes[1:], time.Second),
		"this node elsewhere": a.SetNodes(moved, time.Second),
		"no interval":         a.SetNodes(nodes, 0),
	} {
		if err == nil {
			t.Error(what)
		}
	}
}

// What remembers the probes of this run, at a peer or in the kernel, takes none for a copy
// after the peer was elsewhere, or not configured, for a while.
func TestSequencesGoOn(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 2, 1)
	p, err := New(Options{Self: 1, Nodes: nodes, Interval: 5 * time.Millisecond, Keys: key(), Instance: 1, Ports: r.ports})
	if err != nil {
		t.Fatal(err)
	}
	moved := slices.Clone(nodes)
	moved[1].Addrs = []netip.Addr{nodes[0].Addrs[0].Next().Next().Next()}
	var last, lastLong uint64
	for _, all := range [][]membership.Node{nodes, moved, nodes[:1], nodes} {
		if err := p.SetNodes(all, 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		for _, x := range p.targets() {
			var q, long probe.Packet
			x.next(&q, now())
			x.longs.Begin(1000)
			x.longs.Next(0, &long, now())
			if q.Seq <= last || long.Seq <= lastLong {
				t.Errorf("probe %d and long one %d after %d and %d", q.Seq, long.Seq, last, lastLong)
			}
			last, lastLong = q.Seq, long.Seq
			if s := x.sampleLocked(); s.Sent != 1 {
				t.Errorf("%d probes are sent", s.Sent)
			}
		}
	}
}
