package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/witness"
	"github.com/quorate/quorate/configfs/configfstest"
	"github.com/quorate/quorate/kbridge/dlm/dlmtest"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/manual"
	"github.com/quorate/quorate/membership/secret"
	"github.com/quorate/quorate/tools/freeport"
	"github.com/quorate/quorate/tools/transcript"
)

// pairing is two daemons on kernels in memory, and a witness.
type pairing struct {
	t     *testing.T
	dir   string
	said  *transcript.Buffer
	nodes map[membership.NodeID]*running
	eye   *running // the witness
	addr  string   // of the witness
}

type running struct {
	cancel context.CancelFunc
	ended  chan error
}

func (r *running) stop() {
	r.cancel()
	<-r.ended
}

func newPairing(t *testing.T) *pairing {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the control socket is root's")
	}
	y := &pairing{t: t, dir: t.TempDir(), said: &transcript.Buffer{}, nodes: map[membership.NodeID]*running{}}
	y.addr = fmt.Sprintf("127.0.0.3:%d", freeport.On(t))
	if err := secret.WriteFile(y.path("key")); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[cluster]\nname = \"tank\"\nfencing = \"manual\"\nport = %d\nprobe_port = %d\n[liveness]\nprofile = \"safe\"\n", freeport.On(t), freeport.On(t))
	for id, name := range []string{1: "alpha", 2: "beta"} {
		if id > 0 {
			text += fmt.Sprintf("[[node]]\nname = %q\nid = %d\naddr = [\"127.0.0.%d\"]\n", name, id, id)
		}
	}
	if err := os.WriteFile(y.path("toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	y.witness()
	for id := range membership.NodeID(2) {
		y.start(id + 1)
	}
	t.Cleanup(func() {
		for _, r := range y.nodes {
			r.stop()
		}
		if y.eye != nil {
			y.eye.stop()
		}
		if t.Failed() {
			t.Log(y.said.String())
		}
	})
	return y
}

func (y *pairing) path(name string) string { return filepath.Join(y.dir, name) }

func (y *pairing) log(who string) *slog.Logger {
	return slog.New(slog.NewTextHandler(io.Writer(y.said), nil)).With("who", who)
}

func (y *pairing) witness() {
	y.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	y.eye = &running{cancel, make(chan error, 1)}
	up, ended := make(chan struct{}), y.eye.ended
	go func() {
		ended <- witness.Run(ctx, witness.Options{State: y.path("witness"), Listen: y.addr, Name: "eye", Log: y.log("witness"), Ready: func(net.Addr) { close(up) }})
	}()
	select {
	case <-up:
	case err := <-ended:
		y.t.Fatal(err)
	}
}

func (y *pairing) start(id membership.NodeID) {
	y.t.Helper()
	text, err := os.ReadFile(y.path("toml"))
	if err != nil {
		y.t.Fatal(err)
	}
	cfg, err := config.Parse("quorate.toml", fmt.Appendf(text, "[state]\ndir = %q\n", y.path(fmt.Sprint("state", id))))
	if err != nil {
		y.t.Fatal(err)
	}
	cfg.Self, cfg.KeyFile = id, y.path("key")
	if _, err := identify(cfg); err != nil {
		y.t.Skip(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel, make(chan error, 1)}
	kernel := dlmtest.New(configfstest.Linux6_18, uint32(id))
	ready := make(chan struct{})
	go func() {
		r.ended <- Run(ctx, Options{Config: cfg, Socket: y.path(fmt.Sprint("sock", id)), Log: y.log(fmt.Sprint("node ", id)), Fencer: manual.New(cfg.Config),
			Ready: func() { close(ready) }, fake: kernel.Options})
	}()
	select {
	case <-ready:
	case err := <-r.ended:
		y.t.Fatal(err)
	}
	y.nodes[id] = r
}

func (y *pairing) ask(id membership.NodeID, req control.Request) (control.Response, error) {
	y.t.Helper()
	c, err := control.Dial(y.path(fmt.Sprint("sock", id)))
	if err != nil {
		return control.Response{}, err
	}
	defer func() { _ = c.Close() }()
	return c.Call(y.t.Context(), req)
}

func (y *pairing) until(id membership.NodeID, what string, is func(control.Status) bool) control.Status {
	y.t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		r, err := y.ask(id, control.Request{Command: "status"})
		if err == nil && r.Status != nil && is(*r.Status) {
			return *r.Status
		}
		if time.Now().After(deadline) {
			y.t.Fatalf("node %d: not seen: %s: %+v, %v", id, what, r.Status, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (y *pairing) token() string {
	y.t.Helper()
	t, err := witness.MakeToken(y.path("witness"), y.addr, time.Hour)
	if err != nil {
		y.t.Fatal(err)
	}
	return t.Reveal()
}

func (y *pairing) refused(id membership.NodeID, req control.Request, words string) {
	y.t.Helper()
	if r, err := y.ask(id, req); err == nil || !strings.Contains(err.Error(), words) {
		y.t.Fatalf("%s: %+v, %v, not %q", req.Command, r, err, words)
	}
}

func warned(s control.Status, words string) bool {
	return strings.Contains(strings.Join(s.Warnings, "\n"), words)
}

// TestTwoAndAWitness: a pair with a witness goes on without either node, says of a
// lost witness that it is lost and nothing else, and waits, and says for whom, when a node
// and the witness are lost together.
func TestTwoAndAWitness(t *testing.T) {
	defer goleak.VerifyNone(t)
	y := newPairing(t)
	defer func() { // before goleak looks
		for id, r := range y.nodes {
			r.stop()
			delete(y.nodes, id)
		}
		y.eye.stop()
		y.eye = nil
	}()
	for id := range membership.NodeID(2) {
		y.until(id+1, "a member", func(s control.Status) bool { return s.Member && s.Quorate && s.Expected == 2 })
	}
	y.refused(1, control.Request{Command: "witness-add", Token: "qw1-nonsense"}, "copy the whole line")
	y.refused(1, control.Request{Command: "witness-remove"}, "no witness")
	token := y.token()
	if r, err := y.ask(1, control.Request{Command: "witness-add", Token: token}); err != nil || !strings.Contains(r.Text, "eye at "+y.addr) {
		t.Fatalf("%+v, %v", r, err)
	}
	for id := range membership.NodeID(2) {
		s := y.until(id+1, "the witness votes", func(s control.Status) bool {
			return s.Witness != nil && s.Witness.Votes && s.Witness.Connected && s.Witness.Heard >= 0 && s.Level == control.OK
		})
		if s.Votes != 3 || s.Expected != 3 || s.Needed != 2 {
			t.Errorf("node %d: %d of %d, %d needed", id+1, s.Votes, s.Expected, s.Needed)
		}
	}
	y.refused(2, control.Request{Command: "witness-add", Token: token}, "already")

	y.eye.stop()
	s := y.until(1, "a warning", func(s control.Status) bool { return warned(s, "the witness eye") })
	if !s.Quorate || s.Level != control.Degraded || len(s.Waits) != 0 {
		t.Errorf("a lost witness is more than a warning: %+v", s)
	}
	y.witness()
	y.until(1, "no warning", func(s control.Status) bool { return s.Level == control.OK })

	y.nodes[2].stop()
	delete(y.nodes, 2)
	y.until(1, "node 2 is evicted, node 1 goes on", func(s control.Status) bool {
		return s.Quorate && s.Nodes[1].State != "member" && s.Nodes[1].State != "suspect" && s.Votes == 2
	})
	y.eye.stop()
	s = y.until(1, "no quorum without both", func(s control.Status) bool { return !s.Quorate })
	why := fmt.Sprintf("%+v", s.Waits)
	if !strings.Contains(why, "not the witness eye") || !strings.Contains(why, "1 of 3 votes") {
		t.Errorf("the reason: %s", why)
	}
	y.witness()
	y.until(1, "the witness is enough", func(s control.Status) bool { return s.Quorate })
	y.start(2)
	y.until(2, "a member again", func(s control.Status) bool { return s.Member && s.Quorate && s.Witness != nil })

	if r, err := y.ask(2, control.Request{Command: "witness-remove"}); err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	y.until(1, "two votes", func(s control.Status) bool { return s.Witness == nil && s.Expected == 2 && s.Level == control.OK })
	if r, err := y.ask(2, control.Request{Command: "witness-add", Token: y.token()}); err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	s = y.until(1, "the witness votes again", func(s control.Status) bool { return s.Witness != nil && s.Witness.Votes && s.Level == control.OK })
	if s.Witness.ID != membership.FirstWitness+1 {
		t.Errorf("its id is %d", s.Witness.ID)
	}
	if said := y.said.String(); strings.Contains(said, token) || strings.Contains(said, token[60:]) {
		t.Error("the token is in a log")
	}
}
