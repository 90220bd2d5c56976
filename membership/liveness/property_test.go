package liveness

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

var profiles = []string{"fast", "lan", "safe", "vm"}

func drawCluster(t *rapid.T, least, most int) (*cluster, membership.Timing) {
	tm := profile(rapid.SampledFrom(profiles).Draw(t, "profile"))
	n := rapid.IntRange(least, most).Draw(t, "nodes")
	c := newCluster(n, 1, tm, rapid.Uint64().Draw(t, "seed"))
	c.run(2*restEvery + 3*tm.DeadAfter)
	return c, tm
}

// A death is convicted, by every survivor, one interval and two ways of a row
// after the first suspicion at the latest, whatever the phases of the probes; and
// nobody else is suspected.
func TestDeathIsConvictedInTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, tm := drawCluster(t, 3, 7)
		c.run(time.Duration(rapid.Int64Range(0, int64(tm.DeadAfter)).Draw(t, "when")))
		victim := membership.NodeID(rapid.IntRange(1, len(c.nodes)).Draw(t, "victim"))
		c.host(victim).dead = true
		died := c.now
		var first membership.Mono
		convicted := map[membership.NodeID]membership.Mono{}
		c.seen = func(h *host, e Effect) {
			switch e := e.(type) {
			case Suspected:
				if e.Node != victim {
					t.Fatalf("node %d suspects %d", h.id, e.Node)
				}
				if first == 0 {
					first = c.now
				}
			case Convicted:
				if len(e.Departures) != 1 || e.Departures[0].Incarnation.Node != victim || e.Departures[0].Reason != membership.ReasonSilent {
					t.Fatalf("node %d convicts %v", h.id, e.Departures)
				}
				if convicted[h.id] == 0 {
					convicted[h.id] = c.now
				}
			}
		}
		c.run(tm.DeadAfter + 2*tm.Interval)
		if len(convicted) != len(c.nodes)-1 {
			t.Fatalf("convicted by %d of %d", len(convicted), len(c.nodes)-1)
		}
		slack := 2*wire + rtt
		for id, at := range convicted {
			if late := at.Sub(first) - tm.Interval - slack; late > 0 {
				t.Fatalf("node %d convicts %v after the bound from the first suspicion", id, late)
			}
			if late := at.Sub(died) - tm.DeadAfter - slack; late > 0 {
				t.Fatalf("node %d convicts %v after the bound from the death", id, late)
			}
		}
	})
}

// Lost probes, late timers, daemons that stand still for a while and cuts
// shorter than dead_after convict nobody.
func TestHealthyIsNeverConvicted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, tm := drawCluster(t, 2, 5)
		c.drop = rapid.Float64Range(0, 0.05).Draw(t, "loss")
		c.jitter = tm.Interval / 4
		c.seen = func(h *host, e Effect) {
			if v, is := e.(Convicted); is && len(v.Departures) > 0 {
				t.Fatalf("node %d convicts %v", h.id, v.Departures)
			}
		}
		any := func(what string) membership.NodeID {
			return membership.NodeID(rapid.IntRange(1, len(c.nodes)).Draw(t, what))
		}
		for range rapid.IntRange(1, 6).Draw(t, "troubles") {
			switch a, b := any("a"), any("b"); {
			case a == b && c.now >= c.host(a).halted:
				c.halt(a, time.Duration(rapid.Int64Range(1, int64(tm.RecoveryStall)).Draw(t, "halt")))
			case a != b:
				c.both(a, b, true)
				c.run(time.Duration(rapid.Int64Range(0, int64(tm.DeadAfter-2*tm.Interval)).Draw(t, "cut")))
				c.both(a, b, false)
			}
			c.run(time.Duration(rapid.Int64Range(0, int64(3*tm.DeadAfter)).Draw(t, "then")))
		}
	})
}

