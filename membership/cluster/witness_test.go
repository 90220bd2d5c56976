package cluster

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/quorate/quorate/membership"
)

func eye() Command {
	return Command{Witness: &Witness{Name: "eye", Addr: "w.example:21062", Fingerprint: strings.Repeat("0a", 32), Who: "root"}}
}

// One witness at a time; each has an id that no other ever had, and each change makes a view.
func TestWitnessComesAndGoes(t *testing.T) {
	y, _, _, _ := three(t)
	for i := range membership.NodeID(3) {
		out := y.done(eye())
		w := y.s.Witness
		if out.View == nil || w == nil || w.ID != membership.FirstWitness+i || w.Name != "eye" || w.Who != "root" {
			t.Fatalf("%+v, %+v", out, w)
		}
		y.refused(eye(), "already: eye at w.example:21062")
		y.refused(Command{Witness: &Witness{ID: w.ID + 1, Remove: true}}, "no witness of id")
		if out := y.done(Command{Witness: &Witness{ID: w.ID, Remove: true}}); out.View == nil || len(out.View.Members) != 3 {
			t.Fatalf("%+v", out)
		}
		y.refused(Command{Witness: &Witness{ID: w.ID, Remove: true}}, "no witness")
	}
}

// What is proposed is not what is believed: an entry with an id chooses none.
func TestWitnessDoesNotChooseItsID(t *testing.T) {
	y, _, _, _ := three(t)
	c := eye()
	c.Witness.ID = membership.FirstWitness + 77
	y.done(c)
	if y.s.Witness.ID != membership.FirstWitness {
		t.Fatalf("%+v", y.s.Witness)
	}
}

func TestWitnessIsInTheSnapshot(t *testing.T) {
	y, _, _, _ := three(t)
	y.done(eye())
	b, err := y.s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	s := New()
	if err := s.Restore(b); err != nil || s.Witness == nil || *s.Witness != *y.s.Witness || s.Witnesses != 1 {
		t.Fatalf("%+v, %v", s.Witness, err)
	}
	if c, err := Decode(eye().Encode()); err != nil || c.Witness == nil || c.Witness.Addr != "w.example:21062" {
		t.Fatalf("%+v, %v", c, err)
	}
}

func TestWitnessThatCannotBe(t *testing.T) {
	y, _, _, _ := three(t)
	for name, spoil := range map[string]func(*Witness){
		"no name":           func(w *Witness) { w.Name = "" },
		"a name of lines":   func(w *Witness) { w.Name = "a\nb" },
		"a long name":       func(w *Witness) { w.Name = strings.Repeat("a", 64) },
		"no address":        func(w *Witness) { w.Addr = "" },
		"no port":           func(w *Witness) { w.Addr = "w" },
		"no host":           func(w *Witness) { w.Addr = ":1" },
		"port 0":            func(w *Witness) { w.Addr = "w:0" },
		"a large port":      func(w *Witness) { w.Addr = "w:70000" },
		"a bare IPv6":       func(w *Witness) { w.Addr = "fe::1:21062" },
		"brackets around w": func(w *Witness) { w.Addr = "[w]:1" },
		"a space":           func(w *Witness) { w.Addr = "w w:1" },
		"a long address":    func(w *Witness) { w.Addr = strings.Repeat("a", 300) + ":1" },
		"no fingerprint":    func(w *Witness) { w.Fingerprint = "" },
		"a short one":       func(w *Witness) { w.Fingerprint = "0a" },
		"capitals":          func(w *Witness) { w.Fingerprint = strings.Repeat("0A", 32) },
	} {
		c := eye()
		spoil(c.Witness)
		if c.Witness.Check() == nil {
			t.Errorf("%s: %+v", name, c.Witness)
		}
		y.refused(c, "is not")
	}
	for _, addr := range []string{"w:1", "10.0.0.9:65535", "[fe::1]:21062", "w-1.example.org:21062"} {
		c := eye()
		if c.Witness.Addr = addr; c.Witness.Check() != nil {
			t.Errorf("%s: %v", addr, c.Witness.Check())
		}
	}
}

func FuzzWitnessCheck(f *testing.F) {
	f.Add([]byte(`{"name":"eye","addr":"w:1","fingerprint":"00"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var w Witness
		if json.Unmarshal(b, &w) == nil && w.Check() == nil && strings.ContainsAny(w.Name+w.Addr+w.Fingerprint, "\n\r\t /") {
			t.Errorf("accepted: %+v", w)
		}
	})
}
