package main

import (
	"sync"

	"github.com/quorate/quorate/membership"
)

// steps are what quorate's daemons say on the way from a death to the view, by their
// own stamps. It is safe for concurrent use.
type steps struct {
	mu  sync.Mutex
	all []step
}

type step struct {
	node, subject int
	kind          membership.Kind
	at            membership.Mono
}

// way is where the time of a death went, in ms since it began; 0 what nobody told.
type way struct {
	// FirstMS and LastMS are when the first and the last survivor suspected the dead node.
	FirstMS float64 `json:"first_suspects_ms,omitempty"`
	LastMS  float64 `json:"last_suspects_ms,omitempty"`
	// ConvictMS is when the first survivor had the verdict of all.
	ConvictMS float64 `json:"convicted_ms,omitempty"`
}

func (s *steps) add(node int, e membership.Event) {
	if e.Kind != membership.KindSuspect && e.Kind != membership.KindConvicted {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, step{node: node, subject: int(e.Subject), kind: e.Kind, at: e.Mono})
}

// of is the way of a death.
func (s *steps) of(victim int, at membership.Mono) (w way) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.all {
		if x.subject != victim || x.node == victim || x.at < at {
			continue
		}
		since := ms(x.at.Sub(at))
		switch {
		case x.kind == membership.KindSuspect && (w.FirstMS == 0 || since < w.FirstMS):
			w.FirstMS = since
		case x.kind == membership.KindConvicted && (w.ConvictMS == 0 || since < w.ConvictMS):
			w.ConvictMS = since
		}
		if x.kind == membership.KindSuspect {
			w.LastMS = max(w.LastMS, since)
		}
	}
	return w
}
