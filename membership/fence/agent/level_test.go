package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/fencetest"
)

// TestDelays: off waits for delay and what was drawn of random_delay; that time is
// not taken from the job's deadline.
func TestDelays(t *testing.T) {
	for _, tt := range []struct {
		name          string
		delay, random time.Duration
		drawn, least  time.Duration
	}{
		{"none", 0, 0, 0, 0},
		{"fixed", 60 * time.Millisecond, 0, 0, 60 * time.Millisecond},
		{"drawn", 0, time.Hour, 40 * time.Millisecond, 40 * time.Millisecond},
		{"both", 30 * time.Millisecond, time.Hour, 30 * time.Millisecond, 60 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab := fencetest.NewLab(t)
			d := lab.Device("a", "ok")
			d.Delay, d.RandomDelay = tt.delay, tt.random
			most := time.Duration(-1)
			f := New(membership.Config{Devices: []membership.Device{d}}, WithDirs(lab.Dir), WithDraw(func(m time.Duration) time.Duration { most = m; return tt.drawn }))
			res := f.Fence(t.Context(), soon())
			if !res.OK || res.Took < tt.least || tt.random > 0 && most != tt.random || tt.random == 0 && most >= 0 {
				t.Errorf("%+v, drawn from %v", res, most)
			}
		})
	}
}

func TestDrawnWithinTheDelay(t *testing.T) {
	f := New(membership.Config{})
	for range 1000 {
		if d := f.draw(3); d < 0 || d > 3 {
			t.Fatal(d)
		}
	}
}

// TestLateAfterItsDelay: the deadline counts after the wait, just before the agent.
func TestLateAfterItsDelay(t *testing.T) {
	lab := fencetest.NewLab(t)
	d := lab.Device("a", "ok")
	d.Delay = time.Millisecond
	calls := 0
	clock := func() membership.Mono {
		if calls++; calls > 2 { // start of the job, before the wait, then
			return membership.Mono(500).Add(d.Delay)
		}
		return 1
	}
	f := New(membership.Config{Devices: []membership.Device{d}}, WithDirs(lab.Dir), WithClock(clock))
	res := f.Fence(t.Context(), membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: 500})
	if res.OK || !strings.Contains(res.Err, ErrDeadline.Error()) || lab.Log() != nil {
		t.Errorf("%+v, asked %v", res, lab.Log())
	}
}

func TestDelayEndsWithTheJob(t *testing.T) {
	lab := fencetest.NewLab(t)
	d := lab.Device("a", "ok")
	d.Delay = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	res := New(membership.Config{Devices: []membership.Device{d}}, WithDirs(lab.Dir)).Fence(ctx, soon())
	if res.OK || !strings.Contains(res.Err, ErrCancelled.Error()) || lab.Log() != nil {
		t.Errorf("%+v, asked %v", res, lab.Log())
	}
}

// TestStatusHangs: all questions together take no longer than one run may.
func TestStatusHangs(t *testing.T) {
	lab := fencetest.NewLab(t)
	d := lab.Device("a", "statushang")
	d.Timeout = time.Second
	begin := time.Now()
	res := mk(lab.Dir, d).Fence(t.Context(), soon())
	if took := time.Since(begin); res.OK || !strings.Contains(res.Err, ErrUnproved.Error()) || took > d.Lease()+2*time.Second {
		t.Errorf("%+v after %v", res, took)
	}
}

