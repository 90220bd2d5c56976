package commtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/secret"
)

// Spec is one daemon's Comm as a test wants it.
type Spec struct {
	Self     membership.NodeID
	Cluster  string
	Nodes    []membership.Node
	Secret   secret.Secret
	Instance uint64
	At       membership.NodeID // when set: it listens where that node should (Nodes says so already)
	Handler  membership.CommHandler
	Queue    int // messages that may wait for one peer; 0: the provider's own bound
	// Refused is told of refusals, if the provider can.
	Refused func(err error)
}

// Provider is what a provider's test gives the suite.
type Provider struct {
	// Nodes returns n nodes whose addresses are free on this machine.
	Nodes func(t *testing.T, n int) []membership.Node
	// New makes a Comm; the suite runs it.
	New func(t *testing.T, s Spec) membership.Comm
	// Dial opens a bare connection to a node, as a stranger would; nil when
	// there is no such thing.
	Dial func(n membership.Node) (net.Conn, error)
	// Strangers is how long a silent stranger may stay; 0 leaves that test out.
	Strangers time.Duration
	// Refusals lists the sentinel for each kind of refusal, by the subtest's
	// name; a kind without one is only checked to be refused.
	Refusals map[string]error
}

// Run runs the suite.
func Run(t *testing.T, p Provider) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Provider)
	}{
		{"order and wholeness", testOrder},
		{"big messages", testBig},
		{"send does not keep the data", testCopy},
		{"send within connected", testGreeting},
		{"to nobody", testNobody},
		{"drop when full", testFull},
		{"three nodes", testThree},
		{"peer returns", testReturn},
		{"handlers of peers run apart", testApart},
		{"wrong key", testWrongKey},
		{"wrong cluster", testWrongCluster},
		{"wrong node", testWrongNode},
		{"unknown node", testUnknownNode},
		{"garbage", testGarbage},
		{"silent strangers", testSilent},
		{"the secret changes under traffic", testRekey},
		{"nodes come while secrets change", testRekeyed},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, p) })
	}
}

// Daemon is a running Comm.
type Daemon struct {
	membership.Comm
	*Recorder
	stop func()
}

// Stop ends it and waits until all of it is gone. It may be called twice.
func (d *Daemon) Stop() { d.stop() }

// Start runs a Comm until the test ends. A nil Handler becomes a Recorder.
func Start(t *testing.T, p Provider, s Spec) *Daemon {
	t.Helper()
	d := &Daemon{Recorder: NewRecorder(t)}
	if h, ok := s.Handler.(*Recorder); ok {
		d.Recorder = h
	}
	s.Handler = d.Recorder
	if s.Cluster == "" {
		s.Cluster = "alpha"
	}
	d.Comm = p.New(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx); err != nil {
			t.Errorf("Run of node %d: %v", s.Self, err)
		}
	}()
	d.stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(Patience):
			t.Errorf("node %d does not stop", s.Self)
		}
	}
	t.Cleanup(func() {
		d.Stop()
		for id, up := range d.up {
			if up {
				t.Errorf("node %d stopped and was never told the end of %d", s.Self, id)
			}
		}
	})
	return d
}

