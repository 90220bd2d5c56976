package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// inject does what a round's plan says. When it returns no fault is left but
// that nodes are down. It counts the faults that met somebody alive.
func (r *runner) inject(ctx context.Context, plan Round) int {
	begin := time.Now()
	ctx, cancel := context.WithDeadline(ctx, begin.Add(plan.End))
	defer cancel()
	var wg sync.WaitGroup
	var done atomic.Int64
	for _, f := range plan.Faults {
		wg.Go(func() {
			until(ctx, begin.Add(f.At))
			nodes := r.resolve(ctx, f.Who)
			r.say("  %s %v", f.Kind, nodes)
			if len(nodes) < len(f.Who) {
				return // nobody of that kind is left
			}
			met := meets(f.Kind, nodes, func(i int) bool { return r.Lab.Node(i).Powered() })
			switch err := faults[f.Kind](r, ctx, f, nodes); {
			case err != nil:
				r.say("  %s %v: %v", f.Kind, nodes, err)
			case !met:
				r.say("  %s %v: dead already, not counted", f.Kind, nodes)
			default:
				done.Add(1)
			}
		})
	}
	wg.Wait()
	until(ctx, begin.Add(plan.End))
	r.say("  all faults end")
	if err := r.Lab.Heal(); err != nil {
		r.say("  heal: %v", err)
	}
	r.Misbehave(fencedev.Fault{})
	return int(done.Load())
}

// meets says whether a fault finds somebody that it does anything to: of those who
// die, or are cut off together, one that is alive is enough; else all have to be.
func meets(k Kind, nodes []int, alive func(int) bool) bool {
	if k == Kill || k == Halves {
		return slices.ContainsFunc(nodes, alive)
	}
	return !slices.ContainsFunc(nodes, func(i int) bool { return !alive(i) })
}

// until waits for a time, or for the end of the round's faults.
func until(ctx context.Context, at time.Time) {
	_ = cluster.Sleep(ctx, time.Until(at))
}

// resolve says who is meant now.
func (r *runner) resolve(ctx context.Context, who []Pick) []int {
	var out []int
	lead := 0
	for _, p := range who {
		if p.Role != "" && lead == 0 {
			lead = r.leader(ctx)
		}
		switch {
		case p.Node != 0:
			out = append(out, p.Node)
		case p.Role == leader.Role && lead != 0:
			out = append(out, lead)
		default:
			for _, i := range slices.Backward(r.Nodes()) {
				if i != lead && !slices.Contains(out, i) && r.Lab.Node(i).Powered() {
					out = append(out, i)
					break
				}
			}
		}
	}
	return out
}

// leader is who leads in the eyes of the first node that answers.
func (r *runner) leader(ctx context.Context) int {
	for _, i := range r.Nodes() {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		l, err := r.Leader(ask, i)
		cancel()
		if err == nil && l != 0 {
			return l
		}
	}
	return 0
}

var faults = map[Kind]func(*runner, context.Context, Fault, []int) error{
	Kill: (*runner).kill, KillActor: (*runner).killActor, LoseState: (*runner).loseState, DevicesBad: (*runner).devicesBad,
	CutNode: (*runner).cutNode, Halves: (*runner).halves, OneWay: (*runner).oneWay, Bridge: (*runner).bridge,
	Flap: (*runner).flap, Glitch: (*runner).glitch, ClosePort: (*runner).closePort,
	Freeze: (*runner).freeze, Leave: (*runner).leave, ClockStep: (*runner).clockStep,
}

func (r *runner) kill(ctx context.Context, f Fault, nodes []int) error {
	for k, i := range nodes {
		if k > 0 {
			until(ctx, time.Now().Add(f.Gap))
		}
		if _, err := r.Kill(context.WithoutCancel(ctx), i); err != nil {
			return err
		}
	}
	return nil
}

// killActor: fencing is slow, and who does it dies in the middle.
func (r *runner) killActor(ctx context.Context, f Fault, nodes []int) error {
	r.Misbehave(fencedev.Fault{Mode: fencedev.Slow, Delay: 3 * time.Second})
	at := time.Now()
	if err := r.kill(ctx, f, nodes); err != nil {
		return err
	}
	wait, cancel := context.WithTimeoutCause(ctx, 2*DeadAfter, errors.New("nobody began to fence it"))
	defer cancel()
	e, err := r.Events.Wait(wait, at, func(e cluster.Event) bool {
		return e.Kind == membership.KindFenceStart && int(e.Subject) == nodes[0]
	})
	if err != nil {
		return err
	}
	actor, err := e.Actor()
	if err != nil {
		return err
	}
	until(ctx, time.Now().Add(f.Gap))
	return r.kill(ctx, f, []int{actor})
}

