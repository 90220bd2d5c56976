package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/tools/lab/internal/wire"
)

// serve runs commands for the host until the node dies.
func serve([]string) error {
	ln, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", wire.NodePort))
	if err != nil {
		return err
	}
	if err := hello(); err != nil {
		return err
	}
	fmt.Printf("%6.2f LABREADY\n", uptime())
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go handle(&wire.Conn{ReadWriteCloser: c})
	}
}

func handle(c *wire.Conn) {
	defer c.Close()
	k, b, err := c.Recv()
	if err != nil {
		return
	}
	var req wire.Request
	if err := json.Unmarshal(b, &req); err != nil || k != wire.Req {
		c.SendJSON(wire.Exited, wire.Exit{Code: 255, Err: "malformed request"})
		return
	}
	var exit wire.Exit
	switch req.Op {
	case "put":
		exit = put(c, req)
	case "exec":
		exit = execute(c, req)
	case "call":
		exit = call(c, req)
	case "read":
		exit = read(c, req)
	case "unix":
		exit = unixSocket(c, req)
	default:
		exit = wire.Exit{Code: 255, Err: "unknown request " + req.Op}
	}
	c.SendJSON(wire.Exited, exit)
}

// failed is the end of a request that could not be carried out.
func failed(err error) wire.Exit { return wire.Exit{Code: 255, Err: err.Error()} }

func put(c *wire.Conn, req wire.Request) wire.Exit {
	r, w := io.Pipe()
	go func() {
		for {
			k, b, err := c.Recv()
			if err != nil {
				w.CloseWithError(err)
				return
			}
			if k == wire.StdinEOF {
				w.Close()
				return
			}
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}()
	err := writeFile(req.Path, os.FileMode(req.Mode), r)
	r.CloseWithError(err)
	if err != nil {
		return failed(err)
	}
	return wire.Exit{}
}

func read(c *wire.Conn, req wire.Request) wire.Exit {
	b, err := os.ReadFile(req.Path)
	if err != nil {
		return failed(err)
	}
	if err := c.Send(wire.Stdout, b); err != nil {
		return failed(err)
	}
	return wire.Exit{}
}

// inside are the commands for call.
var inside = map[string]func(ctx context.Context, args []string, out io.Writer) error{"flock": flockUntil, "mount": mountOn}

// call does in a thread of this program what else one that starts would do: that start
// stops a node of User-Mode Linux for up to a tenth of a second. The host that goes away
// ends it.
func call(c *wire.Conn, req wire.Request) wire.Exit {
	var do func(context.Context, []string, io.Writer) error
	if len(req.Cmd) > 0 {
		do = inside[req.Cmd[0]]
	}
	if do == nil {
		return failed(fmt.Errorf("%q is nothing that labnode does by itself", req.Cmd))
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		defer cancel()
		for {
			if _, _, err := c.Recv(); err != nil {
				return
			}
		}
	}()
	c.SendJSON(wire.Started, unix.Gettid())
	if err := do(ctx, req.Cmd[1:], c.Writer(wire.Stdout)); err != nil {
		return failed(err)
	}
	return wire.Exit{}
}

// mountOn mounts a file system: mount KIND DEVICE DIR.
func mountOn(_ context.Context, args []string, _ io.Writer) error {
	if len(args) != 3 {
		return fmt.Errorf("mount %q: say kind, device and directory", args)
	}
	kind, device, dir := args[0], args[1], args[2]
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device, dir, kind, 0, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", device, dir, err)
	}
	return nil
}

// unixSocket carries one request to a unix socket of the node and its answer
// back, until the other side hangs up. It costs no program's start.
func unixSocket(c *wire.Conn, req wire.Request) wire.Exit {
	s, err := net.Dial("unix", req.Path)
	if err != nil {
		return failed(err)
	}
	defer s.Close()
	if _, err := io.WriteString(s, req.Out); err != nil {
		return failed(err)
	}
	if _, err := io.Copy(c.Writer(wire.Stdout), s); err != nil {
		return failed(err)
	}
	return wire.Exit{}
}