// TestAsk: a question is monitor or status, and says what the agent said.
func TestAsk(t *testing.T) {
	lab := fencetest.NewLab(t)
	f := mk(lab.Dir, lab.Device("a", "ok")).(*Fencer)
	if a := f.Ask(t.Context(), lab.Device("a", "ok"), "status"); a.State != "on" || a.Err != "" || !strings.Contains(a.Output, "Status: ON") || a.Took <= 0 {
		t.Errorf("%+v", a)
	}
	if res := f.Fence(t.Context(), soon()); !res.OK {
		t.Fatalf("%+v", res)
	}
	if a := f.Ask(t.Context(), lab.Device("a", "ok"), "status"); a.State != "off" || a.Err != "" {
		t.Errorf("%+v", a)
	}
	if a := f.Ask(t.Context(), lab.Device("a", "ok"), "monitor"); a != (membership.FenceAnswer{Took: a.Took}) {
		t.Errorf("%+v", a)
	}
	if a := f.Ask(t.Context(), lab.Device("a", "fail"), "monitor"); !strings.Contains(a.Err, "fence_script monitor: agent failed: exit status 1: Unable to connect") {
		t.Errorf("%+v", a)
	}
	secret := lab.Device("a", "secretfail")
	secret.Options["password"] = "hunter2"
	if a := f.Ask(t.Context(), secret, "monitor"); a.Err == "" || strings.Contains(a.Err+a.Output, "hunter2") {
		t.Errorf("%+v", a)
	}
	before := len(lab.Log())
	if a := f.Ask(t.Context(), lab.Device("a", "ok"), "off"); a.Err == "" || len(lab.Log()) != before {
		t.Errorf("%+v, asked %v", a, lab.Log())
	}
	if _, err := f.question(t.Context(), &membership.Device{Agent: "fence_nowhere", Timeout: time.Second}, "status"); !errors.Is(err, ErrNoAgent) {
		t.Error(err)
	}
}

// TestLevelsAfterALie: what reported success while the victim answered comes last.
func TestLevelsAfterALie(t *testing.T) {
	for _, tt := range []struct {
		after int
		modes string // of levels 1, 3 and 4
		log   string
		level int
	}{
		{0, "ok ok ok", "off a,status a", 1},
		{1, "ok ok ok", "off b,status b", 3},
		{2, "ok ok ok", "off b,status b", 3},
		{3, "ok ok ok", "off c,status c", 4},
		{3, "ok ok fail", "off c,off a,status a", 1},
		{4, "ok ok ok", "off a,status a", 1},
		{1, "fail fail fail", "off b,off c,off a", 0},
	} {
		lab := fencetest.NewLab(t)
		var devices []membership.Device
		for i, mode := range strings.Fields(tt.modes) {
			d := lab.Device(string(rune('a'+i)), mode)
			d.Level = []int{1, 3, 4}[i]
			devices = append(devices, d)
		}
		job := soon()
		job.After = tt.after
		res := mk(lab.Dir, devices...).Fence(t.Context(), job)
		if got := strings.Join(lab.Log(), ","); got != tt.log || res.Level != tt.level || res.OK != (tt.level != 0) {
			t.Errorf("after %d, %s: asked %s, %+v", tt.after, tt.modes, got, res)
		}
	}
}

// TestUnfence: on for the devices that ask for it, in their order, up to the first that fails.
func TestUnfence(t *testing.T) {
	for _, tt := range []struct{ modes, log, err string }{
		{"ok ok ok", "on a,on c", ""},
		{"onfails ok ok", "on a", "fence_script on: agent failed: exit status 1: port 3: no such port"},
		{"ok onfails ok", "on a,on c", ""}, // b does not ask for it
	} {
		lab := fencetest.NewLab(t)
		var devices []membership.Device
		for i, mode := range strings.Fields(tt.modes) {
			d := lab.Device(string(rune('a'+i)), mode)
			d.Unfence = i != 1
			devices = append(devices, d)
		}
		f := mk(lab.Dir, devices...).(*Fencer)
		err := f.Unfence(t.Context(), 1, boottime().Add(time.Minute))
		if got := strings.Join(lab.Log(), ","); got != tt.log || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: asked %s, %v", tt.modes, got, err)
		}
		asked := len(lab.Log())
		if err := f.Unfence(t.Context(), 1, boottime()-1); !errors.Is(err, ErrDeadline) || len(lab.Log()) != asked {
			t.Errorf("late: %v", err)
		}
		if err := f.Unfence(t.Context(), 7, boottime().Add(time.Minute)); err != nil {
			t.Errorf("without devices: %v", err)
		}
	}
}
