package accept

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
)

const (
	// emulatedDead is the dead_after of four emulated nodes on two cores.
	emulatedDead = time.Second
	// convictSlack is how much later than dead_after the others may agree that a kernel is
	// dead: an interval, the last observer's row, and that an emulated one takes its time.
	convictSlack = 500 * time.Millisecond
	// stoppedFor is less than stall_limit, and eight times dead_after.
	stoppedFor = 8 * time.Second
	// delaySlack is how much longer than without a fault a writer elsewhere may wait.
	delaySlack = 100 * time.Millisecond
	// recoveryStall is the default of recovery_stall.
	recoveryStall = 3 * time.Second
)

// TestEmulated has nodes with all of a distribution's kernel: virtio, a JIT, BTF, BPF's
// timers. Four and a witness are five votes: enough are left when one node is dead and
// another's daemon stands still.
func TestEmulated(t *testing.T) {
	onlyFull(t)
	kernel := cmp.Or(os.Getenv(lab.EnvKernel), "qemu-6.12")
	w := newWorld(t, cluster.Options{Nodes: 4, Links: 2, Stable: true, Kernels: []string{kernel}, Reflector: "auto", Profile: "lan", DeadAfter: emulatedDead})
	w.watched()
	w.must(w.Mkfs(w.ctx, 1))
	w.mountAll()
	w.story("kernels answer", (*world).kernelsAnswer)
	w.story("kernels have deadlines", (*world).kernelsWatch)
	w.story("daemons are stopped, and no writer elsewhere waits longer", (*world).stopsUnnoticed)
	w.story("a link's plugs are pulled, then the other's", (*world).unplugged)
	w.story("another dies while a daemon stands still", (*world).diesMeanwhile)
	w.story("a kernel panics, and stays as it is", (*world).panics)
	w.story("a kernel stands still", (*world).standsStill)
	w.audit()
}

// watched gives the nodes a witness.
func (w *world) watched() {
	w.t.Helper()
	eye, err := w.NewWitness()
	w.must(err)
	w.t.Cleanup(func() {
		if err := eye.Close(); err != nil {
			w.t.Error(err)
		}
	})
	w.must(eye.Start())
	w.must(w.AddWitness(w.ctx, 1, eye))
}

// observed asks a node of another one's links again and again for a while, which costs the
// nodes the same whatever happens, and returns the last answer. Each has to be content.
func (w *world) observed(d time.Duration, on, peer int, ok func(control.LinkStatus) error) (last control.LinkStatus) {
	w.t.Helper()
	over := time.NewTimer(d)
	defer over.Stop()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-over.C:
			return last
		case <-tick.C:
		}
		r, err := w.Links(w.ctx, on)
		w.must(err)
		for _, l := range r.Links {
			if int(l.Peer) != peer {
				continue
			}
			if err := ok(l); err != nil {
				w.t.Fatalf("node%d of node%d: %v: %+v", on, peer, err, l)
			}
			last = l
		}
	}
}

// stopsUnnoticed: a follower's daemon and the leader's stand still for 8 s. Their kernels
// answer, so they stay members, and writers on the others wait no longer than they do
// without a fault, before it and after.
func (w *world) stopsUnnoticed() {
	w.calm()
	from := time.Now()
	wr := w.write("stopped", 10, w.Nodes()...)
	defer wr.stop()
	free, elsewhere := w.faultless(wr), time.Duration(0)
	for _, victim := range []int{w.follower(), w.leader()} {
		elsewhere = max(elsewhere, w.whileStopped(wr, victim))
		free = max(free, w.faultless(wr))
	}
	w.t.Logf("the longest gap elsewhere is %v, without a fault %v", elsewhere, free)
	if elsewhere > free+delaySlack {
		w.t.Errorf("while a daemon was stopped a writer elsewhere waited for %v, at most %v", elsewhere, free+delaySlack)
	}
	w.none(from, restless...)
	w.unharmed(wr, from)
	w.noComplaints(w.Nodes())
}

