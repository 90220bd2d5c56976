package daemon

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/manual"
	"github.com/quorate/quorate/membership/probe/udp"
)

// quietGroup orders nothing.
type quietGroup struct{}

func (quietGroup) Step(membership.Mono, ...membership.GroupInput) []membership.GroupEffect {
	return nil
}
func (quietGroup) Deadline() membership.Mono      { return 0 }
func (quietGroup) Status() membership.GroupStatus { return membership.GroupStatus{} }

// slowDevices answer after a second, or as their options say.
type slowDevices struct {
	manual.Fencer
	asked chan string
}

func (s slowDevices) Ask(ctx context.Context, d membership.Device, action string) membership.FenceAnswer {
	s.asked <- d.Name() + " " + action
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return membership.FenceAnswer{Err: ctx.Err().Error()}
	}
	a := membership.FenceAnswer{Took: time.Second, Err: d.Options["err."+action]}
	if action == "status" && a.Err == "" {
		a.State = "on"
	}
	return a
}

// fencing is a daemon that has devices, and nothing else.
func fencing(t *testing.T, f membership.Fencer) *Daemon {
	cfg := config.Config{Config: membership.Config{Self: 1, Nodes: []membership.Node{{ID: 1, Name: "alpha"}, {ID: 2, Name: "beta"}, {ID: 3, Name: "gamma"}},
		Devices: []membership.Device{
			{Nodes: []membership.NodeID{3}, Agent: "fence_c", Level: 1, Options: map[string]string{"err.monitor": "fence_c monitor: no"}},
			{Nodes: []membership.NodeID{2}, Agent: "/sbin/fence_b2", Level: 2, Options: map[string]string{"plug": "7"}},
			{Nodes: []membership.NodeID{2}, Agent: "fence_b1", Level: 1, Options: map[string]string{"err.status": "fence_b1 status: no"}},
		}}}
	d := &Daemon{cfg: cfg, fencer: f, inputs: make(chan node.Input, 16), asks: make(chan func(), 1), done: make(chan struct{}), runCtx: t.Context(),
		tests: map[uint64]context.CancelFunc{}, cancels: map[membership.FenceJob]context.CancelFunc{}, prober: &udp.Prober{}}
	d.node, _ = node.New(1, node.Options{Config: cfg.Config, Group: quietGroup{}, Identity: node.Identity{Boot: "b", Instance: 1}})
	go func() {
		for {
			select {
			case f := <-d.asks:
				f()
			case <-d.done:
				return
			}
		}
	}()
	return d
}

func (d *Daemon) end() { close(d.done); d.work.Wait() }

// every is what was asked so far.
func (s slowDevices) every() (out []string) {
	for len(s.asked) > 0 {
		out = append(out, <-s.asked)
	}
	return out
}

func TestFenceTestAsksEachDeviceTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slowDevices{manual.New(membership.Config{}), make(chan string, 16)}
		d := fencing(t, s)
		defer d.end()
		r := d.fenceTest(t.Context(), 0)
		want := []control.FenceTest{
			{Node: 2, Agent: "fence_b1", Level: 1, Monitor: "ok", Took: 2 * time.Second, Err: "fence_b1 status: no"},
			{Node: 2, Agent: "fence_b2", Level: 2, Plug: "7", Monitor: "ok", State: "on", Took: 2 * time.Second},
			{Node: 3, Agent: "fence_c", Level: 1, State: "on", Took: 2 * time.Second, Err: "fence_c monitor: no"},
		}
		if !slices.Equal(r.Tests, want) || r.Error != "" {
			t.Errorf("%+v", r)
		}
		if got := strings.Join(s.every(), ","); got != "fence_b1 monitor,fence_b1 status,fence_b2 monitor,fence_b2 status,fence_c monitor,fence_c status" {
			t.Errorf("asked %s", got)
		}
		if r = d.fenceTest(t.Context(), 2); len(r.Tests) != 2 || !r.Tests[1].OK() || r.Tests[0].OK() {
			t.Errorf("%+v", r)
		}
		if len(d.tests) != 0 {
			t.Errorf("%d tests are not forgotten", len(d.tests))
		}
		if r = d.fenceTest(t.Context(), 1); !strings.Contains(r.Error, "[[fence]]") {
			t.Errorf("%+v", r)
		}
	})
	d := fencing(t, manual.New(membership.Config{}))
	defer d.end()
	if r := d.fenceTest(t.Context(), 2); !strings.HasPrefix(r.Error, "no fence device is configured for ") || !strings.HasSuffix(r.Error, "run `quorate config apply`") {
		t.Errorf("%+v", r)
	}
}

// Who only asks gives way to who cuts.
func TestFencingEndsTests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slowDevices{manual.New(membership.Config{}), make(chan string, 16)}
		d := fencing(t, s)
		defer d.end()
		answer := make(chan control.Response, 1)
		go func() { answer <- d.fenceTest(t.Context(), 0) }()
		<-s.asked
		d.askDevice(1)
		<-s.asked
		if err := d.do(t.Context(), func() { d.fence(membership.FenceJob{Victim: membership.Incarnation{Node: 3}}) }); err != nil {
			t.Fatal(err)
		}
		r := <-answer
		for _, x := range r.Tests {
			if x.OK() || !strings.Contains(x.Err, "being fenced") {
				t.Errorf("%+v", x)
			}
		}
		if len(r.Tests) != 3 || len(s.asked) != 0 {
			t.Errorf("%+v, then asked %v", r, s.every())
		}
		var stopped, done bool
		for range 2 {
			switch in := (<-d.inputs).(type) {
			case node.DeviceAnswered:
				stopped = in.Stopped && in.Device == 1
			case node.FenceDone:
				done = !in.Result.OK && in.Ended > 0
			}
		}
		if !stopped || !done {
			t.Errorf("stopped %v, done %v", stopped, done)
		}
	})
}

func TestADeviceAnswersTheMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := fencing(t, slowDevices{manual.New(membership.Config{}), make(chan string, 16)})
		defer d.end()
		d.stopAsking() // nobody is asked
		d.askDevice(0)
		if in := (<-d.inputs).(node.DeviceAnswered); in.Device != 0 || in.Stopped || in.Answer.Err != "fence_c monitor: no" {
			t.Errorf("%+v", in)
		}
		d.fencer = manual.New(membership.Config{}) // nobody to ask
		d.askDevice(2)
		if in := (<-d.inputs).(node.DeviceAnswered); in.Device != 2 || in.Stopped || in.Answer.Err != "" {
			t.Errorf("%+v", in)
		}
	})
}

// noted is a Fencer that has something to say.
type noted struct{ membership.Fencer }

func (noted) Notes() []string { return []string{"nothing starts agents"} }

func TestStatusSaysWhatIsWrongWithAgents(t *testing.T) {
	a := prepareAlone(t)
	a.fencer = noted{manual.New(a.cfg.Config)}
	a.start("")
	a.until("its note", func(s control.Status) bool { return slices.Contains(s.Notes, "nothing starts agents") })
}
