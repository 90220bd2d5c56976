package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
)

const maxWarm = 8 // victims

// holdScript is the first process of a warm agent's pid namespace. Descriptor 3
// becomes the agent's standard input: one end of a socket pair, whose other end is
// the daemon's and also, as 4, of a holder in here. So the input ends when the
// daemon shuts the socket down, and not when it dies with its files closed before
// the parent death signal goes out. The kernel then kills in the order of the
// process ids (kernel/pid_namespace.c, zap_pid_ns_processes), which is why the
// agent's process is the first; it becomes the agent when the holder is there.
// A daemon that died before the signal was asked for is why the holder kills in
// the end: 5 is a pipe that the daemon keeps open. 6 and 7 are the ends of one for
// the word that the holder is there, and 8 is for the agent's exit status, which
// the daemon need not know later because a namespace takes its time to end.
const holdScript = `{
	read -r l <&6 || exit 1
	exec "$0" <&3 3<&- 6<&-
} 4<&- 5<&- 7<&- 8<&- & a=$!
exec 3<&- 6<&-
{
	echo ready >&7
	exec 7<&- 8<&-
	read -r l <&5
	sleep 2
	kill -KILL 0
} &
exec 4<&- 5<&- 7<&-
wait $a; s=$?
echo $s >&8
exit $s`

// errUntold: the warm agent did not read what it is to do, and is dead.
var errUntold = errors.New("the warm agent ended before it was told what to do")

// held is an agent that waits for its options.
type held struct {
	device  *membership.Device
	started chan struct{} // it runs, or done is about to be closed
	success chan struct{} // its exit status is 0; what there is of it besides may not be gone yet
	done    chan struct{} // it has been reaped
	out     *tail

	// Set before started is closed.
	path string
	file os.FileInfo
	wires
	program *program // the first process of its namespace

	mu      sync.Mutex
	up      bool // it is executed, and has not ended
	stopped bool
	unread  bool // it ended before it had read all that was written

	// Set before done is closed.
	res result
	err error
}

// warmSet is what is held for one victim.
type warmSet struct {
	held  []*held
	until time.Time
	timer *time.Timer
}

// Prepare starts the agents of the victim's first level and tells them nothing:
// they wait for their options, so that a Fence that comes soon need not wait for
// them. It never blocks, and may be called often: what is missing is started, and
// all of it is kept for another WithWarmFor. It does nothing where there is no pid
// namespace to hold them in, and for more than 8 victims at a time.
func (f *Fencer) Prepare(victim membership.NodeID) {
	levels := f.levels(victim)
	if len(levels) == 0 || f.warmFor <= 0 || os.Geteuid() != 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.warm[victim]
	until := time.Now().Add(f.warmFor) // before the timer starts, which must not fire earlier
	switch {
	case f.closed:
		return
	case s == nil && len(f.warm) >= maxWarm:
		f.log.Debug("no more warm fence agents", "victim", victim, "limit", maxWarm)
		return
	case s == nil:
		s = &warmSet{}
		s.timer = time.AfterFunc(f.warmFor, func() { f.expire(victim, s) })
		f.warm[victim] = s
	default:
		s.timer.Reset(f.warmFor)
	}
	s.until = until
	for i := range levels[0] {
		d := &levels[0][i]
		for n := s.count(d); n < runs(d); n++ {
			h := &held{device: d, started: make(chan struct{}), success: make(chan struct{}), done: make(chan struct{}), out: &tail{max: maxCapture}}
			s.held = append(s.held, h)
			f.joined.Go(func() { f.hold(h) })
		}
	}
}

// runs is how often a fencing that goes well runs the device's agent.
func runs(d *membership.Device) int {
	if asked(d) {
		return 2
	}
	return 1
}

func (s *warmSet) count(d *membership.Device) (n int) {
	for _, h := range s.held {
		if h.device == d {
			n++
		}
	}
	return n
}

// Release ends what Prepare started for the victim. It does not wait for it.
func (f *Fencer) Release(victim membership.NodeID) { f.drop(victim) }

// Close ends everything that waits, and returns when it is gone. Prepare does
// nothing from then on; Fence starts its agents when it needs them.
func (f *Fencer) Close() error {
	f.mu.Lock()
	f.closed = true
	for v := range f.warm {
		f.dropLocked(v)
	}
	f.mu.Unlock()
	f.joined.Wait()
	return nil
}

