package accept

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
)

// password is what the fence agents are given, to be looked for.
const password = "Correct-Horse-91-Staple"

// TestKeys changes the cluster's secret under mounted file systems, and looks for
// secrets where none may be.
func TestKeys(t *testing.T) {
	w := newMounted(t, cluster.Options{Nodes: 3, DeadAfter: time.Second, OwnKeys: true, Password: password})
	s := &secrets{seen: map[string]bool{password: true}}
	w.story("a key is rotated while a node is down", func(w *world) { w.rotates(s) })
	w.story("a node comes back by the new key alone", (*world).returnsByKey)
	w.story("no secret is where none may be", func(w *world) { w.look(s) })
}

// rotates: with one node down a key is drawn, and waits. The node comes back by the
// old key, is handed the new one, which takes over, and the old one goes. Nobody is
// evicted, no connection breaks, and every append is there.
func (w *world) rotates(s *secrets) {
	w.learn(s)
	victim := w.follower()
	rest := w.Others(victim)
	stop := w.commandLines(rest)
	at, err := w.Kill(w.ctx, victim)
	w.must(err)
	w.must(w.WaitEach(w.ctx, rest, at, membership.KindFenced))
	w.must(w.WaitMembers(w.ctx, rest, rest))
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	stop()
	wr := w.write("keys", 20, rest...)
	defer wr.stop()
	from := time.Now()
	w.shows(w.quorate(rest[1], "key rotate", 0), "is handed to all nodes")
	w.keys(rest, "two keys on both", func(x control.Status) bool { return have(x, rest, 1, 2) && x.Keys.Stage == "spreading" })
	w.learn(s)
	missing := "not loaded key 2" // it has not, or had not when it was last heard: its connection may still stand
	w.shows(w.quorate(rest[0], "key status", 0), missing)
	w.shows(w.quorate(rest[0], "why", 1), missing)
	w.shows(w.quorate(rest[0], "key drop 1", 1), "this node sends with key 1")
	for _, i := range rest {
		wr.progress(i, time.Now())
	}
	back := time.Now()
	w.boot(victim)
	w.keys(w.Nodes(), "the new key alone on all", func(x control.Status) bool { return have(x, w.Nodes(), 2) && x.Keys.Stage == "idle" })
	w.t.Logf("taken over everywhere, and the old one dropped, %v after the power came back", time.Since(back).Round(100*time.Millisecond))
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	w.mountLast(victim)
	w.learn(s)
	for _, i := range rest {
		wr.progress(i, time.Now())
	}
	wr.stop()
	for _, e := range w.Events.All() { // the victim's own log tells it of its death when it is back
		if e.At.After(from) && e.Node != victim && slices.Contains(evil, e.Kind) {
			w.t.Errorf("node%d %s: %s", e.Node, e.Kind, e.Text)
		}
	}
	w.unbroken(from, rest)
	for _, i := range w.Nodes() {
		wr.verify(i, rest...)
	}
}

// returnsByKey: a node dies, and its file has nothing but the new key when it boots.
func (w *world) returnsByKey() {
	victim := w.follower()
	rest := w.Others(victim)
	wr := w.write("by-key", 20, w.Nodes()...)
	defer wr.stop()
	at, err := w.Kill(w.ctx, victim)
	w.must(err)
	w.must(w.WaitEach(w.ctx, rest, at, membership.KindFenced))
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	for _, i := range rest {
		wr.progress(i, time.Now())
	}
	w.back(victim)
	w.keys(w.Nodes(), "one key on all", func(x control.Status) bool { return have(x, w.Nodes(), 2) })
	wr.stop()
	for _, i := range w.Nodes() {
		wr.verify(i, w.Nodes()...)
	}
}

// unbroken: the connection between two nodes stood.
func (w *world) unbroken(from time.Time, pair []int) {
	w.t.Helper()
	for _, e := range w.Events.All() {
		if e.At.After(from) && e.Kind == membership.KindPeer && slices.Contains(pair, e.Node) && slices.Contains(pair, int(e.Subject)) {
			w.t.Errorf("node%d and node%d: %s", e.Node, e.Subject, e.Text)
		}
	}
}

// have: these nodes have said that they have these keys, and send with the first.
func have(x control.Status, nodes []int, epochs ...uint32) bool {
	for _, n := range x.Keys.Nodes {
		if !slices.Contains(nodes, int(n.ID)) {
			continue
		}
		var got []uint32
		for _, k := range n.Keys {
			got = append(got, k.Epoch)
		}
		if !slices.Equal(got, epochs) {
			return false
		}
	}
	return true
}

