package accept

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// boardPassword is the file of the nodes with the password of their boards.
const boardPassword = "/etc/quorate/board-password"

// fourLevels are a switch, the two power supplies of each node, and its board by two
// protocols.
const fourLevels = `[[fence]]
nodes = ["node1", "node2", "node3"]
agent = "fence_lab"
timeout = "4s"
monitor = "5s"
delay = "200ms"
random_delay = "100ms"
options = { ip = "` + lab.FenceAddr + `", power_timeout = "60" }
plugs = { node1 = "1", node2 = "2", node3 = "3" }

[[fence]]
nodes = ["node1", "node2", "node3"]
agent = "fence_lab"
level = 2
timeout = "5s"
monitor = "off"
options = { ip = "` + lab.FenceAddr + `" }
plugs = { node1 = "1a", node2 = "2a", node3 = "3a" }

[[fence]]
nodes = ["node1", "node2", "node3"]
agent = "fence_lab"
level = 2
timeout = "5s"
monitor = "off"
unfence = true
options = { ip = "` + lab.FenceAddr + `" }
plugs = { node1 = "1b", node2 = "2b", node3 = "3b" }

[[fence]]
nodes = ["node1", "node2", "node3"]
agent = "fence_redfish"
level = 3
timeout = "40s"
monitor = "off"
options = { ip = "` + lab.FenceAddr + `", username = "lab", password_file = "` + boardPassword + `", ssl_insecure = "1", systems_uri = "/redfish/v1/Systems/{id}" }

[[fence]]
nodes = ["node1", "node2", "node3"]
agent = "fence_ipmilan"
level = 4
timeout = "40s"
monitor = "off"
options = { ip = "` + lab.FenceAddr + `", ipport = "623{id}", username = "lab", password_file = "` + boardPassword + `", lanplus = "1", cipher = "3" }
`

// What a fault concerns.
func first(m fencedev.Mode) fencedev.Fault {
	return fencedev.Fault{Mode: m, Via: "lab", Feed: fencedev.Whole, Delay: 2 * time.Second}
}
func feed(m fencedev.Mode, name string) fencedev.Fault {
	return fencedev.Fault{Mode: m, Via: "lab", Feed: name}
}

