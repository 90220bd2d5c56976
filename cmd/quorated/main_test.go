package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "quorate.toml")
	for _, c := range []struct {
		args string
		want int
		says string
	}{
		{"-h", 0, "-config file"},
		{"-version", 0, "quorated "},
		{"-checks", 64, "not defined"},
		{"-config", 64, "needs an argument"},
		{"check", 64, `unexpected argument "check"`},
		{"man", 64, `unexpected argument "man"`},
		{"-check -config " + missing, 1, missing},
		{"-config " + missing, 78, "copy the reference quorate.toml.example"},
		{"--witness foo", 64, `there is no "foo"`},
		{"--witness list all", 64, `"--witness list" takes no arguments, and was given "all"`},
		{"--witness forget", 64, `"--witness forget" takes the id of one cluster: see quorated --witness list`},
		{"--witness forget ID --state " + missing, 1, "no cluster ID is enrolled here"},
		{"--witness forget --state " + missing + " ID", 1, "no cluster ID is enrolled here"},
		{"--witness forget ID --nosuch", 64, "not defined: -nosuch"},
		{"--witness help", 0, "--state DIRECTORY"},
	} {
		var out bytes.Buffer
		if got := run(strings.Fields(c.args), &out, &out); got != c.want || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: status %d, want %d; it says\n%s", c.args, got, c.want, out.String())
		}
	}
}

// TestManPage: it has the flags that the program has.
func TestManPage(t *testing.T) {
	dir := t.TempDir()
	if got := run([]string{"man", dir}, io.Discard, io.Discard); got != 0 {
		t.Fatal(got)
	}
	page, err := os.ReadFile(filepath.Join(dir, "quorated.8"))
	if err != nil || !strings.Contains(string(page), `\fB\-check\fR`) || !strings.Contains(string(page), "/etc/quorate/quorate.toml") {
		t.Errorf("%v\n%s", err, page)
	}
}
