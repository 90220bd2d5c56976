package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const defaultNotify = "10.77.0.1:9999"

// event is what these programs tell the host's collector. It carries no time: a
// node's clock is not the host's, so the host stamps what it receives.
type event struct {
	Node  string `json:"node"`
	Event string `json:"event"`
	File  string `json:"file,omitempty"`
	ID    int    `json:"id,omitempty"`
	Seq   int    `json:"seq,omitempty"`
	Error string `json:"error,omitempty"`
	Text  string `json:"text,omitempty"`
}

// notifier sends events; a lost datagram is no error.
type notifier struct {
	conn net.Conn
	node string
}

func newNotifier(addr string) (*notifier, error) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return nil, err
	}
	name, err := os.Hostname()
	return &notifier{c, name}, err
}

func (n *notifier) tell(e event) {
	e.Node = n.node
	b, err := json.Marshal(e)
	if err != nil {
		return
	}
	n.conn.Write(b)
}

// several is for parse: one positional argument or more.
const several = -1

// parse takes flags before and after the positional arguments, of which it wants
// so many.
func parse(fs *flag.FlagSet, args []string, want int) ([]string, error) {
	var pos []string
	fs.SetOutput(io.Discard)
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if fs.NArg() == 0 {
			break
		}
		pos = append(pos, fs.Arg(0))
		args = fs.Args()[1:]
	}
	if len(pos) != want && (want != several || len(pos) == 0) {
		return nil, fmt.Errorf("%d arguments are not what it wants (see the package's documentation)", len(pos))
	}
	return pos, nil
}

// retry calls f again for as long as a signal interrupts it.
func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func flock(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	return flockUntil(ctx, args, os.Stdout)
}

// flockUntil holds an exclusive flock until ctx ends, or waits for a shared one, and
// tells the collector when it has it. One that waits is not interrupted, but what it
// gets after the end of ctx it tells nobody.
func flockUntil(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("flock", flag.ContinueOnError)
	addr := fs.String("notify", defaultNotify, "collector")
	pos, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	what, file := pos[0], pos[1]
	how := unix.LOCK_EX
	switch what {
	case "hold":
	case "wait":
		how = unix.LOCK_SH
	default:
		return fmt.Errorf("%s: hold or wait", what)
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := retry(func() error { return unix.Flock(int(f.Fd()), how) }); err != nil {
		return fmt.Errorf("flock %s: %w", file, err)
	}
	if ctx.Err() != nil {
		return nil
	}
	n, err := newNotifier(*addr)
	if err != nil {
		return err
	}
	defer n.conn.Close()
	if what == "wait" {
		n.tell(event{Event: "granted", File: file})
		fmt.Fprintln(out, "granted")
		return nil
	}
	n.tell(event{Event: "held", File: file})
	fmt.Fprintln(out, "held")
	<-ctx.Done()
	return nil
}

// appendLoop appends lines "ID SEQ" and tells the host a sequence after its
// fsync, and not before. It stops at the first error: so what it told last and
// everything before it must be in the file.
func appendLoop(args []string) error {
	fs := flag.NewFlagSet("append", flag.ContinueOnError)
	id := fs.Int("id", 0, "writer's number, in every line")
	rate := fs.Float64("rate", 0, "lines a second, 0: as fast as it goes")
	count := fs.Int("count", 0, "stop after so many, 0: never")
	addr := fs.String("notify", defaultNotify, "collector")
	pos, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	n, err := newNotifier(*addr)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(pos[0], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	return paced(*rate, *count, func(seq int) error {
		if err := appendOne(f, *id, seq); err != nil {
			n.tell(event{Event: "append-error", File: pos[0], ID: *id, Seq: seq, Error: err.Error()})
			return err
		}
		n.tell(event{Event: "append", File: pos[0], ID: *id, Seq: seq})
		return nil
	})
}

// paced calls f with 1, 2 and so on, rate times a second (0: without a pause) and
// count times (0: for ever), until it fails or a signal ends the program. What
// came late is made up for.
func paced(rate float64, count int, f func(seq int) error) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(stop)
	start := time.Now()
	for seq := 1; count == 0 || seq <= count; seq++ {
		if err := f(seq); err != nil {
			return err
		}
		var pause time.Duration
		if rate > 0 {
			pause = time.Until(start.Add(time.Duration(float64(seq) / rate * float64(time.Second))))
		}
		select {
		case <-stop:
			return nil
		case <-time.After(pause):
		}
	}
	return nil
}

func appendOne(f *os.File, id, seq int) error {
	line := []byte(fmt.Sprintf("%d %d\n", id, seq))
	err := retry(func() error {
		n, err := unix.Write(int(f.Fd()), line)
		if err == nil && n != len(line) {
			return io.ErrShortWrite
		}
		return err
	})
	if err != nil {
		return err
	}
	return retry(func() error { return unix.Fsync(int(f.Fd())) })
}

// wants collects --want ID:SEQ flags.
type wants map[int]int

func (w wants) String() string { return fmt.Sprint(map[int]int(w)) }

func (w wants) Set(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		var id, seq int
		if _, err := fmt.Sscanf(one, "%d:%d", &id, &seq); err != nil {
			return fmt.Errorf("%q is not ID:SEQ", one)
		}
		w[id] = seq
	}
	return nil
}

// verify checks what append promised. --want names the highest sequence that a
// writer told; all up to it must be there once. Later ones may be there, once.
func verify(args []string) error {
	fs := flag.NewFlagSet("verify", flag.ContinueOnError)
	want := wants{}
	fs.Var(want, "want", "ID:SEQ, the last sequence that writer told")
	pos, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	f, err := os.Open(pos[0])
	if err != nil {
		return err
	}
	defer f.Close()
	rep, err := check(f, want)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(rep); err != nil {
		return err
	}
	if !rep.OK {
		return syscall.EBADMSG
	}
	return nil
}
