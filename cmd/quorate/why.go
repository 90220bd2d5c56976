package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/control"
)

// causes orders what is waited for: each can only end after those before it.
var causes = []string{"config", "probes", "quorum", "maintenance", "hold", "view", "fencing", "unfencing", "stop", "start", "recovery", "join"}

// causeRank is the place of a wait in that order. A proof with which fewer than a
// quorum go on comes before the quorum: it is what the operator can give.
func causeRank(w control.Wait) int {
	if w.Rule != "" {
		return causeRank(control.Wait{For: "config"})
	}
	if i := slices.Index(causes, w.For); i >= 0 {
		return i
	}
	return len(causes)
}

// rootCause is the one wait that the others hang on: the earliest in the order
// of a recovery, and of these the oldest.
func rootCause(waits []control.Wait) (control.Wait, bool) {
	if len(waits) == 0 {
		return control.Wait{}, false
	}
	return slices.MinFunc(waits, func(a, b control.Wait) int {
		return cmp.Or(cmp.Compare(causeRank(a), causeRank(b)), cmp.Compare(b.Since, a.Since), cmp.Compare(a.What, b.What))
	}), true
}

// allWaits is what the cluster and every lockspace wait for; or, of one
// lockspace, its own waits and those of the cluster that hold up everything.
func allWaits(s *control.Status, lockspace string) []control.Wait {
	waits := slices.Clone(s.Waits)
	if lockspace != "" {
		waits = slices.DeleteFunc(waits, func(w control.Wait) bool {
			return w.What != "lockspace "+lockspace && causeRank(w) > causeRank(control.Wait{For: "view"})
		})
	}
	for _, l := range s.Lockspaces {
		if lockspace != "" && l.Name != lockspace {
			continue
		}
		for _, w := range l.Waits {
			w.What = cmp.Or(w.What, "lockspace "+l.Name)
			if !slices.ContainsFunc(waits, func(o control.Wait) bool { return o.What == w.What && o.For == w.For && o.Owner == w.Owner }) {
				waits = append(waits, w)
			}
		}
	}
	return waits
}

// printCause prints the root cause and what to do about it.
func (a *app) printCause(w io.Writer, s *control.Status, waits []control.Wait) {
	root, ok := rootCause(waits)
	switch {
	case ok:
		reason := root.Reason
		if root.Command != "" { // it is said once, in the line below
			reason = strings.TrimSuffix(reason, ": "+root.Command)
		}
		fmt.Fprintf(w, "\n  cause: %s%s\n", oneLine(reason), times(root))
		if do := a.todo(s, root); do != "" {
			fmt.Fprintf(w, "  do:    %s\n", do)
		}
	case s.Level >= control.Blocked:
		fmt.Fprint(w, "\n  cause: not known here\n  do:    quorate events, and quorate status on the other nodes\n")
	}
}

// hints are what to do where the daemon names no command.
var hints = map[string]string{
	"config": "make /etc/quorate/quorate.toml the same on every node, then: quorated -check",
	"quorum": "bring the other nodes or the network between them up; whose votes are missing: quorate quorum; who was refused: quorate events; look at both ends with: quorated -check",
}

func (a *app) todo(s *control.Status, root control.Wait) string {
	name := namesOf(s).of(root.Owner)
	switch {
	case root.Command != "":
		return a.paint(yellow, oneLine(root.Command))
	case root.Deadline > 0:
		return "nothing yet: it is dealt with within " + human(root.Deadline)
	case hints[root.For] != "":
		return hints[root.For]
	case root.Owner.IsWitness():
		return "look at the witness, and the network to it: quorate witness show"
	case name != "" && root.Owner != s.Node:
		return fmt.Sprintf("look at %s; run there: quorate status", name)
	}
	return ""
}

// times is for how long, and until when.
func times(w control.Wait) string {
	out := " (for " + human(w.Since)
	if w.Deadline > 0 {
		out += ", next step in " + human(w.Deadline)
	}
	return out + ")"
}

// answer is the JSON of why.
type answer struct {
	Level control.Level  `json:"level"`
	Root  *control.Wait  `json:"root,omitempty"`
	Waits []control.Wait `json:"waits"`
}

func (a *app) whyCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "why [LOCKSPACE]",
		Short: "Say what is waited for, the root cause first",
		Long: `why says what this node, the cluster and its lockspaces wait for: first the cause
that the others hang on and what to do about it, then every wait, for how long
already, and of which node. Use it when a mount, a lock or another command hangs, or
when 'quorate status' is not OK. With the name of a lockspace it says what holds
up that one.

Exit status: 0 all is well, 1 degraded, 2 blocked.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			req := control.Request{Command: "why"}
			if len(args) > 0 {
				req.Lockspace = args[0]
			}
			r, err := a.call(c.Context(), req)
			if err != nil {
				return err
			}
			if r.Status == nil {
				_, err := fmt.Fprintln(a.out, printable(r.Text))
				return err
			}
			return a.why(r.Status, req.Lockspace, r.Text)
		},
		ValidArgsFunction: a.completeLockspaces,
	}
}

func (a *app) why(s *control.Status, lockspace, text string) error {
	if lockspace != "" && !slices.ContainsFunc(s.Lockspaces, func(l control.LockspaceStatus) bool { return l.Name == lockspace }) {
		return fmt.Errorf("%w: there is no lockspace %q: see `quorate ls`", errUsage, lockspace)
	}
	waits := allWaits(s, lockspace)
	slices.SortStableFunc(waits, func(x, y control.Wait) int {
		return cmp.Or(cmp.Compare(causeRank(x), causeRank(y)), cmp.Compare(y.Since, x.Since))
	})
	if a.output == "json" {
		ans := answer{Level: s.Level, Waits: append([]control.Wait{}, waits...)}
		if root, ok := rootCause(waits); ok {
			ans.Root = &root
		}
		return errors.Join(a.json(ans), level(s.Level))
	}
	a.printWhy(s, lockspace, waits)
	if text != "" {
		fmt.Fprintf(a.out, "\n%s\n", printable(text))
	}
	return level(s.Level)
}

func (a *app) printWhy(s *control.Status, lockspace string, waits []control.Wait) {
	if len(waits) == 0 {
		subject := "nothing is waited for"
		if lockspace != "" {
			subject = "lockspace " + lockspace + " waits for nothing"
		}
		fmt.Fprintf(a.out, "%s: %s\n", a.verdict(s), subject)
		if lockspace == "" {
			a.printCause(a.out, s, nil)
		}
		a.printWarnings(a.out, s)
		return
	}
	n := namesOf(s)
	what := "the cluster"
	if lockspace != "" {
		what = "lockspace " + lockspace
	}
	fmt.Fprintf(a.out, "%s: %s waits\n", a.verdict(s), what)
	a.printCause(a.out, s, waits)
	fmt.Fprintln(a.out)
	root, _ := rootCause(waits)
	rows := make([][]string, 0, len(waits))
	for _, w := range waits {
		if w.Reason == root.Reason {
			w.Reason = "the cause above"
		}
		rows = append(rows, []string{w.What, w.For, n.of(w.Owner), human(w.Since), w.Reason})
	}
	_ = table(a.out, "WHO WAITS-FOR NODE SINCE REASON", rows) // a terminal that is gone needs no table
	a.printWarnings(a.out, s)
}

func (a *app) completeLockspaces(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	s, err := a.status(c.Context())
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, l := range s.Lockspaces {
		out = append(out, l.Name+"\t"+l.State)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
