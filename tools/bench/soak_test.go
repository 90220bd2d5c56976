package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
)

func TestSoakArgs(t *testing.T) {
	var errw bytes.Buffer
	o, err := parseSoak(nil, &errw)
	if err != nil || o.time != 10*time.Minute || o.nodes != 3 || !slices.Equal(o.kinds, []kind{{"quorate", "lan"}, {"corosync", "safe"}}) || !slices.Equal(o.faults, faultKinds) {
		t.Errorf("%+v %v", o, err)
	}
	o, err = parseSoak(strings.Fields("-minutes 0.5 -systems quorate/fast -faults stop,loss -seed 7"), &errw)
	if err != nil || o.time != 30*time.Second || len(o.kinds) != 1 || !slices.Equal(o.faults, []string{faultStop, faultLoss}) || o.seed != 7 {
		t.Errorf("%+v %v", o, err)
	}
	for _, bad := range []string{"-minutes 0", "-nodes 2", "-nodes 33", "-faults fire", "-systems x", "-nope", "more"} {
		var out, errw bytes.Buffer
		if code := command(t.Context(), strings.Fields("soak "+bad), &out, &errw); code != 64 || errw.Len() == 0 || out.Len() != 0 {
			t.Errorf("%s: %d %s", bad, code, errw.String())
		}
	}
	var out bytes.Buffer
	if code := command(t.Context(), []string{"soak", "-h"}, &out, &errw); code != 0 || !strings.Contains(errw.String(), "-minutes") {
		t.Errorf("%d %s", code, errw.String())
	}
}

// TestSoakPlan: faults take turns, and the seed alone makes the rest.
func TestSoakPlan(t *testing.T) {
	var errw bytes.Buffer
	o, err := parseSoak([]string{"-nodes", "4"}, &errw)
	if err != nil {
		t.Fatal(err)
	}
	victims := map[int]bool{}
	for n := range 200 {
		f := o.plan(n)
		if f != o.plan(n) || f.Kind != faultKinds[n%len(faultKinds)] {
			t.Fatalf("round %d: %v, %v", n, f, o.plan(n))
		}
		if f.has(faultStop) != (f.Stop != 0) || f.Stop != 0 && (f.Stop < time.Second || f.Stop > 8*time.Second || f.Length <= f.Stop) {
			t.Errorf("%v", f)
		}
		victims[f.Victim] = true
	}
	if len(victims) != 5 { // 0 is nobody
		t.Errorf("%v", victims)
	}
	other := o
	other.seed = 2
	if o.plan(3) == other.plan(3) {
		t.Error("the seed changes nothing")
	}
}

func TestConvictions(t *testing.T) {
	view := func(node int, members ...int) View { return View{Node: node, Members: members} }
	for what, c := range map[string]struct {
		views []View
		want  []int
	}{
		"nothing":               {nil, nil},
		"told by both":          {[]View{view(1, 1, 2), view(2, 1, 2)}, []int{3}},
		"and back, and again":   {[]View{view(1, 1, 2), view(1, 1, 2, 3), view(2, 1, 2)}, []int{3, 3}},
		"a minority's":          {[]View{view(3, 3)}, nil},
		"of others":             {[]View{view(3, 1, 2)}, nil},
		"one after the other":   {[]View{view(1, 1, 2), view(1, 1, 3)}, []int{3, 2}},
		"a join is no loss":     {[]View{view(1, 1, 2, 3)}, nil},
		"half is not a quorum":  {[]View{view(1, 1)}, nil},
		"all but one, in a row": {[]View{view(1, 1, 2), view(1, 1, 2)}, []int{3}},
	} {
		if got := convictions(c.views, 3); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v", what, got)
		}
	}
}

func TestSince(t *testing.T) {
	v := NewViews()
	for _, at := range []membership.Mono{1, 2, 3} {
		v.Add(View{Node: int(at), Seen: at})
	}
	if got := v.Since(2); len(got) != 1 || got[0].Node != 3 {
		t.Errorf("%v", got)
	}
	if n := v.Newest(); len(n) != 3 || n[2].Seen != 2 {
		t.Errorf("%v", n)
	}
}

func TestLossRules(t *testing.T) {
	if r := lossRules(5); !strings.Contains(r, "numgen random mod 100 < 5 counter drop") || !strings.Contains(r, "delete table") {
		t.Error(r)
	}
	if r := lossRules(0); strings.Contains(r, "numgen") || !strings.Contains(r, "delete table") {
		t.Error(r)
	}
}

func soakReport(lost ...[]int) SoakReport {
	r := SoakReport{Nodes: 3, Seed: 4, Systems: []SoakSystem{{kind: kinds[1]}, {kind: kinds[3]}}}
	for i, l := range lost {
		r.Rounds = append(r.Rounds, SoakRound{Fault: faultKinds[i%2], Collections: 5, Lost: [][]int{l, {1, 2}}})
	}
	return r
}

func TestSoakReport(t *testing.T) {
	var b bytes.Buffer
	r := soakReport(nil, []int{3}, nil)
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{"fault rounds collections quorate/lan corosync/safe hogs 2 10 0 4 loss 1 5 1 2 sum 3 15 1 6", "NOT MET quorate/lan: no false conviction; there were 1. its daemons answer"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if err := r.failure(); err == nil || !strings.Contains(err.Error(), "1 nodes were convicted") {
		t.Error(err)
	}
	r = soakReport(nil)
	r.Systems[0].Kernel = true
	b.Reset()
	if err := errors.Join(r.print(&b), r.failure()); err != nil || !strings.Contains(b.String(), "met      quorate/lan: no false conviction; there were 0. the kernels answer") {
		t.Errorf("%v %s", err, b.String())
	}
	if err := soakReport().failure(); err == nil {
		t.Error("no round is no success")
	}
}

// TestHogs: as many as asked for compute, as ordinary programs, until they are ended.
func TestHogs(t *testing.T) {
	all, err := hogs(2)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		attr, err := unix.SchedGetAttr(c.Process.Pid, 0)
		if err != nil || attr.Policy != unix.SCHED_NORMAL {
			t.Errorf("%+v %v", attr, err)
		}
	}
	endHogs(all)
	for _, c := range all {
		if c.ProcessState == nil || c.ProcessState.Success() {
			t.Errorf("%v", c.ProcessState)
		}
	}
}

// TestStandStill: whoever stood still goes on, even if the time was cut short.
func TestStandStill(t *testing.T) {
	c := exec.Command("/bin/sh", "-c", "while :; do :; done")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Wait() }() // killed
	defer func() { _ = c.Process.Kill() }()
	state := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(b))[2]
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- standStill(ctx, []int{c.Process.Pid}, time.Hour) }()
	err := until(t.Context(), 10*time.Second, func(context.Context) error {
		if s := state(); s != "T" {
			return errors.New(s)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if s := state(); s == "T" {
		t.Error("it still stands")
	}
}