// A pause of this node's daemon, however long, makes it suspect nobody.
func TestOwnPauseSuspectsNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, tm := drawCluster(t, 2, 4)
		c.seen = func(h *host, e Effect) {
			if s, is := e.(Suspected); is {
				t.Fatalf("node %d suspects %d", h.id, s.Node)
			}
		}
		for range rapid.IntRange(1, 4).Draw(t, "pauses") {
			id := membership.NodeID(rapid.IntRange(1, len(c.nodes)).Draw(t, "node"))
			d := time.Duration(rapid.Int64Range(1, int64(3*tm.DeadAfter)).Draw(t, "pause"))
			c.halt(id, d)
			c.run(d + tm.DeadAfter)
		}
	})
}

// Same inputs, same outputs.
func TestDeterminism(t *testing.T) {
	story := func() []string {
		c := newCluster(5, 2, profile("lan"), 7)
		c.commit, c.drop, c.jitter = true, 0.05, time.Millisecond
		c.run(2 * time.Second)
		c.both(1, 4, true)
		c.host(3).dead = true
		c.halt(2, 300*time.Millisecond)
		c.run(3 * time.Second)
		return c.lines
	}
	if a, b := story(), story(); len(a) < 5 || !slices.Equal(a, b) {
		t.Errorf("%q\n%q", a, b)
	}
}

// witness is a machine of node 1 under arbitrary rows and samples, with what a
// simple judge needs to know written down beside it.
type witness struct {
	m       *Machine
	now     membership.Mono
	tm      membership.Timing
	ids     []membership.NodeID
	heard   map[membership.NodeID]membership.Mono
	last    map[membership.NodeID]Row
	got     map[membership.NodeID]membership.Mono
	suspect map[membership.NodeID]membership.Mono
	gone    map[membership.NodeID]bool // seldom answers, and few rows say that it does
}

func newWitness(t *rapid.T) *witness {
	w := &witness{
		now: membership.Mono(time.Hour), tm: profile("lan"), heard: map[membership.NodeID]membership.Mono{},
		last: map[membership.NodeID]Row{}, got: map[membership.NodeID]membership.Mono{}, suspect: map[membership.NodeID]membership.Mono{},
		gone: map[membership.NodeID]bool{},
	}
	v := membership.View{Number: 1, Quorate: true}
	for i := range rapid.IntRange(3, 5).Draw(t, "nodes") {
		w.ids = append(w.ids, membership.NodeID(i+1))
		w.gone[w.ids[i]] = i > 0 && rapid.IntRange(0, 2).Draw(t, "gone") == 0
		v.Members = append(v.Members, membership.Incarnation{Node: w.ids[i], Boot: "b"})
	}
	w.m = New(Config{Self: 1, Nodes: w.ids, Timing: w.tm, Policy: quorum.Majority(w.ids...)}, w.now)
	w.m.Step(w.now, ViewIn{View: v})
	return w
}

