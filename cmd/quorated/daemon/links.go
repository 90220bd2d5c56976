package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/links"
)

// The ways on which long packets are lost, in the words of status.
const (
	wayThere = "there"
	wayBack  = "back"
)

// linksReport looks at all that is known of the ways to the peers.
func (d *Daemon) linksReport() *control.LinksReport {
	cfg, now := d.cfgNow(), boottime()
	r := &control.LinksReport{Node: cfg.Self, Name: cfg.Name(cfg.Self), Links: []control.LinkStatus{}, DLM: []control.DLMConn{}, Warnings: d.weaknesses(), Reflectors: d.reflectors(), Dropped: d.dropped()}
	at, spare := map[membership.NodeID]netip.Addr{}, map[membership.NodeID]netip.Addr{} // the peer's end of the daemons' connection
	for _, p := range d.comm.Status().Peers {
		at[p.Peer], spare[p.Peer] = p.Addr.Addr(), p.Spare.Addr()
	}
	on, stable := d.dlmOn(cfg)
	r.Stable = stable
	for _, x := range d.prober.Links() {
		s := linkStatus(x, now, cfg.Timing)
		s.Name, s.Mode, s.DLM = cfg.Name(x.Peer), userspace, on[x.Peer] == x.Addr.Addr()
		s.Stream, s.Spare = at[x.Peer] == x.Addr.Addr(), spare[x.Peer] == x.Addr.Addr()
		if x.Link < len(r.Reflectors) { // the prober may have another configuration by now
			s.Mode = r.Reflectors[x.Link].Mode
		}
		r.Links = append(r.Links, s)
	}
	for _, c := range d.kernel.Conns() {
		r.DLM = append(r.DLM, dlmConn(c, cfg.Name(c.Node)))
	}
	return r
}

// dropped are the packets that this node has refused as probes or answers.
func (d *Daemon) dropped() (out []control.Dropped) {
	if r := d.reflector.Reflector; r != nil {
		n, err := r.Dropped()
		if err != nil {
			d.log.Debug("the counters of the program that answers probes", "err", err)
		} else if len(n) > 0 {
			out = append(out, control.Dropped{By: "kernel", Packets: n})
		}
	}
	if n := d.prober.Dropped(); len(n) > 0 {
		out = append(out, control.Dropped{By: "daemon", Packets: n})
	}
	return out
}

func linkStatus(x membership.LinkReport, now membership.Mono, t membership.Timing) control.LinkStatus {
	s := control.LinkStatus{Peer: x.Peer, Link: x.Link, Addr: x.Addr.Addr().String(), State: string(links.Judge(x, now, t)),
		P50: x.P50, P99: x.P99, Heard: -1, ByKernel: -1}
	if x.Probes >= links.Least(t) { // as of the state
		s.Probes, s.Lost = x.Probes, x.Lost
	}
	if x.Heard != 0 {
		s.Heard, s.Answers, s.Progress = max(now.Sub(x.Heard), 0), "daemon", x.DaemonAge
	}
	if x.ByKernel != 0 {
		s.ByKernel = max(now.Sub(x.ByKernel), 0)
	}
	s.MTU = x.MTU
	if x.Long.Size != 0 {
		s.LongLost, s.LongFor = way(x.Long), max(now.Sub(x.Long.Since), 0)
	}
	if x.Kernel {
		s.Answers, s.NoDaemon = "kernel", x.NoDaemon
	}
	return s
}

func dlmConn(c dlm.Conn, name string) control.DLMConn {
	return control.DLMConn{Peer: c.Node, Name: name, Local: c.Local.String(), Remote: c.Remote.String(), State: c.StateName(),
		RTT: c.RTT, Retries: c.Retries, Retransmits: c.Retransmits, Unacked: c.Unacked}
}

// watchLinks looks at which links carry. The daemons' connections leave one that went
// silent, or loses long packets, while the peer answers on another.
func (d *Daemon) watchLinks(now membership.Mono, samples []membership.Sample) error {
	for _, c := range d.carry.Observe(now, samples) {
		d.comm.Avoid(c.Peer, d.carry.Avoid(c.Peer))
		if err := d.step(node.Seen{Event: linkEvent(c, d.cfg)}); err != nil {
			return err
		}
	}
	return d.reroute(now, samples)
}

func linkEvent(c links.Changed, cfg config.Config) membership.Event {
	e := membership.Event{Kind: membership.KindLink, Subject: c.Peer, Fields: map[string]string{"link": fmt.Sprint(c.Link)}}
	e.Text = fmt.Sprintf("link %d (%s) carries again", c.Link, linkAddr(cfg, c))
	switch {
	case c.Long && c.Loss.Size != 0:
		e.Text = fmt.Sprintf("link %d (%s) loses packets of %d bytes on the way %s, and carries short ones", c.Link, linkAddr(cfg, c), c.Loss.Size, way(c.Loss))
	case c.Long:
		e.Text = fmt.Sprintf("link %d (%s) carries long packets again, or its MTU has changed", c.Link, linkAddr(cfg, c))
	case c.Silent:
		e.Text = fmt.Sprintf("link %d (%s) is silent for %v, and another is not", c.Link, linkAddr(cfg, c), c.Age.Round(time.Millisecond))
	}
	return e
}

