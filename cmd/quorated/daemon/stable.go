package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/kbridge/dlmaddr"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/links"
)

// stableAddress is the DLM's with dlm_address = "stable", and the way that is taken to
// that of each other node.
type stableAddress struct {
	keeper *dlmaddr.Keeper
	paths  links.Paths
	taken  []links.Path // as the keeper was told last
}

// openStable makes the address before the DLM binds it, and takes over the routes of a
// run of the daemon before this: they carried, and nothing is measured yet.
func (d *Daemon) openStable() error {
	if !d.cfg.DLMNetwork.IsValid() || d.cfg.NoKernel {
		return nil
	}
	self, ok := d.cfg.Node(d.cfg.Self)
	if !ok {
		return fmt.Errorf("node %d is not configured", d.cfg.Self)
	}
	k, err := dlmaddr.Open(dlmaddr.Options{Self: d.cfg.DLMAddr(self), Network: d.cfg.DLMNetwork, Log: d.log})
	if err != nil {
		return err
	}
	d.stable = &stableAddress{keeper: k}
	d.stable.paths.Adopt(adopted(d.cfg, k.Adopted()))
	k.Set(routes(d.cfg, &d.stable.paths))
	if err := k.Sync(); err != nil { // a link that is down, perhaps: it is tried again every second, and a warning
		d.log.Warn("not all routes of the DLM could be made", "err", err)
	}
	return nil
}

// adopted finds out over which links routes go.
func adopted(cfg config.Config, all []dlmaddr.Route) (out []links.Path) {
	for _, r := range all {
		for _, n := range cfg.Nodes {
			if i := slices.Index(n.Addrs, r.Via); i >= 0 && n.ID != cfg.Self && cfg.DLMAddr(n) == r.To {
				out = append(out, links.Path{Peer: n.ID, Link: i})
			}
		}
	}
	return out
}

// routes are those to all others. One to whom none was chosen is reached over link 0.
func routes(cfg config.Config, p *links.Paths) (out []dlmaddr.Route) {
	self, _ := cfg.Node(cfg.Self)
	for _, n := range cfg.Nodes {
		l := max(p.Of(n.ID), 0)
		if n.ID == cfg.Self || l >= len(n.Addrs) || l >= len(self.Addrs) {
			continue
		}
		out = append(out, dlmaddr.Route{To: cfg.DLMAddr(n), Via: n.Addrs[l], From: self.Addrs[l]})
	}
	return out
}

// reroute follows the links that carry with the routes of the DLM.
func (d *Daemon) reroute(now membership.Mono, samples []membership.Sample) error {
	s := d.stable
	if s == nil || !s.paths.Choose(now, d.carry, samples) {
		return nil
	}
	s.keeper.Set(routes(d.cfg, &s.paths))
	was := s.taken
	s.taken = s.paths.All()
	for _, p := range s.taken {
		i := slices.IndexFunc(was, func(w links.Path) bool { return w.Peer == p.Peer })
		if i < 0 || was[i] == p {
			continue
		}
		e := membership.Event{Kind: membership.KindLink, Subject: p.Peer, Fields: map[string]string{"link": fmt.Sprint(p.Link)}}
		e.Text = fmt.Sprintf("the DLM is on link %d (%s) now", p.Link, linkAddr(d.cfg, links.Changed{Peer: p.Peer, Link: p.Link}))
		if err := d.step(node.Seen{Event: e}); err != nil {
			return err
		}
	}
	return nil
}

// keepStable keeps the routes until ctx ends.
func (d *Daemon) keepStable(ctx context.Context) error {
	if d.stable == nil {
		return nil
	}
	return d.stable.keeper.Run(ctx)
}

// closeStable leaves the address where it is, but after a clean leave: else the kernel may
// have lockspaces that use it, also where this daemon did not come to drive them.
func (d *Daemon) closeStable() {
	if d.stable == nil {
		return
	}
	if d.exit != nil && d.exit.Clean {
		if err := d.stable.keeper.Remove(); err != nil {
			d.log.Warn("the DLM's address and routes were not all removed", "err", err)
		}
	}
	d.stable.keeper.Close()
}

// dlmOn says which address of each node the DLM's packets to it go by.
func (d *Daemon) dlmOn(cfg config.Config) (on map[membership.NodeID]netip.Addr, s *control.StableAddress) {
	on = map[membership.NodeID]netip.Addr{}
	if d.stable == nil {
		for _, n := range cfg.Nodes {
			on[n.ID] = n.Addrs[0]
		}
		return on, nil
	}
	st := d.stable.keeper.Status()
	for _, r := range st.Routes {
		for _, n := range cfg.Nodes {
			if cfg.DLMAddr(n) == r.To {
				on[n.ID] = r.Via
			}
		}
	}
	return on, &control.StableAddress{Addr: st.Self.String(), Network: cfg.DLMNetwork.String(), Interface: st.Holder, Error: st.Err}
}

// stableWarnings say what of the address or the routes is not as it should be.
func (d *Daemon) stableWarnings() []string {
	if d.stable == nil {
		return nil
	}
	if why := d.stable.keeper.Status().Err; why != "" {
		return []string{why}
	}
	return nil
}
