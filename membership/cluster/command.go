package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/membership"
)

// Feature is the level that entries are written for. A member that does not
// know an entry's level stops rather than guess (S5).
const Feature = 1

// MaxCommand is the largest encoded entry, in bytes.
const MaxCommand = 1 << 20

// ErrEntry is an entry that this version cannot read. The daemon stops on it:
// skipping an entry would let two members' states differ.
var ErrEntry = errors.New("entry of the log cannot be read by this version; upgrade quorated on this node")

// Command is one entry of the total order. Exactly one of the pointers is set.
type Command struct {
	Level int `json:"v"`
	// By is the incarnation that proposed it.
	By membership.Incarnation `json:"by"`
	// Wall is the proposer's wall clock, for records alone.
	Wall string `json:"wall,omitempty"`

	Admit          *Admit          `json:"admit,omitempty"`
	Evict          *Evict          `json:"evict,omitempty"`
	Leave          *Leave          `json:"leave,omitempty"`
	FenceStart     *FenceStart     `json:"fence_start,omitempty"`
	FenceEnd       *FenceEnd       `json:"fence_end,omitempty"`
	FenceExpire    *FenceExpire    `json:"fence_expire,omitempty"`
	NewBoot        *NewBoot        `json:"new_boot,omitempty"`
	FenceAck       *FenceAck       `json:"fence_ack,omitempty"`
	FenceNeed      *FenceNeed      `json:"fence_need,omitempty"`
	List           *List           `json:"list,omitempty"`
	Hold           *Hold           `json:"hold,omitempty"`
	HoldEnd        *HoldEnd        `json:"hold_end,omitempty"`
	Maintenance    *Maintenance    `json:"maintenance,omitempty"`
	MaintenanceEnd *MaintenanceEnd `json:"maintenance_end,omitempty"`
	UnfenceStart   *UnfenceStart   `json:"unfence_start,omitempty"`
	UnfenceEnd     *UnfenceEnd     `json:"unfence_end,omitempty"`
	UnfenceExpire  *UnfenceExpire  `json:"unfence_expire,omitempty"`
	Takeover       *Takeover       `json:"takeover,omitempty"`
	Drop           *Drop           `json:"drop,omitempty"`
	Witness        *Witness        `json:"witness,omitempty"`
	Message        *Message        `json:"msg,omitempty"`

	Drain    *Drain    `json:"drain,omitempty"`
	DrainEnd *DrainEnd `json:"drain_end,omitempty"`

	ConfigFirst   *ConfigFirst   `json:"config_first,omitempty"`
	ConfigPropose *ConfigPropose `json:"config_propose,omitempty"`
	ConfigVote    *ConfigVote    `json:"config_vote,omitempty"`
	ConfigCommit  *ConfigCommit  `json:"config_commit,omitempty"`
	ConfigAbort   *ConfigAbort   `json:"config_abort,omitempty"`
}

// Admit makes an incarnation a member.
type Admit struct {
	Incarnation membership.Incarnation `json:"incarnation"` // Session is decided on delivery
	Machine     string                 `json:"machine"`     // identity of the machine, not of the boot
	Instance    uint64                 `json:"instance"`    // run of its daemon
	View        uint64                 `json:"view"`        // the view that the decision was made in
}

// Evict removes members.
type Evict struct {
	View       uint64                 `json:"view"` // the view that the decision was made in
	Departures []membership.Departure `json:"departures"`
	// Alone: by a rule of the configuration the members left may go on though they are no
	// quorum, when the others are proved gone (Takeover).
	Alone bool `json:"alone,omitempty"`
	// Fence asks for proof even of a node that held nothing: an operator's wish.
	Fence bool `json:"fence,omitempty"`
}

// Leave is a member's clean leave.
type Leave struct {
	Incarnation membership.Incarnation `json:"incarnation"`
	// Electorate are the nodes that count before it, if its vote goes with it
	// (leave_removes_vote); empty: it stays.
	Electorate []membership.NodeID `json:"electorate,omitempty"`
	// Drained: it leaves for a drain alone, and stays where that was taken back meanwhile.
	Drained bool `json:"drained,omitempty"`
}

