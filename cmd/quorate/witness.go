package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
)

func (a *app) witnessCmd() *cobra.Command {
	return group("witness", "Add a witness to the cluster, see it, and remove it", "",
		a.witnessAddCmd(), a.witnessRemoveCmd(), a.witnessShowCmd())
}

func (a *app) witnessAddCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "add TOKEN",
		Short: "Have a witness vote for this cluster",
		Long: `witness add has a witness vote for this cluster: a quorated --witness on another
machine, which gives two nodes a third vote and four a fifth. Make the token there,
with 'quorated --witness token'; it is good once. With - in its place it is read
from the standard input, where no list of processes shows it.

Run it on one node. The others learn of the witness by themselves. A witness that
is lost alone is a warning; which nodes may be lost besides, a majority of all votes
decides. The witness never gets the cluster's secret.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			token := args[0]
			if token == "-" {
				line, err := bufio.NewReader(io.LimitReader(a.in, 4096)).ReadString('\n')
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				token = line
			}
			if token = strings.TrimSpace(token); token == "" {
				return fmt.Errorf("%w: the token is empty: copy the line that `quorated --witness token` prints", errUsage)
			}
			return a.act(c, control.Request{Command: "witness-add", Token: token})
		},
	}
}

func (a *app) witnessRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "remove",
		Short: "Go on without the witness",
		Long: `witness remove takes the witness's vote away. It needs no word of the witness, and
is refused where the members alone would be no quorum. What the witness keeps of
this cluster is dropped there with: quorated --witness forget ID`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.act(c, control.Request{Command: "witness-remove"})
		},
	}
}

func (a *app) witnessShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show the witness as this node sees it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.status(c.Context())
			if err != nil {
				return err
			}
			if a.output == "json" {
				return errors.Join(a.json(s.Witness), level(s.Level))
			}
			if s.Witness == nil {
				_, err := fmt.Fprintf(a.out, "no witness; %s says how to add one in a minute\n", filepath.Join(config.DocDir, "witness.md"))
				return err
			}
			w := s.Witness
			fmt.Fprintln(a.out, witnessLine(s))
			fmt.Fprintf(a.out, "fingerprint %s\n", oneLine(w.Fingerprint))
			if w.Who != "" {
				fmt.Fprintf(a.out, "added by %s\n", oneLine(w.Who))
			}
			return level(s.Level)
		},
	}
}

// witnessLine is the witness in one line.
func witnessLine(s *control.Status) string {
	w := s.Witness
	silent := s.Quorum != nil && slices.ContainsFunc(s.Quorum.Nodes, func(n control.QuorumNode) bool { return n.ID == w.ID && n.State == "silent" })
	out := []string{fmt.Sprintf("witness %s at %s", w.Name, w.Addr)}
	switch {
	case w.Votes && silent:
		out = append(out, "has a vote and is SILENT")
	case w.Votes:
		out = append(out, "votes")
	default:
		out = append(out, "does NOT vote yet")
	}
	if w.Heard >= 0 {
		out = append(out, "heard "+human(w.Heard)+" ago")
	} else {
		out = append(out, "never heard here")
	}
	if !w.Connected {
		out = append(out, "no connection")
		if w.Err != "" {
			out = append(out, w.Err)
		}
	}
	return oneLine(strings.Join(out, ", "))
}
