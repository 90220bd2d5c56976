package daemon

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/membership"
)

const (
	keepEvents = 8192 // in memory, for `quorate events`
	liveEvents = 1024 // queued for one follower
	tellEvents = 1024 // queued for the log and the datagrams
	tellLimit  = time.Second
)

// eventLog keeps the newest events, logs them, and sends each on. A log that is
// slow or stands still never holds up who adds.
type eventLog struct {
	log  *slog.Logger
	conn net.Conn // where events are sent as datagrams; nil: nobody asked
	tell chan timed
	told chan struct{} // closed when all of tell was told

	dropped atomic.Uint64 // from tell, since the log last said so
	lines   atomic.Uint64 // that are no events, the same

	mu     sync.Mutex
	events []membership.Event
	live   map[chan membership.Event]bool
	closed bool
}

// timed is an event and when it happened, for the log's own stamp; or any other line.
type timed struct {
	membership.Event
	at   time.Time
	line *line
}

// newEventLog sends each event as a datagram of JSON to addr, if that is not empty.
func newEventLog(log *slog.Logger, addr string) (*eventLog, error) {
	l := &eventLog{log: log, live: map[chan membership.Event]bool{},
		tell: make(chan timed, tellEvents), told: make(chan struct{})}
	if addr != "" {
		c, err := net.Dial("udp", addr)
		if err != nil {
			return nil, err
		}
		l.conn = c
	}
	go l.tellAll()
	return l, nil
}

// tellAll is where waiting for the log happens.
func (l *eventLog) tellAll() {
	defer close(l.told)
	for e := range l.tell {
		if e.line != nil {
			_ = e.line.to.Handle(context.Background(), e.line.record)
			l.missing()
			continue
		}
		if l.conn != nil {
			if b, err := json.Marshal(e.Event); err == nil {
				_, _ = l.conn.Write(b) // nobody may be listening
			}
		}
		if h := l.log.Handler(); h.Enabled(context.Background(), slog.LevelInfo) {
			r := slog.NewRecord(e.at, slog.LevelInfo, string(e.Kind), 0)
			r.AddAttrs(attrs(e.Event)...)
			_ = h.Handle(context.Background(), r) // as slog does: nobody could be told
		}
		l.missing()
	}
}

// missing says what could not be told.
func (l *eventLog) missing() {
	if n := l.dropped.Swap(0); n > 0 {
		l.log.Warn("events are missing above: the log was too slow; `quorate events` has them", "count", n)
	}
	if n := l.lines.Swap(0); n > 0 {
		l.log.Warn("lines are missing above, besides events: the log was too slow", "count", n)
	}
}

func (l *eventLog) add(e membership.Event, at time.Time) {
	e.Wall = at.UTC().Format(time.RFC3339Nano)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.events = append(l.events, e)
	if len(l.events) > keepEvents+keepEvents/4 {
		l.events = append([]membership.Event(nil), l.events[len(l.events)-keepEvents:]...)
	}
	for c := range l.live {
		select {
		case c <- e:
		default: // too slow: its stream ends rather than have a gap
			delete(l.live, c)
			close(c)
		}
	}
	select {
	case l.tell <- timed{Event: e, at: at}:
	default:
		l.dropped.Add(1)
	}
}

func attrs(e membership.Event) []slog.Attr {
	a := []slog.Attr{}
	if e.Subject != 0 {
		a = append(a, slog.Uint64("subject", uint64(e.Subject)))
	}
	if e.Lockspace != "" {
		a = append(a, slog.String("lockspace", e.Lockspace), slog.Uint64("change", e.Change))
	}
	if e.Incident != "" {
		a = append(a, slog.String("incident", e.Incident))
	}
	if e.Text != "" {
		a = append(a, slog.String("text", e.Text))
	}
	return a
}

// since returns the kept events after a number.
func (l *eventLog) since(seq uint64) []membership.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.after(seq)
}

func (l *eventLog) after(seq uint64) []membership.Event {
	out := []membership.Event{}
	for _, e := range l.events {
		if e.Seq > seq {
			out = append(out, e)
		}
	}
	return out
}

// follow returns the kept events after a number and a channel of all later ones.
func (l *eventLog) follow(seq uint64) ([]membership.Event, <-chan membership.Event, func()) {
	c := make(chan membership.Event, liveEvents)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live[c] = true
	return l.after(seq), c, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.live[c] {
			delete(l.live, c)
			close(c)
		}
	}
}

// close ends all that follow and waits for the log, not for ever.
func (l *eventLog) close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	for c := range l.live {
		delete(l.live, c)
		close(c)
	}
	close(l.tell)
	l.mu.Unlock()
	select {
	case <-l.told:
	case <-time.After(tellLimit):
	}
	if l.conn != nil {
		_ = l.conn.Close()
	}
}
