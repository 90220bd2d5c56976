package tcp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/quorate/quorate/membership"
)

// nodes are the other configured nodes, as of one configuration. A set of them is
// never changed, but replaced as a whole.
type nodes struct {
	peers map[membership.NodeID]*peer
	order []membership.NodeID
	names map[string]membership.NodeID // by the URI of the certificate; this node's too
	known map[netip.Addr]bool          // all addresses of the peers
}

// makeNodes keeps the peers of had whose addresses are the same.
func (c *Comm) makeNodes(all []membership.Node, had *nodes) *nodes {
	n := &nodes{peers: map[membership.NodeID]*peer{}, names: map[string]membership.NodeID{}, known: map[netip.Addr]bool{}}
	for _, x := range all {
		n.names[nodeURI(c.opt.Cluster, x.ID).String()] = x.ID
		if x.ID == c.opt.Self {
			continue
		}
		p := newPeer(c, x)
		if had != nil {
			if old := had.peers[x.ID]; old != nil && slices.Equal(old.node.Addrs, x.Addrs) {
				p = old
			} else if old != nil {
				p.turn = old.turn // the handler is told of the end of the old one first
			}
		}
		n.peers[x.ID] = p
		n.order = append(n.order, x.ID)
		for _, a := range x.Addrs {
			n.known[a.Unmap().WithZone("")] = true
		}
	}
	slices.Sort(n.order)
	return n
}

func (c *Comm) peer(id membership.NodeID) (*peer, bool) {
	p, ok := c.nodes.Load().peers[id]
	return p, ok
}

// running is what Run shares with SetNodes.
type running struct {
	mu   sync.Mutex
	ctx  context.Context // nil: Run was not called
	wg   *sync.WaitGroup
	gate *admission
}

// SetNodes replaces the configured nodes while the Comm runs. Connections with nodes
// whose addresses stay the same are not touched; those with nodes that are gone, or
// are elsewhere, end (ErrUnconfigured), and new ones are dialled. This node's own
// addresses do not change.
func (c *Comm) SetNodes(all []membership.Node) error {
	opt := c.opt
	opt.Nodes = all
	if err := opt.fill(); err != nil {
		return fmt.Errorf("comm: %w", err)
	}
	if i := slices.IndexFunc(all, func(n membership.Node) bool { return n.ID == c.opt.Self }); !slices.Equal(all[i].Addrs, c.self.Addrs) {
		return fmt.Errorf("comm: the addresses of this node, %d, change with a restart of quorated alone", c.opt.Self)
	}
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	had := c.nodes.Load()
	now := c.makeNodes(all, had)
	c.nodes.Store(now)
	if c.run.gate != nil {
		c.run.gate.setKnown(now.known)
	}
	for _, id := range had.order {
		if p := had.peers[id]; now.peers[id] != p {
			p.retire()
		}
	}
	for _, id := range now.order {
		if had.peers[id] != now.peers[id] {
			c.dialLocked(now.peers[id])
		}
	}
	return nil
}

// begin makes Run's part known to SetNodes, and dials.
func (c *Comm) begin(ctx context.Context, wg *sync.WaitGroup) *admission {
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	n := c.nodes.Load()
	c.run.ctx, c.run.wg, c.run.gate = ctx, wg, newAdmission(n.known)
	wg.Go(func() { // nothing begins after the end, while Run waits for all that has begun
		<-ctx.Done()
		c.run.mu.Lock()
		defer c.run.mu.Unlock()
		c.run.ctx = nil
	})
	for _, id := range n.order {
		c.dialLocked(n.peers[id])
	}
	return c.run.gate
}

// dialLocked keeps a connection to a peer that this node dials, while Run runs. One that
// dials this node is asked why it does not.
func (c *Comm) dialLocked(p *peer) {
	ctx := c.run.ctx
	if ctx == nil {
		return
	}
	if c.opt.Self >= p.node.ID {
		c.run.wg.Go(func() {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(p.gone, cancel)()
			p.askLoop(ctx)
		})
		return
	}
	c.run.wg.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(p.gone, cancel)()
		p.dialLoop(ctx)
	})
	if len(p.node.Addrs) < 2 {
		return
	}
	c.run.wg.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(p.gone, cancel)()
		p.spareLoop(ctx)
	})
}

// retire ends all that goes on with a node that is configured no more.
func (p *peer) retire() {
	p.quit()
	p.drop(ErrUnconfigured)
}
