package tcp

import (
	"testing"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/comm/commtest"
	"github.com/quorate/quorate/membership/secret"
)

// echo is a handler that hands each message to a function.
type echo struct {
	up      chan struct{}
	message func([]byte)
}

func (e *echo) Connected(membership.NodeID)              { e.up <- struct{}{} }
func (e *echo) Message(_ membership.NodeID, data []byte) { e.message(data) }
func (e *echo) Disconnected(membership.NodeID, error)    {}

// BenchmarkEcho is one message of 64 bytes there and back: the floor under
// everything that is agreed by message.
func BenchmarkEcho(b *testing.B) {
	r := &rig{}
	nodes := r.nodes(b, 2)
	key, err := secret.New()
	if err != nil {
		b.Fatal(err)
	}
	back := make(chan struct{}, 1)
	here, there := &echo{up: make(chan struct{}, 1)}, &echo{up: make(chan struct{}, 1)}
	var comms [2]*Comm
	for i, h := range []*echo{here, there} {
		c, err := New(r.options(commtest.Spec{Self: membership.NodeID(i + 1), Nodes: nodes, Secret: key, Handler: h}))
		if err != nil {
			b.Fatal(err)
		}
		comms[i] = c
	}
	here.message = func([]byte) { back <- struct{}{} }
	there.message = func(data []byte) { comms[1].Send(1, data) }
	done := make(chan error, 2)
	for _, c := range comms {
		go func() { done <- c.Run(b.Context()) }()
	}
	<-here.up
	<-there.up
	data := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		comms[0].Send(2, data)
		<-back
	}
	b.Cleanup(func() { // the context has ended
		<-done
		<-done
	})
}