func (f *Fencer) drop(victim membership.NodeID) []*held {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dropLocked(victim)
}

func (f *Fencer) dropLocked(victim membership.NodeID) []*held {
	s := f.warm[victim]
	if s == nil {
		return nil
	}
	delete(f.warm, victim)
	s.timer.Stop()
	for _, h := range s.held {
		h.stop()
	}
	return s.held
}

func (f *Fencer) expire(victim membership.NodeID, s *warmSet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.warm[victim] == s && !time.Now().Before(s.until) {
		f.dropLocked(victim)
	}
}

// lost forgets an agent that ended while it was waiting.
func (f *Fencer) lost(h *held) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for victim, s := range f.warm {
		i := slices.Index(s.held, h)
		if i < 0 {
			continue
		}
		if s.held = slices.Delete(s.held, i, i+1); len(s.held) == 0 {
			f.dropLocked(victim)
		}
		f.log.Debug("a fence agent ended while it was waiting: the next fencing starts it anew", slog.Any("victim", victim),
			"agent", filepath.Base(h.device.Agent), "err", h.err, "output", lastLine(clean(h.res.output, secrets(h.device.Options)))) // it was given none from a file
	}
}

// hold is the life of one agent.
func (f *Fencer) hold(h *held) {
	p, err := f.launch(h)
	if err == nil {
		p.executed(context.Background())
		h.mu.Lock()
		h.up = true
		h.mu.Unlock()
	}
	close(h.started)
	if err != nil {
		h.err = err
	} else {
		go func() { // what hangs in the kernel keeps the other end of status
			<-p.Ended()
			_ = h.status.SetReadDeadline(time.Now().Add(time.Second))
		}()
		if h.succeeded() {
			close(h.success)
		}
		<-p.Ended()
		h.mu.Lock()
		h.up = false
		h.mu.Unlock()
		h.res, h.err = p.wait(bounds{})
		h.mu.Lock()
		h.look()
		h.mu.Unlock()
		_ = closeAll(h.ours)
	}
	close(h.done)
	f.lost(h)
}

// wires are between the daemon and holdScript. What is theirs is closed here
// once they have it, what is ours when they are dead.
type wires struct {
	in, life, status *os.File
	ours, theirs     []*os.File
}

func newWires() (w wires, err error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return w, err
	}
	w.in = os.NewFile(uintptr(ends[0]), "input")
	w.ours, w.theirs = []*os.File{w.in}, []*os.File{os.NewFile(uintptr(ends[1]), "agent")}
	dead, life, err := os.Pipe()
	if err != nil {
		return w, errors.Join(err, w.close())
	}
	w.life, w.ours, w.theirs = life, append(w.ours, life), append(w.theirs, dead)
	ready, word, err := os.Pipe()
	if err != nil {
		return w, errors.Join(err, w.close())
	}
	w.theirs = append(w.theirs, ready, word)
	status, end, err := os.Pipe()
	if err != nil {
		return w, errors.Join(err, w.close())
	}
	w.status, w.ours, w.theirs = status, append(w.ours, status), append(w.theirs, end)
	return w, nil
}

// extra is what holdScript finds from descriptor 3 on.
func (w wires) extra() []*os.File { return slices.Insert(slices.Clone(w.theirs), 1, w.in) }

func (w wires) close() error { return errors.Join(closeAll(w.ours), closeAll(w.theirs)) }

func closeAll(files []*os.File) (err error) {
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// succeeded waits for the agent's exit status, or the end of what would report it.
func (h *held) succeeded() bool {
	b := make([]byte, 8)
	n, _ := io.ReadFull(h.status, b) // it ends early: with the namespace's first process
	return string(b[:n]) == "0\n"
}

// readAll says whether the agent, which has ended, had read all that was written.
// It must not be asked when its end of the socket is ours no more.
func (h *held) readAll() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.up {
		return false
	}
	h.look()
	return !h.unread
}

