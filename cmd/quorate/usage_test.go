package main

import (
	"bytes"
	"strings"
	"testing"
)

// Wrong words are answered with what to write, and status 64.
func TestWrongUsage(t *testing.T) {
	for args, want := range map[string]string{
		"nosuch":               "quorate has no \"nosuch\": see `quorate --help`",
		"statu":                "quorate has no \"statu\" (did you mean status?): see `quorate --help`",
		"-o json statu":        "quorate has no \"statu\" (did you mean status?): see `quorate --help`",
		"fence act beta":       "quorate fence has no \"act\" (did you mean ack?): see `quorate fence --help`",
		"fence":                "fence needs one of ack, node, test, history",
		"fence ack":            "write quorate fence ack NODE: see `quorate fence ack --help`",
		"fence ack a b":        "write quorate fence ack NODE: see `quorate fence ack --help`",
		"ls tank home":         "quorate ls takes no arguments, and was given \"tank home\": see `quorate ls --help`",
		"config import":        "write quorate config import ",
		"witness add":          "write quorate witness add TOKEN",
		"status --nosuch":      "unknown flag: --nosuch: see `quorate status --help`",
		"-socket X status":     "write --socket, with two dashes: see `quorate --help`",
		"status -socket=X":     "write --socket, with two dashes: see `quorate --help`",
		"fence node -yes beta": "write --yes, with two dashes: see `quorate --help`",
		"-version":             "write --version, with two dashes: see `quorate --help`",
		"-soc X status":        "quorate has no \"X\"",
		"events --since x":     "invalid argument \"x\" for \"--since\" flag: write a number: see `quorate events --help`",
		"events --since 1" + strings.Repeat("0", 20): "invalid argument \"1" + strings.Repeat("0", 20) + "\" for \"--since\" flag: the number is too large",
		"node hold beta --for soon":                  "invalid argument \"soon\" for \"--for\" flag: write a time, as 30s or 5m: see `quorate node hold --help`",
		"status -o yaml":                             "-o yaml is not known: use table or json",
	} {
		var out, complaints bytes.Buffer
		if code := run(strings.Fields(args), strings.NewReader(""), &out, &complaints); code != exitUsage || out.Len() != 0 || !strings.HasPrefix(complaints.String(), "quorate: "+want) {
			t.Errorf("quorate %s: status %d, %q and %q, want %q", args, code, out.String(), complaints.String(), want)
		}
	}
}

// The version of the tool needs no daemon, and is what `quorated --version` says of itself.
func TestVersionOption(t *testing.T) {
	for _, args := range [][]string{{"--version"}, {"--socket", "/nowhere", "--version"}} {
		var out, complaints bytes.Buffer
		if code := run(args, strings.NewReader(""), &out, &complaints); code != 0 || out.String() != "quorate "+ownVersion()+"\n" || complaints.Len() != 0 {
			t.Errorf("quorate %s: status %d, %q and %q", args, code, out.String(), complaints.String())
		}
	}
	var out, complaints bytes.Buffer
	if code := run([]string{"status", "--version"}, strings.NewReader(""), &out, &complaints); code != exitUsage {
		t.Errorf("quorate status --version: status %d, %q and %q", code, out.String(), complaints.String())
	}
}

// Commands that do nothing alone say so in their first line of usage, which is also that of
// their manual page.
func TestGroupsTakeACommand(t *testing.T) {
	root := (&app{}).root()
	for _, words := range []string{"", "fence", "node", "config", "key", "witness", "maintenance"} {
		c, _, err := root.Find(strings.Fields(words))
		if err != nil || c.Use != c.Name()+" COMMAND" {
			t.Errorf("%q: %q, %v", words, c.Use, err)
		}
	}
}
