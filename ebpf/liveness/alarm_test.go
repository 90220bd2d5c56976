package liveness

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

const testSilent = 50 * time.Millisecond

// told is a silence and when it was told.
type told struct {
	probe.Silence
	at membership.Mono
}

// watched is a reflector on a rig of its own, and what it tells.
type watched struct {
	*rig
	*Reflector
	tells chan told
}

// kinds has a test run with each kind of alarm that this kernel has.
func kinds(t *testing.T, f func(*testing.T, Alarm)) {
	t.Helper()
	for _, a := range []Alarm{Timer, TimerFD} {
		t.Run(string(a), func(t *testing.T) {
			needKernel(t)
			if a == Timer && !timersHere() {
				t.Skip(untimed(timersOnce()))
			}
			f(t, a)
		})
	}
}

func watch(t *testing.T, a Alarm) *watched {
	t.Helper()
	h := newHost(t)
	r, err := Load(Options{Cluster: "a", Epoch: rigEpoch, Root: h.root, noTimers: a == TimerFD})
	h.must(err)
	t.Cleanup(func() { h.must(r.Close()) })
	if got, why := r.Alarm(); got != a || (why == "") != (a == Timer) {
		t.Fatalf("%s: %q", got, why)
	}
	w := &watched{&rig{r.obj, t}, r, make(chan told, 100)}
	c := rigConfig()
	c.Silent = testSilent
	h.must(r.Configure(c))
	h.must(r.Learn(1, rigProber, rigPeerEpoch))
	h.must(r.Learn(3, 33, rigPeerEpoch))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Watch(ctx, func(s probe.Silence) { w.tells <- told{s, boottime()} }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return w
}

// next is the next silence; none: the zero value.
func (w *watched) next(within time.Duration) told {
	select {
	case x := <-w.tells:
		return x
	case <-time.After(within):
		return told{}
	}
}

// A peer that stops to answer is told of once, not before its time and hardly after it.
func TestSilence(t *testing.T) {
	kinds(t, func(t *testing.T, a Alarm) {
		w := watch(t, a)
		if x := w.next(2 * testSilent); x != (told{}) {
			t.Errorf("nobody has answered yet: %+v", x)
		}
		var late []time.Duration
		for seq := uint64(1); seq <= 20; seq++ {
			w.comes(reply(seq), "heard")
			at := w.heard().At
			x := w.next(testSilent + patience)
			if x.Peer != 1 || x.Link != 0 || x.Since != at || x.at.Sub(at) < testSilent {
				t.Fatalf("%d, at %d: %+v, %v after", seq, at, x, x.at.Sub(at))
			}
			late = append(late, x.at.Sub(at)-testSilent)
		}
		slices.Sort(late)
		t.Logf("of 20 half came %v after their time, and the last %v", late[10], late[19])
		if late[10] > half || late[19] > slack {
			t.Errorf("told %v after their time", late)
		}
		if x := w.next(3 * testSilent); x != (told{}) {
			t.Errorf("told again: %+v", x)
		}
	})
}

const (
	// half of the silences are told in this, on a kernel that counts in jiffies.
	half = 25 * time.Millisecond
	// slack is for how long a loaded machine may not run a thread.
	slack = time.Second
)

// Nobody is silent as long as answers come, and each peer and link is for itself. A test
// may be held up between two answers, and until the end of all: what is told then has to be
// true.
func TestNoSilence(t *testing.T) {
	kinds(t, func(t *testing.T, a Alarm) {
		w := watch(t, a)
		q := reply(1)
		q.Link = 1
		w.refuses(t, v6(q), drop, "heard")
		once, stamps, tells := 0, []membership.Mono{}, []told{}
		hear := func(within time.Duration) {
			if x := w.next(within); x.Link == 1 {
				once++
			} else if x != (told{}) {
				tells = append(tells, x)
			}
		}
		for seq, began := uint64(1), boottime(); boottime().Sub(began) < 6*testSilent; seq++ {
			w.comes(reply(seq), "heard")
			stamps = append(stamps, w.heard().At)
			hear(testSilent / 10)
		}
		for began := boottime(); once == 0 && boottime().Sub(began) < patience; {
			hear(patience)
		}
		if once != 1 {
			t.Errorf("link 1 fell silent, and that was told %d times", once)
		}
		for _, x := range tells {
			i := slices.Index(stamps, x.Since)
			if i < 0 || i+1 < len(stamps) && stamps[i+1].Sub(x.Since) < testSilent {
				t.Errorf("%+v is not true", x)
			}
		}
		t.Logf("%d answers, held up %d times", len(stamps), len(tells))
	})
}

// mayHurry says whether a thread of this process may have the priority of the one that waits.
func mayHurry() error {
	err := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		err <- unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}, 0)
	}()
	return <-err
}

