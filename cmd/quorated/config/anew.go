package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
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
	text := fmt.Sprintf("%s differs from version %d, which is in force, in %s: run `quorate config show --own > %s` here", file.Path, version, strings.Join(keys, ", "), file.Path)
	if len(secretsOf(file)) > 0 {
		text += fmt.Sprintf(", and write the secrets of its devices again where that has %q", OwnValue)
	}
	if fixed := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return !whileItRuns(k) }); len(fixed) > 0 {
		return text + fmt.Sprintf(" to make it what is in force; %s cannot be changed while the cluster runs, nor by a start: see %s", strings.Join(fixed, ", "), AnewSection())
	}
	if lacks := lacking(file, now); lacks != "" {
		return text + fmt.Sprintf("; the file lacks what was agreed later (%s), and `quorate config apply` would take that back", lacks)
	}
	return text + ", or where the file is the newer `quorate config apply` to have it agreed on"
}

// lacking names the nodes of a configuration that another one has not.
func lacking(file, now Config) string {
	var out []string
	for _, n := range now.Nodes {
		if _, ok := file.Node(n.ID); !ok {
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
