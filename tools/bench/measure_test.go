package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// fake is a system whose views come at once, and late by what the test says.
type fake struct {
	nodes   int
	leader  int
	late    []time.Duration // of the n-th death's last survivor
	views   *Views
	killed  int
	dead    map[int]bool
	packets uint64
	// restless is how many more views than one the next return of a node brings.
	restless int
	calls    []string
	fail     map[string]error // by call
	onKill   func()           // nil: nothing more happens
}

func newFake(nodes int) *fake {
	return &fake{nodes: nodes, leader: 2, views: NewViews(), dead: map[int]bool{}, fail: map[string]error{}}
}

func (f *fake) call(format string, args ...any) error {
	c := fmt.Sprintf(format, args...)
	f.calls = append(f.calls, c)
	return f.fail[c]
}

func (f *fake) Name() string                        { return "fake" }
func (f *fake) Start(context.Context) error         { return f.call("start") }
func (f *fake) Whole(context.Context) error         { return f.call("whole") }
func (f *fake) Views() *Views                       { return f.views }
func (f *fake) Leader(context.Context) (int, error) { return f.leader, f.fail["leader"] }
func (f *fake) Close() error                        { return f.call("close") }

func (f *fake) Kill(_ context.Context, n int) (membership.Mono, error) {
	at := boottime()
	late := time.Millisecond
	if f.killed < len(f.late) {
		late = f.late[f.killed]
	}
	f.killed++
	if f.onKill != nil {
		f.onKill()
	}
	f.dead[n] = true
	for i, o := range others(f.nodes, n) {
		v := View{Node: o, ID: fmt.Sprint("death ", f.killed), Members: others(f.nodes, n), Seen: at + 1}
		if i == f.nodes-2 {
			v.Seen, v.Stamp = at.Add(late), at.Add(late/2)
		}
		f.views.Add(v)
	}
	time.Sleep(late) // so that what comes next comes after its last view
	return at, f.call("kill %d", n)
}

func (f *fake) Restart(_ context.Context, n int) error {
	delete(f.dead, n)
	for range 1 + f.restless {
		for _, o := range others(f.nodes, 0) {
			f.views.Add(View{Node: o, ID: fmt.Sprint("join after ", f.killed), Members: others(f.nodes, 0), Seen: boottime()})
		}
	}
	f.restless = max(f.restless-1, 0)
	return f.call("restart %d", n)
}

func (f *fake) Pids(n int) []int {
	if f.dead[n] {
		return nil
	}
	return []int{os.Getpid()}
}

func (f *fake) Packets(int) (uint64, error) {
	f.packets += 100
	return f.packets, f.fail["packets"]
}

// trace tells the windows apart: the n-th one counts n calls.
func (f *fake) trace(_ context.Context, pids []int) (func() (int, error), error) {
	if err := f.call("trace %d", len(pids)); err != nil {
		return nil, err
	}
	n := 0
	for _, c := range f.calls {
		if strings.HasPrefix(c, "trace") {
			n++
		}
	}
	return func() (int, error) { return n, f.call("untrace") }, nil
}

func (f *fake) plan(kills int) plan {
	return plan{nodes: f.nodes, kills: kills, limit: 50 * time.Millisecond, log: io.Discard}
}

