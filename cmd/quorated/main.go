// Command quorated keeps a cluster's membership and quorum, fences lost nodes,
// and drives the kernel's DLM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/quorate/quorate/cmd/quorated/check"
	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/daemon"
	"github.com/quorate/quorate/cmd/quorated/dist"
	"github.com/quorate/quorate/membership/fence/agent"
	"github.com/quorate/quorate/membership/liveness"
)

type flags struct {
	config, node, socket string
	check, version       bool
	debug                bool
	witness              bool
	witnessFlags
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// set makes the flags known.
func (f *flags) set() *flag.FlagSet {
	s := flag.NewFlagSet("quorated", flag.ContinueOnError)
	s.StringVar(&f.config, "config", "/etc/quorate/quorate.toml", "configuration `file`, the same on all nodes")
	s.StringVar(&f.node, "node", "", "`name` of this node, when its addresses do not tell")
	s.StringVar(&f.socket, "socket", "/run/quorate/quorated.sock", "control `socket`")
	s.BoolVar(&f.check, "check", false, "test the file and this machine, print a line for each, and end")
	s.BoolVar(&f.version, "version", false, "print the version and end")
	s.BoolVar(&f.debug, "debug", false, "log more")
	s.BoolVar(&f.witness, "witness", false, "vote for clusters, as a witness, and do nothing else; no root is needed (quorated --witness help)")
	f.witnessFlags.set(s)
	return s
}

func run(args []string, out, complaints io.Writer) int {
	var f flags
	set := f.set()
	set.SetOutput(complaints)
	switch err := set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil: // it is said already
		return exitUsage
	}
	if f.version {
		fmt.Fprintln(out, "quorated", daemon.Version)
		if plantedBug != "" {
			fmt.Fprintln(out, daemon.Planted(plantedBug))
		}
		return 0
	}
	if f.witness {
		return f.runWitness(set.Args(), f.debug, out, complaints)
	}
	if set.NArg() == 2 && set.Arg(0) == "man" { // packages are built with it
		return man(set, set.Arg(1), complaints)
	}
	if set.NArg() > 0 {
		fmt.Fprintf(complaints, "quorated: unexpected argument %s; see quorated -h\n", strconv.Quote(set.Arg(0)))
		return exitUsage
	}
	if f.check {
		return min(check.File(context.Background(), out, f.config, f.node, f.socket), 1)
	}
	err := serve(f)
	if err == nil {
		return 0
	}
	fmt.Fprintln(complaints, "quorated:", err)
	var file *config.OpError // a file that cannot be read; one that is not there does not come by itself
	if errors.Is(err, config.ErrInvalid) || errors.Is(err, config.ErrSelf) || errors.As(err, &file) && errors.Is(file, os.ErrNotExist) {
		return exitConfig
	}
	return 1
}

// man writes the manual pages that quorate does not have into a directory.
func man(set *flag.FlagSet, dir string, complaints io.Writer) int {
	if err := dist.WritePages(dir, set, dist.BuildDate()); err != nil {
		fmt.Fprintln(complaints, "quorated:", err)
		return 1
	}
	return 0
}

// exitUsage is for wrong usage (EX_USAGE of sysexits.h); it does not get better by
// itself either.
const exitUsage = 64

// exitConfig says that trying again is useless until an operator has changed
// the configuration (EX_CONFIG of sysexits.h); the unit does not restart on it.
const exitConfig = 78

func load(f flags) (config.Config, error) {
	cfg, err := config.Load(f.config)
	if err != nil {
		return cfg, err
	}
	local, err := config.LocalAddrs()
	if err != nil {
		return cfg, err
	}
	if err := liveness.CheckTiming(cfg.Timing); err != nil {
		return cfg, fmt.Errorf("%s: [liveness]: %w", f.config, err)
	}
	return cfg.Bind(local, f.node)
}

func serve(f flags) error {
	if os.Geteuid() != 0 {
		return errors.New("it drives the kernel's DLM and has to run as root")
	}
	cfg, err := load(f)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if f.debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	agent.LogLauncher(log)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(term)
	return daemon.Run(context.Background(), daemon.Options{Config: cfg, Socket: f.socket, Log: log, Fencer: newRefencer(cfg), Term: term, Break: plantedBug,
		Ready: func() {
			// Without systemd there is nobody to tell, and that is no error.
			_, _ = sd.SdNotify(false, sd.SdNotifyReady+"\nSTATUS=To stop it: unmount, then run: quorate leave")
		}})
}
