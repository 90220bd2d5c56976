package daemon

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/fit"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/links"
	"github.com/quorate/quorate/membership/probe/udp"
	"github.com/quorate/quorate/membership/probe/udp/alarm"
)

// readyLimit is how long the readiness waits for the others' word about the log.
const readyLimit = 5 * time.Second

const (
	maxTick  = time.Second
	wallTick = 100 * time.Millisecond // how exact the wall clock in records is
)

// loop owns the machine.
func (d *Daemon) loop(ctx context.Context) error {
	wake, err := alarm.New()
	if err != nil {
		return err
	}
	defer wake.Close()
	silent := false
	ready := boottime().Add(readyLimit)
	for {
		// Reading a clock costs more than the rest of this on some virtual machines.
		now := boottime()
		if ready != 0 && (d.vetted() || now >= ready) {
			ready = 0
			if d.opt.Ready != nil {
				d.opt.Ready()
			}
		}
		looked, err := d.look(now, silent)
		if err != nil {
			return err
		}
		silent = false
		d.progress(now)
		at := d.nextTimer(now)
		if err := wake.Set(at); err != nil {
			return err
		}
		if looked && mayBeLate(d.cfgNow().Timing) {
			d.prober.Turn(at)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake.C:
			wake.Heard()
		case <-d.silent:
			silent = true
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

// mayBeLate says whether three probes fit into dead_after (liveness.CheckTiming) also when each
// comes as late as the loop may send it.
func mayBeLate(t membership.Timing) bool {
	return t.DeadAfter >= 3*(t.Interval+t.Interval/udp.Slack)
}

// look takes what the prober measured when that is due, or a peer has fallen silent: for
// the machine, and for the links.
func (d *Daemon) look(now membership.Mono, silent bool) (looked bool, err error) {
	due, dl := d.node.Deadline(), d.carry.Deadline()
	if silent {
		due = min(due, now)
	}
	if now < due && (dl == 0 || now < dl) {
		return false, nil
	}
	samples := d.prober.Snapshot()
	if err := d.watchLinks(now, samples); err != nil || now < due {
		return true, err
	}
	return true, d.step(node.Timer{Samples: samples})
}

// drain takes what has queued up, so that a timer never overtakes what came before it.
// Who has that much to do is busy and does not stand still, so each step is progress.
func (d *Daemon) drain() error {
	for range inputQueue {
		select {
		case in := <-d.inputs:
			now := boottime()
			d.progress(now)
			if err := d.stepAt(now, in); err != nil {
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
	if l := d.carry.Deadline(); l != 0 && (dl == 0 || l < dl) {
		dl = l
	}
	if dl == 0 || dl > now.Add(maxTick) {
		return now.Add(maxTick)
	}
	return max(dl, now)
}

func (d *Daemon) setWall(now membership.Mono) {
	d.wall, d.wallAt = time.Now(), now
	d.node.SetWall(d.wall.UTC().Format(time.RFC3339))
}

func (d *Daemon) step(in node.Input) error { return d.stepAt(boottime(), in) }

func (d *Daemon) stepAt(now membership.Mono, in node.Input) error {
	if now >= d.wallAt.Add(wallTick) {
		d.setWall(now)
	}
	if f, ok := in.(node.FenceDone); ok {
		delete(d.cancels, f.Job)
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
		if d.changeKeys(e) {
			begun = true
			continue
		}
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
			d.send(e)
			begun = true
		case node.Drive:
			rest()
			d.drive(e.Effect)
		case node.Emit:
			d.events.add(e.Event, d.wall.Add(now.Sub(d.wallAt)))
			if e.Event.Kind == membership.KindFormed {
				d.noteFormed()
			}
		case node.DialWitness:
			d.dialWitness(e)
		case node.LearnEpoch:
			d.learn(e.Peer, e.Instance, e.Epoch)
		case node.Fence:
			d.fence(e.Job)
			begun = true
			rest()
		case node.Unfence:
			d.unfence(e)
		case node.AskDevice:
			d.askDevice(e.Device)
		case node.StopAsking:
			d.stopAsking()
		case node.CancelFence:
			if cancel := d.cancels[e.Job]; cancel != nil {
				cancel()
			}
		case node.PrepareFence:
			if p, ok := d.fencer.(interface{ Prepare(membership.NodeID) }); ok {
				p.Prepare(e.Victim)
			}
		case node.Reply:
			d.reply(e)
		case node.CheckConfig:
			d.checkConfig(e)
		case node.Reconfigure:
			if err := d.reconfigure(e); err != nil {
				return err
			}
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

// noteFormed is for the next start; this one works without.
func (d *Daemon) noteFormed() {
	d.async(func() {
		if err := noteFormed(d.opt.Config); err != nil {
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
	case "links":
		return control.Response{Links: d.linksReport()}
	case "config-show":
		return d.configShow(ctx, req)
	case "version":
		return control.Response{Text: Version}
	case "events":
		return control.Response{Events: d.events.since(req.Since)}
	case "fence-test":
		return d.fenceTest(ctx, req.Node)
	case "fence-history":
		var r control.Response
		if err := d.do(ctx, func() { r.History = d.node.History() }); err != nil {
			return control.Response{Error: "the daemon is ending"}
		}
		return r
	}
	if req.Command == "witness-add" {
		return d.addWitness(ctx, req)
	}
	return d.operate(ctx, req, nil)
}

func (d *Daemon) status(ctx context.Context) control.Response {
	var s control.Status
	samples := d.prober.Snapshot()
	var lost, long []links.Changed
	if err := d.do(ctx, func() {
		s, lost, long = d.node.Status(boottime(), samples), d.carry.Lost(boottime()), d.carry.LosesLong()
	}); err != nil {
		return control.Response{Error: "the daemon is ending"}
	}
	report := d.linksReport()
	warn(&s, report.Warnings, lostLinks(lost, d.cfgNow()), longLost(long, d.cfgNow(), boottime()), d.stableWarnings(), daemonWarnings(report, d.cfgNow().Timing, s.Nodes))
	d.blame(&s)
	s.Group = d.cfgNow().Group
	if d.cfgNow().Auto {
		s.ProfileWhy = autoWhy(s.Nodes)
	}
	if unfit, _ := unfitNodes(s.Nodes); d.cfgNow().Timing.DeadAfter < fit.Least && unfit != "" {
		s.Notes = append(s.Notes, fmt.Sprintf("dead_after is %s, and that is for nodes that are all fit for lan: %s", membership.Short(d.cfgNow().Timing.DeadAfter), unfit))
	}
	s.Warnings = append(s.Warnings, d.cfgNow().Warnings...)
	s.Notes = append(s.Notes, d.fileDiffers(s.Config)...)
	s.Notes = append(s.Notes, linkNotes(report, d.cfgNow().ProbePort, s.Nodes)...)
	if f, ok := d.fencer.(interface{ Notes() []string }); ok {
		s.Notes = append(s.Notes, f.Notes()...)
	}
	s.Notes = append(s.Notes, reflectorNotes(d.cfgNow().Reflector, report.Reflectors)...)
	if d.opt.Break != "" {
		s.Warnings = append(s.Warnings, Planted(d.opt.Break))
	}
	return control.Response{Status: &s}
}

// warn adds what is not as it should be in the cluster, which is degraded by it.
func warn(s *control.Status, warnings ...[]string) {
	s.Warnings = slices.Concat(s.Warnings, slices.Concat(warnings...))
	if len(s.Warnings) > 0 {
		s.Level = max(s.Level, control.Degraded)
	}
}

// operate hands an operator's wish to the machine and waits for its answer.
func (d *Daemon) operate(ctx context.Context, req control.Request, w *cluster.Witness) control.Response {
	c := make(chan node.Reply, 1)
	err := d.do(ctx, func() {
		d.ask++
		d.replies[d.ask] = c
		in := node.Operator{Token: d.ask, Command: req.Command, Node: req.Node, For: req.For, Epoch: req.Epoch, Force: req.Force, Who: req.Who,
			Text: req.Text, Version: req.Version, Nodes: req.Nodes, Witness: w}
		d.async(func() { d.post(in) })
	})
	if err != nil {
		return control.Response{Error: "the daemon is ending"}
	}
	gone := "the daemon is ending"
	select {
	case r := <-c:
		return control.Response{Error: r.Err, Text: r.Text, Again: r.Again}
	case <-ctx.Done():
		gone = "gave up waiting"
	case <-d.done:
	}
	select {
	case r := <-c: // of a leave: the answer comes with the end
		return control.Response{Error: r.Err, Text: r.Text, Again: r.Again}
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
	return d.operate(ctx, control.Request{Command: "leave", Who: "SIGTERM"}, nil).Error
}
