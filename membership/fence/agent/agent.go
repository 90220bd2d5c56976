package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
)

// Dirs are where agents are looked for.
var Dirs = []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/libexec/quorate"}

// The ways in which a device fails.
var (
	ErrNoDevice  = errors.New("no device can cut this node off")
	ErrNoAgent   = errors.New("fence agent is not installed")
	ErrDeadline  = errors.New("the deadline of this attempt has passed before the agent could run")
	ErrOver      = errors.New("the time of this attempt is over")
	ErrTimeout   = errors.New("agent did not finish in time")
	ErrFailed    = errors.New("agent failed")
	ErrLying     = errors.New("the device reported success and then said that the node is on")
	ErrUnproved  = errors.New("the device reported success and could then not be asked")
	ErrDeaf      = errors.New("agent ended without having read what it was asked: see that it is a fence agent and reads its options from standard input")
	ErrCancelled = errors.New("cancelled")
)

// OpError is a failure of one device. Path is the agent.
type OpError struct {
	Op   string // off, reboot, status, monitor
	Path string
	Err  error
}

func (e *OpError) Error() string { return filepath.Base(e.Path) + " " + e.Op + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// Fencer is a membership.Fencer on configured devices. It is safe for
// concurrent use.
type Fencer struct {
	devices map[membership.NodeID][]membership.Device
	names   func(membership.NodeID) string
	byHand  bool // nodes without a device wait for an operator
	dirs    []string
	shell   string // the first process of an agent's pid namespace
	now     func() membership.Mono
	verify  time.Duration                     // how long a status may go on saying on
	pause   time.Duration                     // between two questions
	warmFor time.Duration                     // how long what Prepare started waits
	draw    func(time.Duration) time.Duration // of a random delay
	log     *slog.Logger

	joined sync.WaitGroup // the agents that wait
	mu     sync.Mutex
	warm   map[membership.NodeID]*warmSet
	closed bool
}

var _ membership.Fencer = (*Fencer)(nil)

// Option changes a Fencer.
type Option func(*Fencer)

// WithDirs looks for agents in these directories instead.
func WithDirs(dirs ...string) Option { return func(f *Fencer) { f.dirs = dirs } }

// WithClock reads another clock than CLOCK_BOOTTIME.
func WithClock(now func() membership.Mono) Option { return func(f *Fencer) { f.now = now } }

// WithVerify sets how long after a success the device may take until its status
// says off, and the longest pause between two questions; the first are shorter.
// Default 10 s and 500 ms.
func WithVerify(limit, pause time.Duration) Option {
	return func(f *Fencer) { f.verify, f.pause = limit, pause }
}

// WithWarmFor sets how long agents started by Prepare wait. Default 60 s; 0: Prepare
// does nothing.
func WithWarmFor(d time.Duration) Option { return func(f *Fencer) { f.warmFor = d } }

// WithDraw draws random delays otherwise: it is given the longest, and must not
// return more.
func WithDraw(draw func(time.Duration) time.Duration) Option {
	return func(f *Fencer) { f.draw = draw }
}

// WithLog logs what happens to agents that wait, at debug. Default: nowhere.
func WithLog(log *slog.Logger) Option { return func(f *Fencer) { f.log = log } }

// New returns a Fencer on the devices of a configuration.
func New(cfg membership.Config, opts ...Option) *Fencer {
	f := &Fencer{
		devices: map[membership.NodeID][]membership.Device{}, names: cfg.Name, byHand: cfg.ManualFence, dirs: Dirs, shell: "/bin/sh",
		now: boottime, verify: 10 * time.Second, pause: 500 * time.Millisecond,
		warmFor: time.Minute, draw: func(most time.Duration) time.Duration { return time.Duration(rand.Int64N(int64(most) + 1)) }, log: slog.New(slog.DiscardHandler), warm: map[membership.NodeID]*warmSet{},
	}
	for _, d := range cfg.Devices {
		for _, n := range d.Nodes {
			f.devices[n] = append(f.devices[n], d)
		}
	}
	for _, all := range f.devices {
		slices.SortStableFunc(all, func(a, b membership.Device) int { return cmp.Compare(a.Level, b.Level) })
	}
	for _, o := range opts {
		o(f)
	}
	return f
}

func boottime() membership.Mono {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 1<<63 - 1 // no clock: every deadline has passed
	}
	return membership.Mono(ts.Nano())
}

