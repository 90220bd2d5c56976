package configfs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// Answer is what a probe found.
type Answer int

// The answers. Unknown is the zero value: not probed, or the probe failed.
const (
	Unknown Answer = iota
	No
	Yes
)

func (a Answer) String() string {
	switch a {
	case Yes:
		return "yes"
	case No:
		return "no"
	}
	return "unknown"
}

// MarshalText gives status the word.
func (a Answer) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Features are what the running kernel's tree can do. They are probed, never
// taken from a version.
type Features struct {
	// NumericDirs: a node's id is its directory's name (Linux 6.17); before, it
	// is whatever was written to nodeid.
	NumericDirs Answer `json:"numeric_dirs"`
	// ReleaseRecover: a removal can say that it is to be recovered from
	// (Linux 6.18); before, only removing the comm says so.
	ReleaseRecover Answer `json:"release_recover"`
}

// MaxAddrs is how many addresses a comm takes: DLM_MAX_ADDR_COUNT is 3, since
// Linux 6.17 it is 8.
func (f Features) MaxAddrs() int {
	if f.NumericDirs == Yes {
		return 8
	}
	return 3
}

// probeSpace is a lockspace that nobody has.
const probeSpace = "quorate!probe"

// Probe finds the features with the cluster's directory present and no other
// user of it. It makes a member of a lockspace that does not exist and removes
// it again. The cluster must not have a comm of that node yet.
func Probe(fs FS, node uint32) (Features, error) {
	var f Features
	space := Space{Members: map[uint32]Member{node: {}}}
	defer func() { _ = Apply(fs, RemoveSpace(probeSpace, space)) }()
	dir := MemberPath(probeSpace, node)
	if err := Apply(fs, []Op{{Kind: Mkdir, Path: SpacePath(probeSpace)}, {Kind: Mkdir, Path: dir}}); err != nil {
		return f, err
	}
	names, err := fs.List(dir)
	if err != nil {
		return f, err
	}
	f.ReleaseRecover = answer(slices.Contains(names, "release_recover"))
	b, err := fs.Read(dir + "/nodeid")
	if err != nil {
		return f, err
	}
	f.NumericDirs = answer(strings.TrimSpace(string(b)) == fmt.Sprint(node))
	return f, nil
}

func answer(b bool) Answer {
	if b {
		return Yes
	}
	return No
}

// Clear removes all that is below dlm, other clusters' directories and entries
// with strange names included. It must only be called when no lockspace exists.
func Clear(fs FS) error {
	clusters, err := fs.List(dlmDir)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, c := range clusters {
		dir := dlmDir + "/" + c
		raw, err := ReadRaw(fs, dir)
		if err != nil {
			return err
		}
		for _, d := range itemsBottomUp(raw, dir) {
			if err := apply(fs, Op{Kind: Rmdir, Path: d}); err != nil {
				return err
			}
		}
	}
	return nil
}

// itemsBottomUp lists the directories that can be removed, deepest first:
// comms, spaces and nodes themselves go with the directory that holds them.
func itemsBottomUp(raw Raw, dir string) []string {
	var items []string
	for p := range raw {
		d, isDir := strings.CutSuffix(p, "/")
		rel := strings.TrimPrefix(d, dir)
		if fixed := rel == "/comms" || rel == "/spaces" || strings.Count(rel, "/") == 3 && strings.HasSuffix(rel, "/nodes"); isDir && !fixed {
			items = append(items, d)
		}
	}
	slices.SortFunc(items, func(a, b string) int {
		if n := strings.Count(b, "/") - strings.Count(a, "/"); n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	return items
}
