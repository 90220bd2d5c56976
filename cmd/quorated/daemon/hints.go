package daemon

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/kbridge/carrier"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/membership"
)

// hintLook is how often the DLM's connections are looked at for hints: often enough for one
// that comes before dead_after, where that is long enough for TCP to send something again.
const (
	hintLook  = 250 * time.Millisecond
	hintShare = 4 // looks in dead_after
)

// watchHints has a peer probed more often for dead_after when something else than a probe
// hints that the way to it may be bad: an interface of this node lost its carrier, or the
// kernel's DLM sent something to it again, or lost its connection. Nobody is convicted by
// that, or sooner suspected than by what its probes say.
func (d *Daemon) watchHints(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := carrier.Watch(ctx, d.carrierLost); err != nil {
			d.log.Warn("the loss of a carrier is not noticed, but by probes", "err", err)
		}
	}()
	defer func() { <-done }()
	var last []dlm.Conn
	again(ctx, func() time.Duration {
		begin := time.Now()
		now := d.kernel.Conns()
		for _, peer := range hinted(last, now) {
			d.hurry(peer, "the DLM's connection to it")
		}
		last = now
		return nextHint(len(now) > 0, d.cfgNow().Timing.DeadAfter, time.Since(begin))
	})
	return nil
}

// nextHint is when to look at the connections again; a look may take one in pathShare parts
// of the time.
func nextHint(some bool, deadAfter, took time.Duration) time.Duration {
	wait := pathLook
	if some {
		wait = min(max(deadAfter/hintShare, hintLook), pathLook)
	}
	return min(max(wait, pathShare*took), pathRare)
}

// hinted are the peers to whom something was sent again since the last look, or to whom a
// connection that was whole is there no more.
func hinted(was, now []dlm.Conn) (peers []membership.NodeID) {
	find := func(in []dlm.Conn, c dlm.Conn) (dlm.Conn, bool) {
		i := slices.IndexFunc(in, func(o dlm.Conn) bool { return o.Local == c.Local && o.Remote == c.Remote })
		if i < 0 {
			return dlm.Conn{}, false
		}
		return in[i], true
	}
	for _, c := range was {
		if _, ok := find(now, c); !ok && c.StateName() == "established" {
			peers = append(peers, c.Node)
		}
	}
	for _, c := range now {
		if o, _ := find(was, c); c.Retransmits > o.Retransmits || c.Retries > o.Retries {
			peers = append(peers, c.Node)
		}
	}
	slices.Sort(peers)
	return slices.Compact(peers)
}

// carrierLost: who has an address on the link of that interface may be out of reach on it.
func (d *Daemon) carrierLost(index int) {
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return // it is gone already
	}
	addrs, err := i.Addrs()
	if err != nil {
		return
	}
	for _, peer := range behind(d.cfgNow(), addrs) {
		d.hurry(peer, "the carrier of "+i.Name)
	}
}

// behind are the peers on the links that an interface with these addresses has.
func behind(cfg config.Config, addrs []net.Addr) (peers []membership.NodeID) {
	self, _ := cfg.Node(cfg.Self)
	for link, own := range self.Addrs {
		if !slices.ContainsFunc(addrs, func(a net.Addr) bool {
			p, err := netip.ParsePrefix(a.String())
			return err == nil && p.Addr().Unmap() == own.Unmap().WithZone("")
		}) {
			continue
		}
		for _, n := range cfg.Nodes {
			if n.ID != cfg.Self && link < len(n.Addrs) && !slices.Contains(peers, n.ID) {
				peers = append(peers, n.ID)
			}
		}
	}
	return peers
}

func (d *Daemon) hurry(peer membership.NodeID, hint string) {
	cfg := d.cfgNow()
	d.log.Debug("probed more often", "peer", cfg.Name(peer), "hint", hint)
	d.prober.Hurry(peer, cfg.Timing.DeadAfter)
}
