package alarm

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
)

func boottime() membership.Mono {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return membership.Mono(ts.Nano())
}

// It rings once for each time that is set, not before it, and hardly after; another time
// takes the place of the one before, and one that has passed is now.
func TestAlarm(t *testing.T) {
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	set := func(at membership.Mono) membership.Mono {
		t.Helper()
		if err := a.Set(at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	rings := func(at membership.Mono) time.Duration {
		t.Helper()
		select {
		case <-a.C:
		case <-time.After(10 * time.Second):
			t.Fatal("it does not ring")
		}
		a.Heard()
		late := boottime().Sub(at)
		if late < 0 {
			t.Errorf("it rang %v before its time", -late)
		}
		return late
	}
	silent := func(long time.Duration) {
		t.Helper()
		select {
		case <-a.C:
			t.Error("it rang")
		case <-time.After(long):
		}
	}
	silent(10 * time.Millisecond)
	var late []time.Duration
	for range 20 {
		late = append(late, rings(set(boottime().Add(5*time.Millisecond))))
	}
	slices.Sort(late)
	t.Logf("late by %v at the median, and %v", late[10], late[19])
	set(boottime().Add(5 * time.Millisecond))
	rings(set(boottime().Add(50 * time.Millisecond)))
	silent(10 * time.Millisecond)
	set(boottime().Add(time.Hour))
	rings(set(boottime()))
	rings(set(boottime().Add(-time.Hour)))
	rings(set(0))
	silent(10 * time.Millisecond)
	again := boottime().Add(time.Millisecond)
	rings(set(again))
	rings(set(again)) // it has passed, and is set anew
}

// Who has closed it is told so, and nobody waits on.
func TestAlarmEnds(t *testing.T) {
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Set(boottime().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if err := a.Set(boottime()); err == nil {
		t.Error("a closed one was set")
	}
}

func TestNoGarbage(t *testing.T) {
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	at := boottime().Add(time.Hour)
	if n := testing.AllocsPerRun(100, func() {
		at++
		if err := a.Set(at); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
