package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// deaf listens, and never takes a connection: so does a daemon that was stopped.
func deaf(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return path
}

func dialFor(t *testing.T, path string, limit time.Duration) *Client {
	t.Helper()
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.limit != answerLimit {
		t.Fatalf("it waits %v", c.limit)
	}
	c.limit = limit
	return c
}

// TestADaemonThatStandsStillIsDown: whatever is asked of it, and however much.
func TestADaemonThatStandsStillIsDown(t *testing.T) {
	path := deaf(t)
	for _, req := range []Request{
		{Command: "status"}, {Command: "leave"}, {Command: "config-apply", Text: strings.Repeat("x", 1<<20)}, {Command: "events", Follow: true},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		c, err := dialFor(t, path, 50*time.Millisecond), error(nil)
		if req.Follow {
			err = c.Follow(ctx, 0, func(membership.Event) error { return nil })
		} else {
			_, err = c.Call(ctx, req)
		}
		cancel()
		pid := fmt.Sprintf("(pid %d, state ", os.Getpid())
		if !errors.Is(err, ErrDown) || !strings.Contains(err.Error(), "does not answer within 50ms: it ") || !strings.Contains(err.Error(), pid) {
			t.Errorf("%s: %v", req.Command, err)
		}
		if got := strings.Contains(err.Error(), "quorate events"); got != (req.Command != "status") {
			t.Errorf("%s: %v", req.Command, err)
		}
	}
}

// slow answers after a while what changes something, and at once all else.
type slow struct {
	handler
	takes time.Duration
}

func (h *slow) Handle(ctx context.Context, req Request) Response {
	if Changes(req.Command) {
		time.Sleep(h.takes)
	}
	return h.handler.Handle(ctx, req)
}

// TestWhatTakesLongIsWaitedFor: as long as the daemon answers other questions.
func TestWhatTakesLongIsWaitedFor(t *testing.T) {
	r := start(t, &slow{takes: 500 * time.Millisecond}, func(s *server) {
		s.identify = func(net.Conn) (Peer, error) { return Peer{}, nil }
	})
	got, err := dialFor(t, r.path, 100*time.Millisecond).Call(t.Context(), Request{Command: "fence-test"})
	if err != nil || !strings.HasPrefix(got.Text, "fence-test by ") {
		t.Errorf("%+v %v", got, err)
	}
	events := make(chan membership.Event)
	r = start(t, &handler{live: events}, nil)
	time.AfterFunc(500*time.Millisecond, func() { events <- membership.Event{Seq: 1}; close(events) })
	var seen uint64
	err = dialFor(t, r.path, 100*time.Millisecond).Follow(t.Context(), 0, func(e membership.Event) error { seen = e.Seq; return nil })
	if seen != 1 || !strings.Contains(err.Error(), "--since 1") {
		t.Errorf("%d %v", seen, err)
	}
}

// TestAnAnswerThatComesWithTheEnd: the daemon is gone when it is asked whether it still is there.
func TestAnAnswerThatComesWithTheEnd(t *testing.T) {
	ours, theirs := net.Pipe()
	w := &waiter{conn: ours, path: filepath.Join(t.TempDir(), "none"), limit: 20 * time.Millisecond}
	go func() { time.Sleep(20 * time.Millisecond); _, _ = theirs.Write([]byte("x")) }()
	w.limit = 20 * time.Millisecond
	p := make([]byte, 10)
	if n, err := w.last(p, ErrDown); !errors.Is(err, ErrDown) || n != 0 {
		t.Errorf("%d %v", n, err)
	}
	w.limit = 100 * time.Second
	if n, err := w.last(p, ErrDown); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
}

func TestStanding(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := int32(cmd.Process.Pid)
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("it stands still (pid %d, state T): somebody stopped it: `kill -CONT %[1]d`", pid)
	for range 500 {
		if state(pid) == "T" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := standing(pid); !strings.HasPrefix(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if got := standing(pid); !strings.Contains(got, "has ended") {
		t.Error(got)
	}
	if got := standing(int32(os.Getpid())); !strings.Contains(got, "journalctl") {
		t.Error(got)
	}
}
