package membership

import (
	"slices"
	"testing"
)

func TestWithout(t *testing.T) {
	all := []NodeID{3, 1, 2, 1}
	for _, x := range []struct{ others, want []NodeID }{
		{nil, []NodeID{3, 1, 2, 1}},
		{[]NodeID{4}, []NodeID{3, 1, 2, 1}},
		{[]NodeID{1}, []NodeID{3, 2}},
		{[]NodeID{2, 3, 2}, []NodeID{1, 1}},
		{[]NodeID{1, 2, 3}, []NodeID{}},
	} {
		if got := Without(all, x.others...); !slices.Equal(got, x.want) {
			t.Errorf("without %v: %v, not %v", x.others, got, x.want)
		}
	}
	if !slices.Equal(all, []NodeID{3, 1, 2, 1}) {
		t.Errorf("the argument was changed: %v", all)
	}
}
