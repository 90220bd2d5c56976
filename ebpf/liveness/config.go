package liveness

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// Config is all that the kernel has to know to answer. It is set as a whole, but for its keys.
type Config struct {
	Self  membership.NodeID
	Port  uint16       // of this node's probes
	Links []netip.Addr // own addresses, by link
	Peers []Peer
	Keys  []probe.Key // all are accepted

	// Run is of this node's prober: answers to it are stamped. 0: none are.
	Run uint64
	// Interval is between two probes of it, of one peer on one link.
	Interval time.Duration
	// Silent is for how long a peer may not answer until Watch tells of it. 0: never.
	Silent time.Duration
}

// Peer is another node on one link.
type Peer struct {
	Node membership.NodeID
	Link int
	Addr netip.AddrPort
	Rate int // how many of its probes are answered in a second, and at once
	// Trust is for how long an answer that has arrived shows that the next will:
	// eight intervals of the peer's, say.
	Trust time.Duration
}

// Limits of the maps.
const (
	maxLinks = 256
	maxPeers = 2048
	maxKeys  = 16
)

func (c Config) check() error {
	switch {
	case c.Self == 0:
		return errors.New("this node has no id")
	case c.Port == 0:
		return errors.New("the probes have no port")
	case len(c.Links) == 0 || len(c.Links) > maxLinks:
		return fmt.Errorf("%d own addresses, expected 1 to %d", len(c.Links), maxLinks)
	case len(c.Peers) > maxPeers:
		return fmt.Errorf("%d peers and links, at most %d are possible", len(c.Peers), maxPeers)
	case len(c.Keys) == 0 || len(c.Keys) > maxKeys || slices.ContainsFunc(c.Keys, probe.Key.Zero):
		return fmt.Errorf("%d keys, expected 1 to %d", len(c.Keys), maxKeys)
	case c.Interval < 0 || c.Silent < 0:
		return fmt.Errorf("interval %v and silence %v, expected none below 0", c.Interval, c.Silent)
	}
	return nil
}

// diff says what has to be put and what taken away so that have becomes want.
func diff[K, V comparable](have, want map[K]V) (put map[K]V, drop []K) {
	put = map[K]V{}
	for k, v := range want {
		if old, ok := have[k]; !ok || old != v {
			put[k] = v
		}
	}
	for k := range have {
		if _, ok := want[k]; !ok {
			drop = append(drop, k)
		}
	}
	return put, drop
}
