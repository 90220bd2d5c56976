package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/configfs/configfstest"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/kbridge/dlm/dlmtest"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/manual"
	"github.com/quorate/quorate/membership/secret"
	"github.com/quorate/quorate/tools/freeport"
)

// alone is one daemon on a kernel in memory, with a second node in its list.
type alone struct {
	t      *testing.T
	dir    string
	kernel *dlmtest.Kernel
	cfg    config.Config
	ended  chan error
	cancel context.CancelFunc
	log    slog.Handler // of the next start
	fencer membership.Fencer
}

func newAlone(t *testing.T) *alone {
	t.Helper()
	a := prepareAlone(t)
	a.start("")
	return a
}

// prepareAlone has the configuration, and no daemon yet.
func prepareAlone(t *testing.T) *alone {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the control socket is root's")
	}
	a := &alone{t: t, dir: t.TempDir(), kernel: dlmtest.New(configfstest.Linux6_18, 1), ended: make(chan error, 1), log: slog.DiscardHandler}
	if err := secret.WriteFile(a.path("key")); err != nil {
		t.Fatal(err)
	}
	a.list("alpha\nbeta\n")
	cfg, err := config.Parse("quorate.toml", fmt.Appendf(nil, `
[cluster]
name = "tank"
group = "static"
members = %q
key_file = %q
port = %d
probe_port = %d
[[node]]
name = "alpha"
id = 1
addr = ["127.0.0.1"]
[[node]]
name = "beta"
id = 2
addr = ["127.0.0.2"]
[state]
dir = %q
`, a.path("members"), a.path("key"), freeport.On(t), freeport.On(t), a.path("state")))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Self = 1
	if _, err := identify(cfg); err != nil {
		t.Skip(err)
	}
	a.cfg, a.fencer = cfg, manual.New(cfg.Config)
	return a
}

// start runs the daemon. The program that answers probes is pinned below pins; empty:
// there is none.
func (a *alone) start(pins string) {
	a.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	ready := make(chan struct{})
	go func() {
		a.ended <- Run(ctx, Options{Config: a.cfg, Socket: a.path("sock"), Log: slog.New(a.log), Fencer: a.fencer,
			Ready: func() { close(ready) }, fake: a.kernel.Options, pins: pins})
	}()
	a.t.Cleanup(cancel)
	select {
	case <-ready:
	case err := <-a.ended:
		a.t.Fatal(err)
	}
}

func (a *alone) path(name string) string { return filepath.Join(a.dir, name) }

// list writes the list of members beside the old one and moves it there.
func (a *alone) list(text string) {
	a.t.Helper()
	if err := os.WriteFile(a.path("new"), []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(a.path("new"), a.path("members")); err != nil {
		a.t.Fatal(err)
	}
}

func (a *alone) ask(command string) (control.Response, error) {
	a.t.Helper()
	c, err := control.Dial(a.path("sock"))
	if err != nil {
		return control.Response{}, err
	}
	defer func() { _ = c.Close() }()
	return c.Call(a.t.Context(), control.Request{Command: command})
}

// until asks for the status until it is as expected.
func (a *alone) until(what string, is func(control.Status) bool) control.Status {
	a.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		r, err := a.ask("status")
		if err == nil && r.Status != nil && is(*r.Status) {
			return *r.Status
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("not seen: %s: %+v, %v", what, r.Status, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// One node works by a list: nothing starts while a listed node is missing; when
// the list has lost it everything runs, without a fence device; and the node
// leaves when nothing is in use.
func TestOneNodeByAList(t *testing.T) {
	defer goleak.VerifyNone(t)
	a := newAlone(t)
	s := a.until("a member that waits for beta", func(s control.Status) bool {
		return s.Member && !s.Quorate && slices.ContainsFunc(s.Waits, func(w control.Wait) bool { return w.Owner == 2 && strings.Contains(w.Reason, a.path("members")) })
	})
	if s.Group != "static" || !strings.Contains(s.Promise, "alpha, beta by "+a.path("members")) || s.Level != control.Blocked {
		t.Errorf("%s: %s, level %d", s.Group, s.Promise, s.Level)
	}
	mount := a.kernel.Create("gfs")
	a.until("the join waits", func(s control.Status) bool { return len(s.Lockspaces) == 1 && s.Lockspaces[0].Local == "joining" })
	a.list("alpha\n")
	if err := <-mount; err != nil {
		t.Fatal(err)
	}
	s = a.until("everything runs", func(s control.Status) bool {
		return s.Quorate && s.Level == control.OK && len(s.Lockspaces) == 1 && s.Lockspaces[0].State == "running"
	})
	if s.Nodes[1].State != "unlisted" || !strings.Contains(s.Promise, "alpha alone") || s.Needed != 1 {
		t.Errorf("%+v", s)
	}
	if m := a.kernel.Members("gfs"); !slices.Equal(m, []uint32{1}) {
		t.Errorf("members %v", m)
	}
	if r, err := a.ask("leave"); err == nil || !strings.Contains(err.Error(), "gfs") {
		t.Errorf("leave under a mounted file system: %+v, %v", r, err)
	}
	<-a.kernel.Release("gfs", false)
	a.until("the lockspace is gone", func(s control.Status) bool { return len(s.Lockspaces) == 0 })
	if _, err := a.ask("leave"); err != nil {
		t.Errorf("leave: %v", err)
	}
	if err := <-a.ended; err != nil {
		t.Errorf("the end: %v", err)
	}
	if v := a.kernel.Violations(); len(v) > 0 {
		t.Error(v)
	}
	if _, err := os.Stat(a.path("state")); !os.IsNotExist(err) {
		t.Errorf("a group without a memory left something: %v", err)
	}
}

// A second daemon ends before it touches the kernel, which the first one drives.
func TestSecondDaemon(t *testing.T) {
	a := newAlone(t)
	a.list("alpha\n")
	a.until("everything is well", func(s control.Status) bool { return s.Level == control.OK })
	touched := false
	err := Run(t.Context(), Options{Config: a.cfg, Socket: a.path("sock"), Log: slog.New(slog.DiscardHandler), Fencer: a.fencer,
		fake: func(o dlm.Options) dlm.Options { touched = true; return a.kernel.Options(o) }})
	if !errors.Is(err, control.ErrRunning) || touched {
		t.Fatalf("%v, the kernel was touched: %v", err, touched)
	}
	if err := <-a.kernel.Create("gfs"); err != nil {
		t.Errorf("mount at the first daemon: %v", err)
	}
}
