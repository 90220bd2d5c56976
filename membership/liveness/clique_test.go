package liveness

import (
	"fmt"
	"math/bits"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

func genGraph(t *rapid.T, n int) graph {
	g := graph{adj: make([]uint32, n), weight: make([]int, n)}
	for i := range n {
		g.weight[i] = rapid.IntRange(0, 2).Draw(t, "weight")
		for j := range i {
			if rapid.IntRange(0, 3).Draw(t, "edge") > 0 {
				g.adj[i] |= 1 << j
				g.adj[j] |= 1 << i
			}
		}
	}
	return g
}

func (g graph) connected(s uint32) bool {
	for i := range g.adj {
		if s&(1<<i) != 0 && s&^(1<<i)&^g.adj[i] != 0 {
			return false
		}
	}
	return true
}

// brute looks at every set, as the rule is written.
func brute(g graph, quorate func(uint32) bool) (best uint32) {
	weigh := func(s uint32) (sum int) {
		for i, w := range g.weight {
			if s&(1<<i) != 0 {
				sum += w
			}
		}
		return sum
	}
	lower := func(a, b uint32) bool { // a contains the lowest id that is in one of them only
		for i := range g.adj {
			if (a^b)&(1<<i) != 0 {
				return a&(1<<i) != 0
			}
		}
		return false
	}
	for s := uint32(1); s < 1<<len(g.adj); s++ {
		if !g.connected(s) || !quorate(s) {
			continue
		}
		a, b := bits.OnesCount32(s), bits.OnesCount32(best)
		if a > b || a == b && (weigh(s) > weigh(best) || weigh(s) == weigh(best) && lower(s, best)) {
			best = s
		}
	}
	return best
}

func genVotes(t *rapid.T, n int) func(uint32) bool {
	p := quorum.Policy{Votes: map[membership.NodeID]int{}}
	var ids []membership.NodeID
	for i := range n {
		id := membership.NodeID(i + 1)
		ids = append(ids, id)
		p.Votes[id] = rapid.IntRange(0, 3).Draw(t, "votes")
	}
	return func(s uint32) bool { return p.Quorate(members(ids, s)).Quorate }
}

func TestCliqueAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "n")
		g, votes := genGraph(t, n), genVotes(t, n)
		if got, want := g.clique(votes), brute(g, votes); got != want {
			t.Fatalf("%b: chose %b, want %b", g.adj, got, want)
		}
	})
}

func TestCliqueIsConnectedAndQuorate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(7, maxClique).Draw(t, "n")
		g, votes := genGraph(t, n), genVotes(t, n)
		if s := g.clique(votes); s != 0 && (!g.connected(s) || !votes(s)) {
			t.Fatalf("%b: chose %b", g.adj, s)
		}
	})
}

// The worst graph for the search: 32 nodes in groups of three that do not hear
// each other, 3^10 maximal cliques.
func TestCliqueWorstCase(t *testing.T) {
	g := graph{adj: make([]uint32, 32), weight: make([]int, 32)}
	for i := range 32 {
		for j := range 32 {
			if i/3 != j/3 {
				g.adj[i] |= 1 << j
			}
		}
	}
	start := time.Now()
	s := g.clique(func(uint32) bool { return true })
	t.Logf("%d nodes chosen in %v", bits.OnesCount32(s), time.Since(start))
	if want := uint32(0b01001001001001001001001001001001); s != want {
		t.Errorf("chose %032b, want %032b", s, want)
	}
}

// Everybody who convicts at all convicts the same nodes, those that the brute
// force on the true links leaves out, as long as no three nodes have lost each
// other (then none of them knows of the edge between the two others).
func TestMembersChooseTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(3, 6).Draw(t, "n")
		c := newCluster(n, 1, profile("fast"), rapid.Uint64().Draw(t, "seed"))
		c.run(500 * time.Millisecond)
		g := graph{adj: make([]uint32, n), weight: make([]int, n)}
		var w = map[membership.NodeID]int{}
		for i := range n {
			g.adj[i] = uint32(1)<<n - 1 - 1<<i
			g.weight[i] = rapid.IntRange(0, 2).Draw(t, "weight")
			w[membership.NodeID(i+1)] = g.weight[i]
		}
		for range rapid.IntRange(1, n).Draw(t, "cuts") {
			i, j := rapid.IntRange(0, n-1).Draw(t, "i"), rapid.IntRange(0, n-1).Draw(t, "j")
			if i == j || g.strangers(i, j) {
				continue
			}
			c.both(membership.NodeID(i+1), membership.NodeID(j+1), true)
			g.adj[i] &^= 1 << j
			g.adj[j] &^= 1 << i
		}
		for _, h := range c.nodes {
			c.step(h, ViewIn{View: c.view, Weight: w})
		}
		c.run(time.Second)
		best := brute(g, func(s uint32) bool { return bits.OnesCount32(s) > n/2 })
		want := ""
		for i := range n {
			if best != 0 && best&(1<<i) == 0 {
				want += fmt.Sprint(i+1, " ")
			}
		}
		heard := 0
		for i, h := range c.nodes {
			got := ""
			for _, d := range h.verdict {
				got += fmt.Sprint(d.Incarnation.Node, " ")
			}
			if got != "" {
				heard++
			}
			if got != "" && got != want || got == "" && want != "" && bits.OnesCount32(g.adj[i])+1 == n {
				t.Fatalf("node %d of %d, links %b: convicts %q, want %q\n%s", h.id, n, g.adj, got, want, c.status(h))
			}
		}
		if want != "" && heard == 0 {
			t.Fatalf("links %b: nobody convicts %q", g.adj, want)
		}
	})
}

// strangers: cutting i from j would make three nodes that have lost each other.
func (g graph) strangers(i, j int) bool {
	for k := range g.adj {
		if k != i && k != j && g.adj[k]&(1<<i) == 0 && g.adj[k]&(1<<j) == 0 {
			return true
		}
	}
	return false
}
