package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

func maintenance(d time.Duration) Operator {
	return Operator{Token: 8, Command: "maintenance-on", For: d, Who: "root"}
}

var maintenanceOff = Operator{Token: 9, Command: "maintenance-off", Who: "root"}

// remains is what the status says of the maintenance; -1: there is none.
func (h *holder) remains(at time.Duration) time.Duration {
	if m := h.n.Status(membership.Mono(at), nil).Maintenance; m != nil {
		return m.Left
	}
	return -1
}

func TestAMaintenanceIsAgreedShownAndEndedByItsTime(t *testing.T) {
	h := newHolder(t)
	h.n.SetWall("2026-03-01T10:00:00Z")
	h.want(h.ask(time.Second, maintenance(30*time.Minute)), "maintenance for 30m: no node is evicted")
	if got := h.remains(10*time.Minute + time.Second); got != 20*time.Minute {
		t.Fatalf("%v are left", got)
	}
	s := h.n.Status(membership.Mono(10*time.Minute+time.Second), nil)
	until := time.Date(2026, 3, 1, 10, 20, 0, 0, time.UTC).Local().Format("2006-01-02 15:04:05")
	want := "MAINTENANCE until " + until + " (20m0s left), by root on n1"
	if !slices.ContainsFunc(s.Warnings, func(w string) bool {
		return strings.Contains(w, want) && strings.Contains(w, "quorate maintenance off")
	}) {
		t.Errorf("no %q in %q", want, s.Warnings)
	}
	if s.Level == control.OK {
		t.Error("all is well in a maintenance")
	}
	h.tick(30 * time.Minute)
	if h.remains(30*time.Minute) < 0 {
		t.Fatal("ended too soon")
	}
	h.tick(30*time.Minute + time.Second)
	if h.remains(30*time.Minute+time.Second) >= 0 {
		t.Fatal("its time is over, and it is still in force")
	}
}

func TestAMaintenanceIsTakenBack(t *testing.T) {
	h := newHolder(t)
	h.want(h.ask(time.Second, maintenanceOff), "no maintenance is in force")
	h.ask(time.Second, maintenance(time.Hour))
	h.want(h.ask(2*time.Second, maintenanceOff), "maintenance is over")
	if h.remains(2*time.Second) >= 0 {
		t.Fatal("still in force")
	}
}

// Another one counts anew and never ends what somebody relies on: no shorter than
// what is left of the first.
func TestALaterMaintenanceIsNoShorter(t *testing.T) {
	h := newHolder(t)
	h.ask(time.Second, maintenance(time.Hour))
	h.want(h.ask(20*time.Minute+time.Second, maintenance(10*time.Minute)), "maintenance for 40m, as one that is in force already")
	if got := h.remains(20*time.Minute + time.Second); got != 40*time.Minute {
		t.Fatalf("%v are left", got)
	}
	h.want(h.ask(50*time.Minute+time.Second, maintenance(time.Hour)), "maintenance for 1h:")
	if got := h.remains(50*time.Minute + time.Second); got != time.Hour {
		t.Fatalf("%v are left", got)
	}
}

func TestAMaintenanceThatCannotBe(t *testing.T) {
	h := newHolder(t)
	h.want(h.ask(time.Second, maintenance(time.Second)), "from 1m to 24h,")
	h.want(h.ask(time.Second, maintenance(cluster.MaxMaintenance+1)), "from 1m to 24h,")
	h.g.leader = 0
	h.n.followLeader()
	if r := h.ask(2*time.Second, maintenance(time.Hour)); len(r) != 0 {
		t.Fatalf("answered %+v before it was agreed", r)
	}
	h.want(h.tick(2*time.Second+askLimit), "not agreed within 10s")
}

// It lives on in a snapshot; whoever takes it over from there counts anew.
func TestAMaintenanceIsRestored(t *testing.T) {
	h := newHolder(t)
	h.ask(time.Second, maintenance(time.Hour))
	b, err := h.n.State()
	if err != nil {
		t.Fatal(err)
	}
	o := newHolder(t)
	o.n.now = membership.Mono(2 * time.Hour)
	o.n.restore(membership.GroupRestore{Index: 5, State: b})
	if got := o.remains(2*time.Hour + 20*time.Minute); got != 40*time.Minute {
		t.Fatalf("%v are left", got)
	}
	h.n.restore(membership.GroupRestore{Index: 5, State: b})
	if got := h.remains(20*time.Minute + time.Second); got != 40*time.Minute {
		t.Fatalf("%v are left where it was known", got)
	}
}

