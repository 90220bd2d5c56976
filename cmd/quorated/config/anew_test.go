package config

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/membership"
)

// Who may not change a key is told what it takes, with this node's own folder, once.
func TestHowTheClusterIsFormedAnew(t *testing.T) {
	old := mustParse(t, two)
	old.StateDir = "/srv/q"
	err := CheckChange(old, mustParse(t, strings.Replace(two, "[cluster]", "[cluster]\nport = 999\ndlm_port = 998", 1)), nil)
	if err == nil || strings.Count(err.Error(), "form the cluster anew") != 1 {
		t.Fatal(err)
	}
	for _, want := range []string{"(21060, not 999): write 21060;", "(21064, not 998): write 21064, or form", "unmount everywhere, `quorate leave` on all nodes", "`mv /srv/q/raft /srv/q/raft.old` on all", "`quorate init` on each", AnewSection()} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in\n%v", want, err)
		}
	}
}

// A file that is not what is in force is not applied where that would take something back,
// or would be refused.
func TestWhatAFileDiffersIn(t *testing.T) {
	more, err := AddNode(two, NewNode{Name: "c", ID: 3, Addrs: []string{"10.0.0.3"}, Like: ""})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file, now string
		want, not string
	}{
		"alike":        {two, two, "", "differs"},
		"a time":       {two + "[liveness]\nprofile = \"lan\"\n", two, "or where the file is the newer `quorate config apply`", "anew"},
		"a node more":  {more, two, "or where the file is the newer `quorate config apply`", "lacks"},
		"a node less":  {two, more, "the file lacks what was agreed later (node c), and `quorate config apply` would take that back", "newer"},
		"a fixed one":  {strings.Replace(two, "[cluster]", "[cluster]\ndlm_port = 998", 1), two, "cluster.dlm_port cannot be changed while the cluster runs, nor by a start: see " + AnewSection(), "config apply"},
		"a secret":     {two + "[[fence]]\nnodes = [\"beta\"]\nagent = \"fence_x\"\noptions = { password = \"hunter2\" }\n", two, "or where the file", "hunter2"},
		"both of them": {strings.Replace(two, "[cluster]", "[cluster]\ndlm_port = 998", 1), more, "cluster.dlm_port cannot be changed", "config apply"},
	} {
		file := mustParse(t, c.file)
		file.Path = "/etc/q.toml"
		got := Differs(file, mustParse(t, c.now), 2)
		if !strings.Contains(got, c.want) || strings.Contains(got, c.not) {
			t.Errorf("%s: %s", name, got)
		}
		if c.want != "" && !strings.Contains(got, ": run `quorate config write` here") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// What the members would refuse is known before they are asked.
func TestWhatWouldBeRefused(t *testing.T) {
	more, err := AddNode(two, NewNode{Name: "c", ID: 3, Addrs: []string{"10.0.0.3"}, Like: ""})
	if err != nil {
		t.Fatal(err)
	}
	own := mustParse(t, "[state]\ndir = \"/srv/q\"\n"+two)
	for name, c := range map[string]struct {
		old, now string
		members  []membership.NodeID
		want     string
	}{
		"a time":          {two, two + "[liveness]\nprofile = \"lan\"\n", []membership.NodeID{1, 2}, ""},
		"one who left":    {more, two, []membership.NodeID{1, 2}, ""},
		"a member":        {more, two, []membership.NodeID{1, 2, 3}, "node c is a member and cannot be removed or moved: run `quorate node drain c` first"},
		"a port":          {two, strings.Replace(two, "[cluster]", "[cluster]\nport = 999", 1), nil, "port cannot be changed while the cluster runs (21060, not 999)"},
		"its own folders": {two, strings.Replace(two, "[cluster]", "[cluster]\nport = 999", 1), nil, "`mv /srv/q/raft"},
		"an id":           {two, strings.Replace(two, "id = 2", "id = 7", 1), []membership.NodeID{1, 2}, "node beta has id 2, not 7: an id is never changed"},
		"not readable":    {two, "[", nil, "not TOML"},
		"none readable":   {"[", two, nil, ""},
	} {
		if got := Refusal(c.old, c.now, own, c.members); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
}
