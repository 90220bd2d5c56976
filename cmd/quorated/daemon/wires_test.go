package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/configfs/configfstest"
	"github.com/quorate/quorate/kbridge/dlm/dlmtest"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/manual"
	"github.com/quorate/quorate/membership/links"
	"github.com/quorate/quorate/membership/secret"
	"github.com/quorate/quorate/tools/wires"
)

// asNode has a process of the test binary be a daemon: the id of its node. Its standard
// input is closed when it is to go away at once.
const asNode = "QUORATE_TEST_NODE"

// asPins is where its kernel's program is pinned; empty: it has none.
const asPins = "QUORATE_TEST_PINS"

func TestMain(m *testing.M) {
	if id := os.Getenv(asNode); id != "" {
		os.Exit(beNode(id, os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

// beNode is a daemon on a kernel in memory, in the network namespace in which it was started.
func beNode(id, path, dir string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", id)
	err := func() error {
		cfg, err := config.Load(path)
		if err != nil {
			return err
		}
		if cfg, err = cfg.Bind(nil, id); err != nil {
			return err
		}
		cfg.StateDir = filepath.Join(dir, "state"+id)
		if _, err := identify(cfg); err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(3) // as if it was killed
		}()
		kernel := dlmtest.New(configfstest.Linux6_18, uint32(cfg.Self))
		return Run(context.Background(), Options{Config: cfg, Socket: filepath.Join(dir, "sock"+id), Log: log, Fencer: manual.New(cfg.Config), fake: kernel.Options, pins: os.Getenv(asPins)})
	}()
	if err != nil {
		log.Error(err.Error())
		return 1
	}
	return 0
}

// wired are daemons in network namespaces with two links.
type wired struct {
	*pairing
	w     *wires.Wires
	procs map[membership.NodeID]*wiredNode
}

type wiredNode struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan error
	log   *bytes.Buffer
}

func newWired(t *testing.T, nodes int, liveness ...string) *wired {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	y := &wired{pairing: &pairing{t: t, dir: t.TempDir()}, w: wires.New(t, nodes, 2), procs: map[membership.NodeID]*wiredNode{}}
	if err := secret.WriteFile(y.path("key")); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[cluster]\nname = \"tank\"\nfencing = \"manual\"\nkey_file = %q\ndlm_address = \"stable\"\ndlm_network = \"10.99.0.0/24\"\n[liveness]\nprofile = \"safe\"\n%s\n", y.path("key"), strings.Join(liveness, "\n"))
	for n := 1; n <= nodes; n++ {
		text += fmt.Sprintf("[[node]]\nname = \"n%d\"\nid = %[1]d\naddr = [%q, %q]\n", n, wires.Addr(n, 0), wires.Addr(n, 1))
	}
	if err := os.WriteFile(y.path("toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for id, p := range y.procs {
			y.kill(id)
			if t.Failed() {
				t.Logf("node %d:\n%s", id, p.log)
			}
		}
	})
	for n := range nodes {
		y.boot(membership.NodeID(n + 1))
	}
	return y
}

func (y *wired) boot(id membership.NodeID) {
	y.t.Helper()
	p := &wiredNode{cmd: exec.Command("/proc/self/exe", y.path("toml"), y.dir), ended: make(chan error, 1), log: &bytes.Buffer{}}
	p.cmd.Env = append(os.Environ(), fmt.Sprint(asNode, "=", id))
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		y.t.Fatal(err)
	}
	if err := y.w.Do(int(id), p.cmd.Start); err != nil {
		y.t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	y.procs[id] = p
}

// kill ends a daemon at once; its node's network stays as it left it.
func (y *wired) kill(id membership.NodeID) {
	p := y.procs[id]
	if p == nil {
		return
	}
	delete(y.procs, id)
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.ended
	_ = p.stdin.Close()
}

