package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	xdp "github.com/quorate/quorate/ebpf/liveness"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/udp"
)

// userspace is what answers where the kernel does not.
const userspace = "userspace"

// reflector is the program that answers probes in this node's kernel, as long as it
// can be had: the prober answers whatever it leaves.
type reflector struct {
	*xdp.Reflector        // nil: there is none
	why            string // there is none
	// deaf is why nobody waits for the kernel's alarms; nil: somebody does.
	deaf atomic.Pointer[string]
}

// openReflector takes the program of an earlier run over, or a new one. It changes nothing
// of what answers now: another daemon may be at work.
func (d *Daemon) openReflector() {
	switch {
	case d.opt.fake != nil && d.opt.pins == "":
		return
	case d.cfg.Reflector == string(xdp.Off):
		d.reflector.why = `[liveness] reflector is "off"`
		return
	}
	r, err := xdp.Load(xdp.Options{Cluster: d.cfg.Cluster, Epoch: d.id.Instance, Want: xdp.Want(d.cfg.Reflector), Root: d.opt.pins, Logger: d.log, Tell: d.reflectorChanged})
	if err != nil {
		d.reflector.why = err.Error()
		d.log.Warn("this kernel does not answer probes; the daemon does", "err", err)
		return
	}
	d.reflector.Reflector = r
	d.id.Epoch = r.Epoch()
}

// startReflector has the program answer by this configuration. What an earlier run left
// is of no use without: it would take probes and answer them as nobody any more.
func (d *Daemon) startReflector(keys []probe.Key) {
	if d.reflector.Reflector == nil {
		if d.opt.fake == nil || d.opt.pins != "" {
			if err := xdp.Remove(d.opt.pins, d.cfg.Cluster); err != nil {
				d.log.Error("the program of an earlier quorated still answers probes", "err", err)
			}
		}
		return
	}
	if err := d.reflector.Configure(reflectorConfig(d.cfg, d.id.Instance, keys)); err != nil {
		d.log.Error("this kernel does not answer probes; the daemon does", "err", err)
		d.endReflector(true)
		d.reflector.why = err.Error()
	}
}

// endReflector leaves the kernel answering for a node that has not left.
func (d *Daemon) endReflector(left bool) {
	r := d.reflector.Reflector
	if r == nil {
		return
	}
	d.reflector.Reflector = nil
	end := r.Close
	if left {
		end = r.Remove
	}
	if err := end(); err != nil {
		d.log.Warn("the program that answers probes", "err", err)
	}
}

func (d *Daemon) runReflector(ctx context.Context) error {
	if r := d.reflector.Reflector; r != nil {
		r.Run(ctx)
	}
	return nil
}

// arrivals are what the kernel stamps of answers to this node's probes; nil: nothing.
func (d *Daemon) arrivals() probe.Arrivals {
	if r := d.reflector.Reflector; r != nil {
		return r
	}
	return nil
}

// watchSilences has the loop look as soon as the kernel's stamp of a peer has become too
// old. The loop comes by itself at about that time, too.
func (d *Daemon) watchSilences(ctx context.Context) error {
	r := d.reflector.Reflector
	if r == nil {
		return nil
	}
	err := r.Watch(ctx, func(probe.Silence) {
		select {
		case d.silent <- struct{}{}:
		default: // it is about to look
		}
	})
	if err != nil {
		why := err.Error()
		d.reflector.deaf.Store(&why)
		d.log.Warn("a peer's silence is noticed by the daemon's own timers", "err", err)
	}
	return nil
}

// reflectorConfig is what the kernel has to know.
func reflectorConfig(cfg config.Config, run uint64, keys []probe.Key) xdp.Config {
	self, _ := cfg.Node(cfg.Self)
	c := xdp.Config{Self: cfg.Self, Port: cfg.ProbePort, Links: self.Addrs, Keys: keys, Run: run, Interval: cfg.Timing.Interval, Silent: cfg.Timing.DeadAfter}
	for _, n := range cfg.Nodes {
		for l, a := range n.Addrs {
			if n.ID == cfg.Self || l >= len(self.Addrs) || a.Unmap().Is4() != self.Addrs[l].Unmap().Is4() {
				continue
			}
			c.Peers = append(c.Peers, xdp.Peer{Node: n.ID, Link: l, Addr: netip.AddrPortFrom(a.Unmap(), cfg.ProbePort),
				Rate: udp.Rate(cfg.Timing.Interval), Trust: cfg.Timing.DeadAfter / 2})
		}
	}
	return c
}

// learn tells who answers and who asks for a peer.
func (d *Daemon) learn(peer membership.NodeID, instance, epoch uint64) {
	d.prober.Learn(peer, instance, epoch)
	if r := d.reflector.Reflector; r != nil {
		if err := r.Learn(peer, instance, epoch); err != nil {
			d.log.Warn("this kernel does not know a peer's run", "peer", peer, "err", err)
		}
	}
}

// reflectorKeys has the kernel accept other keys. Where it cannot, probes with a key that
// it does not know are the daemon's to answer.
func (d *Daemon) reflectorKeys(keys []probe.Key) {
	if r := d.reflector.Reflector; r != nil {
		if err := r.SetKeys(keys); err != nil {
			d.log.Error("this kernel answers probes with the former keys", "err", err)
		}
	}
}

// retimeReflector has the kernel answer by another configuration, with the keys that it has:
// they may be changed at the same time.
func (d *Daemon) retimeReflector(c config.Config) {
	if r := d.reflector.Reflector; r != nil {
		if err := r.Configure(reflectorConfig(c, d.id.Instance, nil)); err != nil {
			d.log.Error("this kernel answers probes by the former configuration", "err", err)
		}
	}
}

