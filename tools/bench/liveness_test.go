package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLivenessArgs(t *testing.T) {
	var errw bytes.Buffer
	o, err := parseLiveness(nil, &errw)
	if err != nil || !slices.Equal(o.nodes, []int{3, 8, 16}) || !slices.Equal(o.kinds, kinds) || o.kills != 30 || o.others != 5 || o.budget != 20*time.Minute || o.out != "out/bench/liveness.json" {
		t.Errorf("%+v %v", o, err)
	}
	if c := o.cells(); len(c) != 15 || c[0] != (cell{kind{"quorate", "fast"}, 3, 30}) || c[14] != (cell{kind{"corosync", "default"}, 16, 5}) {
		t.Errorf("%v", c)
	}
	o, err = parseLiveness(strings.Fields("-nodes 8 -kills 2 -systems corosync/safe,quorate/lan"), &errw)
	if want := []cell{{kind{"quorate", "lan"}, 8, 2}, {kind{"corosync", "safe"}, 8, 2}}; err != nil || !slices.Equal(o.cells(), want) {
		t.Errorf("%v %v", o.cells(), err)
	}
}

func TestLivenessWrongUsage(t *testing.T) {
	for _, bad := range []string{"-nodes 2", "-kills 0", "-corosync-kills 0", "-idle -1s", "-budget 0", "-systems pacemaker", "-systems quorate/safe", "-systems quorate,", "-nope", "more"} {
		var out, errw bytes.Buffer
		if code := command(t.Context(), strings.Fields("liveness "+bad), &out, &errw); code != 64 || errw.Len() == 0 || out.Len() != 0 {
			t.Errorf("%s: %d %s", bad, code, errw.String())
		}
	}
	var out, errw bytes.Buffer
	if code := command(t.Context(), []string{"liveness", "-h"}, &out, &errw); code != 0 || !strings.Contains(errw.String(), "-budget") {
		t.Errorf("%d %s", code, errw.String())
	}
}

// plenty is a budget that holds everything.
var plenty = budget{left: func() time.Duration { return time.Hour }}

// TestLiveOrder: victims take turns, and each is back before the next dies.
func TestLiveOrder(t *testing.T) {
	f := newFake(3)
	f.late = []time.Duration{10 * time.Millisecond, 20 * time.Millisecond}
	r, err := measureLive(t.Context(), f, f.plan(2), plenty)
	if err != nil || len(r.deaths) != 2 || r.deaths[1].SeenMS != 20 || r.alarms != 0 {
		t.Errorf("%+v %v", r, err)
	}
	if got := strings.Join(f.calls, " "); got != "start whole kill 1 restart 1 whole kill 2 restart 2" {
		t.Error(got)
	}
}

// answers is whether kernels answer, of the n-th question on.
type answers struct {
	from  int
	err   error
	asked int
}

func (a *answers) KernelAnswers(context.Context) (bool, error) {
	a.asked++
	return a.from != 0 && a.asked >= a.from, a.err
}

func TestKernelAnswers(t *testing.T) {
	boom := errors.New("boom")
	over, cancel := context.WithCancelCause(t.Context())
	cancel(boom)
	for name, c := range map[string]struct {
		ctx  context.Context
		a    *answers
		ok   bool
		fail error
	}{
		"at once":         {t.Context(), &answers{from: 1}, true, nil},
		"soon":            {t.Context(), &answers{from: 3}, true, nil},
		"never":           {t.Context(), &answers{}, false, nil},
		"no answer":       {t.Context(), &answers{err: boom}, false, boom},
		"the run is over": {over, &answers{}, false, boom},
	} {
		if ok, err := kernelAnswers(c.ctx, c.a); ok != c.ok || !errors.Is(err, c.fail) {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
}

// TestBudget: a death that has no room is not begun, nor is a cell; what was measured stays.
func TestBudget(t *testing.T) {
	f := newFake(3)
	left := time.Hour
	f.late = []time.Duration{5 * time.Millisecond, 5 * time.Millisecond}
	f.onKill = func() {
		if f.killed == 2 {
			left = time.Millisecond // a death takes longer
		}
	}
	r, err := measureLive(t.Context(), f, f.plan(5), budget{left: func() time.Duration { return left }})
	if err != nil || len(r.deaths) != 2 {
		t.Errorf("%+v %v", r, err)
	}
	o := liveOptions{daemon: "/no/such/program"}
	got, err := o.one(t.Context(), cell{kinds[0], 3, 1}, budget{left: func() time.Duration { return 0 }}, io.Discard)
	if err != nil || len(got.deaths) != 0 {
		t.Errorf("%+v %v", got, err)
	}
}

// TestLiveErrors: with each what was found until then is returned.
func TestLiveErrors(t *testing.T) {
	broken := errors.New("broken")
	for call, deaths := range map[string]int{"start": 0, "packets": 0, "whole": 0, "kill 1": 0, "kill 2": 1, "restart 1": 1} {
		f := newFake(3)
		f.fail[call] = broken
		p := f.plan(2)
		p.idle = time.Millisecond
		r, err := measureLive(t.Context(), f, p, plenty)
		if !errors.Is(err, broken) || len(r.deaths) != deaths {
			t.Errorf("%s: %+v %v", call, r, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := newFake(3).plan(1)
	p.rest = time.Hour
	if _, err := measureLive(ctx, newFake(3), p, plenty); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestAlarm: a view while nothing happens is counted.
func TestAlarm(t *testing.T) {
	f := newFake(3)
	p := f.plan(0)
	p.idle = 50 * time.Millisecond
	go func() {
		time.Sleep(10 * time.Millisecond) // the window is open then
		f.views.Add(View{Node: 1, ID: "x", Members: []int{1, 2}, Seen: boottime()})
	}()
	r, err := measureLive(t.Context(), f, p, plenty)
	if err != nil || r.alarms != 1 {
		t.Errorf("%+v %v", r, err)
	}
}
