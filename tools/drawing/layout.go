package drawing

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// Lane is one row of the timeline, usually a node.
type Lane struct {
	Name  string
	Marks []Mark
	Spans []Span
}

// Mark is a moment. A time that is not finite is left out.
type Mark struct {
	AtMS  float64
	Label string
}

// Span is a stretch of time. Spans of one Class have one colour, which the
// legend explains; the label is written inside when there is room.
type Span struct {
	From, To float64 // ms
	Label    string
	Class    string
}

// Sizes in user units, which are pixels at scale 1.
const (
	width     = 1160.0
	edge      = 24.0
	charWidth = 6.7 // of the 11 unit monospaced labels, rounded up
	rowHeight = 15.0
	barHeight = 16.0
	laneGap   = 26.0
	textInset = 4.0 // from a leader line to its label
)

// label is a mark with its place: x of the leader line, row 0 next to the line.
type label struct {
	x, end float64
	row    int
	text   string
}

// bar is a span with its place.
type bar struct {
	from, to float64
	row      int
	span     Span
}

// scale maps milliseconds to x.
type scale struct{ from, to, left, right float64 }

func (s scale) x(ms float64) float64 {
	return s.left + (ms-s.from)/(s.to-s.from)*(s.right-s.left)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

func textWidth(s string) float64 { return float64(utf8.RuneCountInString(s)) * charWidth }

// markText is a mark's label with its time.
func markText(m Mark) string {
	if math.Abs(m.AtMS) < 99.95 {
		return fmt.Sprintf("%s %.1f", m.Label, m.AtMS)
	}
	return fmt.Sprintf("%s %.0f", m.Label, m.AtMS)
}

// newScale fits all lanes, the names on the left and the longest label on the right.
func newScale(lanes []Lane) scale {
	s := scale{left: edge, right: width - edge}
	names, last := 0.0, 0.0
	for _, l := range lanes {
		names = max(names, textWidth(l.Name))
		for _, m := range l.Marks {
			if finite(m.AtMS) {
				s.from, s.to = min(s.from, m.AtMS), max(s.to, m.AtMS)
				last = max(last, textWidth(markText(m)))
			}
		}
		for _, p := range l.Spans {
			if finite(p.From) && finite(p.To) {
				s.from, s.to = min(s.from, p.From, p.To), max(s.to, p.From, p.To)
			}
		}
	}
	if s.to <= s.from {
		s.to = s.from + 1
	}
	s.left += min(names, width/4) + 14
	s.right -= min(last+textInset, width/4)
	return s
}

// place puts the labels of a lane into rows, so that none lies on another and no
// leader line crosses one. Later labels are nearer to the line: each label's row
// is above those of all marks that its text reaches over.
func place(marks []Mark, s scale) []label {
	var out []label
	for _, m := range marks {
		if finite(m.AtMS) {
			x, text := s.x(m.AtMS), markText(m)
			out = append(out, label{x: x, end: x + textInset + textWidth(text) + textInset, text: text})
		}
	}
	slices.SortStableFunc(out, func(a, b label) int { return cmp.Compare(a.x, b.x) })
	for i := len(out) - 1; i >= 0; i-- {
		for j := i + 1; j < len(out) && out[j].x < out[i].end; j++ {
			out[i].row = max(out[i].row, out[j].row+1)
		}
	}
	return out
}

// stack puts the spans of a lane into rows, so that none covers another.
func stack(spans []Span, s scale) []bar {
	var out []bar
	for _, p := range spans {
		if !finite(p.From) || !finite(p.To) {
			continue
		}
		from, to := s.x(min(p.From, p.To)), s.x(max(p.From, p.To))
		out = append(out, bar{from: from, to: max(to, from+1), span: p})
	}
	slices.SortStableFunc(out, func(a, b bar) int { return cmp.Compare(a.from, b.from) })
	var ends []float64 // of the last bar in each row
	for i := range out {
		row := slices.IndexFunc(ends, func(end float64) bool { return end <= out[i].from+0.01 })
		if row < 0 {
			row, ends = len(ends), append(ends, 0)
		}
		out[i].row, ends[row] = row, out[i].to
	}
	return out
}

// ticks are round times across the scale, about ten of them.
func ticks(s scale) []float64 {
	raw := (s.to - s.from) / 10
	step := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, f := range []float64{1, 2, 5, 10} {
		if step*f >= raw {
			step *= f
			break
		}
	}
	var out []float64
	for i := math.Ceil(s.from / step); i*step <= s.to+step/1e6; i++ {
		out = append(out, i*step)
	}
	return out
}
