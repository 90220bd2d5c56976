package liveness

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

func TestChoose(t *testing.T) {
	const now = membership.Mono(100 * time.Second)
	forever := func(m ...Mode) map[Mode]fault {
		f := map[Mode]fault{}
		for _, x := range m {
			f[x] = fault{"bad " + string(x), now + 1}
		}
		return f
	}
	for _, c := range []struct {
		name string
		want Want
		seen seen
		goal Mode
		why  string // a part of it
	}{
		{"first", Auto, seen{}, Native, ""},
		{"by default", "", seen{}, Native, ""},
		{"generic is wanted", WantGeneric, seen{}, Generic, ""},
		{"and native is there", WantGeneric, seen{ours: Native}, Generic, ""},
		{"native is wanted", WantNative, seen{ours: Generic}, Native, ""},
		{"off", Off, seen{ours: Native}, None, `"off"`},
		{"foreign", Auto, seen{foreign: `id 12, name "filter"`}, None, `id 12, name "filter"`},
		{"off is off", Off, seen{foreign: "x"}, None, `"off"`},
		{"native is at fault", Auto, seen{faults: forever(Native)}, Generic, "native: bad native"},
		{"and is there", Auto, seen{faults: forever(Native), ours: Native}, Generic, "native: bad native"},
		{"both", Auto, seen{faults: forever(Native, Generic)}, None, "native: bad native; generic: bad generic"},
		{"native alone", WantNative, seen{faults: forever(Native)}, None, "native: bad native"},
		{"rests", Auto, seen{faults: map[Mode]fault{Native: {"busy", now + 1}}}, Generic, "native: busy"},
		{"has rested", Auto, seen{faults: map[Mode]fault{Native: {"busy", now}}}, Native, ""},
		{"but generic works", Auto, seen{ours: Generic, faults: map[Mode]fault{Native: {"busy", now}}}, Generic, ""},
		{"generic works, and native rests", Auto, seen{ours: Generic, faults: map[Mode]fault{Native: {"busy", now + 1}}}, Generic, "native: busy"},
	} {
		goal, why := choose(c.want, c.seen, now)
		if goal != c.goal || !strings.Contains(why, c.why) || (c.why == "") != (why == "") {
			t.Errorf("%s: %q, %q; want %q, %q", c.name, goal, why, c.goal, c.why)
		}
	}
}

func TestUnheard(t *testing.T) {
	s := func(f float64) membership.Mono { return membership.Mono(f * float64(time.Second)) }
	for _, c := range []struct {
		name  string
		peers []PeerState
		now   float64
		lost  bool
	}{
		{"nobody", nil, 20, false},
		{"nothing yet", []PeerState{{Node: 1}}, 20, false},
		{"hears the daemon, not for long", []PeerState{{Node: 1, AckedUser: s(13)}}, 13, false},
		{"hears the daemon alone", []PeerState{{Node: 1, AckedUser: s(13.1)}}, 13.1, true},
		{"has heard the kernel before this", []PeerState{{Node: 1, Acked: s(9), AckedUser: s(13.1)}}, 13.1, true},
		{"does not hear the kernel any more", []PeerState{{Node: 1, Acked: s(11), AckedUser: s(14.1)}}, 14.1, true},
		{"hears the kernel, and heard the daemon", []PeerState{{Node: 1, Acked: s(15), AckedUser: s(12)}}, 15, false},
		{"another one hears the kernel", []PeerState{{Node: 1, AckedUser: s(20)}, {Node: 2, Acked: s(19)}}, 20, false},
		{"has heard it long ago", []PeerState{{Node: 2, Acked: s(11)}, {Node: 1, AckedUser: s(20)}}, 20, true},
		{"silence proves nothing", []PeerState{{Node: 1, Acked: s(11), AckedUser: s(12)}}, 60, false},
	} {
		who, lost := unheard(seen{since: s(10), peers: c.peers}, s(c.now))
		if lost != c.lost || lost != (who == 1) {
			t.Errorf("%s: %v, node %d", c.name, lost, who)
		}
	}
}
