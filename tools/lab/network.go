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

// end is a node's end of one cluster link.
type end struct{ link, node int }

// port is a TCP port at a node's end of a link.
type port struct {
	end
	tcp uint16
}

// cuts is what does not pass.
type cuts struct {
	paths map[path]bool
	ports map[port]bool // closed to the node, its own and its peers'
	mtu   map[end]int   // longer packets are lost, in bytes of IP
}

func (c cuts) clone() cuts {
	n := cuts{maps.Clone(c.paths), maps.Clone(c.ports), maps.Clone(c.mtu)}
	if n.paths == nil {
		n = cuts{map[path]bool{}, map[port]bool{}, map[end]int{}}
	}
	return n
}

// ruleset is the nftables program that drops what is cut. It replaces the whole
// table in one transaction. A path cut in one direction alone lets ARP through, or
// it would turn into a cut of both when the neighbour entry ages.
func (c cuts) ruleset() string {
	var b strings.Builder
	b.WriteString("table bridge lab\ndelete table bridge lab\ntable bridge lab {\n")
	b.WriteString(" chain cut {\n  type filter hook forward priority 0; policy accept;\n")
	order := func(a, b path) int {
		return cmp.Or(a.link-b.link, a.from-b.from, a.to-b.to)
	}
	for _, p := range slices.SortedFunc(maps.Keys(c.paths), order) {
		but := ""
		if !c.paths[p.back()] {
			but = " ether type != arp"
		}
		fmt.Fprintf(&b, "  iifname %q oifname %q%s counter drop\n", linkTap(p.from, p.link), linkTap(p.to, p.link), but)
	}
	byEnd := func(a, b end) int { return cmp.Or(a.link-b.link, a.node-b.node) }
	for _, p := range slices.SortedFunc(maps.Keys(c.ports), func(a, b port) int { return cmp.Or(byEnd(a.end, b.end), int(a.tcp)-int(b.tcp)) }) {
		for _, side := range []string{"sport", "dport"} {
			p.drop(&b, fmt.Sprintf("tcp %s %d", side, p.tcp))
		}
	}
	for _, e := range slices.SortedFunc(maps.Keys(c.mtu), byEnd) {
		e.drop(&b, fmt.Sprintf("meta length > %d", c.mtu[e]))
	}
	b.WriteString(" }\n}\n")
	return b.String()
}

// drop writes the rules that drop something both ways.
func (e end) drop(b *strings.Builder, what string) {
	for _, way := range []string{"iifname", "oifname"} {
		fmt.Fprintf(b, "  %s %q %s counter drop\n", way, linkTap(e.node, e.link), what)
	}
}

// network is what of the lab's network can be changed.
type network struct {
	mu  sync.Mutex
	now cuts
}

// change edits the cuts with f and puts the result into force.
func (n *network) change(ns netns, f func(cuts)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := n.now.clone()
	f(next)
	if err := ns.run(next.ruleset(), "nft", "-f", "-"); err != nil {
		return err
	}
	n.now = next
	return nil
}

// cuts says what is cut, in words.
func (n *network) cuts() (out []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.now.paths {
		out = append(out, fmt.Sprintf("link %d: %d -> %d", p.link, p.from, p.to))
	}
	for p := range n.now.ports {
		out = append(out, fmt.Sprintf("link %d: port %d of %d", p.link, p.tcp, p.node))
	}
	for e, bytes := range n.now.mtu {
		out = append(out, fmt.Sprintf("link %d: more than %d bytes of %d", e.link, bytes, e.node))
	}
	slices.Sort(out)
	return out
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

// ClosePort drops what a node sends or gets over a TCP port, its own or a peer's,
// on every cluster link; everything else passes.
func (l *Lab) ClosePort(n int, tcp uint16) error {
	return l.atNode(n, func(c cuts, e end) { c.ports[port{e, tcp}] = true })
}

// LowerMTU loses every packet of more than so many bytes, with its IP header, that a
// node sends or gets on the cluster links, without a word to its sender: a black
// hole for long ones.
func (l *Lab) LowerMTU(n, bytes int) error {
	return l.atNode(n, func(c cuts, e end) { c.mtu[e] = bytes })
}

func (l *Lab) atNode(n int, f func(cuts, end)) error {
	if n < 1 || n > l.cfg.Nodes {
		return fmt.Errorf("node %d: nodes are 1 to %d", n, l.cfg.Nodes)
	}
	return l.net.change(l.ns, func(c cuts) {
		for link := range l.cfg.Links {
			f(c, end{link, n})
		}
	})
}

// Heal undoes every cut, opens every port and lets packets of every size pass.
func (l *Lab) Heal() error {
	return l.net.change(l.ns, func(c cuts) { clear(c.paths); clear(c.ports); clear(c.mtu) })
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
	return l.net.change(l.ns, func(c cuts) {
		for _, p := range all {
			c.paths[p] = true
		}
	})
}
