package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden parts of the scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"quorate": main})
}

// TestScripts tells the commands' stories against a fake daemon. A script says
//
//	serve FILE       a daemon that answers with the fake in FILE (JSON) is at $WORK/sock
//	asked TEXT       that was the last request that changes something; asked -re PATTERN: one like it
//	status N CMD...  the command's exit status is N
func TestScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the control socket lets nobody else change anything")
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *rewrite,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("SOCK", filepath.Join(e.WorkDir, "s"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"serve": serve, "asked": asked, "status": status},
	})
}

// fake is a daemon made of canned answers.
type fake struct {
	Status  control.Status        `json:"status"`
	Events_ []membership.Event    `json:"events"`
	History []control.FenceRecord `json:"history"`
	Text    string                `json:"text"`
	Refuse  string                `json:"refuse"`
	// Agreed are the versions of the configuration, newest first.
	Agreed []struct {
		control.ConfigVersion
		Text string `json:"text"`
	} `json:"agreed"`
	Own   string               `json:"own"`  // what a version has at its end with what is the node's own
	Path  string               `json:"path"` // of the node's file
	Notes []string             `json:"notes"`
	Links *control.LinksReport `json:"links"`
	Again int                  `json:"again"` // so often there is no leader before
	Tests []control.FenceTest  `json:"tests"`
	// After are the nodes and fencings as they are once something was changed.
	After struct {
		Nodes   []control.NodeStatus  `json:"nodes"`
		Fencing []control.FenceStatus `json:"fencing"`
	} `json:"after"`

	mu   sync.Mutex
	last string
	// changed is the status after a change, if it has a cluster.
	changed control.Status
}

func (f *fake) Handle(_ context.Context, req control.Request) control.Response {
	switch req.Command {
	case "status", "why":
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.changed.Cluster != "" {
			s := f.changed
			return control.Response{Status: &s}
		}
		return control.Response{Status: &f.Status}
	case "events":
		backlog, _, _ := f.Events(req.Since)
		return control.Response{Events: backlog}
	case "fence-history":
		return control.Response{History: f.History}
	case "links":
		return control.Response{Links: f.Links}
	case "config-show":
		return f.show(req)
	}
	req.Who = ""
	data, _ := json.Marshal(req)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = string(data)
	if f.Again > 0 {
		f.Again--
		return control.Response{Error: "nothing can be agreed now: no leader", Again: true}
	}
	if req.Command == "fence-test" {
		return control.Response{Error: f.Refuse, Tests: f.Tests}
	}
	if f.After.Nodes != nil && f.Refuse == "" {
		f.changed = f.Status
		f.changed.Nodes, f.changed.Fencing = f.After.Nodes, f.After.Fencing
	}
	return control.Response{Error: f.Refuse, Text: f.Text}
}

// show gives a version of the configuration.
func (f *fake) show(req control.Request) (r control.Response) {
	for i, c := range f.Agreed {
		r.Configs = append(r.Configs, c.ConfigVersion)
		if c.Version == req.Version || req.Version == 0 && i == 0 {
			r.Config, r.Text = c.Version, c.Text
		}
	}
	if r.Config == 0 {
		return control.Response{Error: "version is not known"}
	}
	if req.Own {
		r.Text += cmp.Or(f.Own, "# own\n")
	}
	r.Path, r.Notes = f.Path, f.Notes
	return r
}

// Events gives the stream one more event and ends it.
func (f *fake) Events(since uint64) ([]membership.Event, <-chan membership.Event, func()) {
	var out []membership.Event
	for _, e := range f.Events_ {
		if e.Seq > since {
			out = append(out, e)
		}
	}
	live := make(chan membership.Event, 1)
	live <- membership.Event{Seq: 99, Kind: "done", Lockspace: "home", Wall: "2026-03-01T00:00:01Z", Text: "live"}
	close(live)
	return out, live, func() {}
}

var fakes sync.Map // socket: *fake

