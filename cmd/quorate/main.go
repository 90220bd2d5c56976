package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
)

// version is set by the linker.
var version = ""

// Exit statuses beyond the levels of control.Level.
const (
	exitRefused = 1
	exitDown    = 3
	exitUsage   = 64
	exitDenied  = 77
)

// errUsage is the user's mistake.
var errUsage = errors.New("usage")

// exitCode ends the program with a status and without a message.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// app is what the commands share.
type app struct {
	in       io.Reader
	out, err io.Writer
	socket   string
	output   string
	colour   bool
	tty      bool
	width    int  // of the terminal; 0: it is none
	started  bool // the arguments were understood
}

func run(args []string, in io.Reader, out, errw io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{in: in, out: out, err: errw}
	if f, ok := out.(*os.File); ok {
		a.tty = term.IsTerminal(int(f.Fd()))
		a.width, _, _ = term.GetSize(int(f.Fd())) // 0, if it is none
		a.colour = a.tty && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.started {
		err = misread(root, args, err)
	}
	return a.exit(err)
}

func (a *app) exit(err error) int {
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled):
		return 130
	case errors.Is(err, syscall.EPIPE):
		return 0 // quorate events | head
	}
	fmt.Fprintln(a.err, "quorate:", printable(strings.TrimPrefix(err.Error(), "usage: ")))
	switch {
	case errors.Is(err, control.ErrDown):
		return exitDown
	case errors.Is(err, os.ErrPermission):
		return exitDenied
	case !a.started, errors.Is(err, errUsage):
		return exitUsage
	}
	return exitRefused
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "quorate COMMAND",
		Short: "Look at and steer the cluster that this node is in",
		Long: `quorate asks the quorated of this node and prints the answer.

Start with:
  quorate status    is all well, and if not, why and what to do
  quorate why       what is waited for, the root cause first

Exit status: 0 all is well, 1 degraded or refused, 2 blocked, 3 quorated does
not answer, 64 wrong usage, 77 not permitted.

For day to day use see operating.md in ` + config.DocDir + `.`,
		Version:       ownVersion(),
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "table" && a.output != "json" {
				return fmt.Errorf("%w: -o %s is not known: use table or json", errUsage, a.output)
			}
			a.started = true
			return nil
		},
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", control.DefaultSocket, "control socket of quorated")
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "table", "table (for people) or json")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	root.Flags().Bool("version", false, "print the version of quorate and end; that of quorated, too: quorate version")
	root.SetVersionTemplate("quorate {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w: see `%s --help`", errUsage, plainly(err), c.CommandPath())
	})
	root.AddCommand(a.statusCmd(), a.nodesCmd(), a.linksCmd(), a.lsCmd(), a.eventsCmd(), a.whyCmd(), a.leaveCmd(), a.initCmd(), a.nodeCmd(), a.maintenanceCmd(), a.keyCmd(), a.fenceCmd(), a.quorumCmd(), a.witnessCmd(),
		a.keygenCmd(), a.configCmd(), a.versionCmd(), manCmd())
	sortIntoGroups(root)
	sayUsage(root)
	return root
}

// call asks the daemon once.
func (a *app) call(ctx context.Context, req control.Request) (control.Response, error) {
	c, err := control.Dial(a.socket)
	if err != nil {
		return control.Response{}, err
	}
	defer func() { _ = c.Close() }() // used up by Call
	return c.Call(ctx, req)
}

// status asks for the status.
func (a *app) status(ctx context.Context) (*control.Status, error) {
	r, err := a.call(ctx, control.Request{Command: "status"})
	if err != nil {
		return nil, err
	}
	if r.Status == nil {
		return nil, errors.New("the daemon's answer has no status: use the quorate of the same version as quorated")
	}
	return r.Status, nil
}

// level is the exit status of the commands that show a status.
func level(l control.Level) error {
	if l == control.OK {
		return nil
	}
	return exitCode(min(max(int(l), 1), 2))
}

func ownVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
