package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
)

func TestSettings(t *testing.T) {
	of := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	o, err := settings(of(map[string]string{"SEED": "7", "NODES": "5", "MINUTES": "0.5", "ROUND": "3", "BUG": "skip-stop", "OUT": "x"}), time.Now())
	if err != nil || o.Seed != 7 || o.Nodes != 5 || o.For != 30*time.Second || o.Round != 3 || o.Bug != "skip-stop" || o.Out != "x" {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := settings(of(nil), time.Unix(0, 12345)); err != nil || o.Seed != 12345 || o.Nodes != 3 || o.For != 3*time.Minute {
		t.Errorf("%+v, %v", o, err)
	}
	for k, v := range map[string]string{"SEED": "-1", "NODES": "2", "MINUTES": "x", "ROUND": "0", "BUG": "skip-all"} {
		if o, err := settings(of(map[string]string{k: v}), time.Now()); err == nil {
			t.Errorf("%s=%s: %+v", k, v, o)
		}
	}
	for _, bug := range bugs[1:] {
		if !slices.Contains(node.Rules, bug) {
			t.Errorf("quorated knows no rule %s", bug)
		}
	}
}

// `make help` names the rules that can be left out.
func TestHelpNamesTheBugs(t *testing.T) {
	makefile, err := os.ReadFile("../../../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for goal, rules := range map[string][]string{"sim": node.Rules, "chaos": bugs[1:]} {
		want := regexp.MustCompile(`(?m)^` + goal + `: ## .* BUG=` + regexp.QuoteMeta(strings.Join(rules, "|")) + `$`)
		if !want.Match(makefile) {
			t.Errorf("no %v in the Makefile", want)
		}
	}
}