func (r *runner) loseState(ctx context.Context, f Fault, nodes []int) error {
	if err := r.kill(ctx, f, nodes); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range nodes {
		r.lost[i] = true
	}
	return nil
}

func (r *runner) devicesBad(ctx context.Context, f Fault, nodes []int) error {
	m, err := fencedev.ParseMode(f.Mode)
	if err != nil {
		return err
	}
	r.Misbehave(fencedev.Fault{Mode: m, Delay: 2 * time.Second})
	if err := r.kill(ctx, f, nodes); err != nil {
		return err
	}
	until(ctx, time.Now().Add(f.For))
	r.Misbehave(fencedev.Fault{})
	return nil
}

// cut makes cuts, and undoes them all after a time: a round has one fault of the
// network.
func (r *runner) cut(ctx context.Context, d time.Duration, cuts ...func() error) error {
	for _, c := range cuts {
		if err := c(); err != nil {
			return err
		}
	}
	until(ctx, time.Now().Add(d))
	return r.Lab.Heal()
}

func (r *runner) cutNode(ctx context.Context, f Fault, nodes []int) error {
	return r.cut(ctx, f.For, func() error { return r.Lab.CutNode(nodes[0]) })
}

func (r *runner) halves(ctx context.Context, f Fault, nodes []int) error {
	return r.cut(ctx, f.For, func() error { return r.Lab.CutApart(nodes, r.Others(nodes...)) })
}

func (r *runner) oneWay(ctx context.Context, f Fault, nodes []int) error {
	return r.cut(ctx, f.For, func() error { return r.Lab.CutOneWay(nodes[0], nodes[1]) })
}

func (r *runner) bridge(ctx context.Context, f Fault, nodes []int) error {
	return r.cut(ctx, f.For, func() error { return r.Lab.Cut(nodes[0], nodes[1]) })
}

func (r *runner) flap(ctx context.Context, f Fault, nodes []int) error {
	for end := time.Now().Add(f.For); time.Now().Before(end) && ctx.Err() == nil; {
		if err := r.cut(ctx, f.Gap, func() error { return r.Lab.CutNode(nodes[0]) }); err != nil {
			return err
		}
		until(ctx, time.Now().Add(f.Gap))
	}
	return nil
}

func (r *runner) glitch(ctx context.Context, f Fault, _ []int) error {
	var cuts []func() error
	for _, i := range r.Nodes() {
		cuts = append(cuts, func() error { return r.Lab.CutNode(i) })
	}
	return r.cut(ctx, f.For, cuts...)
}

func (r *runner) closePort(ctx context.Context, f Fault, nodes []int) error {
	return r.cut(ctx, f.For, func() error { return r.Lab.ClosePort(nodes[0], dlm.DefaultPort) })
}

func (r *runner) freeze(ctx context.Context, f Fault, nodes []int) error {
	n := r.Lab.Node(nodes[0])
	from, err := n.Freeze(ctx)
	if err != nil {
		return err
	}
	until(ctx, from.Add(f.For))
	err = n.Thaw(context.WithoutCancel(ctx))
	r.mu.Lock()
	r.frozen = append(r.frozen, cluster.Pause{Node: nodes[0], From: from, To: time.Now()})
	r.mu.Unlock()
	if errors.Is(err, lab.ErrDown) { // it was fenced
		return nil
	}
	return err
}

// leave is a clean one: the programs end, the lockspaces are left, the daemon
// leaves. It may have to wait until the round's faults have ended and dead nodes
// are back, and goes on by itself.
func (r *runner) leave(ctx context.Context, _ Fault, nodes []int) error {
	i := nodes[0]
	r.setLeaving(i, true)
	r.tasks.Go(func() {
		defer r.setLeaving(i, false)
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), leaveLimit, errors.New("the node could not leave"))
		defer cancel()
		err := r.load.stop(ctx, i)
		if err == nil {
			_, err = r.Lab.Node(i).Run(ctx, cluster.Labnode+" dlm release "+counterSpace+" && umount "+cluster.MountAt+" && quorate leave")
		}
		if err != nil {
			r.say("  %s [%d]: %v", Leave, i, err)
		}
	})
	return nil
}

// leaveLimit is for a node to leave: less than all nodes have to be back.
const leaveLimit = backBound - 30*time.Second

func (r *runner) setLeaving(i int, is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving[i] = is
}

func (r *runner) isLeaving(i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leaving[i]
}

func (r *runner) clockStep(ctx context.Context, f Fault, nodes []int) error {
	_, err := r.Lab.Node(nodes[0]).Run(ctx, fmt.Sprintf("date -s @$(($(date +%%s) + %d))", int(f.Step.Seconds())))
	return err
}
