package rotation

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever operators ask for without force, wherever and however often, and whatever
// dies, is cut off, or is slow: nobody ever sends with a key that a configured node
// has not loaded, and nobody drops one that somebody sends with. When all are there
// again and nobody asks for anything, all send with the same key, and no plan is left.
func TestWhateverHappensEverybodyUnderstandsEverybody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "nodes")
		w := newWorld(n, t.Fatalf)
		w.connectAll()
		any := func() int { return rapid.IntRange(0, n-1).Draw(t, "node") }
		for range rapid.IntRange(0, 150).Draw(t, "steps") {
			i := any()
			switch rapid.IntRange(0, 11).Draw(t, "what") {
			case 0:
				_ = w.nodes[i].rotate()
			case 1:
				w.kill(i)
			case 2:
				w.boot(i)
			case 3:
				w.cut(i, any())
			case 4:
				w.connect(i, any())
			case 5, 6:
				w.deliver(i, any())
			case 7:
				w.nodes[i].work()
			case 8:
				w.now = w.now.Add(time.Duration(rapid.IntRange(0, 7000).Draw(t, "ms")) * time.Millisecond)
				w.nodes[i].step(Tick{})
			case 9:
				w.nodes[i].discard(uint32(rapid.IntRange(1, 4).Draw(t, "epoch")))
			case 10:
				w.pass(time.Duration(rapid.IntRange(0, 3).Draw(t, "s")) * time.Second)
			case 11:
				w.connectAll()
			}
			w.check()
		}
		for i := range n {
			w.boot(i)
		}
		w.connectAll()
		w.pass(2 * time.Minute)
		for _, x := range w.nodes {
			if x.file[0] != w.nodes[0].file[0] {
				t.Fatalf("node %d sends with %v and node 1 with %v", x.id, x.file[0], w.nodes[0].file[0])
			}
			if p, stage, of := x.m.Progress(); stage != Idle && x.m.err == "" && !slices.ContainsFunc(w.nodes, func(o *node) bool { return o.m.err != "" }) {
				t.Fatalf("node %d: %v is %v, waiting for %v", x.id, p, stage, of)
			}
		}
	})
}
