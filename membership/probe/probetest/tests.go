package probetest

import (
	"math"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// know tells a prober the instances of its peers.
func know(d *Daemon, peers ...membership.NodeID) *Daemon {
	for _, id := range peers {
		d.SetEpoch(id, instance(id))
	}
	return d
}

func testAnswer(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 1)
	a := know(Start(t, p, Spec{Self: 1, Nodes: nodes}), 2)
	b := know(Start(t, p, Spec{Self: 2, Nodes: nodes}), 1)
	b.Progress(7)
	a.AwaitAnswers(2, 5)
	s := b.AwaitAnswers(1, 5)
	if s.Instance != instance(1) || s.View != 0 {
		t.Errorf("%+v", s)
	}
	s = a.Await(2, 0, "its view", func(s membership.Sample) bool { return s.View == 7 })
	if s.Heard <= 0 || s.RTT <= 0 || s.RTT > Patience || s.Answered > s.Sent || s.DaemonAge < 0 || s.DaemonAge > Patience {
		t.Errorf("%+v", s)
	}
}

func testOrder(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 3, 2)
	nodes[0], nodes[2] = nodes[2], nodes[0]
	a := Start(t, p, Spec{Self: 2, Nodes: nodes})
	type where struct {
		peer membership.NodeID
		link int
	}
	want := []where{{1, 0}, {1, 1}, {3, 0}, {3, 1}}
	got := a.Snapshot()
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i, s := range got {
		if (where{s.Peer, s.Link}) != want[i] || s.Heard != 0 {
			t.Errorf("sample %d is %+v, want %v never heard", i, s, want[i])
		}
	}
}

func testUnlearnt(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 1)
	a := Start(t, p, Spec{Self: 1, Nodes: nodes})
	b := know(Start(t, p, Spec{Self: 2, Nodes: nodes}), 1)
	b.AwaitAnswers(1, 1) // the path is whole
	before := a.AwaitProbes(2, 0, 1)
	if s := a.AwaitProbes(2, 0, many); s.Heard != 0 || s.Answered != 0 || s.Instance != 0 || before.Asked == 0 || s.Asked.Sub(before.Asked) < Interval {
		t.Errorf("%+v became %+v", before, s)
	}
	know(a, 2)
	a.AwaitAnswers(2, 1)
}

func testInstance(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 1)
	a := know(Start(t, p, Spec{Self: 1, Nodes: nodes}), 2)
	Start(t, p, Spec{Self: 2, Nodes: nodes})
	a.AwaitAnswers(2, 1)
	a.SetEpoch(2, 999)
	before := a.Sample(2, 0)
	s := a.AwaitProbes(2, 0, many)
	if s.Heard != before.Heard || s.Answered != before.Answered || s.Instance != 999 {
		t.Errorf("%+v became %+v", before, s)
	}
	know(a, 2)
	if s := a.AwaitAnswers(2, 1); s.Heard <= before.Heard || s.Instance != instance(2) {
		t.Errorf("%+v", s)
	}
	a.SetEpoch(99, 1) // of nobody
}

func testProgress(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 1)
	a := know(Start(t, p, Spec{Self: 1, Nodes: nodes}), 2)
	b := know(Start(t, p, Spec{Self: 2, Nodes: nodes}), 1)
	old := a.Await(2, 0, "the age grows", func(s membership.Sample) bool { return s.DaemonAge > 15*Interval })
	b.Progress(1)
	s := a.Await(2, 0, "the age is small again", func(s membership.Sample) bool { return s.DaemonAge < old.DaemonAge })
	a.Await(2, 0, "and grows", func(n membership.Sample) bool { return n.DaemonAge > s.DaemonAge && n.Heard > s.Heard })
}

