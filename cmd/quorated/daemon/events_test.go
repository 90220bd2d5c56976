package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/membership"
)

// stuck is a log whose writer stands still until it is let go.
type stuck struct {
	mu  sync.Mutex
	buf bytes.Buffer
	let chan struct{}
}

func (s *stuck) Write(b []byte) (int, error) {
	<-s.let
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func event(seq uint64) membership.Event { return membership.Event{Seq: seq, Kind: membership.KindView} }

func TestALogThatStandsStillHoldsNobodyUp(t *testing.T) {
	defer goleak.VerifyNone(t)
	w := &stuck{let: make(chan struct{})}
	l, err := newEventLog(slog.New(slog.NewTextHandler(w, nil)), "")
	if err != nil {
		t.Fatal(err)
	}
	const n = tellEvents + 10
	for i := range uint64(n) {
		l.add(event(i+1), time.Now())
	}
	if got := l.since(0); len(got) != n {
		t.Fatalf("%d events are kept, want %d", len(got), n)
	}
	close(w.let)
	l.close()
	l.close()                     // twice is once
	l.add(event(n+1), time.Now()) // and nothing is added any more
	if s := w.buf.String(); !strings.Contains(s, "events are missing above") || strings.Count(s, "msg=view") < tellEvents {
		t.Fatalf("%d lines, the last: %s", strings.Count(s, "\n"), s[max(0, len(s)-200):])
	}
}

// Nodes find each other, and stay together, while what they say goes nowhere: a connection,
// a link, a sender that was held up each have a line of their own.
func TestNobodyWaitsForALogThatStandsStill(t *testing.T) {
	f := newFleet(t)
	w := &stuck{let: make(chan struct{})}
	f.log = slog.NewTextHandler(w, nil)
	defer close(w.let)
	for id := 1; id <= 2; id++ {
		f.start(id, f.text(2, ""))
	}
	for id := 1; id <= 2; id++ {
		f.nodes[id].works(1, 2)
	}
}

// Lines keep their place among the events, their attributes and their groups; those that find
// no room are counted.
func TestLinesAreToldWithTheEvents(t *testing.T) {
	defer goleak.VerifyNone(t)
	w := &stuck{let: make(chan struct{})}
	l, err := newEventLog(slog.New(slog.NewTextHandler(w, nil)), "")
	if err != nil {
		t.Fatal(err)
	}
	log := l.logger().With("a", 1).WithGroup("g")
	log.Debug("not wanted")
	l.add(event(1), time.Now())
	log.Info("a line", "b", 2)
	l.add(event(2), time.Now())
	for range tellEvents {
		log.Warn("more")
	}
	close(w.let)
	l.close()
	log.Info("nobody listens any more")
	s := w.buf.String()
	if want := "msg=view\n"; strings.Index(s, want) > strings.Index(s, `msg="a line" a=1 g.b=2`) || strings.LastIndex(s, want) < strings.Index(s, "a line") {
		t.Errorf("not in order: %s", s[:min(len(s), 300)])
	}
	if !strings.Contains(s, "lines are missing above, besides events") || strings.Contains(s, "not wanted") || strings.Contains(s, "any more") {
		t.Errorf("the end: %s", s[max(0, len(s)-300):])
	}
}

func TestFollowersAndDatagrams(t *testing.T) {
	defer goleak.VerifyNone(t)
	c, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l, err := newEventLog(slog.New(slog.DiscardHandler), c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.add(event(1), time.Now())
	l.add(event(2), time.Now())
	old, live, end := l.follow(1)
	l.add(event(3), time.Now())
	if len(old) != 1 || old[0].Seq != 2 || (<-live).Seq != 3 {
		t.Fatalf("old %v", old)
	}
	_, second, _ := l.follow(3)
	end()
	l.close()
	if _, ok := <-live; ok {
		t.Fatal("a stream goes on after its end")
	}
	if _, ok := <-second; ok {
		t.Fatal("a stream goes on after close")
	}
	buf := make([]byte, 4096)
	for want := range uint64(3) {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		k, _, err := c.ReadFrom(buf)
		var e membership.Event
		if err != nil || json.Unmarshal(buf[:k], &e) != nil || e.Seq != want+1 || e.Wall == "" {
			t.Fatalf("datagram %d: %q, %v", want+1, buf[:k], err)
		}
	}
}

func TestASlowFollowerIsCutOff(t *testing.T) {
	defer goleak.VerifyNone(t)
	l, err := newEventLog(slog.New(slog.DiscardHandler), "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	_, live, end := l.follow(0)
	for i := range uint64(liveEvents + 1) {
		l.add(event(i+1), time.Now())
	}
	var last uint64
	for e := range live {
		if e.Seq != last+1 {
			t.Fatalf("event %d after %d", e.Seq, last)
		}
		last = e.Seq
	}
	if last != liveEvents {
		t.Fatalf("the stream ended after event %d", last)
	}
	end()
}