// TestMeasureOrder: each victim is back before the next dies; victims take turns.
func TestMeasureOrder(t *testing.T) {
	f := newFake(3)
	f.late = []time.Duration{10 * time.Millisecond, 20 * time.Millisecond}
	r, err := measure(t.Context(), f, f.plan(4))
	if err != nil {
		t.Fatal(err)
	}
	want := "start kill 1 restart 1 kill 2 restart 2 kill 3 restart 3 kill 1 restart 1"
	if got := strings.Join(f.calls, " "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if len(r.deaths) != 4 || r.deaths[0] != (Death{Nodes: 3, Victim: 1, SeenMS: 10, StampMS: 5}) || r.deaths[1] != (Death{Nodes: 3, Victim: 2, Leader: true, SeenMS: 20, StampMS: 10}) {
		t.Errorf("%+v", r.deaths)
	}
}

// TestMeasureSyncs: leader and follower are watched, a third dies and returns, and
// each has its own figures.
func TestMeasureSyncs(t *testing.T) {
	f := newFake(3)
	f.late = []time.Duration{time.Millisecond}
	p := f.plan(0)
	p.trace = f.trace
	r, err := measure(t.Context(), f, p)
	if err != nil {
		t.Fatal(err)
	}
	if r.death != (syncs{leader: 1, follower: 2, views: 2}) || r.join != (syncs{leader: 3, follower: 4, views: 2}) {
		t.Errorf("%+v %+v", r.death, r.join)
	}
	want := "start trace 1 trace 1 kill 3 untrace untrace trace 1 trace 1 restart 3 untrace untrace"
	if got := strings.Join(f.calls, " "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestSyncsAlone: a window with more than one view change is no measurement.
func TestSyncsAlone(t *testing.T) {
	for restless, tries := range map[int]int{0: 1, 1: 2, 2: 3, 3: 3} {
		f := newFake(3)
		f.restless = restless
		p := f.plan(0)
		p.trace = f.trace
		r, err := measure(t.Context(), f, p)
		if err != nil {
			t.Fatal(err)
		}
		if f.killed != tries || (r.death == uncounted) != (restless == syncTries) || (r.join == uncounted) != (restless == syncTries) {
			t.Errorf("%d: %d tries, %+v %+v", restless, f.killed, r.death, r.join)
		}
	}
}

// TestLeaderIsNeverTheThird: whoever leads, another node dies while fsyncs are counted.
func TestLeaderIsNeverTheThird(t *testing.T) {
	for leader, dies := range map[int]string{0: "kill 3", 1: "kill 3", 2: "kill 3", 3: "kill 2"} {
		f := newFake(3)
		f.leader, f.late = leader, []time.Duration{time.Millisecond}
		p := f.plan(0)
		p.trace = f.trace
		if _, err := measure(t.Context(), f, p); err != nil || !slices.Contains(f.calls, dies) {
			t.Errorf("leader %d: %v %v", leader, f.calls, err)
		}
	}
}

func TestMeasureIdle(t *testing.T) {
	f := newFake(4)
	p := f.plan(0)
	p.idle = 20 * time.Millisecond
	r, err := measure(t.Context(), f, p)
	if err != nil {
		t.Fatal(err)
	}
	// Four nodes, counted twice, grow by 400 each in about 20 ms.
	if r.rss < 1 || r.cpu < 0 || r.pps <= 0 || r.pps > 400/0.02 {
		t.Errorf("%+v", r)
	}
}

// TestMeasureFails: every failure ends the run and is told, and no trace is left running.
func TestMeasureFails(t *testing.T) {
	broken := errors.New("broken")
	for _, where := range []string{"start", "leader", "kill 1", "restart 1", "packets", "trace 1", "untrace", "kill 3", "restart 3"} {
		f := newFake(3)
		f.late = []time.Duration{time.Millisecond, time.Millisecond}
		f.fail[where] = broken
		p := f.plan(1)
		p.idle, p.trace = time.Millisecond, f.trace
		if _, err := measure(t.Context(), f, p); !errors.Is(err, broken) {
			t.Errorf("%s: %v", where, err)
		}
		traces, ends := 0, 0
		for _, c := range f.calls {
			if c == "trace 1" && f.fail[c] == nil {
				traces++
			}
			if c == "untrace" {
				ends++
			}
		}
		if traces != ends {
			t.Errorf("%s: %d traces, %d ends: %v", where, traces, ends, f.calls)
		}
	}
}

// TestNoAgreement: a view that does not come ends the run with what was seen.
func TestNoAgreement(t *testing.T) {
	f := newFake(3)
	f.late = []time.Duration{-time.Second} // told before the death
	_, err := measure(t.Context(), f, f.plan(1))
	if err == nil || !strings.Contains(err.Error(), "death 1 of node 1: not within 50ms") || !strings.Contains(err.Error(), "[2 3]") {
		t.Error(err)
	}
}

func TestInterruptedPause(t *testing.T) {
	f := newFake(3)
	p := f.plan(1)
	p.rest = time.Hour
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the daemon of node 2 ended")
	cancel(why)
	if _, err := measure(ctx, f, p); !errors.Is(err, why) {
		t.Error(err)
	}
}
