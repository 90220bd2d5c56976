package accept

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
)

const (
	stateDir = "/var/lib/quorate"
	logFiles = stateDir + "/raft"
)

// TestState damages what a node keeps. It always joins anew by itself, while the
// others go on, unless nobody has a log any more.
func TestState(t *testing.T) {
	w := newWorld(t, cluster.Options{Nodes: 3, DeadAfter: 500 * time.Millisecond})
	w.must(w.Mkfs(w.ctx, 1))
	w.mountAll()
	for _, c := range []struct{ name, do string }{
		{"the state directory is lost", "rm -rf " + stateDir + "/*"},
		{"a log is cut short", "f=$(ls " + logFiles + "/*-* | head -1); truncate -s -100 $f"},
		{"a log is cut to nothing", "for f in " + logFiles + "/*; do truncate -s 0 $f; done"},
		{"a log has a hole", "f=$(ls " + logFiles + "/*-* | head -1); dd if=/dev/zero of=$f bs=64 seek=2 count=1 conv=notrunc 2>/dev/null"},
		{"a file of a log is gone", "rm $(ls " + logFiles + "/*-* | head -1)"},
		{"a log is a copy", "cp -a " + logFiles + " " + stateDir + "/copy && rm -rf " + logFiles + " && mv " + stateDir + "/copy " + logFiles},
	} {
		w.story(c.name, func(w *world) { w.damaged(c.do) })
	}
	w.story("an old copy of a log is put back in place", (*world).oldCopy)
	w.story("the file system of the log is full", (*world).fullDisk)
	w.story("every log is lost", (*world).allLost)
}

// damaged: a node leaves, loses something, and returns.
func (w *world) damaged(do string) {
	w.t.Helper()
	i := w.follower()
	from := w.leaves(i)
	_, err := w.Lab.Node(i).Run(w.ctx, do)
	w.must(err)
	w.returns(i, from)
}

// leaves: unmount and leave.
func (w *world) leaves(i int) time.Time {
	w.t.Helper()
	from := time.Now()
	w.within(60*time.Second, "unmount", func(ctx context.Context) error { return w.Unmount(ctx, i) })
	w.within(60*time.Second, "leave", func(ctx context.Context) error {
		_, err := w.Lab.Node(i).Run(ctx, "/usr/local/sbin/quorate leave")
		return err
	})
	w.must(w.WaitMembers(w.ctx, w.Others(i), w.Others(i)))
	return from
}

// returns: the node is a member again, mounts and writes, and nobody was fenced.
func (w *world) returns(i int, from time.Time) {
	w.t.Helper()
	w.must(w.StartDaemon(w.ctx, i))
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	w.within(60*time.Second, "mount", func(ctx context.Context) error { return w.Mount(ctx, i) })
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
	w.none(from, evil...)
	wr := w.write(fmt.Sprintf("state%d", time.Now().UnixNano()), 20, w.Nodes()...)
	wr.stop()
	for _, j := range w.Nodes() {
		wr.verify(j, w.Nodes()...)
	}
}

// oldCopy puts old bytes back into the very files, as a restored disk image does.
func (w *world) oldCopy() {
	i := w.follower()
	w.leaves(i)
	_, err := w.Lab.Node(i).Run(w.ctx, "cp -a "+logFiles+" "+stateDir+"/old")
	w.must(err)
	w.returns(i, time.Now())
	from := w.leaves(i)
	_, err = w.Lab.Node(i).Run(w.ctx, "cd "+stateDir+"/old && for f in *; do cat $f > "+logFiles+"/$f; done && cd / && rm -rf "+stateDir+"/old")
	w.must(err)
	w.returns(i, from)
	if log := w.Log(w.ctx, i, 400); !strings.Contains(log, "the log is given up") {
		w.t.Fatal("an old log was gone on with")
	}
}

// fullDisk: a full file system changes nothing, not even a failover.
func (w *world) fullDisk() {
	for _, i := range w.Nodes() {
		_, err := w.Lab.Node(i).Exec(w.ctx, "dd if=/dev/zero of="+stateDir+"/fill bs=64k 2>/dev/null; dd if=/dev/zero of="+stateDir+"/fill2 bs=512 2>/dev/null")
		w.must(err)
	}
	w.dies(w.leader())
	for _, i := range w.Nodes() {
		_, err := w.Lab.Node(i).Run(w.ctx, "rm -f "+stateDir+"/fill "+stateDir+"/fill2")
		w.must(err)
	}
}

// allLost: no node has a log. None invents a history; status says what to do.
func (w *world) allLost() {
	for _, i := range w.Nodes() {
		w.within(60*time.Second, "unmount", func(ctx context.Context) error { return w.Unmount(ctx, i) })
	}
	from := time.Now()
	for _, i := range w.Nodes() {
		_, err := w.Lab.Node(i).Run(w.ctx, "kill -9 $(pidof quorated); while pidof quorated; do sleep 0.1; done; rm -rf "+stateDir+"/*")
		w.must(err)
	}
	for _, i := range w.Nodes() {
		w.must(w.StartDaemon(w.ctx, i))
	}
	for _, i := range w.Nodes() {
		w.within(60*time.Second, "the reason in status", func(ctx context.Context) error {
			return cluster.Until(ctx, 200*time.Millisecond, func() error {
				r, err := w.Lab.Node(i).Exec(ctx, "/usr/local/sbin/quorate why")
				if err == nil && (r.Code != 2 || !strings.Contains(r.Stdout, "quorate init")) {
					err = fmt.Errorf("exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
				return err
			})
		})
	}
	w.none(from, membership.KindFormed)
	for _, i := range w.Nodes() {
		_, err := w.Lab.Node(i).Run(w.ctx, "/usr/local/sbin/quorate init --yes")
		w.must(err)
	}
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	w.mountAll()
}
