package config

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/quorate/quorate/membership"
)

// The values of dlm_address.
const (
	dlmFirst  = "first"  // the node's first address
	dlmStable = "stable" // one of its own in dlm_network, reached over every link
)

// dlmAddress reads where the DLM's addresses are from. Who gives a network wants it used.
func (p *parser) dlmAddress(t *table, c *Config) {
	text := t.str("dlm_network", "")
	def := dlmFirst
	if text != "" {
		def = dlmStable
	}
	how := t.oneOf("dlm_address", def, dlmFirst, dlmStable)
	_, written := t.m["dlm_address"]
	c.DLMFirst = written && how == dlmFirst
	switch {
	case how != dlmStable && text != "":
		t.fault("dlm_network", `dlm_network has a meaning with dlm_address = "stable" alone: write that, or remove one of both`)
		return
	case how != dlmStable:
		return
	case text == "":
		t.fault("dlm_address", `dlm_address = "stable" needs a network that nothing else uses, the node's id being its place there: write dlm_network = "10.99.0.0/24" or another`)
		return
	}
	n, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		t.fault("dlm_network", `dlm_network = %q is not a network: write an address, a slash and the length of its prefix, as "10.99.0.0/24"`, text)
	case n.Addr().Is4In6():
		t.fault("dlm_network", `dlm_network = %q is an IPv4 network written as IPv6: write it as "10.99.0.0/24"`, text)
	case n != n.Masked():
		t.fault("dlm_network", `dlm_network = %q names an address within a network: write "%s"`, text, n.Masked())
	case n.Addr().IsLoopback() || n.Addr().IsMulticast() || n.Addr().IsLinkLocalUnicast() && n.Addr().Is6():
		t.fault("dlm_network", "dlm_network = %q cannot be routed between nodes: write one of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or fd00::/8 that nothing else uses", text)
	default:
		c.DLMNetwork, c.AnyLink = n, true
	}
}

// stable checks the network against the nodes.
func (p *parser) stable(t *table, c Config) {
	if !c.DLMNetwork.IsValid() {
		return
	}
	for i, n := range c.Nodes {
		at := fmt.Sprintf("node[%d]", p.nodeAt[n.ID])
		if i == 0 && len(n.Addrs) == 1 {
			t.fault("dlm_network", `the address in dlm_network outlives the loss of a link, and the nodes have one: write a second address of each node, or remove dlm_network and dlm_address`)
		}
		if a, ok := inNetwork(c.DLMNetwork, n.ID); !ok {
			p.fault(at+".id", "the address of id %d is not within dlm_network %s: write a larger network", n.ID, c.DLMNetwork)
		} else if c.DLMNetwork.Addr().Is4() && c.DLMNetwork.Bits() < 31 && a == last(c.DLMNetwork) {
			p.fault(at+".id", "the address of id %d is the broadcast address of dlm_network %s: write a larger network", n.ID, c.DLMNetwork)
		}
		for _, a := range n.Addrs {
			switch {
			case c.DLMNetwork.Contains(a):
				p.fault(at+".addr", "the address %s is within dlm_network %s, which must be a network that nothing else uses", a, c.DLMNetwork)
			case a.Is4() != c.DLMNetwork.Addr().Is4():
				p.fault(at+".addr", "the address %s is of another family than dlm_network %s, which is to be routed over it: write both as IPv4 or both as IPv6", a, c.DLMNetwork)
			}
		}
	}
}

// proposals are networks that a stable address may be in, where nothing else uses them.
var proposals = []string{"10.99.0.0/24", "172.30.99.0/24", "192.168.199.0/24", "10.99.0.0/16", "10.0.0.0/8", "fd99::/64"}

// propose is the first of these that fits the nodes' addresses and ids; invalid: none does.
func propose(c Config) netip.Prefix {
	for _, text := range proposals {
		n := netip.MustParsePrefix(text)
		p := &parser{nodeAt: map[membership.NodeID]int{}}
		c.DLMNetwork = n
		p.stable(&table{p: p}, c)
		if len(p.faults) == 0 {
			return n
		}
	}
	return netip.Prefix{}
}

// stableWarning: the loss of the first of several links has the DLM cut off, where nothing says
// that this is wanted.
func stableWarning(c Config) string {
	if c.DLMFirst || c.DLMNetwork.IsValid() || c.NoKernel || len(c.Nodes) < 2 || slices.ContainsFunc(c.Nodes, func(n membership.Node) bool { return len(n.Addrs) < 2 }) {
		return ""
	}
	write := "dlm_network with a network that nothing else uses"
	if n := propose(c); n.IsValid() {
		write = fmt.Sprintf("dlm_network = %q, or another network that nothing else uses,", n)
	}
	return fmt.Sprintf("the DLM uses the first link alone: when that is lost between two nodes one of them is evicted, though they hear each other on another; "+
		"write %s under [cluster] on all nodes before the cluster is formed (later that takes forming it anew: see %s), or dlm_address = %q if it is meant so", write, AnewSection(), dlmFirst)
}

// inNetwork is the address whose place in a network is the node's id.
func inNetwork(n netip.Prefix, id membership.NodeID) (netip.Addr, bool) {
	b := n.Addr().AsSlice()
	low := b[len(b)-4:]
	binary.BigEndian.PutUint32(low, binary.BigEndian.Uint32(low)|uint32(id))
	a, _ := netip.AddrFromSlice(b)
	bits := n.Addr().BitLen() - n.Bits()
	return a, bits >= 32 || uint64(id) < 1<<bits
}

// last is the last address of an IPv4 network.
func last(n netip.Prefix) netip.Addr {
	b := n.Addr().AsSlice()
	binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)|1<<(32-n.Bits())-1)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// DLMAddr is the address of a node's DLM: its own in DLMNetwork, or else its first one.
func (c Config) DLMAddr(n membership.Node) netip.Addr {
	if !c.DLMNetwork.IsValid() {
		return n.Addrs[0]
	}
	a, _ := inNetwork(c.DLMNetwork, n.ID) // it fits: Parse has checked
	return a
}

// stableDigest is what the nodes must have alike; the default adds nothing.
func stableDigest(values map[string]string, c Config) {
	if c.DLMNetwork.IsValid() {
		values["cluster.dlm_address"] = dlmStable + " " + c.DLMNetwork.String()
	}
}

// dlmWord says in words where the DLM's addresses are from.
func (c Config) dlmWord() string {
	if c.DLMNetwork.IsValid() {
		return dlmStable + " in " + c.DLMNetwork.String()
	}
	return dlmFirst
}
