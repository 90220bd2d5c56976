package check

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/membership"
)

// Interface is one of a machine's network interfaces.
type Interface struct {
	Name     string
	Up       bool
	Carrier  bool
	Prefixes []netip.Prefix // of its addresses
}

func interfaces() ([]Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	var out []Interface
	for _, i := range all {
		x := Interface{Name: i.Name, Up: i.Flags&net.FlagUp != 0, Carrier: i.Flags&net.FlagRunning != 0}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				x.Prefixes = append(x.Prefixes, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()))
			}
		}
		out = append(out, x)
	}
	return out, nil
}

func addrs(all []Interface) (out []netip.Addr) {
	for _, i := range all {
		for _, p := range i.Prefixes {
			out = append(out, p.Addr())
		}
	}
	return out
}

// place is where an address of a link is on this machine; no prefix: nowhere.
type place struct {
	on  Interface
	net netip.Prefix
}

func find(all []Interface, a netip.Addr) place {
	for _, i := range all {
		for _, p := range i.Prefixes {
			if p.Addr() == a {
				return place{i, p.Masked()}
			}
		}
	}
	return place{}
}

// shared is whether a network is of more than this machine.
func (p place) shared() bool { return p.net.IsValid() && !p.net.IsSingleIP() }

// links says what each link is on, and what would take more than one of them at once.
func (m Machine) links(r *report, cfg config.Config, me membership.Node) {
	all, err := m.Interfaces()
	if err != nil {
		r.bad(err.Error(), "look at: ip addr")
		return
	}
	var places []place
	for i, a := range me.Addrs {
		p := find(all, a)
		switch what := fmt.Sprintf("address %s of link %d is on", a, i); {
		case !p.net.IsValid():
			r.bad(what+" no interface", "bring the interface up (ip addr), or correct addr of "+me.Name)
		case !p.on.Up:
			r.bad(what+" "+p.on.Name+", which is down", "run: ip link set "+p.on.Name+" up")
		case !p.on.Carrier:
			r.bad(what+" "+p.on.Name+", which has no carrier", "look at its cable and its switch")
		default:
			r.ok("address %s of link %d, on %s", a, i, p.on.Name)
		}
		for j, q := range places {
			together(r, i, p, j, q)
		}
		places = append(places, p)
	}
	if cfg.Timing.Profile == "lan" && len(me.Addrs) == 1 {
		r.note("profile lan, and one link: when it fails, nodes are fenced within dead_after = %s; add a second one, or see profile = \"safe\"", membership.Short(cfg.Timing.DeadAfter))
	}
	for _, n := range cfg.Nodes {
		if n.ID != me.ID {
			crossed(r, n, places)
		}
	}
}

// together says when two links are not two.
func together(r *report, i int, p place, j int, q place) {
	switch {
	case !p.net.IsValid() || !q.net.IsValid():
	case p.on.Name == q.on.Name:
		r.note("links %d and %d are both on %s: what takes it takes both", j, i, p.on.Name)
	case p.shared() && p.net.Overlaps(q.net):
		r.note("links %d and %d are in one network, %s (%s and %s): the kernel may send both by one interface; give each link a network of its own", j, i, p.net, q.on.Name, p.on.Name)
	}
}

// crossed says when a peer's address is in the network that another link has here.
func crossed(r *report, peer membership.Node, places []place) {
	for i, a := range peer.Addrs {
		if i >= len(places) || places[i].net.Contains(a) {
			continue
		}
		j := slices.IndexFunc(places, func(p place) bool { return p.shared() && p.net.Contains(a) })
		if j >= 0 {
			r.bad(fmt.Sprintf("address %s of link %d of %s is in the network of link %d here (%s, on %s)", a, i, peer.Name, j, places[j].net, places[j].on.Name),
				"give the addresses of every node in the order of the links")
			return
		}
	}
}
