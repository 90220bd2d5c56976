package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/configfs/configfstest"
	"github.com/quorate/quorate/kbridge/dlm/dlmtest"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/raft"
	"github.com/quorate/quorate/membership/secret"
	"github.com/quorate/quorate/tools/freeport"
)

// fleet are daemons in one process, each on a kernel in memory and at an address of its own.
type fleet struct {
	t     *testing.T
	dir   string
	ports [2]int
	nodes map[int]*member
	log   slog.Handler // nil: it discards
}

// member is one of them.
type member struct {
	f      *fleet
	id     int
	fencer *devices
	cancel context.CancelFunc
	ended  chan error
	kernel *dlmtest.Kernel
}

// devices is a Fencer that cuts nobody off, and knows which agents are installed.
type devices struct {
	has []string
	cfg membership.Config
}

func (d *devices) Fence(context.Context, membership.FenceJob) membership.FenceResult {
	return membership.FenceResult{OK: true, Agent: "fence_fake"}
}
func (d *devices) Monitor(context.Context, membership.NodeID) error { return nil }
func (d *devices) Configure(c membership.Config)                    { d.cfg = c }
func (d *devices) Ready(x membership.Device) error {
	if slices.Contains(d.has, x.Agent) {
		return nil
	}
	return fmt.Errorf("%s is not installed", x.Agent)
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the control socket is root's")
	}
	f := &fleet{t: t, dir: t.TempDir(), ports: [2]int{freeport.On(t), freeport.On(t)}, nodes: map[int]*member{}}
	if err := secret.WriteFile(f.path("key")); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fleet) path(parts ...string) string {
	return filepath.Join(append([]string{f.dir}, parts...)...)
}

// text is the configuration of so many nodes.
func (f *fleet) text(n int, more string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[cluster]\nname = \"tank\"\nkey_file = %q\nport = %d\nprobe_port = %d\n", f.path("key"), f.ports[0], f.ports[1])
	names := make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf("%q", fmt.Sprint("n", i+1))
		fmt.Fprintf(&b, "[[node]]\nname = \"n%d\"\nid = %d\naddr = [\"127.0.77.%d\"]\n", i+1, i+1, i+1)
	}
	fmt.Fprintf(&b, "[[fence]]\nnodes = [%s]\nagent = \"fence_one\"\noptions = { ip = \"x\", password = \"hunter2\" }\n[liveness]\nprofile = \"lan\"\n%s", strings.Join(names, ", "), more)
	return b.String()
}

// start runs a node by a file.
func (f *fleet) start(id int, text string) *member {
	f.t.Helper()
	m := &member{f: f, id: id, fencer: &devices{has: []string{"fence_one", "fence_two"}}, ended: make(chan error, 1)}
	f.nodes[id] = m
	m.run(text)
	return m
}

func (m *member) file() string { return m.f.path(fmt.Sprint(m.id), "quorate.toml") }

func (m *member) run(text string) {
	m.f.t.Helper()
	dir := m.f.path(fmt.Sprint(m.id))
	text += fmt.Sprintf("[state]\ndir = %q\n", filepath.Join(dir, "state"))
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(m.file(), []byte(text), 0o600)); err != nil {
		m.f.t.Fatal(err)
	}
	cfg, err := config.Load(m.file())
	if err != nil {
		m.f.t.Fatal(err)
	}
	if cfg, err = cfg.Bind([]netip.Addr{netip.MustParseAddr(fmt.Sprintf("127.0.77.%d", m.id))}, ""); err != nil {
		m.f.t.Fatal(err)
	}
	if _, err := identify(cfg); err != nil {
		m.f.t.Skip(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	ready := make(chan struct{})
	m.kernel = dlmtest.New(configfstest.Linux6_18, uint32(m.id))
	log := m.f.log
	if log == nil {
		log = slog.DiscardHandler
	}
	go func() {
		m.ended <- Run(ctx, Options{Config: cfg, Socket: filepath.Join(dir, "sock"), Log: slog.New(log), Fencer: m.fencer,
			Ready: func() { close(ready) }, fake: m.kernel.Options})
	}()
	m.f.t.Cleanup(m.stop)
	select {
	case <-ready:
	case err := <-m.ended:
		m.f.t.Fatal(err)
	}
}

// stop ends a daemon as a crash does.
func (m *member) stop() {
	if m.cancel != nil {
		m.cancel()
		<-m.ended
		m.cancel = nil
	}
}

func (m *member) ask(req control.Request) (control.Response, error) {
	c, err := control.Dial(m.f.path(fmt.Sprint(m.id), "sock"))
	if err != nil {
		return control.Response{}, err
	}
	defer func() { _ = c.Close() }()
	return c.Call(m.f.t.Context(), req)
}

func (m *member) until(what string, is func(control.Status) bool) control.Status {
	m.f.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r, err := m.ask(control.Request{Command: "status"})
		if err == nil && r.Status != nil && is(*r.Status) {
			return *r.Status
		}
		if time.Now().After(deadline) {
			m.f.t.Fatalf("n%d: not seen: %s: %+v, %v", m.id, what, r.Status, err)
		}
	}
}