// The thread that waits, and tells, is in front of all others; no other one is.
func TestWatchHasPriority(t *testing.T) {
	kinds(t, func(t *testing.T, a Alarm) {
		if err := mayHurry(); err != nil {
			t.Skip("no real-time priority is to be had here: ", err)
		}
		h := newHost(t)
		r, err := Load(Options{Cluster: "a", Epoch: rigEpoch, Root: h.root, noTimers: a == TimerFD})
		h.must(err)
		t.Cleanup(func() { h.must(r.Close()) })
		c := rigConfig()
		c.Silent = testSilent
		h.must(r.Configure(c))
		h.must(r.Learn(1, rigProber, rigPeerEpoch))
		attrs := make(chan *unix.SchedAttr, 10)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			err := r.Watch(ctx, func(probe.Silence) {
				attr, err := unix.SchedGetAttr(0, 0)
				if err != nil {
					t.Error(err)
				}
				attrs <- attr
			})
			if err != nil {
				t.Error(err)
			}
		})
		(&rig{r.obj, t}).comes(reply(1), "heard")
		select {
		case got := <-attrs:
			if got.Policy != unix.SCHED_FIFO || got.Priority != 11 {
				t.Errorf("policy %d, priority %d", got.Policy, got.Priority)
			}
		case <-time.After(patience):
			t.Error("the silence was not told")
		}
		cancel()
		wg.Wait()
		if own, err := unix.SchedGetAttr(0, 0); err != nil || own.Policy == unix.SCHED_FIFO {
			t.Errorf("this thread: %+v, %v", own, err)
		}
	})
}

// What is not true any more is not told: of another run, of a peer that has gone, or by an
// earlier time. What is told until the change is true, if a test is held up.
func TestSilenceIsForgotten(t *testing.T) {
	kinds(t, func(t *testing.T, a Alarm) {
		for name, change := range map[string]func(*Config){
			"a new run":    func(c *Config) { c.Run = 100 },
			"no deadlines": func(c *Config) { c.Silent = 0 },
			"gone":         func(c *Config) { c.Peers = c.Peers[2:] },
			"more time":    func(c *Config) { c.Silent = time.Hour },
		} {
			t.Run(name, func(t *testing.T) {
				w := watch(t, a)
				w.comes(reply(1), "heard")
				c := rigConfig()
				c.Silent = testSilent
				change(&c)
				if err := w.Configure(c); err != nil {
					t.Fatal(err)
				}
				from := boottime()
				for x := w.next(3 * testSilent); x != (told{}); x = w.next(3 * testSilent) {
					if x.Since.Add(testSilent) > from {
						t.Errorf("%+v, configured until %d", x, from)
					}
				}
			})
		}
	})
}

