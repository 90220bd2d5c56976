package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
)

// configCmds are those that ask the daemon.
func (a *app) configCmds() []*cobra.Command {
	return []*cobra.Command{a.configShowCmd(), a.configDiffCmd(), a.configApplyCmd(), a.configRollbackCmd(), a.configWriteCmd()}
}

func (a *app) configShowCmd() *cobra.Command {
	var own, list bool
	c := &cobra.Command{
		Use:   "show [VERSION]",
		Short: "Print the configuration that is in force, or a former version",
		Long: `show prints the configuration that the members agreed on and work by. The file
/etc/quorate/quorate.toml is where a new cluster begins; from then on the agreed
version wins, and of the file each node keeps what it decides by itself: key_file,
kernel, state.dir, events.send_to, liveness.reflector, and secrets, for which the
agreed text has "(own)".

'quorate config write' makes the file of this node what is in force. Do not send the
output of this command there: a shell empties the file first, and its secrets are lost.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			v, err := version0(args)
			if err != nil {
				return err
			}
			r, err := a.call(c.Context(), control.Request{Command: "config-show", Version: v, Own: own})
			switch {
			case err != nil:
				return err
			case list:
				return a.configVersions(r.Configs)
			case a.output == "json":
				return a.json(struct {
					Version uint64 `json:"version"`
					Text    string `json:"text"`
				}{r.Config, r.Text})
			}
			_, err = io.WriteString(a.out, r.Text)
			return err
		},
	}
	c.Flags().BoolVar(&own, "own", false, "with what this node decides by itself, as its file has it")
	c.Flags().BoolVar(&list, "list", false, "list the versions that are known")
	return c
}

// version0 is the version that a user named; 0: none.
func version0(args []string) (uint64, error) {
	if len(args) == 0 {
		return 0, nil
	}
	v, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil || v == 0 {
		return 0, fmt.Errorf("%w: %s is no version: see `quorate config show --list`", errUsage, args[0])
	}
	return v, nil
}

func (a *app) configVersions(all []control.ConfigVersion) error {
	if a.output == "json" {
		return a.list(all, len(all))
	}
	rows := make([][]string, 0, len(all))
	for _, c := range all {
		rows = append(rows, []string{strconv.FormatUint(c.Version, 10), clock(c.Wall, "2006-01-02 15:04:05"), dash(c.Who)})
	}
	return table(a.out, "VERSION PROPOSED BY", rows)
}

func (a *app) configDiffCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "diff [FILE]",
		Short: "Compare a file with the configuration that is in force",
		Long: `diff prints what applying FILE (that of this node, /etc/quorate/quorate.toml) would
change. Secrets, and what each node decides by itself, are left out. Below it stands
which nodes that would add and remove, and what the rules for the quorum would become;
or why apply would refuse it, and the exit status is 1. What each member looks for on its
own machine, as the agents and the files of passwords, apply alone finds out.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			now, err := a.agreed(c, 0)
			if err != nil {
				return err
			}
			x, err := a.changed(c, now, fileName(args, now))
			if err != nil {
				return err
			}
			return a.printChange(x)
		},
	}
}

// printChange prints a difference and what it does.
func (a *app) printChange(x change) error {
	if len(x.diff) == 0 {
		_, err := fmt.Fprintln(a.err, x.nothing("no difference"))
		return err
	}
	below := x.means
	if x.refused != "" {
		below = []string{"apply would refuse this: " + x.refused}
	}
	_, err := a.out.Write(x.diff)
	if err == nil && len(below) > 0 {
		_, err = fmt.Fprintln(a.out, "\n"+printable(strings.Join(below, "\n")))
	}
	for _, note := range x.own {
		fmt.Fprintln(a.err, "note:", printable(note))
	}
	if err == nil && x.refused != "" {
		return exitCode(exitRefused)
	}
	return err
}

// fileName is the file that was named, or the one that this node's quorated was started with.
func fileName(args []string, now control.Response) string {
	if len(args) == 0 {
		return cmp.Or(now.Path, config.DefaultPath)
	}
	return args[0]
}

// agreed asks for a version; 0: the one in force.
func (a *app) agreed(c *cobra.Command, version uint64) (control.Response, error) {
	return a.call(c.Context(), control.Request{Command: "config-show", Version: version})
}

// change is another text than the one in force.
type change struct {
	text    string
	diff    []byte   // empty: it says the same
	means   []string // what that does
	refused string   // why the members would not have it; empty: they may
	own     []string // what is to be known of the file besides
}

// nothing says that there is no difference.
func (x change) nothing(text string) string {
	return strings.Join(append([]string{text}, x.own...), "; ")
}

