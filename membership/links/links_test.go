package links

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

const ms = time.Millisecond

var lan = membership.Timing{Interval: 40 * ms, DeadAfter: 200 * ms, LinkSettle: 280 * ms}

// wire is two nodes' links; probes go out every interval, all at once.
type wire struct {
	m       *Machine
	timing  membership.Timing
	now     membership.Mono
	samples []membership.Sample
	cut     map[string]bool // "peer link"
	told    []string
}

func newWire(t membership.Timing, peers, links int) *wire {
	w := &wire{m: New(t), timing: t, now: membership.Mono(time.Hour), cut: map[string]bool{}}
	for p := range peers {
		for l := range links {
			w.samples = append(w.samples, membership.Sample{Peer: membership.NodeID(p + 2), Link: l})
		}
	}
	return w
}

func (w *wire) answer() {
	for i := range w.samples {
		if s := &w.samples[i]; !w.cut[fmt.Sprint(s.Peer, " ", s.Link)] && !w.cut[fmt.Sprint(s.Peer)] {
			s.Heard = w.now
		}
	}
}

func (w *wire) look() {
	for _, c := range w.m.Observe(w.now, w.samples) {
		word := "carries"
		switch {
		case c.Long && c.Loss.Size != 0:
			word = "loses long ones"
		case c.Long:
			word = "carries long ones"
		case c.Silent:
			word = "silent"
		}
		w.told = append(w.told, fmt.Sprintf("%v: %d/%d %s", w.now.Sub(membership.Mono(time.Hour)), c.Peer, c.Link, word))
	}
}

// run lets time go on, with a look at each deadline and at each answer.
func (w *wire) run(d time.Duration) {
	for end := w.now.Add(d); w.now < end; {
		next := w.now - w.now%membership.Mono(w.timing.Interval) + membership.Mono(w.timing.Interval)
		if due := w.m.Deadline(); due != 0 && due < next {
			w.now = due
			w.look()
			continue
		}
		w.now = next
		w.answer()
		w.look()
	}
}

func (w *wire) want(t *testing.T, what ...string) {
	t.Helper()
	if !slices.Equal(w.told, what) {
		t.Errorf("told\n\t%s\nwant\n\t%s", strings.Join(w.told, "\n\t"), strings.Join(what, "\n\t"))
	}
	w.told = nil
}

func TestOneOfTwoLinks(t *testing.T) {
	w := newWire(lan, 2, 2)
	w.run(time.Second)
	w.want(t)
	w.cut["2 1"] = true
	w.run(time.Second)
	w.want(t, "1.2s: 2/1 silent")
	if got := w.m.Silent(2); !slices.Equal(got, []int{1}) {
		t.Errorf("silent: %v", got)
	}
	if got := w.m.Lost(w.now); len(got) != 1 || got[0].Peer != 2 || got[0].Link != 1 || got[0].Age != time.Second {
		t.Errorf("lost: %+v", got)
	}
	w.cut["2 0"] = true // nothing of it is heard: that is liveness's to say
	w.run(time.Second)
	w.want(t)
	w.cut = map[string]bool{}
	w.run(time.Second)
	w.want(t, "3.32s: 2/1 carries")
	if w.m.Silent(2) != nil || w.m.Lost(w.now) != nil {
		t.Error("silent still")
	}
}

// hole has a link lose long packets, or carry them again.
func (w *wire) hole(p membership.NodeID, link, size int, there bool) {
	for i := range w.samples {
		if s := &w.samples[i]; s.Peer == p && s.Link == link {
			s.Long = membership.LongLoss{Size: size, There: there}
		}
	}
}

// A link that loses long packets is told of once, whichever way they are lost, and avoided
// as long as another is well.
func TestLongPackets(t *testing.T) {
	w := newWire(lan, 2, 2)
	avoid := func(want ...int) {
		t.Helper()
		if got := w.m.Avoid(2); !slices.Equal(got, want) {
			t.Errorf("%v are avoided, want %v", got, want)
		}
		if w.m.Avoid(3) != nil || w.m.Avoid(9) != nil {
			t.Errorf("%v, %v", w.m.Avoid(3), w.m.Avoid(9))
		}
	}
	w.run(time.Second)
	avoid()
	w.hole(2, 1, 1500, true)
	w.run(time.Second)
	w.hole(2, 1, 1500, false)
	w.run(time.Second)
	w.want(t, "1.04s: 2/1 loses long ones")
	avoid(1)
	if got := w.m.LosesLong(); len(got) != 1 || got[0].Peer != 2 || got[0].Link != 1 || got[0].Loss.Size != 1500 || got[0].Loss.There || w.m.Silent(2) != nil || w.m.Lost(w.now) != nil {
		t.Errorf("%+v", got)
	}
	w.hole(2, 0, 9000, true)
	w.run(time.Second)
	w.want(t, "3.04s: 2/0 loses long ones")
	avoid()
	w.hole(2, 0, 0, false)
	w.cut["2 0"] = true
	w.run(time.Second)
	w.want(t, "4.04s: 2/0 carries long ones", "4.2s: 2/0 silent")
	avoid(0)
	w.cut["2 1"] = true // none is heard: both are what they were
	w.hole(2, 1, 0, false)
	w.run(time.Second)
	w.want(t, "5.04s: 2/1 carries long ones")
	avoid(0)
}

