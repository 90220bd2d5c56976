package liveness

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// host is a test in a network namespace of its own, which this goroutine's thread lives
// in, with pins of its own.
type host struct {
	t    *testing.T
	root string
	tell func(Change)
}

func newHost(t *testing.T) *host {
	t.Helper()
	needKernel(t)
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, root: testRoot(t)}
	h.veth("v0", "10.0.0.2/24")
	return h
}

// testRoot is a folder for pins that is gone after the test.
func testRoot(t *testing.T) string {
	t.Helper()
	root := filepath.Join(bpfMount, fmt.Sprintf("quorate-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")))
	t.Cleanup(func() {
		if err := removeAll(root); err != nil {
			t.Error(err)
		}
	})
	return root
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// veth makes an interface with an address, and another end for it.
func (h *host) veth(name, addr string) netlink.Link {
	h.t.Helper()
	a := netlink.NewLinkAttrs()
	a.Name = name
	return h.add(&netlink.Veth{LinkAttrs: a, PeerName: name + "p"}, addr)
}

func (h *host) add(l netlink.Link, addr string) netlink.Link {
	h.t.Helper()
	h.must(netlink.LinkAdd(l))
	h.must(netlink.LinkSetUp(l))
	ip, err := netlink.ParseAddr(addr)
	h.must(err)
	h.must(netlink.AddrAdd(l, ip))
	return h.link(l.Attrs().Name)
}

func (h *host) link(name string) netlink.Link {
	h.t.Helper()
	l, err := netlink.LinkByName(name)
	h.must(err)
	return l
}

// prog is the XDP program on an interface.
func (h *host) prog(name string) (id uint32) {
	h.t.Helper()
	if x := h.link(name).Attrs().Xdp; x != nil && x.Attached {
		return x.ProgId
	}
	return 0
}

func (h *host) config() Config {
	c := rigConfig()
	c.Links = []netip.Addr{ownV4.Addr()}
	c.Peers = c.Peers[:1]
	return c
}

// load starts a daemon's reflector.
func (h *host) load(want Want, epoch uint64) *Reflector {
	h.t.Helper()
	r, err := Load(Options{Cluster: "a.b", Epoch: epoch, Want: want, Root: h.root, Tell: h.tell})
	h.must(err)
	h.t.Cleanup(func() { h.must(r.Close()) })
	return r
}

func (h *host) start(want Want, epoch uint64) *Reflector {
	h.t.Helper()
	r := h.load(want, epoch)
	h.must(r.Maintain()) // nothing is known yet, and nothing happens
	h.must(r.Configure(h.config()))
	h.must(r.Maintain())
	return r
}

// mode checks what answers on link 0, and returns why.
func (h *host) mode(r *Reflector, want Mode) string {
	h.t.Helper()
	s := r.Status()
	if len(s) != 1 || s[0].Mode != want {
		h.t.Fatalf("%+v, want %q", s, want)
	}
	if id := h.prog("v0"); want == None && id == 0 || want != None && id != 0 {
		return s[0].Why
	}
	h.t.Fatalf("program %d is on the interface, and the mode is %q", h.prog("v0"), want)
	return ""
}

func TestModes(t *testing.T) {
	h := newHost(t)
	for want, mode := range map[Want]Mode{Auto: Native, WantNative: Native, WantGeneric: Generic, Off: None} {
		r := h.start(want, 1)
		why := h.mode(r, mode)
		if s := r.Status()[0]; s.Driver != "veth" || s.XDP != "yes" && s.XDP != "unknown" {
			t.Errorf("%s: %+v", want, s)
		}
		if s := r.Status()[0]; (s.Since == 0) != (want == Off) || s.Since > boottime() {
			t.Errorf("%s: %+v", want, s)
		}
		if (why == "") != (want != Off) || (r.Status()[0].Interface != "v0") {
			t.Errorf("%s: %+v", want, r.Status())
		}
		if n, err := r.Counters(); err != nil || len(n) != int(reasons) {
			t.Errorf("%v, %v", n, err)
		}
		h.must(r.Remove())
		if id := h.prog("v0"); id != 0 {
			t.Errorf("%s: program %d stayed", want, id)
		}
		if _, err := os.Stat(h.root); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: pins stayed: %v", want, err)
		}
		h.must(r.Remove()) // nothing is left to do
	}
}

