package check

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/comm/tcp"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a machine that a test can break.
type world struct {
	files   map[string]string
	links   []Interface
	key     error
	state   error
	running bool
	monitor map[membership.NodeID]error
	bind    map[string]error // "tcp 10.0.0.1:21060"
	connect map[string]error // "10.0.0.2:21060"; refused for the DLM by default
}

func good() *world {
	return &world{
		files: map[string]string{
			"sys/module/dlm/x": "", "sys/kernel/config/dlm/cluster/x": "", "proc/mounts": "configfs /sys/kernel/config configfs rw 0 0\n",
			"lib/modules/6.1/modules.dep": "kernel/fs/gfs2/gfs2.ko.xz: kernel/fs/dlm/dlm.ko.xz\n", "proc/1/comm": "systemd\n",
			"proc/net/unix": "Num RefCount\n0: 2 0 10000 1 1 77 @other\n", "sys/class/watchdog/watchdog0/identity": "iTCO_wdt\n",
		},
		links:   []Interface{on("lo", "127.0.0.1/8"), on("eth0", "10.0.0.1/24"), on("eth1", "10.0.1.1/24")},
		monitor: map[membership.NodeID]error{}, bind: map[string]error{}, connect: map[string]error{},
	}
}

func on(name, addr string) Interface {
	return Interface{Name: name, Up: true, Carrier: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(addr)}}
}

func (w *world) Bind(network string, at netip.AddrPort) error { return w.bind[network+" "+at.String()] }

func (w *world) Connect(_ context.Context, from netip.Addr, to netip.AddrPort) error {
	if err, ok := w.connect[to.String()]; ok {
		return err
	}
	if to.Port() == 21064 {
		return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	if !from.IsValid() {
		return errors.New("no source address")
	}
	return nil
}

func (w *world) Greet(ctx context.Context, _ config.Config, _ membership.NodeID, from netip.Addr, to netip.AddrPort) error {
	return w.Connect(ctx, from, to)
}

func (w *world) Monitor(_ context.Context, n membership.NodeID) error { return w.monitor[n] }

func (w *world) machine(t *testing.T) Machine {
	root := fstest.MapFS{}
	for _, k := range slices.Sorted(maps.Keys(w.files)) {
		root[k] = &fstest.MapFile{Data: []byte(w.files[k])}
	}
	return Machine{
		Root: root, Release: "6.1", Network: w,
		Interfaces: func() ([]Interface, error) { return w.links, nil },
		Key:        func(string) error { return w.key }, State: func(string) error { return w.state },
		Running: func() bool { return w.running }, Monitor: func(config.Config) Monitor { return w },
	}
}

const text = `
[cluster]
name = "tank"
dlm_address = "first"
[[node]]
name = "alpha"
id = 1
addr = ["10.0.0.1", "10.0.1.1"]
[[node]]
name = "beta"
id = 2
addr = ["10.0.0.2", "10.0.1.2"]
[[fence]]
nodes = ["alpha", "beta"]
agent = "fence_x"
options = { plug = "{name}" }
`

var stories = []struct {
	name  string
	bad   int
	spoil func(*world)
}{
	{"good", 0, func(*world) {}},
	{"running", 0, func(w *world) {
		w.running = true
		w.files["sys/kernel/dlm/home/id"] = "7"
		w.files["proc/net/unix"] += "0: 2 0 10000 1 1 78 @dlmc_sock@@@@\n"
		w.connect["10.0.0.2:21064"] = errors.New("must not be tried")
	}},
	{"refused", 1, func(w *world) {
		w.connect["10.0.1.2:21060"] = &tcp.RefusedError{Reason: tcp.ErrKey, Text: "its certificate is not signed by this cluster's authority"}
	}},
	{"address", 1, func(w *world) { w.links = w.links[:2] }},
	{"nobody", 1, func(w *world) { w.links = w.links[:1] }},
	{"links", 2, func(w *world) { w.links[1].Up, w.links[1].Carrier, w.links[2].Carrier = false, false, false }},
	{"one interface", 0, func(w *world) {
		w.links[1].Prefixes = append(w.links[1].Prefixes, w.links[2].Prefixes...)
		w.links = w.links[:2]
	}},
	{"one network", 0, func(w *world) { w.links[1], w.links[2] = on("eth0", "10.0.0.1/23"), on("eth1", "10.0.1.1/23") }},
	{"secret and state", 2, func(w *world) {
		w.key = errors.New("load /etc/quorate/quorate.key: missing: run \"quorate keygen\"")
		w.state = syscall.EROFS
	}},
	{"no modules", 2, func(w *world) {
		delete(w.files, "sys/module/dlm/x")
		delete(w.files, "lib/modules/6.1/modules.dep")
		delete(w.files, "proc/mounts")
	}},
	{"not loaded", 1, func(w *world) {
		delete(w.files, "sys/module/dlm/x")
		delete(w.files, "sys/kernel/config/dlm/cluster/x")
	}},
	{"no dlm in configfs", 1, func(w *world) { delete(w.files, "sys/kernel/config/dlm/cluster/x") }},
	{"lockspaces left", 1, func(w *world) { w.files["sys/kernel/dlm/home/id"] = "7"; w.files["sys/kernel/dlm/lvm/id"] = "8" }},
	{"rivals", 1, func(w *world) { w.files["proc/70/comm"] = "corosync\n"; w.files["proc/71/comm"] = "dlm_controld\n" }},
	{"dlmc socket", 1, func(w *world) { w.files["proc/net/unix"] += "0: 2 0 10000 1 1 78 @dlmc_sock\n" }},
	{"ports", 2, func(w *world) {
		w.bind["tcp 10.0.0.1:21060"] = os.NewSyscallError("bind", syscall.EADDRINUSE)
		w.bind["udp 10.0.1.1:21061"] = os.NewSyscallError("bind", syscall.EACCES)
	}},
	{"peers", 3, func(w *world) {
		w.connect["10.0.0.2:21060"] = context.DeadlineExceeded
		w.connect["10.0.1.2:21060"] = os.NewSyscallError("connect", syscall.EHOSTUNREACH)
		w.connect["10.0.0.2:21064"] = context.DeadlineExceeded
	}},
	{"peer not started", 0, func(w *world) { w.connect["10.0.0.2:21060"] = os.NewSyscallError("connect", syscall.ECONNREFUSED) }},
	{"device", 1, func(w *world) {
		w.monitor[2] = errors.New("fence_x monitor: exit status 1\nfence_y monitor: exit status 1")
	}},
	{"devices alike", 1, func(w *world) {
		w.monitor[1] = errors.New("monitor fence_x: no such agent: install fence-agents")
		w.monitor[2] = w.monitor[1]
	}},
	{"no watchdog", 0, func(w *world) { delete(w.files, "sys/class/watchdog/watchdog0/identity") }},
	{"soft watchdog", 0, func(w *world) { w.files["sys/class/watchdog/watchdog0/identity"] = "Software Watchdog\n" }},
}

// TestStories compares what each broken machine prints with its golden file.
func TestStories(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorate.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			w := good()
			s.spoil(w)
			var out bytes.Buffer
			if bad := w.machine(t).File(t.Context(), &out, path, ""); bad != s.bad || strings.Count("\n"+out.String(), "\n!!") != s.bad {
				t.Errorf("%d things are wrong, want %d", bad, s.bad)
			}
			golden(t, s.name, strings.ReplaceAll(out.String(), path, "quorate.toml"))
		})
	}
}