func (m *member) works(version uint64, members int) control.Status {
	m.f.t.Helper()
	return m.until(fmt.Sprintf("version %d with %d members", version, members), func(s control.Status) bool {
		n := 0
		for _, x := range s.Nodes {
			if x.State == "member" {
				n++
			}
		}
		return s.Config == version && s.Member && s.Quorate && n == members
	})
}

// show returns the text in force.
func (m *member) show() string {
	m.f.t.Helper()
	r, err := m.ask(control.Request{Command: "config-show"})
	if err != nil || r.Path != m.file() {
		m.f.t.Fatal(err, r.Path)
	}
	return r.Text
}

func (m *member) apply(text string, base uint64) (string, error) {
	r, err := m.ask(control.Request{Command: "config-apply", Text: text, Version: base})
	return r.Text, err
}

func TestTheConfigurationIsAgreedOn(t *testing.T) {
	f := newFleet(t)
	for id := 1; id <= 3; id++ {
		f.start(id, f.text(3, "# the comments of n"+fmt.Sprint(id)+"\n"))
	}
	for id := 1; id <= 3; id++ {
		f.nodes[id].works(1, 3)
	}
	one := f.nodes[1].show()
	if strings.Contains(one, "hunter2") || strings.Contains(one, "key_file") || !strings.Contains(one, `password = "(own)"`) || one != f.nodes[3].show() {
		t.Fatal(one)
	}
	if got := f.nodes[2].fencer.cfg.Devices[0].Options["password"]; got != "hunter2" {
		t.Fatalf("the device has password %q", got)
	}

	two := strings.Replace(one, `profile = "lan"`, "profile = \"lan\"\nstall_limit = \"20s\"", 1)
	if said, err := f.nodes[2].apply(two, 1); err != nil || said != "version 2 is in force" {
		t.Fatal(said, err)
	}
	for id := 1; id <= 3; id++ {
		s := f.nodes[id].works(2, 3)
		s.Notes = slices.DeleteFunc(s.Notes, func(n string) bool { return strings.HasPrefix(n, "link ") }) // of a busy machine
		if s.Level != control.OK || len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "liveness.stall_limit") {
			t.Fatalf("level %d, %q, %q", s.Level, s.Warnings, s.Notes)
		}
	}
	f.refusals(one, two)

	// Who is away while something changes begins with what it had, and catches up.
	f.nodes[3].stop()
	f.nodes[1].until("n3 is gone", func(s control.Status) bool { return s.Nodes[2].State != "member" })
	three := strings.Replace(two, `"20s"`, `"30s"`, 1)
	if _, err := f.nodes[1].apply(three, 2); err != nil {
		t.Fatal(err)
	}
	k, ok, err := readKept(f.path("3", "state", "raft"))
	if err != nil || !ok || k.version != 2 || k.text != two {
		t.Fatal(k, ok, err)
	}
	f.nodes[3].run(f.text(3, "[events]\nsend_to = \"127.0.0.1:9\"\n"))
	if s := f.nodes[3].works(3, 3); s.Level == control.Blocked {
		t.Fatal(s.Waits)
	}
	if k, _, _ := readKept(f.path("3", "state", "raft")); k.version != 3 || k.text != three {
		t.Fatal(k)
	}
	for id := 1; id <= 3; id++ {
		f.nodes[id].stop()
	}
}

