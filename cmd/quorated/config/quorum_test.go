package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

// fenced are that many nodes a, b, c …, with a device for all.
func fenced(n int, more string) string {
	var b strings.Builder
	b.WriteString("[cluster]\nname = \"tank\"\n")
	nodes := make([]string, n)
	for i := range n {
		name := string(rune('a' + i))
		nodes[i] = fmt.Sprintf("%q", name)
		fmt.Fprintf(&b, "[[node]]\nname = %q\nid = %d\naddr = [\"10.0.0.%d\"]\n", name, i+1, i+1)
	}
	fmt.Fprintf(&b, "[[fence]]\nnodes = [%s]\nagent = \"fence_x\"\noptions = { plug = \"{name}\" }\n", strings.Join(nodes, ", "))
	return b.String() + more
}

func TestQuorumDefaults(t *testing.T) {
	if c := parse(t, fenced(3, "")); !reflect.DeepEqual(c.Quorum, membership.Quorum{}) || c.Notes != nil || c.QuorumText() != "3 votes, 2 needed" {
		t.Errorf("%+v %v %s", c.Quorum, c.Notes, c.QuorumText())
	}
	if c := parse(t, fenced(1, "")); c.QuorumText() != "1 vote, 1 needed" || c.Notes != nil {
		t.Errorf("%+v %v %s", c.Quorum, c.Notes, c.QuorumText())
	}
}

func TestQuorumIsRead(t *testing.T) {
	c := parse(t, fenced(4, `[quorum]
expected_votes = 4
wait_for_all = true
auto_tie_breaker = ["c", 1]
last_man_standing = true
last_man_standing_window = "20s"
leave_removes_vote = true
takeover_delay = "1m"
`))
	want := membership.Quorum{Expected: 4, WaitForAll: true, TieBreaker: membership.TieBreaker{Mode: membership.TieList, List: []membership.NodeID{3, 1}},
		LastManStanding: true, LastManWindow: 20 * time.Second, LeaveRemoves: true, Delay: time.Minute}
	if !reflect.DeepEqual(c.Quorum, want) {
		t.Errorf("%+v", c.Quorum)
	}
	if got := c.QuorumText(); got != "4 votes, 3 needed; expected_votes = 4, wait_for_all, auto_tie_breaker = c, then a, last_man_standing after 20s, leave_removes_vote" {
		t.Error(got)
	}
	if err := quorum.New(c.Config).Check(); err != nil {
		t.Error(err)
	}
	for _, mode := range []membership.TieMode{membership.TieLowest, membership.TieHighest} {
		c := parse(t, fenced(2, "[quorum]\nauto_tie_breaker = \""+string(mode)+"\"\n"))
		if c.Quorum.TieBreaker.Mode != mode || c.Quorum.TwoNode || c.Quorum.WaitForAll || c.Notes != nil {
			t.Errorf("%+v %v", c.Quorum, c.Notes)
		}
	}
}

