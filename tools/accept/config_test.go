package accept

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/tools/cluster"
)

const (
	ownFile   = "/etc/quorate/quorate.toml"
	agentsDir = "/usr/local/sbin"
)

// TestConfig changes what the cluster works by, and who is in it, while programs write
// to the file system. A fourth machine is there and not configured at first.
func TestConfig(t *testing.T) {
	w := newWorld(t, cluster.Options{Nodes: 4, Spare: 1, DeadAfter: time.Second})
	w.must(w.Mkfs(w.ctx, 1))
	for i := 1; i <= 3; i++ {
		w.mount(i)
	}
	w.must(w.WaitLockspace(w.ctx, []int{1, 2, 3}, []int{1, 2, 3}))
	w.story("other times come into force under load", (*world).configTimes)
	w.story("a change that one node cannot work by is in force nowhere", (*world).configRefused)
	w.story("who is down during a change catches up", (*world).configCatchesUp)
	w.story("a node is added under load", (*world).nodeAdded)
	w.story("a node is drained and removed", (*world).nodeDrained)
	w.story("a node is replaced by another machine", (*world).nodeReplaced)
}

// works waits until nodes work by a version and see these members.
func (w *world) works(version uint64, ask, members []int) {
	w.t.Helper()
	w.must(w.WaitMembers(w.ctx, ask, members))
	for _, i := range ask {
		w.statusOf(i, 30*time.Second, fmt.Sprintf("version %d", version), func(s control.Status) error {
			if s.Config != version {
				return fmt.Errorf("it works by version %d: %s", s.Config, cluster.Waits(s))
			}
			return nil
		})
	}
}

// inForce is the version that a node works by.
func (w *world) inForce(i int) control.Status {
	w.t.Helper()
	s, err := w.Status(w.ctx, i)
	w.must(err)
	return s
}

// edited writes what is in force, with some words replaced, to a file on a node.
func (w *world) edited(i int, pairs ...string) string {
	w.t.Helper()
	text := w.quorate(i, "config show", 0)
	for k := 0; k < len(pairs); k += 2 {
		w.shows(text, pairs[k])
	}
	const file = "/tmp/next.toml"
	w.must(w.Lab.Node(i).PutReader(w.ctx, strings.NewReader(strings.NewReplacer(pairs...).Replace(text)), file, 0o644))
	return file
}

// undisturbed: everybody went on, and nobody was evicted.
func (w *world) undisturbed(from time.Time, wr *writers, nodes ...int) {
	w.t.Helper()
	now := time.Now()
	for _, i := range nodes {
		wr.progress(i, now)
	}
	wr.stop()
	w.none(from, evil...)
	for _, i := range nodes {
		wr.verify(i, nodes...)
	}
}

func (w *world) configTimes() {
	three, from := []int{1, 2, 3}, time.Now()
	w.works(1, three, three)
	wr := w.write("times", 20, three...)
	defer wr.stop()
	longer := w.deadAfterOf(1500 * time.Millisecond)
	file := w.edited(1, w.deadAfterOf(time.Second), longer)
	w.shows(w.quorate(1, "config diff "+file, 0), "+"+longer)
	w.shows(w.quorate(1, "config apply --yes "+file, 0), "version 2 is in force")
	w.works(2, three, three)
	w.shows(w.quorate(3, "config show", 0), longer)
	w.shows(strings.Join(w.inForce(2).Notes, " "), "liveness.dead_after")
	w.shows(w.quorate(2, "config rollback --yes", 0), "version 3 is in force")
	w.works(3, three, three)
	w.undisturbed(from, wr, three...)
}

func (w *world) configRefused() {
	three, from := []int{1, 2, 3}, time.Now()
	wr := w.write("refused", 20, three...)
	defer wr.stop()
	for _, i := range three[:2] {
		_, err := w.Lab.Node(i).Run(w.ctx, fmt.Sprintf("cp /usr/sbin/fence_lab %s/fence_second", agentsDir))
		w.must(err)
	}
	before := w.quorate(1, "config show", 0)
	said := w.quorate(1, "config apply --yes "+w.edited(1, `"fence_lab"`, `"fence_second"`), 1)
	w.shows(said, "node3 refuses it")
	w.shows(said, "fence_second")
	for _, i := range three {
		if now := w.quorate(i, "config show", 0); now != before {
			w.t.Fatalf("node%d has something else in force:\n%s", i, now)
		}
	}
	w.works(3, three, three)
	w.undisturbed(from, wr, three...)
}

