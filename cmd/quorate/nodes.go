package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
)

func (a *app) nodeAddCmd() *cobra.Command {
	var n config.NewNode
	var addrs []string
	var fence string
	var yes bool
	c := &cobra.Command{
		Use:   "add NAME --addr ADDR[,ADDR] [--id N] [--like NODE | --fence 'agent=NAME KEY=VALUE …']",
		Short: "Add a node to the running cluster",
		Long: `node add has the members agree on a configuration with one more node, as
'quorate config apply' does. It is refused while an evicted node is not proved gone,
and when the members would be no quorum with one more vote.

Say how the new node is cut off: by the same devices as another one, --like NODE (and
--plug, where those have plugs), or by a device of its own, --fence. Then install quorate
there, with the same secret and the file that

  quorate config show

prints, and start quorated. It is given the log, gets a vote when it has it, and
joins.

  quorate node add delta --id 4 --addr 10.0.0.4,10.0.1.4 --like gamma --plug 4
  quorate node add delta --addr 10.0.0.4 --fence 'agent=fence_ipmilan ip=ipmi-delta username=fence password_file=/etc/quorate/pw'`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			n.Name, n.Addrs = args[0], addrs
			if err := fenceOf(&n, fence); err != nil {
				return err
			}
			if len(addrs) == 0 {
				return fmt.Errorf("%w: say where it is: --addr ADDR, one for each link", errUsage)
			}
			return a.changeNodes(c, yes, nil, func(text string) (string, error) {
				if n.ID == 0 {
					n.ID = freeID(text)
				}
				return config.AddNode(text, n)
			})
		},
	}
	c.Flags().StringSliceVar(&addrs, "addr", nil, "its addresses, one for each link, the DLM's first")
	c.Flags().Uint64Var(&n.ID, "id", 0, "its id, never used before (default: one more than the highest)")
	c.Flags().StringVar(&n.Like, "like", "", "the node whose fence devices cut it off, too")
	c.Flags().StringVar(&n.Plug, "plug", "", "its plug at these devices")
	c.Flags().StringVar(&fence, "fence", "", "its own fence device: agent=NAME and the agent's options, KEY=VALUE")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// fenceOf takes a device from words.
func fenceOf(n *config.NewNode, words string) error {
	if words == "" {
		return nil
	}
	if n.Like != "" {
		return fmt.Errorf("%w: --like and --fence: say one of them", errUsage)
	}
	for _, w := range strings.Fields(words) {
		if name, ok := strings.CutPrefix(w, "agent="); ok {
			n.Agent = name
			continue
		}
		n.Options = append(n.Options, w)
	}
	if n.Agent == "" {
		return fmt.Errorf("%w: --fence without an agent: write 'agent=NAME KEY=VALUE …'", errUsage)
	}
	return nil
}

// freeID is an id above all others.
func freeID(text string) uint64 {
	c, err := config.ParseAgreed(text)
	if err != nil || len(c.Nodes) == 0 {
		return 1
	}
	return uint64(c.Nodes[len(c.Nodes)-1].ID) + 1
}

// changeNodes has the members agree on an edit of what is in force.
func (a *app) changeNodes(c *cobra.Command, yes bool, replace []membership.NodeID, edit func(text string) (string, error)) error {
	now, err := a.agreed(c, 0)
	if err != nil {
		return err
	}
	text, err := edit(now.Text)
	if err != nil {
		return err
	}
	return a.propose(c, now, compared(now, fmt.Sprintf("version %d", now.Config+1), text), yes, control.Request{Nodes: replace})
}

func (a *app) nodeRemoveCmd() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "remove NODE",
		Short: "Remove a node from the running cluster",
		Long: `node remove has the members agree on a configuration without a node: its vote, its
place in the log and its fence devices go. A member is drained first; a node that
was evicted has to be proved gone.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			x, err := a.noMember(c, args[0], "removed")
			if err != nil {
				return err
			}
			return a.changeNodes(c, yes, nil, func(text string) (string, error) { return config.RemoveNode(text, x.Name) })
		},
		ValidArgsFunction: a.completeNodes,
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// noMember is the node that is named, which must be no member: it is said before anything
// is asked.
func (a *app) noMember(c *cobra.Command, word, done string) (control.NodeStatus, error) {
	x, err := a.victim(c, word)
	if err == nil && (x.State == "member" || x.State == "suspect") {
		err = fmt.Errorf("%s is a member and cannot be %s: run `quorate node drain %s` first", x.Name, done, x.Name)
	}
	return x, err
}

func (a *app) nodeReplaceCmd() *cobra.Command {
	var addrs []string
	var yes bool
	c := &cobra.Command{
		Use:   "replace NODE [--addr ADDR[,ADDR]]",
		Short: "Let another machine, with an empty disk, be a node",
		Long: `node replace has the members agree that a node is another machine from now on, at
other addresses perhaps. The old one is no member any more: it left, or it was evicted
and is proved gone. Then install quorate on the new machine, with the same secret and
the file that 'quorate config show' prints, and start quorated: it joins under the
old name, with an empty log.

The old machine must not come back: two machines of one name take each other's place.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			x, err := a.noMember(c, args[0], "replaced")
			if err != nil {
				return err
			}
			return a.changeNodes(c, yes, []membership.NodeID{x.ID}, func(text string) (string, error) {
				if len(addrs) == 0 {
					return text, nil
				}
				return config.MoveNode(text, x.Name, addrs)
			})
		},
		ValidArgsFunction: a.completeNodes,
	}
	c.Flags().StringSliceVar(&addrs, "addr", nil, "its new addresses, one for each link, the DLM's first")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) nodeDrainCmd() *cobra.Command {
	var cancel bool
	c := &cobra.Command{
		Use:   "drain NODE",
		Short: "Ask a node to leave cleanly as soon as nothing is mounted there",
		Long: `node drain asks a node to leave. From then on nothing new is mounted there: a mount
or a program that asks for another lockspace gets an error. When the last lockspace
there has ended the node leaves cleanly, and its quorated ends. 'quorate why' says what
is still in use there; unmount it on that node.

--cancel takes it back. So does a start of quorated there.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			command := "drain"
			if cancel {
				command = "undrain"
			}
			return a.actOn(c, args[0], control.Request{Command: command})
		},
		ValidArgsFunction: a.completeNodes,
	}
	c.Flags().BoolVar(&cancel, "cancel", false, "take it back")
	return c
}
