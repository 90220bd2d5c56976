package witness

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	keepLines = 1024        // that wait for the log
	linesEnd  = time.Second // for so long the end waits for it
)

// Lines is a writer that never waits: a log that stands still must not hold up a vote. Each
// Write is a line; those for which there is no room are counted, and told of when there is.
type Lines struct {
	mu      sync.Mutex
	wait    chan []byte // nil: closed
	dropped int
	done    chan struct{}
}

// NewLines writes to w.
func NewLines(w io.Writer) *Lines {
	l := &Lines{wait: make(chan []byte, keepLines), done: make(chan struct{})}
	go l.write(w, l.wait)
	return l
}

// Write takes a line.
func (l *Lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wait == nil {
		return 0, io.ErrClosedPipe
	}
	select {
	case l.wait <- append([]byte(nil), b...):
	default:
		l.dropped++
	}
	return len(b), nil
}

func (l *Lines) write(w io.Writer, lines <-chan []byte) {
	defer close(l.done)
	for b := range lines {
		_, _ = w.Write(b) // nobody could be told
		l.mu.Lock()
		n := l.dropped
		l.dropped = 0
		l.mu.Unlock()
		if n > 0 {
			_, _ = fmt.Fprintf(w, "%d lines are missing above: the log was too slow\n", n)
		}
	}
}

// Close waits for the log, not for ever.
func (l *Lines) Close() {
	l.mu.Lock()
	if l.wait != nil {
		close(l.wait)
		l.wait = nil
	}
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-time.After(linesEnd):
	}
}
