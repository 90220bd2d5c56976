package fencetest

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
)

// generous is the timeout of what is not meant to reach it.
const generous = 30 * time.Second

// Make returns the Fencer under test, that finds its agents in dir and takes a
// device's word for on no longer than 2 s.
type Make func(dir string, devices ...membership.Device) membership.Fencer

// now is the clock of deadlines.
func now() membership.Mono {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err)
	}
	return membership.Mono(ts.Nano())
}

func job() membership.FenceJob {
	return membership.FenceJob{Victim: membership.Incarnation{Node: 1, Boot: "boot"}, Attempt: 1, Deadline: now().Add(time.Minute)}
}

// story is one device on one day.
type story struct {
	mode    string
	timeout time.Duration
	ok      bool
	err     string   // part of the error
	log     []string // what was asked; nil: not looked at
	output  string   // part of the output
}

var stories = []story{
	{mode: "ok", ok: true, log: []string{"off a", "status a"}, output: "Success: Powered OFF"},
	{mode: "fail", err: "exit status 1", log: []string{"off a"}, output: "Unable to connect"},
	{mode: "hang", timeout: 300 * time.Millisecond, err: "did not finish in time", log: []string{"off a"}},
	{mode: "crash", err: "segmentation fault", log: []string{"off a"}},
	{mode: "garbage", ok: true, log: []string{"off a", "status a"}, output: "Success: Powered OFF"},
	{mode: "megabyte", ok: true, output: "the end"},
	{mode: "lying", err: "then said that the node is on"},
	{mode: "statusfail", err: "could then not be asked"},
	{mode: "statushang", timeout: 500 * time.Millisecond, err: "could then not be asked"},
	{mode: "statusmegabyte", ok: true, output: "Status: OFF", log: []string{"off a", "status a"}},
	{mode: "statusgarbage", err: "could then not be asked"},
	{mode: "statuscrash", err: "could then not be asked"},
	{mode: "slow", ok: true, log: []string{"off a", "status a", "status a", "status a"}},
	{mode: "escape", ok: true},
	{mode: "nonsense", err: "exit status 1"},
}

// Run is the suite for a Fencer that runs agents.
func Run(t *testing.T, mk Make) {
	for _, s := range stories {
		t.Run(s.mode, func(t *testing.T) { s.run(t, mk) })
	}
	t.Run("deadline", func(t *testing.T) { deadline(t, mk) })
	t.Run("cancel", func(t *testing.T) { cancelled(t, mk) })
	t.Run("levels", func(t *testing.T) { levels(t, mk) })
	t.Run("no device", func(t *testing.T) { noDevice(t, mk) })
	t.Run("missing agent", func(t *testing.T) { missing(t, mk) })
	t.Run("secret", func(t *testing.T) { secret(t, mk) })
	t.Run("together", func(t *testing.T) { together(t, mk) })
	t.Run("monitor", func(t *testing.T) { monitor(t, mk) })
}

func (s story) run(t *testing.T, mk Make) {
	if s.mode == "escape" && os.Geteuid() != 0 {
		t.Skip("needs root: what leaves its session is only caught by a pid namespace")
	}
	lab := NewLab(t)
	d := lab.Device("a", s.mode)
	if s.timeout != 0 {
		d.Timeout = s.timeout
	}
	res := mk(lab.Dir, d).Fence(t.Context(), job())
	check(t, lab, res)
	if res.OK != s.ok || !strings.Contains(res.Err, s.err) || res.Agent != Program {
		t.Errorf("got %+v", res)
	}
	if !strings.Contains(res.Output, s.output) {
		t.Errorf("output %q", res.Output)
	}
	if s.log != nil && strings.Join(lab.Log(), ",") != strings.Join(s.log, ",") {
		t.Errorf("asked %v, want %v", lab.Log(), s.log)
	}
}

// check is what holds of every result.
func check(t *testing.T, lab *Lab, res membership.FenceResult) {
	t.Helper()
	if res.OK != (res.Err == "") {
		t.Errorf("OK and Err disagree: %+v", res)
	}
	if len(res.Output) > 4<<10 {
		t.Errorf("%d bytes of output", len(res.Output))
	}
	for _, r := range res.Output {
		if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			t.Errorf("output has %q", r)
			break
		}
	}
	nothingLeft(t, lab, res.OK)
}