// Has says whether any device can cut the node off.
func (f *Fencer) Has(n membership.NodeID) bool { return len(f.devices[n]) > 0 }

// Fence runs the victim's devices. See the package comment.
func (f *Fencer) Fence(ctx context.Context, job membership.FenceJob) membership.FenceResult {
	defer func() { // what this victim needs no more
		for _, h := range f.drop(job.Victim.Node) {
			<-h.done
		}
	}()
	start := f.now()
	res := membership.FenceResult{}
	var errs []error
	within := bounds{job.Deadline, job.Until}
	for _, level := range f.order(job) {
		err := f.level(ctx, level, within, &res)
		for _, d := range level {
			within = within.later(d.Lease())
		}
		if err == nil {
			res.OK, res.Level, errs = true, level[0].Level, nil
			break
		}
		errs = append(errs, err)
		if ctx.Err() != nil || errors.Is(err, ErrDeadline) || errors.Is(err, ErrOver) {
			break
		}
	}
	if !res.OK && len(errs) == 0 {
		errs = append(errs, f.noDevice(job.Victim.Node))
	}
	if err := join(errs); err != nil {
		res.Err = err.Error()
	}
	res.Took = f.now().Sub(start)
	return res
}

func (f *Fencer) noDevice(n membership.NodeID) error {
	name := f.names(n)
	if f.byHand {
		return fmt.Errorf("%w: make sure that %s is powered off or cut from the storage, then run: quorate fence ack %s", ErrNoDevice, name, name)
	}
	return fmt.Errorf("%w: write a [[fence]] section for %s", ErrNoDevice, name)
}

// levels returns parts of one array: a pointer into it names a device of the node.
func (f *Fencer) levels(n membership.NodeID) [][]membership.Device {
	var out [][]membership.Device
	all, from := f.devices[n], 0
	for i := range all {
		if i+1 == len(all) || all[i+1].Level != all[from].Level {
			out, from = append(out, all[from:i+1]), i+1
		}
	}
	return out
}

// order is in which the victim's levels are tried: those up to one that lied last.
func (f *Fencer) order(job membership.FenceJob) [][]membership.Device {
	levels := f.levels(job.Victim.Node)
	lied := slices.IndexFunc(levels, func(l []membership.Device) bool { return l[0].Level > job.After })
	if lied <= 0 {
		return levels
	}
	return slices.Concat(levels[lied:], levels[:lied])
}

// join puts errors on one line, as results and logs want them.
func join(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	words := make([]string, len(errs))
	for i, e := range errs {
		words[i] = e.Error()
	}
	return errors.New(strings.Join(words, "; "))
}

// Ready says whether this machine has what a device needs: its program, in one of Dirs
// or at its own path, and the files of its secrets. The device itself is not asked.
func Ready(ctx context.Context, d membership.Device) error {
	if _, err := (&Fencer{dirs: Dirs}).find(d.Agent); err != nil {
		return err
	}
	_, err := options(ctx, &d)
	return err
}

// find returns the program of an agent.
func (f *Fencer) find(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, executable(name)
	}
	if name == "" || strings.ContainsRune(name, '/') {
		return "", fmt.Errorf("%w: %q is neither a name nor an absolute path", ErrNoAgent, name)
	}
	for _, dir := range f.dirs {
		if p := filepath.Join(dir, name); executable(p) == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: %s is not in %s: install fence-agents, or write its absolute path", ErrNoAgent, name, strings.Join(f.dirs, " "))
}

func executable(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNoAgent, path, errors.Unwrap(err))
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%w: %s is not a program: chmod +x it", ErrNoAgent, path)
	}
	return nil
}

// stdin is what an agent reads: one option a line, sorted, the action last.
func stdin(options map[string]string, action string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(options)) {
		if k != "action" {
			b.WriteString(k + "=" + options[k] + "\n")
		}
	}
	b.WriteString("action=" + action + "\n")
	return b.String()
}
