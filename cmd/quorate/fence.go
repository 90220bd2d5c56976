package main

import (
	"cmp"
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

func (a *app) fenceCmd() *cobra.Command {
	return group("fence", "Cut nodes off, confirm that they are, and see what was done", "",
		a.fenceAckCmd(), a.fenceNodeCmd(), a.fenceTestCmd(), a.fenceHistoryCmd())
}

func (a *app) fenceAckCmd() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "ack NODE",
		Short: "Confirm that a node is powered off or cut from the storage",
		Long: `fence ack takes your word for it that a node is powered off or cut from the shared
storage, in place of a fence device's. Use it when the node was evicted and no
device can prove that it is gone: 'quorate why' then names this command. It needs
a quorum, or a rule of [quorum] by which this node goes on with that proof, and is
refused for a node that was not evicted; one that nobody has seen since a start of
the whole cluster, and that is waited for, is evicted with it.

The other nodes then replay the node's journals and take its locks. If it still
runs, both write to the same blocks and THE FILE SYSTEMS ARE DESTROYED. Look at its
power light or its management board, not at whether it answers.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.status(c.Context())
			if err != nil {
				return err
			}
			x, err := find(s, args[0])
			if err != nil {
				return err
			}
			if !yes {
				if err := a.confirm(x.Name, ackText(x, cmp.Or(s.DeadAfter, defaultDeadAfter))); err != nil {
					return err
				}
			}
			return a.act(c, control.Request{Command: "fence-ack", Node: x.ID})
		},
		ValidArgsFunction: a.completeNodes,
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// ackText says what is vouched for. Whoever was heard within deadAfter is alive.
func ackText(x control.NodeStatus, deadAfter time.Duration) string {
	text := fmt.Sprintf(`You are about to vouch that %s (%d) is powered off or cut from the shared storage.
The other nodes then replay its journals and take its locks. If it still runs,
both write to the same blocks and THE FILE SYSTEMS ARE DESTROYED.

Look at its power light or its management board, not at whether it answers.`, x.Name, x.ID)
	switch {
	case x.Heard >= 0 && x.Heard < deadAfter:
		text += fmt.Sprintf("\n\n!! %s IS ALIVE: state %s, last heard %s ago.", x.Name, x.State, human(x.Heard))
	case x.Heard >= 0:
		text += fmt.Sprintf("\n\n!! %s was last heard %s ago. Its silence proves nothing: it may run and write.", x.Name, human(x.Heard))
	case x.Connected:
		text += fmt.Sprintf("\n\n!! %s's daemon is connected. Its silence proves nothing: it may run and write.", x.Name)
	}
	return text
}

func (a *app) fenceNodeCmd() *cobra.Command {
	var yes, wait bool
	var limit time.Duration
	c := &cobra.Command{
		Use:   "node NODE",
		Short: "Evict a node and cut it off with its fence devices",
		Long: `fence node evicts a member and powers it off with its fence devices; the others
then take over its locks and replay its journals. What it has not written yet is
lost. Use it for a node that hangs, cannot unmount, or has to go at once; one that
still works leaves cleanly, with 'quorate leave' there.

It needs fence devices for the node, and a quorum without it, or a rule of [quorum]
by which this node may go on alone. It ends a hold of the node. Follow what becomes of
it with: quorate events --follow

With --wait it returns when the node is proved gone, whoever asked for that and
however it was proved; while a leader is being elected it asks again. Exit status
then: 0 proved gone, 1 refused, 2 not proved within --timeout (the cluster goes on
trying), 3 quorated does not answer. A handler of DRBD's fence-peer event may answer
7 (fenced) for 0, and 1 for all else, so that I/O stays frozen:

  quorate fence node --yes --wait --timeout 50s NODE && exit 7; exit 1`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !wait && c.Flags().Changed("timeout") || limit <= 0 {
				return fmt.Errorf("%w: --timeout is how long --wait waits, 1s or more: quorate fence node %s --wait --timeout 60s", errUsage, args[0])
			}
			s, err := a.status(c.Context())
			if err != nil {
				return err
			}
			x, err := find(s, args[0])
			if err != nil {
				return err
			}
			if !yes {
				if err := a.confirm(x.Name, fenceText(s, x)); err != nil {
					return err
				}
			}
			if wait {
				return a.fenceAndWait(c.Context(), x, limit)
			}
			return a.act(c, control.Request{Command: "fence-node", Node: x.ID})
		},
		ValidArgsFunction: a.completeNodes,
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&wait, "wait", false, "wait until the node is proved gone")
	c.Flags().DurationVar(&limit, "timeout", time.Minute, "how long to wait, with --wait")
	return c
}

func fenceText(s *control.Status, x control.NodeStatus) string {
	text := fmt.Sprintf(`%s (%d, now %s) will be evicted and powered off by its fence devices.
What it has not written yet is lost; the others take over its locks.`, x.Name, x.ID, x.State)
	if x.ID == s.Node {
		text += "\n\n!! " + x.Name + " IS THE NODE THAT YOU ARE ON. It leaves cleanly with 'quorate leave'."
	}
	return text
}

// defaultDeadAfter is that of a daemon which does not say.
const defaultDeadAfter = 2 * time.Second

// exitUnproved: what was waited for has not come.
const exitUnproved = 2

// waitLook is how often --wait looks, and askAgain after what time it asks again.
const (
	waitLook = 200 * time.Millisecond
	askAgain = 3 * time.Second
)

// fenceAndWait asks for it and waits for the proof.
func (a *app) fenceAndWait(ctx context.Context, was control.NodeStatus, limit time.Duration) error {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	look := time.NewTicker(waitLook)
	defer look.Stop()
	var asked time.Time
	told := ""
	for {
		s, err := a.status(ctx)
		if err != nil {
			return err
		}
		x, err := find(s, was.Name)
		if err != nil {
			return err
		}
		if how := provedGone(was, x); how != "" {
			return a.answer(control.Response{Text: fmt.Sprintf("%s is proved gone (%s)", x.Name, how)})
		}
		if x.State == "left" && !asked.IsZero() {
			return fmt.Errorf("%s left cleanly meanwhile: it was not fenced, and nothing proves that it is off", x.Name)
		}
		// It is asked again while nobody is at it: the view may have changed just before
		// it was to be ordered, or a leader was being elected.
		if x.State != "evicted" && x.State != "fencing" && time.Since(asked) >= askAgain || asked.IsZero() {
			r, err := a.call(ctx, control.Request{Command: "fence-node", Node: was.ID})
			if err != nil && !r.Again {
				return err
			}
			if err == nil && r.Text != told {
				told = r.Text
				fmt.Fprintln(a.err, printable(told))
			}
			if asked = time.Now(); err != nil {
				asked = asked.Add(waitLook - askAgain)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			fmt.Fprintln(a.err, "quorate:", oneLine(unproved(s, x, limit)))
			return exitCode(exitUnproved)
		case <-look.C:
		}
	}
}

// provedGone says how the life that a node had is known to be over; empty: it is not.
func provedGone(was, now control.NodeStatus) string {
	switch {
	case now.State != "member" && now.State != "suspect" && now.Proved != "":
		return now.Proved
	case was.Boot != "" && now.Boot != "" && now.Boot != was.Boot: // admitted anew, which takes the proof
		return "it is back as another boot"
	}
	return ""
}

// unproved says what stands in the way.
func unproved(s *control.Status, x control.NodeStatus, limit time.Duration) string {
	text := fmt.Sprintf("%s is not proved gone after %s; the cluster goes on trying", x.Name, human(limit))
	for _, w := range s.Waits {
		if w.Owner == x.ID && w.For == "fencing" && w.Rule != "" { // nothing can be agreed, and it is tried all the same
			return fmt.Sprintf("%s: %s%s", text, w.Reason, times(w))
		}
	}
	for _, f := range s.Fencing {
		if f.Victim.Node == x.ID && f.LastErr != "" {
			return fmt.Sprintf("%s: attempt %d failed: %s", text, f.Attempts, f.LastErr)
		}
	}
	return text + ": see `quorate why`"
}

func (a *app) fenceTestCmd() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "test NODE|--all",
		Short: "Ask the fence devices of a node whether they would work from here",
		Long: `fence test runs the agents of the node's devices on this node, with the actions
monitor and status, one after the other, and prints what they answer. It switches
nothing. A device whose STATE is not the node's is wired to another machine.

Exit status: 0 every device answered, 1 one did not.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) == 1) {
				return fmt.Errorf("%w: name a node, or say --all", errUsage)
			}
			req := control.Request{Command: "fence-test"}
			if !all {
				x, err := a.victim(c, args[0])
				if err != nil {
					return err
				}
				req.Node = x.ID
			}
			return a.fenceTest(c.Context(), req)
		},
		ValidArgsFunction: a.completeNodes,
	}
	c.Flags().BoolVar(&all, "all", false, "the devices of every node")
	return c
}