// Secret returns a new one.
func Secret(t *testing.T) secret.Secret {
	t.Helper()
	s, err := secret.New()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pair starts nodes 1 and 2 and waits until they are connected.
func pair(t *testing.T, p Provider) (a, b *Daemon) {
	t.Helper()
	nodes, key := p.Nodes(t, 2), Secret(t)
	a = Start(t, p, Spec{Self: 1, Nodes: nodes, Secret: key, Instance: 11})
	b = Start(t, p, Spec{Self: 2, Nodes: nodes, Secret: key, Instance: 22})
	a.Await(Connected, 2, 1)
	b.Await(Connected, 1, 1)
	return a, b
}

// send repeats until the message is taken.
func send(t *testing.T, d *Daemon, to membership.NodeID, data []byte) {
	t.Helper()
	for began := time.Now(); !d.Send(to, data); time.Sleep(time.Millisecond) {
		if time.Since(began) > Patience {
			t.Fatalf("a message to %d is never taken", to)
		}
	}
}

func testOrder(t *testing.T, p Provider) {
	a, b := pair(t, p)
	const n = 20000
	go func() {
		for i := range uint64(n) {
			send(t, b, 1, numbered(i, int(i%7)))
		}
	}()
	for i := range uint64(n) {
		send(t, a, 2, numbered(i, int(i*31%1500)))
	}
	b.Await(Message, 1, n)
	a.Await(Message, 2, n)
	for i, c := range messages(b, 1) {
		if !bytes.Equal(c.Data, numbered(uint64(i), int(uint64(i)*31%1500))) {
			t.Fatalf("message %d is %v", i, c)
		}
	}
	for i, c := range messages(a, 2) {
		if !bytes.Equal(c.Data, numbered(uint64(i), i%7)) {
			t.Fatalf("message %d is %v", i, c)
		}
	}
}

// numbered is a message that says which it is, with n more bytes.
func numbered(i uint64, n int) []byte {
	return append(binary.BigEndian.AppendUint64(nil, i), bytes.Repeat([]byte{byte(i)}, n)...)
}

func messages(d *Daemon, peer membership.NodeID) []Call {
	var out []Call
	for _, c := range d.Calls() {
		if c.Kind == Message && c.Peer == peer {
			out = append(out, c)
		}
	}
	return out
}

func testBig(t *testing.T, p Provider) {
	a, b := pair(t, p)
	big := bytes.Repeat([]byte("0123456789abcdef"), membership.MaxMessage/16)
	if a.Send(2, append(big, 0)) {
		t.Error("a message above the limit was taken")
	}
	send(t, a, 2, nil)
	send(t, a, 2, big)
	send(t, a, 2, []byte("after"))
	b.Await(Message, 1, 3)
	got := messages(b, 1)
	if len(got[0].Data) != 0 || !bytes.Equal(got[1].Data, big) || string(got[2].Data) != "after" {
		t.Errorf("%v", got)
	}
}

func testCopy(t *testing.T, p Provider) {
	a, b := pair(t, p)
	buf := make([]byte, 8)
	for i := range uint64(1000) {
		binary.BigEndian.PutUint64(buf, i)
		send(t, a, 2, buf)
	}
	clear(buf)
	b.Await(Message, 1, 1000)
	for i, c := range messages(b, 1) {
		if binary.BigEndian.Uint64(c.Data) != uint64(i) {
			t.Fatalf("message %d is %v", i, c)
		}
	}
}

// A daemon greets its peer as soon as it is told of it, and has the greeting
// of the other before anything else.
func testGreeting(t *testing.T, p Provider) {
	nodes, key := p.Nodes(t, 2), Secret(t)
	var comm [3]atomic.Pointer[Daemon]
	var start [3]*Daemon
	for id := membership.NodeID(1); id <= 2; id++ {
		r := NewRecorder(t)
		r.OnConnected = func(peer membership.NodeID) {
			for comm[id].Load() == nil {
				time.Sleep(time.Millisecond)
			}
			if !comm[id].Load().Send(peer, []byte("hello")) {
				t.Errorf("node %d: a message sent within Connected was dropped", id)
			}
		}
		start[id] = Start(t, p, Spec{Self: id, Nodes: nodes, Secret: key, Handler: r})
		comm[id].Store(start[id])
	}
	start[1].AwaitMessage(2, []byte("hello"))
	start[2].AwaitMessage(1, []byte("hello"))
}

func testNobody(t *testing.T, p Provider) {
	a := Start(t, p, Spec{Self: 1, Nodes: p.Nodes(t, 2), Secret: Secret(t)})
	for _, id := range []membership.NodeID{0, 1, 2, 99} {
		if a.Send(id, []byte("x")) {
			t.Errorf("a message to %d, who is not there, was taken", id)
		}
	}
}

// A handler that hangs stops the flow; then Send says false, and what was taken
// arrives in order when the handler goes on.
func testFull(t *testing.T, p Provider) {
	nodes, key := p.Nodes(t, 2), Secret(t)
	hold := make(chan struct{})
	r := NewRecorder(t)
	r.OnMessage = func(membership.NodeID, []byte) { <-hold }
	a := Start(t, p, Spec{Self: 1, Nodes: nodes, Secret: key, Queue: 16})
	b := Start(t, p, Spec{Self: 2, Nodes: nodes, Secret: key, Handler: r})
	a.Await(Connected, 2, 1)
	b.Await(Connected, 1, 1)
	taken := 0
	for a.Send(2, numbered(uint64(taken), 64<<10)) { // a Send that blocks hangs here
		if taken++; taken > 1<<12 {
			t.Fatal("the queue has no bound")
		}
	}
	close(hold)
	b.Await(Message, 1, taken)
	for i, c := range messages(b, 1) {
		if binary.BigEndian.Uint64(c.Data) != uint64(i) {
			t.Fatalf("message %d is %v", i, c)
		}
	}
	send(t, a, 2, []byte("again"))
	b.AwaitMessage(1, []byte("again"))
}

func testThree(t *testing.T, p Provider) {
	nodes, key := p.Nodes(t, 3), Secret(t)
	var d [4]*Daemon
	for id := membership.NodeID(1); id <= 3; id++ {
		d[id] = Start(t, p, Spec{Self: id, Nodes: nodes, Secret: key})
	}
	for a := membership.NodeID(1); a <= 3; a++ {
		for b := membership.NodeID(1); b <= 3; b++ {
			if a != b {
				d[a].Await(Connected, b, 1)
				send(t, d[a], b, fmt.Append(nil, a, ">", b))
			}
		}
	}
	for a := membership.NodeID(1); a <= 3; a++ {
		for b := membership.NodeID(1); b <= 3; b++ {
			if a != b {
				d[b].AwaitMessage(a, fmt.Append(nil, a, ">", b))
			}
		}
	}
}

// Either end goes and comes back, as another run.
func testReturn(t *testing.T, p Provider) {
	for _, gone := range []membership.NodeID{1, 2} {
		t.Run(fmt.Sprintf("node %d", gone), func(t *testing.T) {
			nodes, key := p.Nodes(t, 2), Secret(t)
			stays := 3 - gone
			s := Start(t, p, Spec{Self: stays, Nodes: nodes, Secret: key, Instance: 1})
			for run := 1; run <= 3; run++ {
				g := Start(t, p, Spec{Self: gone, Nodes: nodes, Secret: key, Instance: uint64(run)})
				s.Await(Connected, gone, run)
				g.Await(Connected, stays, 1)
				send(t, s, gone, fmt.Append(nil, "run ", run))
				g.AwaitMessage(stays, fmt.Append(nil, "run ", run))
				g.Stop()
				s.Await(Disconnected, gone, run)
				if s.Send(gone, []byte("x")) {
					t.Error("a message to a peer that is gone was taken")
				}
			}
		})
	}
}

func testApart(t *testing.T, p Provider) {
	nodes, key := p.Nodes(t, 3), Secret(t)
	hold := make(chan struct{})
	r := NewRecorder(t)
	r.OnMessage = func(peer membership.NodeID, _ []byte) {
		if peer == 2 {
			<-hold
		}
	}
	a := Start(t, p, Spec{Self: 1, Nodes: nodes, Secret: key, Handler: r})
	b := Start(t, p, Spec{Self: 2, Nodes: nodes, Secret: key})
	c := Start(t, p, Spec{Self: 3, Nodes: nodes, Secret: key})
	b.Await(Connected, 1, 1)
	c.Await(Connected, 1, 1)
	send(t, b, 1, []byte("slow"))
	a.AwaitMessage(2, []byte("slow"))
	send(t, c, 1, []byte("fast"))
	a.AwaitMessage(3, []byte("fast"))
	close(hold)
}
