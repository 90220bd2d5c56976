package dlmtest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/quorate/quorate/configfs"
	"github.com/quorate/quorate/configfs/configfstest"
	"github.com/quorate/quorate/kbridge/dlm"
)

// Kernel is one node's kernel.
type Kernel struct {
	Configfs *configfstest.Fake
	kind     configfstest.Kernel
	self     uint32

	mu         sync.Mutex
	spaces     map[string]*lockspace
	seq        int
	uevents    chan []byte
	overrun    chan struct{}
	deaf       bool
	manual     bool // recoveries wait for Notice and Finish
	held       map[string]chan struct{}
	waiting    map[string]chan struct{} // closed when a held operation arrived
	monitor    int
	opened     bool // the monitor was, once
	plocks     chan []byte
	replies    chan []byte
	aborts     map[netip.Addr]int
	forgotten  map[netip.Addr]int
	own        map[netip.Addr][]netip.Addr
	abortErr   error
	forgetErr  error
	replayed   []string
	answers    []string
	violations []string
}

// New is the kernel after boot.
func New(kind configfstest.Kernel, self uint32) *Kernel {
	k := &Kernel{
		Configfs: configfstest.NewFake(kind), kind: kind, self: self,
		spaces: map[string]*lockspace{}, uevents: make(chan []byte, 1024), overrun: make(chan struct{}, 1),
		held: map[string]chan struct{}{}, waiting: map[string]chan struct{}{},
		plocks: make(chan []byte, 64), replies: make(chan []byte, 64), aborts: map[netip.Addr]int{}, forgotten: map[netip.Addr]int{}, own: map[netip.Addr][]netip.Addr{},
	}
	k.Configfs.Before = k.before
	return k
}

var releases = map[configfstest.Kernel]string{configfstest.Linux6_1: "6.1.0", configfstest.Linux6_17: "6.17.0", configfstest.Linux6_18: "6.18.0"}

// Options puts the kernel in the place of the real one.
func (k *Kernel) Options(o dlm.Options) dlm.Options {
	o.Configfs, o.Sysfs, o.Uevents = k.Configfs, sysfs{k}, &uevents{k: k, closed: make(chan struct{})}
	o.Devices, o.Sockets = devices{k}, sockets{k}
	o.Modprobe = func(context.Context, string) error { return nil }
	if o.Release == "" {
		o.Release = releases[k.kind]
	}
	if o.ProcNet == "" {
		o.ProcNet = os.DevNull // it has no connections, and this machine's are not its own
	}
	return o
}

// hold makes an operation block until the returned function is called; arrived
// is closed when one waits.
func (k *Kernel) hold(what string) (arrived <-chan struct{}, release func()) {
	gate, here := make(chan struct{}), make(chan struct{})
	k.mu.Lock()
	k.held[what], k.waiting[what] = gate, here
	k.mu.Unlock()
	return here, sync.OnceFunc(func() {
		k.mu.Lock()
		delete(k.held, what)
		k.mu.Unlock()
		close(gate)
	})
}

func (k *Kernel) gate(what string) {
	k.mu.Lock()
	gate, here := k.held[what], k.waiting[what]
	delete(k.waiting, what)
	k.mu.Unlock()
	if gate == nil {
		return
	}
	if here != nil {
		close(here)
	}
	<-gate
}

// HoldStop makes control=0 of a lockspace block, as under locks that do not end.
func (k *Kernel) HoldStop(ls string) (arrived <-chan struct{}, release func()) {
	return k.hold("stop " + ls)
}

// HoldComm makes the removal of a node's comms entry block, as since Linux 6.12
// with a peer that does not answer.
func (k *Kernel) HoldComm(node uint32) (arrived <-chan struct{}, release func()) {
	return k.hold("rmdir " + configfs.CommPath(node))
}

func (k *Kernel) before(op, path string) error {
	if op == "rmdir" {
		k.gate(op + " " + path)
	}
	return nil
}

// Manual makes recoveries wait for Notice and Finish.
func (k *Kernel) Manual(on bool) {
	k.mu.Lock()
	k.manual = on
	k.mu.Unlock()
}

// LoseUevents drops uevents while on, and then reports an overrun.
func (k *Kernel) LoseUevents(on bool) {
	k.mu.Lock()
	k.deaf = on
	k.mu.Unlock()
	if !on {
		k.overrun <- struct{}{}
	}
}

func (k *Kernel) violate(format string, args ...any) {
	k.violations = append(k.violations, fmt.Sprintf(format, args...))
}

// Violations are what no driver may do.
func (k *Kernel) Violations() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.violations)
}

// Answers are the event_done values written, "lockspace value" in order.
func (k *Kernel) Answers() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.answers)
}

// Replayed are the failed members that recoveries reported to the file system,
// "lockspace node" in order.
func (k *Kernel) Replayed() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.replayed)
}

// Aborts counts the attempts to end connections to an address.
func (k *Kernel) Aborts(to netip.Addr) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.aborts[to]
}

// Forgotten counts how often an address was to be asked for anew.
func (k *Kernel) Forgotten(to netip.Addr) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.forgotten[to]
}

// Own are the addresses that the peer at an address was said to have.
func (k *Kernel) Own(to netip.Addr) []netip.Addr {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.own[to]
}

// AbortFails makes SOCK_DESTROY answer with an error.
func (k *Kernel) AbortFails(err error) {
	k.mu.Lock()
	k.abortErr = err
	k.mu.Unlock()
}

// ForgetFails makes forgetting a neighbour answer with an error.
func (k *Kernel) ForgetFails(err error) {
	k.mu.Lock()
	k.forgetErr = err
	k.mu.Unlock()
}

// Monitored says whether dlm-monitor is open.
func (k *Kernel) Monitored() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.monitor > 0
}

// Plock queues an operation on POSIX locks and returns the answer.
func (k *Kernel) Plock(op []byte) []byte {
	k.plocks <- op
	return <-k.replies
}

// Uevent sends a uevent: the action, the path and the rest of its environment.
func (k *Kernel) Uevent(action, devpath, subsystem string, env ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.uevent(action, devpath, subsystem, env...)
}

func (k *Kernel) uevent(action, devpath, subsystem string, env ...string) {
	k.seq++
	if k.deaf {
		return
	}
	parts := append([]string{action + "@" + devpath, "ACTION=" + action, "DEVPATH=" + devpath, "SUBSYSTEM=" + subsystem}, env...)
	parts = append(parts, fmt.Sprintf("SEQNUM=%d", k.seq))
	k.uevents <- []byte(strings.Join(parts, "\x00") + "\x00")
}

// uevents are those that one driver listens to.
type uevents struct {
	k      *Kernel
	once   sync.Once
	closed chan struct{}
}

func (u *uevents) Next() ([]byte, error) {
	select {
	case b := <-u.k.uevents:
		return b, nil
	case <-u.k.overrun:
		return nil, dlm.ErrOverrun
	case <-u.closed:
		return nil, syscall.EBADF
	}
}

func (u *uevents) Close() error {
	u.once.Do(func() { close(u.closed) })
	return nil
}

type sockets struct{ k *Kernel }

// Conns: this kernel has no sock_diag for that; see Options.ProcNet.
func (sockets) Conns(uint16, bool) ([]dlm.Conn, error) { return nil, syscall.ENOENT }

func (s sockets) AbortConnects(to netip.Addr, _ uint16) (int, error) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	s.k.aborts[to]++
	return 1, s.k.abortErr
}

func (s sockets) Forget(to netip.Addr, own []netip.Addr) error {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	s.k.forgotten[to]++
	s.k.own[to] = own
	return s.k.forgetErr
}