// step lets time pass to the deadline or to a row, and checks what comes of it.
func (w *witness) step(t *rapid.T) {
	for _, id := range w.ids[1:] {
		if often := rapid.IntRange(0, 39).Draw(t, "answers"); often == 0 || !w.gone[id] && often < 30 {
			w.heard[id] = w.now
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "row") > 0 {
		w.row(t)
		return
	}
	w.now = max(w.m.Deadline(), w.now)
	var s []membership.Sample
	for _, id := range w.ids[1:] {
		s = append(s, membership.Sample{Peer: id, Heard: w.heard[id]})
	}
	for _, e := range w.m.Step(w.now, Observed{Samples: s}) {
		switch e := e.(type) {
		case Suspected:
			w.suspect[e.Node] = w.now
		case Cleared:
			delete(w.suspect, e.Node)
		case Paused:
			t.Fatalf("paused")
		case Convicted:
			w.judge(t, e.Departures)
		}
	}
}

func (w *witness) row(t *rapid.T) {
	from := w.ids[rapid.IntRange(1, len(w.ids)-1).Draw(t, "from")]
	r := Row{From: from}
	for _, id := range w.ids {
		if id != from {
			age := time.Duration(rapid.IntRange(-1, 1).Draw(t, "age")) * w.tm.DeadAfter / 2
			if w.gone[id] && rapid.IntRange(0, 7).Draw(t, "says so") > 0 {
				age = w.tm.DeadAfter
			}
			r.Ages = append(r.Ages, Age{Peer: id, Age: max(age, -1), Path: max(age, -1)})
		}
	}
	w.last[from], w.got[from] = r, w.now
	w.m.Step(w.now, RowIn{Row: r})
}

// judge: no conviction for silence while the newest row of a member that is not
// silent itself, received after the suspicion, says that it answers; none of a
// node that this node hears; none without a quorum of observers that say so.
func (w *witness) judge(t *rapid.T, deps []membership.Departure) {
	for _, d := range deps {
		if d.Reason != membership.ReasonSilent {
			continue
		}
		x := d.Incarnation.Node
		since, is := w.suspect[x]
		if !is || w.now.Sub(w.heard[x]) < w.tm.DeadAfter {
			t.Fatalf("%d is heard, and convicted", x)
		}
		for _, p := range w.ids[1:] {
			void := p == x || w.suspect[p] != 0
			said := w.age(p, x)
			if !void && w.got[p] >= since && w.now.Sub(w.got[p]) <= w.tm.DeadAfter+2*w.tm.Interval && said >= 0 && said < w.tm.DeadAfter {
				t.Fatalf("%d is convicted, and %d hears it", x, p)
			}
			if slices.Contains(d.Observers, p) && (void || said < w.tm.DeadAfter || w.got[p] < since.Add(-2*w.tm.Interval)) {
				t.Fatalf("%d is no observer of %d", p, x)
			}
		}
		if !quorum.Majority(w.ids...).Quorate(d.Observers).Quorate {
			t.Fatalf("%v convict %d", d.Observers, x)
		}
	}
}

func (w *witness) age(p, x membership.NodeID) time.Duration {
	for _, a := range w.last[p].Ages {
		if a.Peer == x {
			return a.Age
		}
	}
	return never
}

func TestSilenceNeedsEveryRow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWitness(t)
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			w.step(t)
		}
	})
}

// The next deadline is after the look, so that a caller cannot spin.
func TestDeadlineIsLater(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWitness(t)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if w.step(t); w.m.at == w.now && w.m.Deadline() <= w.now && !w.m.fresherRowAt(w.now) {
				t.Fatalf("deadline %v at %v", w.m.Deadline(), w.now)
			}
		}
	})
}

// fresherRowAt: a row came since the look, which may ask for another at once.
func (m *Machine) fresherRowAt(now membership.Mono) bool {
	return slices.ContainsFunc(m.peers, func(p *peer) bool { return p.cells != nil && p.rowAt >= now })
}

