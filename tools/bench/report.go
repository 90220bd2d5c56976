package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/quorate/quorate/tools/bench/internal/figures"
)

// Row is one line of the table: one system with one number of nodes.
type Row struct {
	System  string  `json:"system"`
	Profile string  `json:"profile"`
	Nodes   int     `json:"nodes"`
	Kills   int     `json:"kills"`
	P50MS   float64 `json:"p50_ms"` // from the drop to the view at the last survivor
	MaxMS   float64 `json:"max_ms"`
	CPU     float64 `json:"cpu_ms_per_s"` // of one idle daemon, as the two below
	RSS     float64 `json:"rss_mib"`
	PPS     float64 `json:"pps"` // sent and received

	// Calls of one daemon in one view change: a follower's death, and its return.
	// -1: not counted.
	FsyncsLeader       int `json:"fsyncs_leader"`
	FsyncsFollower     int `json:"fsyncs_follower"`
	JoinFsyncsLeader   int `json:"join_fsyncs_leader"`
	JoinFsyncsFollower int `json:"join_fsyncs_follower"`
}

// Report is the file.
type Report struct {
	Machine figures.Machine `json:"machine"`
	Rows    []Row           `json:"rows"`
	Deaths  []Death         `json:"deaths"` // each, by the rows' order
}

func row(s System, profile string, p plan, r result) Row {
	out := Row{System: s.Name(), Profile: profile, Nodes: p.nodes, Kills: len(r.deaths), CPU: figures.Round(r.cpu), RSS: figures.Round(r.rss), PPS: figures.Round(r.pps),
		FsyncsLeader: -1, FsyncsFollower: -1, JoinFsyncsLeader: -1, JoinFsyncsFollower: -1}
	var all []float64
	for _, d := range r.deaths {
		all = append(all, d.SeenMS)
	}
	out.P50MS, out.MaxMS = figures.Round(figures.Median(all)), figures.Round(slices.Max(append(all, 0)))
	if p.trace != nil { // else -1
		out.FsyncsLeader, out.FsyncsFollower = r.death.leader, r.death.follower
		out.JoinFsyncsLeader, out.JoinFsyncsFollower = r.join.leader, r.join.follower
	}
	return out
}

func printTable(out io.Writer, rows []Row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "system\tprofile\tnodes\tkills\tp50 ms\tmax ms\tcpu ms/s\trss MiB\tpackets/s\tfsyncs: death\tjoin\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%s\t%s\t\n", r.System, r.Profile, r.Nodes, r.Kills, r.P50MS, r.MaxMS, r.CPU, r.RSS, r.PPS,
			pair(r.FsyncsLeader, r.FsyncsFollower), pair(r.JoinFsyncsLeader, r.JoinFsyncsFollower))
	}
	fmt.Fprintln(w, "")
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "ms: from the silent death to the agreed view at the last survivor. cpu, rss, packets: of one idle daemon. fsyncs: leader/follower.")
	return err
}

func pair(leader, follower int) string {
	if leader < 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", leader, follower)
}
