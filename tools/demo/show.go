package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/drawing"
)

// report is what the demo measured.
type report struct {
	Nodes    int              `json:"nodes"`
	Kernel   string           `json:"kernel"`
	Agent    string           `json:"agent"`
	Profile  string           `json:"profile"`
	DeadMS   int64            `json:"dead_after_ms,omitempty"` // when it is not the profile's
	Leader   bool             `json:"victim_was_leader"`
	Recovery cluster.Recovery `json:"recovery"`
	RejoinMS float64          `json:"rejoin_ms"`
}

func (r report) line() string {
	v := r.Recovery
	return fmt.Sprintf("demo: ok nodes=%d kernel=%s agent=%s profile=%s stall_ms=%.0f/%.0f ours_ms=%.0f detect_ms=%.0f agree_ms=%.0f fence_ms=%.0f kernel_ms=%.0f rejoin_ms=%.0f",
		r.Nodes, r.Kernel, r.Agent, r.Profile, v.StallMS, v.LastMS, v.OursMS, v.DetectMS, v.AgreeMS, v.FenceMS, v.KernelMS, r.RejoinMS)
}

// title says over the drawing what it is of.
func (r report) title() string {
	role, dead := "a follower", ""
	if r.Leader {
		role = "the leader"
	}
	if r.DeadMS != 0 {
		dead = fmt.Sprintf(", dead_after %d ms", r.DeadMS)
	}
	return fmt.Sprintf("node%d, %s, was killed: %d nodes, Linux %s, profile %s%s", r.Recovery.Victim, role, r.Nodes, r.Kernel, r.Profile, dead)
}

// show sets what is printed of the events that come.
func (d *demo) show(f func(cluster.Event)) {
	d.mu.Lock()
	d.live = f
	d.mu.Unlock()
}

func (d *demo) print(e cluster.Event) {
	d.mu.Lock()
	f := d.live
	d.mu.Unlock()
	if f != nil {
		f(e)
	}
}

// forming prints who comes in.
func (d *demo) forming(e cluster.Event) {
	switch e.Kind {
	case membership.KindFormed, membership.KindView, membership.KindLeader, membership.KindRefused, membership.KindJoined, membership.KindBroken:
		d.say("  %7.1f s  node%d  %-10s %s", time.Since(d.began).Seconds(), e.Node, e.Kind, words(e))
	}
}

var told sync.Map // of recovering: each node says each step of a change once

// recovering prints the steps of a recovery with the time since the kill.
func (d *demo) recovering(e cluster.Event, at time.Time) {
	after := float64(e.At.Sub(at).Microseconds()) / 1000
	if e.Told == "granted" {
		d.say("  %8.1f ms  node%d  %-12s the dead node's flock", after, e.Node, "granted")
		return
	}
	switch e.Kind {
	case membership.KindSuspect, membership.KindConvicted, membership.KindLeader, membership.KindEvicted, membership.KindFenceEnd, membership.KindFenced,
		membership.KindStopped, membership.KindOpened, membership.KindStarted, membership.KindRecovered, membership.KindJournal:
		if _, dup := told.LoadOrStore(step(e, at), true); !dup {
			d.say("  %8.1f ms  node%d  %-12s %s", after, e.Node, e.Kind, words(e))
		}
	}
}

// step names a step of a recovery. Each node has its own, but an attempt to fence is
// one, of which all tell.
func step(e cluster.Event, at time.Time) string {
	node := e.Node
	if e.Kind == membership.KindFenceEnd {
		node = 0
	}
	return fmt.Sprint(at, node, e.Kind, e.Change, e.Index, e.Text)
}

// failedTwice says of an event that a node was fenced in vain for the second time.
func failedTwice(e cluster.Event) bool {
	var attempt int
	_, err := fmt.Sscanf(e.Text, "attempt %d by node", &attempt)
	return e.Kind == membership.KindFenceEnd && err == nil && attempt >= 2
}

func words(e cluster.Event) string {
	s := e.Text
	if e.Subject != 0 {
		s = fmt.Sprintf("node%d: %s", e.Subject, s)
	}
	if e.Lockspace != "" {
		s = fmt.Sprintf("[%s] %s", e.Lockspace, s)
	}
	return s
}

