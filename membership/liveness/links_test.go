package liveness

import (
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

// Of two links to each peer one goes silent. The second never convicts. The first is a
// cut where the DLM's address is on it, and where that is reached over any link it never
// convicts either. Both are silence.
func TestOneOfTwoLinks(t *testing.T) {
	for _, c := range []struct {
		name    string
		anyLink bool
		dead    []int
		path    bool // it is a cut
		silent  bool
	}{
		{"the second", false, []int{1}, false, false},
		{"the first", false, []int{0}, true, false},
		{"the second of a stable address", true, []int{1}, false, false},
		{"the first of a stable address", true, []int{0}, false, false},
		{"both", false, []int{0, 1}, false, true},
		{"both of a stable address", true, []int{0, 1}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids := []membership.NodeID{1, 2, 3}
			now := membership.Mono(time.Hour)
			m := New(Config{Self: 1, Nodes: ids, Timing: profile("round"), Policy: quorum.Majority(ids...), AnyLink: c.anyLink}, now)
			m.Step(now, ViewIn{View: membership.View{Number: 1, Quorate: true, Members: []membership.Incarnation{{Node: 1}, {Node: 2}, {Node: 3}}}})
			m.Step(now, Leader{Node: 1})
			var out []Effect
			cut := now.Add(500 * ms)
			for ; now < cut.Add(3*time.Second); now = now.Add(10 * ms) {
				var s []membership.Sample
				row := Row{From: 3, Ages: []Age{{Peer: 1}, {Peer: 2}}} // node 3 hears everybody well
				for _, id := range ids[1:] {
					for l := range 2 {
						heard := now
						for _, dead := range c.dead {
							if id == 2 && l == dead {
								heard = min(now, cut)
							}
						}
						s = append(s, membership.Sample{Peer: id, Link: l, Heard: heard})
					}
				}
				if c.silent && now > cut {
					row.Ages[1].Age, row.Ages[1].Path = now.Sub(cut), now.Sub(cut)
				}
				out = append(out, m.Step(now, Observed{Samples: s})...)
				out = append(out, m.Step(now, RowIn{Row: row})...)
			}
			suspects, convicted := []Suspected{}, m.verdict
			for _, e := range out {
				if s, ok := e.(Suspected); ok {
					suspects = append(suspects, s)
				}
			}
			switch {
			case !c.path && !c.silent:
				if len(suspects) > 0 || len(convicted) > 0 {
					t.Errorf("suspected %+v, convicted %+v", suspects, convicted)
				}
			case len(suspects) != 1 || suspects[0].Node != 2 || suspects[0].Path != c.path:
				t.Errorf("suspected %+v", suspects)
			case len(convicted) != 1 || convicted[0].Reason != map[bool]membership.Reason{true: membership.ReasonUnlinked, false: membership.ReasonSilent}[c.path]:
				t.Errorf("convicted %+v", convicted)
			}
		})
	}
}
