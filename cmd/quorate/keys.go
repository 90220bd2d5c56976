package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership/rotation"
)

func (a *app) keyCmd() *cobra.Command {
	return group("key", "Change the cluster's secret while everything runs", "",
		a.keyRotateCmd(), a.keyStatusCmd(), a.keySwitchCmd(), a.keyDropCmd(), a.keyReloadCmd())
}

func (a *app) keyRotateCmd() *cobra.Command {
	var now bool
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Make a new key and have it take over on all nodes",
		Long: `key rotate draws a new key on this node, adds it to the key file and hands it to
all nodes over their connections, where it is added, too. When all configured nodes
have it, they send with it; when all do, they drop the older keys. Nothing is
restarted, and nobody loses a connection or a probe. A node that is down is waited
for, and catches up when it is back. Follow it with: quorate key status

With --now nodes that are away are left out, after ten seconds: copy the key file
of another node to such a one before it is started again. Nodes that are connected
are always waited for.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.act(c, control.Request{Command: "key-rotate", Force: now})
		},
	}
	c.Flags().BoolVar(&now, "now", false, "do not wait for nodes that are away")
	return c
}

func (a *app) keySwitchCmd() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "switch",
		Short: "Have a key take over that is loaded already",
		Long: `key switch has the newest loaded key take over, when all configured nodes have it:
one that was added to the files by hand. The older ones are dropped then.

With --force nodes that are away are left out, after ten seconds, of a rotation that
waits for them, too: copy the key file of another node to such a one before it is
started again.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.act(c, control.Request{Command: "key-switch", Force: force})
		},
	}
	c.Flags().BoolVar(&force, "force", false, "do not wait for nodes that are away")
	return c
}

func (a *app) keyDropCmd() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "drop EPOCH",
		Short: "Drop a key that nobody sends with, on all nodes",
		Long: `key drop takes a key out of the files of this node and of all that are connected. It
is refused while a node sends with it, or may: one that is away may have begun to since
it was last heard. That of a rotation can be dropped until a node sends with it, which
ends the rotation.

With --force nodes that are away are left out. Such a one, if it sends with the key by
then or has no other, can come back only with the key file of another node.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			epoch, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil || epoch == 0 {
				return fmt.Errorf("%w: %q is no epoch: see `quorate key status` for the numbers", errUsage, args[0])
			}
			return a.act(c, control.Request{Command: "key-drop", Epoch: uint32(epoch), Force: force})
		},
	}
	c.Flags().BoolVar(&force, "force", false, "do not ask those who are away")
	return c
}

func (a *app) keyReloadCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have this node read its key file again",
		Long: `key reload loads the key file as it is now on this node, after it was changed by
hand. It is refused while a connected node would not be understood, or would not
understand this one: append a new line everywhere first.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.act(c, control.Request{Command: "key-reload"})
		},
	}
}

func (a *app) keyStatusCmd() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say which node has which keys, and what a rotation waits for",
		Long: `key status lists which keys each node has loaded, by their epochs and fingerprints; it
sends with the first and accepts all. No key is shown.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.status(c.Context())
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.json(s.Keys)
			}
			return keyTable(a.out, s)
		},
	}
}

func keyTable(w io.Writer, s *control.Status) error {
	if s.Keys == nil {
		_, err := fmt.Fprintln(w, "no keys are loaded")
		return err
	}
	if p := s.Keys.Plan; p != nil {
		fmt.Fprintf(w, "key %v is to take over: %s\n", p.Key, stages[s.Keys.Stage])
		for _, x := range s.Waits {
			if x.For == "key" {
				fmt.Fprintf(w, "  %s%s\n", oneLine(x.Reason), times(x))
				if x.Command != "" {
					fmt.Fprintf(w, "  do: %s\n", oneLine(x.Command))
				}
			}
		}
		fmt.Fprintln(w)
	}
	rows := make([][]string, 0, len(s.Keys.Nodes))
	for _, x := range s.Keys.Nodes {
		rows = append(rows, keyRow(s, x))
	}
	return table(w, "NODE SENDS-WITH ACCEPTS-TOO NOTE", rows)
}

// stages say how far a rotation is.
var stages = map[string]string{
	"awaiting":  "it is not loaded here yet",
	"spreading": "not all nodes are known to have loaded it",
	"switching": "not all nodes are known to send with it",
	"dropping":  "all nodes send with it, and the older ones go",
}

func keyRow(s *control.Status, x control.KeyNode) []string {
	var note []string
	if x.ID == s.Node {
		note = append(note, "this node")
	} else if !x.Connected {
		note = append(note, "no connection")
	}
	if x.Err != "" {
		note = append(note, x.Err)
	}
	if len(x.Keys) == 0 {
		return []string{x.Name, "", "", strings.Join(append(note, "has not said since quorated started here"), ", ")}
	}
	return []string{x.Name, x.Keys[0].String(), keyList(x.Keys[1:]), strings.Join(note, ", ")}
}

func keyList(keys []rotation.Key) string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.String()
	}
	return strings.Join(out, ", ")
}