// table prints the recovery, a column for each survivor.
func (d *demo) table() {
	d.say("\n  milliseconds after the kill, by the host's clock:")
	head := fmt.Sprintf("  %-14s", "")
	for _, s := range d.r.Recovery.Survivors {
		head += fmt.Sprintf("%10s", fmt.Sprintf("node%d", s.Node))
	}
	d.say("%s", head)
	for _, k := range cluster.Steps {
		row, any := fmt.Sprintf("  %-14s", k), false
		for _, s := range d.r.Recovery.Survivors {
			if at, ok := s.At(k); ok {
				row, any = row+fmt.Sprintf("%10.1f", at), true
			} else {
				row += fmt.Sprintf("%10s", "-")
			}
		}
		if any {
			d.say("%s", row)
		}
	}
	row := fmt.Sprintf("  %-14s", "flock granted")
	for _, s := range d.r.Recovery.Survivors {
		row += fmt.Sprintf("%10.1f", s.GrantedMS)
	}
	d.say("%s", row)
}

// report writes the files.
func (d *demo) report(context.Context) error {
	d.r.Nodes, d.r.Kernel, d.r.Agent, d.r.Profile = d.set.nodes, d.c.Lab.KernelVersion(), d.set.agent, d.set.profile
	d.r.DeadMS = d.set.deadAfter.Milliseconds()
	if err := d.c.SaveEvents(filepath.Join(d.set.out, "demo")); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(d.set.out, "demo.json"), d.r); err != nil {
		return err
	}
	svg := drawing.Timeline(d.r.title(), d.lanes())
	if err := os.WriteFile(filepath.Join(d.set.out, "demo.svg"), svg, 0o644); err != nil {
		return err
	}
	d.act("written: %s/demo.json, demo.svg and the nodes' events in %s/demo", d.set.out, d.set.out)
	return nil
}

func writeJSON(file string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// stretches are the parts of a recovery, each from one step to another.
var stretches = []struct {
	from, to membership.Kind
	class    string
}{
	{"", membership.KindConvicted, "detect"}, {membership.KindConvicted, membership.KindEvicted, "agree"},
	{membership.KindEvicted, membership.KindFenced, "fence"}, {membership.KindFenced, membership.KindStarted, "start"},
}

// kernelSpans is what the kernel did once it was started. It replays a journal when
// its DLM has recovered, but may tell of that first.
func kernelSpans(s cluster.Survivor) (out []drawing.Span) {
	from, ok := s.At(membership.KindStarted)
	if !ok {
		return nil
	}
	dlm, _ := s.At(membership.KindRecovered)
	journal, _ := s.At(membership.KindJournal)
	if journal > from && journal < dlm {
		dlm = journal
	}
	for _, x := range []struct {
		to    float64
		class string
	}{{dlm, "DLM recovery"}, {journal, "journal"}, {s.GrantedMS, "locks"}} {
		if x.to > from {
			out = append(out, drawing.Span{From: from, To: x.to, Label: x.class, Class: x.class})
			from = x.to
		}
	}
	return out
}

func (d *demo) lanes() []drawing.Lane {
	var out []drawing.Lane
	for _, s := range d.r.Recovery.Survivors {
		l := drawing.Lane{Name: fmt.Sprintf("node%d", s.Node)}
		for _, p := range s.Phases {
			l.Marks = append(l.Marks, drawing.Mark{AtMS: p.MS, Label: string(p.Kind)})
		}
		for _, x := range stretches {
			from, ok := s.At(x.from)
			to, ok2 := s.At(x.to)
			if (ok || x.from == "") && ok2 && to > from {
				l.Spans = append(l.Spans, drawing.Span{From: from, To: to, Label: x.class, Class: x.class})
			}
		}
		l.Spans = append(l.Spans, kernelSpans(s)...)
		l.Marks = append(l.Marks, drawing.Mark{AtMS: s.GrantedMS, Label: "granted"})
		out = append(out, l)
	}
	return out
}
