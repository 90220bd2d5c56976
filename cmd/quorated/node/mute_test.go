package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// A prober that stands still is told, and a warning for as long as it does; it is nobody's silence.
func TestAProberThatStandsStill(t *testing.T) {
	h := newHolder(t)
	asked := membership.Mono(time.Second)
	look := func(at, asked membership.Mono) (texts []string) {
		var samples []membership.Sample
		for _, id := range []membership.NodeID{2, 3} {
			samples = append(samples, membership.Sample{Peer: id, Heard: asked, Asked: asked})
		}
		for _, e := range h.n.Step(at, Timer{Samples: samples}) {
			if e, ok := e.(Emit); ok {
				texts = append(texts, string(e.Event.Kind)+" "+e.Event.Text)
			}
		}
		return texts
	}
	warned := func() bool {
		return slices.ContainsFunc(h.n.warnings(), func(w string) bool { return strings.Contains(w, "do not kill quorated") })
	}
	look(asked, asked)
	var said []string
	for at := asked; at < membership.Mono(3*time.Second); at = at.Add(20 * time.Millisecond) {
		said = append(said, look(at, asked)...)
	}
	if !h.n.Mute() || !warned() {
		t.Errorf("mute %v, warned %v", h.n.Mute(), warned())
	}
	want := func(s string) bool {
		return strings.HasPrefix(s, "degraded this node's prober stands still: it sent no probes for ")
	}
	if !slices.ContainsFunc(said, want) || slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, "suspect") || strings.HasPrefix(s, "quorum") }) {
		t.Errorf("%q", said)
	}
	at := membership.Mono(3 * time.Second)
	look(at, at)
	if h.n.Mute() || warned() {
		t.Errorf("it sends again: mute %v, warned %v", h.n.Mute(), warned())
	}
}
