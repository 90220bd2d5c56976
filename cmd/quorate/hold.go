package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/control"
)

func (a *app) nodeCmd() *cobra.Command {
	return group("node", "Add, remove and replace nodes, drain one, and announce that one will stand still", ", and `quorate nodes` for the list",
		a.nodeAddCmd(), a.nodeRemoveCmd(), a.nodeReplaceCmd(), a.nodeDrainCmd(), a.holdCmd(), a.releaseCmd())
}

func (a *app) holdCmd() *cobra.Command {
	var long time.Duration
	c := &cobra.Command{
		Use:   "hold NODE --for DURATION",
		Short: "Announce that a node will stand still for a while",
		Long: `hold announces that a node will stand still: a live migration, a snapshot of a
virtual machine, work on its switch. Run it on any node, and begin when it has
answered. Until the hold ends the node is not evicted for its silence; after
that it has the usual dead_after. It stays in its lockspaces: locks that it
masters, and changes that need its word, wait for it. If it leads, another node
leads from then on.

A hold lasts a second to ten minutes (30s, 2m), and a second one counts anew from
then. Each node counts by a clock that nobody sets. A node that dies in a hold is
missed no sooner than the hold ends: announce no longer than you need, and end it
with 'quorate node release'.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if long <= 0 {
				return fmt.Errorf("%w: say for how long: quorate node hold %s --for 30s", errUsage, args[0])
			}
			return a.actOn(c, args[0], control.Request{Command: "hold", For: long})
		},
		ValidArgsFunction: a.completeNodes,
	}
	c.Flags().DurationVar(&long, "for", 0, "how long, 1s to 10m")
	return c
}

func (a *app) releaseCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "release NODE",
		Short: "End a hold: the node runs again",
		Long: `release ends a hold before its time: the node runs again, or is to be missed. Where
nobody is there to agree, as on the other one of two, the hold is over after 10 s for
this node alone, which fences the silent one if it may go on without it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.actOn(c, args[0], control.Request{Command: "release"})
		},
		ValidArgsFunction: a.completeNodes,
	}
}

// actOn does something to a node that the user named.
func (a *app) actOn(c *cobra.Command, word string, req control.Request) error {
	x, err := a.victim(c, word)
	if err != nil {
		return err
	}
	req.Node = x.ID
	return a.act(c, req)
}