// Two nodes that can fence each other go on, unless somebody wrote otherwise.
func TestTwoNodesSurviveByDefault(t *testing.T) {
	const none = "two nodes without two_node"
	for name, c := range map[string]struct {
		text      string
		two, wait bool
		note      string
	}{
		"nothing written":  {fenced(2, ""), true, true, "two_node = true, the default for two nodes with fence devices"},
		"written":          {fenced(2, "[quorum]\ntwo_node = true\n"), true, true, ""},
		"off":              {fenced(2, "[quorum]\ntwo_node = false\n"), false, false, none},
		"without waiting":  {fenced(2, "[quorum]\nwait_for_all = false\n"), true, false, "wait_for_all is off"},
		"expected":         {fenced(2, "[quorum]\nexpected_votes = 2\n"), true, true, "two_node = true, the default"},
		"more to come":     {fenced(2, "[quorum]\nexpected_votes = 3\n"), false, false, none},
		"a heavy one":      {strings.Replace(fenced(2, ""), "id = 2\n", "id = 2\nvotes = 2\n", 1), false, false, none},
		"manual":           {two, false, false, none},
		"manual, written":  {two + "[quorum]\ntwo_node = true\n", true, true, "quorate fence ack"},
		"three":            {fenced(3, ""), false, false, ""},
		"last man, no wfa": {fenced(3, "[quorum]\nlast_man_standing = true\n"), false, false, "wait_for_all is off"},
	} {
		got := parse(t, c.text)
		if got.Quorum.TwoNode != c.two || got.Quorum.WaitForAll != c.wait {
			t.Errorf("%s: %+v", name, got.Quorum)
		}
		if (c.note == "") != (len(got.Notes) == 0) || !strings.Contains(strings.Join(got.Notes, "\n"), c.note) {
			t.Errorf("%s: notes %q", name, got.Notes)
		}
		if err := quorum.New(got.Config).Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The rules are part of what must be the same everywhere, a default as if it was written.
func TestQuorumInTheDigest(t *testing.T) {
	base := parse(t, fenced(4, "")).Digest
	for key, text := range map[string]string{
		"expected_votes": "expected_votes = 5", "wait_for_all": "wait_for_all = true", "auto_tie_breaker": `auto_tie_breaker = "highest"`,
		"leave_removes_vote": "leave_removes_vote = true",
	} {
		if got := Diff(base, parse(t, fenced(4, "[quorum]\n"+text+"\n")).Digest); !slices.Equal(got, []string{"quorum." + key}) {
			t.Errorf("%s: %v", text, got)
		}
	}
	a, b := parse(t, fenced(2, "")).Digest, parse(t, fenced(2, "[quorum]\nwait_for_all = true\ntwo_node = true\nlast_man_standing_window = \"10s\"\n")).Digest
	if got := Diff(a, b); got != nil {
		t.Errorf("the default written out differs in %v", got)
	}
	if got := Diff(a, parse(t, fenced(2, "[quorum]\ntakeover_delay = \"3s\"\n")).Digest); !slices.Equal(got, []string{"quorum.takeover_delay"}) {
		t.Errorf("%v", got)
	}
	if got := Diff(a, parse(t, fenced(2, "[quorum]\ntwo_node = false\n")).Digest); !slices.Equal(got, []string{"quorum.two_node", "quorum.wait_for_all"}) {
		t.Errorf("%v", got)
	}
}

func TestAListCountsNoVotes(t *testing.T) {
	c := parse(t, "[cluster]\nname = \"x\"\ngroup = \"static\"\n[[node]]\nname = \"a\"\nid = 1\naddr = [\"10.0.0.1\"]\n[[node]]\nname = \"b\"\nid = 2\naddr = [\"10.0.0.2\"]\n")
	if !reflect.DeepEqual(c.Quorum, membership.Quorum{}) || c.Notes != nil {
		t.Errorf("%+v %v", c.Quorum, c.Notes)
	}
}

// With fencing = "manual" the devices that are there are used: what is said names the
// nodes that have none.
func TestManualFencingWithDevices(t *testing.T) {
	device := func(nodes string) string {
		return "[quorum]\ntwo_node = true\n[[fence]]\nnodes = [" + nodes + "]\nagent = \"fence_x\"\noptions = { plug = \"{name}\" }\n"
	}
	for nodes, want := range map[string][2]string{
		`"alpha"`:         {"fencing is manual for beta, without a [[fence]] device: when such a node dies", "when beta is lost the other goes on as soon as"},
		`"alpha", "beta"`: {`fencing = "manual", and every node has a [[fence]] device: they are used`, ""},
	} {
		c := parse(t, two+device(nodes))
		if len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], want[0]) || strings.Contains(strings.Join(c.Notes, ""), "fence ack") != (want[1] != "") || !strings.Contains(strings.Join(c.Notes, ""), want[1]) {
			t.Errorf("%s: %q %q", nodes, c.Warnings, c.Notes)
		}
	}
}