// The next daemon finds the timers of this one's program, whose program is another one.
func TestTimerOutlivesTheProgram(t *testing.T) {
	kinds(t, func(t *testing.T, a Alarm) {
		h := newHost(t)
		for range 3 {
			r, err := Load(Options{Cluster: "a", Epoch: rigEpoch, Root: h.root, noTimers: a == TimerFD})
			h.must(err)
			c := rigConfig()
			c.Run, c.Silent = uint64(boottime()), testSilent
			h.must(r.Configure(c))
			h.must(r.Learn(1, rigProber, rigPeerEpoch))
			ctx, cancel := context.WithCancel(context.Background())
			tells := make(chan probe.Silence, 10)
			var wg sync.WaitGroup
			wg.Go(func() { h.must(r.Watch(ctx, func(s probe.Silence) { tells <- s })) })
			p := reply(1)
			p.Prober = c.Run
			w := &rig{r.obj, t}
			w.comes(p, "heard")
			select {
			case s := <-tells:
				if s.Since != w.heard().At {
					t.Errorf("%+v", s)
				}
			case <-time.After(patience):
				t.Error("the silence was not told")
			}
			p.Seq, p.Sent = 2, boottime()
			w.comes(p, "heard") // its timer runs on
			cancel()
			wg.Wait()
			h.must(r.Close())
			if err := r.Watch(context.Background(), nil); !errors.Is(err, ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

func TestUntimed(t *testing.T) {
	for text, want := range map[string]string{
		"load: callbacks are not allowed in non-JITed programs\nprocessed 3": "this kernel runs BPF programs without a JIT, and has no timers for them",
		"creating map: invalid\nargument":                                    "bpf timers do not work on this kernel: creating map: invalid",
	} {
		if got := untimed(errors.New(text)); got != want {
			t.Errorf("%q", got)
		}
	}
	if got := untimed(nil); got != "" {
		t.Errorf("%q", got)
	}
}

// Every kernel that the program runs on and that has a JIT has timers; one without tells so.
func TestTimersGoWithTheJIT(t *testing.T) {
	needKernel(t)
	err := timersOnce()
	jit, jerr := os.ReadFile("/proc/sys/net/core/bpf_jit_enable") // in the first network namespace alone
	if jerr == nil && jit[0] != '0' && err != nil {
		t.Errorf("there is a JIT, and no timer: %v", err)
	}
	if why := untimed(err); err != nil && !strings.Contains(why, "without a JIT") {
		t.Errorf("there is no timer, and this does not tell why: %s", why)
	}
}

// hot are the steps of the thread that waits, and what each packet of the prober's takes.
func hot(t testing.TB) map[string]func() {
	r := newRig(t)
	c := rigConfig()
	c.Silent = time.Nanosecond
	r.configure(c, map[membership.NodeID]identity{1: {rigProber, rigPeerEpoch}})
	r.comes(reply(5), "heard")
	x := &Reflector{own: r.objects}
	record := make([]byte, 24)
	nativeEndian.PutUint64(record, uint64(r.heard().At))
	nativeEndian.PutUint32(record[16:], 1)
	n := 0
	tell := func(probe.Silence) { n++ }
	last := make([]membership.Mono, maxPeers)
	told := func(f func()) func() {
		return func() {
			n = 0
			if f(); n != 1 {
				t.Fatal("it was not told")
			}
		}
	}
	return map[string]func(){
		"bpf timer": told(func() { x.heed(record, tell) }),
		"timerfd":   told(func() { clear(last[:8]); x.overdue(boottime(), last, tell) }),
		"last":      func() { x.Last(1, 0) },
	}
}

// The thread that waits makes no garbage when there is something to tell, and no packet does.
func TestNoGarbage(t *testing.T) {
	for name, f := range hot(t) {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if !timersHere() {
		return
	}
	r := newRig(t)
	c := rigConfig()
	c.Silent = time.Microsecond
	r.configure(c, map[membership.NodeID]identity{1: {rigProber, rigPeerEpoch}})
	rd, err := ringbuf.NewReader(r.Silences)
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	rd.SetDeadline(time.Now().Add(patience))
	const records = 20
	began := time.Now()
	for seq := uint64(1); rd.AvailableBytes() < (records+1)*32; seq++ { // each has a header
		if time.Since(began) > patience {
			t.Fatalf("after %d answers there are %d bytes of records", seq, rd.AvailableBytes())
		}
		r.comes(reply(seq), "heard")
		time.Sleep(time.Millisecond) // its timer runs down
	}
	rec := ringbuf.Record{RawSample: make([]byte, 0, 64)}
	if n := testing.AllocsPerRun(records, func() {
		if err := rd.ReadInto(&rec); err != nil || len(rec.RawSample) != 24 {
			t.Fatalf("% x, %v", rec.RawSample, err)
		}
	}); n != 0 {
		t.Errorf("reading a record: %v allocations", n)
	}
}

func BenchmarkHot(b *testing.B) {
	for name, f := range hot(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
			if n := testing.AllocsPerRun(100, f); n != 0 {
				b.Errorf("%v allocations", n)
			}
		})
	}
}