func testReturn(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 1)
	a := know(Start(t, p, Spec{Self: 1, Nodes: nodes}), 2)
	b := Start(t, p, Spec{Self: 2, Nodes: nodes})
	a.AwaitAnswers(2, 3)
	b.Stop()
	before := a.AwaitProbes(2, 0, 3) // what was on its way has come
	if s := a.AwaitProbes(2, 0, many); s.Heard != before.Heard || s.Answered != before.Answered {
		t.Errorf("a stopped peer is heard: %+v became %+v", before, s)
	}
	Start(t, p, Spec{Self: 2, Nodes: nodes, Instance: 222})
	if s := a.AwaitProbes(2, 0, many); s.Heard != before.Heard {
		t.Errorf("its next run is heard before it is known: %+v", s)
	}
	a.SetEpoch(2, 222)
	if s := a.AwaitAnswers(2, 3); s.Heard <= before.Heard || s.Instance != 222 {
		t.Errorf("%+v", s)
	}
}

// Six peers that are not there: the seventh is probed as often as it should be.
func testSilent(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 8, 1)
	a := know(Start(t, p, Spec{Self: 1, Nodes: nodes}), 2, 3, 4, 5, 6, 7, 8)
	know(Start(t, p, Spec{Self: 8, Nodes: nodes}), 1)
	a.AwaitAnswers(8, many)
	for _, s := range a.Snapshot() {
		if s.Peer != 8 && (s.Heard != 0 || s.Sent < many/2) {
			t.Errorf("%+v", s)
		}
	}
}

func testLinks(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 2)
	a := know(Start(t, p, Spec{Self: 1, Nodes: nodes}), 2)
	w := Play(t, p, nodes[1], nodes[0], 1)
	for range 3 {
		w.Send(Answer(w.Fresh()), Key(1))
	}
	a.Await(2, 1, "link 1 is heard", func(s membership.Sample) bool { return s.Answered >= 1 })
	r := Answer(w.Fresh())
	r.Link = 0
	w.Send(r, Key(1))
	if s := a.AwaitProbes(2, 0, 3); s.Heard != 0 || s.Sent == 0 {
		t.Errorf("link 0 is heard over link 1: %+v", s)
	}
}

func testForged(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 1)
	a := know(Start(t, p, Spec{Self: 1, Nodes: nodes}), 2)
	w := Play(t, p, nodes[1], nodes[0], 0)
	w.Send(Answer(w.Fresh()), Key(1))
	a.Await(2, 0, "an honest answer counts", func(s membership.Sample) bool { return s.Answered == 1 })
	last := Answer(w.Fresh())
	w.Send(last, Key(1))
	before := a.Await(2, 0, "and a second", func(s membership.Sample) bool { return s.Answered == 2 })

	edit := func(f func(*probe.Packet)) {
		r := Answer(w.Fresh())
		f(&r)
		w.Send(r, Key(1))
	}
	w.Send(last, Key(1)) // replayed
	w.Send(Answer(w.Fresh()), probe.NewKey(1, [16]byte{99}))
	w.Send(Answer(w.Fresh()), Key(2))
	edit(func(r *probe.Packet) { r.Responder++ })
	edit(func(r *probe.Packet) { r.Prober++ })
	edit(func(r *probe.Packet) { r.Seq += 1000 })
	edit(func(r *probe.Packet) { r.Seq = math.MaxUint64 })
	edit(func(r *probe.Packet) { r.Seq = 0 })
	edit(func(r *probe.Packet) { r.Sent++ })
	edit(func(r *probe.Packet) { r.Dst = 2 })
	edit(func(r *probe.Packet) { r.Src = 99 })
	edit(func(r *probe.Packet) { r.Src = 1 })
	edit(func(r *probe.Packet) { r.Link = 1 })
	w.SendBytes(nil)
	w.SendBytes([]byte("QPB1"))
	w.SendBytes(make([]byte, probe.Size))
	w.SendBytes(make([]byte, 9000))
	late := Answer(w.Fresh())
	s := a.AwaitProbes(2, 0, probe.Outstanding+4)
	w.Send(late, Key(1))
	if s = a.AwaitProbes(2, 0, 3); s.Heard != before.Heard || s.Answered != 2 {
		t.Errorf("one of them counted: %+v became %+v", before, s)
	}
	w.Send(Answer(w.Fresh()), Key(1))
	a.Await(2, 0, "an honest answer counts again", func(s membership.Sample) bool { return s.Answered == 3 && s.Heard > before.Heard })
}

