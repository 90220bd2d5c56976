package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/tools/lab/internal/wire"
)

// Result is what a command in a node gave.
type Result struct {
	Stdout, Stderr string
	Code           int // exit status; 128+signal when a signal ended it
}

// Exec runs a shell script in the node and waits for it. An exit status other
// than 0 is no error; a node that dies or a context that ends is one, and the
// script is killed.
func (n *Node) Exec(ctx context.Context, script string) (Result, error) {
	return n.ExecInput(ctx, nil, script)
}

// ExecInput is Exec with a standard input.
func (n *Node) ExecInput(ctx context.Context, in io.Reader, script string) (Result, error) {
	var out, errb bytes.Buffer
	p, err := n.Start(ctx, Cmd{Args: []string{"/bin/sh", "-c", script}, Stdin: in, Stdout: &out, Stderr: &errb})
	if err != nil {
		return Result{}, err
	}
	code, err := p.Wait()
	return Result{out.String(), errb.String(), code}, err
}

// Run is Exec for a script that must succeed. It returns the standard output.
func (n *Node) Run(ctx context.Context, script string) (string, error) {
	r, err := n.Exec(ctx, script)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%s: %.200q: exit status %d: %s", n.Name(), script, r.Code, strings.TrimSpace(r.Stderr+r.Stdout))
	}
	return r.Stdout, err
}

// Cmd is a program to start in a node.
type Cmd struct {
	Args           []string
	Inside         bool // no program, but a command of labnode ("flock"): its Pid is a thread's
	Env            []string
	Stdin          io.Reader // nil: empty
	Stdout, Stderr io.Writer // nil: discarded
	TTY            *Size     // run it on a terminal of this size
}

// Proc is a program running in a node, tied to the connection that started it:
// when ctx ends or the host goes away, it is killed.
type Proc struct {
	Pid  int // in the node
	conn *wire.Conn
	stop func()
	done chan struct{}
	code int
	err  error
}

// Start starts a program in the node and does not wait for it.
func (n *Node) Start(ctx context.Context, cmd Cmd) (*Proc, error) {
	ctx, c, stop, err := n.connect(ctx)
	if err != nil {
		return nil, err
	}
	return startOn(ctx, c, stop, cmd)
}

// startOn runs cmd over a connection to labnode.
func startOn(ctx context.Context, c *wire.Conn, stop func(), cmd Cmd) (*Proc, error) {
	p := &Proc{conn: c, stop: stop, done: make(chan struct{})}
	req := wire.Request{Op: "exec", Cmd: cmd.Args, Env: cmd.Env, TTY: cmd.TTY}
	if cmd.Inside {
		req.Op = "call"
	}
	if err := c.SendJSON(wire.Req, req); err != nil {
		err = reason(ctx, err)
		stop()
		return nil, err
	}
	started := make(chan error, 1)
	go p.read(ctx, cmd, started)
	if err := <-started; err != nil {
		return nil, err
	}
	go p.feed(cmd.Stdin)
	return p, nil
}

func (p *Proc) feed(in io.Reader) {
	if in != nil {
		io.Copy(p.conn.Writer(wire.Stdin), in)
	}
	p.conn.Send(wire.StdinEOF, nil)
}

func (p *Proc) read(ctx context.Context, cmd Cmd, started chan<- error) {
	defer close(p.done)
	defer p.stop()
	defer close(started)
	for {
		k, b, err := p.conn.Recv()
		if err != nil {
			p.code, p.err = -1, reason(ctx, err)
			started <- p.err
			return
		}
		switch k {
		case wire.Started:
			p.err = json.Unmarshal(b, &p.Pid)
			started <- p.err
			started = make(chan error, 1)
		case wire.Stdout:
			write(cmd.Stdout, b)
		case wire.Stderr:
			write(cmd.Stderr, b)
		case wire.Exited:
			p.code, p.err = exited(b)
			started <- p.err
			return
		}
	}
}

func write(w io.Writer, b []byte) {
	if w != nil {
		w.Write(b)
	}
}

func exited(b []byte) (int, error) {
	var e wire.Exit
	if err := json.Unmarshal(b, &e); err != nil {
		return -1, err
	}
	if e.Err != "" {
		return e.Code, errors.New(e.Err)
	}
	return e.Code, nil
}

