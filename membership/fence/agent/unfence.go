package agent

import (
	"context"

	"github.com/quorate/quorate/membership"
)

// Unfence switches the node's devices on that ask for it (Device.Unfence), one after
// the other, and ends with the first that cannot be. Deadline is as of a FenceJob.
func (f *Fencer) Unfence(ctx context.Context, node membership.NodeID, deadline membership.Mono) error {
	for i := range f.devices[node] {
		d := &f.devices[node][i]
		if !d.Unfence {
			continue
		}
		run, err := f.bounded(ctx, d, 0, func(ctx context.Context, path string, options map[string]string) (result, error) {
			return f.cold(ctx, path, stdin(options, "on"), bounds{start: deadline}, agentNice)
		})
		if err == nil && run.code != 0 {
			err = run.failed()
		}
		if err != nil {
			return &OpError{"on", d.Agent, err}
		}
		deadline = deadline.Add(d.Timeout)
	}
	return nil
}
