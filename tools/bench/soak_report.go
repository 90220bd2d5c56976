package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/quorate/quorate/tools/bench/internal/figures"
)

// SoakReport is the file of bench soak.
type SoakReport struct {
	Machine figures.Machine `json:"machine"`
	Minutes float64         `json:"minutes"`
	Seed    uint64          `json:"seed"`
	Nodes   int             `json:"nodes"`
	Systems []SoakSystem    `json:"systems"`
	Rounds  []SoakRound     `json:"rounds"`
}

// SoakSystem is a column of the table.
type SoakSystem struct {
	kind
	// Kernel says that kernels answer its probes, where it tells that.
	Kernel bool `json:"kernel_answers"`
}

// SoakRound is one fault.
type SoakRound struct {
	Fault  string `json:"fault"`
	Victim int    `json:"victim,omitempty"`
	StopMS int64  `json:"stop_ms,omitempty"`
	// Collections is how often quorate's daemons have collected garbage under the fault.
	Collections int `json:"collections"`
	// Lost are the nodes that were convicted, by the order of the systems.
	Lost [][]int `json:"lost"`
}

// count adds up the rounds of a fault, "" for all, and a system's convictions in them.
func (r SoakReport) count(fault string, system int) (rounds, lost, collections int) {
	for _, x := range r.Rounds {
		if fault == "" || x.Fault == fault {
			rounds++
			lost += len(x.Lost[system])
			collections += x.Collections
		}
	}
	return rounds, lost, collections
}

func (r SoakReport) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "fault\trounds\tcollections\t")
	for _, s := range r.Systems {
		fmt.Fprintf(w, "%s\t", s.kind)
	}
	fmt.Fprintln(w)
	row := func(name, fault string) {
		rounds, _, collections := r.count(fault, 0)
		fmt.Fprintf(w, "%s\t%d\t%d\t", name, rounds, collections)
		for i := range r.Systems {
			_, lost, _ := r.count(fault, i)
			fmt.Fprintf(w, "%d\t", lost)
		}
		fmt.Fprintln(w)
	}
	for _, f := range faultKinds {
		if n, _, _ := r.count(f, 0); n > 0 {
			row(f, f)
		}
	}
	row("sum", "")
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nnodes that were convicted though their kernels were alive; %d nodes, seed %d. collections: of garbage, by quorate's daemons under the faults.\n", r.Nodes, r.Seed)
	for i, s := range r.Systems {
		if s.System != "quorate" {
			continue
		}
		who := "its daemons answer its probes, not the kernels: a daemon that stands still is taken for a dead machine"
		if s.Kernel {
			who = "the kernels answer its probes"
		}
		_, lost, _ := r.count("", i)
		_, err = fmt.Fprintf(out, "%s  %s: no false conviction; there were %d. %s\n", map[bool]string{true: "met    ", false: "NOT MET"}[lost == 0], s.kind, lost, who)
	}
	return err
}

var errConvicted = errors.New("were convicted though their kernels were alive")

// failure says that quorate convicted somebody; nil: nobody. What corosync does is a finding.
func (r SoakReport) failure() error {
	for i, s := range r.Systems {
		if _, lost, _ := r.count("", i); lost > 0 && s.System == "quorate" {
			return fmt.Errorf("%s: %d nodes %w", s.kind, lost, errConvicted)
		}
	}
	if len(r.Rounds) == 0 {
		return errors.New("no fault was tried")
	}
	return nil
}