// linkAddr is a peer's address on a link.
func linkAddr(cfg config.Config, c links.Changed) string {
	if n, ok := cfg.Node(c.Peer); ok && c.Link < len(n.Addrs) {
		return n.Addrs[c.Link].String()
	}
	return "not configured any more"
}

// lostLinks warn of the silent links, a warning for each link.
func lostLinks(lost []links.Changed, cfg config.Config) (out []string) {
	for len(lost) > 0 {
		var to []string
		link, n := lost[0].Link, 0
		for ; n < len(lost) && lost[n].Link == link; n++ {
			to = append(to, fmt.Sprintf("%s (%s, for %v)", cfg.Name(lost[n].Peer), linkAddr(cfg, lost[n]), lost[n].Age.Round(100*time.Millisecond)))
		}
		out = append(out, fmt.Sprintf("link %d is silent to %s, who answer on another link: look at the cable, the switch and the interface, and whether udp %d is open there; see `quorate links`", link, strings.Join(to, ", "), cfg.ProbePort))
		lost = lost[n:]
	}
	return out
}

// way says in which direction long packets are lost.
func way(l membership.LongLoss) string {
	if l.There {
		return wayThere
	}
	return wayBack
}

// longLost warn of the links that lose long packets, a warning for each link.
func longLost(lost []links.Changed, cfg config.Config, now membership.Mono) (out []string) {
	for len(lost) > 0 {
		var to []string
		link, n := lost[0].Link, 0
		for ; n < len(lost) && lost[n].Link == link; n++ {
			l := lost[n].Loss
			to = append(to, fmt.Sprintf("%s (%s, %d bytes on the way %s, for %s)", cfg.Name(lost[n].Peer), linkAddr(cfg, lost[n]), l.Size, way(l), since(l, now)))
		}
		out = append(out, fmt.Sprintf("link %d loses long packets to %s, and carries short ones: the DLM hangs on such a link; give every interface and switch port on it the same MTU, and see `quorate links`", link, strings.Join(to, ", ")))
		lost = lost[n:]
	}
	return out
}

func since(l membership.LongLoss, now membership.Mono) string {
	return membership.Short(max(now.Sub(l.Since), 0).Round(time.Second))
}

// almostAll is how many of a hundred probes are lost where a firewall takes all but those
// that go through by chance.
const almostAll = 90

// linkNotes name the links that answer and are not well. One that loses long packets alone
// has a warning. Nothing is wrong with the
// cluster for that; a link that is silent while others are not is a warning.
func linkNotes(r *control.LinksReport, port uint16, nodes []control.NodeStatus) (out []string) {
	for _, l := range r.Links {
		if l.State != string(links.Degraded) || l.LongLost != "" {
			continue
		}
		look := "look for load, a bad cable or a full switch on that path"
		if percent(l) >= almostAll && slices.ContainsFunc(nodes, func(n control.NodeStatus) bool { return n.ID == l.Peer && n.Connected }) {
			look = fmt.Sprintf("%s's daemon is connected: open udp %d on %[1]s (and here), in both directions", l.Name, port)
		}
		out = append(out, fmt.Sprintf("link %d to %s (%s) lost %.1f %% of the last %d probes, p99 of the round trip %v: %s; see `quorate links`",
			l.Link, l.Name, l.Addr, percent(l), l.Probes, l.P99.Round(100*time.Microsecond), look))
	}
	slices.Sort(out)
	return out
}

// daemonWarnings name the nodes whose kernel answers and whose daemon does not run, or
// stands still. Of one that is on no list that is nobody's concern.
func daemonWarnings(r *control.LinksReport, t membership.Timing, nodes []control.NodeStatus) (out []string) {
	for _, l := range r.Links {
		text := ""
		switch {
		case l.Answers != "kernel" || slices.ContainsFunc(nodes, func(n control.NodeStatus) bool { return n.ID == l.Peer && n.State == "unlisted" }):
		case l.NoDaemon:
			text = fmt.Sprintf("%s: its kernel answers, and no quorated runs there", l.Name)
		case l.Heard >= 0 && l.Heard < t.DeadAfter && l.Progress >= max(t.DeadAfter, time.Second):
			text = fmt.Sprintf("%s: its kernel answers, and its daemon has stood still for %s; a member is evicted after %s (stall_limit), or %s while a lockspace waits for it (recovery_stall): `quorate status` on %s says why it stands still",
				l.Name, membership.Short(l.Progress.Round(100*time.Millisecond)), membership.Short(t.StallLimit), membership.Short(t.RecoveryStall), l.Name)
		}
		if text != "" && !slices.ContainsFunc(out, func(x string) bool { return strings.HasPrefix(x, l.Name+": ") }) {
			out = append(out, text)
		}
	}
	return out
}

func percent(l control.LinkStatus) float64 { return 100 * float64(l.Lost) / float64(max(l.Probes, 1)) }
