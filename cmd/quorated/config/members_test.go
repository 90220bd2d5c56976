package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/membership"
)

const static = `
[cluster]
name = "tank"
group = "static"
members = "/etc/quorate/members"
[[node]]
name = "alpha"
id = 1
addr = ["10.0.0.1"]
[[node]]
name = "beta"
id = 2
addr = ["10.0.0.2"]
[[node]]
name = "gamma"
id = 7
addr = ["10.0.0.3"]
`

func TestGroup(t *testing.T) {
	if c := parse(t, two); c.Group != GroupRaft || c.MembersFile != "" {
		t.Errorf("default: %q %q", c.Group, c.MembersFile)
	}
	c := parse(t, static)
	if c.Group != GroupStatic || c.MembersFile != DefaultMembersFile || c.ManualFence || len(c.Warnings) > 0 {
		t.Errorf("%+v", c)
	}
	c = parse(t, strings.Replace(static, "members = ", "#", 1))
	if ids, err := c.Members(); err != nil || !slices.Equal(ids, []membership.NodeID{1, 2, 7}) {
		t.Errorf("without a list every node is a member: %v %v", ids, err)
	}
}

// The rule is part of what has to be the same everywhere; the default adds no
// key, so that it agrees with a quorated that knows no other.
func TestGroupIsInTheDigest(t *testing.T) {
	base := parse(t, static)
	raft := parse(t, strings.NewReplacer(`group = "static"`, `fencing = "manual"`, "members = ", "#").Replace(static))
	if got := Diff(base.Digest, raft.Digest); !slices.Equal(got, []string{"cluster.fencing", "cluster.group", "cluster.members"}) {
		t.Errorf("%v", got)
	}
	all := parse(t, strings.Replace(static, "members = ", "#", 1))
	if got := Diff(base.Digest, all.Digest); !slices.Equal(got, []string{"cluster.members"}) {
		t.Errorf("%v", got)
	}
	if _, ok := raft.Digest.Keys["cluster.group"]; ok {
		t.Error("the default is in the digest")
	}
}

func TestParseMembers(t *testing.T) {
	nodes := parse(t, static).Nodes
	for text, want := range map[string][]membership.NodeID{
		"alpha\nbeta\ngamma\n":                        {1, 2, 7},
		"# who is in\n\n  gamma # the third\r\n\t1\n": {1, 7},
		"7\n": {7},
	} {
		got, err := ParseMembers("m", []byte(text), nodes)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                 "m:1: nobody is listed",
		"#alpha\n":         "m:1: nobody is listed",
		"alpha\nbeta":      "m:2: the last line has no end",
		"alpha\nbet\n":     `m:2: there is no node "bet" (did you mean "beta"?)`,
		"alpha\n\n1\n":     `m:3: node "1" is listed twice`,
		"alpha beta\n":     `m:1: there is no node "alpha beta"`,
		"delta\nepsilon\n": "m:2: there is no node \"epsilon\"",
	} {
		_, err := ParseMembers("m", []byte(text), nodes)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestMembersReadsTheList(t *testing.T) {
	c := parse(t, static)
	c.Self, c.MembersFile = 2, filepath.Join(t.TempDir(), "members")
	if _, err := c.Members(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "one a line") {
		t.Errorf("missing: %v", err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(c.MembersFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("alpha\nbeta\n")
	if ids, err := c.Members(); err != nil || !slices.Equal(ids, []membership.NodeID{1, 2}) {
		t.Errorf("%v %v", ids, err)
	}
	write("alpha\n")
	if _, err := c.Members(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "does not list this node, beta") {
		t.Errorf("without this node: %v", err)
	}
}

func FuzzParseMembers(f *testing.F) {
	f.Add([]byte("alpha\nbeta # x\n7\n"))
	f.Add([]byte("alpha"))
	nodes := []membership.Node{{ID: 1, Name: "alpha"}, {ID: 2, Name: "beta"}, {ID: 7, Name: "gamma"}}
	f.Fuzz(func(t *testing.T, data []byte) {
		ids, err := ParseMembers("m", data, nodes)
		var faults Faults
		if err != nil {
			if !errors.As(err, &faults) || len(ids) > 0 || faults[0].Line < 1 {
				t.Fatalf("%v %v", ids, err)
			}
			return
		}
		if len(ids) == 0 || len(ids) > len(nodes) || !slices.IsSorted(ids) || data[len(data)-1] != '\n' {
			t.Fatalf("accepted %v of %q", ids, data)
		}
	})
}
