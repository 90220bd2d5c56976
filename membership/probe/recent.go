package probe

import (
	"math"
	"slices"
	"time"
)

// RecentSize is how many probes of one peer and link Recent remembers.
const RecentSize = 1024

// lostAfter is how many newer probes have to be sent before one without an answer is
// counted as lost: liveness needs as many to call a peer silent.
const lostAfter = 3

// Recent remembers what became of the newest probes of one peer and link. It takes
// 4 KiB and no other memory; noting a probe costs one store. The zero value has none.
type Recent struct {
	took [RecentSize]uint32 // round trip in µs, by sequence; 0: there is no answer
}

// untimed is for an answer of which nobody knows when it came.
const untimed = math.MaxUint32

// Sent notes a probe. Sequences grow by one.
func (r *Recent) Sent(seq uint64) { r.took[seq%RecentSize] = 0 }

// Answered notes the answer to a probe that Window has called Fresh, or Taken.
func (r *Recent) Answered(seq uint64, rtt time.Duration) {
	r.took[seq%RecentSize] = uint32(min(max(rtt.Microseconds(), 1), untimed-1))
}

// AnsweredSometime notes one of which nobody knows when it came, since a newer one came before
// anybody looked: it counts, and has no round trip.
func (r *Recent) AnsweredSometime(seq uint64) { r.took[seq%RecentSize] = untimed }

// Tally is what Recent says of a number of probes. Round trips are exact to 1 µs, and
// 0 where none is known.
type Tally struct {
	Probes, Lost int // those of which it is not known yet are in neither
	P50, P99     time.Duration
}

// Tally counts the last n probes, of which sent is the newest. One without an answer is
// lost when a newer one is answered (its own would not count any more) or lostAfter
// newer ones have been sent. It sorts a copy: not for the path of a packet.
func (r *Recent) Tally(sent uint64, n int) (t Tally) {
	n = int(min(uint64(min(max(n, 0), RecentSize)), sent))
	took := make([]uint32, 0, n)
	overtaken := false // by one that was answered
	for back := range uint64(n) {
		switch us := r.took[(sent-back)%RecentSize]; {
		case us != 0:
			overtaken = true
			t.Probes++
			if us != untimed {
				took = append(took, us)
			}
		case overtaken || back >= lostAfter:
			t.Lost++
		}
	}
	t.Probes += t.Lost
	if len(took) == 0 {
		return t
	}
	slices.Sort(took)
	t.P50, t.P99 = quantile(took, 50), quantile(took, 99)
	return t
}

// quantile is the nearest rank of a sorted, nonempty list.
func quantile(sorted []uint32, percent int) time.Duration {
	rank := (len(sorted)*percent + 99) / 100
	return time.Duration(sorted[rank-1]) * time.Microsecond
}
