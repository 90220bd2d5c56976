package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

func (a *app) maintenanceCmd() *cobra.Command {
	return group("maintenance", "Announce work on the whole cluster, and say that it is over", ", and `quorate status` for whether it is in force",
		a.maintenanceOnCmd(), a.maintenanceOffCmd())
}

func (a *app) maintenanceOnCmd() *cobra.Command {
	var long time.Duration
	var yes bool
	c := &cobra.Command{
		Use:   "on --for DURATION",
		Short: "Announce work during which no node is evicted for its silence",
		Long: `maintenance on announces work on what all nodes depend on: their switches, their
power, the hosts of virtual machines. Begin when it has answered. Until it ends
no node is evicted and fenced for its silence, a lost link, a stalled daemon or a
stuck step; an operator's 'quorate fence node' goes through, and so does what a
node does itself: it leaves, or it boots again and comes back.

THE PRICE: A NODE THAT DIES MEANWHILE IS NOT FENCED. It stays a member, its locks
and its journals stay, and everybody who needs them waits until the end.
'quorate why' names it.

A maintenance lasts a minute to 24 hours (30m, 2h). Each node counts by a clock
that nobody sets. Another one counts anew from then, and is no shorter than what
is left of the first; 'quorate maintenance off' ends it. For one node that will
stand still there is 'quorate node hold'.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if long <= 0 {
				return fmt.Errorf("%w: say for how long: quorate maintenance on --for 30m", errUsage)
			}
			if long < cluster.MinMaintenance || long > cluster.MaxMaintenance {
				return fmt.Errorf("%w: a maintenance lasts from %s to %s, not %s", errUsage, membership.Short(cluster.MinMaintenance), membership.Short(cluster.MaxMaintenance), membership.Short(long))
			}
			if !yes {
				s, err := a.status(c.Context())
				if err != nil {
					return err
				}
				if err := a.confirm(s.Cluster, maintenanceText(s, long)); err != nil {
					return err
				}
			}
			return a.act(c, control.Request{Command: "maintenance-on", For: long})
		},
	}
	c.Flags().DurationVar(&long, "for", 0, "how long, 1m to 24h")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// maintenanceText is what an operator is about to do, and what is not well already.
func maintenanceText(s *control.Status, long time.Duration) string {
	text := fmt.Sprintf(`For %s no node of cluster %s will be evicted or fenced for its silence.
A NODE THAT DIES MEANWHILE IS NOT FENCED: its locks and journals stay, and
everybody who needs them waits until the end. 'quorate maintenance off' ends it.`, human(long), s.Cluster)
	if m := s.Maintenance; m != nil {
		text += fmt.Sprintf("\n\n!! one by %s is in force, %s left: this one takes its place, and is no shorter.", m.Who, human(m.Left))
	}
	for _, x := range s.Nodes {
		if x.State == "suspect" {
			text += fmt.Sprintf("\n\n!! %s IS SILENT NOW: its locks wait for the end, too.", x.Name)
		}
	}
	return text
}

func (a *app) maintenanceOffCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "off",
		Short: "End a maintenance: silence counts again",
		Long: `maintenance off ends a maintenance. Silence counts again, from then: a node that
does not answer within dead_after is evicted, and fenced if it holds lockspaces.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.act(c, control.Request{Command: "maintenance-off"})
		},
	}
}
