package cluster

import (
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

func maintain(after uint64) Command {
	return Command{Maintenance: &Maintenance{For: 30 * time.Minute, Who: "root", After: after, Ask: "1"}}
}

func maintainEnd(index uint64) Command { return Command{MaintenanceEnd: &MaintenanceEnd{Index: index}} }

// An eviction that was on its way when the maintenance was ordered comes too late,
// whoever is to go; what a node did itself or an operator asked for goes through.
func TestInAMaintenanceSilenceEvictsNobody(t *testing.T) {
	for _, r := range []membership.Reason{membership.ReasonSilent, membership.ReasonUnlinked, membership.ReasonStalled, membership.ReasonStuck} {
		y, _, b, c := three(t)
		both := y.eviction(r, c)
		m := y.done(maintain(0)).Maintained
		for _, who := range []membership.Incarnation{b, c} {
			y.refused(y.eviction(r, who), "maintenance")
		}
		y.refused(both, "maintenance")
		y.done(maintainEnd(m.Index))
		y.done(y.eviction(r, c))
	}
	for _, r := range []membership.Reason{membership.ReasonRebooted, membership.ReasonRestarted, membership.ReasonOperator, membership.ReasonWithdrawn} {
		y, _, _, c := three(t)
		y.done(maintain(0))
		y.done(y.eviction(r, c))
		if y.s.Maintenance == nil {
			t.Errorf("%s of one node ended the maintenance of all", r)
		}
	}
}

// A later one takes the place of the one that its asker saw, and of no other. Late
// copies begin nothing, at a node that began with a snapshot too.
func TestALaterMaintenanceStands(t *testing.T) {
	y, _, _, c := three(t)
	first := y.done(maintain(0)).Maintained
	y.refused(maintain(0), "meanwhile")
	second := y.done(maintain(first.Index)).Maintained
	y.refused(maintain(first.Index), "meanwhile")
	y.refused(maintainEnd(first.Index), "no maintenance of index")
	y.refused(y.eviction(membership.ReasonSilent, c), "maintenance")
	bytes, err := y.s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := y.s.Restore(bytes); err != nil {
		t.Fatal(err)
	}
	if o := y.done(maintainEnd(second.Index)); o.Unmaintained == nil || o.Unmaintained.Index != second.Index {
		t.Fatalf("ended %+v", o.Unmaintained)
	}
	y.refused(maintainEnd(second.Index), "no maintenance of index")
	for _, after := range []uint64{0, first.Index} {
		y.refused(maintain(after), "meanwhile")
	}
	y.done(y.eviction(membership.ReasonSilent, c))
	y.done(maintain(second.Index))
}

func TestAMaintenanceIsBounded(t *testing.T) {
	y, _, _, _ := three(t)
	for _, d := range []time.Duration{-time.Minute, 0, MinMaintenance - 1, MaxMaintenance + 1} {
		m := maintain(0)
		m.Maintenance.For = d
		y.refused(m, "a maintenance of")
	}
}

func TestAMaintenanceExcusesAll(t *testing.T) {
	y, a, b, c := three(t)
	h := y.done(held(b, "1")).Held
	if y.s.Excused(a) || !y.s.Excused(b) {
		t.Error("a hold is one node's")
	}
	m := y.done(maintain(0)).Maintained
	y.done(Command{HoldEnd: &HoldEnd{Incarnation: b, Index: h.Index}})
	for _, i := range []membership.Incarnation{a, b, c} {
		if !y.s.Excused(i) {
			t.Errorf("%v is not excused", i)
		}
	}
	y.done(maintainEnd(m.Index))
	if y.s.Excused(c) {
		t.Error("excused after the end")
	}
}
