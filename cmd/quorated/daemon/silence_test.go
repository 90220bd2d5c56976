package daemon

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	xdp "github.com/quorate/quorate/ebpf/liveness"
	"github.com/quorate/quorate/membership"
)

// suspected are those whom a node has suspected, and for how long they had been silent.
func (y *wired) suspected(id membership.NodeID) (who []membership.NodeID, silent []time.Duration) {
	y.t.Helper()
	for _, e := range y.told(id, membership.KindSuspect) {
		d, err := time.ParseDuration(strings.TrimPrefix(e.Text, "silent for "))
		if err != nil {
			y.t.Fatal(err)
		}
		who, silent = append(who, e.Subject), append(silent, d)
	}
	return who, silent
}

// pauses is how often a node has told that it stood still itself.
func (y *wired) pauses(id membership.NodeID) (n int) {
	y.t.Helper()
	for _, e := range y.told(id, membership.KindDegraded) {
		if strings.HasPrefix(e.Text, "this daemon did not run for ") {
			n++
		}
	}
	return n
}

// TestSilenceByStamps: whole daemons with the kernel's stamps. One that stands still for
// longer than dead_after is not suspected, as its kernel answers, and suspects nobody when it
// goes on; one that dies is, as soon as dead_after has passed, or once more where the one
// that suspects it stood still meanwhile.
func TestSilenceByStamps(t *testing.T) {
	y, _ := pinnedWired(t, 3)
	timing, _ := config.Profile("safe")
	for id := range y.procs {
		for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			r, err := y.ask(id, control.Request{Command: "links"})
			if err == nil && len(r.Links.Reflectors) == 2 && !slices.ContainsFunc(r.Links.Reflectors, func(x control.Reflector) bool {
				return x.Mode != "generic" || x.Alarm != string(xdp.Timer) && x.Alarm != string(xdp.TimerFD)
			}) && !slices.ContainsFunc(r.Links.Links, func(l control.LinkStatus) bool { return l.Answers != "kernel" }) {
				break
			}
			if time.Since(began) > 20*time.Second {
				t.Fatalf("node %d: %+v, %v", id, r.Links, err)
			}
		}
	}
	had := map[membership.NodeID]int{}
	for id := range y.procs {
		who, _ := y.suspected(id)
		had[id] = len(who)
	}
	p := y.procs[2].cmd.Process
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * timing.DeadAfter)
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	time.Sleep(timing.DeadAfter)
	for id := range y.procs {
		if who, silent := y.suspected(id); len(who) != had[id] {
			t.Errorf("node %d suspected %v, silent for %v", id, who, silent)
		}
	}
	y.calm()

	paused := map[membership.NodeID]int{}
	for id := range y.procs {
		paused[id] = y.pauses(id)
	}
	y.kill(3)
	for id := range y.procs {
		for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			who, silent := y.suspected(id)
			if len(who) > had[id] {
				late, most := silent[had[id]]-timing.DeadAfter, time.Second
				if y.pauses(id) > paused[id] {
					most += timing.DeadAfter
				}
				t.Logf("node %d suspected node %d %v after dead_after, at most %v is right", id, who[had[id]], late, most)
				if who[had[id]] != 3 || late < 0 || late > most {
					t.Errorf("node %d suspected %v, silent for %v", id, who, silent)
				}
				break
			}
			if time.Since(began) > 20*time.Second {
				t.Fatalf("node %d suspects nobody", id)
			}
		}
	}
}
