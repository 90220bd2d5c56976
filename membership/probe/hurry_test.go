package probe

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

func TestHurry(t *testing.T) {
	var h Hurry
	at := func(d time.Duration) membership.Mono { return membership.Mono(time.Hour).Add(d) }
	if h.Until() != 0 || h.Hint(at(0), 0) {
		t.Error("without a hint, or without a time")
	}
	for _, c := range []struct {
		at   time.Duration
		want bool
	}{{0, true}, {1, false}, {999, false}, {1000, false}, {1999, false}, {2000, true}, {2001, false}} {
		if got := h.Hint(at(c.at), 1000); got != c.want {
			t.Errorf("a hint at %d: %v", c.at, got)
		}
	}
	if h.Until() != at(3000) {
		t.Errorf("until %v", h.Until())
	}
}

// However many hints come, a peer is hurried for half of the time at most.
func TestHurryProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h Hurry
		now, hurried := membership.Mono(time.Hour), 0
		const long = 20
		n := rapid.IntRange(1, 500).Draw(t, "ticks")
		for range n {
			now++
			if rapid.Bool().Draw(t, "hint") {
				h.Hint(now, long)
			}
			if now < h.Until() {
				hurried++
			}
		}
		if hurried > n/2+long {
			t.Fatalf("%d of %d", hurried, n)
		}
	})
}

func TestHurriedInterval(t *testing.T) {
	for _, c := range []struct{ interval, want time.Duration }{
		{400 * time.Millisecond, 100 * time.Millisecond}, {40 * time.Millisecond, 10 * time.Millisecond},
		{2 * time.Millisecond, time.Millisecond}, {time.Millisecond, time.Millisecond},
	} {
		if got := HurriedInterval(c.interval, time.Millisecond); got != c.want {
			t.Errorf("%v: %v, want %v", c.interval, got, c.want)
		}
	}
}

// A hint makes no answer late that would have counted without it.
func TestHurryMakesNothingLate(t *testing.T) {
	var w Window
	at := func(seq uint64) membership.Mono { return membership.Mono(seq * 10) }
	next := func(between bool) uint64 {
		seq := w.last + 1
		return w.Next(at(seq), between)
	}
	first := next(false)
	for range Outstanding - 1 {
		for range HurryBy - 1 {
			next(true)
		}
		next(false)
	}
	for range HurryBy - 1 {
		next(true)
	}
	v := w
	if got := v.Accept(first, at(first)); got != Fresh {
		t.Errorf("within %d intervals, %d probes later: %v", Outstanding, w.last-first, got)
	}
	next(false)
	if got := w.Accept(first, at(first)); got != Late {
		t.Errorf("after %d intervals: %v", Outstanding, got)
	}
	if got := w.Accept(first+1, at(first+1)); got != Late {
		t.Errorf("of one between, after as many: %v", got)
	}
	if got := w.Accept(first+HurryBy, at(first+HurryBy)); got != Fresh {
		t.Errorf("of the next interval: %v", got)
	}
}
