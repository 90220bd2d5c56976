package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/configfs/configfstest"
	"github.com/quorate/quorate/kbridge/dlm/dlmtest"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/manual"
	"github.com/quorate/quorate/membership/rotation"
	"github.com/quorate/quorate/membership/secret"
	"github.com/quorate/quorate/tools/freeport"
	"github.com/quorate/quorate/tools/transcript"
)

// trio is three daemons on loopback, each with a kernel in memory and a key file of its own.
type trio struct {
	t     *testing.T
	nodes [3]*holder
}

// holder is one of them. Its files outlive the runs of its daemon.
type holder struct {
	t     *testing.T
	dir   string
	cfg   config.Config
	log   *transcript.Buffer
	stop  context.CancelFunc
	ended chan error
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the control socket is root's")
	}
	t.Cleanup(func() { goleak.VerifyNone(t) })
	w := &trio{t: t}
	port, probes := freeport.On(t), freeport.On(t)
	var key bytes.Buffer
	if err := secret.Generate(&key); err != nil {
		t.Fatal(err)
	}
	for i := range w.nodes {
		m := &holder{t: t, dir: t.TempDir(), log: &transcript.Buffer{}}
		var text strings.Builder
		fmt.Fprintf(&text, "[cluster]\nname = \"tank\"\ngroup = \"static\"\nkey_file = %q\nport = %d\nprobe_port = %d\n[liveness]\nprofile = \"safe\"\n[state]\ndir = %q\n",
			m.path("key"), port, probes, m.path("state"))
		for j := range w.nodes {
			fmt.Fprintf(&text, "[[node]]\nname = \"n%d\"\nid = %d\naddr = [\"127.0.9.%d\"]\n", j+1, j+1, j+1)
		}
		cfg, err := config.Parse("quorate.toml", []byte(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Self = membership.NodeID(i + 1)
		if _, err := identify(cfg); err != nil {
			t.Skip(err)
		}
		m.cfg = cfg
		if err := os.WriteFile(m.path("key"), append([]byte("# of tank\n"), key.Bytes()...), 0o600); err != nil {
			t.Fatal(err)
		}
		w.nodes[i] = m
		m.start()
		t.Cleanup(m.end)
	}
	return w
}

func (m *holder) path(name string) string { return filepath.Join(m.dir, name) }

func (m *holder) start() {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m.stop, m.ended = cancel, make(chan error, 1)
	kernel := dlmtest.New(configfstest.Linux6_18, uint32(m.cfg.Self))
	ready := make(chan struct{})
	go func() {
		m.ended <- Run(ctx, Options{Config: m.cfg, Socket: m.path("sock"), Log: slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Fencer: manual.New(m.cfg.Config), Ready: func() { close(ready) }, fake: kernel.Options})
	}()
	select {
	case <-ready:
	case err := <-m.ended:
		m.t.Fatal(err)
	}
}

func (m *holder) end() {
	if m.stop == nil {
		return
	}
	m.stop()
	<-m.ended
	m.stop = nil
}

func (m *holder) ask(r control.Request) (control.Response, error) {
	c, err := control.Dial(m.path("sock"))
	if err != nil {
		return control.Response{}, err
	}
	defer func() { _ = c.Close() }()
	return c.Call(m.t.Context(), r)
}

func (m *holder) must(r control.Request, words string) {
	m.t.Helper()
	a, err := m.ask(r)
	if err != nil || !strings.Contains(a.Text, words) {
		m.t.Fatalf("%s: %q, %v; want %q", r.Command, a.Text, err, words)
	}
}

func (m *holder) refused(r control.Request, words string) {
	m.t.Helper()
	if _, err := m.ask(r); err == nil || !strings.Contains(err.Error(), words) {
		m.t.Fatalf("%s: %v, want %q", r.Command, err, words)
	}
}

// until asks every daemon that runs until all say so.
func (w *trio) until(what string, is func(control.Status) bool) {
	w.t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for _, m := range w.nodes {
		for m.stop != nil {
			r, err := m.ask(control.Request{Command: "status"})
			if err == nil && r.Status != nil && is(*r.Status) {
				break
			}
			if time.Now().After(deadline) {
				b, _ := json.Marshal(r.Status)
				w.t.Fatalf("not seen at %d: %s: %s, %v\n%s", m.cfg.Self, what, b, err, m.log)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// have: so many nodes at least have said that they have these epochs, the first to send with.
func have(n int, epochs ...uint32) func(control.Status) bool {
	return func(s control.Status) bool {
		good := 0
		for _, x := range s.Keys.Nodes {
			var got []uint32
			for _, k := range x.Keys {
				got = append(got, k.Epoch)
			}
			if slices.Equal(got, epochs) {
				good++
			}
		}
		return good >= n
	}
}

func connected(s control.Status) bool {
	return !slices.ContainsFunc(s.Nodes, func(n control.NodeStatus) bool { return !n.Connected })
}

// material is every key that the test has seen in a file, as text and as bytes look in a dump.
func (w *trio) material(seen map[string]bool) {
	w.t.Helper()
	for _, m := range w.nodes {
		b, err := os.ReadFile(m.path("key"))
		if err != nil {
			w.t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 2 && f[0] == "quorate-key-1" {
				seen[f[2]] = true
			}
		}
	}
}

// leaks looks for keys in all that a daemon says and keeps, besides its key file.
func (w *trio) leaks(seen map[string]bool) {
	w.t.Helper()
	for _, m := range w.nodes {
		places := map[string]string{"the log": m.log.String()}
		for _, cmd := range []string{"status", "events", "why", "fence-history"} {
			if r, err := m.ask(control.Request{Command: cmd}); err == nil {
				b, err := json.Marshal(r)
				if err != nil {
					w.t.Fatal(err)
				}
				places[cmd] = string(b)
			}
		}
		err := filepath.WalkDir(m.dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || path == m.path("key") {
				return err
			}
			b, err := os.ReadFile(path)
			places[path] = string(b)
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
		for key := range seen {
			for place, text := range places {
				if strings.Contains(text, key) || strings.Contains(text, key[:12]) {
					w.t.Errorf("node %d: a key shows in %s", m.cfg.Self, place)
				}
			}
		}
	}
	if len(seen) < 2 {
		w.t.Fatalf("%d keys were looked for", len(seen))
	}
}

// A key is drawn on one node while another is down; it takes over when that is back
// and has it, and the old one goes, everywhere, without a connection that breaks. No
// key is ever seen outside the files.
func TestARotationWaitsForWhoIsDown(t *testing.T) {
	w := newTrio(t)
	w.until("connected", connected)
	seen := map[string]bool{}
	w.material(seen)
	w.nodes[2].end()
	w.nodes[1].must(control.Request{Command: "key-rotate"}, "is handed to all nodes")
	w.until("loaded by two", have(2, 1, 2))
	w.nodes[0].refused(control.Request{Command: "key-rotate"}, "is on its way already")
	w.nodes[0].refused(control.Request{Command: "key-drop", Epoch: 1}, "this node sends with key 1")
	w.until("who is waited for", func(s control.Status) bool {
		return s.Keys.Stage == "spreading" && slices.ContainsFunc(s.Waits, func(x control.Wait) bool {
			return x.For == "key" && x.Owner == 3 && strings.Contains(x.Reason, "n3 had not loaded key 2")
		})
	})
	w.material(seen)
	peers := func() string { return strings.Join(w.lines(membership.KindPeer), "\n") }
	before := peers()
	w.nodes[2].start()
	w.until("taken over", have(3, 2))
	if s := peers(); strings.Count(s, "disconnected") != strings.Count(before, "disconnected") {
		t.Errorf("a connection broke: %s", s)
	}
	w.until("done", func(s control.Status) bool { return s.Keys.Stage == "idle" && s.Keys.Plan == nil && connected(s) })
	for _, m := range w.nodes {
		b, err := os.ReadFile(m.path("key"))
		if err != nil || !strings.HasPrefix(string(b), "# of tank\nquorate-key-1 2 ") || strings.Count(string(b), "\n") != 2 {
			t.Errorf("the file of node %d has other lines: %v", m.cfg.Self, err)
		}
	}
	w.nodes[2].end()
	w.nodes[2].start() // by the new key alone
	w.until("connected again", connected)
	w.material(seen)
	w.leaks(seen)
}

func (w *trio) lines(k membership.Kind) (out []string) {
	w.t.Helper()
	for _, m := range w.nodes[:2] {
		r, err := m.ask(control.Request{Command: "events"})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range r.Events {
			if e.Kind == k {
				out = append(out, fmt.Sprintf("%d: %s", m.cfg.Self, e.Text))
			}
		}
	}
	return out
}

// Two nodes rotate at the same moment: one key stands, the same everywhere.
func TestTwoRotationsAtOnce(t *testing.T) {
	w := newTrio(t)
	w.until("connected", connected)
	var wg sync.WaitGroup
	for _, m := range w.nodes {
		wg.Go(func() {
			if _, err := m.ask(control.Request{Command: "key-rotate"}); err != nil && !strings.Contains(err.Error(), "on its way") && !strings.Contains(err.Error(), "another node rotates") {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.until("one took over", func(s control.Status) bool {
		first := s.Keys.Nodes[0].Keys
		return s.Keys.Stage == "idle" && !slices.ContainsFunc(s.Keys.Nodes, func(x control.KeyNode) bool {
			return len(x.Keys) != 1 || x.Keys[0] != first[0] || x.Keys[0].Epoch < 2
		})
	})
}

// The manual way: a line is appended everywhere and loaded, then takes over. What the
// others would not understand is refused.
func TestKeysByHand(t *testing.T) {
	w := newTrio(t)
	w.until("connected", connected)
	drawn, err := secret.Draw(5)
	if err != nil {
		t.Fatal(err)
	}
	ids, _, err := drawn.Keys()
	if err != nil {
		t.Fatal(err)
	}
	line, _ := drawn.Hand(ids[0])
	line = []byte(strings.Replace(string(line), " rotated", "", 1))
	file := func(m *holder, edit func(old string) string) {
		old, err := os.ReadFile(m.path("key"))
		if err == nil {
			err = os.WriteFile(m.path("key"), []byte(edit(string(old))), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	first := w.nodes[0]
	file(first, func(old string) string { return string(line) + old })
	first.refused(control.Request{Command: "key-reload"}, "is not loaded everywhere (n2, n3)")
	first.refused(control.Request{Command: "key-rotate"}, "run `quorate key reload` first")
	file(first, func(string) string { return "nonsense" })
	first.refused(control.Request{Command: "key-reload"}, "quorate keygen")
	file(first, func(string) string { return string(line) })
	first.refused(control.Request{Command: "key-reload"}, "is not loaded everywhere")
	old, err := os.ReadFile(w.nodes[1].path("key"))
	if err != nil {
		t.Fatal(err)
	}
	file(first, func(string) string { return string(old) })
	first.refused(control.Request{Command: "key-switch"}, "there is no newer key")
	for _, m := range w.nodes {
		file(m, func(old string) string { return old + string(line) })
		m.must(control.Request{Command: "key-reload"}, "2 keys loaded")
	}
	w.until("loaded", have(3, 1, 5))
	time.Sleep(2 * helloTime) // nothing happens by itself
	w.until("not in use", have(3, 1, 5))
	w.nodes[2].must(control.Request{Command: "key-switch"}, "takes over")
	w.until("taken over", have(3, 5))
}

// A node that came with another secret is in when it has loaded the others' file: as the
// refusal says, nothing is started anew for it.
func TestAnotherSecretIsReloaded(t *testing.T) {
	w := newTrio(t)
	w.until("connected", connected)
	other := w.nodes[2]
	other.end()
	right, err := os.ReadFile(other.path("key"))
	if err == nil {
		err = os.Remove(other.path("key"))
	}
	if err == nil {
		err = secret.WriteFile(other.path("key"))
	}
	if err != nil {
		t.Fatal(err)
	}
	other.start()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(other.log.String(), "have it loaded there: `quorate key reload`"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is not refused: %s", other.log)
		}
	}
	if err := os.WriteFile(other.path("key"), right, 0o600); err != nil {
		t.Fatal(err)
	}
	other.must(control.Request{Command: "key-reload"}, "1 key loaded")
	w.until("connected again", connected)
}

// helloTime is how often nodes tell each other of their keys.
const helloTime = time.Second

// A key that is on its way is taken back, everywhere.
func TestARotationIsTakenBack(t *testing.T) {
	w := newTrio(t)
	w.until("connected", connected)
	w.nodes[2].end()
	w.nodes[0].must(control.Request{Command: "key-rotate"}, "is handed to all nodes")
	w.until("loaded by two", have(2, 1, 2))
	w.nodes[1].refused(control.Request{Command: "key-drop", Epoch: 2}, "not known whether they have begun to send with key 2")
	w.nodes[1].must(control.Request{Command: "key-drop", Epoch: 2, Force: true}, "is dropped here")
	w.until("dropped", func(s control.Status) bool { return have(2, 1)(s) && !have(1, 1, 2)(s) && s.Keys.Plan == nil })
	w.nodes[2].start()
	w.until("as before", have(3, 1))
	w.nodes[1].must(control.Request{Command: "key-rotate"}, "key 3 (")
	w.until("another one", have(3, 3))
}

// A file that cannot be written keeps the node from going on, and says so to all.
func TestAKeyFileThatCannotBeWritten(t *testing.T) {
	w := newTrio(t)
	w.until("connected", connected)
	bad := w.nodes[2]
	if err := os.Mkdir(bad.path("key.new"), 0o700); err != nil { // in the way of the new file
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bad.path("key.new"), "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.nodes[0].must(control.Request{Command: "key-rotate"}, "is handed to all nodes")
	w.until("the reason", func(s control.Status) bool {
		return slices.ContainsFunc(s.Waits, func(x control.Wait) bool {
			return x.For == "key" && x.Owner == 3 && strings.Contains(x.Reason, "write ")
		})
	})
	if err := os.RemoveAll(bad.path("key.new")); err != nil {
		t.Fatal(err)
	}
	w.until("taken over all the same", have(3, 2))
}

// The edge's own decisions, without a network.
func TestAKeyring(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := secret.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	s, err := secret.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	k := newKeyring(path, s)
	var said []node.Input
	gone := rotation.Key{}
	k.post = func(in node.Input) { said = append(said, in) }
	k.gone = func(id rotation.Key) bool { return id == gone }
	k.apply = func(secret.Secret) error { return nil }
	last := func() node.Keys { return said[len(said)-1].(node.Keys) }

	k.draw(node.DrawKey{Token: 7, Epoch: 2})
	if in := last(); in.Err != "" || in.Token != 7 || in.Begin == nil || len(in.Keys) != 2 || in.Begin.Key != in.Keys[1] {
		t.Fatalf("%+v", in)
	}
	two := last().Keys[1]
	k.draw(node.DrawKey{Token: 8, Epoch: 2})
	if in := last(); !strings.Contains(in.Err, "another node rotates") {
		t.Errorf("%+v", in)
	}
	k.drop(last().Keys[0])
	if in := last(); !strings.Contains(in.Err, "sends with, and stays") || len(in.Keys) != 2 {
		t.Errorf("%+v", in)
	}
	k.first(two)
	if in := last(); in.Err != "" || in.Keys[0] != two {
		t.Errorf("%+v", in)
	}
	n := len(said)
	other, err := secret.Draw(3)
	if err != nil {
		t.Fatal(err)
	}
	ids, _, err := other.Keys()
	if err != nil {
		t.Fatal(err)
	}
	line, _ := other.Hand(ids[0])
	gone = ids[0]
	k.take(line)
	if len(said) != n {
		t.Errorf("a discarded key: %+v", last())
	}
	gone = rotation.Key{}
	k.take(line)
	k.take(line)
	if len(said) != n+1 || len(last().Keys) != 3 {
		t.Errorf("%d times, %+v", len(said)-n, last())
	}
	k.take([]byte("nonsense"))
	if in := last(); !strings.Contains(in.Err, "handed over") {
		t.Errorf("%+v", in)
	}
	k.apply = func(secret.Secret) error { return errors.New("no leaf") }
	k.drop(ids[0])
	if in := last(); in.Err != "no leaf" || len(in.Keys) != 3 {
		t.Errorf("%+v", in)
	}
}

// What a peer sends as a key is a key or an error that repeats nothing of it.
func FuzzHandedKey(f *testing.F) {
	s, err := secret.Draw(2)
	if err != nil {
		f.Fatal(err)
	}
	ids, _, err := s.Keys()
	if err != nil {
		f.Fatal(err)
	}
	line, _ := s.Hand(ids[0])
	f.Add(node.KeyMessage(line))
	f.Add([]byte("K"))
	f.Add([]byte("Kquorate-key-1 1 x"))
	dir := f.TempDir()
	path := filepath.Join(dir, "key")
	if err := secret.WriteFile(path); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		line, ok := node.HandedKey(data)
		if !ok {
			return
		}
		s, err := secret.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		k := newKeyring(path, s)
		k.apply = func(secret.Secret) error { return nil }
		k.gone = func(rotation.Key) bool { return false }
		k.post = func(in node.Input) {
			if e := in.(node.Keys).Err; len(line) > 20 && strings.Contains(e, string(line)) {
				t.Errorf("%q is repeated", e)
			}
		}
		before := k.loaded.Load().Epochs()
		k.take(line)
		if after := k.loaded.Load().Epochs(); after[0] != before[0] {
			t.Errorf("a peer has changed the key to send with: %v, %v", before, after)
		}
		if len(k.loaded.Load().Epochs()) >= secret.MaxKeys { // begin anew
			if err := errors.Join(os.Remove(path), secret.WriteFile(path)); err != nil {
				t.Fatal(err)
			}
		}
	})
}
