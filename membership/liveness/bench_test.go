package liveness

import (
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// BenchmarkLook is one look at 31 healthy peers.
func BenchmarkLook(b *testing.B) {
	c := newCluster(32, 1, profile("lan"), 1)
	c.run(time.Second)
	h := c.host(1)
	s := c.snapshot(h)
	b.ReportAllocs()
	for b.Loop() {
		for i := range s {
			s[i].Heard = c.now
		}
		h.m.Step(c.now, Observed{Samples: s})
		c.now += membership.Mono(time.Millisecond)
	}
}