// keys waits until the daemons of some nodes say so.
func (w *world) keys(of []int, what string, is func(control.Status) bool) {
	w.t.Helper()
	w.within(60*time.Second, what, func(ctx context.Context) error {
		for _, i := range of {
			if err := cluster.Until(ctx, 200*time.Millisecond, func() error {
				x, err := w.Status(ctx, i)
				if err == nil && (x.Keys == nil || !is(x)) {
					b, _ := json.Marshal(x.Keys) // of strings and numbers
					err = fmt.Errorf("node%d: %s", i, b)
				}
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// secrets are what was in a secret file, or given to an agent.
type secrets struct{ seen map[string]bool }

// all are the secrets as they are written, and the bytes of keys.
func (s *secrets) all() (out []string) {
	for x := range s.seen {
		out = append(out, x)
		if raw, err := base64.RawURLEncoding.DecodeString(x); err == nil && len(raw) == 32 {
			out = append(out, string(raw))
		}
	}
	return out
}

// learn notes the keys that are in the files now.
func (w *world) learn(s *secrets) {
	w.t.Helper()
	for _, i := range w.Nodes() {
		r, err := w.Lab.Node(i).Exec(w.ctx, "cat "+cluster.OwnKey)
		if err != nil {
			continue // it is down; the others have all keys
		}
		for line := range strings.Lines(r.Stdout) {
			if f := strings.Fields(line); len(f) > 2 && strings.HasPrefix(f[0], "quorate-key") {
				s.seen[f[2]] = true
			}
		}
	}
}

// cmdlines is where the command lines of a node's programs are gathered.
const cmdlines = "/run/cmdlines"

// commandLines gathers what every program was started with, until it is stopped: that
// of a fence agent is seen only while it runs.
func (w *world) commandLines(nodes []int) (stop func()) {
	w.t.Helper()
	var procs []*lab.Proc
	for _, i := range nodes {
		p, err := w.Lab.Node(i).Start(w.ctx, lab.Cmd{Args: []string{"/bin/sh", "-c",
			"while :; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' ' >>" + cmdlines + "; sleep 0.1; done"}})
		w.must(err)
		procs = append(procs, p)
	}
	return func() {
		for _, p := range procs {
			p.Stop()
		}
	}
}

// look looks for every secret in all that nodes show and keep, and in what the test
// keeps of them.
func (w *world) look(s *secrets) {
	if len(s.seen) < 3 {
		w.t.Fatalf("%d secrets are known: two keys and a password there should be", len(s.seen))
	}
	out := filepath.Join(w.out, "secrets")
	w.must(os.RemoveAll(out)) // of another run
	w.must(os.MkdirAll(out, 0o755))
	w.must(w.Keep(w.ctx, out))
	for _, i := range w.Nodes() {
		places := w.gather(i, filepath.Join(out, fmt.Sprintf("node%d", i)))
		w.t.Logf("node%d: looked at %s", i, places)
	}
	files, bytes, agents := 0, 0, 0
	w.must(filepath.WalkDir(w.out, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files, bytes = files+1, bytes+len(b)
		if strings.HasSuffix(path, ".cmdlines") {
			agents += strings.Count(string(b), "fence_lab")
		}
		for _, secret := range s.all() {
			if strings.Contains(string(b), secret) {
				w.t.Errorf("a secret of %d letters is in %s", len(secret), path)
			}
		}
		return err
	}))
	if agents == 0 {
		w.t.Error("no fence agent was seen to run: nothing was looked at")
	}
	all, err := json.Marshal(w.Events.All())
	w.must(err)
	for _, secret := range s.all() {
		if strings.Contains(string(all), secret) {
			w.t.Errorf("a secret of %d letters is in the events that were sent", len(secret))
		}
	}
	w.t.Logf("%d secrets, %d files of %d bytes, %d bytes of events", len(s.seen), files, bytes, len(all))
}

// gather has a node put into files what it shows, and brings them here: the secrets
// are looked for here, so that no command line has them.
func (w *world) gather(i int, to string) (sizes string) {
	w.t.Helper()
	for name, script := range map[string]string{
		"cmdlines": "cat " + cmdlines + " 2>/dev/null; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '",
		"status":   "/usr/local/sbin/quorate -o json status",
		"keys":     "/usr/local/sbin/quorate key status; /usr/local/sbin/quorate -o json key status",
		"why":      "/usr/local/sbin/quorate why",
		"events":   "/usr/local/sbin/quorate -o json events",
		"history":  "/usr/local/sbin/quorate -o json fence history",
		"log":      "cat " + cluster.LogFile,
		"raft":     "cat " + logFiles + "/*",
	} {
		r, err := w.Lab.Node(i).Exec(w.ctx, script)
		w.must(err)
		if len(r.Stdout) == 0 {
			w.t.Errorf("node%d: nothing to look at: %s: %s", i, name, r.Stderr)
		}
		sizes += fmt.Sprintf(" %s (%d)", name, len(r.Stdout))
		w.must(os.WriteFile(to+"."+name, []byte(r.Stdout), 0o600))
	}
	return sizes
}