// A restarted daemon takes over what answers, its epoch too, and replaces the program in
// place. Another wish is obeyed.
func TestTakeOver(t *testing.T) {
	h := newHost(t)
	a := h.start(Auto, 11)
	h.must(a.Learn(1, 77, 66))
	old, at := h.prog("v0"), h.linkID(Native)
	h.must(a.Close())
	if id := h.prog("v0"); id != old {
		t.Fatalf("program %d became %d when its daemon ended", old, id)
	}
	if err := a.Maintain(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}

	b := h.load(Auto, 22)
	if b.Epoch() != 11 {
		t.Errorf("the epoch became %d", b.Epoch())
	}
	if h.prog("v0") != old {
		t.Error("it was changed before its maps were filled")
	}
	h.must(b.Configure(h.config()))
	h.must(b.Maintain())
	h.mode(b, Native)
	if id := h.prog("v0"); id == old {
		t.Error("the old program is still there")
	}
	if id := h.linkID(Native); id != at {
		t.Errorf("attachment %d became %d: there was a gap", at, id)
	}
	if v := h.peer(b); v.Instance != 77 {
		t.Errorf("what was learnt is lost: %+v", v)
	}
	h.must(b.Close())

	c := h.start(WantGeneric, 33)
	h.mode(c, Generic)
	if c.Epoch() != 11 {
		t.Errorf("the epoch became %d", c.Epoch())
	}
	h.must(c.Close())
	d := h.start(Off, 33)
	h.mode(d, None)
}

func (h *host) linkID(m Mode) link.ID {
	h.t.Helper()
	l, err := link.LoadPinnedLink(pinsOf(h.root, "a.b").link(m, h.link("v0").Attrs().Index), nil)
	h.must(err)
	defer l.Close()
	info, err := l.Info()
	h.must(err)
	return info.ID
}

func (h *host) peer(r *Reflector) peerValue {
	h.t.Helper()
	all, err := dump[peerKey, peerValue](r.obj.Peers)
	h.must(err)
	return all[peerKey{1, 0}]
}

// A daemon whose maps mean something else makes new ones, and keeps the epoch.
func TestOtherLayout(t *testing.T) {
	h := newHost(t)
	a := h.start(Auto, 11)
	h.must(a.Close())
	p := pinsOf(h.root, "a.b")
	other := filepath.Join(p.dir, "maps-0")
	h.must(os.MkdirAll(other, 0o700))
	entries, err := os.ReadDir(p.maps())
	h.must(err)
	for _, e := range entries {
		h.must(os.Rename(filepath.Join(p.maps(), e.Name()), filepath.Join(other, e.Name())))
	}
	b := h.load(Auto, 22)
	if b.Epoch() != 11 {
		t.Errorf("the epoch became %d", b.Epoch())
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("the maps of the program that answers are gone: %v", err)
	}
	h.must(b.Configure(h.config()))
	h.must(b.Maintain())
	h.mode(b, Native)
	if _, err := os.Stat(other); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old maps stayed: %v", err)
	}
}

// Whatever takes the program away is noticed, and it comes back.
func TestMended(t *testing.T) {
	h := newHost(t)
	r := h.start(Auto, 1)
	index := h.link("v0").Attrs().Index
	pin := pinsOf(h.root, "a.b").link(Native, index)
	for name, loss := range map[string]func(){
		"detached": func() {
			l, err := link.LoadPinnedLink(pin, nil)
			h.must(err)
			h.must(l.Detach())
			h.must(l.Close())
		},
		"detached and unpinned": func() {
			l, err := link.LoadPinnedLink(pin, nil)
			h.must(err)
			h.must(l.Unpin())
			h.must(l.Detach())
			h.must(l.Close())
		},
	} {
		before := r.Status()[0].Lost
		loss()
		if h.prog("v0") != 0 {
			t.Fatalf("%s: the program is still there", name)
		}
		h.must(r.Maintain())
		h.mode(r, Native)
		if s := r.Status()[0]; s.Lost != before+1 || boottime().Sub(s.LostAt) > time.Minute {
			t.Errorf("%s: %+v after %d losses", name, s, before)
		}
	}
	h.must(netlink.LinkDel(h.link("v0")))
	h.must(r.Maintain())
	if s := r.Status()[0]; s.Mode != None || s.Interface != "" || s.Driver != "" || s.Why != "no interface has the address" {
		t.Errorf("%+v", s)
	}
	h.veth("v0", "10.0.0.2/24")
	h.must(r.Maintain())
	h.mode(r, Native)
}