// Answers that overtake each other: the newer one counts, the older does not.
func testReordered(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 1)
	a := know(Start(t, p, Spec{Self: 1, Nodes: nodes}), 2)
	w := Play(t, p, nodes[1], nodes[0], 0)
	first, _ := w.Receive(probe.TypeProbe)
	second := w.Fresh()
	older, newer := Answer(first), Answer(second)
	older.View, newer.View = 1, 2
	w.Send(newer, Key(1))
	w.Send(older, Key(1))
	s := a.AwaitProbes(2, 0, 3)
	if s.Answered != 1 || s.View != 2 {
		t.Errorf("%+v", s)
	}
}

// A probe names the newest answer that counted, so that the peer knows which arrive.
func testHeard(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 1)
	a := know(Start(t, p, Spec{Self: 1, Nodes: nodes}), 2)
	w := Play(t, p, nodes[1], nodes[0], 0)
	said := func(what string, stamp membership.Mono, flags uint8) {
		t.Helper()
		for began := time.Now(); ; {
			q := w.Fresh()
			if q.Stamp == stamp && q.Flags == flags {
				return
			}
			if time.Since(began) > Patience {
				t.Fatalf("%s: probes say %d, flags %d; want %d, flags %d", what, q.Stamp, q.Flags, stamp, flags)
			}
		}
	}
	said("nothing was heard", 0, 0)
	r := Answer(w.Fresh())
	r.Stamp, r.Flags = 500, probe.FlagKernel|probe.FlagNoDaemon
	w.Send(r, Key(1))
	said("the kernel was heard", 500, probe.FlagKernel)
	r = Answer(w.Fresh())
	r.Stamp = 600
	w.Send(r, Key(1))
	said("the daemon was heard", 600, 0)
	r = Answer(w.Fresh())
	r.Stamp, r.Responder = 700, 999
	w.Send(r, Key(1)) // does not count
	a.AwaitProbes(2, 0, 3)
	said("another epoch was not heard", 600, 0)
	a.SetEpoch(2, 999)
	said("another boot has another clock", 0, 0)
}

// A kernel without a daemon has answered, and its node is not heard.
func testNoDaemon(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 1)
	a := know(Start(t, p, Spec{Self: 1, Nodes: nodes}), 2)
	w := Play(t, p, nodes[1], nodes[0], 0)
	w.Send(Answer(w.Fresh()), Key(1))
	before := a.Await(2, 0, "an honest answer counts", func(s membership.Sample) bool { return s.Answered == 1 })
	for range 3 {
		r := Answer(w.Fresh())
		r.Flags, r.View = probe.FlagKernel|probe.FlagNoDaemon, 9
		w.Send(r, Key(1))
	}
	if s := a.AwaitProbes(2, 0, 3); s.Heard != before.Heard || s.Answered != 1 || s.View != before.View {
		t.Errorf("%+v became %+v", before, s)
	}
	r := Answer(w.Fresh())
	r.Flags = probe.FlagKernel
	w.Send(r, Key(1))
	a.Await(2, 0, "a kernel that has a daemon counts", func(s membership.Sample) bool { return s.Answered == 2 && s.Heard > before.Heard })
}

