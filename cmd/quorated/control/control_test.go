package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/membership"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler answers with what it was asked.
type handler struct {
	backlog []membership.Event
	live    chan membership.Event
	hang    bool
	began   chan struct{}

	gone      chan struct{} // closed when a stream's subscription is cancelled
	mu        sync.Mutex
	cancelled int
	since     uint64
}

func (h *handler) Handle(ctx context.Context, req Request) Response {
	if h.hang {
		close(h.began)
		<-ctx.Done()
		return Response{Text: "ended"}
	}
	if req.Lockspace == "refuse" {
		return Response{Error: "no such lockspace: see quorate ls"}
	}
	if req.Lockspace == "big" {
		return Response{Text: strings.Repeat("x", 1<<20)}
	}
	return Response{Text: req.Command + " by " + req.Who}
}

func (h *handler) Events(since uint64) ([]membership.Event, <-chan membership.Event, func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since = since
	return h.backlog, h.live, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.cancelled++
		if h.gone != nil {
			close(h.gone)
		}
	}
}

type rig struct {
	path string
	stop func()
	srv  *server
}

func start(t *testing.T, h Handler, change func(*server)) *rig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{h: h, identify: identify, queue: followQueue, write: writeTimeout, conns: map[net.Conn]bool{}}
	if change != nil {
		change(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, l) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return &rig{path, stop, s}
}

func call(t *testing.T, path string, req Request) (Response, error) {
	t.Helper()
	c, err := Dial(path)
	if err != nil {
		return Response{}, err
	}
	return c.Call(t.Context(), req)
}

func TestCall(t *testing.T) {
	r := start(t, &handler{}, nil)
	want := fmt.Sprintf("status by uid %d pid %d (", os.Getuid(), os.Getpid())
	got, err := call(t, r.path, Request{Command: "status", Who: "somebody else"})
	if err != nil || !strings.HasPrefix(got.Text, want) {
		t.Errorf("%+v %v, want %s", got, err, want)
	}
	if _, err := call(t, r.path, Request{Command: "why", Lockspace: "refuse"}); !errors.Is(err, ErrRefused) || err.Error() != "no such lockspace: see quorate ls" {
		t.Errorf("refusal: %v", err)
	}
	if got, err := call(t, r.path, Request{Command: "why", Lockspace: "big"}); err != nil || len(got.Text) != 1<<20 {
		t.Errorf("big: %d bytes, %v", len(got.Text), err)
	}
}