// noComplaints: none of these nodes' kernels has warned since it booted.
func (w *world) noComplaints(nodes []int) {
	w.t.Helper()
	for _, i := range nodes {
		out, err := w.Lab.Node(i).Run(w.ctx, "dmesg")
		w.must(err)
		for l := range strings.Lines(out) {
			if complaint.MatchString(l) && !strings.Contains(l, "dlm_lowcomms_close") { // see docs/design.md
				w.t.Errorf("node%d: the kernel complains: %s\n%s", i, l, out[strings.Index(out, l):])
				break
			}
		}
	}
}

// kernelAnswers of a peer whose daemon may stand still.
func kernelAnswers(l control.LinkStatus) error {
	if l.State == "silent" || l.Answers != "kernel" {
		return errors.New("its kernel does not answer")
	}
	return nil
}

// faultless is the longest gap of any writer in as long a time without a fault.
func (w *world) faultless(wr *writers) time.Duration {
	w.t.Helper()
	begin := time.Now()
	w.observed(stoppedFor, 1, 2, kernelAnswers)
	return w.gaps(wr, begin, time.Now(), w.Nodes()...)
}

// whileStopped stops the daemon of a node for that time, and is the longest gap of the
// writers on the others.
func (w *world) whileStopped(wr *writers, victim int) time.Duration {
	w.t.Helper()
	rest := w.Others(victim)
	begin := time.Now()
	w.signal(victim, "STOP")
	l := w.observed(stoppedFor, rest[0], victim, kernelAnswers)
	end := time.Now()
	w.signal(victim, "CONT")
	if l.Progress < stoppedFor-time.Second {
		w.t.Errorf("node%d: its daemon is said to have stood still for %v", victim, l.Progress)
	}
	got := w.gaps(wr, begin, end, rest...)
	w.t.Logf("while the daemon of node%d is stopped the longest gap elsewhere is %v, on itself %v", victim, got, w.gaps(wr, begin, end, victim))
	w.heardBy(rest[0], victim, "its daemon goes on", func(l control.LinkStatus) bool { return l.Answers == "kernel" && l.Progress < time.Second })
	return got
}

// gaps is the longest gap between two appends of any of the nodes.
func (w *world) gaps(wr *writers, from, to time.Time, nodes ...int) (longest time.Duration) {
	w.t.Helper()
	for _, i := range nodes {
		wr.progress(i, to)
		longest = max(longest, wr.gap(i, from, to))
	}
	return longest.Round(time.Millisecond)
}

// unplugged: every node's kernel sees its carrier go, as when a switch loses its power.
func (w *world) unplugged() {
	all := func(link int, in bool) {
		w.must(w.Each(w.ctx, w.Nodes(), func(ctx context.Context, i int) error { return w.Lab.Node(i).Plug(ctx, link, in) }))
	}
	pull := func(link int) time.Time {
		at := time.Now()
		all(link, false)
		for _, i := range w.Nodes() {
			w.carrier(i, link, "0")
		}
		return at
	}
	w.pulled(emulatedDead, pull, func(link int) { all(link, true) })
	w.noComplaints(w.Nodes())
}

// carrier: the kernel of a node says that it has one on a link, or none.
func (w *world) carrier(i, link int, want string) {
	w.t.Helper()
	got, err := w.Lab.Node(i).Run(w.ctx, fmt.Sprintf("set -- $(ip -o -4 addr show to %s) && cat /sys/class/net/$2/carrier", w.Lab.Node(i).LinkAddr(link)))
	w.must(err)
	if strings.TrimSpace(got) != want {
		w.t.Errorf("node%d, link %d: carrier %s", i, link, got)
	}
}

