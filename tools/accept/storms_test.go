package accept

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
)

// TestStorms makes many changes of lockspaces at once, as programs do that use
// the DLM from user space.
func TestStorms(t *testing.T) {
	w := newWorld(t, cluster.Options{Nodes: 3, DeadAfter: 2 * time.Second})
	w.story("locks of every mode, with a value", (*world).locks)
	w.story("a counter on a shared disk", (*world).counter)
	w.story("twenty lockspaces at once", (*world).twenty)
	w.story("two hundred rounds of join and leave", (*world).rounds)
}

// dlm runs labnode's dlm on a node.
func (w *world) dlm(ctx context.Context, i int, input, args string) (string, error) {
	n := w.Lab.Node(i)
	r, err := n.ExecInput(ctx, strings.NewReader(input), cluster.Labnode+" dlm "+args)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%s: dlm %s: exit %d: %s%s", n.Name(), args, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout, err
}

// dlmAll runs it on all nodes at once.
func (w *world) dlmAll(d time.Duration, args string) {
	w.t.Helper()
	w.each(d, "dlm "+args, func(ctx context.Context, i int) error {
		_, err := w.dlm(ctx, i, "", args)
		return err
	})
}

// each does something on all nodes at once.
func (w *world) each(d time.Duration, what string, f func(context.Context, int) error) {
	w.t.Helper()
	at := time.Now()
	w.within(d, what, func(ctx context.Context) error { return w.Each(ctx, w.Nodes(), f) })
	w.t.Logf("%.40s: on all nodes in %v", what, time.Since(at).Round(time.Millisecond))
}

// locks: what one node locks excludes the others, and a value goes with it.
func (w *world) locks() {
	w.dlmAll(30*time.Second, "create locks")
	keep, keepIn := w.holds(1, "lock a NL\nlock b NL\nlock b2 NL\n") // values live as long as a lock
	w.says(1, "lock a EX\nconvert a NL one\nlock b PR\nconvert b PW\nconvert b CR two\nlock c CW\n",
		`a EX ""`, `a NL "one"`, `b PR ""`, `b PW ""`, `b CR "two"`, `c CW ""`)
	hold, stdin := w.holds(2, "lock a EX\nlock b PR\n")
	w.says(3, "lock a CR noqueue\nlock b PR noqueue\nlock b2 EX\nunlock b2 three\nlock a NL\n",
		"a refused", `b PR "two"`, `b2 EX ""`, "b2 unlocked", `a NL "one"`)
	w.must(stdin.Close())
	<-hold.Done()
	w.says(1, "lock a EX noqueue\nlock b2 EX noqueue\n", `a EX "one" lost`, `b2 EX "three"`) // its holder did not give it up
	w.must(keepIn.Close())
	<-keep.Done()
	w.agree(w.onAll("locks"))
	w.dlmAll(30*time.Second, "release locks")
	w.agree(nil)
}

// says wants these lines of a program that locks.
func (w *world) says(i int, input string, want ...string) {
	w.t.Helper()
	w.within(30*time.Second, "locks on node"+fmt.Sprint(i), func(ctx context.Context) error {
		out, err := w.dlm(ctx, i, input, "locks locks --limit 10s")
		if got := strings.TrimSpace(out); err == nil && got != strings.Join(want, "\n") {
			err = fmt.Errorf("node%d locks\n%sand the kernel says\n%s\nnot\n%s", i, input, got, strings.Join(want, "\n"))
		}
		return err
	})
}

// holds starts a program that has locks until its input is closed.
func (w *world) holds(i int, input string) (*lab.Proc, io.Closer) {
	w.t.Helper()
	in, stdin := io.Pipe()
	stdout, out := io.Pipe()
	p, err := w.Lab.Node(i).Start(w.ctx, lab.Cmd{Args: []string{cluster.Labnode, "dlm", "locks", "locks"}, Stdin: in, Stdout: out})
	w.must(err)
	go func() { <-p.Done(); out.Close() }()
	_, err = io.WriteString(stdin, input)
	w.must(err)
	lines := bufio.NewScanner(stdout)
	for range strings.Count(input, "\n") {
		if !lines.Scan() {
			w.t.Fatalf("node%d has no locks: %v", i, lines.Err())
		}
	}
	return p, stdin
}

// counter: a number on the disk that all nodes count up under a lock. Every
// number is made once, by one node.
func (w *world) counter() {
	const each = 100
	from := time.Now()
	w.dlmAll(30*time.Second, "create counter")
	w.each(60*time.Second, "counting", func(ctx context.Context, i int) error {
		_, err := w.dlm(ctx, i, "", fmt.Sprintf("count counter n %s --id %d --count %d --limit 30s", cluster.Disk, i, each))
		return err
	})
	n, err := w.Counter(w.ctx, 1)
	w.must(err)
	if want := uint64(each * len(w.Nodes())); n != want {
		w.t.Errorf("the disk says %d, not %d", n, want)
	}
	found, lost := cluster.AuditCounter(w.Events.All(), n, 0)
	for _, v := range found {
		w.t.Error(v)
	}
	w.t.Logf("%d numbers in %v, of which %d never came and are not checked", n, time.Since(from).Round(time.Millisecond), lost)
	w.dlmAll(30*time.Second, "release counter")
}

