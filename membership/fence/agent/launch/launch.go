package launch

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The ways in which a program is not started or has no status.
var (
	// ErrLate says that it was not executed before Spec.Before, or killed at once.
	ErrLate = errLate
	// ErrGone says that the launcher died, and what it had started with it.
	ErrGone = errors.New("the process that starts fence agents (" + Name + ") died, and the agent with it")
	// ErrStuck says that it was killed and has not ended yet: it waits in the kernel,
	// and will never do anything else.
	ErrStuck = errors.New("killed, but it waits in the kernel: see that the disk of its program answers")
	errSlow  = errors.New("it did not answer")
)

const (
	// patience is how long what is killed may take to end, and a launcher to say that
	// it has done so.
	patience = 3 * time.Second
	// soon is how long a launcher has to have lived to be started anew at once. Of those that
	// did not, one after the other, each is waited for twice as long, up to the longest wait.
	soon    = time.Second
	longest = 32 * soon
)

// Launcher starts programs. It is safe for concurrent use, and none of its methods waits
// for anything but the start of a process.
type Launcher struct {
	// Lost, if not nil, is told when one has died that was not closed. It is set before
	// the first is started.
	Lost func(error)

	mu      sync.Mutex
	now     *running
	closed  bool
	lastID  uint64
	deaths  Deaths
	again   *time.Timer   // starts the next one; nil: nothing was waited for yet
	wait    time.Duration // before that
	waiting sync.WaitGroup
}

// Deaths are those of launchers that were not closed.
type Deaths struct {
	Count int
	Last  time.Time
	Why   string // of the last
	None  bool   // there is none now: one is started soon, and at once when it is needed
}

// running is one launcher process.
type running struct {
	socket *os.File // ours
	pid    int
	began  time.Time
	done   chan struct{} // reaped

	mu     sync.Mutex
	jobs   map[uint64]*Job
	reaped bool
	why    error // it was killed
}

// Job is a program.
type Job struct {
	id      uint64
	by      *running
	started chan struct{}
	ended   chan struct{}

	// The lock of by is theirs until started, or ended, is closed.
	pid     int
	process []int // a descriptor of it, or none
	status  unix.WaitStatus
	err     error
	ready   bool // started is closed
	over    bool // ended is closed
	killed  bool // the launcher says so
	dying   *time.Timer
}

// Deaths says how often it died.
func (l *Launcher) Deaths() Deaths {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.deaths
	d.None = l.now == nil
	return d
}

// Begin starts the launcher, if there is none.
func (l *Launcher) Begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.begin()
	return err
}

func (l *Launcher) begin() (*running, error) {
	if l.now != nil {
		return l.now, nil
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("start the process that starts fence agents: %w", err)
	}
	theirs := ends[1]
	r := &running{socket: os.NewFile(uintptr(ends[0]), "launcher"), began: time.Now(), done: make(chan struct{}), jobs: map[uint64]*Job{}}
	err = unix.SetNonblock(theirs, false)
	if err == nil {
		up := make(chan error, 1)
		l.waiting.Go(func() { l.life(r, theirs, up) })
		err = <-up
	}
	_ = unix.Close(theirs)
	if err != nil {
		_ = r.socket.Close()
		return nil, fmt.Errorf("start the process that starts fence agents: %w", err)
	}
	l.now = r
	l.waiting.Go(r.read)
	return r, nil
}

// life is that of one launcher. It dies with the thread, which is not given back.
func (l *Launcher) life(r *running, socket int, up chan<- error) {
	runtime.LockOSThread()
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		up <- err
		return
	}
	spec := &Spec{Path: "/proc/self/exe", Args: []string{Name}, Dir: "/", Nice: launcherNice}
	pid, report, err := fork(spec, []int{null, null, 2, socket})
	_ = unix.Close(null)
	r.pid = pid
	up <- err
	if err != nil {
		return
	}
	why := failure(report)
	for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	r.mu.Lock()
	r.reaped = true
	var status unix.WaitStatus
	_, _ = unix.Wait4(pid, &status, 0, nil) // it has ended
	r.mu.Unlock()
	l.lost(r, fmt.Errorf("%w: %s", ErrGone, ending(why, status)))
}

