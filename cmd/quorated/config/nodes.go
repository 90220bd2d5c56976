package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

// nodes reads the [[node]] sections and returns them by id.
func (p *parser) nodes(tables []*table, given bool) []membership.Node {
	if len(tables) == 0 && !given {
		p.fault("node", `no [[node]] section: write one for each node, with name = "…", id = 1 and addr = ["10.0.0.1"]`)
		return nil
	}
	if len(tables) > MaxNodes {
		p.fault(tables[MaxNodes].path, "%d nodes: at most %d are supported: remove the others", len(tables), MaxNodes)
	}
	seen := map[string]string{}
	nodes := make([]membership.Node, 0, len(tables))
	p.nodeAt = map[membership.NodeID]int{}
	p.freeID = highestID(tables) + 1
	for i, t := range tables {
		n := p.node(t)
		t.done()
		p.nodeAt[n.ID] = i
		p.unique(t, n, seen)
		p.likeFirst(t, n, nodes)
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b membership.Node) int { return cmp.Compare(a.ID, b.ID) })
	return nodes
}

func (p *parser) node(t *table) membership.Node {
	var n membership.Node
	n.Name = t.str("name", "")
	switch {
	case n.Name == "":
		t.fault("name", `node without a name: write name = "…", the short host name`)
	case !nodeName.MatchString(n.Name):
		t.fault("name", "name = %q cannot be used: write 1 to 63 characters of A-Z a-z 0-9 . _ -, a letter or digit first", n.Name)
	case strings.Trim(n.Name, "0123456789") == "":
		t.fault("name", "name = %q is all digits and would be taken for an id: write a name with a letter", n.Name)
	}
	id, ok := t.number("id", 0, 1, int64(membership.FirstWitness)-1) // what is above is kept for witnesses
	if _, given := t.m["id"]; !ok && !given {
		t.fault("id", "node %q without an id: write id = %d (or another number that no other node has; never change it later)", n.Name, p.freeID)
		p.freeID++
	}
	n.ID = membership.NodeID(id)
	votes, _ := t.number("votes", 1, 0, quorum.MaxVotes)
	n.Votes = int(votes)
	n.Addrs = p.addrs(t, n.Name)
	return n
}

// highestID is the highest id that is written, of those that can be one.
func highestID(tables []*table) (out int64) {
	for _, t := range tables {
		if id, ok := t.m["id"].(int64); ok && id < int64(membership.FirstWitness)-MaxNodes {
			out = max(out, id)
		}
	}
	return out
}

func (p *parser) addrs(t *table, name string) []netip.Addr {
	words := t.words("addr", false)
	if _, given := t.m["addr"]; !given || words != nil && len(words) == 0 {
		t.fault("addr", `node %q without an address: write addr = ["10.0.0.1"], one address for each link, the DLM's first`, name)
	}
	if len(words) > MaxLinks {
		t.fault("addr", "node %q has %d addresses: at most %d are supported", name, len(words), MaxLinks)
	}
	var out []netip.Addr
	faults := len(p.faults)
	for _, w := range words {
		a, err := netip.ParseAddr(w)
		if err != nil {
			t.fault("addr", "addr %q is not an IPv4 or IPv6 address: write numbers, not a host name, without port or mask", w)
			continue
		}
		a = a.Unmap()
		switch {
		case a.IsUnspecified(), a.IsMulticast():
			t.fault("addr", "addr %q is not the address of one node: write the node's own address on that link", w)
		case a.Zone() != "", a.IsLinkLocalUnicast() && a.Is6():
			t.fault("addr", "addr %q holds on one link only, and the file is the same on every node: write a global or unique local address", w)
		default:
			out = append(out, a)
		}
	}
	if len(p.faults) > faults {
		return nil // how many there would be is not known
	}
	return out
}

// unique refuses an id, name or address that another node has.
func (p *parser) unique(t *table, n membership.Node, seen map[string]string) {
	check := func(key, what, value string) {
		if value == "" {
			return
		}
		if other, ok := seen[what+value]; ok {
			t.fault(key, "%s %s is also that of node %q: every node needs its own", what, value, other)
			return
		}
		seen[what+value] = n.Name
	}
	check("name", "name", n.Name)
	if n.ID != 0 {
		check("id", "id", idString(n.ID))
	}
	for _, a := range n.Addrs {
		check("addr", "address", a.String())
	}
}

// likeFirst refuses another number of links, or another family on link 0, than
// the first node's.
func (p *parser) likeFirst(t *table, n membership.Node, before []membership.Node) {
	if len(before) == 0 || len(n.Addrs) == 0 || len(before[0].Addrs) == 0 {
		return
	}
	first := before[0]
	if len(n.Addrs) != len(first.Addrs) {
		t.fault("addr", "node %q has %d addresses and node %q has %d: give every node one address for each link, in the same order",
			n.Name, len(n.Addrs), first.Name, len(first.Addrs))
	}
	if n.Addrs[0].Is4() != first.Addrs[0].Is4() {
		t.fault("addr", "the first address of node %q is %s and that of node %q is %s: the DLM needs the same family everywhere: write both as IPv4 or both as IPv6",
			n.Name, family(n.Addrs[0]), first.Name, family(first.Addrs[0]))
	}
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
