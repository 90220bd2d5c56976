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
	// copyLog keeps a copy of the log, and oldLog puts that back into the very files.
	copyLog = "cp -a " + logFiles + " " + stateDir + "/old"
	oldLog  = "cd " + stateDir + "/old && for f in *; do cat $f > " + logFiles + "/$f; done && cd / && rm -rf " + stateDir + "/old"
)

// TestState damages what a node keeps. It always joins anew by itself, while the
// others go on, unless nobody has a log any more.
func TestState(t *testing.T) {
	// A node that starts again and again takes the others' processors, too.
	w := newMounted(t, cluster.Options{Nodes: 3, DeadAfter: time.Second})
	w.story("a log that is damaged is given up", (*world).damages)
	w.story("the file system of the log is full", (*world).fullDisk)
	w.story("the file system of the leader's log is read-only", (*world).readOnly)
	w.story("every log is lost", (*world).allLost)
	w.story("too few nodes are left for good", (*world).tooFew)
}

// damages: a node without a mount leaves, loses something and returns, again and
// again; the others write all the time. In the end it mounts and reads it all.
func (w *world) damages() {
	i := w.follower()
	from := time.Now()
	w.unmount(i)
	wr := w.write("damages", 20, w.Others(i)...)
	defer wr.stop()
	const first = "f=$(ls " + logFiles + "/log-* | head -1); "
	w.damaged("the state directory is lost", i, "rm -rf "+stateDir+"/*", false)
	for _, n := range []int{0, 1, 100, 512 << 10, 1<<20 - 1} {
		w.damaged(fmt.Sprintf("a log is cut to %d bytes", n), i, first+fmt.Sprintf("truncate -s %d $f", n), true)
	}
	w.damaged("a log has other bytes in it", i, first+`head -c 64 /dev/zero | tr '\0' '\377' | dd of=$f bs=64 seek=2 count=1 iflag=fullblock conv=notrunc 2>/dev/null`, true)
	w.damaged("a file of a log is gone", i, first+"rm $f", true)
	w.damaged("a log is a copy", i, "cp -a "+logFiles+" "+stateDir+"/copy && rm -rf "+logFiles+" && mv "+stateDir+"/copy "+logFiles, true)
	w.oldCopy(i)
	w.mountWaits(i)
	w.mountLast(i)
	now := time.Now()
	for _, j := range w.Others(i) {
		wr.progress(j, now)
	}
	wr.stop()
	w.none(from, evil...)
	for _, j := range w.Nodes() {
		wr.verify(j, w.Others(i)...)
	}
}

// damaged: the node leaves, loses something, and returns by itself, with the log
// that it had or without.
func (w *world) damaged(name string, i int, do string, givenUp bool) {
	w.t.Helper()
	w.story(name, func(w *world) {
		w.leave(i)
		before := w.givenUp(i)
		_, err := w.Lab.Node(i).Run(w.ctx, do)
		w.must(err)
		w.rejoins(i)
		if was := w.givenUp(i) > before; was != givenUp {
			w.t.Fatalf("the log was given up: %v, want %v:\n%s", was, givenUp, w.Log(w.ctx, i, 50))
		}
	})
}

// givenUp counts how often a node has given up its log.
func (w *world) givenUp(i int) int {
	w.t.Helper()
	r, err := w.Lab.Node(i).Exec(w.ctx, "cat "+cluster.LogFile)
	w.must(err)
	return strings.Count(r.Stdout, "the log is given up")
}

// leave takes a node without a mount out of the cluster.
func (w *world) leave(i int) {
	w.t.Helper()
	w.within(60*time.Second, "leave", func(ctx context.Context) error {
		_, err := w.Lab.Node(i).Run(ctx, "/usr/local/sbin/quorate leave")
		return err
	})
	w.must(w.WaitMembers(w.ctx, w.Others(i), w.Others(i)))
}

// leaves: unmount and leave.
func (w *world) leaves(i int) time.Time {
	w.t.Helper()
	from := time.Now()
	w.unmount(i)
	w.leave(i)
	return from
}

// rejoins: the daemon of the node is started and is a member.
func (w *world) rejoins(i int) {
	w.t.Helper()
	w.must(w.StartDaemon(w.ctx, i))
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
}

// returns: the node is a member again, mounts and writes, and nobody was fenced.
func (w *world) returns(i int, from time.Time) {
	w.t.Helper()
	w.rejoins(i)
	w.mountLast(i)
	w.none(from, evil...)
	wr := w.write(fmt.Sprintf("state%d", time.Now().UnixNano()), 20, w.Nodes()...)
	wr.stop()
	for _, j := range w.Nodes() {
		wr.verify(j, w.Nodes()...)
	}
}

// oldCopy puts old bytes back into the very files, as a restored disk image does.
func (w *world) oldCopy(i int) {
	w.t.Helper()
	w.damaged("a log is as it was", i, copyLog, false)
	w.damaged("an old copy of a log is put back in place", i, oldLog, true)
}

