package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// chronicle makes event logs, a line an event: node, kind, then what it is about.
type chronicle struct {
	at     time.Time
	seq    uint64
	events []Event
}

func (c *chronicle) tell(node int, k membership.Kind, change uint64, text string) *Event {
	c.at, c.seq = c.at.Add(10*time.Millisecond), c.seq+1
	e := Event{At: c.at, Node: node}
	e.Event = membership.Event{Seq: c.seq, Kind: k, Text: text}
	if change != 0 {
		e.Lockspace, e.Change = "gfs", change
	}
	c.events = append(c.events, e)
	return &c.events[len(c.events)-1]
}

func (c *chronicle) each(nodes []int, k membership.Kind, index, change uint64, subject membership.NodeID, text string) {
	for _, n := range nodes {
		e := c.tell(n, k, change, text)
		e.Index, e.Subject = index, subject
		if subject != 0 {
			e.Incident = fmt.Sprint("e", subject)
		}
	}
}

var (
	three = []int{1, 2, 3}
	two   = []int{1, 2}
)

// begin: three nodes run change 1.
func begin() *chronicle {
	c := &chronicle{at: time.Unix(1000, 0)}
	c.each(three, membership.KindUp, 0, 0, 0, "")
	c.each(three, membership.KindOpened, 10, 1, 0, "members [1 2 3]")
	c.each(three, membership.KindStarted, 0, 1, 0, "")
	return c
}

// recovery: node 3 is evicted and proved gone, the others go on.
func (c *chronicle) recovery(steps ...string) {
	for _, s := range steps {
		switch s {
		case "evicted":
			c.each(two, membership.KindEvicted, 20, 0, 3, "node 3 dead; its death needs proof")
		case "stopped":
			c.each(two, membership.KindStopped, 0, 1, 0, "")
		case "fenced":
			c.each(two, membership.KindFenced, 22, 0, 3, "gone")
		case "opened":
			c.each(two, membership.KindOpened, 24, 2, 0, "members [1 2]")
		case "started":
			c.each(two, membership.KindStarted, 0, 2, 0, "")
		}
	}
}

func TestAudit(t *testing.T) {
	soon := time.Unix(1000, 0).Add(95 * time.Millisecond) // after change 1 has started
	died := map[int][]time.Time{3: {soon}}
	for _, c := range []struct {
		name   string
		steps  string
		deaths map[int][]time.Time
		more   func(*chronicle)
		want   string // "": nothing is found
	}{
		{"a recovery", "evicted stopped fenced opened started", died, nil, ""},
		{"no proof", "evicted stopped opened started fenced", died, nil, "I3: node3"},
		{"not stopped", "evicted fenced opened stopped started", died, nil, "I2: it runs change 1"},
		{"never stopped", "evicted fenced started", died, nil, "I2: it ran change 1"},
		{"the victim lives", "evicted stopped fenced opened started", nil, nil, "I1: node3, which is not among [1 2], runs change 1"},
		{"the victim stopped by itself", "", nil, func(c *chronicle) {
			c.each([]int{3}, membership.KindStopped, 0, 1, 0, "")
			c.recovery("evicted", "stopped", "fenced", "opened", "started")
		}, ""},
		{"the victim died long ago", "evicted stopped fenced opened started", map[int][]time.Time{3: {time.Unix(999, 0)}}, nil, "I1: node3"},
		{"other members", "", nil, func(c *chronicle) {
			c.each([]int{1}, membership.KindOpened, 30, 5, 0, "members [1 2]")
			c.each([]int{2}, membership.KindOpened, 31, 5, 0, "members [2 3]")
		}, `change 5 of gfs: node1 says 5 "members [1 2]", node2 says 5 "members [2 3]"`},
		{"another entry", "", nil, func(c *chronicle) {
			c.each([]int{1}, membership.KindFenced, 30, 0, 3, "gone: agent")
			c.each([]int{2}, membership.KindFenced, 30, 0, 3, "gone: manual")
		}, "I1: index 30"},
		{"another view", "", nil, func(c *chronicle) {
			c.each([]int{1}, membership.KindView, 30, 0, 0, "members [1 2]")
			c.each([]int{2}, membership.KindView, 31, 0, 0, "members [2 3]")
		}, "I1: view 0"},
		{"a node boots and knows nothing", "evicted stopped fenced opened started", died, func(c *chronicle) {
			c.each([]int{3}, membership.KindUp, 0, 0, 0, "")
			c.each(two, membership.KindStopped, 0, 2, 0, "")
			c.each(three, membership.KindOpened, 40, 3, 0, "members [1 2 3]")
			c.each(three, membership.KindStarted, 0, 3, 0, "")
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := begin()
			h.recovery(strings.Fields(c.steps)...)
			if c.more != nil {
				c.more(h)
			}
			found := strings.Join(Audit(h.events, c.deaths), "\n")
			if c.want == "" && found != "" || !strings.Contains(found, c.want) {
				t.Fatalf("found %q, expected %q", found, c.want)
			}
		})
	}
}
