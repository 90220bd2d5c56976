package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
)

func (a *app) linksCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "links",
		Short: "Say how well each way to each other node carries",
		Long: `links has a line for each other node and each link (address) to it, as this node's
probes measured it over the last minute, the last 1024 probes, or since the first answer
of the other's daemon, whatever is less:

  STATE      up; degraded: it answers, and one in twenty probes is lost, or the p99 is
             half of dead_after or more, or long packets are lost; silent: no answer for
             dead_after, or ever
  P50 P99    of the round trip of a probe
  LOSS       probes without an answer; -: fewer than 128 were sent, or than in 5 s
  MTU        length of the long packet that goes with every tenth probe, as this kernel
             takes it from the interface, a route or a router; lost: they do not arrive,
             or their answers do not, while short ones do
  HEARD      how long ago the last answer came that counts: of the node's kernel while it
             has a daemon, or of the daemon itself
  KERNEL     how long ago its kernel answered last, with a daemon or without; -: it
             never did, its daemon does
  DAEMON     how long before that its daemon had made progress; ended: its kernel
             answers, and it has no daemon
  REFLECTOR  what answers the other's probes on this node: native, its kernel in the
             network driver; generic, its kernel in the network stack; userspace, its
             daemon (unless reflector is "off" quorate status says why)
  USE        dlm: the DLM's address is on it; daemons: their connection uses it; spare:
             a second one of theirs stands by, for when the first one's link goes silent

Then what answers here on each link, with the interface and its driver, and why it is
not what was wanted first; and what notices that a node does not answer, with the
reason if it is not the first: bpf timer, one in this kernel for each node and link;
timerfd, one of the daemon's; both by the kernel's own stamps of the answers; or the
daemon, by timers of its own, and by the stamps where there are any.

With dlm_address = "stable", this node's address for the DLM, which is on no link; dlm
stands at the link over which the others' are reached now.

Then how many packets for the probe port were refused here: by the kernel's program since
the node joined, by the daemon since it started. A few of replay, late, old, prober,
instance, unlearnt and no_daemon are normal when a daemon starts or ends. Of numbers that
grow say: key_epoch and tag, another key file (quorate key status), or another cluster on
this port; source and spoofed, an address that the configuration does not have, or NAT;
link and destination, addresses in another order on one node; form, unasked and rate,
packets that no node of this cluster sends.

Then the connections of the kernels' DLM, as this kernel sees them: the round trip,
how many segments were sent again since it was made, how many bytes the other has not
acknowledged, and how often those were sent again.

On a terminal that is too narrow the columns are in two tables.

Exit status: 0 every link is up, 1 one is not.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := a.call(c.Context(), control.Request{Command: "links"})
			if err != nil {
				return err
			}
			if r.Links == nil {
				return errors.New("the daemon's answer says nothing of links: use the quorate of the same version as quorated")
			}
			if a.output == "json" {
				err = a.json(r.Links)
			} else {
				err = a.printLinks(a.out, r.Links)
			}
			if slices.ContainsFunc(r.Links.Links, func(l control.LinkStatus) bool { return l.State != "up" }) {
				err = errors.Join(err, exitCode(exitRefused))
			}
			return err
		},
	}
}

func (a *app) printLinks(w io.Writer, r *control.LinksReport) error {
	if len(r.Links) == 0 {
		_, err := fmt.Fprintln(w, "no other nodes")
		return err
	}
	rows := make([][]string, 0, len(r.Links))
	for _, l := range r.Links {
		rows = append(rows, linkRow(l))
	}
	err := a.fit(w, linkColumns, rows, "NODE LINK ADDRESS STATE P50 P99 LOSS MTU", "NODE LINK HEARD KERNEL DAEMON REFLECTOR USE")
	fmt.Fprintln(w)
	for _, line := range slices.Concat(reflectors(r.Reflectors), alarms(r.Reflectors), dropped(r.Dropped)) {
		fmt.Fprintln(w, line)
	}
	if s := r.Stable; s != nil {
		fmt.Fprintf(w, "the DLM's address here: %s on %s, routed over all links\n", s.Addr, cmp.Or(s.Interface, "no interface"))
	}
	if len(r.DLM) == 0 {
		fmt.Fprintln(w, "no connections of the DLM: this kernel shares no lockspace with another")
	} else {
		err = errors.Join(err, a.dlmTable(w, r.DLM))
	}
	warnings := slices.Concat(r.Warnings, longLost(r.Links))
	if r.Stable != nil && r.Stable.Error != "" {
		warnings = append(slices.Clone(warnings), r.Stable.Error)
	}
	for i, x := range warnings {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s %s\n", a.paint(yellow, "!"), oneLine(x))
	}
	return err
}

const linkColumns = "NODE LINK ADDRESS STATE P50 P99 LOSS MTU HEARD KERNEL DAEMON REFLECTOR USE"

// reflectors say what answers on each link, and why not what was wanted first.
func reflectors(all []control.Reflector) (out []string) {
	for _, x := range all {
		at := []string{}
		if x.Interface != "" {
			at = append(at, oneLine(x.Interface))
		}
		if x.Driver != "" {
			at = append(at, "driver "+oneLine(x.Driver))
		}
		if x.Taken > 0 {
			at = append(at, fmt.Sprintf("taken away %s, last %s ago", membership.Count(int(x.Taken), "time"), human(x.TakenAgo)))
		}
		line := fmt.Sprintf("probes are answered on link %d by %s", x.Link, x.Mode)
		if len(at) > 0 {
			line += " (" + strings.Join(at, ", ") + ")"
		}
		if x.Why != "" {
			line += ": " + oneLine(x.Why)
		}
		out = append(out, line)
	}
	return out
}

// dropped say how many packets were refused, and why.
func dropped(all []control.Dropped) (out []string) {
	for _, x := range all {
		var why []string
		for _, reason := range slices.Sorted(maps.Keys(x.Packets)) {
			why = append(why, fmt.Sprintf("%s %d", oneLine(reason), x.Packets[reason]))
		}
		out = append(out, fmt.Sprintf("dropped here by the %s: %s", oneLine(x.By), strings.Join(why, ", ")))
	}
	return out
}

// alarms say what notices a silence, and on which links.
func alarms(all []control.Reflector) (out []string) {
	for i, x := range all {
		same := func(y control.Reflector) bool { return y.Alarm == x.Alarm && y.AlarmWhy == x.AlarmWhy }
		if x.Alarm == "" || slices.ContainsFunc(all[:i], same) {
			continue
		}
		on := []string{}
		for _, y := range all[i:] {
			if same(y) {
				on = append(on, fmt.Sprint(y.Link))
			}
		}
		line := fmt.Sprintf("silence is noticed by %s on link %s", x.NoticedBy(), strings.Join(on, ", "))
		if x.AlarmWhy != "" {
			line += ": " + oneLine(x.AlarmWhy)
		}
		out = append(out, line)
	}
	return out
}

func linkRow(l control.LinkStatus) []string {
	loss, mtu, kernel, daemon := "", "", "", ""
	if l.Probes > 0 {
		loss = fmt.Sprintf("%.1f%%", 100*float64(l.Lost)/float64(l.Probes))
	}
	if l.MTU > 0 {
		mtu = fmt.Sprint(l.MTU)
	}
	if l.LongLost != "" {
		mtu += " lost"
	}
	if l.ByKernel >= 0 {
		kernel = human(l.ByKernel)
	}
	switch {
	case l.NoDaemon:
		daemon = "ended"
	case l.Answers != "":
		daemon = human(l.Progress)
	}
	return []string{l.Name, fmt.Sprint(l.Link), l.Addr, l.State, measured(l.P50), measured(l.P99), loss, mtu,
		human(l.Heard), kernel, daemon, l.Mode, linkUse(l)}
}

func linkUse(l control.LinkStatus) string {
	var use []string
	for _, u := range []struct {
		so   bool
		word string
	}{{l.DLM, "dlm"}, {l.Stream, "daemons"}, {l.Spare, "spare"}} {
		if u.so {
			use = append(use, u.word)
		}
	}
	return strings.Join(use, ",")
}

// longLost say on which way the links that lose long packets lose them.
func longLost(all []control.LinkStatus) (out []string) {
	for _, l := range all {
		if l.LongLost != "" {
			out = append(out, fmt.Sprintf("link %d to %s (%s): packets of %d bytes have been lost on the way %s for %s, and short ones arrive: give every interface and switch port on it the same MTU",
				l.Link, l.Name, l.Addr, l.MTU, l.LongLost, human(l.LongFor)))
		}
	}
	return out
}

// measured is a round trip with a tenth of a millisecond, and nothing where there is none.
func measured(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/1e6)
	}
	return human(d)
}

const dlmColumns = "DLM-TO STATE FROM TO RTT RETRANSMITS UNACKED SENT-AGAIN"

func (a *app) dlmTable(w io.Writer, all []control.DLMConn) error {
	rows := make([][]string, 0, len(all))
	for _, c := range all {
		rows = append(rows, []string{c.Name, c.State, c.Local, c.Remote, measured(c.RTT), fmt.Sprint(c.Retransmits), fmt.Sprint(c.Unacked), fmt.Sprint(c.Retries)})
	}
	return a.fit(w, dlmColumns, rows, "DLM-TO STATE FROM TO", "DLM-TO RTT RETRANSMITS UNACKED SENT-AGAIN")
}
