package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/quorate/quorate/membership"
)

// The groups.
const (
	GroupRaft   = "raft"   // a majority agrees, on disk
	GroupStatic = "static" // a list says who belongs, and nobody agrees on anything
)

// DefaultMembersFile is the usual place of the list of members; there is none by default.
const DefaultMembersFile = "/etc/quorate/members"

// group reads who orders and decides.
func (p *parser) group(t *table, c *Config) {
	c.Group = t.oneOf("group", GroupRaft, GroupRaft, GroupStatic)
	if _, given := t.m["members"]; given {
		c.MembersFile = t.file("members", DefaultMembersFile)
		if c.Group != GroupStatic {
			t.fault("members", `members is read with group = "static" alone: write group = "static" above it, or remove it: with group = "raft" every [[node]] is a member`)
		}
		return
	}
	t.known = append(t.known, "members")
}

// fenceless refuses what a group that never evicts anybody would not use.
func (p *parser) fenceless(cluster *table, devices bool, c Config) {
	if c.Group != GroupStatic {
		return
	}
	if devices {
		p.fault("fence", `group = "static" never fences: nobody is evicted, and who is taken off the list is gone by your word: remove the [[fence]] sections, or write group = "raft"`)
	}
	if _, given := cluster.m["fencing"]; given {
		cluster.fault("fencing", `group = "static" never fences: remove fencing, or write group = "raft"`)
	}
}

// Members returns the nodes that belong to the cluster with GroupStatic, by id,
// as the list says now. Among them must be this node, if it is known. What is
// wrong with the list is an ErrInvalid.
func (c Config) Members() ([]membership.NodeID, error) {
	if c.MembersFile == "" {
		ids := make([]membership.NodeID, len(c.Nodes))
		for i, n := range c.Nodes {
			ids[i] = n.ID
		}
		return ids, nil
	}
	return c.MembersFrom(c.ReadMembers())
}

// ReadMembers reads the list; what it gives is for MembersFrom.
func (c Config) ReadMembers() ([]byte, error) { return read(c.MembersFile) }

// MembersFrom is Members for what reading the file gave.
func (c Config) MembersFrom(data []byte, err error) ([]membership.NodeID, error) {
	if err != nil {
		if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
			err = pe.Err
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: write the names of the nodes that belong to the cluster there, one a line", err)
		}
		return nil, &OpError{Op: "read the list of members", Path: c.MembersFile, Err: err}
	}
	ids, err := ParseMembers(c.MembersFile, data, c.Nodes)
	if err != nil {
		return nil, err
	}
	if c.Self != 0 && !slices.Contains(ids, c.Self) {
		n, _ := c.Node(c.Self)
		return nil, fmt.Errorf("%w: %s does not list this node, %s: add it there, or do not run quorated here", ErrInvalid, c.MembersFile, n.Name)
	}
	return ids, nil
}

// ParseMembers reads a list of members: names or ids of nodes, one a line; empty
// lines and what follows a # do not count. It returns them by id, or Faults. The
// name is only used in the faults. A last line without its end is refused: the
// file may not have been written to its end, and who is missing from a list is
// taken for dead.
func ParseMembers(name string, data []byte, nodes []membership.Node) ([]membership.NodeID, error) {
	var faults Faults
	fault := func(line int, format string, args ...any) {
		faults = append(faults, Fault{File: name, Line: line, Text: fmt.Sprintf(format, args...)})
	}
	var ids []membership.NodeID
	lines := bytes.Split(data, []byte("\n"))
	for i, l := range lines {
		text, _, _ := strings.Cut(string(l), "#")
		word := strings.TrimSpace(text)
		if word == "" {
			continue
		}
		n, ok := lookup(nodes, word)
		switch {
		case !ok:
			fault(i+1, "there is no node %q%s: write the name or id of a [[node]] of quorate.toml, one a line", word, suggest(word, names(nodes)))
		case slices.Contains(ids, n.ID):
			fault(i+1, "node %q is listed twice: remove one", word)
		default:
			ids = append(ids, n.ID)
		}
	}
	switch last := lines[len(lines)-1]; {
	case len(last) > 0:
		fault(len(lines), "the last line has no end: is the file written completely? Write a new one beside it and move it here")
	case len(ids) == 0 && len(faults) == 0:
		fault(1, "nobody is listed: write the names of the nodes that belong to the cluster, one a line")
	}
	if len(faults) > 0 {
		return nil, faults
	}
	slices.Sort(ids)
	return ids, nil
}