func (w *world) configCatchesUp() {
	two, three := []int{1, 2}, []int{1, 2, 3}
	w.kill(3)
	w.must(w.WaitLockspace(w.ctx, two, two))
	other := w.deadAfterOf(1200 * time.Millisecond)
	file := w.edited(2, w.deadAfterOf(time.Second), other)
	w.shows(w.quorate(2, "config apply --yes "+file, 0), "version 4 is in force")
	w.works(4, two, two)
	w.boot(3)
	w.works(4, three, three)
	w.mount(3)
	w.must(w.WaitLockspace(w.ctx, three, three))
	w.shows(w.quorate(3, "config show", 0), other)
}

// deadAfterOf is the line of the file that has a dead_after, as long as this machine needs.
func (w *world) deadAfterOf(d time.Duration) string {
	return fmt.Sprintf("dead_after = %q", w.Stretch(d))
}

func (w *world) nodeAdded() {
	three, four, from := []int{1, 2, 3}, []int{1, 2, 3, 4}, time.Now()
	wr := w.write("added", 20, three...)
	defer wr.stop()
	said := w.quorate(2, fmt.Sprintf("node add node4 --id 4 --addr %s --like node1 --plug 4 --yes", w.Lab.Node(4).Addr()), 0)
	w.shows(said, "version 5 is in force")
	w.works(5, three, three)
	w.install(4, 2)
	w.works(5, four, four)
	w.mount(4)
	w.must(w.WaitLockspace(w.ctx, four, four))
	wr.start(20, 4)
	w.undisturbed(from, wr, four...)
	w.statusOf(1, 30*time.Second, "the new node's vote", func(s control.Status) error {
		if s.Votes != 4 || s.Needed != 3 {
			return fmt.Errorf("%d votes, %d needed", s.Votes, s.Needed)
		}
		return nil
	})
}

// install gives a machine that has no quorate the key and what is in force, and starts it.
func (w *world) install(i, from int) {
	w.t.Helper()
	w.must(w.Install(w.ctx, i)) // the key, and a file that is replaced
	n := w.Lab.Node(i)
	text := w.quorate(from, "config show --own", 0)
	w.must(n.PutReader(w.ctx, strings.NewReader(text), ownFile, 0o644))
	_, err := n.Daemon(w.ctx, cluster.LogFile, agentsDir+"/quorated")
	w.must(err)
}

func (w *world) nodeDrained() {
	three, from := []int{1, 2, 3}, time.Now()
	wr := w.write("drained", 20, three...)
	defer wr.stop()
	w.shows(w.quorate(1, "node remove node4 --yes", 1), "quorate node drain")
	w.shows(w.quorate(1, "node drain node4", 0), "in use: "+cluster.Table)
	w.shows(w.quorate(3, "why", 0), "node4 is drained")
	w.unmount(4)
	w.works(5, three, three)
	w.shows(w.quorate(1, "node remove node4 --yes", 0), "version 6 is in force")
	w.works(6, three, three)
	if s := w.inForce(1); len(s.Nodes) != 3 || s.Needed != 2 {
		w.t.Fatalf("%d nodes, %d votes needed", len(s.Nodes), s.Needed)
	}
	w.undisturbed(from, wr, three...)
}

// nodeReplaced: node3's machine breaks for good. The fourth machine, with an empty disk and
// another address, is node3 from then on.
func (w *world) nodeReplaced() {
	two := []int{1, 2}
	wr := w.write("replaced", 20, two...)
	defer wr.stop()
	w.shows(w.quorate(1, "node replace node3 --yes", 1), "is a member and cannot be replaced")
	w.kill(3)
	w.must(w.WaitLockspace(w.ctx, two, two))
	_, err := w.Lab.Node(4).Run(w.ctx, "find /var/lib/quorate -mindepth 1 -delete; rm -rf /etc/quorate")
	w.must(err)
	w.shows(w.quorate(1, "config apply --yes "+w.edited(1, `node3 = "3"`, `node3 = "4"`), 0), "version 7 is in force")
	said := w.quorate(1, fmt.Sprintf("node replace node3 --addr %s --yes", w.Lab.Node(4).Addr()), 0)
	w.shows(said, "version 8 is in force")
	w.install(4, 1)
	w.works(8, two, []int{1, 2, 3})
	w.mount(4)
	w.must(w.WaitLockspace(w.ctx, two, []int{1, 2, 3}))
	if s := w.inForce(4); s.Name != "node3" || !s.Member {
		w.t.Fatalf("the new machine is %s, a member: %v", s.Name, s.Member)
	}
	now := time.Now()
	for _, i := range two {
		wr.progress(i, now)
	}
	wr.stop()
	for _, i := range two {
		wr.verify(4, i)
	}
}
