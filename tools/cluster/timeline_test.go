package cluster

import (
	"testing"

	"github.com/quorate/quorate/membership"
)

// Differences are as exact as the times: microseconds, without the rest of a subtraction.
func TestSumIsWhole(t *testing.T) {
	r := Recovery{Survivors: []Survivor{
		{Node: 1, GrantedMS: 531.089, Phases: []Phase{{Kind: membership.KindEvicted, MS: 212.609}, {Kind: membership.KindFenced, MS: 275.883}, {Kind: membership.KindStarted, MS: 291.862}}},
		{Node: 2, GrantedMS: 540},
	}}
	r.sum()
	if r.KernelMS != 239.227 || r.FenceMS != 63.274 || r.StallMS != 531.089 || r.LastMS != 540 {
		t.Errorf("%+v", r)
	}
}
