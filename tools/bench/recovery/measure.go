package recovery

import (
	"fmt"
	"math"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// Death is one death and what followed, in ms after the kill.
type Death struct {
	Victim     int     `json:"victim"`
	FenceAskMS float64 `json:"fence_asked_ms"` // the power switch was asked: detected, and agreed
	FencedMS   float64 `json:"fenced_ms"`      // and had answered, which takes no time for a node that is dead
	OursMS     float64 `json:"ours_ms"`        // control=1 was written on the last survivor
	DLMDoneMS  float64 `json:"dlm_done_ms"`    // the DLM's recovery was done on the last survivor
	FirstMS    float64 `json:"first_ms"`       // the first survivor had the dead node's flock
	LastMS     float64 `json:"last_ms"`
	KernelMS   float64 `json:"kernel_ms"` // first_ms less ours_ms
	// Told is the same by the daemons' own events, where they tell of any.
	Told *Told `json:"told,omitempty"`
}

// Told is what quorated's events say, stamped by the host on arrival.
type Told struct {
	DetectMS float64 `json:"detect_ms"` // first conviction
	AgreeMS  float64 `json:"agree_ms"`  // the eviction was agreed at the last survivor
	OursMS   float64 `json:"ours_ms"`   // control=1 was written on the last survivor
}

// Change is a planned change of one node, and what the others felt of it.
type Change struct {
	Node   int     `json:"node"`
	TookMS float64 `json:"took_ms"` // of all its parts
	// UnmountMS is the first part of a leave.
	UnmountMS float64 `json:"unmount_ms,omitempty"`
	// StallMS is the longest time without a new lock on any other node, from the
	// beginning until half a second after the end.
	StallMS float64 `json:"stall_ms"`
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// deathOf reads a death from what the nodes told, in the order in which it came, and
// from what the power switch was asked.
func deathOf(all []cluster.Event, power []fencedev.Record, victim int, at time.Time, survivors []int) (Death, error) {
	d := Death{Victim: victim}
	for _, p := range power {
		if p.Plug == victim && p.Action == fencedev.Off && p.Asked.After(at) {
			if d.FenceAskMS == 0 {
				d.FenceAskMS = ms(p.Asked.Sub(at))
			}
			if p.Err == "" && d.FencedMS == 0 {
				d.FencedMS = ms(p.Done.Sub(at))
			}
		}
	}
	if d.FencedMS == 0 {
		return d, fmt.Errorf("node%d was not fenced", victim)
	}
	for _, i := range survivors {
		s, err := survivorOf(all, i, at)
		if err != nil {
			return d, err
		}
		d.OursMS, d.DLMDoneMS, d.LastMS = max(d.OursMS, s.begun), max(d.DLMDoneMS, s.done), max(d.LastMS, s.granted)
		if d.FirstMS == 0 || s.granted < d.FirstMS {
			d.FirstMS = s.granted
		}
	}
	d.KernelMS = math.Round((d.FirstMS-d.OursMS)*1000) / 1000
	return d, nil
}

// survivor is a recovery as one survivor went through it.
type survivor struct{ begun, done, granted float64 }

// survivorOf takes the last recovery of the DLM that began before the grant: one
// that was begun before it may have been given up. The kernel grants a few ms before
// it says that the recovery is done.
func survivorOf(all []cluster.Event, node int, at time.Time) (s survivor, err error) {
	for _, e := range all {
		if e.Node != node || !e.At.After(at) {
			continue
		}
		after := ms(e.At.Sub(at))
		switch word := recoveryWord(e.Text, cluster.Table); {
		case e.Told == "granted":
			if s.granted = after; s.begun == 0 {
				return s, fmt.Errorf("node%d: the kernel told of no recovery before it granted the lock: %+v", node, s)
			}
		case e.Told == "kernel" && word == begun:
			if s.granted != 0 {
				return s, fmt.Errorf("node%d: the kernel began a recovery that it did not end: %+v", node, s)
			}
			s.begun, s.done = after, 0
		case e.Told == "kernel" && word == done:
			s.done = after
		}
		if s.granted != 0 && s.done != 0 {
			return s, nil
		}
	}
	return s, fmt.Errorf("node%d was not granted the lock, or its recovery is not done: %+v", node, s)
}

// toldOf is nil when the daemons tell nothing.
func toldOf(r cluster.Recovery) *Told {
	for _, s := range r.Survivors {
		if _, ok := s.At(membership.KindStarted); !ok {
			return nil
		}
	}
	return &Told{DetectMS: r.DetectMS, AgreeMS: r.AgreeMS, OursMS: r.OursMS}
}

// longestWait is the longest time between two locks of any of the nodes that
// reaches into the time from one moment to another.
func longestWait(all []cluster.Event, nodes []int, from, to time.Time) (longest time.Duration) {
	for _, i := range nodes {
		var last time.Time
		for _, e := range all {
			if e.Node != i || e.Told != "locked" {
				continue
			}
			if !last.IsZero() && e.At.After(from) && last.Before(to) {
				longest = max(longest, e.At.Sub(last))
			}
			last = e.At
		}
	}
	return longest
}
