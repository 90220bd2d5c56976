package main

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
)

func TestTable(t *testing.T) {
	rows := []row{
		{Kernel: "uml-6.1", Release: "6.1.1", Profile: "lan", DeadMS: 500, OK: true, TookS: 61.2, Report: &report{RejoinMS: 900,
			Recovery: cluster.Recovery{StallMS: 801, LastMS: 950, OursMS: 420, DetectMS: 210, AgreeMS: 240, FenceMS: 100, KernelMS: 381}}},
		{Kernel: "qemu-7.3", Profile: "safe", DeadMS: 2000, Error: "no boot\nits console", TookS: 300},
	}
	want := `kernel    release  result  profile  dead_after  stall_ms  ours_ms  detect  agree  fence  kernel  rejoin  took_s
uml-6.1   6.1.1    ok      lan      500         801/950   420      210     240    100    381     900     61
qemu-7.3           FAILED  safe     2000        -         -        -       -      -      -       -       300
qemu-7.3: no boot
`
	if got := table(rows); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if line, ok := verdict(rows, 2); ok || line != "demo-matrix: FAILED kernels=1/2" {
		t.Error(line, ok)
	}
	if line, ok := verdict(rows[:1], 1); !ok || line != "demo-matrix: ok kernels=1/1" {
		t.Error(line, ok)
	}
	if _, ok := verdict(rows[:1], 2); ok {
		t.Error("one that never ran is taken for good")
	}
}

func TestTimesOn(t *testing.T) {
	for _, k := range lab.KernelNames() {
		profile, deadAfter := timesOn(k)
		if emulated := strings.HasPrefix(k, "qemu-"); emulated != (profile == "safe") || emulated != (deadAfter >= 2*time.Second) {
			t.Errorf("%s: %s, %v", k, profile, deadAfter)
		}
	}
}
