package manual

import (
	"context"
	"fmt"

	"github.com/quorate/quorate/membership"
)

// Fencer never succeeds.
type Fencer struct {
	name func(membership.NodeID) string
}

var _ membership.Fencer = Fencer{}

// New returns a Fencer that names nodes as the configuration does.
func New(cfg membership.Config) Fencer { return Fencer{cfg.Name} }

// Fence answers at once that somebody must go and look.
func (f Fencer) Fence(_ context.Context, job membership.FenceJob) membership.FenceResult {
	return membership.FenceResult{Agent: "manual", Err: f.words(job.Victim.Node)}
}

// Monitor never fails: an operator needs no device.
func (f Fencer) Monitor(context.Context, membership.NodeID) error { return nil }

func (f Fencer) words(n membership.NodeID) string {
	name := f.name(n)
	return fmt.Sprintf("no device can cut %s off: make sure that %s is powered off or cut from the storage, then run: quorate fence ack %s", name, name, name)
}
