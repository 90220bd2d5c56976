package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
)

func (a *app) eventsCmd() *cobra.Command {
	var follow bool
	var since uint64
	c := &cobra.Command{
		Use:   "events",
		Short: "Show what happened, oldest first",
		Long: `events lists what this node has seen since its quorated started, the last 8,192 events:
their number, time, kind and of which node or lockspace they tell. What belongs to the
end of one node has the same incident (e…) on every node. Older ones, and those of a
quorated that has ended, are in the journal: journalctl -u quorated

With -o json each event is an object on a line of its own.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.status(c.Context())
			if err != nil {
				return err
			}
			p := eventPrinter{out: a.out, json: a.output == "json", names: namesOf(s), self: s.Node}
			client, err := control.Dial(a.socket)
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }() // used up below
			if follow {
				return client.Follow(c.Context(), since, p.print)
			}
			r, err := client.Call(c.Context(), control.Request{Command: "events", Since: since})
			if err != nil {
				return err
			}
			for _, e := range r.Events {
				if err := p.print(e); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with each new event")
	c.Flags().Uint64Var(&since, "since", 0, "only events after this number")
	return c
}

// eventPrinter prints one event a line.
type eventPrinter struct {
	out   io.Writer
	json  bool
	names names
	self  membership.NodeID
	day   string
}

func (p *eventPrinter) print(e membership.Event) error {
	if p.json {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.out, "%s\n", data)
		return err
	}
	if day := clock(e.Wall, "2006-01-02"); e.Wall != "" && day != p.day {
		p.day = day
		if _, err := fmt.Fprintf(p.out, "--- %s\n", day); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(p.out, strings.TrimRight(fmt.Sprintf("%6d  %-12s  %-12s %-14s %s%s",
		e.Seq, clock(e.Wall, "15:04:05.000"), oneLine(string(e.Kind)), oneLine(dash(p.about(e))), oneLine(p.names.in(e.Text)), p.tail(e)), " "))
	return err
}

// about is the node or lockspace that an event is about.
func (p *eventPrinter) about(e membership.Event) string {
	switch {
	case e.Lockspace != "" && e.Subject != 0:
		return e.Lockspace + "/" + p.names.of(e.Subject)
	case e.Lockspace != "":
		return e.Lockspace
	}
	return p.names.of(e.Subject)
}

func (p *eventPrinter) tail(e membership.Event) string {
	var out []string
	if e.Node != 0 && e.Node != p.self {
		out = append(out, "seen by "+p.names.of(e.Node))
	}
	if e.View != 0 {
		out = append(out, fmt.Sprintf("view %d", e.View))
	}
	if e.Change != 0 {
		out = append(out, fmt.Sprintf("change %d", e.Change))
	}
	if e.Incident != "" {
		out = append(out, "incident "+e.Incident)
	}
	if len(out) == 0 {
		return ""
	}
	return "  [" + oneLine(strings.Join(out, ", ")) + "]"
}
