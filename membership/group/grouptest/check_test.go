package grouptest

import (
	"testing"

	"github.com/quorate/quorate/membership"
)

// The checker finds what it is there for.
func TestASecondVoteIsFound(t *testing.T) {
	s := &Sim{provider: Provider{Vote: func(d []byte) (term, candidate uint64, ok bool) { return uint64(d[0]), uint64(d[1]), true }}}
	c := &Checker{sim: s, votes: map[poll]uint64{}}
	for _, v := range []struct {
		node            membership.NodeID
		term, candidate byte
		bad             bool
	}{{1, 4, 2, false}, {1, 4, 2, false}, {2, 4, 3, false}, {1, 5, 3, false}, {1, 4, 3, true}} {
		c.vote(&Node{ID: v.node}, membership.GroupSend{Data: []byte{v.term, v.candidate}})
		if (c.Err != nil) != v.bad {
			t.Fatalf("%+v: %v", v, c.Err)
		}
	}
}