// calm waits until all are members of one view, and everything is well.
func (y *wired) calm() (s control.Status) {
	y.t.Helper()
	all := len(y.procs)
	for id := range membership.NodeID(all) {
		s = y.until(id+1, "all are members, and all is well", func(s control.Status) bool {
			return s.Level == control.OK && !slices.ContainsFunc(s.Nodes, func(n control.NodeStatus) bool { return n.State != "member" }) && len(s.Nodes) == all
		})
	}
	return s
}

// via waits until a node's links are used as expected, to all others: the DLM is on one;
// of the daemons' connection and its spare each is on one, the first not on the dead
// link and the spare on none if there is a dead one (-1: there is none).
func (y *wired) via(id membership.NodeID, dlm, dead int) {
	y.t.Helper()
	var last control.Response
	for deadline := time.Now().Add(links.ReturnAfter + 30*time.Second); ; time.Sleep(20 * time.Millisecond) {
		r, err := y.ask(id, control.Request{Command: "links"})
		if err == nil && r.Links != nil && !slices.ContainsFunc(r.Links.Links, func(l control.LinkStatus) bool {
			return l.DLM != (l.Link == dlm) || l.Link == dead && (l.Stream || l.Spare) || l.Link != dead && l.Stream == l.Spare || dead >= 0 && l.Spare
		}) {
			if s := r.Links.Stable; s == nil || s.Addr != fmt.Sprintf("10.99.0.%d", id) || s.Interface == "" || s.Error != "" {
				y.t.Fatalf("the stable address: %+v", s)
			}
			return
		}
		if last = r; time.Now().After(deadline) {
			y.t.Fatalf("node %d: dlm over %d, link %d dead: not seen: %+v", id, dlm, dead, last.Links)
		}
	}
}

// uses waits until the DLM and the daemons' connections of a node are on one link.
func (y *wired) uses(id membership.NodeID, link int) {
	y.t.Helper()
	var r control.Response
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		r, _ = y.ask(id, control.Request{Command: "links"})
		if r.Links != nil && !slices.ContainsFunc(r.Links.Links, func(l control.LinkStatus) bool { return (l.DLM && l.Stream) != (l.Link == link) }) {
			return
		}
	}
	y.t.Fatalf("node %d: not all is on link %d: %+v", id, link, r.Links)
}

func (y *wired) viaAll(dlm, dead int) {
	y.t.Helper()
	for id := range y.procs {
		y.via(id, dlm, dead)
	}
}

// events of one of some kinds that a node's daemon told, as its log has them.
func (y *wired) told(id membership.NodeID, kinds ...membership.Kind) (out []membership.Event) {
	y.t.Helper()
	r, err := y.ask(id, control.Request{Command: "events"})
	if err != nil {
		y.t.Fatal(err)
	}
	for _, e := range r.Events {
		if slices.Contains(kinds, e.Kind) {
			out = append(out, e)
		}
	}
	return out
}

