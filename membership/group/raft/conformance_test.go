package raft_test

import (
	"errors"
	"flag"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/grouptest"
	"github.com/quorate/quorate/membership/group/raft"
)

var seeds = flag.Int("seeds", 100, "seeds of the conformance suite for each size of cluster")

// provider is raft on simulated disks.
func provider(tune func(*raft.Config)) grouptest.Provider {
	return grouptest.Provider{
		New: func(p grouptest.Params) (membership.Group, []membership.GroupEffect, error) {
			r, err := load(p.Disk)
			if err != nil {
				return nil, nil, err
			}
			cfg := raft.Config{
				Self: p.Self, Nodes: p.Nodes, NewID: mix(p.Seed), NewClusterID: "test", Seed: p.Seed,
				CompactEntries: 100,
			}
			if tune != nil {
				tune(&cfg)
			}
			m, effects, err := raft.New(cfg, r)
			return m, effects, err
		},
		Holds: func(d *grouptest.Disk, index, term uint64) bool {
			r, err := load(d)
			if err != nil {
				return false
			}
			if r.Snapshot.GetMetadata().GetIndex() >= index {
				return true
			}
			for _, e := range r.Entries {
				if e.GetIndex() == index {
					return e.GetTerm() == term
				}
			}
			return false
		},
		Replaced: func(g membership.Group) bool {
			err := fault(g)
			return errors.Is(err, raft.ErrReplaced) || errors.Is(err, raft.ErrRolledBack)
		},
		Fault: func(g membership.Group) error {
			err := fault(g)
			if errors.Is(err, raft.ErrBroken) {
				return err
			}
			return nil
		},
		Vote: func(data []byte) (term, candidate uint64, ok bool) {
			b, ok := raft.ReadBallot(data)
			return b.Term, b.For, ok
		},
	}
}

func fault(g membership.Group) error {
	if f, ok := g.(interface{ Fault() error }); ok {
		return f.Fault()
	}
	return nil
}

func load(d *grouptest.Disk) (raft.Restored, error) {
	var r raft.Restored
	for _, rec := range d.Records {
		if err := r.Replay(rec.(*raft.Record)); err != nil {
			return r, err
		}
	}
	return r, nil
}

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	return x ^ x>>27
}

func TestConformance(t *testing.T) {
	n := *seeds
	if testing.Short() || raced {
		n = min(n, 10)
	}
	grouptest.Run(t, provider(nil), n)
}

// calm is a network without faults.
func calm(nodes int) grouptest.Options {
	return grouptest.Options{
		Nodes: nodes, Seed: 1, MinDelay: 100 * time.Microsecond, Write: time.Millisecond, Detect: 20 * time.Millisecond,
	}
}

var story = flag.Uint64("story", 0, "run this seed alone and print its story")

var storyNodes = flag.Int("story-nodes", 3, "size of the cluster of -story")

func TestTrace(t *testing.T) {
	if *story == 0 {
		t.Skip("no seed given")
	}
	s := grouptest.NewSim(provider(nil), grouptest.Stormy(*storyNodes, *story))
	s.Trace = t.Logf
	grouptest.Weather(s)
	t.Logf("delivered %d, highest %d, sends %d", s.Check.Delivered, s.Check.Highest, s.Sends)
	if s.Check.Err != nil {
		t.Fatal(s.Check.Err)
	}
}
