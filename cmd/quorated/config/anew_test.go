package config

import (
	"strings"
	"testing"
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
		"a secret":     {two + "[[fence]]\nnodes = [\"beta\"]\nagent = \"fence_x\"\noptions = { password = \"hunter2\" }\n", two, "and write the secrets of its devices again where that has \"(own)\", or where the file", "hunter2"},
		"both of them": {strings.Replace(two, "[cluster]", "[cluster]\ndlm_port = 998", 1), more, "cluster.dlm_port cannot be changed", "config apply"},
	} {
		file := mustParse(t, c.file)
		file.Path = "/etc/q.toml"
		got := Differs(file, mustParse(t, c.now), 2)
		if !strings.Contains(got, c.want) || strings.Contains(got, c.not) {
			t.Errorf("%s: %s", name, got)
		}
		if c.want != "" && !strings.Contains(got, ": run `quorate config show --own > /etc/q.toml` here") {
			t.Errorf("%s: %s", name, got)
		}
	}
}