func TestLongPacketsOnOneLink(t *testing.T) {
	w := newWire(lan, 1, 1)
	w.hole(2, 0, 1500, true)
	w.run(time.Second)
	w.want(t, "40ms: 2/0 loses long ones")
	if w.m.Avoid(2) != nil || w.m.Deadline() != 0 {
		t.Error("the only link is avoided, or a look is due")
	}
}

func TestAllLinksAtOnce(t *testing.T) {
	w := newWire(lan, 1, 3)
	w.run(time.Second)
	w.cut["2"] = true
	w.run(time.Minute)
	w.want(t)
	if at := w.m.Deadline(); at != 0 {
		t.Errorf("a look at a dead peer is due in %v", at.Sub(w.now))
	}
	w.cut = map[string]bool{"2 0": true, "2 2": true}
	w.run(time.Second)
	w.want(t, "1m1.08s: 2/0 silent", "1m1.08s: 2/2 silent")
}

func TestNeverHeardOnALink(t *testing.T) {
	w := newWire(lan, 1, 2)
	w.cut["2"] = true
	w.run(time.Second)
	w.cut = map[string]bool{"2 1": true}
	w.run(time.Second)
	w.want(t, "1.24s: 2/1 silent")
}

// A link that comes and goes is told of once, and again when it has kept up for as
// long as a link has to settle.
func TestFlappingLink(t *testing.T) {
	w := newWire(lan, 1, 2)
	w.run(time.Second)
	for range 20 {
		w.cut["2 0"] = true
		w.run(240 * ms)
		delete(w.cut, "2 0")
		w.run(120 * ms)
	}
	w.run(time.Second)
	w.want(t, "1.2s: 2/0 silent", "8.4s: 2/0 carries")
}

// After a pause of this node what waited on one link is read before what waited on
// the other; nothing is said for that.
func TestOwnPause(t *testing.T) {
	w := newWire(lan, 1, 2)
	w.run(time.Second)
	w.now = w.now.Add(3 * time.Second)
	w.samples[1].Heard = w.now
	w.look()
	w.run(time.Second)
	w.want(t)
}

func TestOneLinkIsNoneOfOurs(t *testing.T) {
	w := newWire(lan, 2, 1)
	w.run(time.Second)
	w.cut["2"] = true
	w.run(time.Second)
	w.want(t)
	if w.m.Deadline() != 0 {
		t.Error("a look is due")
	}
}

// Peers and links come and go with the configuration, and so do the times.
func TestConfigurationChanges(t *testing.T) {
	w := newWire(lan, 3, 2)
	w.run(time.Second)
	w.cut["3 1"] = true
	w.run(time.Second)
	w.want(t, "1.2s: 3/1 silent")
	w.samples = slices.Delete(w.samples, 0, 2) // node 2 is removed
	w.run(time.Second)
	w.want(t)
	if !slices.Equal(w.m.Silent(3), []int{1}) || w.m.Silent(2) != nil {
		t.Errorf("silent: %v, %v", w.m.Silent(3), w.m.Silent(2))
	}
	w.samples = slices.Insert(w.samples, 2, membership.Sample{Peer: 3, Link: 2}) // a third link
	w.run(time.Second)
	w.want(t)
	w.samples = slices.Delete(w.samples, 1, 2) // the silent one is gone
	w.run(time.Second)
	w.want(t)
	if w.m.Silent(3) != nil {
		t.Error("a link that is gone is silent")
	}
	safe := membership.Timing{Interval: 400 * ms, DeadAfter: 2 * time.Second}
	w.m.Retime(safe)
	w.timing = safe
	w.run(2 * time.Second)
	w.cut["4 0"] = true
	w.run(3 * time.Second)
	w.want(t, "9.2s: 4/0 silent")
}

