package accept

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
)

// TestSystemd: nodes with systemd as their process 1, quorate installed with
// `make install` and enabled, and GFS2 in fstab. Nobody starts, mounts, unmounts or leaves by hand.
func TestSystemd(t *testing.T) {
	w := newWorld(t, cluster.Options{Nodes: 3, Systemd: true, DeadAfter: 2 * time.Second})
	w.must(w.Mkfs(w.ctx, 1))
	w.must(w.Each(w.ctx, w.Nodes(), w.AddFstab))
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
	w.must(w.Each(w.ctx, w.Nodes(), w.addService))
	w.story("systemd understands the unit", (*world).unit)
	w.story("a stop under a mounted file system is refused", (*world).stopRefused)
	w.story("a node reboots", (*world).reboots)
	w.story("a node reboots whose file system is in use to the end", (*world).rebootsBusy)
	w.story("all nodes reboot", (*world).allReboot)
}

// service is a program of a user that needs the file system and nothing else.
const service = `[Unit]
RequiresMountsFor=` + cluster.MountAt + `
[Service]
ExecStart=` + cluster.Labnode + ` append ` + cluster.MountAt + `/service-%%b --id %d --rate 20
[Install]
WantedBy=multi-user.target
`

func (w *world) addService(ctx context.Context, i int) error {
	n := w.Lab.Node(i)
	if err := n.PutReader(ctx, strings.NewReader(fmt.Sprintf(service, i)), "/etc/systemd/system/user.service", 0o644); err != nil {
		return err
	}
	_, err := n.Run(ctx, "systemctl enable --now user.service")
	return err
}

// serves waits until the service of a node has appended after a time.
func (w *world) serves(i int, after time.Time) {
	w.t.Helper()
	w.within(60*time.Second, fmt.Sprintf("an append of the service on node%d", i), func(ctx context.Context) error {
		_, err := w.Events.Wait(ctx, after, func(e cluster.Event) bool { return e.Node == i && e.Told == "append" })
		return err
	})
}

// silence is a time without an append of a node's service.
type silence struct {
	node     int
	from, to time.Time
}

func (s silence) long() time.Duration { return s.to.Sub(s.from) }

// worst is the longest silence of one of the nodes in a time.
func (w *world) worst(from, to time.Time, nodes ...int) (worst silence) {
	last := map[int]time.Time{}
	for _, i := range nodes {
		last[i] = from
	}
	appended := func(i int, at time.Time) {
		if s := (silence{i, last[i], at}); s.long() > worst.long() {
			worst = s
		}
		last[i] = at
	}
	for _, e := range w.Events.All() {
		if e.Told == "append" && slices.Contains(nodes, e.Node) && e.At.After(from) && e.At.Before(to) {
			appended(e.Node, e.At)
		}
	}
	for _, i := range nodes {
		appended(i, to)
	}
	return worst
}

