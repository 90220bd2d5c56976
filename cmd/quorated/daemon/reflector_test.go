package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	xdp "github.com/quorate/quorate/ebpf/liveness"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/secret"
)

// needPins is a folder for the kernel's program, where there is one. With CI=true it is a
// failure that there is none.
func needPins(t *testing.T) string {
	t.Helper()
	root := filepath.Join("/sys/fs/bpf", fmt.Sprintf("quorated-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")))
	r, err := xdp.Load(xdp.Options{Cluster: "tank", Epoch: 1, Root: root})
	if err == nil {
		err = r.Remove()
	}
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := xdp.Remove(root, "tank"); err != nil {
			t.Error(err)
		}
	})
	return root
}

// pinned is a daemon on loopback whose kernel answers probes from the stack.
func pinned(t *testing.T, root, mode string) *alone {
	t.Helper()
	a := prepareAlone(t)
	a.cfg.Reflector = mode
	a.start(root)
	return a
}

func (a *alone) reflector(mode string) control.Reflector {
	a.t.Helper()
	var last any
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		r, err := a.ask("links")
		if err == nil && r.Links != nil && len(r.Links.Reflectors) == 1 && r.Links.Reflectors[0].Mode == mode && r.Links.Links[0].Mode == mode {
			return r.Links.Reflectors[0]
		}
		last = fmt.Sprintf("%+v, %v", r.Links, err)
	}
	a.t.Fatalf("the mode is not %s: %v", mode, last)
	return control.Reflector{}
}

// The program outlives a daemon that ends without leaving, with its epoch, and goes with
// one that leaves.
func TestReflectorOutlivesTheDaemon(t *testing.T) {
	root := needPins(t)
	epoch := func() uint64 {
		r, err := xdp.Load(xdp.Options{Cluster: "tank", Epoch: 1, Root: root})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		return r.Epoch()
	}
	a := pinned(t, root, "generic")
	if x := a.reflector("generic"); x.Interface != "lo" || x.Why != "" || x.Alarm != string(xdp.Timer) && x.Alarm != string(xdp.TimerFD) || (x.AlarmWhy == "") != (x.Alarm == string(xdp.Timer)) {
		t.Errorf("%+v", x)
	}
	first := epoch()
	a.cancel()
	if err := <-a.ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if got := epoch(); got != first || got == 1 {
		t.Errorf("epoch %d became %d when the daemon had ended", first, got)
	}
	b := pinned(t, root, "generic")
	b.reflector("generic")
	if got := epoch(); got != first {
		t.Errorf("epoch %d became %d with the next run", first, got)
	}
	if _, err := b.ask("leave"); err != nil {
		t.Fatal(err)
	}
	if err := <-b.ended; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the program stayed: %v", err)
	}
}

// Switched off, the daemon answers and nothing is loaded. Where there is no bpf file system,
// or nothing of an earlier run, that is not worth a word.
func TestReflectorIsOff(t *testing.T) {
	for name, root := range map[string]func(*testing.T) string{
		"no folder":          func(t *testing.T) string { return filepath.Join(t.TempDir(), "none") },
		"no bpf file system": func(t *testing.T) string { return t.TempDir() },
		"nothing is pinned":  needPins,
	} {
		t.Run(name, func(t *testing.T) {
			at := root(t)
			a := prepareAlone(t)
			a.cfg.Reflector = "off"
			var log bytes.Buffer
			a.log = slog.NewTextHandler(&log, nil)
			a.start(at)
			if x := a.reflector("userspace"); x.Interface != "" || !strings.Contains(x.Why, `"off"`) || x.Alarm != control.AlarmDaemon || x.AlarmWhy != x.Why {
				t.Errorf("%+v", x)
			}
			s := a.until("it runs", func(control.Status) bool { return true })
			for _, text := range slices.Concat(s.Warnings, s.Notes) {
				if strings.Contains(text, "kernel") && strings.Contains(text, "probes") {
					t.Errorf("the status speaks of it: %s", text)
				}
			}
			if _, err := os.Stat(filepath.Join(at, "tank")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something is pinned: %v", err)
			}
			a.cancel()
			if err := <-a.ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "probes") || strings.Contains(line, "reflector") {
					t.Errorf("the log speaks of it: %s", line)
				}
			}
		})
	}
}

