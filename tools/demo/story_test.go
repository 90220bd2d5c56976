package main

import (
	"strings"
	"testing"
)

func TestKept(t *testing.T) {
	got := kept("x7", 3)
	for _, want := range []string{"Ctrl-C or, from another terminal, bin/lab --lab x7 down\n", "bin/lab --lab x7 sh 1 ", "bin/lab --lab x7 boot 3 "} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}
