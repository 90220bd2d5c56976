package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/lab"
)

const eventPort = 9999 // on the host's management address

// Event is one event of a node, with the host's time on it.
type Event struct {
	At time.Time `json:"at"`
	membership.Event
	Node int `json:"node"`
	// Told is what labnode's programs tell: held, granted (a flock), append (that
	// Number is on the disk).
	Told   string `json:"told,omitempty"`
	Number uint64 `json:"number,omitempty"`
	File   string `json:"file,omitempty"`
}

// Events collects what the nodes send.
type Events struct {
	conn net.PacketConn
	done chan struct{}

	mu   sync.Mutex
	all  []Event
	wake chan struct{} // closed and replaced when something came
	hook func(Event)
}

func collect(ctx context.Context, l *lab.Lab) (*Events, error) {
	conn, err := l.ListenPacket(ctx, "udp4", hostMgmt+":9999")
	if err != nil {
		return nil, err
	}
	if u, ok := conn.(*net.UDPConn); ok {
		if err := u.SetReadBuffer(4 << 20); err != nil {
			return nil, err
		}
	}
	e := &Events{conn: conn, done: make(chan struct{}), wake: make(chan struct{})}
	go e.read()
	return e, nil
}

func (e *Events) read() {
	defer close(e.done)
	b := make([]byte, 64<<10)
	for {
		n, _, err := e.conn.ReadFrom(b)
		at := time.Now()
		if err != nil {
			return
		}
		if ev, ok := parse(b[:n]); ok {
			ev.At = at
			e.add(ev)
		}
	}
}

// parse reads a datagram of quorated or of labnode.
func parse(b []byte) (Event, bool) {
	var told struct {
		Node  json.RawMessage `json:"node"` // quorated: the number; labnode: the host name
		Event string          `json:"event"`
		File  string          `json:"file"`
		Seq   uint64          `json:"seq"`
	}
	if err := json.Unmarshal(b, &told); err != nil {
		return Event{}, false
	}
	if told.Event == "" {
		var ev Event
		err := json.Unmarshal(b, &ev.Event)
		ev.Node = int(ev.Event.Node)
		return ev, err == nil
	}
	ev := Event{Told: told.Event, File: told.File, Number: told.Seq}
	_, err := fmt.Sscanf(string(told.Node), `"node%d"`, &ev.Node)
	return ev, err == nil
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

func (e *Events) close() {
	_ = e.conn.Close()
	<-e.done
}