// progress ticks the progress word, which answers of the daemon and of the kernel carry. A
// daemon whose prober stands still makes none: it cannot do what it is there for.
func (d *Daemon) progress(at membership.Mono) {
	if d.node.Mute() {
		return
	}
	view := d.node.View()
	d.prober.Progress(view)
	if r := d.reflector.Reflector; r != nil {
		r.Progress(at, view)
	}
}

// reflectorChanged tells that something else answers, or that somebody took the program away.
func (d *Daemon) reflectorChanged(c xdp.Change) {
	d.post(node.Seen{Event: membership.Event{Kind: membership.KindReflector, Text: reflectorText(c), Fields: map[string]string{"link": fmt.Sprint(c.Link)}}})
}

func reflectorText(c xdp.Change) string {
	at, why := place(c.Link, c.Interface), ""
	if c.Why != "" {
		why = ": " + c.Why
	}
	switch {
	case c.Taken && c.Mode == c.Was:
		return fmt.Sprintf("%s: the program that answers probes was taken from its interface; it is attached again, %s%s", at, c.Mode, why)
	case c.Taken && c.Mode == xdp.None:
		return fmt.Sprintf("%s: the program that answers probes was taken from its interface; the daemon answers%s", at, why)
	case c.Mode == xdp.None:
		return fmt.Sprintf("%s: the daemon answers probes%s", at, why)
	}
	return fmt.Sprintf("%s: the kernel answers probes, %s%s", at, c.Mode, why)
}

// place names a link of this node.
func place(link int, iface string) string {
	if iface == "" {
		return fmt.Sprintf("link %d", link)
	}
	return fmt.Sprintf("link %d (%s)", link, iface)
}

// reflectors say what answers the peers' probes on each link of this node.
func (d *Daemon) reflectors() []control.Reflector {
	cfg := d.cfgNow()
	self, _ := cfg.Node(cfg.Self)
	out := make([]control.Reflector, len(self.Addrs))
	for l := range out {
		out[l] = control.Reflector{Link: l, Mode: userspace, Why: d.reflector.why, Alarm: control.AlarmDaemon, AlarmWhy: d.reflector.why}
	}
	r := d.reflector.Reflector
	if r == nil {
		return out
	}
	served := d.prober.Snapshot() // before what the program has seen, which it sees first
	seen, err := r.Peers()
	if err != nil {
		d.log.Debug("what the program that answers probes has seen", "err", err)
		served = nil // it is not known whether any came by it
	}
	for _, s := range r.Status() {
		if s.Link >= len(out) {
			continue
		}
		x := &out[s.Link]
		x.Interface, x.Parent, x.Why, x.Driver, x.XDP = s.Interface, s.Parent, s.Why, s.Driver, s.XDP
		if x.Taken = s.Lost; s.Lost > 0 {
			x.TakenAgo = max(boottime().Sub(s.LostAt), 0)
		}
		if s.Mode == xdp.None {
			x.AlarmWhy = s.Why
			continue
		}
		if passedBy(s, seen, served) {
			x.Why, x.AlarmWhy = noProbe, noProbe
			continue
		}
		x.Mode = string(s.Mode)
		if deaf := d.reflector.deaf.Load(); deaf != nil {
			x.AlarmWhy = *deaf
			continue
		}
		kind, why := r.Alarm()
		x.Alarm, x.AlarmWhy = string(kind), why
	}
	return out
}

const (
	// noProbe is why the kernel answers nothing though the program is attached: the address is
	// on lo, say, and routed to this node by another interface.
	noProbe = "no probe comes by this interface"
	// passedFor is for how long only the daemon is asked until that is said.
	passedFor = 3 * time.Second
)

// passedBy says whether a link's probes come by another interface than its program's: the
// daemon has answered, and the program seen none for some time before.
func passedBy(s xdp.LinkStatus, seen []xdp.PeerState, served []membership.Sample) bool {
	last, here := s.Since, membership.Mono(0)
	for _, p := range seen {
		if p.Link == s.Link {
			last = max(last, p.Asked)
		}
	}
	for _, p := range served {
		if p.Link == s.Link {
			here = max(here, p.Served)
		}
	}
	return here.Sub(last) > passedFor
}

// takenNoted is for how long it is noted that somebody took the program away.
const takenNoted = time.Hour

// reflectorNotes name the links on which the daemon has to answer though the kernel was to,
// those from which somebody takes the program, and those whose alarms are not the most exact ones.
func reflectorNotes(want string, all []control.Reflector) (out []string) {
	if want == string(xdp.Off) {
		return nil
	}
	for _, x := range all {
		at := place(x.Link, x.Interface)
		if x.Taken > 0 && x.TakenAgo < takenNoted {
			out = append(out, fmt.Sprintf("%s: somebody takes the program that answers probes from its interface (%s, last %s ago); it is attached again within a second", at, membership.Count(int(x.Taken), "time"), membership.Short(x.TakenAgo.Round(time.Second))))
		}
		if x.Mode != userspace && x.AlarmWhy != "" {
			out = append(out, fmt.Sprintf("%s: a peer's silence is noticed by %s, and not by a bpf timer: %s", at, x.NoticedBy(), x.AlarmWhy))
		}
		if x.Mode != userspace || x.Why == "" {
			continue
		}
		out = append(out, fmt.Sprintf("%s: the daemon answers the others' probes, and not the kernel: %s; a daemon that stands still looks like a dead node then", at, x.Why))
	}
	return out
}
