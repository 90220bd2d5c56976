package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorate/quorate/membership"
)

// Monitor asks every device of the victim whether it would work. The error
// names each that would not.
func (f *Fencer) Monitor(ctx context.Context, victim membership.NodeID) error {
	if !f.Has(victim) {
		if f.byHand {
			return nil
		}
		return f.noDevice(victim)
	}
	var errs []error
	for i := range f.devices[victim] {
		if _, err := f.question(ctx, &f.devices[victim][i], "monitor"); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Ask runs the agent of one device with an action that changes nothing, monitor
// or status, after ordinary programs: nobody's recovery waits for it.
func (f *Fencer) Ask(ctx context.Context, d membership.Device, action string) membership.FenceAnswer {
	start := f.now()
	run, err := f.question(ctx, &d, action)
	a := membership.FenceAnswer{Output: clean(run.output, run.secrets), Took: f.now().Sub(start)}
	switch {
	case err != nil:
		a.Err = err.Error()
	case action == "status" && run.code == 2:
		a.State = "off"
	case action == "status":
		a.State = "on"
	}
	return a
}

// question returns an error when the device did not answer; off is an answer to
// status.
func (f *Fencer) question(ctx context.Context, d *membership.Device, action string) (result, error) {
	if action != "monitor" && action != "status" {
		return result{code: -1}, &OpError{action, d.Agent, errors.New("not a question: ask for monitor or status")}
	}
	run, err := f.run(ctx, d, action, monitorNice)
	if err == nil && run.code != 0 && (action != "status" || run.code != 2) {
		return run, &OpError{action, d.Agent, run.failed()}
	}
	if err == nil {
		return run, nil
	}
	if out := lastLine(clean(run.output, run.secrets)); out != "" {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return run, &OpError{action, d.Agent, err}
}