// FenceStart says that the actor is about to run an agent.
type FenceStart struct {
	Victim  membership.Incarnation `json:"victim"`
	Attempt uint64                 `json:"attempt"`
	Actor   membership.Incarnation `json:"actor"`
	// Start is how long after proposing the actor may still start the agent, by its own clock.
	Start time.Duration `json:"start"`
	// Lease bounds the whole job: Start and the agents' own timeouts.
	Lease time.Duration `json:"lease"`
}

// FenceEnd says how it ended.
type FenceEnd struct {
	Victim  membership.Incarnation `json:"victim"`
	Attempt uint64                 `json:"attempt"`
	OK      bool                   `json:"ok"`
	Agent   string                 `json:"agent,omitempty"`
	Output  string                 `json:"output,omitempty"`
	Err     string                 `json:"err,omitempty"`
	// Lied is the level that reported success while the victim answered on.
	Lied int `json:"lied,omitempty"`
	// Level is the one that succeeded.
	Level int           `json:"level,omitempty"`
	Took  time.Duration `json:"took"`
}

// FenceExpire says that a job's lease has run out with a margin and nothing was
// heard of it: its outcome is unknown.
type FenceExpire struct {
	Victim  membership.Incarnation `json:"victim"`
	Attempt uint64                 `json:"attempt"`
}

// NewBoot says that the victim's node was met with another boot id. It names the
// incarnation: one that is ordered late must not prove the death of a later one.
type NewBoot struct {
	Victim  membership.Incarnation `json:"victim"`
	Boot    membership.BootID      `json:"boot"`
	Machine string                 `json:"machine"`
}

// FenceNeed asks for proof of an evicted incarnation that held nothing: an operator
// wants it off.
type FenceNeed struct {
	Victim membership.Incarnation `json:"victim"`
	Who    string                 `json:"who"`
}

// FenceAck is an operator's word that an incarnation is off or cut from the storage.
type FenceAck struct {
	Victim membership.Incarnation `json:"victim"`
	Who    string                 `json:"who"`
}

// List is somebody's word on who belongs to the cluster (a group without
// agreement of its own). Members that are not on it are evicted, and they and
// all who were evicted before and are not on it are taken for gone: Who answers
// for that.
type List struct {
	Nodes []membership.NodeID `json:"nodes"`
	Who   string              `json:"who"`
}

// Message is an entry of a consumer's own.
type Message struct {
	Consumer string          `json:"consumer"`
	Data     json.RawMessage `json:"data"`
}

// Encode gives the bytes that are ordered.
func (c Command) Encode() []byte {
	c.Level = Feature
	b, err := json.Marshal(c)
	if err != nil {
		panic("cluster: a command that cannot be encoded: " + err.Error())
	}
	return b
}

// Decode reads an entry; every error is an ErrEntry.
func Decode(b []byte) (Command, error) {
	var c Command
	if len(b) > MaxCommand {
		return c, fmt.Errorf("%w: %d bytes", ErrEntry, len(b))
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%w: %v", ErrEntry, err)
	}
	if c.Level < 1 || c.Level > Feature {
		return c, fmt.Errorf("%w: feature level %d, known up to %d", ErrEntry, c.Level, Feature)
	}
	if n := c.count(); n != 1 {
		return c, fmt.Errorf("%w: %d commands in one", ErrEntry, n)
	}
	return c, nil
}

func (c Command) count() int {
	n := 0
	for _, set := range []bool{c.Admit != nil, c.Evict != nil, c.Leave != nil, c.FenceStart != nil, c.FenceEnd != nil,
		c.FenceExpire != nil, c.NewBoot != nil, c.FenceAck != nil, c.FenceNeed != nil, c.List != nil, c.Hold != nil, c.HoldEnd != nil, c.Maintenance != nil, c.MaintenanceEnd != nil, c.Takeover != nil, c.Drop != nil, c.UnfenceStart != nil, c.UnfenceEnd != nil, c.UnfenceExpire != nil, c.Message != nil,
		c.ConfigFirst != nil, c.ConfigPropose != nil, c.ConfigVote != nil, c.ConfigCommit != nil, c.ConfigAbort != nil, c.Drain != nil, c.DrainEnd != nil, c.Witness != nil} {
		if set {
			n++
		}
	}
	return n
}