// TestLinkZeroGoesSilent: what is sent on link 0 is lost without a word, on all nodes, then
// on link 1. No view changes, nobody campaigns or is suspected; what is said of it is
// that the link is silent. The DLM's route and the daemons' connections leave it; a
// connection between two stable addresses goes on; and a daemon that is started
// meanwhile does not go back to the dead link.
func TestLinkZeroGoesSilent(t *testing.T) {
	y := newWired(t, 3)
	before := y.calm()
	y.viaAll(0, -1)
	dlm := y.connect()
	dlm.say("on link 0")
	quiet := []membership.Kind{membership.KindLeader, membership.KindCampaign, membership.KindView, membership.KindSuspect, membership.KindConvicted, membership.KindEvicted}
	had := map[membership.NodeID]int{}
	for id := range y.procs {
		had[id] = len(y.told(id, quiet...))
	}

	for n := 1; n <= 3; n++ {
		y.w.Cut(n, 0)
	}
	dlm.say("link 0 is gone")
	y.viaAll(1, 0)
	for id := range y.procs {
		s := y.until(id, "the link is warned of", func(s control.Status) bool { return warned(s, "link 0 is silent to n") })
		if s.Level != control.Degraded || !s.Quorate || s.View != before.View || s.Leader != before.Leader || s.Term != before.Term {
			t.Errorf("node %d: level %d, quorate %v, view %d, leader %d, term %d; before %d, %d, %d", id, s.Level, s.Quorate, s.View, s.Leader, s.Term, before.View, before.Leader, before.Term)
		}
		text := fmt.Sprint(y.told(id, membership.KindLink))
		for _, want := range []string{"is silent for", "the DLM is on link 1"} {
			if !strings.Contains(text, want) {
				t.Errorf("node %d does not tell that %s: %s", id, want, text)
			}
		}
	}
	y.kill(3)
	if out := y.routes(3); !strings.Contains(out, "10.99.0.1 via 10.80.1.1") {
		t.Errorf("node 3 without its daemon: %s", out)
	}
	y.boot(3)
	y.until(3, "a member again", func(s control.Status) bool { return s.Member && s.Quorate })
	y.via(3, 1, 0)
	for _, e := range y.told(3, membership.KindLink) {
		if strings.Contains(e.Text, "the DLM is on") {
			t.Errorf("a daemon that was started told: %s", e.Text)
		}
	}
	for id := range membership.NodeID(2) {
		for _, e := range y.told(id+1, quiet...)[had[id+1]:] {
			if e.Subject != 3 && e.Kind != membership.KindView { // its daemon was started anew
				t.Errorf("node %d told: %s %d %s", id+1, e.Kind, e.Subject, e.Text)
			}
		}
	}

	for n := 1; n <= 3; n++ {
		y.w.Heal(n, 0)
	}
	y.viaAll(0, -1) // the DLM goes back to the first in the order
	dlm.say("link 0 is back")
	y.calm()
	for id := range y.procs {
		had[id] = len(y.told(id, quiet...))
	}
	for n := 1; n <= 3; n++ {
		y.w.Cut(n, 1)
	}
	y.viaAll(0, 1)
	dlm.say("link 1 is gone")
	for id := range y.procs {
		y.until(id, "the link is warned of", func(s control.Status) bool { return warned(s, "link 1 is silent to n") })
		if more := y.told(id, quiet...)[had[id]:]; len(more) > 0 {
			t.Errorf("node %d told: %+v", id, more)
		}
	}

	p := y.procs[3]
	if _, err := y.ask(3, control.Request{Command: "leave"}); err != nil {
		t.Error(err)
	}
	if err := <-p.ended; err != nil {
		t.Errorf("the end of node 3: %v", err)
	}
	delete(y.procs, 3)
	if out := y.routes(3); strings.Contains(out, "10.99.") {
		t.Errorf("after a clean leave: %s", out)
	}
}

// routes are a node's, as the kernel shows them, and its addresses.
func (y *wired) routes(id membership.NodeID) string {
	y.t.Helper()
	var out []byte
	err := y.w.Do(int(id), func() (err error) {
		out, err = exec.Command("sh", "-c", "ip route; ip addr").CombinedOutput()
		return err
	})
	if err != nil {
		y.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// talk is a TCP connection between the stable addresses of nodes 1 and 2.
type talk struct {
	t    *testing.T
	a, b net.Conn
}

func (y *wired) connect() *talk {
	y.t.Helper()
	at := func(n byte) *net.TCPAddr {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 99, 0, n}), 0))
	}
	k := &talk{t: y.t}
	var l *net.TCPListener
	err := y.w.Do(2, func() (err error) { l, err = net.ListenTCP("tcp", at(2)); return err })
	if err == nil {
		defer l.Close()
		err = y.w.Do(1, func() (err error) {
			d := net.Dialer{LocalAddr: at(1), FallbackDelay: -1, Timeout: 10 * time.Second}
			k.a, err = d.Dial("tcp", l.Addr().String())
			return err
		})
	}
	if err == nil {
		k.b, err = l.Accept()
	}
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() { _, _ = k.a.Close(), k.b.Close() })
	return k
}

