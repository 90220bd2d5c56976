package membership_test

import (
	"testing"

	"github.com/quorate/quorate/membership"
)

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 nodes", 1: "1 node", 2: "2 nodes"} {
		if got := membership.Count(n, "node"); got != want {
			t.Errorf("%q is not %q", got, want)
		}
	}
}