func ending(err error, status unix.WaitStatus) string {
	switch {
	case err != nil:
		return err.Error()
	case status.Signaled():
		return "killed by " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// lost ends everything that a launcher ran, which is dead, and starts another.
func (l *Launcher) lost(r *running, why error) {
	_ = r.socket.Close()
	r.mu.Lock()
	if r.why != nil {
		why = fmt.Errorf("%w: %w", why, r.why)
	}
	for _, j := range r.jobs {
		j.end(0, why)
	}
	r.mu.Unlock()
	l.mu.Lock()
	if l.now == r {
		l.now = nil
	}
	wanted := l.closed
	if !wanted {
		l.deaths.Count, l.deaths.Last, l.deaths.Why = l.deaths.Count+1, time.Now(), strings.TrimPrefix(why.Error(), ErrGone.Error()+": ")
		if time.Since(r.began) > soon {
			l.wait = 0
		}
		l.next()
	}
	close(r.done)
	l.mu.Unlock()
	if l.Lost != nil && !wanted { // last, and alone: a log may stand still
		l.Lost(why)
	}
}

// next starts another one, now or in a while; who needs one does not wait for that.
func (l *Launcher) next() {
	if l.closed || l.now != nil {
		return
	}
	if l.wait == 0 {
		l.wait = soon
		if _, err := l.begin(); err == nil {
			return
		}
	}
	l.stopNext()
	l.again = time.AfterFunc(l.wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.closed || l.now != nil {
			return
		}
		if _, err := l.begin(); err != nil { // who needs it is told why not
			l.next()
		}
	})
	l.wait = min(2*l.wait, longest)
}

func (l *Launcher) stopNext() {
	if l.again != nil {
		l.again.Stop()
	}
}

// Close ends the launcher, and what it runs, and returns when they are gone. Start
// starts another.
func (l *Launcher) Close() {
	l.mu.Lock()
	l.closed = true
	l.stopNext()
	r := l.now
	l.mu.Unlock()
	if r != nil {
		r.kill(nil)
		<-r.done
	}
	l.waiting.Wait()
}

// kill ends the launcher; the kernel ends the rest.
func (r *running) kill(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killLocked(why)
}

func (r *running) killLocked(why error) {
	if r.reaped {
		return
	}
	if r.why == nil {
		r.why = why
	}
	_ = unix.Kill(r.pid, unix.SIGKILL) // not reaped yet: it is the launcher
}

// Start has the launcher start a program with descriptors from 0 on, three at least.
// They may be closed when it returns. The program may not have been started then.
func (l *Launcher) Start(s Spec, files []*os.File) (*Job, error) {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	defer runtime.KeepAlive(files)
	j, r, err := l.try(s, fds)
	if r != nil && errors.Is(err, ErrGone) { // just now
		select {
		case <-r.done:
			j, _, err = l.try(s, fds)
		case <-time.After(patience):
		}
	}
	return j, err
}

func (l *Launcher) try(s Spec, fds []int) (*Job, *running, error) {
	l.mu.Lock()
	l.closed = false
	r, err := l.begin()
	l.lastID++
	j := &Job{id: l.lastID, by: r, started: make(chan struct{}), ended: make(chan struct{})}
	l.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reaped {
		return nil, r, ErrGone
	}
	r.jobs[j.id] = j // before any answer
	if err := r.send(message{Kind: kindStart, ID: j.id, Spec: &s}, unix.UnixRights(fds...)); err != nil {
		delete(r.jobs, j.id)
		return nil, r, err
	}
	return j, r, nil
}

// send never waits, with the lock held. Who does not take what is sent is killed.
func (r *running) send(m message, rights []byte) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	c, err := r.socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	var serr error
	err = c.Control(func(fd uintptr) {
		serr = unix.Sendmsg(int(fd), data, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
	if err = errors.Join(err, serr); err != nil {
		if errors.Is(err, unix.EAGAIN) {
			r.killLocked(errSlow)
		}
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return nil
}

// read takes the answers. A launcher that says something else is killed.
func (r *running) read() {
	defer r.kill(nil)
	c, err := r.socket.SyscallConn()
	if err != nil {
		return
	}
	for buf := newBuffer(); ; {
		var m message
		var files []int
		rerr := c.Read(func(fd uintptr) bool {
			m, files, err = buf.receive(int(fd))
			return !errors.Is(err, unix.EAGAIN)
		})
		if rerr != nil || err != nil {
			closeFiles(files)
			return
		}
		r.mu.Lock()
		if j := r.jobs[m.ID]; j != nil {
			files = j.answer(m, files)
		}
		r.mu.Unlock()
		closeFiles(files)
	}
}

// answer takes an answer, with the lock held, and returns what descriptors it does not keep.
func (j *Job) answer(m message, files []int) []int {
	switch m.Kind {
	case kindStarted:
		if j.ready {
			break
		}
		j.pid, j.process, j.ready = m.PID, files, true
		files = nil
		close(j.started)
	case kindKilled:
		j.killed = true
	case kindEnded:
		var err error
		switch {
		case m.Late:
			err = ErrLate
		case m.Errno != 0:
			err = syscall.Errno(m.Errno)
		}
		j.end(unix.WaitStatus(m.Status), err)
	}
	return files
}

// end is its end, with the lock held.
func (j *Job) end(status unix.WaitStatus, err error) {
	delete(j.by.jobs, j.id)
	if j.dying != nil {
		j.dying.Stop()
	}
	closeFiles(j.process)
	j.status, j.err, j.over, j.process = status, err, true, nil
	close(j.ended)
}

// Started is closed when the program is executed. It may never be.
func (j *Job) Started() <-chan struct{} { return j.started }

// Ended is closed when the program has ended, or has never been started.
func (j *Job) Ended() <-chan struct{} { return j.ended }

// PID of the program, once it is started.
func (j *Job) PID() int {
	<-j.started
	return j.pid
}

// Wait returns how the program ended. An error says why there is no such status.
func (j *Job) Wait() (unix.WaitStatus, error) {
	<-j.ended
	return j.status, j.err
}

// Kill kills the program, with its process group or without, whether it is executed
// yet or not. It does not wait: Ended is closed soon, even if the launcher does nothing or
// the program hangs in the kernel.
func (j *Job) Kill(group bool) {
	r := j.by
	r.mu.Lock()
	defer r.mu.Unlock()
	if j.over {
		return
	}
	for _, fd := range j.process { // at once, if the launcher does nothing
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
	if j.dying == nil {
		j.dying = time.AfterFunc(patience, j.unkillable)
	}
	_ = r.send(message{Kind: kindKill, ID: j.id, Group: group}, nil) // it is dead or dies, and the program too
}

// unkillable gives up waiting for its end.
func (j *Job) unkillable() {
	j.by.mu.Lock()
	defer j.by.mu.Unlock()
	switch {
	case j.over:
	case j.killed:
		j.end(0, ErrStuck)
	default:
		j.by.killLocked(errSlow)
	}
}
