package dlm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/quorate/quorate/configfs"
	"github.com/quorate/quorate/membership"
)

// SetAddrs replaces the nodes' addresses and those of their links, as in Options. Comms
// entries that are there stay as they are: a node's address changes while it has none,
// and the next entry is made with the new one. This node's own does not change while the
// driver runs.
func (d *Driver) SetAddrs(addrs, links map[membership.NodeID][]netip.Addr) error {
	addrs, links = maps.Clone(addrs), maps.Clone(links)
	if !slices.Equal(addrs[d.o.Self], d.addrsOf(d.o.Self)) {
		return opError("set-addrs", d.o.Cluster, fmt.Errorf("%w: this node's address changes with a restart of quorated alone", ErrMembers))
	}
	if err := checkFamily(d.o.Self, addrs); err != nil {
		return opError("set-addrs", d.o.Cluster, err)
	}
	d.addrs.Store(&addrs)
	d.links.Store(&links)
	return nil
}

func (d *Driver) addrsOf(n membership.NodeID) []netip.Addr { return (*d.addrs.Load())[n] }

// comm is the wanted comms entry of a node.
func (d *Driver) comm(n membership.NodeID) (configfs.Comm, error) {
	addrs := d.addrsOf(n)
	if len(addrs) == 0 {
		return configfs.Comm{}, fmt.Errorf("%w: node %d has no address; add it to the configuration", ErrPeer, n)
	}
	return configfs.Comm{Addrs: slices.Clone(addrs[:min(len(addrs), d.features.MaxAddrs())]), Local: n == d.o.Self}, nil
}
