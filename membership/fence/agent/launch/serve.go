package launch

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Name is the launcher's first argument, which ps shows.
const Name = "quorated: starts fence agents"

const (
	comm   = "quorated-launch" // its short name: 15 bytes
	socket = 3                 // its descriptor
	// launcherNice lets it go before ordinary programs, as agents do.
	launcherNice = -10
	// leastProcs is how many of its threads may run Go code at once, at least: one that
	// waits in the kernel for a process counts for a while.
	leastProcs = 8
)

// The process is the launcher before anything else is made. That any program which
// imports this package can be it leaves none to forget it, and to become another of
// itself in its place. Init functions run on the main thread, which lives as long as
// the process: what is forked there is killed with it.
func init() {
	if len(os.Args) != 1 || os.Args[0] != Name {
		return
	}
	runtime.LockOSThread()
	serve(socket)
	os.Exit(0)
}

// serve does what the socket says until it is closed.
func serve(socket int) {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP) // it ends with the daemon
	_ = os.WriteFile("/proc/self/comm", []byte(comm), 0)
	runtime.GOMAXPROCS(max(leastProcs, runtime.GOMAXPROCS(0)))
	_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT) // who may not has not locked the daemon either
	v := &server{socket: socket, jobs: map[uint64]*process{}}
	for buf := newBuffer(); ; {
		m, files, err := buf.receive(socket)
		if err == nil {
			v.take(m, files)
		}
		closeFiles(files)
		if err != nil {
			return // its end; only a daemon that is no good says something else
		}
	}
}

// server is the launcher's side. What it starts is started by its only caller of take,
// one after the other.
type server struct {
	socket int
	mu     sync.Mutex
	jobs   map[uint64]*process
}

// process is what runs.
type process struct {
	mu     sync.Mutex
	pid    int
	reaped bool // the number may be another's
}

// kill sends SIGKILL, to what is left of the group as well or to the process alone.
func (p *process) kill(group bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	if group {
		_ = unix.Kill(-p.pid, unix.SIGKILL)
	}
	_ = unix.Kill(p.pid, unix.SIGKILL) // it may not be in its group yet
}

func (v *server) take(m message, files []int) {
	switch m.Kind {
	case kindStart:
		pid, report, err := fork(m.Spec, files)
		if err != nil {
			v.say(ended(m.ID, err, 0), nil)
			return
		}
		p := &process{pid: pid}
		v.mu.Lock()
		v.jobs[m.ID] = p
		v.mu.Unlock()
		go v.follow(m.ID, p, m.Spec.Before, report)
	case kindKill:
		v.mu.Lock()
		p := v.jobs[m.ID]
		v.mu.Unlock()
		if p != nil { // else it has ended
			p.kill(m.Group)
		}
		v.say(message{Kind: kindKilled, ID: m.ID}, nil)
	}
}

// follow tells what becomes of a process, and reaps it. One that is executed too late
// is killed at once.
func (v *server) follow(id uint64, p *process, before int64, report *os.File) {
	why := failure(report)
	if why == nil {
		if before != 0 && boottime() >= before {
			why = errLate
			p.kill(true)
		}
	}
	if why == nil {
		v.started(id, p.pid)
	}
	for errors.Is(unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	p.kill(true) // what is left of its group, while the number is surely its
	var status unix.WaitStatus
	p.mu.Lock()
	_, err := unix.Wait4(p.pid, &status, 0, nil)
	for errors.Is(err, unix.EINTR) {
		_, err = unix.Wait4(p.pid, &status, 0, nil)
	}
	if why == nil {
		why = err // without a status it would look like success
	}
	p.reaped = true
	p.mu.Unlock()
	v.mu.Lock()
	delete(v.jobs, id)
	v.mu.Unlock()
	v.say(ended(id, why, uint32(status)), nil)
}

// started says so, with a descriptor by which the process can be killed by others.
func (v *server) started(id uint64, pid int) {
	m := message{Kind: kindStarted, ID: id, PID: pid}
	fd, err := unix.PidfdOpen(pid, 0) // not reaped yet: it is that process
	if err != nil {                   // before Linux 5.3
		v.say(m, nil)
		return
	}
	v.say(m, unix.UnixRights(fd))
	_ = unix.Close(fd)
}

func ended(id uint64, why error, status uint32) message {
	m := message{Kind: kindEnded, ID: id, Status: status, Late: errors.Is(why, errLate)}
	var errno syscall.Errno
	switch {
	case m.Late || why == nil:
	case errors.As(why, &errno):
		m.Errno = int(errno)
	default:
		m.Errno = int(unix.EINVAL)
	}
	return m
}

// say sends an answer; that nobody hears it ends the process elsewhere.
func (v *server) say(m message, rights []byte) {
	data, err := m.encode()
	for err == nil {
		if err = unix.Sendmsg(v.socket, data, rights, nil, unix.MSG_NOSIGNAL); !errors.Is(err, unix.EINTR) {
			return
		}
		err = nil
	}
}
