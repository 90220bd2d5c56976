package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/tools/cluster"
)

// look is how often a node is looked at that is on its way back.
const look = 300 * time.Millisecond

// back does what an operator does after it all: dead nodes are powered on, a
// daemon that left is started, file systems are mounted. It returns when all
// that ran before runs again on every node.
func (r *runner) back(ctx context.Context) error {
	return cluster.Until(ctx, look, func() error {
		if err := r.reviveAll(ctx); err != nil {
			return err
		}
		if err := r.everywhere(ctx); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeoutCause(ctx, endLimit, errors.New("all runs, and a program does nothing"))
		defer cancel()
		return r.working(ctx, time.Now())
	})
}

// reviveAll revives all nodes at once; the error has what each still misses.
func (r *runner) reviveAll(ctx context.Context) error {
	errs := make([]error, len(r.Nodes()))
	var wg sync.WaitGroup
	for k, i := range r.Nodes() {
		wg.Go(func() {
			if err := cluster.Until(ctx, look, func() error { return r.revive(ctx, i) }); err != nil {
				errs[k] = fmt.Errorf("node%d: %w", i, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// revive takes a node one step further; nil says that nothing is missing.
func (r *runner) revive(ctx context.Context, i int) error {
	if r.isLeaving(i) {
		return errors.New("it is still leaving")
	}
	if !r.Lab.Node(i).Powered() {
		return r.boot(ctx, i)
	}
	s, err := r.ask(ctx, i)
	if err != nil {
		return r.daemon(ctx, i, err)
	}
	if !s.Member {
		return fmt.Errorf("it is no member: %s", cluster.Waits(s))
	}
	for _, l := range []struct {
		name string
		join func(context.Context, int) error
	}{{cluster.Table, r.Mount}, {counterSpace, r.load.join}} {
		switch is := local(s, l.name); is {
		case "running":
		case "", "none":
			if err := r.bounded(ctx, endLimit, "it joins "+l.name, func(ctx context.Context) error { return l.join(ctx, i) }); err != nil {
				return err
			}
		default:
			return fmt.Errorf("lockspace %s is %s: %s", l.name, is, cluster.Waits(s))
		}
	}
	return r.load.start(ctx, i)
}

// local is what the node's own kernel does with a lockspace.
func local(s control.Status, name string) string {
	for _, l := range s.Lockspaces {
		if l.Name == name {
			return l.Local
		}
	}
	return ""
}

func (r *runner) ask(ctx context.Context, i int) (control.Status, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Second, errors.New("its daemon does not answer"))
	defer cancel()
	return r.Status(ctx, i)
}

func (r *runner) boot(ctx context.Context, i int) error {
	n := r.Lab.Node(i)
	if err := n.WaitGone(ctx); err != nil {
		return err
	}
	if err := n.Boot(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	lost := r.lost[i]
	delete(r.lost, i)
	r.mu.Unlock()
	if lost {
		if _, err := n.Run(ctx, "rm -rf /var/lib/quorate/*"); err != nil {
			return err
		}
	}
	return r.StartDaemon(ctx, i)
}

// daemon starts the daemon of a node where none runs, unless the kernel holds
// lockspaces of one that ended: then the others have to end the node.
func (r *runner) daemon(ctx context.Context, i int, why error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, fmt.Errorf("it does not answer: %w", why))
	defer cancel()
	const none, held = 3, 4
	x, err := r.Lab.Node(i).Exec(ctx, fmt.Sprintf(`pidof quorated >/dev/null && exit 0; [ -z "$(ls /sys/kernel/dlm)" ] && exit %d; exit %d`, none, held))
	switch {
	case err != nil:
		return err
	case x.Code == none:
		return r.StartDaemon(ctx, i)
	case x.Code == held:
		return errors.New("its daemon ended and its kernel holds lockspaces")
	}
	return why
}

// everywhere: all nodes say the same, and that everything runs on all of them.
func (r *runner) everywhere(ctx context.Context) error {
	var first control.Status
	for _, i := range r.Nodes() {
		s, err := r.ask(ctx, i)
		if err != nil {
			return fmt.Errorf("node%d: %w", i, err)
		}
		if first.Node == 0 {
			first = s
		}
		if why := r.amiss(s, first); why != "" {
			return fmt.Errorf("node%d: %s: %s", i, why, cluster.Waits(s))
		}
	}
	return nil
}

// amiss is what is missing in a node's status; empty: nothing.
func (r *runner) amiss(s, first control.Status) string {
	switch {
	case !s.Member || !s.Quorate || s.View != first.View:
		return fmt.Sprintf("member %v, quorate %v, view %d (node%d: %d)", s.Member, s.Quorate, s.View, first.Node, first.View)
	case len(s.Fencing) > 0:
		return fmt.Sprintf("%v is not proved gone", s.Fencing[0].Victim)
	}
	for _, n := range s.Nodes {
		if n.State != "member" {
			return fmt.Sprintf("%s is %s", n.Name, n.State)
		}
	}
	for _, name := range []string{cluster.Table, counterSpace} {
		find := func(l control.LockspaceStatus) bool { return l.Name == name }
		k, o := slices.IndexFunc(s.Lockspaces, find), slices.IndexFunc(first.Lockspaces, find)
		if k < 0 || o < 0 {
			return "no lockspace " + name
		}
		l := s.Lockspaces[k]
		if l.State != "running" || l.Local != "running" || len(l.Members) != r.opt.Nodes || l.Change != first.Lockspaces[o].Change {
			return fmt.Sprintf("lockspace %s is %s, here %s, with %v of change %d", name, l.State, l.Local, l.Members, l.Change)
		}
	}
	return ""
}