// refusals: a change that one node cannot work by, or that nobody may make, is in force nowhere.
func (f *fleet) refusals(one, two string) {
	f.t.Helper()
	f.nodes[3].fencer.has = []string{"fence_one"}
	for words, text := range map[string]string{
		"n3 refuses it: fence_two is not installed": strings.NewReplacer(`"fence_one"`, `"fence_two"`, `, password = "(own)"`, "").Replace(two),
		"password of fence_two for node n1":         strings.Replace(two, `"fence_one"`, `"fence_two"`, 1),
		"refuses it: secrets are not given":         strings.Replace(two, `"(own)"`, `"sesame"`, 1),
		"name cannot be changed":                    strings.Replace(two, `"tank"`, `"tonk"`, 1),
		"unknown key":                               two + "[extra]\n",
		"which is in force":                         two,
	} {
		said, err := f.nodes[1].apply(text, 2)
		if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "sesame") {
			f.t.Fatalf("%s: %s, %v", words, said, err)
		}
	}
	if _, err := f.nodes[1].apply(one, 1); err == nil || !strings.Contains(err.Error(), "made from version 1, and 2 is in force") {
		f.t.Fatal(err)
	}
	for id := 1; id <= 3; id++ {
		if f.nodes[id].works(2, 3); f.nodes[id].show() != two {
			f.t.Fatal("something else is in force")
		}
	}
}