// diesMeanwhile: a node dies while the daemon of another one is stopped, whose word the
// change needs. It has it for recovery_stall and not for stall_limit, and everybody who
// asks is told so.
func (w *world) diesMeanwhile() {
	w.calm()
	stalled := w.follower()
	dead := w.Others(stalled, w.leader())[0]
	rest := w.Others(stalled, dead)
	wr := w.write(fmt.Sprintf("meanwhile%d", time.Now().UnixNano()), 20, w.Nodes()...)
	defer wr.stop()
	at := time.Now()
	w.signal(stalled, "STOP") // a program in the node, which takes its time
	stopped, died := time.Now(), w.kill(dead)
	words := fmt.Sprintf("the daemon of node%d has stood still for", stalled)
	s := w.statusOf(rest[0], recoveryStall, "the change waits for who stands still", func(s control.Status) error {
		if !strings.Contains(cluster.Waits(s), words) {
			return fmt.Errorf("it waits for: %s", cluster.Waits(s))
		}
		return nil
	})
	w.t.Logf("%v after the death: %s", time.Since(died).Round(time.Millisecond), cluster.Waits(s))
	e := w.first(at, membership.KindEvicted, stalled)
	w.t.Logf("evicted %v to %v after its daemon was stopped: %s", e.At.Sub(stopped).Round(time.Millisecond), e.At.Sub(at).Round(time.Millisecond), e.Text)
	if e.At.Sub(at) < recoveryStall || e.At.Sub(stopped) > recoveryStall+convictSlack || !strings.Contains(e.Text, string(membership.ReasonStalled)) {
		w.t.Errorf("expected %v to %v, and %q", recoveryStall, recoveryStall+convictSlack, membership.ReasonStalled)
	}
	w.lost(at, stalled, dead)
	goneOn := time.Now()
	for _, i := range rest {
		wr.progress(i, goneOn)
	}
	wr.stop()
	w.noComplaints(rest)
	w.returnAll(stalled, dead)
	for _, i := range rest {
		wr.verify(i, w.Nodes()...)
	}
}

// panics: a kernel that has panicked and does not reboot, as most distributions have it. It
// must not answer probes from an interrupt.
func (w *world) panics() {
	w.convictedInTime(func(victim int) time.Time {
		n := w.Lab.Node(victim)
		_, err := n.Run(w.ctx, "echo 0 >/proc/sys/kernel/panic")
		w.must(err)
		ctx, cancel := context.WithCancel(w.ctx)
		w.t.Cleanup(cancel)
		_, err = n.Start(ctx, lab.Cmd{Args: []string{"/bin/sh", "-c", "echo c >/proc/sysrq-trigger"}})
		w.must(err)
		w.within(10*time.Second, "the panic", func(ctx context.Context) error {
			return cluster.Until(ctx, 10*time.Millisecond, func() error {
				if tail := n.ConsoleTail(20); !strings.Contains(tail, "Kernel panic") {
					return fmt.Errorf("its console: %s", tail)
				}
				return nil
			})
		})
		at := time.Now()
		w.must(n.Yield())
		return at
	})
}

// standsStill: a kernel that runs no instruction.
func (w *world) standsStill() {
	w.convictedInTime(func(victim int) time.Time {
		at, err := w.Lab.Node(victim).Freeze(w.ctx)
		w.must(err)
		return at
	})
}

// convictedInTime: a kernel ends, at the time that is returned; the others agree on that in
// time, and go on.
func (w *world) convictedInTime(ends func(victim int) time.Time) {
	w.t.Helper()
	w.calm()
	victim := w.follower()
	rest := w.Others(victim)
	wr := w.write(fmt.Sprintf("ends%d", time.Now().UnixNano()), 20, w.Nodes()...)
	defer wr.stop()
	from := time.Now()
	at := ends(victim)
	convicted, evicted := w.first(from, membership.KindConvicted, victim), w.first(from, membership.KindEvicted, victim)
	w.t.Logf("node%d is convicted after %v (%s), evicted after %v", victim, convicted.At.Sub(at).Round(time.Millisecond), convicted.Text, evicted.At.Sub(at).Round(time.Millisecond))
	if took := evicted.At.Sub(at); took > emulatedDead+convictSlack || !strings.HasPrefix(convicted.Text, string(membership.ReasonSilent)) {
		w.t.Errorf("node%d was evicted after %v, at most %v, and convicted for: %s", victim, took, emulatedDead+convictSlack, convicted.Text)
	}
	w.lost(at, victim)
	w.fencedBeforeStart(victim, at, rest)
	goneOn := time.Now()
	for _, i := range rest {
		wr.progress(i, goneOn)
	}
	wr.stop()
	w.noComplaints(rest)
	w.returnAll(victim)
	for _, i := range slices.Concat(rest[:1], []int{victim}) {
		wr.verify(i, w.Nodes()...)
	}
}