// What an earlier run left goes when the kernel is not to answer any more.
func TestReflectorIsSwitchedOff(t *testing.T) {
	root := needPins(t)
	r, err := xdp.Load(xdp.Options{Cluster: "tank", Epoch: 5, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	a := pinned(t, root, "off")
	if x := a.reflector("userspace"); !strings.Contains(x.Why, `"off"`) {
		t.Errorf("%+v", x)
	}
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the program stayed: %v", err)
	}
	a.until("nothing is noted of it", func(s control.Status) bool {
		return !slices.ContainsFunc(s.Notes, func(n string) bool { return strings.Contains(n, "probes, and not the kernel") })
	})
}

// A kernel that cannot is no reason not to run: the daemon answers, and says why.
func TestReflectorCannotBeHad(t *testing.T) {
	root := t.TempDir() // no bpf file system
	a := pinned(t, root, "auto")
	if x := a.reflector("userspace"); !strings.Contains(x.Why, "reflector: ") || x.Alarm != control.AlarmDaemon || x.AlarmWhy != x.Why {
		t.Errorf("%+v", x)
	}
	a.until("it is noted", func(s control.Status) bool {
		return slices.ContainsFunc(s.Notes, func(n string) bool {
			return strings.HasPrefix(n, "link 0: the daemon answers the others' probes, and not the kernel: reflector: ")
		})
	})
}

func TestReflectorConfig(t *testing.T) {
	addr := netip.MustParseAddr
	timing, _ := config.Profile("lan")
	cfg := config.Config{ProbePort: 9, Config: membership.Config{Self: 2, Timing: timing, Nodes: []membership.Node{
		{ID: 1, Addrs: []netip.Addr{addr("10.0.0.1"), addr("10.1.0.1"), addr("10.2.0.1")}},
		{ID: 2, Addrs: []netip.Addr{addr("10.0.0.2"), addr("fd00::2")}},
		{ID: 3, Addrs: []netip.Addr{addr("::ffff:10.0.0.3"), addr("fd00::3")}},
	}}}
	keys := []probe.Key{probe.NewKey(1, [16]byte{1})}
	c := reflectorConfig(cfg, 5, keys)
	want := []xdp.Peer{
		{Node: 1, Link: 0, Addr: netip.MustParseAddrPort("10.0.0.1:9"), Rate: 216, Trust: 95 * time.Millisecond},
		{Node: 3, Link: 0, Addr: netip.MustParseAddrPort("10.0.0.3:9"), Rate: 216, Trust: 95 * time.Millisecond},
		{Node: 3, Link: 1, Addr: netip.MustParseAddrPort("[fd00::3]:9"), Rate: 216, Trust: 95 * time.Millisecond},
	}
	if c.Self != 2 || c.Port != 9 || !slices.Equal(c.Links, cfg.Nodes[1].Addrs) || len(c.Keys) != 1 || !slices.Equal(c.Peers, want) ||
		c.Run != 5 || c.Interval != timing.Interval || c.Silent != timing.DeadAfter {
		t.Errorf("%+v", c)
	}
}

// Keys that are loaded while the configuration changes are what the kernel has in the end,
// whichever comes first.
func TestKeysWhileReconfiguring(t *testing.T) {
	root := needPins(t)
	path := filepath.Join(t.TempDir(), "key")
	if err := secret.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	first, err := secret.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	timing, _ := config.Profile("safe")
	cfg := config.Config{ProbePort: 9, Config: membership.Config{Cluster: "tank", Self: 1, Timing: timing, Nodes: []membership.Node{
		{ID: 1, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, {ID: 2, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.2")}}}}}
	d := &Daemon{cfg: cfg, log: slog.New(slog.DiscardHandler), keys: newKeyring(path, first)}
	if d.reflector.Reflector, err = xdp.Load(xdp.Options{Cluster: "tank", Epoch: 1, Root: root}); err != nil {
		t.Fatal(err)
	}
	defer d.endReflector(true)
	keys, err := first.ProbeKeys()
	if err != nil {
		t.Fatal(err)
	}
	d.startReflector(keys)
	for epoch := uint32(2); epoch < 6; epoch++ {
		s, err := secret.Draw(epoch)
		if err != nil {
			t.Fatal(err)
		}
		d.keys.apply = func(s secret.Secret) error {
			keys, err := s.ProbeKeys()
			if err == nil {
				d.reflectorKeys(keys)
				d.retimeReflector(cfg) // in the loop, which does not wait
			}
			return err
		}
		var wg sync.WaitGroup
		wg.Go(func() { d.retimeReflector(cfg) })
		wg.Go(func() {
			if err := d.keys.use(s); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		at, err := filepath.Glob(filepath.Join(root, "tank*", "maps-*", "keys"))
		if err != nil || len(at) != 1 {
			t.Fatal(at, err)
		}
		text, err := os.ReadFile(at[0]) // a line for each, by its epoch
		if err != nil {
			t.Skip("this kernel does not show what is in a map: ", err)
		}
		lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(text)), "\n"), func(l string) bool { return strings.HasPrefix(l, "#") })
		if len(lines) != 1 || !strings.HasPrefix(lines[0], fmt.Sprintf("%d: ", epoch)) {
			t.Errorf("key %d is loaded, and the kernel has %q", epoch, lines)
		}
	}
}

func TestPassedBy(t *testing.T) {
	at := func(s float64) membership.Mono { return membership.Mono(s * float64(time.Second)) }
	for name, c := range map[string]struct {
		seen, served []float64 // of nodes 1, 2
		want         bool
	}{
		"nothing is asked":            {[]float64{0, 0}, []float64{0, 0}, false},
		"the kernel alone":            {[]float64{90, 80}, []float64{0, 0}, false},
		"both":                        {[]float64{90, 80}, []float64{89.9, 80}, false},
		"not for long":                {[]float64{0, 0}, []float64{13, 0}, false},
		"the daemon alone":            {[]float64{0, 0}, []float64{13.1, 0}, true},
		"the kernel until now":        {[]float64{90, 80}, []float64{0, 93}, false},
		"the kernel once":             {[]float64{90, 80}, []float64{0, 93.1}, true},
		"another peer asks by it":     {[]float64{0, 95}, []float64{96, 0}, false},
		"the daemon before it was on": {[]float64{0, 0}, []float64{9, 0}, false},
	} {
		var seen []xdp.PeerState
		var served []membership.Sample
		for i := range c.seen {
			id := membership.NodeID(i + 1)
			seen = append(seen, xdp.PeerState{Node: id, Link: 1, Asked: at(c.seen[i])}, xdp.PeerState{Node: id, Asked: at(1000)})
			served = append(served, membership.Sample{Peer: id, Link: 1, Served: at(c.served[i])}, membership.Sample{Peer: id, Served: at(2000)})
		}
		if got := passedBy(xdp.LinkStatus{Link: 1, Since: at(10)}, seen, served); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestReflectorNotes(t *testing.T) {
	all := []control.Reflector{
		{Link: 0, Mode: "generic", Interface: "eth0", Why: "native: not possible on eth0"},
		{Link: 1, Mode: "userspace", Interface: "eth1", Why: "another XDP program is there: id 7"},
		{Link: 2, Mode: "userspace", Why: "no interface has the address"},
		{Link: 3, Mode: "userspace"},
		{Link: 4, Mode: "native", Interface: "eth4", Alarm: "timerfd", AlarmWhy: "there is no JIT"},
		{Link: 5, Mode: "native", Interface: "eth5", Alarm: "bpf timer"},
		{Link: 6, Mode: "native", Interface: "eth6", Alarm: control.AlarmDaemon, AlarmWhy: "no more files"},
	}
	all = append(all, control.Reflector{Link: 7, Mode: "native", Interface: "eth7", Alarm: "bpf timer", Taken: 3, TakenAgo: 90400 * time.Millisecond},
		control.Reflector{Link: 8, Mode: "native", Interface: "eth8", Alarm: "bpf timer", Taken: 1, TakenAgo: time.Hour})
	want := []string{
		"link 1 (eth1): the daemon answers the others' probes, and not the kernel: another XDP program is there: id 7; a daemon that stands still looks like a dead node then",
		"link 2: the daemon answers the others' probes, and not the kernel: no interface has the address; a daemon that stands still looks like a dead node then",
		"link 4 (eth4): a peer's silence is noticed by timerfd, and not by a bpf timer: there is no JIT",
		"link 6 (eth6): a peer's silence is noticed by the daemon, and not by a bpf timer: no more files",
		"link 7 (eth7): somebody takes the program that answers probes from its interface (3 times, last 1m30s ago); it is attached again within a second",
	}
	if got := reflectorNotes("auto", all); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := reflectorNotes("off", all); got != nil {
		t.Errorf("%q", got)
	}
}

func TestDaemonWarnings(t *testing.T) {
	timing, _ := config.Profile("lan")
	r := &control.LinksReport{Links: []control.LinkStatus{
		{Name: "beta", Answers: "kernel", Progress: 999 * time.Millisecond},
		{Name: "gamma", Answers: "kernel", Heard: time.Millisecond, Progress: 8040 * time.Millisecond},
		{Name: "gamma", Link: 1, Answers: "kernel", Heard: time.Millisecond, Progress: 8050 * time.Millisecond},
		{Name: "delta", Answers: "kernel", Heard: -1, NoDaemon: true},
		{Name: "epsilon", Answers: "kernel", Heard: time.Second, Progress: time.Hour},
		{Name: "zeta", Answers: "daemon", Heard: 1, Progress: time.Hour},
		{Name: "eta", Peer: 7, Answers: "kernel", Heard: -1, NoDaemon: true},
	}}
	nodes := []control.NodeStatus{{ID: 7, State: "unlisted"}}
	want := []string{
		"gamma: its kernel answers, and its daemon has stood still for 8s; a member is evicted after 10s (stall_limit), or 3s while a lockspace waits for it (recovery_stall): `quorate status` on gamma says why it stands still",
		"delta: its kernel answers, and no quorated runs there",
	}
	if got := daemonWarnings(r, timing, nodes); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// A stopped daemon behind a living kernel is seen by this alone, and degrades.
func TestWarningsDegrade(t *testing.T) {
	for _, c := range []struct {
		had, want control.Level
		warnings  []string
	}{
		{control.OK, control.OK, nil},
		{control.OK, control.Degraded, []string{"delta: its kernel answers, and no quorated runs there"}},
		{control.Blocked, control.Blocked, []string{"x"}},
	} {
		s := control.Status{Level: c.had}
		warn(&s, nil, c.warnings)
		if s.Level != c.want || !slices.Equal(s.Warnings, c.warnings) {
			t.Errorf("%v, %q of %+v", s.Level, s.Warnings, c)
		}
	}
}