func (a *app) fenceTest(ctx context.Context, req control.Request) error {
	s, err := a.status(ctx)
	if err != nil {
		return err
	}
	r, err := a.call(ctx, req)
	if err != nil {
		return err
	}
	if a.output == "json" {
		err = a.list(r.Tests, len(r.Tests))
	} else {
		err = testTable(a.out, r.Tests, namesOf(s))
	}
	if slices.ContainsFunc(r.Tests, func(t control.FenceTest) bool { return !t.OK() }) {
		err = errors.Join(err, exitCode(exitRefused))
	}
	return err
}

func testTable(w io.Writer, tests []control.FenceTest, n names) error {
	rows := make([][]string, 0, len(tests))
	for _, t := range tests {
		monitor, state := t.Monitor, t.State
		if monitor == "" {
			monitor = "FAILED"
		}
		if state == "" {
			state = "unknown"
		}
		rows = append(rows, []string{n.of(t.Node), fmt.Sprint(t.Level), t.Agent, t.Plug, monitor, state, human(t.Took), t.Err})
	}
	return table(w, "NODE LEVEL AGENT PLUG MONITOR STATE TOOK DETAIL", rows)
}

func (a *app) fenceHistoryCmd() *cobra.Command {
	var verbose bool
	c := &cobra.Command{
		Use:   "history [NODE]",
		Short: "List what was done to cut nodes off, oldest first",
		Long: `fence history lists every attempt to cut a node off, by whom, and what came of it;
an operator's word (fence ack) with who gave it. DETAIL is what was wrong, or the
last line that the agent printed; -v shows all that was kept of it (4 KiB, without
secrets).`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.status(c.Context())
			if err != nil {
				return err
			}
			r, err := a.call(c.Context(), control.Request{Command: "fence-history"})
			if err != nil {
				return err
			}
			history, nobody := r.History, "nobody was fenced"
			known := namesOf(s)
			for _, h := range history {
				if h.Name != "" { // it was removed
					known[h.Victim.Node] = h.Name
				}
			}
			if len(args) == 1 {
				x, err := find(s, args[0])
				if i := slices.IndexFunc(history, func(h control.FenceRecord) bool { return h.Name == args[0] }); i >= 0 {
					x, err = control.NodeStatus{ID: history[i].Victim.Node, Name: args[0]}, nil
				}
				if err != nil {
					return err
				}
				history = slices.DeleteFunc(history, func(h control.FenceRecord) bool { return h.Victim.Node != x.ID })
				nobody = x.Name + " was not fenced"
			}
			switch {
			case a.output == "json":
				return a.list(history, len(history))
			case len(history) == 0:
				_, err := fmt.Fprintln(a.out, nobody)
				return err
			case verbose:
				return historyOutput(a.out, history, known)
			}
			return historyTable(a.out, history, known)
		},
		ValidArgsFunction: a.completeNodes,
	}
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show all that was kept of what the agents printed")
	return c
}

