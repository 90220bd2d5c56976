package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate/membership"
)

// DocDir is where the documents for users are installed; the Makefile sets it by its PREFIX.
var DocDir = "/usr/local/share/doc/quorate"

// AnewSection is where the documents say how the cluster is formed anew.
func AnewSection() string {
	return "\"Changing what cannot be changed while it runs\" in " + filepath.Join(DocDir, "operating.md")
}

// Anew says how a node is made to begin by its file again. The others have to do so, too.
func (c Config) Anew() string {
	dir := filepath.Join(c.StateDir, "raft")
	return fmt.Sprintf("form the cluster anew: unmount everywhere, `quorate leave` on all nodes, `mv %s %s.old` on all, change the file everywhere, start quorated, `quorate init` on each; see %s", dir, dir, AnewSection())
}

// whileItRuns are the keys of a Digest that no version changes.
func whileItRuns(key string) bool {
	return slices.Contains([]string{"cluster.name", "cluster.port", "cluster.probe_port", "cluster.dlm_port", "cluster.dlm_address", "cluster.group", "cluster.members"}, key)
}

// Differs says what a file has not as the version that is in force, and what can be done
// about it; empty: they are alike.
func Differs(file, now Config, version uint64) string {
	keys := Diff(file.Digest, now.Digest)
	if len(keys) == 0 {
		return ""
	}
	text := fmt.Sprintf("%s differs from version %d, which is in force, in %s: run `quorate config write` here", file.Path, version, strings.Join(keys, ", "))
	if fixed := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return !whileItRuns(k) }); len(fixed) > 0 {
		return text + fmt.Sprintf(" to make it what is in force; %s cannot be changed while the cluster runs, nor by a start: see %s", strings.Join(fixed, ", "), AnewSection())
	}
	if lacks := lacking(file, now); lacks != "" {
		return text + fmt.Sprintf("; the file lacks what was agreed later (%s), and `quorate config apply` would take that back", lacks)
	}
	return text + ", or where the file is the newer `quorate config apply` to have it agreed on"
}

// lacking names the nodes of a configuration that another one has not; one that has
// another id there, or another name, is none of them.
func lacking(file, now Config) string {
	var out []string
	for _, n := range now.Nodes {
		if !slices.ContainsFunc(file.Nodes, func(o membership.Node) bool { return o.ID == n.ID || o.Name == n.Name }) {
			out = append(out, n.Name)
		}
	}
	switch len(out) {
	case 0:
		return ""
	case 1:
		return "node " + out[0]
	}
	return "nodes " + strings.Join(out, ", ")
}

// Refusal says why the members, of whom some are known, would refuse a text in the place
// of the one in force; empty: nothing that can be known here speaks against it. Own is
// the configuration of a node, for its folders.
func Refusal(old, now string, own Config, members []membership.NodeID) string {
	a, err := ParseAgreed(old)
	if err != nil {
		return ""
	}
	b, err := ParseAgreed(now)
	if err != nil {
		return err.Error()
	}
	a.StateDir = own.StateDir
	if err := CheckChange(a, b, nil); err != nil {
		return strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": ")
	}
	for _, n := range a.Nodes {
		if _, stays := b.Node(n.ID); !stays && slices.Contains(members, n.ID) {
			return memberStays(n)
		}
	}
	return ""
}

func memberStays(n membership.Node) string {
	return fmt.Sprintf("node %s is a member and cannot be removed or moved: run `quorate node drain %s` first", n.Name, n.Name)
}
