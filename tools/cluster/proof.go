package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// FencedBeforeStart looks at the logs of all survivors of an eviction, in the
// total order: every opening and start after it comes after the victim's proof, and
// each survivor has all three.
func FencedBeforeStart(all []Event, victim int, at time.Time, rest []int) error {
	for _, i := range rest {
		var proof, opened, started bool
		for _, e := range all {
			if e.Node != i || e.At.Before(at) {
				continue
			}
			switch e.Kind {
			case membership.KindFenced:
				proof = proof || int(e.Subject) == victim
			case membership.KindOpened, membership.KindStarted:
				opened, started = opened || e.Kind == membership.KindOpened, started || e.Kind == membership.KindStarted
				if !proof {
					return fmt.Errorf("node%d %s change %d of %s before the proof of node%d", i, e.Kind, e.Change, e.Lockspace, victim)
				}
			}
		}
		if !proof || !opened || !started {
			return fmt.Errorf("node%d: proof %v, opened %v, started %v", i, proof, opened, started)
		}
	}
	return nil
}

// SilentAfterProof checks what the lab counted of a victim's writes: between its
// freeze, which comes before the proof, and the end of its processes it is nothing.
// A fence device was asked for it.
func (c *Cluster) SilentAfterProof(ctx context.Context, victim int, at time.Time) error {
	if err := c.Lab.Node(victim).WaitGone(ctx); err != nil {
		return err
	}
	d, ok := c.Lab.Node(victim).LastDeath()
	if !ok {
		return fmt.Errorf("the lab knows of no death of node%d", victim)
	}
	proof, err := c.Events.Wait(ctx, at, func(e Event) bool { return e.Kind == membership.KindFenced && int(e.Subject) == victim })
	if err != nil {
		return err
	}
	if d.Uncounted != nil {
		return fmt.Errorf("what node%d wrote could not be counted: %w", victim, d.Uncounted)
	}
	if !d.Frozen.Before(proof.At) || d.AtKill.More(d.AtFreeze) {
		return fmt.Errorf("node%d stood still at %v, proof at %v, written %+v then %+v", victim, d.Frozen, proof.At, d.AtFreeze, d.AtKill)
	}
	for _, p := range c.Lab.PowerLog() {
		if p.Plug == victim && p.Action == fencedev.Off && p.Err == "" && p.Asked.After(at) && d.Frozen.Before(p.Done) {
			return nil
		}
	}
	return fmt.Errorf("no fence device was asked to cut node%d off: %+v", victim, c.Lab.PowerLog())
}
