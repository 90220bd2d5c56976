package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/quorate/quorate/membership"
)

// ErrSelf is returned when this node is not exactly one of the configured ones.
var ErrSelf = errors.New("cannot tell which configured node this is")

// Bind returns the configuration with Self set: the node that override names
// (by name or id), or else the one configured node with an address in local.
func (c Config) Bind(local []netip.Addr, override string) (Config, error) {
	if override != "" {
		n, err := c.FindNode(override)
		if err != nil {
			return Config{}, fmt.Errorf("%w: -node: %w", ErrSelf, err)
		}
		c.Self = n.ID
		return c, nil
	}
	var found []membership.Node
	for _, n := range c.Nodes {
		if slices.ContainsFunc(n.Addrs, func(a netip.Addr) bool { return slices.Contains(local, a) }) {
			found = append(found, n)
		}
	}
	if len(found) != 1 {
		return Config{}, selfError(c.Nodes, local, found)
	}
	c.Self = found[0].ID
	return c, nil
}

func selfError(nodes []membership.Node, local []netip.Addr, found []membership.Node) error {
	why, what := "no node has an address of this machine", "correct addr of this node"
	if len(found) > 1 {
		why = fmt.Sprintf("nodes %s all have addresses of this machine", strings.Join(names(found), " and "))
		what = "correct addr so that one matches"
	}
	var b strings.Builder
	for _, n := range nodes {
		fmt.Fprintf(&b, "\n  configured %s: %s", n.Name, joinAddrs(n.Addrs))
	}
	fmt.Fprintf(&b, "\n  this machine: %s", joinAddrs(local))
	return fmt.Errorf("%w: %s: %s, bring the interface up, or start with -node NAME%s", ErrSelf, why, what, b.String())
}

func joinAddrs(all []netip.Addr) string {
	if len(all) == 0 {
		return "none"
	}
	out := make([]string, len(all))
	for i, a := range all {
		out[i] = a.String()
	}
	return strings.Join(out, " ")
}

// LocalAddrs returns the addresses of this machine's interfaces.
func LocalAddrs() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, &OpError{Op: "list", Path: "interface addresses", Err: err}
	}
	var out []netip.Addr
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out, nil
}
