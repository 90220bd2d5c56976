package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quorate/quorate/membership"
)

// Digest is what a node tells of its configuration: a hash of all that must be
// the same everywhere, and one of each key, so that a difference has a name.
type Digest struct {
	Total string            `json:"total"`
	Keys  map[string]string `json:"keys,omitempty"`
}

// Equal says whether both files agree in all that must agree.
func (d Digest) Equal(o Digest) bool { return d.Total == o.Total }

// Diff returns the keys that differ, sorted; "(everything)" when only the totals are known.
func Diff(a, b Digest) []string {
	if a.Total == b.Total {
		return nil
	}
	var out []string
	for k, v := range a.Keys {
		if b.Keys[k] != v {
			out = append(out, k)
		}
	}
	for k := range b.Keys {
		if _, ok := a.Keys[k]; !ok {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return []string{"(everything)"}
	}
	slices.Sort(out)
	return out
}

// digest hashes the values, not the text: comments, order and defaults written
// out do not count.
func digest(c Config) Digest {
	values := map[string]string{
		"cluster.name":            c.Cluster,
		"cluster.port":            fmt.Sprint(c.Port),
		"cluster.probe_port":      fmt.Sprint(c.ProbePort),
		"cluster.dlm_port":        fmt.Sprint(c.DLMPort),
		"cluster.join_grace":      c.JoinGrace.String(),
		"cluster.startup_fencing": string(c.StartupFencing),
		"cluster.join_timeout":    c.JoinTimeout.String(),
		"cluster.fencing":         fmt.Sprint(c.ManualFence),
		"liveness.interval":       c.Timing.Interval.String(),
		"liveness.dead_after":     c.Timing.DeadAfter.String(),
		"liveness.path_limit":     c.PathLimit.String(),
		"liveness.stall_limit":    c.Timing.StallLimit.String(),
		"liveness.recovery_stall": c.Timing.RecoveryStall.String(),
	}
	if c.Group != GroupRaft { // the default adds nothing
		values["cluster.group"] = c.Group
		values["cluster.members"] = c.MembersFile
	}
	quorumDigest(values, c)
	stableDigest(values, c)
	for _, n := range c.Nodes {
		values["node."+n.Name+".id"] = idString(n.ID)
		values["node."+n.Name+".addr"] = joinAddrs(n.Addrs)
		values["node."+n.Name+".fence"] = fences(c.Devices, n.ID)
	}
	return hashed(values)
}

func hashed(values map[string]string) Digest {
	d := Digest{Keys: make(map[string]string, len(values))}
	total := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(values)) {
		sum := sha256.Sum256([]byte(k + "\x00" + values[k]))
		d.Keys[k] = hex.EncodeToString(sum[:8])
		total.Write(sum[:])
	}
	d.Total = hex.EncodeToString(total.Sum(nil)[:16])
	return d
}

// fences gives a node's devices in one canonical text. Of secrets only the key
// counts: a hash of a short password could be searched for. A file of one counts
// with its path, and what is in it does not.
func fences(devices []membership.Device, id membership.NodeID) string {
	var b strings.Builder
	for _, d := range devices {
		if !slices.Contains(d.Nodes, id) {
			continue
		}
		fmt.Fprintf(&b, "%s %d %s %v %s %s %s %v\n", d.Agent, d.Level, d.Timeout, !d.SkipVerify, d.Delay, d.RandomDelay, d.Monitor, d.Unfence)
		for _, k := range slices.Sorted(maps.Keys(d.Options)) {
			v := d.Options[k]
			if SecretOption(k) && !secretFile(k) {
				v = ""
			}
			fmt.Fprintf(&b, " %q=%q\n", k, v)
		}
	}
	return b.String()
}