// nothingLeft: when an agent has failed, nothing that it started lives on. Success
// is told at once; what is left then is being killed.
func nothingLeft(t *testing.T, lab *Lab, success bool) {
	t.Helper()
	left := lab.Survivors()
	for end := time.Now().Add(generous); success && len(left) > 0 && time.Now().Before(end); left = lab.Survivors() {
		time.Sleep(5 * time.Millisecond)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func deadline(t *testing.T, mk Make) {
	lab := NewLab(t)
	j := job()
	j.Deadline = now() - 1
	res := mk(lab.Dir, lab.Device("a", "ok")).Fence(t.Context(), j)
	check(t, lab, res)
	if res.OK || !strings.Contains(res.Err, "deadline") {
		t.Errorf("got %+v", res)
	}
	if lab.Log() != nil {
		t.Errorf("executed after the deadline: %v", lab.Log())
	}
}

func cancelled(t *testing.T, mk Make) {
	lab := NewLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan membership.FenceResult, 1)
	go func() { done <- mk(lab.Dir, lab.Device("a", "hang")).Fence(ctx, job()) }()
	for lab.Log() == nil {
		time.Sleep(time.Millisecond) // until the agent runs
	}
	cancel()
	res := <-done
	check(t, lab, res)
	if res.OK || res.Took > generous/2 {
		t.Errorf("got %+v", res)
	}
}

func levels(t *testing.T, mk Make) {
	tests := []struct {
		name    string
		devices []string // level, name, mode
		ok      bool
		log     string
	}{
		{"first level is enough", []string{"2 b ok", "1 a ok"}, true, "off a,status a"},
		{"next on failure", []string{"1 a fail", "2 b ok"}, true, "off a,off b,status b"},
		{"next on a lie", []string{"1 a lying", "2 b ok"}, true, ""},
		{"all of a level", []string{"1 a ok", "1 b ok"}, true, "off a,off b,status a,status b"},
		{"half a level is none", []string{"1 a ok", "1 b fail"}, false, "off a,off b"},
		{"a lying half", []string{"1 a ok", "1 b lying"}, false, ""},
		{"half, then the next", []string{"1 a ok", "1 b fail", "3 c ok"}, true, "off a,off b,off c,status c"},
		{"none", []string{"1 a fail", "2 b fail"}, false, "off a,off b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lab := NewLab(t)
			var devices []membership.Device
			for _, s := range tt.devices {
				f := strings.Fields(s)
				d := lab.Device(f[1], f[2])
				d.Level = int(f[0][0] - '0')
				devices = append(devices, d)
			}
			res := mk(lab.Dir, devices...).Fence(t.Context(), job())
			check(t, lab, res)
			if got := strings.Join(lab.Log(), ","); res.OK != tt.ok || tt.log != "" && got != tt.log {
				t.Errorf("%+v\nasked %s", res, got)
			}
		})
	}
}

func noDevice(t *testing.T, mk Make) {
	lab := NewLab(t)
	d := lab.Device("a", "ok")
	d.Nodes = []membership.NodeID{2}
	f := mk(lab.Dir, d)
	res := f.Fence(t.Context(), job())
	check(t, lab, res)
	if res.OK || !strings.Contains(res.Err, "[[fence]]") || lab.Log() != nil {
		t.Errorf("got %+v, asked %v", res, lab.Log())
	}
	if f.Monitor(t.Context(), 1) == nil {
		t.Error("Monitor is content without a device")
	}
}

func missing(t *testing.T, mk Make) {
	lab := NewLab(t)
	d := lab.Device("a", "ok")
	d.Agent = "fence_nowhere"
	res := mk(lab.Dir, d).Fence(t.Context(), job())
	check(t, lab, res)
	if res.OK || !strings.Contains(res.Err, "not installed") {
		t.Errorf("got %+v", res)
	}
}

func secret(t *testing.T, mk Make) {
	lab := NewLab(t)
	d := lab.Device("a", "secret")
	d.Options["password"] = "hunter2"
	res := mk(lab.Dir, d).Fence(t.Context(), job())
	check(t, lab, res)
	if !res.OK || strings.Contains(res.Output+res.Err, "hunter2") || strings.Contains(res.Output, "c2VjcmV0") || !strings.Contains(res.Output, "***") {
		t.Errorf("got %+v", res)
	}
}

func together(t *testing.T, mk Make) {
	lab := NewLab(t)
	var devices []membership.Device
	for i, name := range []string{"a", "b", "c", "d"} {
		d := lab.Device(name, "ok")
		d.Nodes = []membership.NodeID{membership.NodeID(i + 1)}
		devices = append(devices, d)
	}
	f := mk(lab.Dir, devices...)
	done := make(chan membership.FenceResult, len(devices))
	for i := range devices {
		j := job()
		j.Victim.Node = membership.NodeID(i + 1)
		go func() { done <- f.Fence(t.Context(), j) }()
	}
	for range devices {
		if res := <-done; !res.OK {
			t.Errorf("got %+v", res)
		}
	}
	nothingLeft(t, lab, true)
}

func monitor(t *testing.T, mk Make) {
	lab := NewLab(t)
	if err := mk(lab.Dir, lab.Device("a", "ok")).Monitor(t.Context(), 1); err != nil {
		t.Error(err)
	}
	hang := lab.Device("b", "hang")
	hang.Timeout = 300 * time.Millisecond
	err := mk(lab.Dir, lab.Device("a", "fail"), hang).Monitor(t.Context(), 1)
	if err == nil || !strings.Contains(err.Error(), "Unable to connect") || !strings.Contains(err.Error(), "in time") {
		t.Errorf("got %v", err)
	}
	for _, l := range lab.Log() {
		if !strings.HasPrefix(l, "monitor ") {
			t.Errorf("Monitor did %q", l)
		}
	}
	nothingLeft(t, lab, false)
}

// RunRefusing is the suite for a Fencer that never succeeds by itself.
func RunRefusing(t *testing.T, f membership.Fencer, words ...string) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []context.Context{t.Context(), ctx} {
		res := f.Fence(c, job())
		if res.OK || res.Err == "" {
			t.Errorf("got %+v", res)
		}
		for _, w := range words {
			if !strings.Contains(res.Err, w) {
				t.Errorf("%q is not in %q", w, res.Err)
			}
		}
	}
}