func historyTable(w io.Writer, history []control.FenceRecord, n names) error {
	rows := make([][]string, 0, len(history))
	for _, h := range history {
		rows = append(rows, historyRow(h, n))
	}
	return table(w, "WHEN NODE RESULT HOW BY TOOK DETAIL", rows)
}

func historyRow(h control.FenceRecord, n names) []string {
	result, by, took := "proved", n.of(h.Actor), ""
	if !h.OK {
		result = "FAILED"
	}
	if h.Who != "" {
		by = strings.TrimPrefix(by+", "+h.Who, ", ")
	}
	if h.Took > 0 {
		took = human(h.Took)
	}
	how := h.How
	if h.Agent != "" {
		how += " " + h.Agent
	}
	detail := h.Err
	if detail == "" {
		detail = lastLine(h.Output)
	}
	return []string{clock(h.Wall, "2006-01-02 15:04:05"), n.of(h.Victim.Node), result, how, by, took, detail}
}

// historyOutput is the table with each attempt's output below its line, indented.
func historyOutput(w io.Writer, history []control.FenceRecord, n names) error {
	var b strings.Builder
	if err := historyTable(&b, history, n); err != nil {
		return err
	}
	lines := strings.SplitAfter(b.String(), "\n")
	out := lines[0]
	for i, h := range history {
		out += lines[i+1]
		for line := range strings.Lines(strings.TrimRight(h.Output, "\n")) {
			out += "    " + printable(strings.TrimRight(line, "\n")) + "\n"
		}
	}
	_, err := io.WriteString(w, out)
	return err
}

func lastLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return s[strings.LastIndexByte(s, '\n')+1:]
}
