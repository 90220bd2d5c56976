package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
)

func TestViewMembers(t *testing.T) {
	for text, want := range map[string][]int{"members [1 3]": {1, 3}, "members [2], no quorum yet": {2}, "members []": {}} {
		if got, err := viewMembers(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "members 1 3", "not members [1]", "members [1 99999999999999999999]"} {
		if got, err := viewMembers(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// TestConfiguration: all nodes have the same file in what must agree, and no DLM.
func TestConfiguration(t *testing.T) {
	o := QuorateOptions{Profile: "lan", Nodes: 8}
	var first config.Config
	for n := 1; n <= o.Nodes; n++ {
		c, err := config.Parse("f", []byte(configuration("/d", o, n)))
		if err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			first = c
		}
		if !c.NoKernel || !c.ManualFence || len(c.Nodes) != 8 || c.Nodes[7].Addrs[0] != Addr(8) || c.Timing.Profile != "lan" || !c.Digest.Equal(first.Digest) {
			t.Errorf("node %d: %+v", n, c)
		}
		if n > 1 && c.StateDir == first.StateDir {
			t.Errorf("node %d has the state of node 1", n)
		}
	}
}

func statuses() []control.Status {
	var all []control.Status
	for id := membership.NodeID(1); id <= 3; id++ {
		s := control.Status{Node: id, Name: "n", Member: true, View: 7, Leader: 2}
		for o := membership.NodeID(1); o <= 3; o++ {
			s.Nodes = append(s.Nodes, control.NodeStatus{ID: o, State: "member", Connected: o != id})
		}
		all = append(all, s)
	}
	return all
}

func TestWhole(t *testing.T) {
	if err := whole(statuses()); err != nil {
		t.Error(err)
	}
	for what, spoil := range map[string]func([]control.Status){
		"no member":     func(a []control.Status) { a[2].Member = false },
		"evicted":       func(a []control.Status) { a[0].Nodes[2].State = "evicted" },
		"not connected": func(a []control.Status) { a[1].Nodes[2].Connected = false },
		"another view":  func(a []control.Status) { a[1].View = 8 },
		"two leaders":   func(a []control.Status) { a[1].Leader = 3 },
		"no leader":     func(a []control.Status) { a[0].Leader, a[1].Leader, a[2].Leader = 0, 0, 0 },
	} {
		all := statuses()
		spoil(all)
		if whole(all) == nil {
			t.Error(what)
		}
	}
}

// TestNote: only views are noted, with the daemon's stamp and our own.
func TestNote(t *testing.T) {
	var failed error
	q := &Quorate{views: NewViews(), fail: func(err error) { failed = err }}
	before := boottime()
	q.note(3, membership.Event{Kind: membership.KindEvicted, Text: "x"})
	q.note(3, membership.Event{Kind: membership.KindView, View: 4, Index: 9, Mono: 5, Text: "members [1 3]"})
	if len(q.views.all) != 1 || failed != nil {
		t.Fatalf("%+v %v", q.views.all, failed)
	}
	v := q.views.all[0]
	if v.Node != 3 || v.ID != "view 4 at 9" || v.Stamp != 5 || v.Seen < before || !slices.Equal(v.Members, []int{1, 3}) {
		t.Errorf("%+v", v)
	}
	q.note(3, membership.Event{Kind: membership.KindView, Text: "another language"})
	if failed == nil {
		t.Error("a view without members is no fault")
	}
}

func TestNoProgram(t *testing.T) {
	_, err := NewQuorate(&Fabric{}, QuorateOptions{Program: filepath.Join(t.TempDir(), "none"), Profile: "lan", Nodes: 3})
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Error(err)
	}
}

// TestFilesAreRemoved: a run that never began leaves nothing.
func TestFilesAreRemoved(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	q, err := NewQuorate(&Fabric{}, QuorateOptions{Program: "/bin/sh", Profile: "lan", Nodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Kill(t.Context(), 1); err == nil || q.Pids(1) != nil {
		t.Errorf("a node that does not run: %v %v", err, q.Pids(1))
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("%v %v", left, err)
	}
}

func TestTail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte(strings.Repeat("early\n", 5)+strings.Repeat("late\n", 10)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := (&process{log: file}).tail(); strings.Contains(got, "early") || strings.Count(got, "late") != 10 {
		t.Errorf("%q", got)
	}
	if got := (&process{log: file + "x"}).tail(); !strings.Contains(got, "no such file") {
		t.Errorf("%q", got)
	}
}
