package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestHelpAndErrors(t *testing.T) {
	for _, c := range []struct{ args, out, err string }{
		{"--help", "freeze", ""},
		{"cut --help", "--one-way", ""},
		{"kill", "", "accepts 1 arg"},
		{"kill x", "", "not a node's number"},
		{"status --lab qlab-1-1-1", "", "no lab qlab-1-1-1 runs here"},
		{"up --lab mine", "", "a lab is named when it starts"},
		{"--lab mine check", "", "leave --lab away with `lab check`"},
		{"exec 1 --", "", "say what to run"},
		{"dance", "", "unknown command"},
	} {
		cmd := command()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetArgs(strings.Fields(c.args))
		err := cmd.Execute()
		if !strings.Contains(out.String(), c.out) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", c.args, out.String(), err)
		}
	}
}

func TestProgram(t *testing.T) {
	for line, want := range map[string][]string{
		"uname":                 {"/bin/sh", "-c", "uname"},
		"-- uname":              {"/bin/sh", "-c", "uname"},
		"quorate version":       {"quorate", "version"},
		"-- quorate version":    {"quorate", "version"},
		"-- -- x":               {"--", "x"},
		"grep -- -x /etc/hosts": {"grep", "--", "-x", "/etc/hosts"},
	} {
		if got, err := program(strings.Fields(line)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", line, got, err)
		}
	}
}
