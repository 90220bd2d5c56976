package accept

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
)

// TestStalled stops daemons whose kernels go on: they answer, and nobody is taken for dead.
func TestStalled(t *testing.T) {
	onlyFull(t)
	w := newMounted(t, cluster.Options{Nodes: 3, Profile: "lan", Reflector: "auto"})
	w.story("kernels answer", (*world).kernelsAnswer)
	w.story("kernels have deadlines", (*world).kernelsWatch)
	w.story("status says for whom the profile is not", func(w *world) {
		w.statusOf(1, 10*time.Second, "a note of it", func(s control.Status) error {
			const note = "and that is for nodes that are all fit for lan: node1 is not: it is a process (User-Mode Linux); node2 is not"
			if !strings.Contains(strings.Join(s.Notes, "\n"), note) {
				return fmt.Errorf("notes: %q", s.Notes)
			}
			return nil
		})
	})
	w.story("a daemon is stopped for less than stall_limit", (*world).stopsShort)
	w.story("a node is starved", (*world).starved)
	w.story("a daemon is stopped for longer", (*world).stopsLong)
}

// heardBy waits until a node says of another one's link what is wanted.
func (w *world) heardBy(on, peer int, what string, ok func(control.LinkStatus) bool) {
	w.t.Helper()
	w.within(10*time.Second, what, func(ctx context.Context) error {
		return cluster.Until(ctx, 50*time.Millisecond, func() error {
			r, err := w.links(ctx, on)
			if err != nil {
				return err
			}
			for _, l := range r.Links {
				if int(l.Peer) == peer && ok(l) {
					return nil
				}
			}
			return fmt.Errorf("node%d says %+v", on, r)
		})
	})
}

func (w *world) kernelsAnswer() {
	for _, on := range w.Nodes() {
		for _, peer := range w.Others(on) {
			w.heardBy(on, peer, "the kernel answers", func(l control.LinkStatus) bool {
				return l.State != "silent" && l.Answers == "kernel" && !l.NoDaemon && (l.Mode == "generic" || l.Mode == "native")
			})
		}
	}
}

// kernelsWatch: silence is noticed by the kernel's stamps, by timers of its own where it has
// a JIT: User-Mode Linux has none. virtio's driver runs the program itself.
func (w *world) kernelsWatch() {
	for _, on := range w.Nodes() {
		r, err := w.links(w.ctx, on)
		w.must(err)
		want, mode := "timerfd", "generic"
		if lab.Emulated(w.Lab.Node(on).Kernel()) {
			want, mode = "bpf timer", "native"
		}
		for _, x := range r.Reflectors {
			w.t.Logf("node%d, link %d: %s, %s", on, x.Link, x.Mode, x.Alarm)
			if x.Mode != mode || x.Alarm != want || (x.AlarmWhy == "") != (want == "bpf timer") {
				w.t.Errorf("node%d, expected %s, %s: %+v", on, mode, want, x)
			}
		}
	}
}

func (w *world) signal(i int, s string) {
	w.t.Helper()
	_, err := w.Lab.Node(i).Run(w.ctx, "kill -"+s+" $(pidof quorated)")
	w.must(err)
}

// stopsShort: a follower's daemon and the leader's stand still for 5 s, 25 times dead_after.
// Files are written everywhere meanwhile.
func (w *world) stopsShort() {
	w.calm()
	from := time.Now()
	wr := w.write("stalled", 20, w.Nodes()...)
	defer wr.stop()
	for _, victim := range []int{w.follower(), w.leader()} {
		on := w.Others(victim)[0]
		w.signal(victim, "STOP")
		over := time.NewTimer(5 * time.Second)
		w.heardBy(on, victim, "its kernel answers for a daemon that stands still", func(l control.LinkStatus) bool {
			return l.State != "silent" && l.Answers == "kernel" && l.Heard < 200*time.Millisecond && l.Progress > 2*time.Second
		})
		w.statusOf(on, 5*time.Second, "status says that its daemon stands still", func(s control.Status) error {
			if !strings.Contains(strings.Join(s.Warnings, "\n"), "its kernel answers, and its daemon has stood still for") {
				return fmt.Errorf("warnings: %q", s.Warnings)
			}
			return nil
		})
		<-over.C
		w.signal(victim, "CONT")
		w.heardBy(on, victim, "its daemon goes on", func(l control.LinkStatus) bool { return l.Answers == "kernel" && l.Progress < time.Second })
	}
	w.unharmed(wr, from)
}

// starved: programs of the highest priorities leave a node's processor to nothing else for
// 5 s, and its daemon stands still for that. Its kernel answers.
func (w *world) starved() {
	w.calm()
	from := time.Now()
	wr := w.write("starved", 20, w.Nodes()...)
	defer wr.stop()
	victim := w.follower()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	// The timer wakes up above what it is to end.
	_, err := w.Lab.Node(victim).Start(ctx, lab.Cmd{Args: append(strings.Fields("chrt -f 99 timeout -s KILL 5 chrt -f 98 sh -c"), "while :; do :; done")})
	w.must(err)
	on := w.Others(victim)[0]
	w.heardBy(on, victim, "its kernel answers for a daemon that is starved", func(l control.LinkStatus) bool {
		return l.State != "silent" && l.Answers == "kernel" && l.Progress > 2*time.Second
	})
	w.heardBy(on, victim, "its daemon goes on", func(l control.LinkStatus) bool { return l.Answers == "kernel" && l.Progress < time.Second })
	w.unharmed(wr, from)
}

// stopsLong: after stall_limit it is evicted for that, and fenced.
func (w *world) stopsLong() {
	w.calm()
	victim := w.follower()
	at := time.Now()
	w.signal(victim, "STOP")
	rest := w.Others(victim)
	w.within(20*time.Second, "it is evicted", func(ctx context.Context) error { return w.WaitMembers(ctx, rest, rest) })
	e := w.first(at, membership.KindEvicted, victim)
	if took := e.At.Sub(at); took < 9*time.Second || !strings.Contains(e.Text, string(membership.ReasonStalled)) {
		w.t.Errorf("evicted after %v: %s", took, e.Text)
	}
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	w.fencedOnly(at, victim)
	w.back(victim)
}