// A row of a stranger's bytes does no harm.
func FuzzRow(f *testing.F) {
	f.Add([]byte(`{"from":2,"round":1,"ages":[{"peer":3,"age":900000000,"path":-1}]}`))
	f.Add([]byte(`{"from":2,"ages":[{"peer":2,"age":-9223372036854775808},{"peer":1,"age":9223372036854775807,"path":9223372036854775807}]}`))
	f.Add([]byte(`{"from":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Row
		if json.Unmarshal(b, &r) != nil {
			return
		}
		c := newCluster(3, 1, profile("lan"), 1)
		c.run(500 * time.Millisecond)
		h := c.host(1)
		c.seen = func(_ *host, e Effect) {
			if v, is := e.(Convicted); is && len(v.Departures) > 0 && v.Departures[0].Reason != membership.ReasonUnlinked {
				t.Fatalf("%+v", e)
			}
		}
		c.step(h, RowIn{Row: r})
		c.run(500 * time.Millisecond)
	})
}

func TestRowJSON(t *testing.T) {
	r := Row{From: 2, Round: 3, View: 4, LastTerm: 5, LastIndex: 6, Instance: 7, Ages: []Age{{Peer: 1, Age: never, Path: 2, DaemonAge: 3, Instance: 4}}}
	b, err := json.Marshal(r)
	want := `{"from":2,"round":3,"view":4,"ages":[{"peer":1,"age":-1,"path":2,"daemon_age":3,"instance":4}],"last_term":5,"last_index":6,"instance":7}`
	var back Row
	if err != nil || string(b) != want || json.Unmarshal(b, &back) != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("%s, %v, %+v", b, err, back)
	}
}

// One lost link is settled, in favour of one of its ends, by dead_after and
// link_settle and the way of the rows, and not before link_settle.
func TestLostLinkIsSettledInTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, tm := drawCluster(t, 3, 6)
		n := len(c.nodes)
		a := rapid.IntRange(1, n-1).Draw(t, "a")
		b := rapid.IntRange(a+1, n).Draw(t, "b")
		c.both(membership.NodeID(a), membership.NodeID(b), true)
		cut := c.now
		verdicts := map[membership.NodeID]bool{}
		c.seen = func(h *host, e Effect) {
			v, is := e.(Convicted)
			if !is || verdicts[h.id] {
				return // repeated every second
			}
			verdicts[h.id] = true
			if len(v.Departures) != 1 || v.Departures[0].Incarnation.Node != membership.NodeID(b) || v.Departures[0].Reason != membership.ReasonUnlinked {
				t.Fatalf("node %d convicts %v", h.id, v.Departures)
			}
			took := c.now.Sub(cut)
			if took < tm.DeadAfter-tm.Interval+tm.LinkSettle || took > tm.DeadAfter+tm.LinkSettle+2*wire+2*rtt {
				t.Fatalf("settled after %v", took)
			}
		}
		c.run(tm.DeadAfter + tm.LinkSettle + tm.Interval)
		if len(verdicts) != n {
			t.Fatalf("%d verdicts of %d nodes", len(verdicts), n)
		}
	})
}

// While a freeze is announced nobody convicts that node, whatever its links do
// besides; one that lasts longer is convicted, by all, dead_after after the end.
func TestHeldIsConvictedAfterTheHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, tm := drawCluster(t, 3, 6)
		held := membership.NodeID(rapid.IntRange(1, len(c.nodes)).Draw(t, "held"))
		other := c.nodes[int(held)%len(c.nodes)].id
		span := func(what string, most time.Duration) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(most)).Draw(t, what))
		}
		long := 2*tm.DeadAfter + span("hold", 10*tm.DeadAfter)
		until := c.now.Add(long)
		verdicts := 0
		c.seen = func(h *host, e Effect) {
			v, is := e.(Convicted)
			if !is || len(v.Departures) == 0 || h.id == held {
				return
			}
			if len(v.Departures) != 1 || v.Departures[0].Incarnation.Node != held || c.now < until.Add(tm.DeadAfter) {
				t.Fatalf("node %d convicts %v %v after the end of the hold", h.id, v.Departures, c.now.Sub(until))
			}
			verdicts++
		}
		for _, h := range c.alive() {
			c.step(h, Hold{Node: held, Until: until})
		}
		c.run(span("before", tm.DeadAfter))
		if rapid.Bool().Draw(t, "a link first") {
			c.both(held, other, true)
			c.run(span("cut", long/2))
			c.both(held, other, false)
		}
		c.freeze(held, until.Sub(c.now)+3*tm.DeadAfter)
		c.run(until.Sub(c.now) + 2*tm.DeadAfter + 2*tm.Interval)
		if verdicts < len(c.nodes)-1 {
			t.Fatalf("%d verdicts of %d nodes", verdicts, len(c.nodes)-1)
		}
	})
}
