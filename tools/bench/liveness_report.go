package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/quorate/quorate/tools/bench/internal/figures"
)

// LiveRow is one line of the table.
type LiveRow struct {
	kind
	Nodes int     `json:"nodes"`
	Kills int     `json:"kills"`
	P50MS float64 `json:"p50_ms"` // from the drop to the view at the last survivor
	MaxMS float64 `json:"max_ms"`
	CPU   float64 `json:"cpu_ms_per_s"` // of one idle daemon
	PPS   float64 `json:"pps"`          // sent and received by its node
	// Alarms is how many views were told while nothing happened.
	Alarms int `json:"alarms"`
	// Kernel says that kernels answer its probes, where it tells that.
	Kernel bool `json:"kernel_answers"`
	// Asked is how many deaths there should have been; Why is why there were fewer.
	Asked int    `json:"kills_asked"`
	Why   string `json:"why,omitempty"`
}

func (r LiveRow) label() string { return fmt.Sprintf("%s, %d nodes", r.kind, r.Nodes) }

// LiveDeath is one death of a row.
type LiveDeath struct {
	kind
	Death
}

// Limit is what a figure has to be.
type Limit struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Most  float64 `json:"most"`
	Met   bool    `json:"met"`
}

// LiveReport is the file of bench liveness.
type LiveReport struct {
	Machine figures.Machine `json:"machine"`
	BudgetS float64         `json:"budget_s"`
	TookS   float64         `json:"took_s"`
	Rows    []LiveRow       `json:"rows"`
	Limits  []Limit         `json:"limits"`
	Deaths  []LiveDeath     `json:"deaths"`
}

// outOfTime is why deaths are left out when nothing failed.
const outOfTime = "left out: the time was over (see -budget)"

// add adds the row of a cell; err is why it is not complete.
func (r *LiveReport) add(c cell, got liveResult, err error) {
	row := LiveRow{kind: c.kind, Nodes: c.nodes, Kills: len(got.deaths), Asked: c.kills, CPU: figures.Round(got.cpu), PPS: figures.Round(got.pps), Alarms: got.alarms, Kernel: got.kernel}
	var all []float64
	for _, d := range got.deaths {
		all = append(all, d.SeenMS)
		r.Deaths = append(r.Deaths, LiveDeath{kind: c.kind, Death: d})
	}
	row.P50MS, row.MaxMS = figures.Round(figures.Median(all)), figures.Round(slices.Max(append(all, 0)))
	switch {
	case err != nil:
		row.Why = err.Error()
	case row.Kills < row.Asked:
		row.Why = outOfTime
	}
	r.Rows = append(r.Rows, row)
}

// limitsOf are those of quorate's profiles: the median and the longest, in ms.
var limitsOf = map[string]struct{ p50, most float64 }{
	"lan":  {200, 250},
	"fast": {50, 80},
}

// limitedNodes is up to how many nodes there is a limit to the time: with more it is that of
// the machine, which has few processors for so many daemons, and one disk for their logs.
const limitedNodes = 8

// incumbent is what quorate has to cost less than.
var incumbent = kind{"corosync", "extreme"}

// judge says which limits the rows keep. A row without a figure has no limit: it says why.
func (r *LiveReport) judge() {
	r.Limits = []Limit{}
	for _, w := range r.Rows {
		if w.System != "quorate" {
			continue
		}
		if l, ok := limitsOf[w.Profile]; ok && w.Kills > 0 && w.Nodes <= limitedNodes {
			r.Limits = append(r.Limits, Limit{w.label() + ": p50 ms", w.P50MS, l.p50, w.P50MS <= l.p50},
				Limit{w.label() + ": max ms", w.MaxMS, l.most, w.MaxMS <= l.most})
		}
		for _, o := range r.Rows {
			if o.kind == incumbent && o.Nodes == w.Nodes && o.CPU > 0 && w.CPU > 0 {
				r.Limits = append(r.Limits, Limit{fmt.Sprintf("%s: cpu ms/s, less than %s", w.label(), o.kind), w.CPU, o.CPU, w.CPU < o.CPU})
			}
		}
	}
}

func (r LiveReport) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "system\tprofile\tnodes\tkills\tp50 ms\tmax ms\tcpu ms/s\tpackets/s\talarms\t")
	for _, x := range r.Rows {
		p50, most := "-", "-"
		if x.Kills > 0 {
			p50, most = fmt.Sprintf("%.1f", x.P50MS), fmt.Sprintf("%.1f", x.MaxMS)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%.1f\t%.1f\t%d\t\n", x.System, x.Profile, x.Nodes, x.Kills, p50, most, x.CPU, x.PPS, x.Alarms)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nms: from the silent death to the agreed view at the last survivor. cpu, packets: of one idle daemon. alarms: views without any fault, while idle.")
	for _, x := range r.Rows {
		if x.Why != "" {
			fmt.Fprintf(out, "%s: %d of %d deaths: %s\n", x.label(), x.Kills, x.Asked, x.Why)
		}
	}
	fmt.Fprintln(out)
	for _, what := range r.alone() {
		fmt.Fprintln(out, what)
	}
	for _, l := range r.Limits {
		fmt.Fprintf(out, "%-7s  %s: %.1f, at most %.1f\n", map[bool]string{true: "met", false: "NOT MET"}[l.Met], l.What, l.Value, l.Most)
	}
	_, err := fmt.Fprintf(out, "%.0f s, of %.0f that a run may take\n", r.TookS, r.BudgetS)
	return err
}

// alone names the rows of quorate whose costs were not compared though the incumbent was
// asked for: it did not stand for long enough.
func (r LiveReport) alone() (out []string) {
	for _, w := range r.Rows {
		for _, o := range r.Rows {
			if w.System == "quorate" && o.kind == incumbent && o.Nodes == w.Nodes && w.CPU > 0 && o.CPU == 0 {
				out = append(out, fmt.Sprintf("not compared: %s: cpu: %s had none while idle", w.label(), o.kind))
			}
		}
	}
	return out
}

// failure says why the run is not what it should be; nil when it is. That corosync
// does not hold with its most extreme setting is a finding, and no failure.
func (r LiveReport) failure() error {
	var errs []error
	for _, x := range r.Rows {
		if x.Kills < x.Asked && (x.kind != incumbent || x.Why == outOfTime) {
			errs = append(errs, fmt.Errorf("%s: %d of %d deaths were measured", x.label(), x.Kills, x.Asked))
		}
		if x.System == "quorate" && x.Kills > 0 && !x.Kernel {
			errs = append(errs, fmt.Errorf("%s: not all kernels answered the probes: daemons did", x.label()))
		}
	}
	n := 0
	for _, l := range r.Limits {
		if !l.Met {
			n++
		}
	}
	if n > 0 {
		errs = append(errs, fmt.Errorf("%d of %d limits are not met", n, len(r.Limits)))
	}
	return errors.Join(errs...)
}
