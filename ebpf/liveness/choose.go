package liveness

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
)

// Mode is where the program looks at an interface's frames.
type Mode string

// The modes.
const (
	None    Mode = ""        // nowhere: the daemon answers
	Native  Mode = "native"  // in the driver
	Generic Mode = "generic" // in the stack, before everything else there
)

// Want is what an operator wants.
type Want string

// The wishes. Auto takes native where it works, else generic.
const (
	Auto        Want = "auto"
	WantNative  Want = "native"
	WantGeneric Want = "generic"
	Off         Want = "off"
)

// Wants are all of them.
var Wants = []Want{Auto, WantNative, WantGeneric, Off}

func (w Want) modes() []Mode {
	switch w {
	case Auto, "":
		return []Mode{Native, Generic}
	case WantNative:
		return []Mode{Native}
	case WantGeneric:
		return []Mode{Generic}
	}
	return nil
}

// seen is what was found of one interface.
type seen struct {
	foreign string // another XDP program that is on it
	ours    Mode   // ours, and it is attached
	since   membership.Mono
	faults  map[Mode]fault
	peers   []PeerState // on the links of the interface
}

// fault is why a mode is not tried, and until when.
type fault struct {
	why   string
	until membership.Mono
}

const (
	// retry is how long a mode rests that could not be had, and retrial Generic when its
	// answers did not arrive: each trial of that costs proof.
	retry   = time.Minute
	retrial = 10 * time.Minute
	// never is when Native is tried again whose answers did not arrive, as long as the driver
	// is the same: to attach to one may take its link down for a moment.
	never = membership.Mono(math.MaxInt64)
	// proof is for how long a peer hears the daemon and not the kernel until the mode is
	// at fault: the daemon answers every other probe then.
	proof = 3 * time.Second
)

// again is when a mode may be tried whose answers did not arrive.
func again(m Mode, now membership.Mono) membership.Mono {
	if m == Native {
		return never
	}
	return now.Add(retrial)
}

// choose says where the program belongs, and why not where it was wanted first. What
// runs and works stays: to attach to a driver may take its link down for a moment.
func choose(w Want, s seen, now membership.Mono) (goal Mode, why string) {
	modes := w.modes()
	if len(modes) == 0 {
		return None, `[liveness] reflector is "off"`
	}
	if s.foreign != "" {
		return None, "another XDP program is there: " + s.foreign
	}
	var faults []string
	usable := func(m Mode) bool {
		f, bad := s.faults[m]
		return !bad || now >= f.until
	}
	for _, m := range modes {
		if !usable(m) {
			faults = append(faults, fmt.Sprintf("%s: %s", m, s.faults[m].why))
		}
	}
	why = strings.Join(faults, "; ")
	if s.ours != None && slices.Contains(modes, s.ours) && usable(s.ours) {
		return s.ours, why
	}
	for _, m := range modes {
		if usable(m) {
			return m, why
		}
	}
	return None, why
}

// unheard says whether the answers of the program do not arrive, and at whom: a peer
// has been hearing the daemon for some time since it last heard the kernel, and no
// other one hears the kernel now.
func unheard(s seen, now membership.Mono) (who membership.NodeID, lost bool) {
	for _, p := range s.peers {
		if p.Acked > s.since && now.Sub(p.Acked) < proof {
			return 0, false
		}
		if p.AckedUser.Sub(max(p.Acked, s.since)) > proof && !lost {
			who, lost = p.Node, true
		}
	}
	return who, lost
}