// A device that cuts off the wrong machine is a fault.
func TestDevicesThatCannotTellTheirNodesApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorate.toml")
	if err := os.WriteFile(path, []byte(strings.Replace(text, "options = { plug = \"{name}\" }", "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if bad := good().machine(t).File(t.Context(), &out, path, ""); bad != 1 || !strings.Contains(out.String(), "\n!!  fence_x is given the same options for alpha and for beta: ") {
		t.Errorf("%d things are wrong:\n%s", bad, out.String())
	}
}

// TestNoKernel: a member without a DLM needs no module.
func TestNoKernel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorate.toml")
	if err := os.WriteFile(path, []byte(strings.Replace(text, "[cluster]", "[cluster]\nkernel = \"none\"", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	w := good()
	delete(w.files, "sys/module/dlm/x")
	delete(w.files, "proc/mounts")
	var out bytes.Buffer
	if bad := w.machine(t).File(t.Context(), &out, path, ""); bad != 0 || !strings.Contains(out.String(), "without a DLM") {
		t.Errorf("%d things are wrong:\n%s", bad, out.String())
	}
}

// TestStatic: a list of members in the place of devices and of a state directory.
func TestStatic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorate.toml")
	list := strings.NewReplacer("[[fence]]\nnodes = [\"alpha\", \"beta\"]\nagent = \"fence_x\"\noptions = { plug = \"{name}\" }\n", "",
		"name = \"tank\"\n", "name = \"tank\"\ngroup = \"static\"\nmembers = \"/etc/quorate/members\"\n").Replace(text)
	for _, s := range []struct {
		name, text, members string
		bad                 int
	}{
		{"static", list, "alpha\nbeta\n", 0},
		{"static all", strings.Replace(list, "members = ", "#", 1), "", 0},
		{"static typo", list, "alpha\nbta\n", 1},
		{"static without us", list, "beta\n", 1},
		{"static no list", list, "", 1},
	} {
		t.Run(s.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(s.text), 0o600); err != nil {
				t.Fatal(err)
			}
			w := good()
			w.state = errors.New("nobody asks")
			if s.members != "" {
				w.files["etc/quorate/members"] = s.members
			}
			var out bytes.Buffer
			if bad := w.machine(t).File(t.Context(), &out, path, ""); bad != s.bad {
				t.Errorf("%d things are wrong, want %d", bad, s.bad)
			}
			golden(t, s.name, strings.ReplaceAll(out.String(), path, "quorate.toml"))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".golden")
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != got {
		t.Errorf("got\n%s\nwant\n%s(%v)", got, want, err)
	}
}

func TestBadFile(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	m := good().machine(t)
	if bad := m.File(t.Context(), &out, filepath.Join(dir, "none"), ""); bad != 1 || !strings.Contains(out.String(), "copy the reference") {
		t.Errorf("%d: %s", bad, out.String())
	}
	out.Reset()
	path := filepath.Join(dir, "bad")
	if err := os.WriteFile(path, []byte("[cluster]\nname=7\nprot=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if bad := m.File(t.Context(), &out, path, ""); bad < 3 || !strings.Contains(out.String(), "!!  "+path+":3: ") {
		t.Errorf("%d: %s", bad, out.String())
	}
}

func TestUnboundConfiguration(t *testing.T) {
	cfg, err := config.Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if bad := good().machine(t).Run(t.Context(), &out, cfg); bad != 1 || !strings.Contains(out.String(), "not known which node") {
		t.Errorf("%d: %s", bad, out.String())
	}
}

// TestThisMachine runs the real probes; what they find is the machine's matter.
func TestThisMachine(t *testing.T) {
	dir := t.TempDir()
	cfg, err := config.Parse("f", []byte(fmt.Sprintf(`
[cluster]
name = "tank"
fencing = "manual"
key_file = "%[1]s/key"
port = 1
[[node]]
name = "a"
id = 1
addr = ["127.0.0.1"]
[[node]]
name = "b"
id = 2
addr = ["127.0.0.2"]
[state]
dir = "%[1]s/state"
`, dir)))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Self = 1
	var out bytes.Buffer
	Run(t.Context(), &out, cfg)
	for _, want := range []string{"quorate keygen", "ok  state directory", "ok  address 127.0.0.1", "b can be reached and nobody listens on 127.0.0.2:1", "--  udp 21061 is not tried: open it between all nodes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestWritable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{"": true, "a/b/c": true, "file": false, "file/a": false, "link": false, "link/a": false} {
		if err := writable(filepath.Join(dir, name)); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestRealNetwork(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	var n realNetwork
	if err := n.Bind("tcp", at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
	if err := n.Bind("udp", at); err != nil {
		t.Error(err)
	}
	if err := n.Connect(t.Context(), at.Addr(), at); err != nil {
		t.Error(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	if answers(socket) || This(socket).Running() {
		t.Error("nobody answers")
	}
	s, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !This(socket).Running() {
		t.Error("a daemon on another socket is not found")
	}
}

func TestParallelKeepsOrder(t *testing.T) {
	all := make([]int, 100)
	for i := range all {
		all[i] = i
	}
	for i, err := range parallel(all, func(n int) error { return fmt.Errorf("%d", n) }) {
		if err.Error() != fmt.Sprint(i) {
			t.Fatalf("%d: %v", i, err)
		}
	}
}

// TestProfile: of a machine that may stand still for longer than dead_after it is said so.
func TestProfile(t *testing.T) {
	for _, c := range []struct{ profile, cpus, want string }{
		{"auto", "flags : hypervisor\n", ""},
		{"vm", "flags : hypervisor\n", ""},
		{"lan", "flags : fpu\n", ""},
		{"lan", "flags : hypervisor\n", "profile lan has dead_after = 190ms, and of this machine: it is a virtual machine; one"},
		{"fast", "vendor_id : User Mode Linux\n", "profile fast has dead_after = 40ms, and of this machine: it is a process (User-Mode Linux); one"},
	} {
		w := good()
		w.files["proc/cpuinfo"] = c.cpus
		cfg, err := config.Parse("quorate.toml", []byte(text+"[liveness]\nprofile = \""+c.profile+"\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w.machine(t).Run(t.Context(), &out, cfg)
		if got := out.String(); strings.Contains(got, "dead_after") != (c.want != "") || !strings.Contains(got, c.want) {
			t.Errorf("%s on %q:\n%s", c.profile, c.cpus, got)
		}
	}
}
