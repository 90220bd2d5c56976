package raft

import (
	"errors"
	"fmt"
	"slices"
	"time"

	raftlib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/quorate/quorate/membership"
)

// Config is what a Machine is made from. Everything random in it is drawn by
// the caller.
type Config struct {
	Self       membership.NodeID
	Nodes      []membership.NodeID // all configured nodes, Self among them
	ConfigHash [32]byte            // of the configuration file; must agree for a first start
	// Name is a node's name in texts; default "node 3".
	Name func(membership.NodeID) string

	// NewID is the raft id that an empty store gets: random, never used before.
	NewID uint64
	// NewClusterID names the cluster when this node happens to form it; random, 1 to 64 bytes.
	NewClusterID string
	// Lost: the store is empty, and this node is known to have had a log. It joins a
	// cluster that others still have, and forms none until Init.
	Lost bool
	// Witness: this member votes and keeps the log, and knows no consumer. It forms no
	// cluster, and leads only to hand its log on.
	Witness bool
	// Seed spreads the backstop elections; it must differ between nodes.
	Seed uint64

	Heartbeat time.Duration // between a leader's heartbeats; default 40 ms
	Backstop  time.Duration // a leader silent for so long is forgotten; default 10 heartbeats
	Retry     time.Duration // between campaigns after a conviction; default 15 ms
	Stagger   time.Duration // between the first campaigns of two ranks; default 30 ms
	HandOver  time.Duration // a hand-over that took longer is given up; default 100 ms
	HelloTick time.Duration // between hellos to a settled peer; default 1 s

	MaxVoters      int // more nodes than that are learners; default 32
	CompactEntries int // WantsCompact after so many entries; default 10 000
	CompactBytes   int // or so many bytes; default 8 MiB

	// Careless leaves out that a forced generation is durable. It exists to show that
	// the simulator finds it.
	Careless bool
	// Debug turns raft's own log lines into GroupTrace effects of kind "raft".
	Debug bool
}

// The faults after which a Machine takes no part any more.
var (
	// ErrRolledBack: a peer saw this raft id acknowledge or vote for more than
	// its log holds. Join with a new id.
	ErrRolledBack = errors.New("log is older than what peers saw from it")
	// ErrReplaced: the cluster replaced this raft id, or went on without it in a newer
	// generation of its configuration. Join with a new id.
	ErrReplaced = errors.New("raft id was replaced in the cluster")
	// ErrBroken: an invariant of the log does not hold. The daemon must stop.
	ErrBroken = errors.New("raft invariant broken: stop the daemon and report it")
)

// Identity is what a store is, from before it was first announced.
type Identity struct {
	RaftID    uint64
	ClusterID string // empty: not formed yet
	Pledge    Pledge // the zero value: none is out
	Kept      Kept   // the zero value: of no change is it known
}

// Kept is the last change of the voters of which it is known that all of them keep it, so
// that none acts by the configuration before it. Who has to go on alone after a restart may
// not be able to ask them again.
type Kept struct {
	Generation
	Index uint64 // of the change's entry; 0: there is none
}

// Restored is what a store held when it was opened; the zero value is an empty store.
type Restored struct {
	Identity  Identity
	HardState *pb.HardState
	Snapshot  *pb.Snapshot
	Entries   []*pb.Entry // after the snapshot, without gaps
}

// Record is what a GroupPersist effect of this provider carries. It is durable
// as a whole or not at all.
type Record struct {
	// Checkpoint: this record alone is the whole state, and everything written
	// before it may be dropped.
	Checkpoint bool
	Identity   *Identity     // nil: unchanged
	HardState  *pb.HardState // nil: unchanged
	Snapshot   *pb.Snapshot  // only with Checkpoint
	Entries    []*pb.Entry   // replace everything from the first one's index on
}

// Replay adds a record to what was restored so far.
func (r *Restored) Replay(rec *Record) error {
	if rec.Checkpoint {
		*r = Restored{}
	}
	if rec.Identity != nil {
		r.Identity = *rec.Identity
	}
	if rec.HardState != nil {
		r.HardState = rec.HardState
	}
	if rec.Snapshot != nil {
		r.Snapshot = rec.Snapshot
	}
	return r.append(rec.Entries)
}

// append replaces the log from the first entry's index on.
func (r *Restored) append(entries []*pb.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	base := r.Snapshot.GetMetadata().GetIndex() + 1
	first := entries[0].GetIndex()
	if first < base || first > base+uint64(len(r.Entries)) {
		return fmt.Errorf("entry %d does not follow a log of %d to %d: %w",
			first, base, base+uint64(len(r.Entries))-1, ErrCorrupt)
	}
	for i, e := range entries {
		if e.GetIndex() != first+uint64(i) {
			return fmt.Errorf("entry %d where %d was due: %w", e.GetIndex(), first+uint64(i), ErrCorrupt)
		}
	}
	keep := first - base
	r.Entries = append(r.Entries[:keep:keep], entries...)
	return nil
}

// withDefaults fills in what was left zero and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	setDuration(&c.Heartbeat, 40*time.Millisecond)
	setDuration(&c.Backstop, 10*c.Heartbeat)
	setDuration(&c.Retry, 15*time.Millisecond)
	setDuration(&c.Stagger, 30*time.Millisecond)
	setDuration(&c.HandOver, 100*time.Millisecond)
	setDuration(&c.HelloTick, time.Second)
	setInt(&c.MaxVoters, 32)
	setInt(&c.CompactEntries, 10000)
	setInt(&c.CompactBytes, 8<<20)
	if c.Name == nil {
		c.Name = func(n membership.NodeID) string { return fmt.Sprintf("node %d", n) }
	}
	c.Nodes = slices.Clone(c.Nodes)
	slices.Sort(c.Nodes)
	switch {
	case len(c.Nodes) == 0 || !slices.Contains(c.Nodes, c.Self):
		return c, fmt.Errorf("node %d is not among the configured nodes %v", c.Self, c.Nodes)
	case c.Nodes[0] == 0:
		return c, errors.New("node id 0 is not a node")
	case len(slices.Compact(slices.Clone(c.Nodes))) != len(c.Nodes):
		return c, fmt.Errorf("a node id is configured twice: %v", c.Nodes)
	case len(c.Nodes) > maxNodes:
		return c, fmt.Errorf("%d nodes configured, at most %d", len(c.Nodes), maxNodes)
	case len(c.NewClusterID) > maxClusterID:
		return c, fmt.Errorf("cluster id longer than %d bytes", maxClusterID)
	}
	return c, nil
}

// validID says whether a number can be a raft id.
func validID(id uint64) bool { return id != raftlib.None && !raftlib.IsLocalMsgTarget(id) }

func setDuration(d *time.Duration, def time.Duration) {
	if *d <= 0 {
		*d = def
	}
}

func setInt(i *int, def int) {
	if *i <= 0 {
		*i = def
	}
}
