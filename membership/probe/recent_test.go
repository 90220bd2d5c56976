package probe

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTally(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name   string
		answer string // one letter a probe, oldest first: a digit is its round trip in ms, ? not known, x none
		n      int
		want   Tally
	}{
		{"nothing was sent", "", 10, Tally{}},
		{"the newest wait for their answers", "xxx", 10, Tally{}},
		{"three newer ones make it lost", "xxxx", 10, Tally{Probes: 1, Lost: 1}},
		{"a newer answer makes it lost", "x2", 10, Tally{Probes: 2, Lost: 1, P50: 2 * ms, P99: 2 * ms}},
		{"all answered", "3142", 10, Tally{Probes: 4, P50: 2 * ms, P99: 4 * ms}},
		{"a link that fell silent", "11xxxxx", 10, Tally{Probes: 4, Lost: 2, P50: ms, P99: ms}},
		{"nobody knows when", "x??", 10, Tally{Probes: 3, Lost: 1}},
		{"some are known", "?3?x1", 10, Tally{Probes: 5, Lost: 1, P50: ms, P99: 3 * ms}},
		{"the last ones alone", "9x11", 2, Tally{Probes: 2, P50: ms, P99: ms}},
		{"none asked for", "11", 0, Tally{}},
		{"fewer than none", "11", -1, Tally{}},
	}
	for _, tt := range tests {
		var r Recent
		for i, c := range tt.answer {
			r.Sent(uint64(i + 1))
			switch c {
			case 'x':
			case '?':
				r.AnsweredSometime(uint64(i + 1))
			default:
				r.Answered(uint64(i+1), time.Duration(c-'0')*ms)
			}
		}
		if got := r.Tally(uint64(len(tt.answer)), tt.n); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestRecentBounds(t *testing.T) {
	var r Recent
	r.Sent(1)
	r.Answered(1, 0)
	if got := r.Tally(1, 1); got.P50 != time.Microsecond || got.Lost != 0 {
		t.Errorf("an answer within a microsecond: %+v", got)
	}
	r.Answered(1, math.MaxInt64)
	if got := r.Tally(1, 1); got.P50 != (math.MaxUint32-1)*time.Microsecond {
		t.Errorf("an endless round trip: %+v", got)
	}
}

// sometime is a round trip that is not known, where they are drawn.
const sometime = 50

// The ring says what a list of everything would say of its end.
func TestRecentIsAWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Recent
		all := rapid.SliceOfN(rapid.Uint32Range(0, 50), 0, 3*RecentSize).Draw(t, "round trips")
		n := rapid.IntRange(0, 2*RecentSize).Draw(t, "n")
		for i, us := range all {
			r.Sent(uint64(i + 1))
			switch us {
			case 0:
			case sometime:
				r.AnsweredSometime(uint64(i + 1))
			default:
				r.Answered(uint64(i+1), time.Duration(us)*time.Microsecond)
			}
		}
		last := all[len(all)-min(n, RecentSize, len(all)):]
		var took []uint32
		answered, lost, newest := 0, 0, -1
		for i, us := range last {
			if us > 0 {
				answered, newest = answered+1, i
			}
			if us > 0 && us != sometime {
				took = append(took, us)
			}
		}
		for i, us := range last {
			if us == 0 && (i < newest || len(last)-1-i >= lostAfter) {
				lost++
			}
		}
		got := r.Tally(uint64(len(all)), n)
		if got.Lost != lost || got.Probes != lost+answered {
			t.Fatalf("%+v, want %d lost and %d answered", got, lost, answered)
		}
		if len(took) == 0 {
			if got.P50 != 0 || got.P99 != 0 {
				t.Fatalf("%+v, and no round trip is known", got)
			}
			return
		}
		slices.Sort(took)
		for _, q := range []struct {
			got     time.Duration
			percent float64
		}{{got.P50, 50}, {got.P99, 99}} {
			at := slices.Index(took, uint32(q.got.Microseconds()))
			if at < 0 {
				t.Fatalf("%v was never measured", q.got)
			}
			below, _ := slices.BinarySearch(took, took[at])
			upTo, _ := slices.BinarySearch(took, took[at]+1)
			if rank := q.percent / 100 * float64(len(took)); float64(below) >= rank || float64(upTo) < rank {
				t.Fatalf("p%v of %v is %v", q.percent, took, q.got)
			}
		}
	})
}

func TestRecentDoesNotAllocate(t *testing.T) {
	var r Recent
	seq := uint64(0)
	if n := testing.AllocsPerRun(1000, func() { seq++; r.Sent(seq); r.Answered(seq, time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations a probe", n)
	}
}
