package control

import (
	"time"

	"github.com/quorate/quorate/membership"
)

// LinksReport is what this node measured of its ways to the others.
type LinksReport struct {
	Node  membership.NodeID `json:"node"`
	Name  string            `json:"name"`
	Links []LinkStatus      `json:"links"` // by node and link
	DLM   []DLMConn         `json:"dlm"`   // by node
	// Reflectors say what answers the others' probes here, by link.
	Reflectors []Reflector `json:"reflectors,omitempty"`
	// Dropped are the packets that came for probes or answers here and were refused: by the
	// kernel's program since its maps were made, which outlive the daemon, by the daemon since it runs.
	Dropped  []Dropped      `json:"dropped,omitempty"`
	Stable   *StableAddress `json:"stable,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
}

// Dropped are packets that were refused, by reason: at least one of each.
type Dropped struct {
	By      string            `json:"by"` // kernel, daemon
	Packets map[string]uint64 `json:"packets"`
}

// StableAddress is this node's address for the DLM with dlm_address = "stable".
type StableAddress struct {
	Addr      string `json:"addr"`
	Network   string `json:"network"`
	Interface string `json:"interface"`       // that has it; empty: none has
	Error     string `json:"error,omitempty"` // what of it or of the routes could not be made
}

// LinkStatus is one peer on one link. What was measured is of the last minute, or the
// last 1024 probes where that is less, or since the peer's daemon runs.
type LinkStatus struct {
	Peer  membership.NodeID `json:"peer"`
	Name  string            `json:"name"`
	Link  int               `json:"link"`
	Addr  string            `json:"addr"`  // the peer's
	State string            `json:"state"` // up, degraded, silent

	// Probes are those of which is known what became of them, since the first answer of the
	// run of the peer's daemon; 0: too few are known to say anything.
	Probes int           `json:"probes"`
	Lost   int           `json:"lost"`
	P50    time.Duration `json:"p50"` // round trip; 0: none is known
	P99    time.Duration `json:"p99"`

	Heard    time.Duration `json:"heard"`                   // since its last answer; -1 never
	Answers  string        `json:"answers,omitempty"`       // who gave that: kernel, daemon
	ByKernel time.Duration `json:"kernel_heard"`            // since the last answer of its kernel; -1 never
	Progress time.Duration `json:"progress"`                // since its daemon's last progress, as of that answer
	NoDaemon bool          `json:"no_daemon,omitempty"`     // a newer answer, of its kernel, said that its daemon has ended
	MTU      int           `json:"mtu,omitempty"`           // length of the longest packets that are tried; 0: none
	LongLost string        `json:"long_lost,omitempty"`     // there, back: the way on which those are lost, while short ones arrive
	LongFor  time.Duration `json:"long_lost_for,omitempty"` // for how long
	Mode     string        `json:"reflector,omitempty"`     // what answers the peer's probes here: native, generic, userspace
	Stream   bool          `json:"stream"`                  // the daemons' connection uses it
	Spare    bool          `json:"spare"`                   // a second one, that stands by
	DLM      bool          `json:"dlm"`                     // the DLM's address is on it
}

// Reflector is what answers the others' probes on a link of this node.
type Reflector struct {
	Link      int    `json:"link"`
	Interface string `json:"interface,omitempty"` // that has the address; empty: none, or the kernel is not asked
	Parent    string `json:"parent,omitempty"`    // at the bottom of that, as of a VLAN; empty: it is one itself
	Mode      string `json:"mode"`                // native, generic: the kernel; userspace: the daemon
	Why       string `json:"why,omitempty"`       // it is not what was wanted first
	// Driver is the interface's, where it says; XDP is yes, no or unknown: whether that runs
	// XDP programs itself, as native needs.
	Driver string `json:"driver,omitempty"`
	XDP    string `json:"xdp,omitempty"`
	// Taken is how often the kernel's program was found taken from the interface since
	// quorated started, and TakenAgo when that was noticed last.
	Taken    int           `json:"taken,omitempty"`
	TakenAgo time.Duration `json:"taken_ago,omitempty"`
	// Alarm is what notices that a peer does not answer on the link: "bpf timer" and
	// "timerfd" by the kernel's stamps of its answers; "daemon": its own timers, by the
	// stamps where the program is attached.
	Alarm    string `json:"alarm,omitempty"`
	AlarmWhy string `json:"alarm_why,omitempty"` // it is not a bpf timer
}

// AlarmDaemon is the Alarm of a daemon's own timers.
const AlarmDaemon = "daemon"

// NoticedBy names the alarm as a sentence does.
func (r Reflector) NoticedBy() string {
	if r.Alarm == AlarmDaemon {
		return "the daemon"
	}
	return r.Alarm
}

// DLMConn is a connection of this node's kernel with the DLM of a peer's.
type DLMConn struct {
	Peer        membership.NodeID `json:"peer"`
	Name        string            `json:"name"`
	Local       string            `json:"local"`
	Remote      string            `json:"remote"`
	State       string            `json:"state"`         // as ss(8) says it
	RTT         time.Duration     `json:"rtt,omitempty"` // the kernel's smoothed one; 0: not known
	Retries     uint32            `json:"retries"`       // how often what is unacknowledged was sent again
	Retransmits uint32            `json:"retransmits"`   // segments sent again in its life
	Unacked     uint32            `json:"unacked"`       // bytes that the peer has not acknowledged
}
