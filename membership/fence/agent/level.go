package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/membership"
)

// level runs all devices of a level, then asks all of them again that can be
// asked and do not ask by themselves: with two power supplies, off on one means nothing before the other.
// Each may be started until the deadline, later by what those before it may take.
func (f *Fencer) level(ctx context.Context, devices []membership.Device, within bounds, res *membership.FenceResult) error {
	for i := range devices {
		d := &devices[i]
		within = within.later(d.MaxDelay())
		op := action(d)
		run := result{code: -1}
		err := f.wait(ctx, d, within)
		if err == nil {
			run, err = f.runWarm(ctx, d, op, within)
		}
		record(res, d, run)
		if err == nil && run.code != 0 {
			err = run.failed()
		}
		if err != nil {
			return &OpError{op, d.Agent, err}
		}
		within = within.later(d.Timeout)
	}
	for i := range devices {
		d := &devices[i]
		if !asked(d) {
			continue
		}
		if err := f.isOff(ctx, d, res); err != nil {
			return &OpError{"status", d.Agent, err}
		}
	}
	return nil
}

// wait lets the device's delays pass, unless it would be too late already.
func (f *Fencer) wait(ctx context.Context, d *membership.Device, within bounds) error {
	delay := d.Delay
	if d.RandomDelay > 0 {
		delay += f.draw(d.RandomDelay)
	}
	if delay <= 0 || within.passed(f.now()) != nil {
		return nil // who is late is told so just before the agent would start
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrCancelled, context.Cause(ctx))
	}
}

// asked says that the device is asked for its status after off.
func asked(d *membership.Device) bool { return action(d) == "off" && !d.SkipVerify }

func action(d *membership.Device) string {
	if a := d.Options["action"]; a != "" {
		return a
	}
	return "off"
}

// firstPause is between the first two questions; it doubles up to the configured pause.
const firstPause = 20 * time.Millisecond

// isOff asks until the status says off, first at once. All questions together take
// as long as one run may, at most (Device.Lease).
func (f *Fencer) isOff(job context.Context, d *membership.Device, res *membership.FenceResult) error {
	ctx, cancel := context.WithTimeoutCause(job, d.Timeout, ErrTimeout)
	defer cancel()
	limit := f.now().Add(min(f.verify, max(d.Timeout-f.pause, d.Timeout/2)))
	for pause := min(firstPause, f.pause); ; pause = min(2*pause, f.pause) {
		run, err := f.runWarm(ctx, d, "status", bounds{})
		record(res, d, run)
		switch {
		case err != nil && job.Err() != nil:
			return err
		case err == nil && run.code == 2:
			return nil
		case ctx.Err() == nil && f.now() < limit:
		case err != nil:
			return fmt.Errorf("%w: %w", ErrUnproved, err)
		case run.code == 0:
			return fmt.Errorf("%w: check that its plug or address is that of this node", ErrLying)
		default:
			return fmt.Errorf("%w: status: %s", ErrUnproved, run.how())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrCancelled, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

func record(res *membership.FenceResult, d *membership.Device, run result) {
	res.Agent = filepath.Base(d.Agent)
	if out := clean(run.output, run.secrets); out != "" {
		res.Output = tailString(res.Output+out, maxOutput)
	}
}
