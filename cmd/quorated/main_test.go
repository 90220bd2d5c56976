package main

import (
	"bytes"
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
		{"-check -config " + missing, 1, missing},
	} {
		var out bytes.Buffer
		if got := run(strings.Fields(c.args), &out, &out); got != c.want || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: status %d, want %d; it says\n%s", c.args, got, c.want, out.String())
		}
	}
}