// unit asks systemd what it has made of the unit and of the line in fstab.
func (w *world) unit() {
	n := w.Lab.Node(1)
	show := func(unit, property string) []string {
		out, err := n.Run(w.ctx, fmt.Sprintf("systemctl show --value -p %s %s", property, unit))
		w.must(err)
		return strings.Fields(out)
	}
	for _, c := range []struct{ unit, property, has string }{
		{cluster.Unit, "Type", "notify"}, {cluster.Unit, "Names", "dlm.service"}, {cluster.Unit, "ActiveState", "active"},
		{cluster.Unit, "SendSIGKILL", "no"}, {cluster.Unit, "OOMScoreAdjust", "-1000"}, {cluster.Unit, "UnitFileState", "enabled"},
		{cluster.Unit, "Before", "remote-fs-pre.target"}, {cluster.Unit, "After", "network-online.target"}, {cluster.Unit, "Conflicts", "corosync.service"},
		{cluster.MountUnit, "After", "remote-fs-pre.target"}, {cluster.MountUnit, "ActiveState", "active"}, {"networking.service", "Before", "network-online.target"},
	} {
		if got := show(c.unit, c.property); !slices.Contains(got, c.has) {
			w.t.Errorf("%s of %s is %v, without %s", c.property, c.unit, got, c.has)
		}
	}
	out, err := n.Run(w.ctx, "cat /proc/$(pidof quorated)/oom_score_adj; stat -c '%a %n' /dev/dlm-monitor /dev/dlm-control; getent group quorate | cut -d: -f1; ls -l /dev/misc | grep -c dlm")
	w.must(err)
	if out != "-1000\n600 /dev/dlm-monitor\n666 /dev/dlm-control\nquorate\n3\n" {
		w.t.Errorf("score, devices and group: %q", out)
	}
	out, err = n.Run(w.ctx, "systemd-analyze cat-config systemd/sleep.conf | grep -c '^Allow.*=no'")
	w.must(err)
	if out != "4\n" {
		w.t.Errorf("the machine may sleep: %q", out)
	}
	r, err := n.Exec(w.ctx, "systemd-analyze verify --man=no "+cluster.Unit+" 2>&1 | grep quorated; journalctl -b --no-pager _PID=1 | grep -i 'quorated.service: '; systemctl --failed --no-legend")
	w.must(err)
	if r.Stdout != "" {
		w.t.Errorf("systemd complains: %s", r.Stdout)
	}
}