func execute(c *wire.Conn, req wire.Request) wire.Exit {
	if len(req.Cmd) == 0 {
		return failed(errors.New("no command"))
	}
	cmd := exec.Command(req.Cmd[0], req.Cmd[1:]...)
	cmd.Env = append(os.Environ(), req.Env...)
	cmd.Dir = "/root"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	switch {
	case req.Detach:
		return detached(c, cmd, req)
	case req.TTY != nil:
		return onTerminal(c, cmd, *req.TTY)
	}
	return attached(c, cmd)
}

// detached starts a command that outlives the connection.
func detached(c *wire.Conn, cmd *exec.Cmd, req wire.Request) wire.Exit {
	name := req.Out
	if name == "" {
		name = "/dev/null"
	}
	out, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return failed(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := start(cmd); err != nil {
		return failed(err)
	}
	go wait(cmd)
	c.SendJSON(wire.Started, cmd.Process.Pid)
	return wire.Exit{}
}

func attached(c *wire.Conn, cmd *exec.Cmd) wire.Exit {
	cmd.Stdout, cmd.Stderr = c.Writer(wire.Stdout), c.Writer(wire.Stderr)
	cmd.WaitDelay = 200 * time.Millisecond // a background child may keep the pipes open
	in, err := cmd.StdinPipe()
	if err != nil {
		return failed(err)
	}
	if err := start(cmd); err != nil {
		return failed(err)
	}
	c.SendJSON(wire.Started, cmd.Process.Pid)
	go control(c, cmd.Process.Pid, in, nil)
	return ended(wait(cmd))
}

// onTerminal runs a command as the leader of a new pseudo-terminal.
func onTerminal(c *wire.Conn, cmd *exec.Cmd, size wire.Size) wire.Exit {
	ptm, pts, err := openPty(size)
	if err != nil {
		return failed(err)
	}
	defer ptm.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pts, pts, pts
	cmd.SysProcAttr.Setctty = true
	err = start(cmd)
	pts.Close()
	if err != nil {
		return failed(err)
	}
	c.SendJSON(wire.Started, cmd.Process.Pid)
	go control(c, cmd.Process.Pid, nopCloser{ptm}, ptm)
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(c.Writer(wire.Stdout), ptm) })
	exit := ended(wait(cmd))
	wg.Wait()
	return exit
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// control passes the host's frames on to the command, and kills its session's
// process group when the host goes away.
func control(c *wire.Conn, pid int, in io.WriteCloser, tty *os.File) {
	defer in.Close()
	for {
		k, b, err := c.Recv()
		if err != nil {
			unix.Kill(-pid, unix.SIGKILL)
			return
		}
		switch k {
		case wire.Stdin:
			in.Write(b)
		case wire.StdinEOF:
			in.Close()
		case wire.Signal:
			var s int
			if json.Unmarshal(b, &s) == nil {
				unix.Kill(-pid, syscall.Signal(s))
			}
		case wire.Window:
			var w wire.Size
			if json.Unmarshal(b, &w) == nil && tty != nil {
				setSize(tty, w)
			}
		}
	}
}

func ended(err error) wire.Exit {
	var ee *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return wire.Exit{}
	case errors.As(err, &ee):
		ws := ee.Sys().(syscall.WaitStatus)
		if ws.Signaled() {
			return wire.Exit{Code: 128 + int(ws.Signal())}
		}
		return wire.Exit{Code: ws.ExitStatus()}
	}
	return failed(err)
}

func openPty(size wire.Size) (ptm, pts *os.File, err error) {
	ptm, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	if err = unix.IoctlSetPointerInt(int(ptm.Fd()), unix.TIOCSPTLCK, 0); err == nil {
		var n uint32
		if n, err = unix.IoctlGetUint32(int(ptm.Fd()), unix.TIOCGPTN); err == nil {
			pts, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
		}
	}
	if err != nil {
		ptm.Close()
		return nil, nil, err
	}
	setSize(ptm, size)
	return ptm, pts, nil
}

func setSize(f *os.File, s wire.Size) {
	unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Cols})
}