// reason prefers the end of the context to its consequence. A dialler that keeps
// the context's deadline by itself may come a moment before the context's timer.
func reason(ctx context.Context, err error) error {
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		<-ctx.Done()
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// Wait waits for the program to end and returns its exit status.
func (p *Proc) Wait() (int, error) {
	<-p.done
	return p.code, p.err
}

// Done is closed when the program has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the program's process group.
func (p *Proc) Signal(s syscall.Signal) error { return p.conn.SendJSON(wire.Signal, int(s)) }

// Resize tells the program's terminal its size.
func (p *Proc) Resize(s Size) error { return p.conn.SendJSON(wire.Window, s) }

// Stop kills the program and waits for the connection to end.
func (p *Proc) Stop() {
	p.stop()
	<-p.done
}

// Daemon starts a program in the node that outlives the connection. Its output
// is appended to the file out in the node ("": discarded). It returns the pid.
func (n *Node) Daemon(ctx context.Context, out string, args ...string) (int, error) {
	ctx, c, stop, err := n.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer stop()
	if err := c.SendJSON(wire.Req, wire.Request{Op: "exec", Cmd: args, Detach: true, Out: out}); err != nil {
		return 0, reason(ctx, err)
	}
	k, b, err := c.Recv()
	if err != nil {
		return 0, reason(ctx, err)
	}
	if k != wire.Started {
		_, err := exited(b)
		return 0, fmt.Errorf("%s: start %s: %w", n.Name(), args[0], err)
	}
	var pid int
	err = json.Unmarshal(b, &pid)
	return pid, err
}

// Put copies a host file into the node, replacing what is there in one step.
func (n *Node) Put(ctx context.Context, local, remote string, mode os.FileMode) error {
	f, err := os.Open(local)
	if err != nil {
		return err
	}
	defer f.Close()
	return n.PutReader(ctx, f, remote, mode)
}

// PutReader writes what r holds into a file in the node.
func (n *Node) PutReader(ctx context.Context, r io.Reader, remote string, mode os.FileMode) error {
	ctx, c, stop, err := n.connect(ctx)
	if err != nil {
		return err
	}
	defer stop()
	return putOn(ctx, c, r, remote, mode)
}

func putOn(ctx context.Context, c *wire.Conn, r io.Reader, remote string, mode os.FileMode) error {
	err := c.SendJSON(wire.Req, wire.Request{Op: "put", Path: remote, Mode: uint32(mode.Perm())})
	if err == nil {
		if _, err = io.Copy(c.Writer(wire.Stdin), r); err == nil {
			err = c.Send(wire.StdinEOF, nil)
		}
	}
	if err != nil {
		return reason(ctx, err)
	}
	_, b, err := c.Recv()
	if err != nil {
		return reason(ctx, err)
	}
	if _, err := exited(b); err != nil {
		return fmt.Errorf("put %s: %w", remote, err)
	}
	return nil
}

// Ask says something to a unix socket of the node and returns the answer, up to
// the end of the connection. It starts no program, which UML pays dearly for.
func (n *Node) Ask(ctx context.Context, socket, words string) ([]byte, error) {
	return n.fetch(ctx, wire.Request{Op: "unix", Path: socket, Out: words})
}

// ReadFile reads a file of the node, of /proc too. Like Ask it starts no program.
func (n *Node) ReadFile(ctx context.Context, path string) ([]byte, error) {
	return n.fetch(ctx, wire.Request{Op: "read", Path: path})
}

func (n *Node) fetch(ctx context.Context, req wire.Request) ([]byte, error) {
	ctx, c, stop, err := n.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := c.SendJSON(wire.Req, req); err != nil {
		return nil, reason(ctx, err)
	}
	var out []byte
	for {
		k, b, err := c.Recv()
		switch {
		case err != nil:
			return nil, reason(ctx, err)
		case k == wire.Stdout:
			out = append(out, b...)
		case k == wire.Exited:
			if _, err := exited(b); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", n.Name(), req.Path, err)
			}
			return out, nil
		}
	}
}

// connect reaches labnode in the node. The connection ends with ctx, with the
// node's life, or when stop is called; the context that it returns ends before it,
// and its cause says why.
func (n *Node) connect(ctx context.Context) (tied context.Context, c *wire.Conn, stop func(), err error) {
	n.mu.Lock()
	b := n.run
	n.mu.Unlock()
	if b == nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", n.Name(), ErrDown)
	}
	tied, untie := b.tie(ctx)
	addr := net.JoinHostPort(n.MgmtAddr(), fmt.Sprint(wire.NodePort))
	conn, err := n.lab.ns.dial(tied, "tcp", addr)
	if err != nil {
		err = fmt.Errorf("%s: %w", n.Name(), reason(tied, err))
		untie()
		return nil, nil, nil, err
	}
	unhook := context.AfterFunc(tied, func() { conn.Close() })
	stop = sync.OnceFunc(func() {
		unhook()
		untie()
		conn.Close()
	})
	return tied, &wire.Conn{ReadWriteCloser: conn}, stop, nil
}

// tie returns a context that ends with ctx, with the life, or with untie, whatever
// comes first.
func (b *boot) tie(ctx context.Context) (tied context.Context, untie func()) {
	tied, cancel := context.WithCancelCause(ctx)
	unlink := context.AfterFunc(b.ctx, func() { cancel(context.Cause(b.ctx)) })
	return tied, func() {
		unlink()
		cancel(net.ErrClosed)
	}
}

// Size is a terminal's size in characters.
type Size = wire.Size
