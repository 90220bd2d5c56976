package accept

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// How the fence devices behave.
var (
	honest = fencedev.Fault{}
	slow   = fencedev.Fault{Mode: fencedev.Slow, Delay: 8 * time.Second}
)

var evil = []membership.Kind{membership.KindEvicted, membership.KindFenceStart, membership.KindFenced, membership.KindBroken}

func TestFiveMinutesOfPeace(t *testing.T) {
	w := newMounted(t, cluster.Options{Nodes: 3, Profile: "auto"}) // what a user gets who says nothing
	from := time.Now()
	wr := w.write("peace", 50, w.Nodes()...)
	for range 10 { // so that a failure tells when
		ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
		e, err := w.Events.Wait(ctx, from, func(e cluster.Event) bool { return slices.Contains(evil, e.Kind) })
		cancel()
		if err == nil {
			t.Fatalf("%v after the start: node%d %s: %s", e.At.Sub(from).Round(time.Millisecond), e.Node, e.Kind, e.Text)
		}
		for _, i := range w.Nodes() {
			wr.progress(i, time.Now())
		}
	}
	wr.stop()
	w.none(from, evil...)
	suspicions, _ := w.count(from, membership.KindSuspect)
	t.Logf("%d suspicions, all withdrawn", suspicions)
	for _, i := range w.Nodes() {
		wr.verify(i, w.Nodes()...)
	}
}

// leaveInTurn: unmount, leave, return, mount: nobody is fenced, no journal is replayed.
func (w *world) leaveInTurn() {
	from := time.Now()
	for _, i := range w.Nodes() {
		rest, at := w.Others(i), time.Now()
		w.unmount(i)
		w.must(w.WaitLockspace(w.ctx, rest, rest))
		w.leave(i)
		w.rejoins(i)
		w.mountLast(i)
		// A mount looks at its own journal; nobody may have to look at another's.
		for _, e := range w.Events.All() {
			if e.At.After(at) && e.Kind == membership.KindJournal && e.Node != i {
				w.t.Errorf("node%d: %s", e.Node, e.Text)
			}
		}
	}
	w.none(from, evil...)
}

// daemonKilled: SIGTERM is refused while a file system is mounted; after SIGKILL
// the kernel stops, the peers fence the node, and a new daemon does not adopt.
func (w *world) daemonKilled() {
	victim := w.follower()
	rest := w.Others(victim)
	n := w.Lab.Node(victim)
	_, err := n.Run(w.ctx, "kill -TERM $(pidof quorated)")
	w.must(err)
	w.within(30*time.Second, "the refusal in the log", func(ctx context.Context) error {
		return cluster.Until(ctx, 100*time.Millisecond, func() error {
			if l := w.Log(ctx, victim, 200); !strings.Contains(l, "not leaving") || !strings.Contains(l, cluster.Table) {
				return fmt.Errorf("the log does not say why it stays: %s", l)
			}
			return nil
		})
	})
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	at := time.Now()
	// The devices work slowly, so that there is time to look at the node before it is cut off.
	w.Misbehave(slow)
	defer w.Misbehave(honest)
	r, err := n.Exec(w.ctx, "kill -KILL $(pidof quorated); sleep 0.2; /usr/local/sbin/quorated; echo exit $?; dmesg | grep -c 'no userland control daemon'")
	w.must(err)
	if !strings.Contains(r.Stdout, "exit 1") || !strings.Contains(r.Stdout+r.Stderr, "did not start") || !strings.Contains(r.Stdout+r.Stderr, cluster.Table) {
		w.t.Fatalf("a new daemon must refuse to adopt, with the reason: %s%s", r.Stdout, r.Stderr)
	}
	if strings.HasSuffix(strings.TrimSpace(r.Stdout), "\n0") {
		w.t.Fatalf("the kernel did not stop its lockspaces: %s", r.Stdout)
	}
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	w.fencedBeforeStart(victim, at, rest)
	w.Misbehave(honest)
	w.back(victim)
}