func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serve FILE")
	}
	f := &fake{}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), f))
	if f.Path != "" {
		f.Path = ts.MkAbs(f.Path)
	}
	l, err := control.Listen(ts.Getenv("SOCK"))
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, l, f) }()
	fakes.Store(ts.Getenv("SOCK"), f)
	ts.Defer(func() {
		cancel()
		if err := <-done; err != nil {
			ts.Logf("serve: %v", err)
		}
	})
}

func asked(ts *testscript.TestScript, neg bool, args []string) {
	f, _ := fakes.Load(ts.Getenv("SOCK"))
	f.(*fake).mu.Lock()
	defer f.(*fake).mu.Unlock()
	last := f.(*fake).last
	if len(args) == 2 && args[0] == "-re" && !neg {
		if ok, err := regexp.MatchString(args[1], last); !ok || err != nil {
			ts.Fatalf("asked %s, %v", last, err)
		}
		return
	}
	if neg && last != "" || !neg && (len(args) != 1 || last != args[0]) {
		ts.Fatalf("asked %s", last)
	}
}

func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	var exit interface{ ExitCode() int }
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit status %d, want %s", code, args[0])
	}
}

func TestHuman(t *testing.T) {
	tests := map[time.Duration]string{
		-1: "never", 0: "0.0ms", 250 * time.Microsecond: "0.2ms", 40 * time.Millisecond: "40ms", 1500 * time.Millisecond: "1.5s", 2 * time.Second: "2s",
		14 * time.Second: "14s", 134 * time.Second: "2m 14s", 2 * time.Minute: "2m", 3*time.Hour + 5*time.Minute: "3h 5m", 98 * time.Hour: "4d 2h",
		9990 * time.Millisecond: "9.9s", 59999 * time.Millisecond: "59s",
	}
	for d, want := range tests {
		if got := human(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestRootCause(t *testing.T) {
	w := func(what, for_ string, since int) control.Wait {
		return control.Wait{What: what, For: for_, Since: time.Duration(since)}
	}
	tests := []struct {
		name  string
		waits []control.Wait
		want  string
	}{
		{"order of a recovery", []control.Wait{w("c", "recovery", 9), w("b", "stop", 5), w("a", "fencing", 1)}, "a"},
		{"then the oldest", []control.Wait{w("a", "fencing", 1), w("b", "fencing", 2)}, "b"},
		{"quorum before all but config", []control.Wait{w("a", "fencing", 9), w("b", "quorum", 1), w("c", "view", 9)}, "b"},
		{"the proof by which fewer go on before the quorum", []control.Wait{w("a", "quorum", 9), {What: "b", For: "fencing", Since: 1, Rule: "two_node"}, w("c", "view", 9)}, "b"},
		{"unknown last", []control.Wait{w("a", "moon", 9), w("b", "join", 1)}, "b"},
		{"then by name", []control.Wait{w("b", "join", 1), w("a", "join", 1)}, "a"},
	}
	for _, tt := range tests {
		if got, ok := rootCause(tt.waits); !ok || got.What != tt.want {
			t.Errorf("%s: got %+v", tt.name, got)
		}
	}
	if _, ok := rootCause(nil); ok {
		t.Error("a cause of nothing")
	}
}

// TestTodoOfAWitness: it has no quorate.
func TestTodoOfAWitness(t *testing.T) {
	s := &control.Status{Node: 1, Nodes: []control.NodeStatus{{ID: 1, Name: "n1"}, {ID: 2, Name: "n2"}}}
	for owner, want := range map[membership.NodeID]string{
		2: "look at n2; run there: quorate status", membership.FirstWitness: "look at the witness, and the network to it: quorate witness show", 1: "",
	} {
		if got := (&app{}).todo(s, control.Wait{For: "join", Owner: owner}); got != want {
			t.Errorf("%d: %q", owner, got)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[2Jb\nc\u202e"); got != "a.[2Jb\nc." {
		t.Errorf("%q", got)
	}
	if got := oneLine(" a\n\tb "); got != "a b" {
		t.Errorf("%q", got)
	}
}

// TestForeignLevel: a newer daemon's worse level is still an exit status of ours.
func TestForeignLevel(t *testing.T) {
	for l, want := range map[control.Level]int{0: 0, 1: 1, 2: 2, 7: 2, -1: 1} {
		got := 0
		if err := level(l); err != nil {
			got = int(err.(exitCode))
		}
		if got != want {
			t.Errorf("%d: %d", l, got)
		}
	}
}

// TestBrokenDaemon: one that hangs up without an answer is down.
func TestBrokenDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			_ = c.Close()
		}
	}()
	if code := run([]string{"--socket", path, "status"}, os.Stdin, devNull(t), devNull(t)); code != exitDown {
		t.Errorf("exit status %d", code)
	}
	<-done
	_ = l.Close()
}

func devNull(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// Only who was heard within dead_after is alive.
func TestWhoIsAlive(t *testing.T) {
	for _, tt := range []struct {
		x    control.NodeStatus
		want string
	}{
		{control.NodeStatus{Name: "beta", State: "suspect", Connected: true, Heard: 12 * time.Second}, "!! beta was last heard 12s ago. Its silence proves nothing: it may run and write."},
		{control.NodeStatus{Name: "beta", State: "evicted", Heard: 3 * time.Second}, "!! beta was last heard 3s ago. Its silence proves nothing: it may run and write."},
		{control.NodeStatus{Name: "beta", State: "absent", Connected: true, Heard: -1}, "!! beta's daemon is connected. Its silence proves nothing: it may run and write."},
		{control.NodeStatus{Name: "beta", State: "evicted", Heard: time.Second}, "!! beta IS ALIVE: state evicted, last heard 1s ago."},
	} {
		if got := ackText(tt.x, 2*time.Second); !strings.HasSuffix(got, "\n\n"+tt.want) {
			t.Errorf("%+v: %s", tt.x, got)
		}
	}
	if got := ackText(control.NodeStatus{Name: "beta", State: "absent", Heard: -1}, 2*time.Second); strings.Contains(got, "!!") {
		t.Error(got)
	}
}

// What is said once is not said again.
func TestNodeNote(t *testing.T) {
	s := &control.Status{Node: 1}
	for want, x := range map[string]control.NodeStatus{
		"its configuration differs in a b":                 {ID: 2, Connected: true, Reason: "its configuration differs", Differs: []string{"a", "b"}},
		"no connection, the secrets differ: copy the same": {ID: 2, Reason: "the secrets differ: copy the same"},
		"other, its configuration differs in a":            {ID: 2, Connected: true, Reason: "other", Differs: []string{"a"}},
	} {
		if got := nodeNote(s, x); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestNamesInATextOfNumbers(t *testing.T) {
	n := names{1: "alpha", 2: "beta"}
	for text, want := range map[string]string{
		"members [1 2 3], no quorum yet": "members alpha beta 3, no quorum yet",
		"members []":                     "members ",
		"attempt 2 by node 2":            "attempt 2 by beta",
		"node 9, node 1; node 12":        "node 9, alpha; node 12",
	} {
		if got := n.in(text); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A witness that is silent is not told as one that votes.
func TestASilentWitness(t *testing.T) {
	s := &control.Status{Witness: &control.WitnessStatus{ID: membership.FirstWitness, Name: "vm", Addr: "w:1", Votes: true, Connected: true, Heard: 9900 * time.Millisecond},
		Quorum: &control.QuorumReport{Nodes: []control.QuorumNode{{ID: membership.FirstWitness, State: "silent"}}}}
	if got := witnessLine(s); got != "witness vm at w:1, has a vote and is SILENT, heard 9.9s ago" {
		t.Error(got)
	}
}

// What to do is said once, below the cause; the table of waits has no other place for it.
func TestTheCauseAndWhatToDo(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out}
	w := control.Wait{For: "config", Reason: "beta is refused: the secrets differ: copy one", Command: "copy one"}
	a.printCause(&out, &control.Status{}, []control.Wait{w})
	if got := out.String(); got != "\n  cause: beta is refused: the secrets differ (for 0.0ms)\n  do:    copy one\n" {
		t.Errorf("%q", got)
	}
}
