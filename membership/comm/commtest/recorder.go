package commtest

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// Patience is how long a test waits for what must happen.
const Patience = 20 * time.Second

// Kind is the kind of a call to a handler.
type Kind string

// The kinds.
const (
	Connected    Kind = "connected"
	Message      Kind = "message"
	Disconnected Kind = "disconnected"
)

// Call is one call to a handler.
type Call struct {
	Kind Kind
	Peer membership.NodeID
	Data []byte
	Err  error
}

func (c Call) String() string {
	if c.Kind == Message && len(c.Data) > 32 {
		return fmt.Sprintf("message %d (%d bytes)", c.Peer, len(c.Data))
	}
	return fmt.Sprintf("%s %d %q %v", c.Kind, c.Peer, c.Data, c.Err)
}

// Recorder is a CommHandler that keeps all calls. It fails the test when a call
// breaks the contract: a message outside a connection, two calls at a time for
// one peer, a connection that begins or ends twice.
type Recorder struct {
	t testing.TB
	// OnMessage, when set before use, runs in Message after it was recorded.
	OnMessage func(peer membership.NodeID, data []byte)
	// OnConnected, when set before use, runs in Connected.
	OnConnected func(peer membership.NodeID)

	mu      sync.Mutex
	calls   []Call
	up      map[membership.NodeID]bool
	inside  map[membership.NodeID]bool
	changed chan struct{}
}

// NewRecorder returns an empty one.
func NewRecorder(t testing.TB) *Recorder {
	return &Recorder{t: t, up: map[membership.NodeID]bool{}, inside: map[membership.NodeID]bool{}, changed: make(chan struct{})}
}

// Connected records.
func (r *Recorder) Connected(peer membership.NodeID) {
	defer r.enter(Call{Kind: Connected, Peer: peer})()
	if r.OnConnected != nil {
		r.OnConnected(peer)
	}
}

// Message records.
func (r *Recorder) Message(peer membership.NodeID, data []byte) {
	defer r.enter(Call{Kind: Message, Peer: peer, Data: data})()
	if r.OnMessage != nil {
		r.OnMessage(peer, data)
	}
}

// Disconnected records.
func (r *Recorder) Disconnected(peer membership.NodeID, err error) {
	defer r.enter(Call{Kind: Disconnected, Peer: peer, Err: err})()
}

func (r *Recorder) enter(c Call) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inside[c.Peer] {
		r.t.Errorf("%v while another call for that peer has not returned", c)
	}
	if r.up[c.Peer] == (c.Kind == Connected) {
		r.t.Errorf("%v while connected is %v", c, r.up[c.Peer])
	}
	if c.Kind == Disconnected && c.Err == nil {
		r.t.Errorf("%v without a reason", c)
	}
	r.inside[c.Peer] = true
	r.up[c.Peer] = c.Kind != Disconnected
	r.calls = append(r.calls, c)
	close(r.changed)
	r.changed = make(chan struct{})
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.inside[c.Peer] = false
	}
}

// Calls returns what was recorded.
func (r *Recorder) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Call(nil), r.calls...)
}

// Count returns how many calls of a kind there were from a peer.
func (r *Recorder) Count(kind Kind, peer membership.NodeID) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count(kind, peer)
}

func (r *Recorder) count(kind Kind, peer membership.NodeID) int {
	n := 0
	for _, c := range r.calls {
		if c.Kind == kind && c.Peer == peer {
			n++
		}
	}
	return n
}

// Await waits until there were n calls of a kind from a peer.
func (r *Recorder) Await(kind Kind, peer membership.NodeID, n int) {
	r.t.Helper()
	r.await(fmt.Sprintf("%d x %s %d", n, kind, peer), func() bool { return r.count(kind, peer) >= n })
}

// AwaitMessage waits until a message from a peer has arrived.
func (r *Recorder) AwaitMessage(peer membership.NodeID, data []byte) {
	r.t.Helper()
	r.await(fmt.Sprintf("message %.40q of %d", data, peer), func() bool {
		for _, c := range r.calls {
			if c.Kind == Message && c.Peer == peer && bytes.Equal(c.Data, data) {
				return true
			}
		}
		return false
	})
}

func (r *Recorder) await(what string, ok func() bool) {
	r.t.Helper()
	limit := time.NewTimer(Patience)
	defer limit.Stop()
	for {
		r.mu.Lock()
		done, changed := ok(), r.changed
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			r.t.Fatalf("waited in vain for %s; the last calls: %v", what, tail(r.Calls(), 10))
		}
	}
}

func tail(c []Call, n int) []Call { return c[max(0, len(c)-n):] }