func TestANodeIsAddedAndRemoved(t *testing.T) {
	f := newFleet(t)
	for id := 1; id <= 3; id++ {
		f.start(id, f.text(3, ""))
	}
	f.nodes[1].works(1, 3)
	text := f.nodes[1].show()
	four, err := config.AddNode(text, config.NewNode{Name: "n4", ID: 4, Addrs: []string{"127.0.77.4"}, Like: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.nodes[1].apply(four, 1); err == nil || !strings.Contains(err.Error(), "no value") && !strings.Contains(err.Error(), "does not know the secrets") {
		t.Fatal("the secret of the new node's device is in no file:", err)
	}
	for id := 1; id <= 3; id++ { // the operator writes it into the files
		text := f.text(4, "") + fmt.Sprintf("[state]\ndir = %q\n", f.path(fmt.Sprint(id), "state"))
		if err := os.WriteFile(f.nodes[id].file(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.nodes[1].apply(four, 1); err != nil {
		t.Fatal(err)
	}
	f.start(4, f.text(4, ""))
	for id := 1; id <= 4; id++ {
		f.nodes[id].works(2, 4)
	}
	three, err := config.RemoveNode(four, "n4")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.nodes[2].apply(three, 2); err == nil || !strings.Contains(err.Error(), "quorate node drain") {
		t.Fatal(err)
	}
	if _, err := f.nodes[4].ask(control.Request{Command: "leave"}); err != nil {
		t.Fatal(err)
	}
	<-f.nodes[4].ended
	f.nodes[4].cancel = nil
	f.nodes[2].works(2, 3)
	if _, err := f.nodes[2].apply(three, 2); err != nil {
		t.Fatal(err)
	}
	for id := 1; id <= 3; id++ {
		s := f.nodes[id].works(3, 3)
		if len(s.Nodes) != 3 || s.Expected != 3 {
			t.Fatalf("%d nodes, %d votes", len(s.Nodes), s.Expected)
		}
	}
	f.nodes[4].run(f.text(4, "")) // it was away, and its log does not have that it was removed
	f.nodes[4].until("that it was removed", func(s control.Status) bool {
		return slices.ContainsFunc(s.Waits, func(w control.Wait) bool {
			return w.What == "this node" && w.For == "config" && strings.Contains(w.Reason, "this node was removed from the cluster") &&
				strings.Contains(w.Reason, "version 3, at node ") && strings.Contains(w.Command, "quorate node add")
		})
	})
	f.nodes[1].until("an event that n4 is refused", func(control.Status) bool {
		r, err := f.nodes[1].ask(control.Request{Command: "events"})
		return err == nil && slices.ContainsFunc(r.Events, func(e membership.Event) bool {
			return e.Kind == membership.KindRefused && strings.Contains(e.Text, "version 3, at node 1, has no quorate://tank/node/4")
		})
	})
	f.nodes[4].stop()
	for id := 1; id <= 3; id++ {
		f.nodes[id].stop()
	}
}

func TestADrainedNodeMountsNothingNewAndLeaves(t *testing.T) {
	f := newFleet(t)
	for id := 1; id <= 3; id++ {
		f.start(id, f.text(3, ""))
	}
	f.nodes[3].works(1, 3)
	if err := <-f.nodes[3].kernel.Create("gfs"); err != nil {
		t.Fatal(err)
	}
	r, err := f.nodes[1].ask(control.Request{Command: "drain", Node: 3})
	if err != nil || !strings.Contains(r.Text, "in use: gfs") {
		t.Fatal(r.Text, err)
	}
	if err := <-f.nodes[3].kernel.Create("lvm"); !errors.Is(err, syscall.ECANCELED) {
		t.Fatalf("another lockspace: %v", err)
	}
	f.nodes[2].until("what keeps it", func(s control.Status) bool {
		return slices.ContainsFunc(s.Waits, func(w control.Wait) bool {
			return w.For == "unmount" && w.Owner == 3 && strings.Contains(w.Reason, "gfs")
		})
	})
	<-f.nodes[3].kernel.Release("gfs", false)
	select {
	case err := <-f.nodes[3].ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		for _, id := range []int{1, 3} {
			r, err := f.nodes[id].ask(control.Request{Command: "status"})
			t.Logf("node %d: %+v %v", id, r.Status, err)
		}
		t.Fatal("it did not leave within 30 s")
	}
	f.nodes[3].cancel = nil
	f.nodes[1].works(1, 2)
	for id := 1; id <= 2; id++ {
		f.nodes[id].stop()
	}
}

func TestKept(t *testing.T) {
	dir := t.TempDir()
	if _, ok, err := readKept(dir); ok || err != nil {
		t.Fatal(ok, err)
	}
	want := kept{7, "c0ffee", "[cluster]\nname = \"x\"\n"}
	for range 2 {
		if err := keep(dir, want); err != nil {
			t.Fatal(err)
		}
		if k, ok, err := readKept(dir); err != nil || !ok || k != want {
			t.Fatal(k, ok, err)
		}
		want.version++
	}
	if err := os.WriteFile(filepath.Join(dir, keptName), []byte(want.String()[:90]), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := readKept(dir); ok || !errors.Is(err, errKept) {
		t.Fatal(ok, err)
	}
	if err := keep(filepath.Join(dir, "none"), want); err == nil {
		t.Fatal("kept nowhere")
	}
}

func TestKeptIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := kept{rapid.Uint64Range(1, 1<<62).Draw(t, "version"), rapid.StringMatching(`[0-9a-z]{1,40}`).Draw(t, "cluster"), rapid.String().Draw(t, "text")}
		got, err := parseKept([]byte(k.String()))
		if err != nil || got != k {
			t.Fatalf("%+v became %+v: %v", k, got, err)
		}
	})
}

func FuzzParseKept(f *testing.F) {
	f.Add([]byte(kept{1, "c", "x"}.String()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := parseKept(b); err == nil && k.String() != string(b) {
			t.Fatalf("%q", b)
		}
	})
}

// A log that is given up leaves what was agreed on: the others are where that says.
func TestALogThatIsGivenUpLeavesTheConfiguration(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	want := kept{3, "c0ffee", "text"}
	if err := errors.Join(os.Mkdir(dir, 0o700), keep(dir, want), setAside(dir)); err != nil {
		t.Fatal(err)
	}
	if k, ok, err := readKept(dir); err != nil || !ok || k != want {
		t.Fatal(k, ok, err)
	}
	s, restored, err := raft.Open(dir)
	if err != nil || restored.Identity.ClusterID != "" {
		t.Fatal(restored.Identity, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