// twenty: all nodes create, use and release the same twenty at the same time.
func (w *world) twenty() {
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("storm%02d", i))
	}
	list := strings.Join(names, " ")
	from := time.Now()
	w.dlmAll(60*time.Second, "create "+list)
	w.agree(w.onAll(names...))
	w.dlmAll(60*time.Second, "release "+list)
	w.agree(nil)
	w.none(from, evil...)
}

// rounds: each node joins and leaves a lockspace in which its neighbour stays, and
// stays in the one that its other neighbour joins and leaves.
func (w *world) rounds() {
	from := time.Now()
	each := (200 + len(w.Nodes()) - 1) / len(w.Nodes())
	stays := map[string][]int{}
	w.each(30*time.Second, "stay", func(ctx context.Context, i int) error {
		_, err := w.dlm(ctx, i, "", "create "+roundsOf(w.neighbour(i)))
		return err
	})
	for _, i := range w.Nodes() {
		stays[roundsOf(w.neighbour(i))] = []int{i}
	}
	w.agree(stays)
	w.each(180*time.Second, "rounds", func(ctx context.Context, i int) error {
		_, err := w.dlm(ctx, i, "", fmt.Sprintf("rounds %s --count %d", roundsOf(i), each))
		return err
	})
	w.agree(stays)
	w.each(30*time.Second, "release", func(ctx context.Context, i int) error {
		_, err := w.dlm(ctx, i, "", "release "+roundsOf(w.neighbour(i)))
		return err
	})
	w.agree(nil)
	w.none(from, evil...)
}

func roundsOf(i int) string { return fmt.Sprintf("round%d", i) }

// neighbour is the next node, of the last one the first.
func (w *world) neighbour(i int) int { return i%len(w.Nodes()) + 1 }

// onAll are lockspaces that all nodes have.
func (w *world) onAll(names ...string) map[string][]int {
	all := map[string][]int{}
	for _, name := range names {
		all[name] = w.Nodes()
	}
	return all
}

// space is one lockspace as somebody sees it.
type space struct {
	id      uint64
	members string
}

// agree waits until, on every node, the kernel and the daemon have the lockspaces
// that the node is a member of and no others, with the same identity and members.
func (w *world) agree(members map[string][]int) {
	w.t.Helper()
	w.each(30*time.Second, "kernel and daemon agree", func(ctx context.Context, i int) error {
		return cluster.Until(ctx, 200*time.Millisecond, func() error { return w.agreesOn(ctx, i, members) })
	})
}

func (w *world) agreesOn(ctx context.Context, i int, members map[string][]int) error {
	kernel, err := w.kernelSpaces(ctx, i)
	if err != nil {
		return err
	}
	daemon, err := w.daemonSpaces(ctx, i)
	if err != nil {
		return err
	}
	want := map[string]space{}
	for name, nodes := range members {
		if slices.Contains(nodes, i) {
			want[name] = space{kernel[name].id, fmt.Sprint(nodes)}
		}
	}
	if !maps.Equal(kernel, daemon) || !maps.Equal(kernel, want) {
		return fmt.Errorf("node%d: the kernel has %v, the daemon %v, wanted are %v", i, kernel, daemon, want)
	}
	return nil
}

// kernelSpaces reads sysfs, for what lives, and configfs, for its members.
func (w *world) kernelSpaces(ctx context.Context, i int) (map[string]space, error) {
	out, err := w.Lab.Node(i).Run(ctx, "cd /sys/kernel && grep -H . dlm/*/id config/dlm/cluster/spaces/*/nodes/*/nodeid 2>/dev/null || true")
	if err != nil {
		return nil, err
	}
	all, members := map[string]space{}, map[string][]int{}
	for line := range strings.Lines(out) {
		file, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		n, err := strconv.ParseUint(value, 0, 32)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		dir := strings.Split(file, "/")
		if name := dir[1]; dir[0] == "dlm" {
			all[name] = space{n, all[name].members}
		} else {
			members[dir[4]] = append(members[dir[4]], int(n))
		}
	}
	for name, nodes := range members {
		slices.Sort(nodes)
		all[name] = space{all[name].id, fmt.Sprint(nodes)}
	}
	return all, nil
}

// daemonSpaces asks quorate for the lockspaces of which the node is a member.
func (w *world) daemonSpaces(ctx context.Context, i int) (map[string]space, error) {
	out, err := w.Lab.Node(i).Run(ctx, "quorate ls -o json")
	if err != nil {
		return nil, err
	}
	var list []control.LockspaceStatus
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, err
	}
	all := map[string]space{}
	for _, l := range list {
		if l.Local != "none" {
			all[l.Name] = space{uint64(l.ID), fmt.Sprint(l.Members)}
		}
	}
	return all, nil
}
