package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
)

// System is a membership system that runs on a Fabric's nodes. Its methods are
// called one at a time.
type System interface {
	// Name is what the table calls it.
	Name() string
	// Start starts it on every node, and returns when all agree that all are members.
	Start(ctx context.Context) error
	// Kill drops all packets of a node and then ends its daemon, and says when the
	// dropping began.
	Kill(ctx context.Context, node int) (membership.Mono, error)
	// Restart brings a killed node back with the state on its disk, and returns when
	// all agree that all are members.
	Restart(ctx context.Context, node int) error
	// Whole waits until all agree that all are members.
	Whole(ctx context.Context) error
	// Views is where it shows what each node's daemon tells.
	Views() *Views
	// Leader is the node that orders the views; 0 when the system has no such node.
	Leader(ctx context.Context) (int, error)
	// Pids are the processes of a node's daemon.
	Pids(node int) []int
	// Packets counts what a node has sent and received since it was started.
	Packets(node int) (uint64, error)
	// Close ends all daemons and removes their files.
	Close() error
}

// boottime is the clock of all times here, and of the daemons.
func boottime() membership.Mono {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // it exists on every kernel that Go runs on
	return membership.Mono(ts.Nano())
}

// View is a view as one node's daemon told it.
type View struct {
	Node    int
	ID      string          // the same at all members of one view
	Members []int           // ascending
	Stamp   membership.Mono // by the daemon, when it had it; 0 when it does not say
	Seen    membership.Mono // by bench, when it had read it
}

// Views are those that all nodes told, in the order in which they came. It is
// safe for concurrent use.
type Views struct {
	mu   sync.Mutex
	all  []View
	wake chan struct{} // closed and replaced when one came
}

// NewViews returns an empty list.
func NewViews() *Views { return &Views{wake: make(chan struct{})} }

// Add notes a view.
func (v *Views) Add(w View) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = append(v.all, w)
	close(v.wake)
	v.wake = make(chan struct{})
}

// Agreed waits until all of the members have told the same view of exactly these
// members after a time, and returns what each told, by node.
func (v *Views) Agreed(ctx context.Context, after membership.Mono, members []int) ([]View, error) {
	for {
		v.mu.Lock()
		all, wake := v.all, v.wake
		v.mu.Unlock()
		if got := agreed(all, after, members); got != nil {
			return got, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: the members %v told no view that they agree on: %s", context.Cause(ctx), members, told(all, after))
		}
	}
}

// Newest is what each node told last, by node.
func (v *Views) Newest() map[int]View {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := map[int]View{}
	for _, w := range v.all {
		out[w.Node] = w
	}
	return out
}

// Told is how many views these nodes told after a time.
func (v *Views) Told(after membership.Mono, nodes []int) (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range v.all {
		if w.Seen > after && slices.Contains(nodes, w.Node) {
			n++
		}
	}
	return n
}

// agreed is the first view that the last of the members told: nil if there is none.
func agreed(all []View, after membership.Mono, members []int) []View {
	byID := map[string]map[int]View{}
	for _, w := range all {
		if w.Seen <= after || !slices.Equal(w.Members, members) || !slices.Contains(members, w.Node) {
			continue
		}
		have := byID[w.ID]
		if have == nil {
			have = map[int]View{}
			byID[w.ID] = have
		}
		if _, twice := have[w.Node]; !twice {
			have[w.Node] = w
		}
		if len(have) == len(members) {
			out := make([]View, len(members))
			for i, n := range members {
				out[i] = have[n]
			}
			return out
		}
	}
	return nil
}

// told is what came after a time, for an error.
func told(all []View, after membership.Mono) string {
	var out []string
	for _, w := range all {
		if w.Seen > after {
			out = append(out, fmt.Sprintf("node%d %s %v", w.Node, w.ID, w.Members))
		}
	}
	return fmt.Sprintf("%q", out)
}

// until asks again and again until f is content; the last reason is the error's.
func until(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s", limit))
	defer cancel()
	return cluster.Until(ctx, 20*time.Millisecond, func() error { return f(ctx) })
}
