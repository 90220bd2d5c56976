package recovery

import (
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

var kill = time.Unix(1000, 0)

func after(d float64) time.Time { return kill.Add(time.Duration(d * float64(time.Millisecond))) }

func told(at float64, node int, what, text string) cluster.Event {
	return cluster.Event{At: after(at), Node: node, Told: what, Event: membership.Event{Text: text}}
}

const (
	beginText = "dlm: gfs: dlm_recover 4"
	doneText  = "dlm: gfs: dlm_recover 4 generation 3 done: 9 ms"
)

// oneDeath is node 3's, with what else happens before and beside.
func oneDeath() ([]cluster.Event, []fencedev.Record) {
	all := []cluster.Event{
		told(-900, 1, "kernel", beginText), told(-880, 1, "kernel", doneText), told(-800, 2, "granted", ""),
		told(290, 1, "kernel", beginText), // given up
		told(300, 2, "kernel", beginText), told(310, 1, "kernel", beginText),
		told(320, 2, "kernel", "dlm: other: dlm_recover 9"), told(500, 1, "kernel", doneText),
		told(600, 2, "granted", ""), told(605, 2, "kernel", doneText), told(660, 1, "granted", ""), told(700, 1, "kernel", beginText),
	}
	power := []fencedev.Record{
		{Plug: 3, Action: fencedev.Off, Asked: after(-5000), Done: after(-4900)},
		{Plug: 1, Action: fencedev.Off, Asked: after(100), Done: after(110)},
		{Plug: 3, Action: fencedev.On, Asked: after(120), Done: after(130)},
		{Plug: 3, Action: fencedev.Off, Asked: after(220), Done: after(230), Err: "no"},
		{Plug: 3, Action: fencedev.Off, Asked: after(250), Done: after(260)},
	}
	return all, power
}

func TestDeathOf(t *testing.T) {
	all, power := oneDeath()
	got, err := deathOf(all, power, 3, kill, []int{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	want := Death{Victim: 3, FenceAskMS: 220, FencedMS: 260, OursMS: 310, DLMDoneMS: 605, FirstMS: 600, LastMS: 660, KernelMS: 290}
	if got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
}

func TestDeathWithoutProof(t *testing.T) {
	all, power := oneDeath()
	for name, f := range map[string]func() error{
		"not fenced":     func() error { _, err := deathOf(all, power[:4], 3, kill, []int{1, 2}); return err },
		"no grant":       func() error { _, err := deathOf(all[:10], power, 3, kill, []int{1, 2}); return err },
		"no recovery":    func() error { _, err := deathOf(all[9:], power, 3, kill, []int{1, 2}); return err },
		"recovery hangs": func() error { _, err := survivorOf(append(all[3:6:6], all[9:]...), 1, kill); return err },
		"other nodes":    func() error { _, err := deathOf(all, power, 3, kill, []int{1, 4}); return err },
	} {
		if f() == nil {
			t.Error(name)
		}
	}
}

func TestLongestWait(t *testing.T) {
	var all []cluster.Event
	for _, at := range []float64{-5000, -40, 0, 20, 180, 200, 300, 900} {
		all = append(all, told(at, 1, "locked", ""), told(at/10, 2, "locked", ""), told(at*7, 3, "locked", ""))
	}
	for _, c := range []struct{ from, to, want float64 }{
		{0, 250, 160},   // within
		{-10, 10, 40},   // a wait that began before counts whole
		{210, 250, 100}, // and so does one that ends after
		{1, 19, 20},
		{-4999, -4000, 4960},
		{901, 999, 0}, // no wait has ended since
	} {
		if got := longestWait(all, []int{1}, after(c.from), after(c.to)); ms(got) != c.want {
			t.Errorf("%v to %v: %v", c.from, c.to, got)
		}
	}
	if got := longestWait(all, []int{2, 1}, after(0), after(250)); ms(got) != 160 {
		t.Errorf("the longest of two: %v", got)
	}
}

func TestToldOf(t *testing.T) {
	if got := toldOf(cluster.Recovery{Survivors: []cluster.Survivor{{Node: 1}}}); got != nil {
		t.Errorf("%+v of no events", got)
	}
	r := cluster.Recovery{Survivors: []cluster.Survivor{{Node: 1, Phases: []cluster.Phase{{Kind: membership.KindStarted, MS: 7}}}}, DetectMS: 1, AgreeMS: 2, OursMS: 7}
	if got := toldOf(r); got == nil || *got != (Told{1, 2, 7}) {
		t.Errorf("%+v", got)
	}
}

func TestMover(t *testing.T) {
	for round, want := range map[int]int{1: 3, 2: 2, 3: 1, 4: 3} {
		if got := mover(round, 3); got != want {
			t.Errorf("round %d: node%d", round, got)
		}
	}
}