// An interface that is made anew under the number and the name of another is another one.
func TestMadeAnewUnderItsNumber(t *testing.T) {
	h := newHost(t)
	r := h.start(Auto, 1)
	a := netlink.NewLinkAttrs()
	a.Name, a.Index = "v0", h.link("v0").Attrs().Index
	h.must(netlink.LinkDel(h.link("v0")))
	h.add(&netlink.Bridge{LinkAttrs: a}, "10.0.0.2/24")
	h.must(r.Maintain())
	h.mode(r, Generic)
	if s := r.Status()[0]; s.Driver != "bridge" {
		t.Errorf("%+v", s)
	}
	h.must(netlink.LinkDel(h.link("v0")))
	h.add(&netlink.Veth{LinkAttrs: a, PeerName: "v0q"}, "10.0.0.2/24")
	h.must(r.Maintain())
	if why := h.mode(r, Native); why != "" || r.Status()[0].Driver != "veth" {
		t.Errorf("%+v", r.Status())
	}
}

// foreign attaches another program to v0.
func foreign(h *host) link.Link {
	h.t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "somebody", Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()}})
	h.must(err)
	defer p.Close()
	l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: h.link("v0").Attrs().Index, Flags: link.XDPGenericMode})
	h.must(err)
	return l
}

// Another program is respected, and named.
func TestForeign(t *testing.T) {
	h := newHost(t)
	l := foreign(h)
	r := h.start(Auto, 1)
	id := h.prog("v0")
	if s := r.Status()[0]; s.Mode != None || s.Why != fmt.Sprintf("another XDP program is there: id %d, name %q", id, "somebody") {
		t.Errorf("%+v", s)
	}
	h.must(l.Close())
	h.must(r.Maintain())
	h.mode(r, Native)
	if got := describe(1 << 30); got != fmt.Sprintf("id %d", 1<<30) {
		t.Errorf("a program that is gone: %s", got)
	}
}

// A driver that cannot leaves it to the stack; one that may not says so.
func TestNoDriver(t *testing.T) {
	h := newHost(t)
	h.must(netlink.LinkDel(h.link("v0")))
	a := netlink.NewLinkAttrs()
	a.Name = "v0"
	h.add(&netlink.Bridge{LinkAttrs: a}, "10.0.0.2/24")
	r := h.start(Auto, 1)
	s := r.Status()[0]
	says := map[string]string{"no": "native: the driver of v0, bridge, does not do XDP, as the kernel's netdev family says", "unknown": "native: not possible on v0: "}[s.XDP]
	if why := h.mode(r, Generic); says == "" || !strings.HasPrefix(why, says) || s.Driver != "bridge" {
		t.Errorf("%+v", s)
	}
	h.must(r.Maintain())
	h.mode(r, Generic)
	h.must(r.Remove())
	r = h.start(WantNative, 1)
	if why := h.mode(r, None); !strings.Contains(why, "native: not possible on v0") {
		t.Error(why)
	}
}

// Answers that do not arrive take the mode away.
func TestAnswersAreLost(t *testing.T) {
	h := newHost(t)
	r := h.start(Auto, 1)
	r.ifaces[h.link("v0").Attrs().Index].since = 1
	s := newState()
	s.AckedUser = uint64(boottime())
	h.must(r.obj.States.Put(peerKey{1, 0}, s))
	h.must(r.Maintain())
	if why := h.mode(r, Generic); why != "native: its answers do not arrive at node 1" {
		t.Error(why)
	}
}

// lose has the answers of the mode that is there not arrive.
func (h *host) lose(r *Reflector) *iface {
	h.t.Helper()
	i := r.ifaces[h.link("v0").Attrs().Index]
	i.since = 1
	s := newState()
	s.AckedUser = uint64(boottime())
	h.must(r.obj.States.Put(peerKey{1, 0}, s))
	h.must(r.Maintain())
	h.mode(r, None)
	return i
}

