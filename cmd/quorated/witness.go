package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/witness"
	"github.com/quorate/quorate/membership"
)

// witnessFlags are those of `quorated --witness`.
type witnessFlags struct {
	state, listen, advertise, name string
	valid                          time.Duration
}

// set makes the flags known.
func (f *witnessFlags) set(s *flag.FlagSet) {
	s.StringVar(&f.state, "state", "", "with --witness: its `directory` (default /var/lib/quorate-witness, or a user's state directory)")
	s.StringVar(&f.listen, "listen", "", "with --witness: `address` to listen on (default :"+strconv.Itoa(witness.DefaultPort)+")")
	s.StringVar(&f.advertise, "advertise", "", "with --witness token: `host:port` as the nodes reach it (default: this machine's name)")
	s.StringVar(&f.name, "name", "", "with --witness: its `name` (default: this machine's)")
	s.DurationVar(&f.valid, "for", time.Hour, "with --witness token: how long it is good")
}

const witnessUsage = `usage:
  quorated --witness                        serve, until SIGTERM
  quorated --witness token [--for 1h] [--advertise HOST:PORT]
                                            print a token, good for one cluster, once
  quorated --witness list                   list the clusters that it votes for
  quorated --witness forget ID              drop a cluster; stop the witness first

Each takes --state DIRECTORY, when it is not the default one; serving takes --listen
ADDRESS and --name NAME as well. See quorated -h and witness.md in `

func witnessHelp() string { return witnessUsage + config.DocDir + "\n" }

// runWitness is everything of a witness; flags may come after the word, too.
func (f *witnessFlags) runWitness(args []string, debug bool, out, complaints io.Writer) int {
	word := ""
	if len(args) > 0 {
		word = args[0]
		more := flag.NewFlagSet("quorated --witness "+word, flag.ContinueOnError)
		more.SetOutput(complaints)
		keep := *f
		f.set(more)
		*f = keep
		var err error
		switch args, err = anywhere(more, args[1:]); {
		case errors.Is(err, flag.ErrHelp):
			return 0
		case err != nil: // it is said already
			return exitUsage
		}
	}
	if f.state == "" {
		f.state = witness.DefaultState()
	}
	switch said := strings.TrimSpace("--witness " + word); {
	case word == "forget" && len(args) != 1:
		return wrongWitness(complaints, fmt.Sprintf("%q takes the id of one cluster: see quorated --witness list", said))
	case word != "forget" && len(args) != 0:
		return wrongWitness(complaints, fmt.Sprintf("%q takes no arguments, and was given %q", said, strings.Join(args, " ")))
	}
	var err error
	switch word {
	case "":
		err = f.serve(debug)
	case "token":
		err = f.token(out, complaints)
	case "list":
		err = f.list(out)
	case "forget":
		err = witness.Forget(f.state, args[0])
	case "help":
		fmt.Fprint(out, witnessHelp())
	default:
		return wrongWitness(complaints, fmt.Sprintf("there is no %q", word))
	}
	if err != nil {
		fmt.Fprintln(complaints, "quorated --witness:", err)
		return 1
	}
	return 0
}

// anywhere reads flags before, between and after the arguments, which it returns.
func anywhere(s *flag.FlagSet, words []string) (args []string, err error) {
	for {
		if err := s.Parse(words); err != nil || s.NArg() == 0 {
			return args, err
		}
		args, words = append(args, s.Arg(0)), s.Args()[1:]
	}
}

func wrongWitness(complaints io.Writer, why string) int {
	fmt.Fprintf(complaints, "quorated --witness: %s\n%s", why, witnessHelp())
	return exitUsage
}

func (f *witnessFlags) serve(debug bool) error {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	if f.name == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("this machine's name: %w: say --name", err)
		}
		f.name = name
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	lines := witness.NewLines(os.Stderr)
	defer lines.Close()
	return witness.Run(ctx, f.options(slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: level}))))
}

func (f *witnessFlags) token(out, notes io.Writer) error {
	t, err := witness.MakeToken(f.state, f.advertise, f.valid)
	if err != nil {
		return err
	}
	fmt.Fprintf(notes, "For one cluster, once, until %s; on one of its nodes run: quorate witness add TOKEN\n", t.Expires.Local().Format("2006-01-02 15:04"))
	_, err = fmt.Fprintln(out, t.Reveal())
	return err
}

func (f *witnessFlags) list(out io.Writer) error {
	all, err := witness.List(f.state)
	for _, e := range all {
		votes := "not joined yet"
		if e.Joined {
			votes = "joined"
		}
		fmt.Fprintf(out, "%s  %s  %s, %s, enrolled %s\n", e.ID, e.Cluster, membership.Count(len(e.Nodes), "node"), votes, e.At.Local().Format("2006-01-02 15:04"))
	}
	if len(all) == 0 && err == nil {
		fmt.Fprintf(out, "no clusters in %s (--state names another directory); make a token with: quorated --witness token\n", f.state)
	}
	return err
}

func (f *witnessFlags) options(log *slog.Logger) witness.Options {
	return witness.Options{State: f.state, Listen: f.listen, Name: f.name, Log: log, Ready: func(net.Addr) {
		_, _ = sd.SdNotify(false, sd.SdNotifyReady) // without systemd there is nobody to tell
	}}
}