// stopRefused: an operator who stops or restarts the service is told at once what to do.
func (w *world) stopRefused() {
	from := time.Now()
	n := w.Lab.Node(2)
	for _, verb := range []string{"stop", "restart"} {
		r, err := n.Exec(w.ctx, "systemctl "+verb+" "+cluster.Unit)
		w.must(err)
		if r.Code == 0 || !strings.Contains(r.Stderr, "refused") {
			w.t.Errorf("systemctl %s: exit %d: %s", verb, r.Code, r.Stderr)
		}
	}
	out, err := n.Run(w.ctx, "systemctl is-active "+cluster.Unit+"; systemctl status "+cluster.Unit)
	w.must(err)
	if !strings.HasPrefix(out, "active") || !strings.Contains(out, "quorate leave") {
		w.t.Errorf("the status does not say how to stop it: %s", out)
	}
	r, err := n.Exec(w.ctx, "quorate leave")
	w.must(err)
	if r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, cluster.Table) {
		w.t.Errorf("quorate leave: exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	w.none(from, evil...)
}

// quietTime is how long nothing happens, to compare with.
const quietTime = 10 * time.Second

// stallOfReboot is how much longer than without a fault the others may wait.
const stallOfReboot = 300 * time.Millisecond

// reboots: a reboot is a clean leave, and what comes up mounts and serves again.
func (w *world) reboots() {
	i := w.follower()
	rest := w.Others(i)
	from := time.Now()
	time.Sleep(quietTime) // the control is so long
	quiet := w.worst(from, time.Now(), rest...)
	from = time.Now()
	up := w.reboot(i)
	stall, back := w.worst(from, up, rest...), w.worst(up, time.Now(), rest...)
	w.t.Logf("the longest silence: %v, on node%d %v after the order to reboot; while it mounted again %v; without a reboot %v",
		stall.long().Round(time.Millisecond), stall.node, stall.from.Sub(from).Round(time.Millisecond), back.long().Round(time.Millisecond), quiet.long().Round(time.Millisecond))
	if stall.long() > quiet.long()+stallOfReboot {
		w.t.Errorf("the others waited %v, without a reboot %v", stall.long(), quiet.long())
	}
	w.none(from, evil...)
	w.stopOrder(i)
}

// reboot reboots nodes and waits until their services are there again. It returns
// when all were up again and had not mounted yet.
func (w *world) reboot(nodes ...int) (up time.Time) {
	w.t.Helper()
	at, boots := time.Now(), map[int]string{}
	for _, i := range nodes {
		boots[i] = w.Lab.Node(i).BootID()
		w.must(w.markConsole(i))
	}
	w.must(w.Each(w.ctx, nodes, func(ctx context.Context, i int) error {
		_, err := w.Lab.Node(i).Daemon(ctx, "", "systemctl", "reboot")
		return err
	}))
	w.within(90*time.Second, "up again", func(ctx context.Context) error {
		return w.Each(ctx, nodes, func(ctx context.Context, i int) error { return w.Lab.Node(i).WaitReboot(ctx, boots[i]) })
	})
	up = time.Now()
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
	for _, i := range nodes {
		w.serves(i, up)
	}
	w.t.Logf("nodes %v: up again after %v, in service after %v", nodes, up.Sub(at).Round(100*time.Millisecond), time.Since(at).Round(100*time.Millisecond))
	return up
}

const consoleMark = "--- reboot ---"

// markConsole writes a line into the console log, to find the place again.
func (w *world) markConsole(i int) error {
	_, err := w.Lab.Node(i).Run(w.ctx, "echo '"+consoleMark+"' >/dev/console")
	return err
}

// stopOrder reads the order of the last shutdown from the console: the service,
// the file system, quorated, the network.
func (w *world) stopOrder(i int) {
	w.t.Helper()
	b, err := os.ReadFile(w.Lab.Node(i).ConsoleLog())
	w.must(err)
	text := string(b)
	text = text[strings.LastIndex(text, consoleMark):]
	at := -1
	for _, s := range []struct{ verb, unit string }{
		{"Stopped", "user.service"}, {"Unmounted", cluster.MountUnit}, {"Stopped", cluster.Unit}, {"Stopped", "networking.service"},
	} {
		next := slices.IndexFunc(strings.Split(text, "\n"), func(l string) bool { return strings.Contains(l, s.verb) && strings.Contains(l, s.unit) })
		if next <= at {
			w.t.Fatalf("%s %s is in line %d of the shutdown, after line %d:\n%s", s.verb, s.unit, next, at, text)
		}
		at = next
	}
}

// rebootsBusy: a program that no unit stops has a file open. The file system cannot
// be unmounted, so quorated must not leave: the others fence the node, which may
// be in the middle of it, and the shutdown does not hang.
func (w *world) rebootsBusy() {
	i := w.follower()
	rest := w.Others(i)
	release, err := w.HoldFlock(w.ctx, i, nil)
	w.must(err)
	defer release()
	n, at := w.Lab.Node(i), time.Now()
	boot := n.BootID()
	_, err = n.Daemon(w.ctx, "", "systemctl", "reboot")
	w.must(err)
	w.within(90*time.Second, "the fencing", func(ctx context.Context) error {
		_, err := w.Events.Wait(ctx, at, cluster.Of(rest[0], membership.KindFenced))
		return err
	})
	w.t.Logf("fenced after %v", time.Since(at).Round(100*time.Millisecond))
	w.must(w.WaitLockspace(w.ctx, rest, rest))
	w.fencedBeforeStart(i, at, rest)
	for _, j := range rest {
		w.serves(j, time.Now())
	}
	w.within(90*time.Second, "boot", func(ctx context.Context) error {
		if err := n.Boot(ctx); !errors.Is(err, lab.ErrRunning) {
			return err
		}
		return n.WaitReboot(ctx, boot) // it was done before the device was asked
	})
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	w.must(w.WaitLockspace(w.ctx, w.Nodes(), w.Nodes()))
	w.serves(i, time.Now())
}

// allReboot: every node is shut down at once, and everything is there again by
// itself. The last ones have no quorum that could agree to their leave: they are
// evicted later, and nobody is fenced.
func (w *world) allReboot() {
	from := time.Now()
	w.reboot(w.Nodes()...)
	w.none(from, membership.KindFenceStart, membership.KindBroken)
	for _, i := range w.Nodes() {
		w.stopOrder(i)
	}
}