// mountWaits: the node finds out that its log is old while a mount waits. The mount is
// refused, and the node joins anew without a reboot.
func (w *world) mountWaits(i int) {
	w.story("a log is given up while a mount waits", func(w *world) {
		n := w.Lab.Node(i)
		w.leave(i)
		_, err := n.Run(w.ctx, copyLog)
		w.must(err)
		w.rejoins(i)
		w.leave(i)
		_, err = n.Run(w.ctx, oldLog)
		w.must(err)
		before := w.givenUp(i)
		defer func() { w.must(w.Lab.Heal()) }()
		for _, j := range w.Others(i) {
			w.must(w.Lab.Cut(i, j))
		}
		w.must(w.StartDaemon(w.ctx, i))
		w.whyStops(i, "asking a majority of the voters what they saw")
		mounted := make(chan error, 1)
		go func() { mounted <- w.Mount(w.ctx, i) }()
		w.whyStops(i, "lockspace gfs")
		w.must(w.Lab.Heal())
		select {
		case err := <-mounted:
			if err == nil || !strings.Contains(err.Error(), "Resource temporarily unavailable") {
				w.t.Fatalf("the mount got %v", err)
			}
		case <-time.After(60 * time.Second):
			w.t.Fatal("the mount waits")
		}
		w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
		if n := w.givenUp(i) - before; n != 1 {
			w.t.Fatalf("the log was given up %d times", n)
		}
	})
}

// fullDisk: a full file system changes nothing, not even a failover.
func (w *world) fullDisk() {
	for _, i := range w.Nodes() {
		_, err := w.Lab.Node(i).Exec(w.ctx, "dd if=/dev/zero of="+stateDir+"/fill bs=64k 2>/dev/null; dd if=/dev/zero of="+stateDir+"/fill2 bs=512 2>/dev/null")
		w.must(err)
	}
	w.dies(w.leader())
	for _, i := range w.Nodes() {
		_, err := w.Lab.Node(i).Run(w.ctx, "rm -f "+stateDir+"/fill "+stateDir+"/fill2; sync -f "+stateDir)
		w.must(err)
	}
}

// readOnly: the file system finds an error and takes no more writes. The node
// hands over and votes no more; it stays a member, and a change that needs its
// word goes on. Repaired, it joins anew.
func (w *world) readOnly() {
	w.calm()
	victim := w.leader()
	rest := w.Others(victim)
	n := w.Lab.Node(victim)
	from := time.Now()
	wr := w.write("readonly", 20, victim, rest[1])
	defer wr.stop()
	_, err := n.Run(w.ctx, "mount -o remount,errors=remount-ro "+stateDir+" && echo for a story > /sys/fs/ext4/ubdb/trigger_fs_error")
	w.must(err)
	w.unmount(rest[0])
	w.must(w.WaitLockspace(w.ctx, w.Others(rest[0]), w.Others(rest[0])))
	w.shows(w.quorate(victim, "status", 1), "does not vote any more")
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	if l := w.leader(); l == victim {
		w.t.Fatalf("node%d leads without a log", l)
	}
	w.mountLast(rest[0])
	now := time.Now()
	for _, i := range []int{victim, rest[1]} {
		wr.progress(i, now)
	}
	wr.stop()
	w.none(from, evil...)
	w.leaves(victim)
	_, err = n.Run(w.ctx, "umount "+stateDir+" && mount -t ext4 /dev/ubdb "+stateDir)
	w.must(err)
	w.returns(victim, from)
	w.quorate(victim, "status", 0)
}

// tooFew: two of three never come back. What docs/operating.md says to do then makes a
// cluster of the third, and all that was told to be on the disk is there.
func (w *world) tooFew() {
	left := w.follower()
	rest := w.Others(left)
	wr := w.write("toofew", 20, w.Nodes()...)
	from := time.Now()
	for _, i := range w.Nodes() { // its file systems cannot be unmounted without a quorum
		w.kill(i)
	}
	wr.procs = nil
	w.within(90*time.Second, "boot", func(ctx context.Context) error { return w.BootAgain(ctx, left) })
	w.whyStops(left, "2 needed")
	n := w.Lab.Node(left)
	w.within(60*time.Second, "leave", func(ctx context.Context) error {
		_, err := n.Run(ctx, "/usr/local/sbin/quorate leave && mv "+logFiles+" "+logFiles+".old")
		return err
	})
	w.UseNodes(left)
	w.must(w.StartDaemon(w.ctx, left))
	w.whyStops(left, "quorate init")
	_, err := n.Run(w.ctx, "/usr/local/sbin/quorate init --yes")
	w.must(err)
	w.must(w.WaitMembers(w.ctx, []int{left}, []int{left}))
	w.within(60*time.Second, "mount", func(ctx context.Context) error { return w.Mount(ctx, left) })
	w.must(w.WaitLockspace(w.ctx, []int{left}, []int{left}))
	wr.verify(left, w.Nodes()...)
	w.none(from, evil...)
	for _, i := range rest {
		if w.Lab.Node(i).Powered() {
			w.t.Errorf("node%d is on", i)
		}
	}
}

// whyStops waits until `quorate why` on a node says that nothing runs, and names this.
func (w *world) whyStops(i int, reason string) {
	w.t.Helper()
	w.within(60*time.Second, "quorate why says "+reason, func(ctx context.Context) error {
		return cluster.Until(ctx, 200*time.Millisecond, func() error {
			r, err := w.Lab.Node(i).Exec(ctx, "/usr/local/sbin/quorate why")
			if err == nil && (r.Code != 2 || !strings.Contains(r.Stdout, reason)) {
				err = fmt.Errorf("exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
			}
			return err
		})
	})
}

// allLost: no node has a log. None invents a history; status says what to do.
func (w *world) allLost() {
	for _, i := range w.Nodes() {
		w.unmount(i)
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
		w.whyStops(i, "quorate init")
	}
	w.none(from, membership.KindFormed)
	for _, i := range w.Nodes() {
		w.quorate(i, "init --yes", 0)
	}
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	w.mountAll()
}
