package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestArgs(t *testing.T) {
	var errw bytes.Buffer
	o, err := parseArgs([]string{"-nodes", "3, 32", "-profile", "fast", "-kills", "0", "-idle", "0", "-fsyncs=false"}, &errw)
	if err != nil || !slices.Equal(o.nodes, []int{3, 32}) || o.profile != "fast" || o.kills != 0 || o.idle != 0 || o.fsyncs {
		t.Errorf("%+v %v", o, err)
	}
	if p := o.plan(3, &errw); p.trace != nil || p.nodes != 3 {
		t.Errorf("%+v", p)
	}
	o, err = parseArgs(nil, &errw)
	if err != nil || !slices.Equal(o.nodes, []int{3, 5, 8}) || o.profile != "lan" || o.kills != 10 || o.idle != 20*time.Second || !o.fsyncs || o.out != "out/bench/view.json" || o.plan(3, &errw).rest != time.Second {
		t.Errorf("%+v %v", o, err)
	}
	if o.plan(3, &errw).trace == nil {
		t.Error("fsyncs are not counted")
	}
}

func TestWrongUsage(t *testing.T) {
	for _, bad := range []string{"-nodes 2", "-nodes 33", "-nodes 3,,5", "-nodes three", "-profile auto", "-kills -1", "-idle -1s", "-idle x", "-nope", "more"} {
		var out, errw bytes.Buffer
		if code := run(t.Context(), strings.Fields(bad), &out, &errw); code != 64 || errw.Len() == 0 || out.Len() != 0 {
			t.Errorf("%s: %d %s", bad, code, errw.String())
		}
	}
	var out, errw bytes.Buffer
	if code := run(t.Context(), []string{"-h"}, &out, &errw); code != 0 || !strings.Contains(errw.String(), "-profile") {
		t.Errorf("%d %s", code, errw.String())
	}
}
