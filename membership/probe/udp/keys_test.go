package udp

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/probetest"
)

// Keys change in the middle of it, node by node and out of step, and no probe is lost:
// what one sends with the other accepts.
func TestKeysChangeWithoutLoss(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 2, 1)
	k1, k2 := probetest.Key(1), probetest.Key(2)
	var pair [2]*Prober
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range pair {
		p, err := New(r.options(probetest.Spec{Self: nodes[i].ID, Nodes: nodes, Interval: 2 * time.Millisecond, Keys: []probe.Key{k1}, Instance: uint64(10 + i)}))
		if err != nil {
			t.Fatal(err)
		}
		pair[i] = p
		wg.Go(func() { _ = p.Run(ctx) })
	}
	pair[0].SetEpoch(2, 11)
	pair[1].SetEpoch(1, 10)
	heard := func(more uint64) {
		t.Helper()
		for _, p := range pair {
			want := p.Counters()["accepted"] + more
			for began := time.Now(); p.Counters()["accepted"] < want; time.Sleep(time.Millisecond) {
				if time.Since(began) > 10*time.Second {
					t.Fatalf("no answers: %v", p.Counters())
				}
			}
		}
	}
	heard(5)
	for _, keys := range [][]probe.Key{{k1, k2}, {k2, k1}, {k2}} {
		for _, p := range pair {
			if err := p.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
			heard(5)
		}
		heard(20) // what was sent with the old one has come, before it goes
	}
	cancel()
	wg.Wait()
	for i, p := range pair {
		c := p.Counters()
		if c["key_epoch"] != 0 || c["tag"] != 0 || c["form"] != 0 {
			t.Errorf("node %d: %v", i+1, c)
		}
	}
	if err := pair[0].SetKeys(nil); err == nil {
		t.Error("no keys were taken")
	}
	if err := pair[0].SetKeys([]probe.Key{{}}); err == nil {
		t.Error("an empty key was taken")
	}
}

// The caller's list is its own afterwards, and the path of a packet takes no lock.
func TestSetKeysWhileItRuns(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 2, 1)
	list := []probe.Key{probetest.Key(1), probetest.Key(2)}
	p, err := New(r.options(probetest.Spec{Self: 1, Nodes: nodes, Interval: time.Second, Keys: list, Instance: 10}))
	if err != nil {
		t.Fatal(err)
	}
	list[0] = probe.Key{}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			var buf, out [probe.Size]byte
			for range 1000 {
				p.ask(p.targets()[0], now(), &buf)
				p.receive(0, buf[:], now(), &out)
			}
		})
	}
	for range 200 {
		if err := p.SetKeys([]probe.Key{probetest.Key(2), probetest.Key(1)}); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}
