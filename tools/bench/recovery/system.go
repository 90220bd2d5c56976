package recovery

import (
	"context"
	"fmt"

	"github.com/quorate/quorate/tools/cluster"
)

// system is a cluster stack that drives the kernel's DLM on the lab's nodes. A
// node has one at a time. Start may be called for several nodes at once.
type system interface {
	// Name is the stack, and Setting how it is set up: together a column of the table.
	Name() string
	Setting() string
	// Config is what the setting consists of, for the file.
	Config() string
	// Prepare is called before a round.
	Prepare()
	// Start starts the daemons of a node that runs none.
	Start(ctx context.Context, node int) error
	// Members waits until each of the nodes asked sees exactly these members.
	Members(ctx context.Context, ask, members []int) error
	// Lockspace waits until the file system's lockspace runs with exactly these
	// members on each of the nodes asked.
	Lockspace(ctx context.Context, ask, members []int) error
	// Leave takes a node out that has unmounted, and returns when its daemons have ended.
	Leave(ctx context.Context, node int) error
	// Logs are the files in a node that help to understand a failure.
	Logs() []string
}

// fencing is what all systems have in common.
const fencing = "on: the lab's power switch through the agent fence_lab on each node; the switch answers when the node stands still"

// quorate is quorated, with a liveness profile.
type quorate struct {
	c       *cluster.Cluster
	profile string
}

func (q *quorate) Name() string    { return "quorate" }
func (q *quorate) Setting() string { return q.profile }
func (q *quorate) Prepare()        { q.c.UseProfile(q.profile) }
func (q *quorate) Logs() []string  { return []string{cluster.LogFile} }

func (q *quorate) Config() string { return fmt.Sprintf("[liveness]\nprofile = %q\n", q.profile) }

func (q *quorate) Start(ctx context.Context, node int) error { return q.c.StartDaemon(ctx, node) }

func (q *quorate) Members(ctx context.Context, ask, members []int) error {
	return q.c.WaitMembers(ctx, ask, members)
}

func (q *quorate) Lockspace(ctx context.Context, ask, members []int) error {
	return q.c.WaitLockspace(ctx, ask, members)
}

func (q *quorate) Leave(ctx context.Context, node int) error {
	_, err := q.c.Lab.Node(node).Run(ctx, "quorate leave")
	return err
}
