package drawing

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files")

// recovery is one that happened: what matters comes in a few milliseconds, and
// then the kernel works.
func recovery() []Lane {
	steps := []string{"suspect", "convicted", "evicted", "fenced", "stopped", "opened", "started", "recovered", "journal", "granted"}
	lane := func(name string, at ...float64) Lane {
		l := Lane{Name: name}
		for i, a := range at {
			l.Marks = append(l.Marks, Mark{a, steps[i]})
		}
		l.Spans = []Span{
			{0, at[1], "detect", "detect"}, {at[1], at[2], "agree", "agree"}, {at[2], at[3], "fence", "fence"},
			{at[3], at[6], "stop, start", "lockspace"}, {at[6], at[7], "DLM recovery", "kernel"}, {at[7], at[9], "journal", "gfs2"},
		}
		return l
	}
	return []Lane{
		lane("node1", 201.3, 204.8, 212.5, 228.1, 233.9, 236.2, 239.7, 506.4, 688.2, 702.9),
		lane("node2", 203.9, 205.2, 213.1, 228.3, 234.4, 236.8, 238.1, 511.0, 690.7, 731.5),
	}
}

func TestGolden(t *testing.T) {
	for name, lanes := range map[string][]Lane{
		"recovery": recovery(),
		"empty":    nil,
		"waiting":  {{Name: "node1", Marks: []Mark{{0.4, "stop"}}, Spans: []Span{{0, 60000, "waits for <fencing> & node3", "fencing"}, {100, 200, "x", "other"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			title := map[string]string{"recovery": "node3 killed: 3 nodes & Linux 6.1"}[name]
			got := Timeline(title, lanes)
			file := filepath.Join("testdata", name+".svg")
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("differs from %s; look at it, then run with -update", file)
			}
		})
	}
}

func wellFormed(svg []byte) error {
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestForeignText(t *testing.T) {
	svg := Timeline("<b>", []Lane{{Name: "a<b>&\"'\x00\x1b", Marks: []Mark{{1, "]]>"}}, Spans: []Span{{0, 900, "</text>", "<c>"}}}})
	if err := wellFormed(svg); err != nil {
		t.Errorf("%v\n%s", err, svg)
	}
	if strings.Contains(string(svg), "<b>") {
		t.Error("a name became markup")
	}
}

func TestUnusableTimes(t *testing.T) {
	svg := Timeline("", []Lane{{Name: "a", Marks: []Mark{{math.NaN(), "x"}, {math.Inf(1), "y"}, {5, "z"}}, Spans: []Span{{0, math.Inf(1), "s", "c"}, {9, 2, "back", "c"}}}})
	if err := wellFormed(svg); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"NaN", "Inf", ">x ", ">y "} {
		if strings.Contains(string(svg), bad) {
			t.Errorf("%q is in the drawing", bad)
		}
	}
}

func TestTicks(t *testing.T) {
	for to, want := range map[float64]int{730: 8, 1: 11, 60000: 7, 99: 10} {
		if got := ticks(scale{to: to}); len(got) != want || got[0] != 0 {
			t.Errorf("0 to %v: %v", to, got)
		}
	}
}

func genMarks(t *rapid.T) []Mark {
	at := rapid.Float64Range(-50, 3000)
	if rapid.Bool().Draw(t, "crowded") {
		at = rapid.Float64Range(200, 260)
	}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Mark {
		return Mark{at.Draw(t, "at"), rapid.StringMatching(`[a-z]{0,14}`).Draw(t, "label")}
	}), 0, 24).Draw(t, "marks")
}

// No label lies on another, and no leader line crosses a label.
func TestLabelsAreApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lane := Lane{Marks: genMarks(t)}
		s := newScale([]Lane{lane})
		got := place(lane.Marks, s)
		if len(got) != len(lane.Marks) {
			t.Fatalf("%d labels of %d marks", len(got), len(lane.Marks))
		}
		for i, a := range got {
			if a.x < s.left-0.01 || a.end > width {
				t.Fatalf("%+v is outside", a)
			}
			for j, b := range got {
				if i == j {
					continue
				}
				if a.row == b.row && a.x < b.end && b.x < a.end {
					t.Fatalf("%+v and %+v overlap", a, b)
				}
				// b's leader reaches from its row down to the line.
				if a.row < b.row && b.x > a.x+textInset && b.x < a.end {
					t.Fatalf("the leader of %+v crosses %+v", b, a)
				}
			}
		}
	})
}

// No bar covers another, and every drawing is well-formed.
func TestBarsAreApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spans := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Span {
			f := rapid.Float64Range(0, 1000)
			return Span{f.Draw(t, "from"), f.Draw(t, "to"), rapid.String().Draw(t, "label"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "class")}
		}), 0, 12).Draw(t, "spans")
		lanes := []Lane{{Name: rapid.String().Draw(t, "name"), Marks: genMarks(t), Spans: spans}}
		got := stack(spans, newScale(lanes))
		for i, a := range got {
			for _, b := range got[i+1:] {
				if a.row == b.row && a.from < b.to-0.02 && b.from < a.to-0.02 {
					t.Fatalf("%+v and %+v overlap", a, b)
				}
			}
		}
		if err := wellFormed(Timeline(rapid.String().Draw(t, "title"), lanes)); err != nil {
			t.Fatal(err)
		}
	})
}