// TestFencing has fence devices be good and bad. No file system is mounted: a node
// that is evicted stays alive until its device cuts it off, so what a device did and
// what it says can be told apart.
func TestFencing(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(fencedev.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Getenv(lab.EnvGate) != "1" {
		t.Skipf("%s is not 1: these stories boot real kernels, as root", lab.EnvGate)
	}
	ipmi, err := lab.FetchIPMI(t.Context(), testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	files, err := ipmi.Files()
	if err != nil {
		t.Fatal(err)
	}
	files[boardPassword] = password
	w := newWorld(t, cluster.Options{Nodes: 3, DeadAfter: 2 * time.Second, Fences: fourLevels, Files: files})
	w.must(w.Lab.StartBoards(ipmi))
	w.story("every device can be asked", (*world).devicesAsked)
	w.story("a device that does not work is told, and that it does again", (*world).deviceTold)
	w.story("the first level fails, the second cuts", func(w *world) { w.cutBy("ab", first(fencedev.Fail)) })
	w.story("the first level hangs", func(w *world) { w.cutBy("ab", first(fencedev.Hang)) })
	w.story("the agent crashes", func(w *world) { w.cutBy("ab", first(fencedev.Crash)) })
	w.story("the agent prints garbage and fails", func(w *world) { w.cutBy("ab", first(fencedev.Garbage)) })
	w.story("the agent prints a megabyte", func(w *world) { w.cutBy("", first(fencedev.Babble)) })
	w.story("the device is slow", func(w *world) { w.cutBy("", first(fencedev.Slow)) })
	w.story("one of two power supplies cannot be cut", (*world).halfCut)
	w.story("the device lies", func(w *world) { w.deviceLies(w.pair()) })
	w.story("the device lies of a node without a daemon", func(w *world) {
		victim, on := w.pair()
		w.signal(victim, "KILL")
		w.deviceLies(victim, on)
	})
	w.story("a device is switched on before its node comes in", (*world).switchedOn)
	w.story("fence_redfish, with its password from a file", func(w *world) { w.byBoard("fence_redfish", "lab") })
	w.story("fence_ipmilan and ipmitool", func(w *world) { w.byBoard("fence_ipmilan", "lab", "redfish") })
}

// pair is a follower, the victim, and who asks for its fencing.
func (w *world) pair() (victim, on int) {
	victim = w.follower()
	return victim, w.Others(victim)[0]
}

// fences asks for a node's fencing and waits for the proof.
func (w *world) fences(on, victim int) time.Time {
	w.t.Helper()
	at := time.Now()
	w.shows(w.quorate(on, fmt.Sprintf("fence node --yes --wait --timeout 60s node%d", victim), 0), fmt.Sprintf("node%d is proved gone (agent)", victim))
	w.t.Logf("proved after %v", time.Since(at).Round(time.Millisecond))
	w.cutOff(victim)
	return at
}

// cutOff: the node is off, whatever was said.
func (w *world) cutOff(victim int) {
	w.t.Helper()
	if w.Lab.Node(victim).Powered() {
		w.t.Fatalf("node%d runs, and is proved gone", victim)
	}
}

// comesBack boots the victim and waits until all are members.
func (w *world) comesBack(victim int) {
	w.t.Helper()
	w.Misbehave()
	w.boot(victim)
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
}

// cutBy has a node fenced with these faults, and wants the feeds by which it was cut
// in the end; none: its plug.
func (w *world) cutBy(feeds string, faults ...fencedev.Fault) {
	victim, on := w.pair()
	w.Lab.Misbehave(victim, faults...)
	at := w.fences(on, victim)
	cut := ""
	for _, r := range w.Lab.PowerLog() {
		if r.Plug == victim && r.Asked.After(at) && r.Action == fencedev.Off && (r.Err == "" || r.Fault.Mode == fencedev.Babble) {
			cut += r.Feed
		}
	}
	if cut != feeds {
		w.t.Errorf("cut by the feeds %q, not %q: %+v", cut, feeds, w.Lab.PowerLog())
	}
	w.keptOutput(on, victim)
	w.comesBack(victim)
}

// keptOutput: what an agent printed is short, and fit for a terminal.
func (w *world) keptOutput(on, victim int) {
	w.t.Helper()
	out := w.quorate(on, fmt.Sprintf("fence history -v node%d", victim), 0)
	if strings.ContainsFunc(out, func(r rune) bool { return r != '\n' && (r < ' ' || r == 0x7f) }) || len(out) > 64<<10 {
		w.t.Errorf("%d bytes of history: %.2000q", len(out), out)
	}
	w.shows(out, "proved")
}

func (w *world) devicesAsked() {
	at := time.Now()
	out := w.quorate(1, "fence test node3", 0)
	if lines := strings.Count(out, "\n"); lines != 1+5 || strings.Count(out, " on ") != 5 {
		w.t.Errorf("%s", out)
	}
	w.t.Logf("\n%s", out)
	w.Lab.Misbehave(2, first(fencedev.Fail))
	w.shows(w.quorate(1, "fence test node2", 1), "told to fail")
	w.Misbehave()
	for _, r := range w.Lab.PowerLog() {
		if r.Asked.After(at) {
			w.t.Errorf("a test switched: %+v", r)
		}
	}
}

// deviceTold: without its agent a device does not work, from here.
func (w *world) deviceTold() {
	at := time.Now()
	w.run(1, "mv /usr/sbin/fence_lab /usr/sbin/fence_lab.away")
	w.warned(1, "fence_lab", true)
	w.shows(w.quorate(1, "status", 1), "does not work, asked from here for")
	w.run(1, "mv /usr/sbin/fence_lab.away /usr/sbin/fence_lab")
	w.warned(1, "fence_lab", false)
	n, what := w.count(at, membership.KindDegraded)
	if told, again := strings.Count(what, "agent is not installed"), strings.Count(what, "works again"); told == 0 || told > again {
		w.t.Errorf("told %d times that the agent is missing, and %d times that it works again, in %d events:%s", told, again, n, what)
	}
}

func (w *world) run(on int, script string) {
	w.t.Helper()
	_, err := w.Lab.Node(on).Run(w.ctx, script)
	w.must(err)
}

// warned waits until a node's status has, or has not, a warning of a device.
func (w *world) warned(on int, agent string, want bool) {
	w.t.Helper()
	w.statusOf(on, 90*time.Second, fmt.Sprintf("a warning of %s: %v", agent, want), func(s control.Status) error {
		if has := slices.ContainsFunc(s.Warnings, func(x string) bool { return strings.Contains(x, "fence device "+agent) }); has != want {
			return fmt.Errorf("node%d warns of %q", on, s.Warnings)
		}
		return nil
	})
}

// halfCut: off on one power supply is nothing.
func (w *world) halfCut() {
	victim, on := w.pair()
	w.Lab.Misbehave(victim, first(fencedev.Fail), feed(fencedev.Fail, "b"), fencedev.Fault{Mode: fencedev.Fail, Via: "redfish"}, fencedev.Fault{Mode: fencedev.Fail, Via: "ipmi"})
	at := time.Now()
	w.shows(w.quorate(on, fmt.Sprintf("fence node --yes --wait --timeout 6s node%d", victim), 2), "is not proved gone after 6s")
	if !w.Lab.Node(victim).Powered() {
		w.t.Fatalf("it was cut off by half of its power: %+v", w.Lab.PowerLog())
	}
	w.none(at, membership.KindFenced)
	w.Misbehave()
	w.fences(on, victim) // who asks again waits for what goes on anyway
	w.comesBack(victim)
}

// deviceLies: the switch says that it did what it did not, and keeps to that. Its
// victim, or the kernel alone, answers, so nobody believes it, and the next level is tried.
func (w *world) deviceLies(victim, on int) {
	w.Lab.Misbehave(victim, first(fencedev.Lie))
	at := w.fences(on, victim)
	w.shows(w.quorate(on, fmt.Sprintf("fence history node%d", victim), 0), "the device lies")
	lied, proved := time.Time{}, time.Time{}
	for _, e := range w.Events.All() {
		switch {
		case e.At.Before(at) || int(e.Subject) != victim:
		case e.Kind == membership.KindFenceEnd && strings.Contains(e.Text, "the device lies"):
			lied = e.At
		case e.Kind == membership.KindFenced && proved.IsZero():
			proved = e.At
		}
	}
	if lied.IsZero() || proved.Before(lied) {
		w.t.Errorf("the lie was told at %v, the proof at %v", lied, proved)
	}
	w.comesBack(victim)
}

// switchedOn: who boots is no member before the device of the second level that says
// unfence is switched on for it, and the wait is told.
func (w *world) switchedOn() {
	victim, on := w.pair()
	w.fences(on, victim)
	w.Lab.Misbehave(victim, feed(fencedev.Fail, "b"))
	at := time.Now()
	w.boot(victim)
	w.statusOf(victim, 30*time.Second, "it waits for its device", func(s control.Status) error {
		if !slices.ContainsFunc(s.Waits, func(x control.Wait) bool {
			return x.For == "unfencing" && strings.Contains(x.Reason, "could not be switched on")
		}) {
			return fmt.Errorf("it waits for %+v", s.Waits)
		}
		return nil
	})
	w.none(at, membership.KindView)
	w.Misbehave()
	w.must(w.WaitMembers(w.ctx, w.Nodes(), w.Nodes()))
	switched := time.Time{}
	for _, r := range w.requests(at, victim) {
		switch {
		case r.Action != fencedev.On || r.Feed != "b":
			w.t.Errorf("asked for more than that: %+v", r)
		case r.Err == "":
			switched = r.Done
		}
	}
	if view := w.first(at, membership.KindView, 0); switched.IsZero() || !switched.Before(view.At) {
		w.t.Errorf("switched on at %v, a member at %v", switched, view.At)
	}
}

// byBoard has everything fail that comes before an agent.
func (w *world) byBoard(agent string, fail ...string) {
	victim, on := w.pair()
	var faults []fencedev.Fault
	for _, via := range fail {
		faults = append(faults, fencedev.Fault{Mode: fencedev.Fail, Via: via})
	}
	w.Lab.Misbehave(victim, faults...)
	w.fences(on, victim)
	w.shows(w.quorate(on, fmt.Sprintf("fence history node%d", victim), 0), "agent "+agent)
	for _, i := range w.Others(victim) {
		if log := w.Log(w.ctx, i, 10000); strings.Contains(log, "password="+fencedev.Password) {
			w.t.Errorf("node%d's log has the password", i)
		}
	}
	w.comesBack(victim)
}