func TestClientIsUsedTwice(t *testing.T) {
	r := start(t, &handler{}, nil)
	c, err := Dial(r.path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.Call(t.Context(), Request{Command: "status"}); err != nil {
			t.Error(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestOnlyRootChanges(t *testing.T) {
	user := func(s *server) {
		s.identify = func(net.Conn) (Peer, error) { return Peer{UID: 1000, PID: 5, Comm: "x"}, nil }
	}
	r := start(t, &handler{}, user)
	for command, changes := range commands {
		_, err := call(t, r.path, Request{Command: command, Node: 1, Epoch: 1})
		if changes != errors.Is(err, ErrRefused) || changes && !strings.Contains(err.Error(), "needs root, and you are uid 1000") {
			t.Errorf("%s: %v", command, err)
		}
	}
	r = start(t, &handler{}, func(s *server) { s.identify = func(net.Conn) (Peer, error) { return Peer{}, errors.New("broken") } })
	if _, err := call(t, r.path, Request{Command: "status"}); !errors.Is(err, ErrRefused) {
		t.Errorf("without credentials: %v", err)
	}
}

// TestBadRequests: each is answered with an error, none reaches the handler.
func TestBadRequests(t *testing.T) {
	r := start(t, nil, nil)
	tests := map[string]string{
		"nonsense\n": "not understood",
		`{"command":"status","new_field":1}` + "\n":      "same version",
		`{"command":"status"}{"command":"x"}` + "\n":     "more than one",
		`{"command":"shutdown"}` + "\n":                  "unknown command",
		`{"command":"fence-ack"}` + "\n":                 "without a node",
		`{"command":"hold","for":30000000000}` + "\n":    "without a node",
		`{"command":"key-drop"}` + "\n":                  "without an epoch",
		`{"command":"release"}` + "\n":                   "without a node",
		`{"command":"status","node":4294967295}` + "\n":  "out of range",
		`{"command":"why","lockspace":"a\u0007"}` + "\n": "printable",
		strings.Repeat("x", MaxChange+1):                 "larger than 2097152",
	}
	for text, want := range tests {
		conn, err := net.Dial("unix", r.path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Error(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		var resp Response
		if err != nil || json.Unmarshal([]byte(line), &resp) != nil || !strings.Contains(resp.Error, want) {
			t.Errorf("%.40q: %s %v", text, line, err)
		}
		_ = conn.Close()
	}
}

func TestFollow(t *testing.T) {
	h := &handler{backlog: []membership.Event{{Seq: 6}, {Seq: 7}}, live: make(chan membership.Event)}
	r := start(t, h, nil)
	c, err := Dial(r.path)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	enough := errors.New("enough")
	err = c.Follow(t.Context(), 5, func(e membership.Event) error {
		got = append(got, e.Seq)
		if e.Seq == 9 {
			return enough
		}
		if e.Seq >= 7 {
			go func() { h.live <- membership.Event{Seq: e.Seq + 1} }()
		}
		return nil
	})
	if !errors.Is(err, enough) || fmt.Sprint(got) != "[6 7 8 9]" {
		t.Errorf("%v, %v", got, err)
	}
	r.stop()
	if h.cancelled != 1 || h.since != 5 {
		t.Errorf("cancelled %d times, since %d", h.cancelled, h.since)
	}
}

func TestFollowEnds(t *testing.T) {
	t.Run("by the daemon", func(t *testing.T) {
		h := &handler{live: make(chan membership.Event, 1)}
		h.live <- membership.Event{Seq: 3}
		close(h.live)
		r := start(t, h, nil)
		if err := follow(t, r.path); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "--since 3") {
			t.Error(err)
		}
	})
	t.Run("by the server's end", func(t *testing.T) {
		h := &handler{backlog: []membership.Event{{Seq: 1}}, live: make(chan membership.Event)}
		r := start(t, h, nil)
		c, err := Dial(r.path)
		if err != nil {
			t.Fatal(err)
		}
		err = c.Follow(t.Context(), 0, func(membership.Event) error { go r.stop(); return nil })
		if !errors.Is(err, ErrDown) {
			t.Error(err)
		}
	})
	t.Run("by the client's context", func(t *testing.T) {
		h := &handler{backlog: []membership.Event{{Seq: 1}}, live: make(chan membership.Event)}
		r := start(t, h, nil)
		c, err := Dial(r.path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err = c.Follow(ctx, 0, func(membership.Event) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func follow(t *testing.T, path string) error {
	t.Helper()
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	return c.Follow(t.Context(), 0, func(membership.Event) error { return nil })
}

// TestSlowFollower: it is dropped and told so, and the source is never blocked.
func TestSlowFollower(t *testing.T) {
	h := &handler{live: make(chan membership.Event), gone: make(chan struct{})}
	r := start(t, h, func(s *server) { s.queue = 4 })
	conn, err := net.Dial("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(`{"command":"events","follow":true}` + "\n")); err != nil {
		t.Fatal(err)
	}
	// The client does not read. The source goes on until it is told to stop.
	text := strings.Repeat("x", 16<<10)
	sent := uint64(0)
	for taken := true; taken; {
		select {
		case h.live <- membership.Event{Seq: sent + 1, Text: text}:
			sent++
		case <-h.gone:
			taken = false
		}
	}
	var last membership.Event
	var end streamEnd
	br := bufio.NewReader(conn)
	for {
		line, err := readLine(br, maxAnswer)
		if err != nil {
			break
		}
		end = streamEnd{}
		if json.Unmarshal(line, &end) != nil || end.Error == "" {
			var e membership.Event
			if err := json.Unmarshal(line, &e); err != nil || e.Seq != last.Seq+1 {
				t.Fatalf("after %d: %v %v", last.Seq, e.Seq, err)
			}
			last = e
		}
	}
	want := fmt.Sprintf("you read too slowly: dropped after event %d: follow again with --since %d", last.Seq, last.Seq)
	if end.Error != want || sent < last.Seq {
		t.Errorf("sent %d, end %q, want %q", sent, end.Error, want)
	}
}

func TestHandlerEndsWithItsClient(t *testing.T) {
	h := &handler{hang: true, began: make(chan struct{})}
	r := start(t, h, nil)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Dial(r.path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-h.began; cancel() }()
	if _, err := c.Call(ctx, Request{Command: "status"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestAnswerOfTheLastRequest: leave ends the daemon and is still answered.
func TestAnswerOfTheLastRequest(t *testing.T) {
	h := &handler{hang: true, began: make(chan struct{})}
	r := start(t, h, nil)
	go func() { <-h.began; r.stop() }()
	if got, err := call(t, r.path, Request{Command: "leave"}); err != nil || got.Text != "ended" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestTooManyClients(t *testing.T) {
	r := start(t, &handler{}, nil)
	for range maxClients {
		c, err := Dial(r.path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := call(t, r.path, Request{Command: "status"}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "64 clients") {
		t.Error(err)
	}
}

// TestRootFindsAPlace: those who may only look, and keep looking, do not keep out
// whoever has to do something.
func TestRootFindsAPlace(t *testing.T) {
	var uid atomic.Uint32
	r := start(t, &handler{}, func(s *server) {
		s.identify = func(net.Conn) (Peer, error) { return Peer{UID: uid.Load()}, nil }
	})
	uid.Store(1000)
	for range maxClients {
		c, err := Dial(r.path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := call(t, r.path, Request{Command: "status"}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "48 clients") {
		t.Errorf("another user: %v", err)
	}
	uid.Store(0)
	if _, err := call(t, r.path, Request{Command: "fence-ack", Node: 1}); err != nil {
		t.Errorf("root: %v", err)
	}
}

func TestDown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := Dial(path); !errors.Is(err, ErrDown) || !strings.Contains(err.Error(), "systemctl start quorated") {
		t.Error(err)
	}
	stale(t, path)
	if _, err := Dial(path); !errors.Is(err, ErrDown) {
		t.Error(err)
	}
}

// stale makes a socket file that nobody listens on.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale(t, path)
	l, err := Listen(path)
	if err != nil {
		t.Fatalf("a stale socket was not replaced: %v", err)
	}
	defer l.Close()
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm()&0o117 != 0 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
	var oe *OpError
	if _, err := Listen(path); !errors.Is(err, ErrRunning) || !errors.As(err, &oe) {
		t.Errorf("a second one: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Error(err)
	}
	if data, _ := os.ReadFile(file); string(data) != "precious" {
		t.Error("a file that is no socket was removed")
	}
}

func TestServeSaysWhenItsListenerBreaks(t *testing.T) {
	l, err := Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := Serve(t.Context(), l, &handler{}); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestChanges(t *testing.T) {
	for c, want := range map[string]bool{"status": false, "leave": true, "fence-ack": true, "fence-node": true, "quorum-override": true, "": true, "new": true} {
		if Changes(c) != want {
			t.Errorf("%q", c)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{`{"command":"status"}`, `{"command":"fence-ack","node":3,"who":"root"}`, `{"command":"quorum-override"}`, `{"command":"events","since":5,"follow":true}`,
		`{"command":"why","lockspace":"home"}`, `[]`, `null`, `{"command":"leave","force":true}{}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseRequest(line)
		if err != nil {
			return
		}
		if _, known := commands[r.Command]; !known || r.Who != "" || len(r.Lockspace) > 64 {
			t.Fatalf("accepted %+v", r)
		}
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseRequest(data); err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v became %+v: %v", r, again, err)
		}
	})
}
