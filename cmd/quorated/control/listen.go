package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// DefaultSocket is where the daemon listens.
const DefaultSocket = "/run/quorate/quorated.sock"

// Group is the group whose members may ask, and change nothing. When it does
// not exist only root may connect.
const Group = "quorate"

// The errors of this package.
var (
	ErrDown    = errors.New("quorated does not answer")
	ErrRunning = errors.New("another quorated is running")
	ErrRefused = errors.New("refused")
)

// OpError is a failure of an operation on a socket.
type OpError struct {
	Op   string
	Path string
	Err  error
}

func (e *OpError) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// Listen makes the socket. A socket file that nobody answers on is replaced; if
// a daemon answers the error is ErrRunning. The caller holds whatever lock keeps
// two daemons from starting in the same instant.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, &OpError{"make directory for", path, err}
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	old := unix.Umask(0o177) // the socket is born 0600
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, &OpError{"listen on", path, err}
	}
	if g, err := user.LookupGroup(Group); err == nil {
		gid, _ := strconv.Atoi(g.Gid)
		err = errors.Join(os.Chown(path, -1, gid), os.Chmod(path, 0o660))
		if err != nil {
			_ = l.Close()
			return nil, &OpError{"give to group " + Group + " socket", path, err}
		}
	}
	return l, nil
}

func clearStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &OpError{"look at", path, err}
	}
	if fi.Mode().Type() != os.ModeSocket {
		return &OpError{"listen on", path, errors.New("there is something that is no socket: move it away")}
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
		return &OpError{"listen on", path, ErrRunning}
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		// A full backlog or no permission: somebody may well be there.
		return &OpError{"listen on", path, fmt.Errorf("%w, or its socket cannot be reached: %w", ErrRunning, err)}
	}
	if err := os.Remove(path); err != nil {
		return &OpError{"remove stale socket", path, err}
	}
	return nil
}

// Peer is who is at the other end.
type Peer struct {
	UID  uint32
	PID  int32
	Comm string // name of the program when it asked; its own word
}

func (p Peer) String() string { return fmt.Sprintf("uid %d pid %d (%s)", p.UID, p.PID, p.Comm) }

// identify asks the kernel who connected.
func identify(c net.Conn) (Peer, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return Peer{}, errors.New("not a unix socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, err
	}
	if cerr != nil {
		return Peer{}, cerr
	}
	return Peer{UID: cred.Uid, PID: cred.Pid, Comm: comm(cred.Pid)}, nil
}

func comm(pid int32) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "?"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == '(' || r == ')' {
			return '?'
		}
		return r
	}, strings.TrimSuffix(string(data), "\n"))
}

func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED)
}
