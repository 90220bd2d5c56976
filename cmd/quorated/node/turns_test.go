package node

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

// TestTurnsDoNotMeet: whenever each of two nodes looks for its turn, nothing of one runs
// in a turn of the other, as long as they missed each other within the time that counts.
func TestTurnsDoNotMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		missed := rapid.Int64Range(1, int64(10*time.Second)).Draw(t, "missed")
		run := rapid.Int64Range(0, int64(2*time.Minute)).Draw(t, "run")
		configured := int64(0)
		if rapid.Bool().Draw(t, "configured") { // as long as an attempt may take, or longer
			configured = missed + run + int64(takeoverSlack) + rapid.Int64Range(0, int64(time.Minute)).Draw(t, "more")
		}
		begin := membership.Mono(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "begin"))
		apart := rapid.Int64Range(-missed, missed).Draw(t, "apart")
		one := newTurns(begin, time.Duration(configured), time.Duration(missed), time.Duration(run))
		two := newTurns(begin.Add(time.Duration(apart)+one.each), time.Duration(configured), time.Duration(missed), time.Duration(run))
		a := one.at(membership.Mono(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "one looks")))
		b := two.at(membership.Mono(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "two looks")))
		if a.from < b.until && b.from < a.until {
			t.Fatalf("%+v meets %+v", a, b)
		}
		if gap := max(b.from.Sub(a.until), a.from.Sub(b.until)); gap < takeoverSlack/2 {
			t.Fatalf("%v between %+v and %+v", gap, a, b)
		}
	})
}

// TestATurnIsLongEnough: a whole attempt fits into each, and who looks finds the first
// that is not over.
func TestATurnIsLongEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		missed := time.Duration(rapid.Int64Range(1, int64(10*time.Second)).Draw(t, "missed"))
		run := time.Duration(rapid.Int64Range(0, int64(2*time.Minute)).Draw(t, "run"))
		configured := rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Second, 3 * time.Second, time.Minute, time.Hour}).Draw(t, "configured")
		x := newTurns(membership.Mono(time.Hour), configured, missed, run)
		now := membership.Mono(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "now"))
		a := x.at(now)
		switch {
		case a.until.Sub(a.from) <= run:
			t.Fatalf("an attempt of %v does not fit into %+v", run, a)
		case a.last <= a.from || a.last > a.until:
			t.Fatalf("%+v", a)
		case a.from.Sub(x.first)%(2*x.each) != 0 || a.from < x.first:
			t.Fatalf("%+v is no turn of %+v", a, x)
		case a.last.Sub(now) < min(leastRun, x.ours/2):
			t.Fatalf("at %d little is left of %+v", now, a)
		case a.from > x.first && now <= a.from.Add(-2*x.each+x.ours-min(leastRun, x.ours/2)):
			t.Fatalf("at %d the turn before %+v is not over", now, a)
		}
	})
}

// TestAShortTakeoverDelayIsKept: it is an operator's word that fencing takes no longer.
// An attempt has the time of its device all the same, since else none would ever succeed.
func TestAShortTakeoverDelayIsKept(t *testing.T) {
	x := newTurns(1, 3*time.Second, 2800*time.Millisecond, 20*time.Second)
	a := x.at(1)
	if x.each != 3*time.Second || a.last.Sub(a.from) != 1500*time.Millisecond || a.until.Sub(a.from) != 20*time.Second+takeoverSlack/2 {
		t.Errorf("%+v: %+v", x, a)
	}
	if b := x.at(a.last); b.from.Sub(a.from) != 6*time.Second {
		t.Errorf("after %+v: %+v", a, b)
	}
}
