// Command lab runs virtual nodes with real kernels, and talks to them.
//
//	lab up --nodes 3        run a lab until Ctrl-C
//	lab exec 1 uname -r     in another terminal
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/tools/lab"
)

// exitStatus is the exit status of a command in a node.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := command().ExecuteContext(ctx)
	var code exitStatus
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "lab", Short: "Virtual nodes with real kernels", SilenceUsage: true, SilenceErrors: true,
	}
	root.PersistentFlags().String("lab", "", "name of the running lab to talk to, when there are several")
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if f := c.Flag("lab"); f.Changed && !talks(c) {
			return fmt.Errorf("--lab %s: a lab is named when it starts; leave --lab away with `lab %s`, and give it to the commands that talk to that lab", f.Value, c.Name())
		}
		return nil
	}
	root.AddCommand(upCmd(), checkCmd(), prepareCmd(), execCmd(), shCmd(), putCmd(), consoleCmd())
	for _, v := range []struct {
		op, args, short string
	}{
		{"kill", "N", "sudden death of a node"},
		{"freeze", "N", "stop a node without killing it"},
		{"thaw", "N", "let a frozen node go on"},
		{"boot", "N", "power a node on"},
		{"reboot", "N", "kill a node and boot it again"},
		{"cutnode", "N", "drop everything between a node and all others"},
		{"heal", "", "undo every cut"},
		{"status", "", "what the nodes are doing"},
		{"down", "", "end the lab"},
	} {
		root.AddCommand(orderCmd(v.op, v.args, v.short))
	}
	cut := orderCmd("cut", "A B", "drop everything between two nodes on the cluster networks")
	cut.Flags().Bool("one-way", false, "only what A sends to B")
	root.AddCommand(cut)
	return root
}

// talks says whether a command is one to a lab that runs.
func talks(c *cobra.Command) bool {
	return !slices.Contains([]string{"up", "check", "prepare"}, c.Name())
}

func upCmd() *cobra.Command {
	var cfg lab.Config
	c := &cobra.Command{Use: "up", Short: "Run a lab until Ctrl-C or `lab down`", Args: cobra.NoArgs}
	f := c.Flags()
	sizeFlags(c, &cfg)
	f.IntVar(&cfg.Links, "links", 1, "how many cluster networks")
	f.StringVar(&cfg.Dir, "dir", "", "images and logs go into a new folder here (default /dev/shm/quorate-lab)")
	f.StringToStringVar(&cfg.Files, "file", nil, "GUEST=HOST, copy a file into every node at boot")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		cfg.Log = os.Stdout
		l, err := lab.New(c.Context(), cfg)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		if err := l.Up(c.Context()); err != nil {
			return err
		}
		fmt.Printf("%slab is up; Ctrl-C ends it\n", l.Status())
		return l.ServeControl(c.Context())
	}
	return c
}

// sizeFlags are what decides how much a lab needs of its host.
func sizeFlags(c *cobra.Command, cfg *lab.Config) {
	f := c.Flags()
	f.IntVar(&cfg.Nodes, "nodes", 3, "how many nodes")
	f.IntVar(&cfg.Mem, "mem", 0, "MiB of memory a node (default 384, emulated 900)")
	rootFlags(c, cfg)
}

// rootFlags are what decides which files a lab needs.
func rootFlags(c *cobra.Command, cfg *lab.Config) {
	c.Flags().BoolVar(&cfg.Systemd, "systemd", false, "process 1 is Debian's systemd, and the root is kept from boot to boot")
	c.Flags().StringSliceVar(&cfg.Kernels, "kernel", nil, "kernel of node 1, 2 and so on, the last one for all further nodes: "+
		strings.Join(lab.KernelNames(), ", ")+" (default $"+lab.EnvKernel+" or "+lab.DefaultKernel+")")
}

func checkCmd() *cobra.Command {
	var cfg lab.Config
	c := &cobra.Command{Use: "check", Short: "Say what this machine lacks", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if !lab.Check(os.Stdout, cfg) {
				return errors.New("this machine cannot run such a lab as it is")
			}
			return nil
		}}
	sizeFlags(c, &cfg)
	return c
}

func prepareCmd() *cobra.Command {
	var cfg lab.Config
	c := &cobra.Command{Use: "prepare", Short: "Install what is missing, build the root file system, fetch kernels", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			img, err := lab.Prepare(c.Context(), cfg, os.Stdout)
			if err != nil {
				return err
			}
			for _, k := range img.Kernels {
				fmt.Printf("lab: %s is Linux %s in %s\n", k.Name, k.Release, k.Dir)
			}
			return nil
		}}
	rootFlags(c, &cfg)
	return c
}

func remote(c *cobra.Command) (*lab.Remote, error) {
	name, err := c.Flags().GetString("lab")
	if err != nil {
		return nil, err
	}
	return lab.FindRemote(name)
}

func numbers(args []string) (ns []int, err error) {
	for _, a := range args {
		n, err := strconv.Atoi(a)
		if err != nil {
			return nil, fmt.Errorf("%q is not a node's number", a)
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// orderCmd is a subcommand that is one order to the running lab.
func orderCmd(op, args, short string) *cobra.Command {
	want := map[string]int{"": 0, "N": 1, "A B": 2}[args]
	return &cobra.Command{Use: op + " " + args, Short: short, Args: cobra.ExactArgs(want),
		RunE: func(c *cobra.Command, words []string) error {
			ns, err := numbers(words)
			if err != nil {
				return err
			}
			r, err := remote(c)
			if err != nil {
				return err
			}
			o := lab.Order{Op: op, Args: ns}
			if one, err := c.Flags().GetBool("one-way"); err == nil && one {
				o.Op = "cut1"
			}
			text, err := r.Do(o)
			if err == nil && text != "" {
				fmt.Println(text)
			}
			return err
		}}
}
