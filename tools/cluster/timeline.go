package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// Phase is one step of a recovery as one survivor went through it.
type Phase struct {
	Kind membership.Kind `json:"kind"`
	MS   float64         `json:"ms"` // after the kill, by the host's clock
	Text string          `json:"text,omitempty"`
}

// Survivor is a recovery as one survivor went through it.
type Survivor struct {
	Node      int     `json:"node"`
	Phases    []Phase `json:"phases"`
	GrantedMS float64 `json:"granted_ms"` // the victim's flock was granted here; 0 not waited for
}

// Recovery is one death and what followed.
type Recovery struct {
	Victim    int        `json:"victim"`
	Leader    bool       `json:"victim_was_leader"`
	Survivors []Survivor `json:"survivors"`
	DetectMS  float64    `json:"detect_ms"` // first conviction
	AgreeMS   float64    `json:"agree_ms"`  // the eviction was delivered at the last survivor
	FenceMS   float64    `json:"fence_ms"`  // from the first delivery to the proof at the last survivor
	OursMS    float64    `json:"ours_ms"`   // control=1 was written on the last survivor
	StallMS   float64    `json:"stall_ms"`  // the first survivor has the flock
	LastMS    float64    `json:"last_stall_ms"`
	KernelMS  float64    `json:"kernel_ms"` // stall_ms less ours_ms
}

// Steps are the steps that a recovery consists of, in order.
var Steps = []membership.Kind{membership.KindSuspect, membership.KindConvicted, membership.KindEvicted, membership.KindFenced,
	membership.KindStopped, membership.KindOpened, membership.KindStarted, membership.KindRecovered, membership.KindJournal}

// Recovery reads the recovery of a victim killed at a time from the events.
func (c *Cluster) Recovery(victim int, at time.Time, survivors []int) Recovery {
	r := Recovery{Victim: victim}
	all := c.Events.All()
	for _, i := range survivors {
		s := Survivor{Node: i}
		for _, k := range Steps {
			if p, ok := first(all, i, victim, k, at); ok {
				s.Phases = append(s.Phases, p)
			}
		}
		for _, e := range all {
			if e.Told == "granted" && e.Node == i && e.At.After(at) {
				s.GrantedMS = ms(e.At, at)
				break
			}
		}
		r.Survivors = append(r.Survivors, s)
	}
	r.sum()
	return r
}

// first is the first event of a kind at a node after the kill. A journal's
// replay is the last of it: earlier ones are of other nodes' journals.
func first(all []Event, node, victim int, k membership.Kind, at time.Time) (Phase, bool) {
	for _, e := range all {
		about := e.Subject == 0 || int(e.Subject) == victim || e.Lockspace != ""
		if e.Node == node && e.Kind == k && about && e.At.After(at) {
			return Phase{Kind: k, MS: ms(e.At, at), Text: e.Text}, true
		}
	}
	return Phase{}, false
}

func ms(t, from time.Time) float64 { return float64(t.Sub(from).Microseconds()) / 1000 }

// At is when a survivor was at a step.
func (s Survivor) At(k membership.Kind) (float64, bool) {
	i := slices.IndexFunc(s.Phases, func(p Phase) bool { return p.Kind == k })
	if i < 0 {
		return 0, false
	}
	return s.Phases[i].MS, true
}

// whole rounds a difference of times to what they are measured in, a microsecond.
func whole(ms float64) float64 { return math.Round(ms*1000) / 1000 }

func (r *Recovery) sum() {
	last := func(k membership.Kind) float64 {
		v := 0.0
		for _, s := range r.Survivors {
			if at, ok := s.At(k); ok {
				v = max(v, at)
			}
		}
		return v
	}
	firstOf := func(k membership.Kind) float64 {
		v := 0.0
		for _, s := range r.Survivors {
			if at, ok := s.At(k); ok && (v == 0 || at < v) {
				v = at
			}
		}
		return v
	}
	r.DetectMS, r.AgreeMS, r.OursMS = firstOf(membership.KindConvicted), last(membership.KindEvicted), last(membership.KindStarted)
	r.FenceMS = whole(max(last(membership.KindFenced)-firstOf(membership.KindEvicted), 0))
	for _, s := range r.Survivors {
		if s.GrantedMS != 0 && (r.StallMS == 0 || s.GrantedMS < r.StallMS) {
			r.StallMS = s.GrantedMS
		}
		r.LastMS = max(r.LastMS, s.GrantedMS)
	}
	r.KernelMS = whole(max(r.StallMS-r.OursMS, 0))
}

// SaveEvents writes the raw events of each node below dir, a line of JSON each, in
// the place of what an earlier run left there.
func (c *Cluster) SaveEvents(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, "node*"))
	for _, f := range old {
		err = errors.Join(err, os.Remove(f))
	}
	if err != nil {
		return err
	}
	files := map[int][]byte{}
	for _, e := range c.Events.All() {
		b, err := json.Marshal(e)
		if err != nil {
			return err
		}
		files[e.Node] = append(append(files[e.Node], b...), '\n')
	}
	for i, b := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("node%d.jsonl", i)), b, 0o644); err != nil {
			return err
		}
	}
	b, err := json.MarshalIndent(c.Lab.PowerLog(), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "fence-device.json"), append(b, '\n'), 0o644)
}
