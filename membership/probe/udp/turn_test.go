package udp

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/probetest"
	"github.com/quorate/quorate/membership/probe/udp/alarm"
)

// A guest who comes about when probes are due sends them, and the sender is not woken for
// them; it is when the guest does not come, and at its own time when none is expected. No two
// probes are further apart than an interval and an eighth.
func TestTurnOfAGuest(t *testing.T) {
	const (
		ms       = time.Millisecond
		interval = 400 * ms
		late     = interval / Slack
	)
	r := &rig{}
	p, err := New(r.options(probetest.Spec{Self: 1, Nodes: r.nodes(t, 3, 1), Interval: interval, Keys: key(), Instance: 10}))
	if err != nil {
		t.Fatal(err)
	}
	p.links[0].fd.Store(1 << 20) // what is sent goes nowhere
	at := now().Add(time.Hour)
	p.clock = func() membership.Mono { return at }
	never := membership.Mono(1 << 62)
	if p.Turn(never); p.Snapshot()[0].Sent != 0 {
		t.Error("it sends without running")
	}
	wake, err := alarm.New()
	if err != nil {
		t.Fatal(err)
	}
	defer wake.Close()
	p.sender.run(wake)
	begin, probes := at, uint64(0)
	for _, c := range []struct {
		name  string
		after time.Duration // since the first
		guest bool
		again membership.Mono
		sends bool
		wakes time.Duration
	}{
		{"the sender", 0, false, 0, true, interval},
		{"a guest, too early", 300 * ms, true, never, false, interval},
		{"one who comes again in time", 301 * ms, true, begin.Add(interval + late), false, interval + late},
		{"a little early", 360 * ms, true, never, true, 760 * ms},
		{"who comes again in time, early", 361 * ms, true, begin.Add(760*ms + late), false, 760*ms + late},
		{"a little late", 800 * ms, true, begin.Add(1200*ms + late), true, 1200*ms + late},
		{"not again", 1200*ms + late, false, 0, true, 1600 * ms},
		{"the sender, late", 1650 * ms, false, 0, true, 2000 * ms},
		{"a guest, too late", 2500 * ms, true, never, true, 2800 * ms},
	} {
		at = begin.Add(c.after)
		if c.guest {
			p.Turn(c.again)
		} else if !p.ownTurn() {
			t.Fatalf("%s: it has ended", c.name)
		}
		if c.sends {
			probes++
		}
		for _, s := range p.Snapshot() {
			if s.Sent != probes || c.sends && s.Asked != at {
				t.Errorf("%s: %d probes to node %d, the last at %v, want %d", c.name, s.Sent, s.Peer, s.Asked.Sub(begin), probes)
			}
		}
		if got := wake.At().Sub(begin); got != c.wakes {
			t.Errorf("%s: wakes at %v, want %v", c.name, got, c.wakes)
		}
	}
	if p.sender.run(nil); p.ownTurn() {
		t.Error("it goes on when it has ended")
	}
}

// Slack is for probes of an interval: a guest sends none of those between before its time.
func TestTurnOfAGuestWhileHurried(t *testing.T) {
	const interval = 400 * time.Millisecond
	r := &rig{}
	p, err := New(r.options(probetest.Spec{Self: 1, Nodes: r.nodes(t, 2, 1), Interval: interval, Keys: key(), Instance: 10}))
	if err != nil {
		t.Fatal(err)
	}
	p.links[0].fd.Store(1 << 20)
	begin := now()
	at := begin
	p.clock = func() membership.Mono { return at }
	wake, err := alarm.New()
	if err != nil {
		t.Fatal(err)
	}
	defer wake.Close()
	p.sender.run(wake)
	p.ownTurn()
	p.targets()[0].hurried.Store(int64(begin.Add(time.Hour)))
	for ; at < begin.Add(100*interval); at = at.Add(interval / 100) {
		p.Turn(at)
	}
	if n := p.Snapshot()[0].Sent; n < 399 || n > 100*(probe.HurryBy+1) {
		t.Errorf("%d probes in 100 intervals", n)
	}
}

// Where the kernel takes all that is short, a reader is not woken for the long probes: they are
// answered when probes are sent. One that is short, or more than a few of them, wake it.
func TestARestingReader(t *testing.T) {
	const interval = 10 * time.Millisecond
	r := &rig{}
	nodes := r.nodes(t, 2, 1)
	peer, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(nodes[1].Addrs[0], uint16(r.ports[2]))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	p, err := New(r.options(probetest.Spec{Self: 1, Nodes: nodes, Interval: interval, Keys: key(), Instance: 10}))
	if err != nil {
		t.Fatal(err)
	}
	p.Learn(2, 20, 20)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	await := func(what string, ok func() bool) {
		t.Helper()
		for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
			if time.Since(began) > 10*time.Second {
				t.Fatalf("%s: %v", what, p.Counters())
			}
		}
	}
	seq := uint64(0)
	send := func(kind probe.Type) {
		t.Helper()
		seq++
		b := make([]byte, probe.Size)
		q := probe.Packet{Type: kind, Src: 2, Dst: 1, Seq: seq, Prober: 20}
		if kind == probe.TypeLong {
			b = make([]byte, 1000)
			q.Length, q.Answer = 1000, 1000
		}
		q.Marshal((*[probe.Size]byte)(b), key()[0])
		if _, err := peer.WriteToUDPAddrPort(b, netip.AddrPortFrom(nodes[0].Addrs[0], uint16(r.ports[1]))); err != nil {
			t.Fatal(err)
		}
	}
	in := &p.links[0].in
	long, short := uint64(0), uint64(0)
	answered := func() {
		t.Helper()
		await("all are answered", func() bool { c := p.Counters(); return c["long_answered"] == long && c["answered"] == short })
	}
	await("the link is open", func() bool { return p.links[0].fd.Load() >= 0 })
	for range 2 {
		await("it rests", func() bool {
			if in.resting.Load() {
				return true
			}
			send(probe.TypeLong)
			long++
			time.Sleep(interval)
			return false
		})
		answered()
		for range 5 {
			send(probe.TypeLong)
			long++
			answered()
		}
		if !in.resting.Load() {
			t.Error("long probes have woken it")
		}
		send(probe.TypeProbe)
		short++
		answered()
		await("it was woken", func() bool { return !in.resting.Load() })
		send(probe.TypeProbe)
		short++
		answered()
	}
}
