package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// process is a daemon in a node's namespace.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// program is what a node is to run.
type program struct {
	argv []string
	env  []string // beside bench's own
	log  string   // a file that its output is added to
	// mounts are shell commands in a mount namespace of its own, before the program
	// is executed there; "": it shares the machine's. "$0" is its folder, dir.
	mounts, dir string
	// lines is given each line of its output as it comes; nil: nobody reads along.
	lines func(line string)
	// ended is called when it ends, whoever ended it.
	ended func()
}

// start runs a program inside a node. It dies with bench, and hears no Ctrl-C of
// the terminal.
func (f *Fabric) start(node int, g program) (*process, error) {
	out, err := os.OpenFile(g.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	argv := g.argv
	if g.mounts != "" {
		argv = append([]string{"/bin/sh", "-ec", g.mounts + "\nexec \"$@\"", g.dir}, argv...)
	}
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), log: g.log, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), g.env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if g.lines != nil {
		w := &lineWriter{to: out, lines: g.lines}
		p.cmd.Stdout, p.cmd.Stderr = w, w // one pipe: the same value
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if g.mounts != "" {
		p.cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS // what it mounts, nobody else sees
	}
	if err := f.Do(node, p.cmd.Start); err != nil {
		_ = out.Close() // nothing was written
		return nil, fmt.Errorf("start on node %d: %w", node, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		_ = out.Close()  // as above
		close(p.done)
		if g.ended != nil {
			g.ended()
		}
	}()
	return p, nil
}

// lineWriter passes a program's output on, and shows each line.
type lineWriter struct {
	to    io.Writer
	lines func(line string)
	rest  []byte // of a line that is not complete
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		line, rest, whole := bytes.Cut(w.rest, []byte("\n"))
		if !whole {
			break
		}
		w.lines(string(line))
		w.rest = rest
	}
	return w.to.Write(b)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends it at once and waits until it is gone.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if err == nil {
		<-p.done
	}
	return err
}

// tail is the end of its log.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return strings.TrimSpace(string(bytes.Join(lines[max(0, len(lines)-10):], []byte("\n"))))
}
