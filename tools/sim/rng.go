package sim

import "time"

// rng is splitmix64: small, fast, and the same everywhere for ever.
type rng struct{ s uint64 }

// stream returns the source of one concern of a run.
func stream(seed uint64, concern string, n uint64) *rng {
	r := &rng{s: seed ^ 0x6a09e667f3bcc909}
	for i := range len(concern) {
		r.s = r.s*0x100000001b3 + uint64(concern[i])
		r.Uint64()
	}
	r.s += n * 0xd1342543de82ef95
	r.Uint64()
	return r
}

func (r *rng) Uint64() uint64 {
	r.s += 0x9e3779b97f4a7c15
	return mix(r.s)
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Intn returns 0 to n-1; n is at least 1.
func (r *rng) Intn(n int) int { return int(r.Uint64() % uint64(n)) }

// Float returns 0 to 1.
func (r *rng) Float() float64 { return float64(r.Uint64()>>11) / (1 << 53) }

// Chance is true with the probability p.
func (r *rng) Chance(p float64) bool { return p > 0 && r.Float() < p }

// Between returns a duration of at least lo and below hi.
func (r *rng) Between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(r.Uint64()%uint64(hi-lo))
}