// changed reads a file as a text that may be agreed on, and compares it with what is.
func (a *app) changed(cmd *cobra.Command, now control.Response, name string) (change, error) {
	c, err := config.Read(name)
	if err != nil {
		return change{}, err
	}
	file, err := config.Parse(name, []byte(c)) // what is wrong there is said with its name and line
	if err != nil {
		return change{}, err
	}
	text, err := config.Agreeable(c, now.Text)
	if err != nil {
		return change{}, fmt.Errorf("%s: %w", name, err)
	}
	x, err := a.judged(cmd, now, compared(now, name, text), file)
	if err != nil {
		return change{}, err
	}
	x.own, err = a.ownNotes(cmd, now, name, file)
	return x, err
}

// ownNotes says what is to be known of a file besides what can be agreed on.
func (a *app) ownNotes(cmd *cobra.Command, now control.Response, name string, file config.Config) ([]string, error) {
	r, err := a.call(cmd.Context(), control.Request{Command: "config-show", Own: true})
	if err != nil {
		return nil, err
	}
	own, err := config.ParseAgreed(r.Text)
	if err != nil {
		return nil, err
	}
	path, err := filepath.Abs(name)
	here := err == nil && path == now.Path
	var notes []string
	if note := config.LocalNote(file, own, here); note != "" {
		notes = append(notes, note)
	}
	if here {
		notes = append(notes, now.Notes...)
	}
	return notes, nil
}

// judged finds out whether the members would refuse a change. Own is what a node has as its file.
func (a *app) judged(cmd *cobra.Command, now control.Response, x change, own config.Config) (change, error) {
	if len(x.diff) == 0 {
		return x, nil
	}
	s, err := a.status(cmd.Context())
	if err != nil {
		return change{}, err
	}
	var members []membership.NodeID
	for _, n := range s.Nodes {
		if n.State == "member" {
			members = append(members, n.ID)
		}
	}
	x.refused = config.Refusal(now.Text, x.text, own, members)
	return x, nil
}

// compared is a text beside the one that is in force.
func compared(now control.Response, name, text string) change {
	if config.SameText(now.Text, text) {
		return change{text: text}
	}
	return change{text: text, diff: unified(now, name, text), means: config.Means(now.Text, text)}
}

// unified is the difference between what is in force and a text.
func unified(now control.Response, name, text string) []byte {
	return diff.Diff(fmt.Sprintf("version %d", now.Config), []byte(now.Text), name, []byte(text))
}

func (a *app) configApplyCmd() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "apply [FILE]",
		Short: "Have the members agree on a file, and work by it",
		Long: `apply proposes FILE (that of this node, /etc/quorate/quorate.toml) as the next version.
Every member checks whether it can work by it: that it is valid, that its times and votes can
work together, that the fence agents and the secret are there. When all have said
yes it is in force everywhere at once, while everything runs; when one says no
nothing is changed anywhere, and the answer says who and why. A node that is away
is given the new version before it is admitted again.

Times, fence devices, votes and rules of [quorum] can be changed; nodes are added,
removed and replaced with 'quorate node'. The cluster's name, the ports and the group
stay while it runs. Secrets are refused: they would be in the logs of all nodes.
Have an option name a file or program on every node.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			now, err := a.agreed(c, 0)
			if err != nil {
				return err
			}
			x, err := a.changed(c, now, fileName(args, now))
			if err != nil {
				return err
			}
			return a.propose(c, now, x, yes, control.Request{})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// propose shows what a text would change, asks, and has it agreed on.
func (a *app) propose(c *cobra.Command, now control.Response, x change, yes bool, req control.Request) error {
	if len(x.diff) == 0 && len(req.Nodes) == 0 {
		return errors.New(x.nothing(fmt.Sprintf("nothing would change: version %d is the same", now.Config)))
	}
	if x.refused != "" {
		return errors.New("it would be refused: " + x.refused)
	}
	means := strings.Join(x.means, "\n")
	if yes && means != "" {
		fmt.Fprintln(a.err, printable(means))
	}
	if !yes {
		if means != "" {
			means += "\n"
		}
		if err := a.confirm("apply", fmt.Sprintf("%s\n%sThis becomes version %d at every node, or nothing changes.", x.diff, means, now.Config+1)); err != nil {
			return err
		}
	}
	req.Command, req.Text, req.Version = "config-apply", x.text, now.Config
	return a.act(c, req)
}

func (a *app) configRollbackCmd() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "rollback [VERSION]",
		Short: "Have the members agree on a former version again",
		Long: `rollback proposes the text of a former version (the one before) as the next one, in
the same way as apply.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			v, err := version0(args)
			if err != nil {
				return err
			}
			now, err := a.agreed(c, 0)
			if err != nil {
				return err
			}
			if v == 0 {
				if len(now.Configs) < 2 {
					return errors.New("there is no former version; see `quorate config show --list`")
				}
				v = now.Configs[1].Version
			}
			old, err := a.agreed(c, v)
			if err != nil {
				return err
			}
			was, err := config.ParseAgreed(old.Text)
			if err != nil {
				return err
			}
			x, err := a.judged(c, now, compared(now, fmt.Sprintf("version %d", v), old.Text), was)
			if err != nil {
				return err
			}
			return a.propose(c, now, x, yes, control.Request{})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}
