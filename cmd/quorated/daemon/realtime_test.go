package daemon

import (
	"runtime"
	"testing"
)

func TestSpareProcs(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, had := range []int{1, leastProcs, 2 * leastProcs} {
		runtime.GOMAXPROCS(had)
		spareProcs()
		if got := runtime.GOMAXPROCS(0); got != max(had, leastProcs) {
			t.Errorf("%d threads run Go code at once where %d did", got, had)
		}
	}
}