// say waits until a word has come to the other end and its echo back.
func (k *talk) say(word string) {
	k.t.Helper()
	_ = k.a.SetDeadline(time.Now().Add(20 * time.Second))
	_ = k.b.SetDeadline(time.Now().Add(20 * time.Second))
	got := make([]byte, len(word))
	for _, f := range []func() error{
		func() error { _, err := k.a.Write([]byte(word)); return err },
		func() error { _, err := io.ReadFull(k.b, got); return err },
		func() error { _, err := k.b.Write(got); return err },
		func() error { _, err := io.ReadFull(k.a, got); return err },
	} {
		if err := f(); err != nil {
			k.t.Fatalf("%s: %v", word, err)
		}
	}
	if string(got) != word {
		k.t.Errorf("%q became %q", word, got)
	}
}

// TestCarrierIsAHint: who loses the carrier of a link probes the others more often, who lives
// on the other link.
func TestCarrierIsAHint(t *testing.T) {
	y := newWired(t, 2)
	before := y.calm()
	y.w.Down(2, 0)
	s := y.until(2, "the link is warned of", func(s control.Status) bool { return warned(s, "link 0 is silent to n1") })
	if s.View != before.View || !s.Quorate {
		t.Errorf("%+v", s)
	}
	p := y.procs[2]
	y.kill(2)
	if got := p.log.String(); !strings.Contains(got, `msg="probed more often" node=2 peer=n1 hint="the carrier of eth0"`) {
		t.Errorf("node 2 told:\n%s", got)
	}
}

// TestBlackHole: link 0 of one node loses packets of 1500 bytes without a word, and carries
// probes. The DLM's route and the daemons' connections leave it, it is warned of with the size,
// and nobody is suspected. With the same on link 1, all stay where they are.
func TestBlackHole(t *testing.T) {
	y := newWired(t, 2, `interval = "100ms"`)
	before := y.calm()
	y.viaAll(0, -1)
	y.w.SetMTU(2, 0, 1400)
	for id := range y.procs {
		y.uses(id, 1)
		s := y.until(id, "it is warned of", func(s control.Status) bool { return warned(s, "link 0 loses long packets to n") })
		if s.Level != control.Degraded || !s.Quorate || s.View != before.View || !warned(s, "link 0 loses long packets to "+s.Nodes[2-id].Name+" (10.80.0."+fmt.Sprint(3-id)+", 1500 bytes on the way there, for ") {
			t.Errorf("node %d: %+v", id, s)
		}
		r, err := y.ask(id, control.Request{Command: "links"})
		if err != nil {
			t.Fatal(err)
		}
		if l := r.Links.Links; l[0].State != "degraded" || l[0].MTU != 1500 || l[0].LongLost != "there" || l[0].LongFor <= 0 || l[1].State != "up" || l[1].MTU != 1500 || l[1].LongLost != "" {
			t.Errorf("node %d: %+v", id, l)
		}
		if text := fmt.Sprint(y.told(id, membership.KindLink)); !strings.Contains(text, "loses packets of 1500 bytes on the way there, and carries short ones") {
			t.Errorf("node %d told: %s", id, text)
		}
	}
	y.w.SetMTU(2, 1, 1400)
	for id := range y.procs {
		y.until(id, "both are warned of", func(s control.Status) bool { return warned(s, "link 0 loses") && warned(s, "link 1 loses") })
	}
	y.w.SetMTU(2, 0, 1500)
	y.w.SetMTU(2, 1, 1500)
	y.calm()
	y.viaAll(0, -1)
	for id := range y.procs {
		if more := y.told(id, membership.KindSuspect, membership.KindConvicted, membership.KindEvicted); len(more) > 0 {
			t.Errorf("node %d told: %+v", id, more)
		}
	}
}
