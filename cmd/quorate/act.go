package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"golang.org/x/term"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership/secret"
)

func (a *app) leaveCmd() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use:   "leave",
		Short: "Take this node out of the cluster cleanly",
		Long: `leave takes this node out of the cluster, ends quorated, and returns when that
has ended. It is refused while a lockspace is in use here: unmount the file
systems first.

A node that cannot unmount is taken out by force from another one, where it is
evicted and powered off: quorate fence node NODE.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.leave(c, control.Request{Command: "leave"}, wait)
		},
	}
	c.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait for the end of quorated; 0: not at all")
	return c
}

// leave asks for it and waits until the daemon's process has ended: what comes
// next may start another one, or touch its files.
func (a *app) leave(c *cobra.Command, req control.Request, wait time.Duration) error {
	client, err := control.Dial(a.socket)
	if err != nil {
		return err
	}
	p, err := client.Process()
	if err != nil {
		return errors.Join(err, client.Close())
	}
	defer func() { _ = p.Close() }() // nothing was written
	r, err := client.Call(c.Context(), req)
	if err != nil {
		return err
	}
	if wait > 0 {
		if err := p.WaitEnd(c.Context(), wait); err != nil {
			return err
		}
	}
	return a.answer(r)
}

func (a *app) initCmd() *cobra.Command {
	var yes, rejoin bool
	c := &cobra.Command{
		Use:   "init",
		Short: "Form a cluster anew although this node had a log, which is lost",
		Long: `Form a cluster anew although this node had a log, which is lost.

A node with an empty log joins by itself where a majority of the others still
have theirs. Only when no node has one does 'quorate status' ask for this, on each
node that lost its log.

With --rejoin the node still has its log, and gives it up: of two nodes, or halves,
each went on without the other, because a fence device lied or an operator let it,
and nothing runs on either before one side forgets what it agreed on since. Run it
on all nodes of that side; where lockspaces are in use, reboot first.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			what, text := "init", initText
			if rejoin {
				what, text = "rejoin", rejoinText
			}
			if !yes {
				if err := a.confirm(what, text); err != nil {
					return err
				}
			}
			return a.act(c, control.Request{Command: what})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&rejoin, "rejoin", false, "give up this node's log for that of a node which went on without it")
	return c
}

const rejoinText = `What this node agreed on since it went on without the others is forgotten: who was
admitted, evicted and proved gone. No data on the shared disk is touched.

Choose the side on which nothing ran since, or less; 'quorate why' names both. Both may
have written to the disk: check the file systems before they are used again.`

const initText = `What the cluster had agreed is forgotten: who was evicted, whose end was never
proved, who vouched for what. No data on the shared disk is touched; journals are
replayed by the next mounts.

If a node that is not running now still has its log, start that node instead.`

func (a *app) victim(c *cobra.Command, word string) (control.NodeStatus, error) {
	s, err := a.status(c.Context())
	if err != nil {
		return control.NodeStatus{}, err
	}
	return find(s, word)
}

// confirm shows the consequences and wants the name typed.
func (a *app) confirm(name, consequences string) error {
	fmt.Fprintf(a.err, "%s\n\nType %s to go on: ", printable(consequences), printable(name))
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if f, ok := a.in.(*os.File); !ok || err != nil || !term.IsTerminal(int(f.Fd())) {
		fmt.Fprintln(a.err) // nobody pressed Enter
	}
	if strings.TrimSpace(line) != name {
		return errors.New("not confirmed, nothing was done (scripts: --yes)")
	}
	return nil
}

// act asks for a change and prints what the daemon says.
func (a *app) act(c *cobra.Command, req control.Request) error {
	r, err := a.call(c.Context(), req)
	if err != nil {
		return err
	}
	return a.answer(r)
}

// answer prints what the daemon said of something that was done.
func (a *app) answer(r control.Response) error {
	if a.output == "json" {
		return a.json(struct {
			Text string `json:"text"`
		}{r.Text})
	}
	if r.Text == "" {
		r.Text = "done"
	}
	_, err := fmt.Fprintln(a.out, printable(r.Text))
	return err
}

func (a *app) keygenCmd() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "keygen [-]",
		Short: "Make the cluster's secret",
		Long: `keygen makes the cluster's secret, mode 0600, and never replaces one. Run it on one
node and copy the file to all others. It makes the directory of the file where there is
none, and says so; not those above it. With - a new line is printed instead, for
rotation.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] != "-" {
				return fmt.Errorf("%w: write the file with -f %s", errUsage, args[0])
			}
			if len(args) == 1 || file == "-" {
				return secret.Generate(a.out)
			}
			_, missing := os.Stat(filepath.Dir(file))
			if err := secret.WriteFile(file); err != nil {
				return err
			}
			if errors.Is(missing, fs.ErrNotExist) {
				fmt.Fprintf(a.out, "made the directory %s\n", filepath.Dir(file))
			}
			_, err := fmt.Fprintf(a.out, "wrote %s: copy it to every node of the cluster, mode 0600, by a safe way (scp)\n", file)
			return err
		},
	}
	c.Flags().StringVarP(&file, "file", "f", secret.Path, "the file to make; - prints it")
	return c
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the versions of quorate and of the daemon", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := struct {
				Quorate  string `json:"quorate"`
				Quorated string `json:"quorated,omitempty"`
				Protocol int    `json:"protocol,omitempty"`
				Feature  int    `json:"feature,omitempty"`
			}{Quorate: ownVersion()}
			s, err := a.status(c.Context())
			if err == nil {
				v.Quorated, v.Protocol, v.Feature = s.Version, s.Protocol, s.Feature
			}
			if a.output == "json" {
				return a.json(v)
			}
			daemon := "does not answer"
			switch {
			case err == nil:
				daemon = fmt.Sprintf("%s (protocol %d, feature level %d)", v.Quorated, v.Protocol, v.Feature)
			case errors.Is(err, os.ErrPermission):
				daemon = "not permitted to ask"
			}
			_, err = fmt.Fprintf(a.out, "quorate  %s\nquorated %s\n", v.Quorate, daemon)
			return err
		},
	}
}

// manCmd writes the manual pages; packages are built with it.
func manCmd() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the manual pages into a directory", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			for _, sub := range c.Root().Commands() {
				sub.Hidden = sub.Hidden || sub.Name() == "completion" // five pages that nobody needs
			}
			c.Root().DisableAutoGenTag = true
			// The date is SOURCE_DATE_EPOCH, or now.
			return doc.GenManTree(c.Root(), &doc.GenManHeader{Title: "QUORATE", Section: "8", Source: "quorate", Manual: "quorate"}, args[0])
		},
	}
}