func testProbes(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 1)
	a := Start(t, p, Spec{Self: 1, Nodes: nodes})
	a.Progress(5)
	w := Play(t, p, nodes[1], nodes[0], 0)
	w.Fresh() // it is up
	ask := probe.Packet{Type: probe.TypeProbe, Src: 2, Dst: 1, Seq: 1 << 40, Prober: 77, Sent: 88}
	for range 2 { // the same again is answered again
		w.Send(ask, Key(1))
		r, raw := w.Receive(probe.TypeReply)
		if !probe.Verify(raw, Key(1)) {
			t.Error("the answer is not authentic")
		}
		if r.Src != 1 || r.Dst != 2 || r.Seq != ask.Seq || r.Prober != 77 || r.Sent != 88 || r.Responder != instance(1) ||
			r.View != 5 || r.Progress == 0 || r.Stamp <= 0 || r.Age < 0 {
			t.Errorf("%+v", r)
		}
	}
	for i, bad := range []struct {
		f   func(*probe.Packet)
		key probe.Key
	}{
		{func(q *probe.Packet) { q.Dst = 2 }, Key(1)},
		{func(q *probe.Packet) { q.Src = 99 }, Key(1)},
		{func(q *probe.Packet) { q.Src = 1 }, Key(1)},
		{func(q *probe.Packet) { q.Link = 1 }, Key(1)},
		{func(*probe.Packet) {}, Key(3)},
		{func(*probe.Packet) {}, probe.NewKey(1, [16]byte{99})},
	} {
		q := ask
		q.Seq = uint64(1000 + i)
		bad.f(&q)
		w.Send(q, bad.key)
	}
	ask.Seq = 5
	w.Send(ask, Key(1))
	if r, _ := w.Receive(probe.TypeReply); r.Seq != 5 {
		t.Errorf("probe %d was answered", r.Seq)
	}
}

// Two nodes in the middle of a rotation send with different keys.
func testKeys(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 1)
	a := know(Start(t, p, Spec{Self: 1, Nodes: nodes, Keys: []probe.Key{Key(1), Key(2)}}), 2)
	b := know(Start(t, p, Spec{Self: 2, Nodes: nodes, Keys: []probe.Key{Key(2), Key(1)}}), 1)
	a.AwaitAnswers(2, 3)
	b.AwaitAnswers(1, 3)
}

func testRate(t *testing.T, p Provider) {
	if p.Rate == 0 {
		t.Skip("the provider names no rate")
	}
	nodes := p.Nodes(t, 3, 1)
	Start(t, p, Spec{Self: 1, Nodes: nodes})
	w, other := Play(t, p, nodes[1], nodes[0], 0), Play(t, p, nodes[2], nodes[0], 0)
	w.Fresh()
	ask := probe.Packet{Type: probe.TypeProbe, Src: 2, Dst: 1, Prober: 77}
	began := time.Now()
	for range 4 * p.Rate {
		ask.Seq++
		w.Send(ask, Key(1))
	}
	ask.Src, ask.Seq = 3, 1
	other.Ask(ask, Key(1)) // has a rate of its own, and comes after all of the flood
	got := 0
	_ = w.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	b := make([]byte, probe.Size)
	for {
		n, err := w.conn.Read(b)
		if err != nil {
			break
		}
		if pkt, err := probe.Parse(b[:n]); err == nil && pkt.Type == probe.TypeReply {
			got++
		}
	}
	limit := p.Rate + int(float64(p.Rate)*time.Since(began).Seconds()) + 1
	if got == 0 || got > limit {
		t.Errorf("%d answers, expected 1 to %d", got, limit)
	}
}

// A copy of a probe, as whoever saw it on the network can send without a key, is
// not answered once the instance that sent it is known to run; one that was
// overtaken is.
func testReplayed(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 2, 1)
	know(Start(t, p, Spec{Self: 1, Nodes: nodes}), 2)
	w := Play(t, p, nodes[1], nodes[0], 0)
	w.Fresh() // it is up
	ask := probe.Packet{Type: probe.TypeProbe, Src: 2, Dst: 1, Prober: instance(2)}
	for _, seq := range []uint64{7, 7, 9, 7, 8, 9, 10} {
		ask.Seq = seq
		w.Send(ask, Key(1))
	}
	for _, want := range []uint64{7, 9, 8, 10} {
		if r, _ := w.Receive(probe.TypeReply); r.Seq != want {
			t.Errorf("the answer to probe %d, expected that to %d", r.Seq, want)
		}
	}
}
