package main

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/membership"
)

// TestWay: what survivors say of the victim after its death counts, and nothing else.
func TestWay(t *testing.T) {
	var s steps
	say := func(node, subject int, kind membership.Kind, msec int) {
		s.add(node, membership.Event{Kind: kind, Subject: membership.NodeID(subject), Mono: membership.Mono(msec) * 1e6})
	}
	say(1, 3, membership.KindSuspect, 50)   // an earlier death
	say(2, 3, membership.KindConvicted, 60) // of it
	say(2, 3, membership.KindSuspect, 290)
	say(1, 3, membership.KindSuspect, 280)
	say(3, 1, membership.KindSuspect, 281) // the victim's own view
	say(3, 3, membership.KindSuspect, 240)
	say(1, 2, membership.KindSuspect, 250)
	say(2, 3, membership.KindView, 270)
	say(2, 3, membership.KindConvicted, 292)
	say(1, 3, membership.KindConvicted, 291)
	if got := s.of(3, 100e6); got != (way{FirstMS: 180, LastMS: 190, ConvictMS: 191}) {
		t.Errorf("%+v", got)
	}
	if got := s.of(4, 0); got != (way{}) {
		t.Errorf("%+v", got)
	}
}

// TestNoCorosync: what is missing is named.
func TestNoCorosync(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := NewCorosync(&Fabric{}, CorosyncOptions{Setting: "safe", Nodes: 3}); err == nil || !strings.Contains(err.Error(), "install the package corosync") {
		t.Error(err)
	}
	if _, err := NewCorosync(&Fabric{}, CorosyncOptions{Setting: "none", Nodes: 3}); err == nil {
		t.Error("a setting that is not there")
	}
}