// The stack's hook is tried again after a rest when answers did not arrive: what took them
// may be gone.
func TestLostAnswersAreTriedAgain(t *testing.T) {
	h := newHost(t)
	r := h.start(WantGeneric, 1)
	i := h.lose(r)
	f := i.faults[Generic]
	if rest := f.until.Sub(boottime()); rest < retrial-time.Minute || rest > retrial {
		t.Errorf("it rests for %v", rest)
	}
	i.faults[Generic] = fault{f.why, boottime()}
	h.must(r.Maintain())
	h.mode(r, Generic)
}

// A driver is not: to attach to it may take its link down. Another driver is another story.
func TestLostAnswersOfDriver(t *testing.T) {
	h := newHost(t)
	r := h.start(WantNative, 1)
	i := h.lose(r)
	if until := i.faults[Native].until; until.Sub(boottime()) < 100*365*24*time.Hour {
		t.Errorf("it is tried again in %v", until.Sub(boottime()))
	}
	i.device.Why = "not asked" // of the same driver
	r.ask(i)
	h.must(r.Maintain())
	h.mode(r, None)
	i.device.Driver = "another"
	r.ask(i)
	h.must(r.Maintain())
	h.mode(r, Native)
}

func TestLoadRefuses(t *testing.T) {
	needKernel(t)
	for _, o := range []Options{{}, {Cluster: "x"}, {Epoch: 1}, {Cluster: "x", Epoch: 1, Want: "maybe"}} {
		if _, err := Load(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	if _, err := Load(Options{Cluster: "x", Epoch: 1, Root: t.TempDir()}); !errors.Is(err, ErrNoPins) {
		t.Errorf("no bpf file system: %v", err)
	}
}

func TestPins(t *testing.T) {
	if got := pinsIn("/r", "a.b/c%@").dir; got != "/r/a%2eb%2fc%25%40" {
		t.Error(got)
	}
	for name, ok := range map[string]bool{"native-3": true, "generic-40": true, "native-0": false, "native": false, "maps-1": false, "x-3": false, "native-x": false} {
		if _, _, got := parseLink(name); got != ok {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestPinsOfNamespace(t *testing.T) {
	first := netns()
	if got := pinsOf("/r", "a").dir; first == 1 && got != "/r/a" {
		t.Error(got)
	}
	newHost(t)
	if got, want := pinsOf("/r", "a").dir, fmt.Sprintf("/r/a@%d", netns()); got != want || netns() <= 1 || netns() == first {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, f := range map[string]func(*Config){
		"self": func(c *Config) { c.Self = 0 }, "port": func(c *Config) { c.Port = 0 },
		"no link": func(c *Config) { c.Links = nil }, "links": func(c *Config) { c.Links = make([]netip.Addr, maxLinks+1) },
		"peers": func(c *Config) { c.Peers = make([]Peer, maxPeers+1) }, "no key": func(c *Config) { c.Keys = nil },
		"zero key": func(c *Config) { c.Keys[0] = probe.Key{} },
	} {
		c := rigConfig()
		f(&c)
		if c.check() == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	c := rigConfig()
	if err := c.check(); err != nil {
		t.Error(err)
	}
}

// A peer that goes takes its state along, and its address is nobody's.
func TestConfigureAgain(t *testing.T) {
	r := newRig(t)
	r.trusted(rigProber, 1)
	c := rigConfig()
	c.Peers = c.Peers[1:]
	r.configure(c, map[membership.NodeID]identity{1: {rigProber, rigPeerEpoch}})
	r.refuses(t, v4(ask(3)), pass, "source")
	if all, err := r.states(); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
	c.Links = []netip.Addr{netip.MustParseAddr("10.0.0.7"), ownV6.Addr()}
	r.configure(c, nil)
	r.refuses(t, v4(ask(3)), pass, "address")
	r.configure(rigConfig(), map[membership.NodeID]identity{1: {rigProber, rigPeerEpoch}})
	if s := r.state(1, 0); s != (PeerState{Node: 1}) {
		t.Errorf("what was known of it came back: %+v", s)
	}
	r.answer(v4(ask(1)), ask(1), testKey(1))
}
