package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/agent"
)

var errNoDevice = errors.New("no fence device is configured: write a [[fence]] section")

// refencer is a Fencer whose devices are replaced while it runs. A run against a victim
// ends with the devices that it began with.
type refencer struct {
	make func(membership.Config) membership.Fencer

	mu     sync.Mutex
	now    membership.Fencer
	ending sync.WaitGroup // the devices before, whose agents that waited are ended
	closed bool
}

func newRefencer(cfg config.Config) *refencer {
	of := func(c membership.Config) membership.Fencer {
		x := cfg
		x.Config = c
		return newFencer(x)
	}
	return &refencer{make: of, now: of(cfg.Config)}
}

// Configure replaces the devices by those of a configuration.
func (f *refencer) Configure(cfg membership.Config) {
	now := f.make(cfg)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	old := f.now
	f.now = now
	if c, ok := old.(io.Closer); ok {
		f.ending.Go(func() { _ = c.Close() }) // agents that wait have done nothing yet
	}
}

func (f *refencer) current() membership.Fencer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Fence runs the victim's devices as they are now.
func (f *refencer) Fence(ctx context.Context, job membership.FenceJob) membership.FenceResult {
	return f.current().Fence(ctx, job)
}

// Monitor asks them whether they would work.
func (f *refencer) Monitor(ctx context.Context, victim membership.NodeID) error {
	return f.current().Monitor(ctx, victim)
}

// Ask asks one device something that changes nothing.
func (f *refencer) Ask(ctx context.Context, d membership.Device, action string) membership.FenceAnswer {
	if a, ok := f.current().(interface {
		Ask(ctx context.Context, d membership.Device, action string) membership.FenceAnswer
	}); ok {
		return a.Ask(ctx, d, action)
	}
	return membership.FenceAnswer{Err: errNoDevice.Error()}
}

// Unfence switches a node's devices on.
func (f *refencer) Unfence(ctx context.Context, node membership.NodeID, deadline membership.Mono) error {
	if u, ok := f.current().(interface {
		Unfence(ctx context.Context, node membership.NodeID, deadline membership.Mono) error
	}); ok {
		return u.Unfence(ctx, node, deadline)
	}
	return errNoDevice
}

// Prepare gets ready what can be, without touching the victim.
func (f *refencer) Prepare(victim membership.NodeID) {
	if p, ok := f.current().(interface{ Prepare(membership.NodeID) }); ok {
		p.Prepare(victim)
	}
}

// Notes say what is not as it should be with what starts agents.
func (f *refencer) Notes() []string { return agent.LauncherNotes() }

// readyLimit is for files of secrets on a server that does not answer.
const readyLimit = 5 * time.Second

// Ready says whether this machine has what a device needs.
func (f *refencer) Ready(d membership.Device) error {
	ctx, cancel := context.WithTimeout(context.Background(), readyLimit)
	defer cancel()
	return agent.Ready(ctx, d)
}

// Close ends the agents that wait.
func (f *refencer) Close() error {
	f.mu.Lock()
	f.closed = true
	now := f.now
	f.mu.Unlock()
	var err error
	if c, ok := now.(io.Closer); ok {
		err = c.Close()
	}
	f.ending.Wait()
	return err
}
