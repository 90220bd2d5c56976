package chaos

import (
	"slices"
	"testing"
	"time"
)

// The plan of a round is the same for ever: a seed that failed replays.
func TestDrawIsAFunction(t *testing.T) {
	for _, c := range []struct {
		seed         uint64
		round, nodes int
		want         string
	}{
		{1, 1, 3, "round 1: +0s devices fail node1 for 6.56s; +12.19s all ends"},
		{1, 2, 3, "round 2: +0s kill leader; +1.42s all ends"},
		{7, 20, 5, "round 20: +0s kill leader; +2.31s all ends"},
	} {
		if got := Draw(c.seed, c.round, c.nodes).String(); got != c.want {
			t.Errorf("seed %d:\n got %s\nwant %s", c.seed, got, c.want)
		}
	}
}

// As many rounds as the deck has cards see every kind.
func TestDeckSeesEveryKind(t *testing.T) {
	all := []Kind{Kill, KillActor, LoseState, CutNode, Halves, OneWay, Bridge, Flap, Glitch, ClosePort, Freeze, DevicesBad, Leave, ClockStep}
	for seed := range uint64(20) {
		for hand := range 3 {
			seen := map[Kind]bool{}
			for k := range len(deck) {
				seen[Draw(seed, hand*len(deck)+k+1, 3).Faults[0].Kind] = true
			}
			for _, k := range all {
				if !seen[k] {
					t.Errorf("seed %d, hand %d: no %s", seed, hand, k)
				}
			}
		}
	}
}

func TestDrawIsSound(t *testing.T) {
	for _, nodes := range []int{3, 5} {
		most := 0
		for seed := range uint64(50) {
			for round := 1; round <= 40; round++ {
				r := Draw(seed, round, nodes)
				most = max(most, len(r.Faults))
				sound(t, r, nodes)
			}
		}
		if most != 3 {
			t.Errorf("%d faults at most in a round of %d nodes", most, nodes)
		}
	}
}

func sound(t *testing.T, r Round, nodes int) {
	t.Helper()
	var families []string
	for _, f := range r.Faults {
		if slices.Contains(families, family(f.Kind)) {
			t.Errorf("%v: two of one family", r)
		}
		families = append(families, family(f.Kind))
		if f.At+f.For+f.Gap >= r.End || r.End > 25*time.Second {
			t.Errorf("%v: ends too early or too late", r)
		}
		var seen []Pick
		for _, w := range f.Who {
			if slices.Contains(seen, w) || w.Node > nodes || w.Node == 0 && w.Role == "" {
				t.Errorf("%v: %v", r, w)
			}
			seen = append(seen, w)
		}
		if f.Kind == Halves && len(f.Who) >= nodes {
			t.Errorf("%v: one half is empty", r)
		}
	}
}

// A fault counts when it finds somebody alive to do something to.
func TestMeets(t *testing.T) {
	alive := func(i int) bool { return i != 3 }
	for _, c := range []struct {
		k     Kind
		nodes []int
		want  bool
	}{
		{Kill, []int{1}, true}, {Kill, []int{3}, false}, {Kill, []int{3, 1}, true},
		{Halves, []int{3}, false}, {Halves, []int{3, 2}, true},
		{OneWay, []int{1, 2}, true}, {OneWay, []int{1, 3}, false}, {Bridge, []int{3, 1}, false},
		{Freeze, []int{3}, false}, {LoseState, []int{3}, false}, {Glitch, nil, true},
	} {
		if got := meets(c.k, c.nodes, alive); got != c.want {
			t.Errorf("%s %v, node3 is dead: %v", c.k, c.nodes, got)
		}
	}
}
