package udp

import (
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/probetest"
)

// TestLinks: what a Prober reports is what it was answered, over a bounded number of
// probes, and each link by itself.
func TestLinks(t *testing.T) {
	r := &rig{}
	p, err := New(r.options(probetest.Spec{Self: 1, Nodes: r.nodes(t, 2, 2), Interval: time.Second, Keys: key(), Instance: 10}))
	if err != nil {
		t.Fatal(err)
	}
	p.SetEpoch(2, 20)
	at, run := now(), uint64(20)
	var out [probe.Size]byte
	exchange := func(link int, answered bool, rtt time.Duration, flags uint8) {
		p.ask(p.table.Load().index[2][link], at, &out)
		q, err := probe.Parse(out[:])
		if err != nil {
			t.Fatal(err)
		}
		a := q.Reply()
		a.Responder, a.Flags, a.Age = run, flags, 3*time.Millisecond
		var b [probe.Size]byte
		a.Marshal(&b, key()[0])
		if answered {
			p.receive(link, b[:], at.Add(rtt), &out)
		}
		at = at.Add(time.Second)
	}
	exchange(0, true, 0, 0)
	for range 2 * probe.RecentSize {
		exchange(0, false, 0, 0) // long ago: none of these counts any more
	}
	for i := range 60 {
		exchange(0, i%4 != 0, time.Duration(i+1)*time.Millisecond, probe.FlagKernel)
	}
	for range 5 {
		exchange(1, false, 0, 0)
	}
	got := p.Links()
	if len(got) != 2 {
		t.Fatalf("%d reports", len(got))
	}
	zero := membership.LinkReport{Peer: 2, Link: 0, Addr: got[0].Addr, Probes: 60, Lost: 15, P50: 31 * time.Millisecond, P99: 60 * time.Millisecond,
		Heard: got[0].Heard, ByKernel: got[0].Heard, Kernel: true, DaemonAge: 3 * time.Millisecond}
	if got[0] != zero || got[0].Heard == 0 {
		t.Errorf("link 0: %+v, want %+v", got[0], zero)
	}
	one := membership.LinkReport{Peer: 2, Link: 1, Addr: got[1].Addr} // nothing is lost before it runs
	if got[1] != one {
		t.Errorf("link 1: %+v, want %+v", got[1], one)
	}
	exchange(1, true, time.Millisecond, 0)
	if got := p.Links()[1]; got.Kernel || got.Lost != 0 || got.Probes != 1 || got.P50 != time.Millisecond {
		t.Errorf("link 1 answers by its daemon: %+v", got)
	}
	for range 5 {
		exchange(1, false, 0, 0)
	}
	if got := p.Links()[1]; got.Lost != 2 || got.Probes != 3 {
		t.Errorf("link 1 does not answer any more: %+v", got)
	}
	asked := at
	q := probe.Packet{Type: probe.TypeProbe, Src: 2, Dst: 1, Link: 1, Seq: 1, Prober: 7}
	var b [probe.Size]byte
	q.Marshal(&b, key()[0])
	if p.receive(1, b[:], asked, &out) == nil || p.Snapshot()[1].Served != asked || p.Snapshot()[0].Served != 0 {
		t.Errorf("node 2 asked on link 1, and was answered: %+v", p.Snapshot())
	}
	run = 21
	p.SetEpoch(2, run)
	if got := p.Links()[1]; got.Lost != 0 || got.Probes != 0 {
		t.Errorf("another run, which was not heard: %+v", got)
	}
	exchange(1, true, time.Millisecond, 0)
	exchange(1, false, 0, 0)
	exchange(1, true, time.Millisecond, 0)
	if got := p.Links()[1]; got.Lost != 1 || got.Probes != 3 {
		t.Errorf("another run: %+v", got)
	}
}

// TestLinksOfLongIntervals: with ten seconds between two probes a minute would be six.
func TestLinksOfLongIntervals(t *testing.T) {
	r := &rig{}
	p, err := New(r.options(probetest.Spec{Self: 1, Nodes: r.nodes(t, 2, 1), Interval: 10 * time.Second, Keys: key(), Instance: 10}))
	if err != nil {
		t.Fatal(err)
	}
	var out [probe.Size]byte
	p.table.Load().targets[0].counts = 1 // it answered once
	for i := range 100 {
		p.ask(p.table.Load().targets[0], membership.Mono(i), &out)
	}
	if got := p.Links()[0]; got.Probes != reportLeast-3 || got.Lost != got.Probes {
		t.Errorf("%+v", got)
	}
}

func BenchmarkLinks(b *testing.B) {
	p := &Prober{}
	l := &link{}
	l.fd.Store(-1)
	tab := &table{interval: 10 * time.Millisecond}
	for i := range 31 {
		x := &target{peer: membership.NodeID(i + 2), link: l}
		for seq := range uint64(probe.RecentSize) {
			x.recent.Sent(seq)
			x.recent.Answered(seq, time.Duration(seq*7919%1000)*time.Microsecond)
		}
		x.sample.Sent, x.counts = probe.RecentSize, 1
		tab.targets = append(tab.targets, x)
	}
	p.table.Store(tab)
	b.ReportAllocs()
	for b.Loop() {
		p.Links()
	}
}