// In a maintenance nobody is stuck; afterwards everybody has the whole limit again.
func TestInAMaintenanceNobodyIsStuck(t *testing.T) {
	h := newHolder(t)
	h.ask(time.Second, maintenance(time.Minute))
	sp := &lockspace.Space{Name: "gfs", Change: &lockspace.Change{Seq: 4}}
	evicted := func(at time.Duration) bool {
		h.n.now = membership.Mono(at)
		h.n.wished = map[string]bool{}
		h.n.overrunBy([]membership.NodeID{2}, membership.Mono(2*time.Second), stopLimit, sp, "stop")
		return len(h.n.wished) > 0
	}
	if evicted(50 * time.Second) {
		t.Fatal("evicted in the maintenance")
	}
	h.tick(61 * time.Second) // it ends
	if evicted(61*time.Second + stopLimit - 1) {
		t.Fatal("the limit did not count anew")
	}
	if !evicted(61*time.Second + stopLimit) {
		t.Fatal("not evicted at all")
	}
}

// A lockspace with a dead member waits for the end, and says so first, with the
// command that ends it.
func TestWhyNamesTheMaintenance(t *testing.T) {
	h := newHolder(t)
	h.n.set.Spaces = []*lockspace.Space{
		{Name: "gfs", Live: []lockspace.Member{{Incarnation: h.m[0]}, {Incarnation: h.m[2]}}},
		{Name: "own", Live: []lockspace.Member{{Incarnation: h.m[0]}}},
	}
	h.ask(time.Second, maintenance(time.Hour))
	waits := func(s control.Status, name string) (out []control.Wait) {
		for _, l := range s.Lockspaces {
			for _, w := range l.Waits {
				if l.Name == name && w.For == "maintenance" {
					out = append(out, w)
				}
			}
		}
		return out
	}
	s := h.n.Status(membership.Mono(11*time.Second), nil)
	ws := waits(s, "gfs")
	if len(ws) != 1 || ws[0].Owner != 3 || !strings.HasPrefix(ws[0].Command, "quorate maintenance off") || ws[0].Deadline <= 59*time.Minute {
		t.Errorf("gfs waits for %+v", ws)
	}
	if ws := waits(s, "own"); len(ws) != 0 {
		t.Errorf("a lockspace of this node alone waits for %+v", ws)
	}
	h.ask(12*time.Second, maintenanceOff)
	if ws := waits(h.n.Status(membership.Mono(13*time.Second), nil), "gfs"); len(ws) != 0 {
		t.Errorf("afterwards: %+v", ws)
	}
}

// The detector is told of all, once, and of the end.
func TestTheDetectorFollowsTheMaintenance(t *testing.T) {
	h := newHolder(t)
	silent := func(at time.Duration) bool {
		h.tick(at)
		return slices.Contains(h.n.live.Suspects(), 2)
	}
	h.tick(time.Millisecond)
	h.ask(2*time.Millisecond, maintenance(time.Minute))
	for at := 10 * time.Millisecond; at < 60*time.Second; at += 50 * time.Millisecond {
		if silent(at) {
			t.Fatalf("suspect at %v", at)
		}
	}
	for at := 60 * time.Second; at < 62*time.Second; at += 50 * time.Millisecond {
		if silent(at) {
			return
		}
	}
	t.Fatal("never suspected after the end")
}

// A leader that has started meanwhile counts anew; who has counted to the end says so.
func TestAFollowerEndsAMaintenance(t *testing.T) {
	h := newHolder(t)
	h.ask(time.Second, maintenance(time.Minute))
	h.g.leader = 2
	h.n.followLeader()
	h.tick(61 * time.Second)
	if h.remains(61*time.Second) < 0 {
		t.Fatal("a follower did not wait for the leader")
	}
	h.tick(62 * time.Second)
	if h.remains(62*time.Second) >= 0 {
		t.Fatal("not ended")
	}
}

// Where nobody can agree to the end, it is over for the node that was asked; those who
// are too few fence nobody before.
func TestAMaintenanceEndsForOneAlone(t *testing.T) {
	h := newHolder(t)
	h.ask(time.Second, maintenance(time.Hour))
	if why := h.n.maintenanceBars(); !strings.Contains(why, "quorate maintenance off") {
		t.Errorf("a takeover is barred by %q", why)
	}
	h.g.leader = 0
	h.n.followLeader()
	h.ask(2*time.Second, maintenanceOff)
	h.want(h.tick(2*time.Second+askLimit), "over for this node alone")
	if why := h.n.maintenanceBars(); why != "" || h.n.maintenanceLeft() != 0 {
		t.Errorf("still barred: %s", why)
	}
	for at := 12 * time.Second; at < 14*time.Second; at += 50 * time.Millisecond {
		h.tick(at)
		if slices.Contains(h.n.live.Suspects(), 2) {
			return
		}
	}
	t.Error("silence does not count")
}
