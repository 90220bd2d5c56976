package liveness

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestInAMaintenanceNobodyIsSuspected(t *testing.T) {
	r := newRig(t, 3)
	r.m.Step(r.now, Maintenance{Until: r.now.Add(time.Second)})
	r.silence(2)
	r.silence(3)
	r.run(time.Second + 190*ms)
	if count[Suspected](r.out) != 0 {
		t.Errorf("suspected in it: %v", r.out)
	}
	if got := len(r.m.Linked()); got != 3 {
		t.Errorf("%d of 3 count as linked", got)
	}
	r.run(20 * ms)
	if count[Suspected](r.out) != 2 {
		t.Errorf("not suspected after it: %v", r.out)
	}
}

// An Until that has come ends it.
func TestAMaintenanceThatIsTakenBack(t *testing.T) {
	r := newRig(t, 3)
	r.m.Step(r.now, Maintenance{Until: r.now.Add(time.Hour)})
	r.silence(2)
	r.run(time.Second)
	r.m.Step(r.now, Maintenance{Until: r.now})
	r.run(190 * ms)
	if count[Suspected](r.out) != 0 {
		t.Errorf("it was not given dead_after: %v", r.out)
	}
	r.run(20 * ms)
	if count[Suspected](r.out) != 1 {
		t.Errorf("not suspected after it: %v", r.out)
	}
}

// Whatever the links do in a maintenance, nobody is convicted before its end and
// dead_after more; who stands still for longer is convicted then, by all others.
func TestSilenceIsConvictedAfterTheMaintenance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, tm := drawCluster(t, 3, 6)
		still := c.nodes[rapid.IntRange(0, len(c.nodes)-1).Draw(t, "still")].id
		long := 2*tm.DeadAfter + time.Duration(rapid.Int64Range(0, int64(10*tm.DeadAfter)).Draw(t, "long"))
		until := c.now.Add(long)
		verdicts := 0
		c.seen = func(h *host, e Effect) {
			v, is := e.(Convicted)
			if !is || len(v.Departures) == 0 || h.id == still {
				return
			}
			if len(v.Departures) != 1 || v.Departures[0].Incarnation.Node != still || c.now < until.Add(tm.DeadAfter) {
				t.Fatalf("node %d convicts %v %v after the end", h.id, v.Departures, c.now.Sub(until))
			}
			verdicts++
		}
		for _, h := range c.alive() {
			c.step(h, Maintenance{Until: until})
		}
		for _, h := range c.nodes[1:] {
			if rapid.Bool().Draw(t, "cut") {
				c.both(c.nodes[0].id, h.id, true)
				c.run(long / 8)
				c.both(c.nodes[0].id, h.id, false)
			}
		}
		c.run(tm.DeadAfter / 2)
		c.freeze(still, until.Sub(c.now)+3*tm.DeadAfter)
		c.run(until.Sub(c.now) + 2*tm.DeadAfter + 2*tm.Interval)
		if verdicts < len(c.nodes)-1 {
			t.Fatalf("%d verdicts of %d nodes", verdicts, len(c.nodes)-1)
		}
	})
}
