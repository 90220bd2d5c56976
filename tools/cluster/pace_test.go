package cluster

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	for _, x := range []struct {
		took  time.Duration
		nodes int
		want  float64
	}{{3600 * time.Millisecond, 4, 1}, {5 * time.Second, 4, 1}, {7200 * time.Millisecond, 4, 2}, {time.Minute, 2, maxPace}, {0, 3, 1}} {
		if got := paceOf(x.took, x.nodes); got != x.want {
			t.Errorf("%d nodes in %v: %v, not %v", x.nodes, x.took, got, x.want)
		}
	}
	c := &Cluster{}
	if d := c.Stretch(time.Second); d != time.Second {
		t.Errorf("before it is known: %v", d)
	}
	c.pace = 2.5
	if d := c.Stretch(time.Second); d != 2500*time.Millisecond {
		t.Errorf("%v", d)
	}
}
