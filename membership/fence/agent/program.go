package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/agent/launch"
)

// launcher starts all programs of this process: see package launch for why it is another.
var launcher launch.Launcher

// StartLauncher starts the process that starts agents, unless there is one. It is also
// started when it is needed, but not as soon; it ends with this process.
func StartLauncher() error { return launcher.Begin() }

// LogLauncher logs when that process dies before this one. It is called before all else.
func LogLauncher(log *slog.Logger) {
	launcher.Lost = func(err error) {
		log.Warn("another process is started that starts fence agents, now or when it is needed", "err", err)
	}
}

// deathNoted is for how long it is noted that the launcher died.
const deathNoted = time.Hour

// LauncherNotes say that it died of late, which costs what it ran.
func LauncherNotes() []string { return launcherNotes(launcher.Deaths(), time.Now()) }

func launcherNotes(d launch.Deaths, now time.Time) []string {
	ago := now.Sub(d.Last)
	if d.Count == 0 || ago >= deathNoted {
		return nil
	}
	text := fmt.Sprintf("the process that starts fence agents died (%d times, last %s ago: %s), and with it what it ran; another runs", d.Count, membership.Short(ago.Round(time.Second)), d.Why)
	if d.None {
		text += " in a while, or when it is needed"
	}
	return []string{text + "; see what ends it, in the kernel's log perhaps"}
}

// program is one that was given to the launcher.
type program struct {
	*launch.Job
	path string
	out  *tail
	said *os.File      // what it prints
	read chan struct{} // closed when that has ended
}

// command is how a program is run. The first process of a namespace ignores signals that
// it does not handle, which agents do not expect. So a shell is the first.
func (f *Fencer) command(path string, namespace bool, nice int) launch.Spec {
	s := launch.Spec{Path: path, Args: []string{path}, Dir: "/", Nice: nice, PIDNamespace: namespace && os.Geteuid() == 0,
		Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}}
	if s.PIDNamespace {
		s.Path, s.Args = f.shell, []string{f.shell, "-c", `"$0"; exit $?`, path}
	}
	return s
}

// start checks the bounds and has the program started, which checks them again. The
// program may not have been executed when it returns.
func (f *Fencer) start(s launch.Spec, input *os.File, extra []*os.File, out *tail, within bounds) (*program, error) {
	here := boottime() // before the other one: a pause in between makes it earlier
	now := f.now()
	if err := within.passed(now); err != nil {
		return nil, err
	}
	if first, _ := within.first(); first != 0 {
		s.Before = int64(here.Add(first.Sub(now)))
	}
	if input == nil {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return nil, err
		}
		defer func() { _ = null.Close() }() // read only
		input = null
	}
	said, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Close() }() // the program's end, not ours
	job, err := launcher.Start(s, append([]*os.File{input, w, w}, extra...))
	if err != nil {
		_ = said.Close()
		return nil, err
	}
	p := &program{Job: job, path: s.Path, out: out, said: said, read: make(chan struct{})}
	go func() { out.follow(said); close(p.read) }()
	return p, nil
}

// executed waits until it runs, has failed to or is not wanted any more.
func (p *program) executed(ctx context.Context) {
	select {
	case <-p.Started():
	case <-p.Ended():
	case <-ctx.Done():
	}
}

// wait waits until it has ended, and a second more for what else holds its output open.
// The error is nil if it was executed and nothing but itself or a signal ended it.
func (p *program) wait(within bounds) (result, error) {
	status, err := p.Wait()
	_ = p.said.SetReadDeadline(time.Now().Add(time.Second))
	<-p.read
	_ = p.said.Close() // read only
	r := result{code: -1, output: p.out.bytes()}
	switch {
	case errors.Is(err, launch.ErrLate):
		_, late := within.first()
		return r, late
	case err != nil:
		return r, fmt.Errorf("start %s: %w", p.path, err)
	case status.Signaled():
		r.signal = status.Signal()
	default:
		r.code = status.ExitStatus()
	}
	return r, nil
}

// noNamespace says that there can be no pid namespace here.
func noNamespace(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSPC)
}

// beyond says that more was wrong than a program which took too long.
func beyond(err error) bool { return errors.Is(err, launch.ErrStuck) || errors.Is(err, launch.ErrGone) }