// strangers: wrong keys, other clusters, double ids and noise are refused in
// words, and nobody else notices.
func (w *world) strangers() {
	from := time.Now()
	n1 := w.Lab.Node(1)
	for _, port := range []string{"21060", "21061"} {
		w.noise(n1.Addr(), port)
	}
	w.within(30*time.Second, "the refusal of the noise in the events", func(ctx context.Context) error {
		_, err := w.Events.Wait(ctx, from, func(e cluster.Event) bool { return e.Node == 1 && e.Kind == membership.KindRefused })
		return err
	})
	for _, s := range []struct{ name, edit, want string }{
		{"another key", "rm $d/quorate.key; /usr/local/sbin/quorate keygen -f $d/quorate.key", "secrets differ"},
		{"another cluster", `sed -i 's/name = "lab"/name = "other"/' $d/quorate.toml; rm -r /var/lib/quorate/raft`, "cluster"},
	} {
		w.imposter(s.name, s.edit, s.want)
	}
	r, err := n1.Exec(w.ctx, `cp -r /etc/quorate /tmp/dup; sed -i 's/^id = 2$/id = 1/' /tmp/dup/quorate.toml; /usr/local/sbin/quorated -config /tmp/dup/quorate.toml`)
	w.must(err)
	if r.Code == 0 || !strings.Contains(r.Stderr, "quorate.toml:") || !strings.Contains(r.Stderr, "id") {
		w.t.Fatalf("a duplicate id must be refused with its line: exit %d %s", r.Code, r.Stderr)
	}
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
	w.none(from, evil...)
}

func (w *world) noise(host, port string) {
	w.t.Helper()
	junk := strings.Repeat("\x16\x03\x01\xff\xff GET / HTTP/1.1\r\n\x00", 500)
	for _, network := range []string{"tcp", "udp"} {
		for i := range 20 {
			c, err := w.Lab.Dial(w.ctx, network, net.JoinHostPort(host, port))
			if err != nil {
				break // nobody listens there with this protocol
			}
			_, _ = c.Write([]byte(junk[i : i+1+i*40])) // the other end may hang up at once
			_ = c.Close()
		}
	}
}

// unprivileged: a daemon that may have neither real-time priority nor locked memory works, and
// everybody who asks is told what it lacks and that its node is not fit for lan.
func (w *world) unprivileged() {
	victim := w.follower()
	n := w.Lab.Node(victim)
	w.unmount(victim)
	w.leave(victim)
	from := time.Now()
	w.must(w.Install(w.ctx, victim))
	_, err := n.Daemon(w.ctx, cluster.LogFile, strings.Fields("setpriv --bounding-set=-sys_nice,-ipc_lock prlimit --rtprio=0 --memlock=0 /usr/local/sbin/quorated")...)
	w.must(err)
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	const starved, unlocked = "no real-time priority", "memory is not locked"
	w.statusOf(victim, 10*time.Second, "it says what it lacks", func(s control.Status) error {
		if all := strings.Join(s.Warnings, "\n"); s.Level < control.Degraded || !strings.Contains(all, starved) || !strings.Contains(all, unlocked) {
			return fmt.Errorf("level %v, warnings: %q", s.Level, s.Warnings)
		}
		return nil
	})
	w.statusOf(w.Others(victim)[0], 10*time.Second, "the others know that it is not fit for lan", func(s control.Status) error {
		for _, x := range s.Nodes {
			if int(x.ID) == victim && x.Lan != "" && x.Lan != node.Fit {
				return nil
			}
		}
		return fmt.Errorf("nodes: %+v", s.Nodes)
	})
	w.leave(victim)
	w.rejoins(victim)
	w.mountLast(victim)
	w.statusOf(victim, 10*time.Second, "it lacks nothing", func(s control.Status) error {
		if all := strings.Join(s.Warnings, "\n"); strings.Contains(all, starved) || strings.Contains(all, unlocked) {
			return fmt.Errorf("warnings: %q", s.Warnings)
		}
		return nil
	})
	w.none(from, evil...)
}

// imposter restarts a node's daemon with something wrong, sees it refused in
// words on both sides, and puts it right again.
func (w *world) imposter(name, edit, want string) {
	w.t.Helper()
	victim := w.follower()
	rest := w.Others(victim)
	n := w.Lab.Node(victim)
	w.unmount(victim)
	_, err := n.Run(w.ctx, "/usr/local/sbin/quorate leave && d=/etc/quorate && "+edit)
	w.must(err)
	from := time.Now()
	_, err = n.Daemon(w.ctx, cluster.LogFile, "/usr/local/sbin/quorated")
	w.must(err)
	w.within(40*time.Second, name+" refused in words at both ends", func(ctx context.Context) error {
		return cluster.Until(ctx, 200*time.Millisecond, func() error {
			told := map[bool]bool{} // by whether it was the imposter that told
			for _, e := range w.Events.All() {
				if e.At.After(from) && e.Kind == membership.KindRefused && strings.Contains(e.Text, want) {
					told[e.Node == victim] = true
				}
			}
			if !told[true] || !told[false] {
				return fmt.Errorf("%s: refusals that speak of %q: imposter %v, others %v", name, want, told[true], told[false])
			}
			return nil
		})
	})
	w.must(w.WaitMembers(w.ctx, rest, rest))
	_, err = n.Run(w.ctx, "kill -KILL $(pidof quorated)")
	w.must(err)
	w.rejoins(victim)
	w.mountLast(victim)
}
