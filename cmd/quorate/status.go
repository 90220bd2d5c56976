package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/control"
)

func (a *app) statusCmd() *cobra.Command {
	var watch bool
	var interval time.Duration
	var count int
	c := &cobra.Command{
		Use:   "status",
		Short: "Say whether all is well, and what to do if not",
		Long: `status says OK; DEGRADED, when it runs and lines with ! say what works less than it
should; or BLOCKED, when something waits (quorate why). Lines with note: change neither
that nor the exit status.

Exit status: 0 OK, 1 degraded, 2 blocked, 3 quorated does not answer here.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !watch {
				return a.statusOnce(c.Context())
			}
			if interval < 100*time.Millisecond {
				return fmt.Errorf("%w: --interval must be 100ms or more", errUsage)
			}
			return a.watch(c.Context(), interval, count)
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again")
	c.Flags().DurationVar(&interval, "interval", time.Second, "how often, with --watch")
	c.Flags().IntVar(&count, "count", 0, "how many times, with --watch; 0: until interrupted")
	return c
}

func (a *app) statusOnce(ctx context.Context) error {
	s, err := a.status(ctx)
	if err != nil {
		return err
	}
	if a.output == "json" {
		err = a.json(s)
	} else {
		err = a.printStatus(a.out, s)
	}
	return errors.Join(err, level(s.Level))
}

// watch shows the status until ctx ends. A daemon that is down is shown too:
// it may be on its way back.
func (a *app) watch(ctx context.Context, interval time.Duration, count int) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 1; ; n++ {
		if a.tty && a.output == "table" {
			fmt.Fprint(a.out, "\x1b[H\x1b[2J")
		} else if n > 1 && a.output == "table" {
			fmt.Fprintln(a.out)
		}
		err := a.statusOnce(ctx)
		var code exitCode
		switch {
		case n == count, ctx.Err() != nil:
			return err
		case errors.Is(err, control.ErrDown):
			fmt.Fprintln(a.err, "quorate:", err)
		case err != nil && !errors.As(err, &code):
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (a *app) printStatus(w io.Writer, s *control.Status) error {
	n := namesOf(s)
	fmt.Fprintf(w, "cluster %s, seen from %s: %s\n", dash(s.Cluster), n.of(s.Node), a.verdict(s))
	a.printCause(w, s, allWaits(s, ""))
	a.printWarnings(w, s)
	fmt.Fprintf(w, "\n%s\n", strings.Join(summary(s, n), ", "))
	if s.ProfileWhy != "" {
		fmt.Fprintln(w, "profile", oneLine(s.ProfileWhy))
	}
	if s.Promise != "" {
		fmt.Fprintf(w, "group %s: %s\n", dash(s.Group), oneLine(s.Promise))
	}
	if s.Witness != nil {
		fmt.Fprintln(w, witnessLine(s))
	}
	fmt.Fprintln(w)
	err := nodeTable(w, s)
	fmt.Fprintln(w)
	if len(s.Lockspaces) == 0 {
		fmt.Fprintln(w, "no lockspaces")
	} else {
		err = errors.Join(err, lockspaceTable(w, s))
	}
	if len(s.Fencing) > 0 {
		fmt.Fprintln(w)
		err = errors.Join(err, fencingTable(w, s))
	}
	for i, x := range s.Notes {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "note: %s\n", oneLine(x))
	}
	return err
}

// printWarnings says what is wrong and holds nothing up.
func (a *app) printWarnings(w io.Writer, s *control.Status) {
	if len(s.Warnings) > 0 {
		fmt.Fprintln(w)
	}
	for _, x := range s.Warnings {
		fmt.Fprintf(w, "%s %s\n", a.paint(yellow, "!"), oneLine(x))
	}
}

func (a *app) verdict(s *control.Status) string {
	switch s.Level {
	case control.OK:
		return a.paint(green, "OK")
	case control.Degraded:
		return a.paint(yellow, "DEGRADED")
	}
	return a.paint(red, "BLOCKED")
}

// summary is the line on membership.
func summary(s *control.Status, n names) []string {
	quorum := "NO QUORUM"
	if s.Quorate {
		quorum = "quorate"
	}
	out := []string{fmt.Sprintf("%s (%d of %d votes, %d needed)", quorum, s.Votes, s.Expected, s.Needed)}
	if !s.Member {
		out = append(out, "this node is NOT a member")
	}
	leader := n.of(s.Leader)
	if leader == "" {
		leader = "NONE"
	}
	out = append(out, fmt.Sprintf("view %d", s.View), "leader "+leader)
	if s.Profile != "" {
		out = append(out, "profile "+oneLine(s.Profile))
	}
	if s.Config > 0 {
		out = append(out, fmt.Sprintf("configuration %d", s.Config))
	}
	return out
}

func nodeTable(w io.Writer, s *control.Status) error {
	rows := make([][]string, 0, len(s.Nodes))
	for _, x := range s.Nodes {
		heard, rtt := human(x.Heard), ""
		if x.RTT > 0 {
			rtt = human(x.RTT)
		}
		if x.ID == s.Node {
			heard, rtt = "", ""
		}
		rows = append(rows, []string{x.Name, fmt.Sprint(x.ID), x.State, heard, rtt, strings.Join(x.Addrs, " "), nodeNote(s, x)})
	}
	return table(w, "NODE ID STATE HEARD RTT ADDRESSES NOTE", rows)
}

func nodeNote(s *control.Status, x control.NodeStatus) string {
	var note []string
	if x.ID == s.Node {
		note = append(note, "this node")
	} else if !x.Connected {
		note = append(note, "no connection")
	}
	if x.Leader {
		note = append(note, "leader")
	}
	if x.HeldBy != "" {
		note = append(note, fmt.Sprintf("held, %s left, by %s", human(x.Hold), x.HeldBy))
	}
	if len(x.Differs) > 0 && strings.HasPrefix(x.Reason, "its configuration differs") {
		x.Reason = "" // it is said below
	}
	if x.Reason != "" {
		note = append(note, x.Reason)
	}
	if len(x.Differs) > 0 {
		note = append(note, "its configuration differs in "+strings.Join(x.Differs, " "))
	}
	return strings.Join(note, ", ")
}

func lockspaceTable(w io.Writer, s *control.Status) error {
	n := namesOf(s)
	rows := make([][]string, 0, len(s.Lockspaces))
	for _, l := range s.Lockspaces {
		members := n.all(l.Members)
		if len(l.Next) > 0 && !slices.Equal(l.Next, l.Members) {
			members += " -> " + n.all(l.Next)
		}
		rows = append(rows, []string{l.Name, l.State, l.Local, members, waitCell(n, l.Waits)})
	}
	return table(w, "LOCKSPACE STATE HERE MEMBERS WAITS-FOR", rows)
}

// waitCell is the root of a lockspace's waits in a few words.
func waitCell(n names, waits []control.Wait) string {
	root, ok := rootCause(waits)
	if !ok {
		return ""
	}
	cell := root.For
	if root.Owner != 0 {
		cell += " of " + n.of(root.Owner)
	}
	return cell + ", " + human(root.Since)
}

func fencingTable(w io.Writer, s *control.Status) error {
	n := namesOf(s)
	rows := make([][]string, 0, len(s.Fencing))
	for _, f := range s.Fencing {
		next := ""
		if f.Next > 0 {
			next = "in " + human(f.Next)
		} else if f.Delay > 0 {
			next = "off within " + human(f.Delay)
		}
		victim := f.Name
		if victim == "" {
			victim = n.of(f.Victim.Node)
		}
		rows = append(rows, []string{victim, f.State, n.of(f.Actor), fmt.Sprint(f.Attempts), human(f.Since), next, f.LastErr})
	}
	return table(w, "FENCING STATE BY ATTEMPTS SINCE NEXT LAST-ERROR", rows)
}

func (a *app) nodesCmd() *cobra.Command {
	return &cobra.Command{
		Use: "nodes", Short: "List the nodes", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.status(c.Context())
			if err != nil {
				return err
			}
			if a.output == "json" {
				err = a.list(s.Nodes, len(s.Nodes))
			} else {
				err = nodeTable(a.out, s)
			}
			return errors.Join(err, level(s.Level))
		},
	}
}

func (a *app) lsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"lockspaces"}, Short: "List the lockspaces", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.status(c.Context())
			if err != nil {
				return err
			}
			switch {
			case a.output == "json":
				err = a.list(s.Lockspaces, len(s.Lockspaces))
			case len(s.Lockspaces) == 0:
				_, err = fmt.Fprintln(a.out, "no lockspaces")
			default:
				err = lockspaceTable(a.out, s)
			}
			return errors.Join(err, level(s.Level))
		},
	}
}

// find returns the node that a user named, by name or id.
func find(s *control.Status, word string) (control.NodeStatus, error) {
	known := make([]string, 0, len(s.Nodes))
	for _, x := range s.Nodes {
		if x.Name == word || fmt.Sprint(uint32(x.ID)) == word {
			return x, nil
		}
		known = append(known, x.Name)
	}
	return control.NodeStatus{}, fmt.Errorf("%w: there is no node %q: the nodes are %s", errUsage, word, strings.Join(known, ", "))
}

// completeNodes offers the nodes' names to the shell.
func (a *app) completeNodes(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	s, err := a.status(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, x := range s.Nodes {
		out = append(out, x.Name+"\t"+x.State)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
