package lab

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Names inside the lab's own network namespace, so that they need not be unique
// on the host. Bridge and taps of cluster link l carry an l, management an m.

func linkBridge(l int) string { return fmt.Sprintf("cluster%d", l) }
func linkTap(n, l int) string { return fmt.Sprintf("n%dl%d", n, l) }
func mgmtTap(n int) string    { return fmt.Sprintf("n%dm", n) }

const mgmtBridge = "mgmt"

// mac of the d-th interface of a node: the same at every boot.
func mac(n, d int) string { return fmt.Sprintf("52:54:00:71:%02x:%02x", d, n) }

// layout is the ip(8) batch that makes the bridges and one tap per interface.
func layout(nodes, links int) string {
	var b strings.Builder
	b.WriteString("link set lo up\n")
	bridge := func(name, addr string) {
		fmt.Fprintf(&b, "link add %s type bridge stp_state 0 mcast_snooping 0\n", name)
		fmt.Fprintf(&b, "addr add %s/24 dev %s\nlink set %s up\n", addr, name, name)
	}
	tap := func(name, bridge string) {
		fmt.Fprintf(&b, "tuntap add dev %s mode tap\nlink set %s master %s up\n", name, name, bridge)
	}
	bridge(mgmtBridge, "10.78.0.1")
	for l := range links {
		bridge(linkBridge(l), fmt.Sprintf("10.77.%d.1", l))
	}
	for n := 1; n <= nodes; n++ {
		tap(mgmtTap(n), mgmtBridge)
		for l := range links {
			tap(linkTap(n, l), linkBridge(l))
		}
	}
	return b.String()
}

// path is one direction between two nodes on one cluster link.
type path struct{ link, from, to int }

func (p path) back() path { return path{p.link, p.to, p.from} }

// ruleset is the nftables program that drops the cut paths. It replaces the
// whole table in one transaction. A path cut in one direction alone lets ARP
// through, or it would turn into a cut of both when the neighbour entry ages.
func ruleset(cut map[path]bool) string {
	var b strings.Builder
	b.WriteString("table bridge lab\ndelete table bridge lab\ntable bridge lab {\n")
	b.WriteString(" chain cut {\n  type filter hook forward priority 0; policy accept;\n")
	order := func(a, b path) int {
		return cmp.Or(a.link-b.link, a.from-b.from, a.to-b.to)
	}
	for _, p := range slices.SortedFunc(maps.Keys(cut), order) {
		but := ""
		if !cut[p.back()] {
			but = " ether type != arp"
		}
		fmt.Fprintf(&b, "  iifname %q oifname %q%s counter drop\n", linkTap(p.from, p.link), linkTap(p.to, p.link), but)
	}
	b.WriteString(" }\n}\n")
	return b.String()
}

// cuts is what the lab has cut now.
type cuts struct {
	mu  sync.Mutex
	cut map[path]bool
}

// change edits the set with f and puts the result into force.
func (c *cuts) change(ns netns, f func(map[path]bool)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := maps.Clone(c.cut)
	if next == nil {
		next = map[path]bool{}
	}
	f(next)
	if err := ns.run(ruleset(next), "nft", "-f", "-"); err != nil {
		return err
	}
	c.cut = next
	return nil
}

// Cut drops everything between two nodes, both ways, on every cluster link. The
// host still hears both, and the management network is never cut.
func (l *Lab) Cut(a, b int) error {
	return l.cutPaths(func(link int) []path { return []path{{link, a, b}, {link, b, a}} })
}

// CutOneWay drops what from sends to to, on every cluster link. ARP passes, so
// the other direction goes on working.
func (l *Lab) CutOneWay(from, to int) error {
	return l.cutPaths(func(link int) []path { return []path{{link, from, to}} })
}

// CutLink drops everything between two nodes on one cluster link, from 0.
func (l *Lab) CutLink(link, a, b int) error {
	if link < 0 || link >= l.cfg.Links {
		return fmt.Errorf("link %d: the lab has links 0 to %d", link, l.cfg.Links-1)
	}
	return l.cutPaths(func(k int) []path {
		if k != link {
			return nil
		}
		return []path{{k, a, b}, {k, b, a}}
	})
}

// CutNode drops everything between a node and all other nodes.
func (l *Lab) CutNode(n int) error {
	return l.cutPaths(func(link int) (ps []path) {
		for o := 1; o <= l.cfg.Nodes; o++ {
			if o != n {
				ps = append(ps, path{link, n, o}, path{link, o, n})
			}
		}
		return ps
	})
}

// CutApart drops everything between the nodes of two sets, all at once.
func (l *Lab) CutApart(a, b []int) error {
	return l.cutPaths(func(link int) (ps []path) {
		for _, n := range a {
			for _, o := range b {
				ps = append(ps, path{link, n, o}, path{link, o, n})
			}
		}
		return ps
	})
}

// Heal undoes every cut.
func (l *Lab) Heal() error {
	return l.cuts.change(l.ns, func(m map[path]bool) { clear(m) })
}

func (l *Lab) cutPaths(of func(link int) []path) error {
	var all []path
	for link := range l.cfg.Links {
		all = append(all, of(link)...)
	}
	for _, p := range all {
		if p.from == p.to || min(p.from, p.to) < 1 || max(p.from, p.to) > l.cfg.Nodes {
			return fmt.Errorf("cut %d-%d: nodes are 1 to %d and differ", p.from, p.to, l.cfg.Nodes)
		}
	}
	return l.cuts.change(l.ns, func(m map[path]bool) {
		for _, p := range all {
			m[p] = true
		}
	})
}
