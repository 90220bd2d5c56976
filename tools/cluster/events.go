package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/lab"
)

// Event is one event of a node, with the host's time on it.
type Event struct {
	At time.Time `json:"at"`
	membership.Event
	Node int `json:"node"`
	// Told is what labnode's programs tell: held, granted (a flock), append (that
	// Number is on the disk), counted (that it made Number under a lock), locked (the
	// Number-th new file), kernel (Text is a line of the kernel's log).
	Told   string `json:"told,omitempty"`
	Number uint64 `json:"number,omitempty"`
	File   string `json:"file,omitempty"`
}

// Events are what the nodes told the lab's collector, read as quorated's events
// and labnode's words.
type Events struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	all  []Event
	wake chan struct{} // closed and replaced when something came
	hook func(Event)
}

func collect(l *lab.Lab) *Events {
	ctx, cancel := context.WithCancel(context.Background())
	e := &Events{cancel: cancel, done: make(chan struct{}), wake: make(chan struct{})}
	go e.read(ctx, l.Collector)
	return e
}

func (e *Events) read(ctx context.Context, c *lab.Collector) {
	defer close(e.done)
	for next := lab.Mark(0); ; next++ {
		ev, err := c.WaitFrom(ctx, next, func(lab.Ev) bool { return true })
		if err != nil {
			return
		}
		if told, ok := parse(ev); ok {
			e.add(told)
		}
	}
}

// parse reads what quorated or labnode sent.
func parse(in lab.Ev) (Event, bool) {
	ev := Event{At: in.At, Node: in.FromNode(), Told: in.Event, File: in.File, Number: uint64(in.Seq)}
	if in.Event != "" {
		ev.Text, _ = in.JSON["error"].(string) // why a program had to give up
		if text, ok := in.JSON["text"].(string); ok {
			ev.Text = text
		}
		return ev, true
	}
	err := json.Unmarshal([]byte(in.Raw), &ev.Event)
	return ev, err == nil && ev.Event.Kind != ""
}

func (e *Events) add(ev Event) {
	e.mu.Lock()
	e.all = append(e.all, ev)
	close(e.wake)
	e.wake = make(chan struct{})
	hook := e.hook
	e.mu.Unlock()
	if hook != nil {
		hook(ev)
	}
}

// Hook is called with every event as it comes, by one goroutine.
func (e *Events) Hook(f func(Event)) {
	e.mu.Lock()
	e.hook = f
	e.mu.Unlock()
}

// All returns what has come so far, in the order in which it came.
func (e *Events) All() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

// Wait returns the first event after a time that f wants, waiting for it if it
// has not come.
func (e *Events) Wait(ctx context.Context, after time.Time, f func(Event) bool) (Event, error) {
	seen := 0
	for {
		e.mu.Lock()
		all, wake := e.all, e.wake
		e.mu.Unlock()
		for ; seen < len(all); seen++ {
			if all[seen].At.After(after) && f(all[seen]) {
				return all[seen], nil
			}
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// Of wants an event of a kind at a node.
func Of(node int, k membership.Kind) func(Event) bool {
	return func(e Event) bool { return e.Node == node && e.Kind == k }
}

// Actor is who fences, of an event of membership.KindFenceStart.
func (e Event) Actor() (actor int, err error) {
	var attempt int
	if _, err := fmt.Sscanf(e.Text, "attempt %d by node %d", &attempt, &actor); err != nil {
		return 0, fmt.Errorf("no actor in %q: %w", e.Text, err)
	}
	return actor, nil
}

func (e *Events) close() {
	e.cancel()
	<-e.done
}
