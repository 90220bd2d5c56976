package main

import (
	"bytes"
	"strings"
	"testing"
)

// Every command that is shown is in one group, and every name of a group is a command.
func TestEveryCommandHasAGroup(t *testing.T) {
	root := (&app{}).root()
	in := map[string]int{}
	for _, g := range groups {
		for _, name := range g.of {
			in[name]++
		}
	}
	for _, c := range root.Commands() {
		if c.Hidden != (in[c.Name()] == 0) || in[c.Name()] > 1 {
			t.Errorf("%s is in %d groups", c.Name(), in[c.Name()])
		}
		delete(in, c.Name())
	}
	if len(in) > 0 {
		t.Errorf("no commands: %v", in)
	}
}

func TestHelpShowsGroups(t *testing.T) {
	var out, complaints bytes.Buffer
	if code := run([]string{"--help"}, strings.NewReader(""), &out, &complaints); code != 0 {
		t.Fatalf("status %d, %s", code, complaints.String())
	}
	help := out.String()
	at := 0
	for _, g := range groups {
		i := strings.Index(help[at:], g.title)
		if i < 0 {
			t.Fatalf("%q is not shown, or not in its place:\n%s", g.title, help)
		}
		at += i
		for _, name := range g.of {
			if !strings.Contains(help[at:], "\n  "+name+" ") {
				t.Errorf("%q is not under %q", name, g.title)
			}
		}
	}
}