// look asks the kernel what was not read. What the other end had not when it was
// closed is left as ECONNRESET (net/unix/af_unix.c, unix_release_sock), once; what
// waits there is counted. The count comes first: a close in between leaves its mark
// before it takes what waits away.
func (h *held) look() {
	err := control(h.in, func(fd int) error {
		waits, werr := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		left, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if left != 0 || waits != 0 {
			return errUntold
		}
		return errors.Join(err, werr)
	})
	h.unread = h.unread || err != nil
}

// control does something with the descriptor of a file that may be closed meanwhile.
func control(f *os.File, do func(fd int) error) (err error) {
	c, cerr := f.SyscallConn()
	if cerr != nil {
		return cerr
	}
	cerr = c.Control(func(fd uintptr) { err = do(int(fd)) })
	return errors.Join(cerr, err)
}

// launch starts the agent, unless it was stopped before.
func (f *Fencer) launch(h *held) (p *program, err error) {
	if h.path, err = f.find(h.device.Agent); err != nil {
		return nil, err
	}
	if h.file, err = os.Stat(h.path); err != nil {
		return nil, err
	}
	w, err := newWires()
	if err != nil {
		return nil, err
	}
	defer func() { _ = closeAll(w.theirs) }()
	s := f.command(h.path, true, agentNice)
	s.Args = []string{s.Path, "-c", holdScript, h.path}
	if h.isStopped() {
		err = ErrCancelled
	} else {
		p, err = f.start(s, nil, w.extra(), h.out, bounds{})
	}
	if err != nil {
		_ = closeAll(w.ours)
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wires, h.program = w, p
	if h.stopped {
		h.killLocked()
	}
	return p, nil
}

func (h *held) isStopped() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stopped
}

// stop kills it, now or as soon as it runs. Its input is still open then.
func (h *held) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	h.killLocked()
}

// killLocked kills the first process of the namespace, and so the kernel kills
// the others in the order that holdScript counts on; the group is in no order.
func (h *held) killLocked() {
	if h.program != nil {
		h.program.Kill(false)
	}
}

// take returns a living agent of the device that waits, or nil.
func (f *Fencer) take(ctx context.Context, d *membership.Device, path string) *held {
	for {
		h := f.pop(d)
		if h == nil {
			return nil
		}
		select {
		case <-h.started:
		case <-ctx.Done():
		}
		if ctx.Err() == nil && h.fresh(path) {
			return h
		}
		h.stop()
		<-h.done
	}
}

func (f *Fencer) pop(d *membership.Device) *held {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.warm {
		if i := slices.IndexFunc(s.held, func(h *held) bool { return h.device == d }); i >= 0 {
			h := s.held[i]
			s.held = slices.Delete(s.held, i, i+1)
			return h
		}
	}
	return nil
}

// fresh says that it lives and is the program that is installed now.
func (h *held) fresh(path string) bool {
	select {
	case <-h.done:
		return false
	default:
	}
	now, err := os.Stat(path)
	return err == nil && h.in != nil && h.path == path && os.SameFile(now, h.file) && now.ModTime().Equal(h.file.ModTime()) && now.Size() == h.file.Size()
}

// tell gives a warm agent its options. The deadline is checked just before the
// first byte of them, and again before their end, without which it does nothing:
// that is the moment between the check and exec of a cold start. It returns when
// the agent is dead, with all that it started unless it was successful: what is
// left then is being killed.
func (f *Fencer) tell(ctx context.Context, h *held, input string, within bounds) (result, error) {
	defer context.AfterFunc(ctx, h.stop)()
	if late := within.passed(f.now()); late != nil {
		h.stop()
		<-h.done
		return result{code: -1}, late
	}
	_, err := h.in.WriteString(input)
	late := within.passed(f.now())
	if err == nil && late == nil {
		err = control(h.in, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
	}
	if err != nil || late != nil {
		h.stop()
	}
	select {
	case <-h.success:
		if err == nil && late == nil && h.readAll() {
			_ = control(h.program.said, func(fd int) error { h.out.fill(fd); return nil }) // what it printed before it ended
			return result{output: h.out.bytes()}, nil
		}
	case <-h.done:
	}
	<-h.done
	switch {
	case ctx.Err() != nil:
		return h.res, ctx.Err()
	case late != nil:
		return result{code: -1, output: h.res.output}, late
	case err != nil, h.unread: // it is gone: nobody else changes that
		return result{code: -1}, errUntold
	}
	return h.res, h.err
}
