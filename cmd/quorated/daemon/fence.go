package daemon

import (
	"context"
	"errors"
	"slices"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// errFencing ends a test: some devices serve one at a time.
var errFencing = errors.New("a node is being fenced by this one: not asked; try again when that is over")

// asker is a Fencer that can be asked for one device.
type asker interface {
	Ask(ctx context.Context, d membership.Device, action string) membership.FenceAnswer
}

// fence runs the agents; they end when the daemon does. Whoever only asks gives way.
func (d *Daemon) fence(job membership.FenceJob) {
	d.stopAsking()
	for _, stop := range d.tests {
		stop()
	}
	ctx, cancel := context.WithCancel(d.runCtx)
	d.cancels[job] = cancel
	d.async(func() {
		defer cancel()
		r := d.fencer.Fence(ctx, job)
		ended := boottime() // before the samples: they may be newer
		d.post(node.FenceDone{Job: job, Result: r, Ended: ended, Samples: d.prober.Snapshot()})
	})
}

// unfence switches a node's devices on.
func (d *Daemon) unfence(e node.Unfence) {
	d.async(func() {
		err := errors.New("this node's fencing switches nothing on")
		if u, ok := d.fencer.(interface {
			Unfence(context.Context, membership.NodeID, membership.Mono) error
		}); ok {
			err = u.Unfence(d.runCtx, e.Node, e.Deadline)
		}
		d.post(node.UnfenceDone{Node: e.Node, Attempt: e.Attempt, Err: text(err)})
	})
}

// askDevice asks whether a device would work.
func (d *Daemon) askDevice(i int) {
	a, ok := d.fencer.(asker)
	if !ok {
		d.async(func() { d.post(node.DeviceAnswered{Device: i}) })
		return
	}
	ctx, cancel := context.WithCancel(d.runCtx)
	d.stopAsk = cancel
	device := d.cfg.Devices[i]
	d.async(func() {
		defer cancel()
		answer := a.Ask(ctx, device, "monitor")
		d.post(node.DeviceAnswered{Device: i, Answer: answer, Stopped: ctx.Err() != nil})
	})
}

func (d *Daemon) stopAsking() {
	if d.stopAsk != nil {
		d.stopAsk()
	}
}

// noDevices is what to do where there are no devices to ask, of a node or (0) at all.
func noDevices(c config.Config, of membership.NodeID) string {
	if c.Group == config.GroupStatic {
		return `with group = "static" nobody is fenced: there are no devices to ask`
	}
	whose := ""
	if of != 0 {
		whose = " for " + c.Name(of)
	}
	return "no fence device is configured" + whose + ": write a [[fence]] section into quorate.toml, and run `quorate config apply`"
}

// fenceTest asks the devices of a node, or of all, one after the other, and changes
// nothing.
func (d *Daemon) fenceTest(ctx context.Context, of membership.NodeID) control.Response {
	a, ok := d.fencer.(asker)
	devices := slices.DeleteFunc(slices.Clone(d.cfgNow().Devices), func(x membership.Device) bool {
		return len(x.Nodes) == 0 || of != 0 && x.Nodes[0] != of
	})
	if !ok || len(devices) == 0 {
		return control.Response{Error: noDevices(d.cfgNow(), of)}
	}
	slices.SortStableFunc(devices, func(x, y membership.Device) int {
		if x.Nodes[0] != y.Nodes[0] {
			return int(x.Nodes[0]) - int(y.Nodes[0])
		}
		return x.Level - y.Level
	})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var token uint64
	if err := d.do(ctx, func() {
		d.ask++
		token = d.ask
		d.tests[token] = func() { cancel(errFencing) }
		if d.node.Fencing() {
			cancel(errFencing)
		}
	}); err != nil {
		return control.Response{Error: "the daemon is ending"}
	}
	defer func() { _ = d.do(context.WithoutCancel(ctx), func() { delete(d.tests, token) }) }() // it is ending: nobody looks any more
	var r control.Response
	for _, x := range devices {
		r.Tests = append(r.Tests, testDevice(ctx, a, x))
	}
	return r
}

func testDevice(ctx context.Context, a asker, x membership.Device) control.FenceTest {
	t := control.FenceTest{Node: x.Nodes[0], Agent: x.Name(), Level: x.Level, Plug: x.Options["plug"]}
	for _, q := range []string{"monitor", "status"} {
		if ctx.Err() != nil {
			break
		}
		answer := a.Ask(ctx, x, q)
		t.Took += answer.Took
		switch {
		case answer.Err != "" && t.Err == "":
			t.Err = answer.Err
		case answer.Err == "" && q == "monitor":
			t.Monitor = "ok"
		case answer.Err == "":
			t.State = answer.State
		}
	}
	if ctx.Err() != nil {
		t.Err = context.Cause(ctx).Error()
	}
	return t
}
