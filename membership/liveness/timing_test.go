package liveness

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

func TestProfilesCanWork(t *testing.T) {
	for _, name := range profiles {
		if err := CheckTiming(profile(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckTiming(t *testing.T) {
	for want, change := range map[string]func(*membership.Timing){
		"set it to 1ms or more": func(t *membership.Timing) { t.Interval = 0 },
		"set dead_after to 114ms or more, or interval to 33.333333": func(t *membership.Timing) { t.DeadAfter = 100 * ms },
		"set it to 266ms or more":                                   func(t *membership.Timing) { t.LinkSettle = 265 * ms },
		"set stall_limit to 190ms or more":                          func(t *membership.Timing) { t.StallLimit, t.RecoveryStall = 180*ms, 180*ms },
		"set it to 10s or less":                                     func(t *membership.Timing) { t.RecoveryStall = 11 * time.Second },
		"set recovery_stall to 114ms or more":                       func(t *membership.Timing) { t.RecoveryStall = 113 * ms },
	} {
		tm := profile("lan")
		change(&tm)
		if err := CheckTiming(tm); !errors.Is(err, ErrTiming) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// The table in doc.go is what the times give.
func TestTimelinesInDoc(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(doc)), " ")
	for _, name := range profiles {
		tm := profile(name)
		want := fmt.Sprintf("%s %v %v | %v %v | %v | %v", name, tm.Interval, tm.DeadAfter,
			tm.DeadAfter-tm.Interval-tm.Interval/8, tm.DeadAfter, tm.DeadAfter, tm.DeadAfter+tm.LinkSettle)
		if !strings.Contains(text, want) {
			t.Errorf("doc.go does not say %q", want)
		}
	}
}

// What CheckTiming accepts leaves a pause that goes unnoticed too short to make
// a peer silent that answered the probe before it.
func TestUnnoticedPauseIsShort(t *testing.T) {
	for i := time.Millisecond; i < 12*time.Second; i = i*3/2 + 1 {
		for ratio := time.Duration(minProbes); ratio < 30; ratio++ {
			tm := membership.Timing{Interval: i, DeadAfter: ratio * i}
			m := New(Config{Self: 1, Timing: tm}, 1)
			m.looked, m.at = true, membership.Mono(time.Hour)
			m.due = m.at.Add(m.watch())
			longest := m.watch()
			for m.overslept(m.at.Add(longest+i/64)) == 0 {
				longest += i / 64
			}
			if i+i/8+longest >= tm.DeadAfter {
				t.Fatalf("%v/%v: a pause of %v goes unnoticed", i, tm.DeadAfter, longest)
			}
		}
	}
}
