package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/fencetest"
)

// within is a job that may run for so long.
func within(d time.Duration) membership.FenceJob {
	job := soon()
	job.Until = boottime().Add(d)
	return job
}

// TestNothingBeginsWhenTheTimeIsOver: be the deadline still to come.
func TestNothingBeginsWhenTheTimeIsOver(t *testing.T) {
	lab := fencetest.NewLab(t)
	for _, d := range []time.Duration{-time.Second, 0} {
		res := mk(lab.Dir, lab.Device("a", "ok")).Fence(t.Context(), within(d))
		if res.OK || !strings.Contains(res.Err, ErrOver.Error()) || lab.Log() != nil {
			t.Errorf("%+v, asked %v", res, lab.Log())
		}
	}
}

// TestOverJustBeforeExec: the last look at the clock is the one that counts, and so is
// one just after.
func TestOverJustBeforeExec(t *testing.T) {
	for calls := 2; calls <= 3; calls++ { // start of the job, what is left, before exec, after it
		lab := fencetest.NewLab(t)
		n := 0
		clock := func() membership.Mono {
			if n++; n > calls {
				return 1 << 40
			}
			return 1
		}
		f := New(membership.Config{Devices: []membership.Device{lab.Device("a", "hang")}}, WithDirs(lab.Dir), WithClock(clock))
		res := f.Fence(t.Context(), membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: 1 << 60, Until: 1 << 40})
		if res.OK || !strings.Contains(res.Err, ErrOver.Error()) || calls == 2 && lab.Log() != nil {
			t.Errorf("%d: %+v, asked %v", calls, res, lab.Log())
		}
		if left := lab.Survivors(); left != nil {
			t.Error(left)
		}
	}
}

// TestWhatRunsIsKilledWhenTheTimeIsOver: long before its device's timeout, and no
// further level begins.
func TestWhatRunsIsKilledWhenTheTimeIsOver(t *testing.T) {
	lab := fencetest.NewLab(t)
	second := lab.Device("b", "ok")
	second.Level = 2
	begin := time.Now()
	res := mk(lab.Dir, lab.Device("a", "hang"), second).Fence(t.Context(), within(2*time.Second))
	if took := time.Since(begin); res.OK || !strings.Contains(res.Err, ErrOver.Error()) || took < time.Second || took > 10*time.Second {
		t.Errorf("%+v after %v", res, took)
	}
	if got := strings.Join(lab.Log(), ","); got != "off a" {
		t.Errorf("asked %s", got)
	}
	if left := lab.Survivors(); left != nil {
		t.Error(left)
	}
}

// TestTheNextLevelBeginsInTime: a failure of the first leaves the second what time there is.
func TestTheNextLevelBeginsInTime(t *testing.T) {
	for over, want := range map[bool]string{false: "off a,off b,status b", true: "off a"} {
		lab := fencetest.NewLab(t)
		second := lab.Device("b", "ok")
		second.Level = 2
		clock := func() membership.Mono {
			if over && lab.Log() != nil {
				return 1 << 40
			}
			return 1
		}
		f := New(membership.Config{Devices: []membership.Device{lab.Device("a", "fail"), second}}, WithDirs(lab.Dir), WithClock(clock))
		res := f.Fence(t.Context(), membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: 1 << 60, Until: 1 << 40})
		if got := strings.Join(lab.Log(), ","); got != want || res.OK == over || over && !strings.Contains(res.Err, ErrOver.Error()) {
			t.Errorf("over %v: %+v, asked %s", over, res, got)
		}
	}
}

// TestAStatusMayComeLater: it cuts nobody off, and who is off then was cut in time.
func TestAStatusMayComeLater(t *testing.T) {
	lab := fencetest.NewLab(t)
	clock := func() membership.Mono {
		if len(lab.Log()) > 1 { // off has ended, and it was asked for its status
			return 1<<40 + 1
		}
		return 1<<40 - 1e9
	}
	d := lab.Device("a", "slow") // on at first, and off when it is asked again
	f := New(membership.Config{Devices: []membership.Device{d}}, WithDirs(lab.Dir), WithClock(clock), WithVerify(time.Minute, time.Millisecond))
	res := f.Fence(t.Context(), membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: 1 << 60, Until: 1 << 40})
	if !res.OK || !strings.HasPrefix(strings.Join(lab.Log(), ","), "off a,status a,status a") {
		t.Errorf("%+v, asked %v", res, lab.Log())
	}
}

// TestWarmIsOver: nothing is told after it, and who was told while it passed is killed.
func TestWarmIsOver(t *testing.T) {
	for calls := range 2 {
		r := newRecorder(t)
		n := 0
		f := r.fencer()
		f.devices[1][0].Options["x"] = strings.Repeat("x", 60<<10) // it cannot be through when the clock is read again
		f.Prepare(1)
		f.up(1)
		r.started(2)
		f.now = func() membership.Mono {
			if n++; n > calls+2 { // start of the job, what is left, before the first byte, then
				return 1000
			}
			return 1
		}
		res := f.Fence(t.Context(), membership.FenceJob{Victim: membership.Incarnation{Node: 1}, Deadline: 1 << 60, Until: 1000})
		if res.OK || !strings.Contains(res.Err, ErrOver.Error()) || r.running() {
			t.Errorf("%d: %+v", calls, res)
		}
		if got := r.lines("read"); calls == 0 && got != nil {
			t.Errorf("told %d lines", len(got))
		}
	}
}