// Whatever is cut and healed: a link that is cut for long enough while another one of
// the peer is whole is found, no link is told of twice in a row, and in the end, when
// all is healed, none is silent.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWire(lan, rapid.IntRange(1, 3).Draw(t, "peers"), rapid.IntRange(1, 3).Draw(t, "links"))
		changed, state := map[string]membership.Mono{}, map[string]string{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			s := rapid.SampledFrom(w.samples).Draw(t, "link")
			key := fmt.Sprint(s.Peer, " ", s.Link)
			w.cut[key], changed[key] = !w.cut[key], w.now
			w.run(time.Duration(rapid.IntRange(1, 20).Draw(t, "intervals")) * lan.Interval)
			for _, line := range w.told {
				_, line, _ = strings.Cut(line, ": ")
				name, word, _ := strings.Cut(line, " ")
				if state[name] == word || state[name] == "" && word == "carries" {
					t.Fatalf("%s is told again: %s", name, word)
				}
				state[name] = word
			}
			w.told = nil
			long := func(s membership.Sample) bool {
				return w.now.Sub(changed[fmt.Sprint(s.Peer, " ", s.Link)]) > 3*lan.DeadAfter
			}
			for _, s := range w.samples {
				whole := slices.ContainsFunc(w.samples, func(o membership.Sample) bool {
					return o.Peer == s.Peer && !w.cut[fmt.Sprint(o.Peer, " ", o.Link)] && long(o)
				})
				if w.cut[fmt.Sprint(s.Peer, " ", s.Link)] && long(s) && whole && !slices.Contains(w.m.Silent(s.Peer), s.Link) {
					t.Fatalf("link %d of %d is cut and not silent", s.Link, s.Peer)
				}
			}
		}
		w.cut = map[string]bool{}
		w.run(time.Second)
		if lost := w.m.Lost(w.now); lost != nil || w.m.Deadline() == 0 && len(w.m.peers[0].links) > 1 {
			t.Fatalf("all is healed, and silent are %+v", lost)
		}
	})
}

func TestObserveDoesNotAllocate(t *testing.T) {
	w := newWire(lan, 31, 2)
	w.run(time.Second)
	if n := testing.AllocsPerRun(100, func() { w.now++; w.m.Observe(w.now, w.samples) }); n != 0 {
		t.Errorf("%v allocations a look", n)
	}
}

func TestJudge(t *testing.T) {
	now := membership.Mono(time.Hour)
	heard := func(age time.Duration) membership.LinkReport {
		return membership.LinkReport{Heard: now.Add(-age), Probes: 200, P50: ms, P99: 2 * ms}
	}
	with := func(edit func(*membership.LinkReport)) membership.LinkReport {
		r := heard(0)
		edit(&r)
		return r
	}
	tests := []struct {
		name string
		r    membership.LinkReport
		want State
	}{
		{"well", heard(0), Up},
		{"never", membership.LinkReport{}, Silent},
		{"just before dead_after", heard(lan.DeadAfter - 1), Up},
		{"at dead_after", heard(lan.DeadAfter), Silent},
		{"nine of two hundred", with(func(r *membership.LinkReport) { r.Lost = 9 }), Up},
		{"ten of two hundred", with(func(r *membership.LinkReport) { r.Lost = 10 }), Degraded},
		{"half of few", with(func(r *membership.LinkReport) { r.Probes, r.Lost, r.P99 = Least(lan)-1, 60, time.Second }), Up},
		{"slow", with(func(r *membership.LinkReport) { r.P99 = 100 * ms }), Degraded},
		{"loses long packets", with(func(r *membership.LinkReport) { r.Long.Size = 1500 }), Degraded},
		{"slow now and then", with(func(r *membership.LinkReport) { r.P99 = 99 * ms }), Up},
		{"silent before it is slow", with(func(r *membership.LinkReport) { r.P99, r.Heard = time.Second, 1 }), Silent},
	}
	for _, tt := range tests {
		if got := Judge(tt.r, now, lan); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// A few seconds' worth of probes, whatever the interval.
func TestLeast(t *testing.T) {
	for interval, want := range map[time.Duration]int{5 * ms: 128, 40 * ms: 125, 200 * ms: 25, 10 * time.Second: 20, 0: 128} {
		if got := Least(membership.Timing{Interval: interval}); got != want {
			t.Errorf("%v: %d, want %d", interval, got, want)
		}
	}
}
