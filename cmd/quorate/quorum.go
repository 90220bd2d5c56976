package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/control"
)

func (a *app) quorumCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "quorum",
		Short: "Say whose votes count, what is missing, and what the next loss would do",
		Long: `quorum says in one line whether this node's side may decide for the cluster, then
what is missing and by which rule of [quorum] that was decided. The table has a line
for each node: its votes, whether they count among the expected ones, and what
happens when it is the next to be lost:

  stays quorate             the others go on at once
  goes on after fencing it  the others go on when its end is proved, by that rule
  STOPS                     the others wait for votes

Exit status, as of 'quorate status': 0 all is well, 1 degraded, 2 blocked.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.status(c.Context())
			if err != nil {
				return err
			}
			if s.Quorum == nil {
				return errors.New("the daemon's answer says nothing of votes: use the quorate of the same version as quorated")
			}
			if a.output == "json" {
				err = a.json(s.Quorum)
			} else {
				err = a.printQuorum(a.out, s)
			}
			return errors.Join(err, level(s.Level))
		},
	}
	c.AddCommand(a.overrideCmd())
	return c
}

func (a *app) printQuorum(w io.Writer, s *control.Status) error {
	q := s.Quorum
	state, numbers, _ := strings.Cut(oneLine(q.Text), ": ")
	colour := red
	if q.Quorate {
		colour = green
	}
	line := func(what, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-10s %s\n", what+":", oneLine(text))
		}
	}
	fmt.Fprintf(w, "%s: %s\n", a.paint(colour, strings.ToUpper(state)), numbers)
	line("missing", q.Missing)
	line("takeover", q.Takeover)
	line("do", q.Do)
	fmt.Fprintln(w)
	rows := make([][]string, 0, len(q.Nodes))
	for _, x := range q.Nodes {
		rows = append(rows, []string{x.Name, fmt.Sprint(x.Votes), x.State, countsCell(x), lossCell(x)})
	}
	err := table(w, "NODE VOTES STATE COUNTS IF-LOST-NEXT", rows)
	fmt.Fprintln(w)
	line("decided", q.Rule+": "+strings.TrimPrefix(q.Why, q.Rule+": "))
	line("rules", strings.Join(q.Rules, ", "))
	if q.Override != "" {
		line("override", "by "+q.Override)
	}
	line("seen from", namesOf(s).of(s.Node))
	return err
}

func countsCell(x control.QuorumNode) string {
	switch {
	case !x.Counts:
		return strings.TrimSuffix("no: "+x.Why, ": ")
	case x.Votes == 0:
		return "no vote"
	}
	return "yes"
}

func lossCell(x control.QuorumNode) string {
	switch {
	case x.IfLost != nil:
		return x.IfLost.Text
	case !x.Present:
		return "is not here"
	}
	return ""
}

func (a *app) overrideCmd() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "override",
		Short: "Let this node go on without nodes that will not come up",
		Long: `quorum override is for a cluster that does not start, or goes on no more, because
nodes are missing that will not come up: 'quorate quorum' names them. On this node it

  ends the wait of wait_for_all, after all nodes were down;
  allows to fence the missing ones, though this node was in no quorum since it booted;
  lets half of the voters (the nodes that count, and the witness) go on by no other
  rule, as one of two without two_node and without a witness.

It proves nothing: every missing node that may hold the storage is fenced first, or
waits for 'quorate fence ack'. Of one that had left, or was proved gone, before this node
was down, it is your word that it is off: it is not fenced again.
Fewer than half of the voters it does not help, and is refused: one of two nodes whose
witness is gone as well needs one of the two back. Use it on one node alone, and not
when the others may be up behind a broken network: they are powered off. It holds
until quorated ends.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.status(c.Context())
			if err != nil {
				return err
			}
			if !yes {
				if why := noOverride(s); why != "" {
					return errors.New(why)
				}
				if err := a.confirm("override", overrideText(s)); err != nil {
					return err
				}
			}
			return a.act(c, control.Request{Command: "quorum-override"})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// noOverride is why the daemon would refuse it: that is said before anything is asked.
func noOverride(s *control.Status) string {
	switch q := s.Quorum; {
	case q == nil:
		return ""
	case q.Quorate:
		return "the cluster is quorate: there is nothing to override; see `quorate quorum`"
	default:
		return q.NoOverride
	}
}

func overrideText(s *control.Status) string {
	who, off := "the nodes that were not seen", ""
	if s.Quorum != nil {
		var absent, gone []string
		for _, x := range s.Quorum.Nodes {
			if x.ID.IsWitness() {
				continue // nobody fences it
			}
			if x.Counts && !x.Present || slices.Contains(s.Quorum.Awaited, x.ID) {
				absent = append(absent, x.Name)
			}
			if !x.Counts && slices.Contains(s.Quorum.Awaited, x.ID) {
				gone = append(gone, x.Name)
			}
		}
		if len(gone) > 0 {
			off = fmt.Sprintf(`

It had left, or was proved gone, before this node was down, and is NOT FENCED AGAIN: %s
Say yes only when it is off. Started since, and overridden like this node, it may run
and write to the same storage.`, strings.Join(gone, ", "))
		}
		if len(absent) > 0 {
			who = strings.Join(absent, ", ")
		}
	}
	return fmt.Sprintf(`This node no longer waits for: %s
It may fence them, and with half of the voters it goes on without them. If one of them
is up, and only the network between is broken, it is powered off, and what it has not
written yet is lost. If it was the last one up before all went down, this node may not
know the last that was agreed.

Do it on one node alone: two that override each other shoot each other.%s`, who, off)
}
