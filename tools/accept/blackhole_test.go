package accept

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
)

// removeLimit is for how long a peer that answers nothing may hold up a start, and the
// removal of its comms entry, once it is proved to be gone and all have stopped.
const removeLimit = time.Second

// TestBlackHole is a kernel whose removal of a comms entry waits for its attempt to
// connect, minutes if nobody ends the attempt (S21).
func TestBlackHole(t *testing.T) {
	onlyFull(t)
	w := newMounted(t, cluster.Options{Nodes: 3, Kernels: []string{"qemu-7.3"}, DeadAfter: 2 * time.Second})
	w.story("a peer that answers no SYN dies while it is being added", func(w *world) {
		v := w.follower()
		rest := w.Others(v)
		w.unmount(v)
		w.must(w.WaitLockspace(w.ctx, rest, rest))
		at := time.Now()
		w.must(w.Lab.ClosePort(v, dlm.DefaultPort))
		mounted := make(chan error, 1)
		go func() { mounted <- w.Mount(w.ctx, v) }()
		w.within(joinTimeout, "quorate why says so", func(ctx context.Context) error {
			return w.whySays(ctx, "DLM port to node", "SYN unanswered")
		})
		w.kill(v)
		if <-mounted == nil {
			t.Fatal("it mounted through a closed port")
		}
		w.must(w.WaitLockspace(w.ctx, rest, rest))
		w.evictedOnly(at, v)
		for _, i := range rest {
			w.startedSoon(i, v, at)
			w.within(removeLimit, "the comms entry goes", func(ctx context.Context) error { return w.commsGone(ctx, i, v) })
			if !strings.Contains(w.Log(w.ctx, i, 2000), "ended connection attempts") {
				t.Errorf("node%d: no attempt to connect was under way: the story tests nothing", i)
			}
		}
		w.must(w.Lab.Heal())
		w.back(v)
	})
	w.story("a member whose packets are lost is removed", func(w *world) {
		v := w.follower()
		rest := w.Others(v)
		w.manyLocks(w.Nodes()...)
		// Locks that go to and fro: there are always messages that nobody acknowledges.
		toAndFro := w.writeShared(fmt.Sprintf("shared%d", time.Now().UnixNano()), 50, w.Nodes()...)
		defer toAndFro.stop()
		at := time.Now()
		w.must(w.Lab.CutNode(v))
		w.lost(at, v)
		for _, i := range rest {
			w.startedSoon(i, v, at)
			w.within(removeLimit, "the comms entry goes", func(ctx context.Context) error { return w.commsGone(ctx, i, v) })
			toAndFro.progress(i, time.Now())
		}
		toAndFro.stop()
		w.must(w.Lab.Heal())
		w.back(v)
	})
}

// startedSoon: node i started without a victim soon after it was proved to be gone.
func (w *world) startedSoon(i, victim int, after time.Time) {
	w.t.Helper()
	var proved, stopped, started time.Time
	for _, e := range w.Events.All() {
		switch {
		case e.Node != i || !e.At.After(after):
		case e.Kind == membership.KindFenced && int(e.Subject) == victim:
			proved = e.At
		case e.Kind == membership.KindStopped:
			stopped = e.At
		case e.Kind == membership.KindStarted:
			started = e.At
		}
	}
	if proved.IsZero() || stopped.IsZero() || !started.After(proved) {
		w.t.Fatalf("node%d: fenced at %v, stopped at %v, started at %v", i, proved, stopped, started)
	}
	if stopped.After(proved) {
		proved = stopped
	}
	w.t.Logf("node%d started %v after the proof and its stop", i, started.Sub(proved).Round(time.Millisecond))
	if started.Sub(proved) > removeLimit {
		w.t.Errorf("node%d started after %v, at most %v", i, started.Sub(proved), removeLimit)
	}
}

func (w *world) commsGone(ctx context.Context, i, peer int) error {
	return cluster.Until(ctx, 50*time.Millisecond, func() error {
		r, err := w.Lab.Node(i).Exec(ctx, fmt.Sprintf("ls /sys/kernel/config/dlm/cluster/comms; ! test -d /sys/kernel/config/dlm/cluster/comms/%d", peer))
		if err == nil && r.Code != 0 {
			err = errors.New("node" + fmt.Sprint(i) + " still has comms entries " + strings.Join(strings.Fields(r.Stdout), " "))
		}
		return err
	})
}
