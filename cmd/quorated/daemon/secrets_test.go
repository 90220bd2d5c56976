package daemon

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/cmd/quorated/control"
)

// A secret that is changed in the file is in use from the next version on, and until then
// the status says that it is not.
func TestASecretThatIsChangedInTheFile(t *testing.T) {
	f := newFleet(t)
	m := f.start(1, f.text(1, ""))
	m.works(1, 1)
	note := func(s control.Status) bool {
		return slices.ContainsFunc(s.Notes, func(n string) bool {
			return strings.HasPrefix(n, "password of fence_one for node n1 in "+m.file()+" differs from the one in use: ")
		})
	}
	if s := m.works(1, 1); note(s) {
		t.Fatalf("%q", s.Notes)
	}
	text, err := os.ReadFile(m.file())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.file(), []byte(strings.Replace(string(text), "hunter2", "sesame", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := m.until("the note", note)
	r, err := m.ask(control.Request{Command: "config-show"})
	if err != nil || len(r.Notes) != 1 || !slices.Contains(s.Notes, r.Notes[0]) || strings.Contains(r.Notes[0], "sesame") {
		t.Fatalf("%v: %q", err, r.Notes)
	}
	if _, err := m.apply(m.show()+"# once more\n", 1); err != nil {
		t.Fatal(err)
	}
	if s := m.works(2, 1); note(s) {
		t.Fatalf("%q", s.Notes)
	}
	m.stop()
	if got := m.fencer.cfg.Devices[0].Options["password"]; got != "sesame" {
		t.Fatalf("the device has password %q", got)
	}
}
