package udp

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/probetest"
)

// TestTurns: while a peer is hurried there are three probes between two of its intervals, its
// own come when they would have, and whatever was missed is left out.
func TestTurns(t *testing.T) {
	const interval = 40 * time.Millisecond
	x := &target{due: 1000}
	begin := x.due
	var own, between int
	at := begin
	run := func(d time.Duration) {
		own, between = 0, 0
		for end := at.Add(d); ; {
			next := max(x.turnAt(at), at)
			if next >= end {
				at = end
				return
			}
			at = next
			x.turnAt(at)
			if x.between {
				between++
			} else {
				own++
				if at.Sub(begin)%interval != 0 {
					t.Fatalf("%v after the beat", at.Sub(begin)%interval)
				}
				x.due = following(x.due, at, interval, 0)
			}
			x.extra = at.Add(probe.HurriedInterval(interval, MinInterval))
		}
	}
	want := func(what string, o, b int) {
		t.Helper()
		if own != o || between != b {
			t.Errorf("%s: %d and %d, want %d and %d", what, own, between, o, b)
		}
	}
	run(10 * interval)
	want("as ever", 10, 0)
	run(3 * interval / 2)
	x.hurried.Store(int64(at.Add(5 * interval)))
	run(5 * interval)
	want("hurried", 5, 15) // from the middle of one interval to that of another
	run(10*interval - interval/2)
	want("and over", 9, 0)
}

// TestHeldUp: a sender that stood still says so; one that is a little late does not.
func TestHeldUp(t *testing.T) {
	var said strings.Builder
	p := &Prober{opt: Options{Logger: slog.New(slog.NewTextHandler(&said, nil))}}
	tab := &table{interval: 400 * time.Millisecond, targets: []*target{{due: 1000}, {due: 2000}}}
	p.heldUp(tab, membership.Mono(1000).Add(800*time.Millisecond))
	if n := p.Counters()["held_up"]; n != 0 || said.Len() != 0 {
		t.Errorf("%d times: %s", n, said.String())
	}
	p.heldUp(tab, membership.Mono(1000).Add(4400*time.Millisecond))
	if n := p.Counters()["held_up"]; n != 1 || !strings.Contains(said.String(), "late=4.4s") {
		t.Errorf("%d times: %s", n, said.String())
	}
}

// TestHurry: a hint has more probes sent, for its time, and all are answered; it is no
// matter whom else, or how often it comes.
func TestHurry(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 3, 1)
	const interval = 50 * time.Millisecond
	var p [3]*Prober
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i := range p {
		var err error
		opt := r.options(probetest.Spec{Self: nodes[i].ID, Nodes: nodes, Interval: interval, Keys: key(), Instance: uint64(i + 10)})
		opt.Rate = 0
		if p[i], err = New(opt); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = p[i].Run(ctx) })
	}
	for i := range p {
		for k := range p {
			p[i].SetEpoch(membership.NodeID(k+1), uint64(k+10))
		}
	}
	time.Sleep(4 * interval)
	p[0].Hurry(9, time.Second)
	before, began := p[0].Snapshot(), time.Now()
	const long = 10 * interval
	for range 20 {
		p[0].Hurry(2, long)
		time.Sleep(interval)
	}
	after, ended := p[0].Snapshot(), time.Now()
	two, three := after[0].Sent-before[0].Sent, after[1].Sent-before[1].Sent
	hurries := p[0].Counters()["hurries"]
	if most := hurries * (probe.HurryBy - 1) * uint64(long/interval); two < three+15 || two > three+most+5 {
		t.Errorf("%d probes to the one that is hurried and %d to the other, %d times hurried", two, three, hurries)
	}
	if got := after[0].Answered - before[0].Answered; got+3 < two {
		t.Errorf("%d of %d answered: %v", got, two, p[1].Counters())
	}
	if most := uint64(ended.Sub(began)/(2*long)) + 1; hurries == 0 || hurries > most {
		t.Errorf("hurried %d times, at most %d", hurries, most)
	}
}

// A peer that is hurried, with its long probes, stays well within its rate of answers.
func TestHurryIsWithinTheRate(t *testing.T) {
	for _, interval := range []time.Duration{MinInterval, 10 * time.Millisecond, 40 * time.Millisecond, time.Second, time.Minute} {
		most := probe.HurryBy*float64(time.Second)/float64(interval) + 3*float64(time.Second)/float64(interval)/probe.LongEvery
		if float64(Rate(interval)) < 1.5*most {
			t.Errorf("interval %v: rate %d, and %.1f probes a second", interval, Rate(interval), most)
		}
	}
}
