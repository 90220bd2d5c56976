package daemon

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

const (
	maxTick  = time.Second
	wallTick = 100 * time.Millisecond // how exact the wall clock in records is
)

// loop owns the machine.
func (d *Daemon) loop(ctx context.Context) error {
	if d.opt.fake == nil {
		if err := goRealtime(); err != nil {
			d.log.Warn(err.Error())
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var armed membership.Mono // what the timer runs to
	for {
		// Reading a clock costs more than the rest of this on some virtual machines.
		now := boottime()
		if dl := d.node.Deadline(); now >= dl {
			if err := d.step(node.Timer{Samples: d.prober.Snapshot()}); err != nil {
				return err
			}
		}
		d.prober.Progress(d.node.View())
		if at := d.nextTimer(now); at != armed {
			timer.Reset(at.Sub(now))
			armed = at
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			armed = 0
		case f := <-d.asks:
			f()
		case in := <-d.inputs:
			if err := d.step(in); err != nil {
				return err
			}
		}
		if err := d.drain(); err != nil {
			return err
		}
	}
}

// drain takes what has queued up, so that a timer never overtakes what came before it.
func (d *Daemon) drain() error {
	for range inputQueue {
		select {
		case in := <-d.inputs:
			if err := d.step(in); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

func (d *Daemon) nextTimer(now membership.Mono) membership.Mono {
	dl := d.node.Deadline()
	if dl == 0 || dl > now.Add(maxTick) {
		return now.Add(maxTick)
	}
	return max(dl, now)
}

func (d *Daemon) setWall(now membership.Mono) {
	d.wall, d.wallAt = time.Now(), now
	d.node.SetWall(d.wall.UTC().Format(time.RFC3339))
}

func (d *Daemon) step(in node.Input) error {
	now := boottime()
	if now >= d.wallAt.Add(wallTick) {
		d.setWall(now)
	}
	if err := d.execute(now, d.node.Step(now, in)); err != nil {
		return err
	}
	if err := d.fault(); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return nil
}

// execute runs effects in their order. An error ends the daemon. When a record
// cannot be written, what the groups say to each other after it is left out: it
// may depend on the record.
//
// What is sent or begun here goes on in other goroutines. Where there is a single
// processor they run when the loop rests; it does so before what takes longer.
func (d *Daemon) execute(now membership.Mono, effs []node.Effect) error {
	begun, lost := false, error(nil)
	rest := func() {
		if begun {
			runtime.Gosched()
		}
		begun = false
	}
	defer rest()
	for _, e := range effs {
		switch e := e.(type) {
		case node.Persist:
			rest()
			if err := d.save(e.Record); err != nil {
				lost = err
			}
		case node.Send:
			if _, ok := node.GroupMessage(e.Data); ok && lost != nil {
				continue
			}
			d.comm.Send(e.To, e.Data)
			begun = true
		case node.Drive:
			rest()
			d.drive(e.Effect)
		case node.Emit:
			d.events.add(e.Event, d.wall.Add(now.Sub(d.wallAt)))
			if e.Event.Kind == membership.KindFormed {
				d.noteFormed()
			}
		case node.LearnEpoch:
			d.prober.SetEpoch(e.Peer, e.Instance)
		case node.Fence:
			d.fence(e.Job)
			begun = true
			rest()
		case node.PrepareFence:
			if p, ok := d.fencer.(interface{ Prepare(membership.NodeID) }); ok {
				p.Prepare(e.Victim)
			}
		case node.Reply:
			d.reply(e)
		case node.Quiesce:
			d.quiesce()
		case node.Reopen:
			if err := d.kernel.Resume(); err != nil {
				return fmt.Errorf("%w: dlm-monitor: %w", ErrBroken, err)
			}
		case node.SelfFence:
			selfFence(d.log, e.Why)
		case node.Exit:
			d.exit = &e
			if e.Clean {
				d.cancel(nil)
				return context.Canceled
			}
			return fmt.Errorf("%w: %s", ErrBroken, e.Why)
		}
	}
	if lost != nil {
		return d.step(node.DiskLost{Why: lost.Error()})
	}
	return nil
}

// save makes a record durable; after one that could not be, none is tried.
func (d *Daemon) save(record any) error {
	if d.noDisk {
		return nil
	}
	err := d.store.Save(record)
	d.noDisk = err != nil
	return err
}

// fence runs the agents; they end when the daemon does.
func (d *Daemon) fence(job membership.FenceJob) {
	d.async(func() {
		r := d.fencer.Fence(d.runCtx, job)
		d.post(node.FenceDone{Job: job, Result: r})
	})
}

// noteFormed is for the next start; this one works without.
func (d *Daemon) noteFormed() {
	d.async(func() {
		if err := noteFormed(d.cfg); err != nil {
			d.log.Warn("note that this node was in a cluster", "err", err)
		}
	})
}

func (d *Daemon) reply(r node.Reply) {
	if c := d.replies[r.Token]; c != nil {
		delete(d.replies, r.Token)
		c <- r
	}
}

// do runs f in the loop and waits for it.
func (d *Daemon) do(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case d.asks <- func() { f(); close(ran) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-d.done:
		return context.Canceled
	}
	select {
	case <-ran:
		return nil
	case <-d.done:
		return context.Canceled
	}
}

// Handle answers a request of the control socket.
func (d *Daemon) Handle(ctx context.Context, req control.Request) control.Response {
	switch req.Command {
	case "status", "why":
		return d.status(ctx)
	case "version":
		return control.Response{Text: Version}
	case "events":
		return control.Response{Events: d.events.since(req.Since)}
	case "fence-history":
		var r control.Response
		if err := d.do(ctx, func() { r.History = d.node.History() }); err != nil {
			return control.Response{Error: "the daemon is ending"}
		}
		return r
	}
	return d.operate(ctx, req)
}

func (d *Daemon) status(ctx context.Context) control.Response {
	var s control.Status
	samples := d.prober.Snapshot()
	if err := d.do(ctx, func() { s = d.node.Status(boottime(), samples) }); err != nil {
		return control.Response{Error: "the daemon is ending"}
	}
	d.blame(&s)
	s.Group = d.cfg.Group
	s.Warnings = append(s.Warnings, d.prober.Status().Warnings...)
	s.Warnings = append(s.Warnings, d.cfg.Warnings...)
	if d.opt.Break != "" {
		s.Warnings = append(s.Warnings, Planted(d.opt.Break))
	}
	return control.Response{Status: &s}
}

// operate hands an operator's wish to the machine and waits for its answer.
func (d *Daemon) operate(ctx context.Context, req control.Request) control.Response {
	c := make(chan node.Reply, 1)
	err := d.do(ctx, func() {
		d.ask++
		d.replies[d.ask] = c
		in := node.Operator{Token: d.ask, Command: req.Command, Node: req.Node, For: req.For, Who: req.Who}
		d.async(func() { d.post(in) })
	})
	if err != nil {
		return control.Response{Error: "the daemon is ending"}
	}
	gone := "the daemon is ending"
	select {
	case r := <-c:
		return control.Response{Error: r.Err, Text: r.Text}
	case <-ctx.Done():
		gone = "gave up waiting"
	case <-d.done:
	}
	select {
	case r := <-c: // of a leave: the answer comes with the end
		return control.Response{Error: r.Err, Text: r.Text}
	default:
		return control.Response{Error: gone}
	}
}

// Events gives the event log to the control socket.
func (d *Daemon) Events(since uint64) ([]membership.Event, <-chan membership.Event, func()) {
	return d.events.follow(since)
}

// Leave asks for a clean leave, as SIGTERM does. It returns why it was refused.
func (d *Daemon) Leave(ctx context.Context) string {
	return d.operate(ctx, control.Request{Command: "leave", Who: "SIGTERM"}).Error
}
