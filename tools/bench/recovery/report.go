package recovery

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/quorate/quorate/tools/bench/internal/figures"
	"github.com/quorate/quorate/tools/drawing"
)

// Report is the file.
type Report struct {
	Machine figures.Machine `json:"machine"`
	Kernel  string          `json:"kernel"` // of the nodes
	Nodes   int             `json:"nodes"`
	Fencing string          `json:"fencing"`
	Systems []System        `json:"systems"` // in the order of the table's columns
	Rounds  []Round         `json:"rounds"`
	Failed  []Failure       `json:"failed,omitempty"`
}

// System is a column of the table.
type System struct {
	Name    string `json:"system"`
	Setting string `json:"setting"`
	Config  string `json:"config"` // what the setting consists of
	Rounds  int    `json:"rounds"` // that came to a result
	// Figures are by their names in lines; nil when no round came to a result.
	Figures map[string]Figure `json:"figures,omitempty"`
}

func (s System) label() string { return s.Name + " " + s.Setting }

// Figure is one thing that was measured once a round, in ms.
type Figure struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// figure is a line of the table.
type figure struct {
	name, what string
	of         func(Round) float64
}

var lines = []figure{
	{"first_ms", "death: its flock on the first survivor", func(r Round) float64 { return r.Death.FirstMS }},
	{"last_ms", "  on the last survivor", func(r Round) float64 { return r.Death.LastMS }},
	{"fence_asked_ms", "  the fence device is asked, and answers", func(r Round) float64 { return r.Death.FenceAskMS }},
	{"ours_ms", "  control=1 on the last survivor", func(r Round) float64 { return r.Death.OursMS }},
	{"dlm_done_ms", "  DLM recovery done on the last survivor", func(r Round) float64 { return r.Death.DLMDoneMS }},
	{"kernel_ms", "  control=1 to the first flock", func(r Round) float64 { return r.Death.KernelMS }},
	{"unmount_ms", "leave: unmounted", func(r Round) float64 { return r.Leave.UnmountMS }},
	{"leave_ms", "  left, daemons ended", func(r Round) float64 { return r.Leave.TookMS }},
	{"leave_stall_ms", "  longest wait for a lock elsewhere", func(r Round) float64 { return r.Leave.StallMS }},
	{"join_ms", "join: mounted", func(r Round) float64 { return r.Join.TookMS }},
	{"join_stall_ms", "  longest wait for a lock elsewhere", func(r Round) float64 { return r.Join.StallMS }},
	{"quiet_ms", "nothing: longest wait for a lock", func(r Round) float64 { return r.QuietMS }},
}

// sum makes the systems' figures of the rounds.
func (r *Report) sum() {
	for i, s := range r.Systems {
		var mine []Round
		for _, x := range r.Rounds {
			if x.System == s.Name && x.Setting == s.Setting {
				mine = append(mine, x)
			}
		}
		if s.Rounds = len(mine); s.Rounds > 0 {
			s.Figures = map[string]Figure{}
		}
		for _, l := range lines {
			var v []float64
			for _, x := range mine {
				v = append(v, l.of(x))
			}
			if len(v) > 0 {
				s.Figures[l.name] = Figure{figures.Round(figures.Median(v)), figures.Round(slices.Min(v)), figures.Round(slices.Max(v))}
			}
		}
		r.Systems[i] = s
	}
}

// table prints a column for each system: median, least and most, and how many times
// the first column's median it is.
func (r Report) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	row := func(what string, cell func(System) string) {
		fmt.Fprint(w, what)
		for _, s := range r.Systems {
			fmt.Fprint(w, "\t"+cell(s))
		}
		fmt.Fprintln(w)
	}
	row("ms", System.label)
	row("rounds", func(s System) string { return fmt.Sprint(s.Rounds) })
	for _, l := range lines {
		row(l.what, func(s System) string { return s.cell(l.name, r.Systems[0]) })
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nmedian (least-most), xN: times the first column's median. %d nodes with Linux %s on %d CPUs. Fencing is %s.\n", r.Nodes, r.Kernel, r.Machine.CPUs, r.Fencing)
	return err
}

func (s System) cell(name string, first System) string {
	f, ok := s.Figures[name]
	if !ok {
		return "-"
	}
	text := fmt.Sprintf("%.0f (%.0f-%.0f)", f.Median, f.Min, f.Max)
	if base := first.Figures[name]; first.label() != s.label() && base.Median > 0 {
		text += fmt.Sprintf(" x%.1f", f.Median/base.Median)
	}
	return text
}

// stretches are the parts of a recovery, each up to one of the figures.
var stretches = []struct{ to, class string }{
	{"fence_asked_ms", "detect, agree, run the agent"}, {"ours_ms", "start"},
	{"dlm_done_ms", "DLM recovery"}, {"first_ms", "journal and lock"},
}

// lanes are the medians of the deaths. Medians keep the order of what they are of:
// what came later in every round comes later here.
func (r Report) lanes() (out []drawing.Lane) {
	for _, s := range r.Systems {
		if s.Rounds == 0 {
			continue
		}
		l := drawing.Lane{Name: s.label()}
		from := 0.0
		for _, x := range stretches {
			if to := s.Figures[x.to].Median; to > from {
				l.Spans = append(l.Spans, drawing.Span{From: from, To: to, Label: x.class, Class: x.class})
				from = to
			}
		}
		l.Marks = []drawing.Mark{{AtMS: s.Figures["ours_ms"].Median, Label: "control=1"},
			{AtMS: s.Figures["first_ms"].Median, Label: "first flock"}, {AtMS: s.Figures["last_ms"].Median, Label: "last flock"}}
		out = append(out, l)
	}
	return out
}

func (r Report) title() string {
	return fmt.Sprintf("A node killed: %d nodes, Linux %s, medians", r.Nodes, r.Kernel)
}

func (r Report) draw(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, drawing.Timeline(r.title(), r.lanes()), 0o644)
}
