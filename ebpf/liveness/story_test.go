package liveness

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/udp"
)

const envNode = "QUORATE_STORY_NODE"

// TestMain runs the tests, or a node of a story, in a process of its own that can be
// stopped and killed.
func TestMain(m *testing.M) {
	if spec := os.Getenv(envNode); spec != "" {
		if err := storyNode(spec, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// storySpec is one node of a story, on one wire with the other.
type storySpec struct {
	Self  membership.NodeID
	Addrs [2]netip.Addr // of nodes 1 and 2
	Want  Want          // empty: it answers as a daemon alone
	Root  string
	Run   uint64 // of its prober
	Epoch uint64 // of the other node's answers
	// NoTimers: as on a kernel that has none.
	NoTimers bool
}

const (
	storyInterval = 10 * time.Millisecond
	storyPort     = 21061
	patience      = 30 * time.Second
)

// storySay is what a node says of the other one.
type storySay struct {
	Report  membership.LinkReport
	Sample  membership.Sample
	Epoch   uint64
	Status  []LinkStatus
	Counter map[string]uint64 // of the kernel
	User    map[string]uint64 // of the daemon
	Silent  int               // how often silence was told
	Since   membership.Mono   // of the last time
	Told    membership.Mono
	Now     membership.Mono
	Held    time.Duration // for how long it was once not run
}

// storyNode is a daemon's probes and nothing else. It says how it is for each line that it
// reads.
func storyNode(text string, in io.Reader, out io.Writer) error {
	var spec storySpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	other := 3 - spec.Self
	nodes := []membership.Node{{ID: 1, Addrs: []netip.Addr{spec.Addrs[0]}}, {ID: 2, Addrs: []netip.Addr{spec.Addrs[1]}}}
	keys := []probe.Key{testKey(1)}
	say := storySay{Epoch: spec.Run}
	var r *Reflector
	if spec.Want != "" {
		var err error
		if r, err = Load(Options{Cluster: "story", Epoch: spec.Run, Want: spec.Want, Root: spec.Root, noTimers: spec.NoTimers}); err != nil {
			return err
		}
		say.Epoch = r.Epoch()
		err = r.Configure(Config{Self: spec.Self, Port: storyPort, Links: []netip.Addr{spec.Addrs[spec.Self-1]}, Keys: keys,
			Peers: []Peer{{Node: other, Addr: netip.AddrPortFrom(spec.Addrs[other-1], storyPort), Rate: 800, Trust: 100 * time.Millisecond}},
			Run:   spec.Run, Interval: storyInterval, Silent: storySilent})
		if err != nil {
			return err
		}
		if err := r.Learn(other, uint64(other), spec.Epoch); err != nil {
			return err
		}
		go r.Run(ctx)
	}
	opt := udp.Options{Self: spec.Self, Nodes: nodes, Interval: storyInterval, Keys: keys, Instance: spec.Run, Epoch: say.Epoch, Port: storyPort}
	if r != nil {
		opt.Arrivals = r
	}
	p, err := udp.New(opt)
	if err != nil {
		return err
	}
	p.Learn(other, uint64(other), spec.Epoch)
	go func() { _ = p.Run(ctx) }()
	var held atomic.Int64
	go func() {
		was := boottime()
		for range time.Tick(storyInterval) {
			at := boottime()
			held.Store(max(held.Load(), int64(at.Sub(was))))
			was = at
			p.Progress(5)
			if r != nil {
				r.Progress(boottime(), 5)
			}
		}
	}()
	var mu sync.Mutex
	watch := func(tell func(probe.Silence)) error { return ownTimer(ctx, p, tell) }
	if r != nil {
		watch = func(tell func(probe.Silence)) error { return r.Watch(ctx, tell) }
	}
	go func() {
		_ = watch(func(s probe.Silence) {
			mu.Lock()
			defer mu.Unlock()
			say.Silent, say.Since, say.Told = say.Silent+1, s.Since, boottime()
		})
	}()
	enc := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if lines.Text() != "" {
			if err := listen(lines.Text() == "listen"); err != nil {
				return err
			}
		}
		mu.Lock()
		say := say
		mu.Unlock()
		say.Now, say.Held = boottime(), time.Duration(held.Load())
		say.Report, say.Sample, say.User = p.Links()[0], p.Snapshot()[0], p.Counters()
		if r != nil {
			say.Status = r.Status()
			if say.Counter, err = r.Counters(); err != nil {
				return err
			}
		}
		if err := enc.Encode(say); err != nil {
			return err
		}
	}
	return nil
}

// wire is two namespaces with one cable.
type wire struct {
	t    *testing.T
	dir  string
	ns   [2]*os.File
	addr [2]netip.Addr
}

// newWire makes it on a thread that ends; the namespaces live by their files.
func newWire(t *testing.T, addrs [2]netip.Addr) *wire {
	t.Helper()
	needKernel(t)
	w := &wire{t: t, dir: testRoot(t), addr: addrs}
	w.thread(func() error {
		for i := range w.ns {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			f, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = f.Close() })
			w.ns[i] = f
		}
		a := netlink.NewLinkAttrs()
		a.Name = "wire"
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "wire", PeerNamespace: netlink.NsFd(w.ns[0].Fd())})
	})
	for i := range w.ns {
		w.thread(func() error {
			if err := unix.Setns(int(w.ns[i].Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			l, err := netlink.LinkByName("wire")
			if err != nil {
				return err
			}
			bits := addrs[i].BitLen() - 8
			a, err := netlink.ParseAddr(netip.PrefixFrom(addrs[i], bits).String())
			if err != nil {
				return err
			}
			a.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(l, a); err != nil {
				return err
			}
			return netlink.LinkSetUp(l)
		})
	}
	return w
}

// thread runs f on a thread of its own, which is thrown away.
func (w *wire) thread(f func() error) {
	w.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
}

// node is a running node of a story.
type node struct {
	w    *wire
	self membership.NodeID
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	end  sync.Once
}

func (w *wire) start(self membership.NodeID, want Want, run, epoch uint64) *node {
	w.t.Helper()
	return w.startSpec(storySpec{Self: self, Addrs: w.addr, Want: want, Root: filepath.Join(w.dir, fmt.Sprint(self)), Run: run, Epoch: epoch})
}

func (w *wire) startSpec(s storySpec) *node {
	w.t.Helper()
	self := s.Self
	spec, err := json.Marshal(s)
	if err != nil {
		w.t.Fatal(err)
	}
	n := &node{w: w, self: self, cmd: exec.Command(os.Args[0])}
	n.cmd.Env = append(os.Environ(), envNode+"="+string(spec))
	n.cmd.Stderr = os.Stderr
	n.in, err = n.cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	n.out = json.NewDecoder(out)
	w.thread(func() error {
		if err := unix.Setns(int(w.ns[self-1].Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return n.cmd.Start()
	})
	w.t.Cleanup(n.kill)
	return n
}

// kill ends a node without a word.
func (n *node) kill() {
	n.end.Do(func() {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
	})
}

func (n *node) signal(s syscall.Signal) {
	n.w.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.w.t.Fatal(err)
	}
}

func (n *node) say() (s storySay) { return n.order("") }

// order has a node do something, or nothing, and say how it is.
func (n *node) order(what string) (s storySay) {
	n.w.t.Helper()
	if _, err := fmt.Fprintln(n.in, what); err != nil {
		n.w.t.Fatal(err)
	}
	if err := n.out.Decode(&s); err != nil {
		n.w.t.Fatal(err)
	}
	return s
}

// await waits until a node says what is wanted.
func (n *node) await(what string, ok func(storySay) bool) storySay {
	n.w.t.Helper()
	for began := time.Now(); ; time.Sleep(storyInterval) {
		s := n.say()
		if ok(s) {
			return s
		}
		if time.Since(began) > patience {
			n.w.t.Fatalf("node %d waited in vain: %s; it says %+v", n.self, what, s)
		}
	}
}

// steady checks that nearly every one of the next probes is answered, and by whom.
func (n *node) steady(what string, probes uint64, ok func(storySay) bool) storySay {
	n.w.t.Helper()
	from := n.say()
	to := n.await(what+": probes are sent", func(s storySay) bool { return s.Sample.Sent >= from.Sample.Sent+probes })
	sent, heard := to.Sample.Sent-from.Sample.Sent, to.answers()-from.answers()
	if heard*10 < sent*9 {
		n.w.t.Errorf("%s: %d answers to %d probes", what, heard, sent)
	}
	if !ok(to) {
		n.w.t.Errorf("%s: node %d says %+v", what, n.self, to)
	}
	return to
}

// answers are those of the other node, of its kernel without a daemon too.
func (s storySay) answers() uint64 { return s.Sample.Answered + s.User["no_daemon"] }

func kernelAnswers(s storySay) bool { return s.Report.Kernel && s.Sample.Answered > 0 }

// A node that is stopped, and one that has no process at all, is answered for by its
// kernel; who restarts takes that over, and no answer is missing.
func story(t *testing.T, addrs [2]netip.Addr, one, two Want) {
	w := newWire(t, addrs)
	a := w.start(1, one, 1, 20)
	b := w.start(2, two, 20, 1)
	a.await("node 2's kernel answers", kernelAnswers)
	s := a.steady("both run", 50, kernelAnswers)
	if s.Sample.View != 5 || s.Sample.DaemonAge > time.Second {
		t.Errorf("%+v", s.Sample)
	}

	b.signal(syscall.SIGSTOP)
	a.steady("stopped", 100, func(s storySay) bool { return kernelAnswers(s) && s.Sample.DaemonAge > 300*time.Millisecond })
	b.signal(syscall.SIGCONT)
	a.await("it goes on", func(s storySay) bool { return s.Sample.DaemonAge < 300*time.Millisecond })
	a.steady("it goes on", 50, kernelAnswers)

	b.kill()
	dead := a.await("it has no daemon", func(s storySay) bool { return s.Report.NoDaemon })
	a.steady("killed", 100, func(s storySay) bool {
		return s.Report.Kernel && s.Report.NoDaemon && s.Sample.Answered == dead.Sample.Answered && s.Sample.Heard == dead.Sample.Heard
	})
	b = w.start(2, two, 30, 1)
	if got := b.say().Epoch; got != 20 {
		t.Errorf("the next run has epoch %d", got)
	}
	s = a.steady("restarted", 100, kernelAnswers)
	if s.Report.NoDaemon || s.Sample.Answered == dead.Sample.Answered {
		t.Errorf("restarted: %+v", s)
	}
	a.await("the next run makes progress", func(s storySay) bool { return s.Sample.DaemonAge < 300*time.Millisecond })

}

var (
	wireV4 = [2]netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")}
	wireV6 = [2]netip.Addr{netip.MustParseAddr("fd09::1"), netip.MustParseAddr("fd09::2")}
)

func TestStory(t *testing.T) {
	t.Run("generic v4", func(t *testing.T) { story(t, wireV4, WantGeneric, WantGeneric) })
	t.Run("generic v6", func(t *testing.T) { story(t, wireV6, WantGeneric, WantGeneric) })
	t.Run("native v4", func(t *testing.T) { story(t, wireV4, WantNative, WantNative) })
	t.Run("native v6", func(t *testing.T) { story(t, wireV6, WantNative, WantNative) })
}

// A virtual cable takes what a driver's program sends back and loses it, as long as
// the other end has none: half of the probes are the daemon's to answer meanwhile, and
// then the stack's hook takes over.
func TestStoryLossyDriver(t *testing.T) {
	w := newWire(t, wireV4)
	a := w.start(1, "", 1, 20)
	b := w.start(2, Auto, 20, 1)
	a.await("node 2 answers", func(s storySay) bool { return s.Sample.Answered > 0 })
	s := b.await("generic takes its place", func(s storySay) bool { return len(s.Status) == 1 && s.Status[0].Mode == Generic })
	if s.Status[0].Why != "native: its answers do not arrive at node 1" || s.Counter["trial"] == 0 {
		t.Errorf("%+v", s.Status)
	}
	a.await("node 2's kernel answers", kernelAnswers)
	a.steady("generic", 50, kernelAnswers)
}
