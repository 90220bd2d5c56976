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
// them; it is when the guest does not come, and at its own time when none is expected.
func TestTurnOfAGuest(t *testing.T) {
	const interval = 400 * time.Millisecond
	r := &rig{}
	p, err := New(r.options(probetest.Spec{Self: 1, Nodes: r.nodes(t, 3, 1), Interval: interval, Keys: key(), Instance: 10}))
	if err != nil {
		t.Fatal(err)
	}
	p.links[0].fd.Store(1 << 20) // what is sent goes nowhere
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
	begin := now()
	p.turn(false, 0)
	sent := func(want uint64) {
		t.Helper()
		for _, s := range p.Snapshot() {
			if s.Sent != want {
				t.Errorf("%d probes to node %d, want %d", s.Sent, s.Peer, want)
			}
		}
	}
	rings := func(least, most time.Duration) {
		t.Helper()
		<-wake.C
		if after := now().Sub(begin); after < least || after > most {
			t.Errorf("woken after %v, want %v to %v", after, least, most)
		}
	}
	sent(1)
	p.Turn(never) // too early by far
	sent(1)
	time.Sleep(interval - interval/slack/2)
	if now().Sub(begin) >= interval {
		t.Skip("this machine does not run a test in time")
	}
	begin = now()
	p.Turn(begin.Add(interval))
	sent(2)
	rings(interval+interval/slack, 2*interval)
	begin = p.Snapshot()[0].Asked.Add(interval) // when they were due
	p.turn(false, 0)
	sent(3)
	due := p.sender.tab.targets[0].due
	p.Turn(never)
	sent(3)
	begin = now()
	rings(due.Sub(begin), due.Sub(begin)+interval)
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
