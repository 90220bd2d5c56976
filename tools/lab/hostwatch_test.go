package lab

import (
	"testing"
	"time"
)

func TestHostWatch(t *testing.T) {
	h := WatchHost()
	defer h.Close()
	at := time.Now()
	h.note(at, 5*time.Minute)
	h.note(at.Add(time.Second), time.Minute)
	if want := "a processor of this machine stood still for 5m0s at " + at.Format("15:04:05.000"); h.String() != want {
		t.Errorf("%v, not %s", h, want)
	}
}
