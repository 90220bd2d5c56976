package daemon

import (
	"context"
	"log/slog"
)

// line is one of the log that is no event, and where it goes.
type line struct {
	record slog.Record
	to     slog.Handler
}

// queued is a slog.Handler for whoever must not wait for the log: who sends probes, connects
// or drives the machine. Its lines are told with the events, in their order.
type queued struct {
	to  slog.Handler
	log *eventLog
}

// logger is one that never waits. After close it says nothing.
func (l *eventLog) logger() *slog.Logger { return slog.New(queued{l.log.Handler(), l}) }

func (q queued) Enabled(ctx context.Context, level slog.Level) bool { return q.to.Enabled(ctx, level) }

func (q queued) WithAttrs(attrs []slog.Attr) slog.Handler {
	return queued{q.to.WithAttrs(attrs), q.log}
}

func (q queued) WithGroup(name string) slog.Handler { return queued{q.to.WithGroup(name), q.log} }

func (q queued) Handle(_ context.Context, r slog.Record) error {
	q.log.mu.Lock()
	defer q.log.mu.Unlock()
	if q.log.closed {
		return nil
	}
	select {
	case q.log.tell <- timed{line: &line{r.Clone(), q.to}}:
	default:
		q.log.lines.Add(1)
	}
	return nil
}
