package configfs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Raw is a tree as it was read: files by path with their content, directories
// by path with a slash at the end and no content.
type Raw map[string]string

// ReadTree reads and parses the cluster's directory. A tree that is not there
// is the zero Tree.
func ReadTree(fs FS) (Tree, error) {
	raw, err := ReadRaw(fs, clusterDir)
	if err != nil {
		return Tree{}, err
	}
	return ParseTree(raw)
}

// ReadSpace reads one lockspace's member list; false if it has no directory.
func ReadSpace(fs FS, ls string) (Space, bool, error) {
	raw, err := ReadRaw(fs, SpacePath(ls))
	if err != nil || len(raw) == 0 {
		return Space{}, false, err
	}
	t, err := ParseTree(raw)
	if err != nil {
		return Space{}, false, err
	}
	return t.Spaces[ls], true, nil
}

// ReadMembers lists a lockspace's members, ascending, without a look at their
// attributes; false if it has no directory.
func ReadMembers(fs FS, ls string) ([]uint32, bool, error) {
	names, err := fs.List(SpacePath(ls) + "/nodes")
	if errors.Is(err, syscall.ENOENT) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	ids := make([]uint32, len(names))
	for i, n := range names {
		if ids[i], err = parseID(n); err != nil {
			return nil, true, opError("list", SpacePath(ls)+"/nodes", err)
		}
	}
	slices.Sort(ids)
	return ids, true, nil
}

// ReadComm reads one node's comm; false if it has none.
func ReadComm(fs FS, node uint32) (Comm, bool, error) {
	raw, err := ReadRaw(fs, CommPath(node))
	if err != nil || len(raw) == 0 {
		return Comm{}, false, err
	}
	t, err := ParseTree(raw)
	if err != nil {
		return Comm{}, false, err
	}
	return t.Comms[node], true, nil
}

// ReadRaw reads a directory and all that is below it. What vanishes meanwhile is
// left out; an empty Raw is a directory that is not there.
func ReadRaw(fs FS, dir string) (Raw, error) {
	raw := Raw{}
	if err := readDir(fs, dir, raw); err != nil {
		return nil, err
	}
	return raw, nil
}

func readDir(fs FS, dir string, raw Raw) error {
	names, err := fs.List(dir)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	raw[dir+"/"] = ""
	for _, n := range names {
		if err := readEntry(fs, dir+"/"+n, raw); err != nil {
			return err
		}
	}
	return nil
}

// readEntry reads a file, or descends when it is a directory. Attributes that
// only can be written are left out.
func readEntry(fs FS, path string, raw Raw) error {
	b, err := fs.Read(path)
	switch {
	case err == nil:
		raw[path] = string(b)
	case errors.Is(err, syscall.EISDIR):
		return readDir(fs, path, raw)
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
	default:
		return err
	}
	return nil
}

// ParseTree makes a Tree of what was read. It never touches the kernel.
func ParseTree(raw Raw) (Tree, error) {
	t := Tree{Attrs: map[string]string{}, Comms: map[uint32]Comm{}, Spaces: map[string]Space{}}
	for _, path := range slices.Sorted(maps.Keys(raw)) {
		rest, ok := strings.CutPrefix(path, clusterDir+"/")
		if !ok {
			return Tree{}, fmt.Errorf("%w: %q is outside of %s", ErrParse, path, clusterDir)
		}
		t.Present = true
		if err := t.parse(strings.Split(rest, "/"), raw[path]); err != nil {
			return Tree{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	return t, nil
}

// parse takes one path below the cluster's directory. A directory's path ends
// in an empty element.
func (t *Tree) parse(p []string, value string) error {
	switch {
	case len(p) == 1 && p[0] != "":
		t.Attrs[p[0]] = strings.TrimSuffix(value, "\n")
	case len(p) == 3 && p[0] == "comms":
		return t.parseComm(p[1], p[2], value)
	case len(p) >= 3 && p[0] == "spaces":
		return t.parseSpace(p[1], p[2:], value)
	}
	return nil
}

func (t *Tree) parseComm(dir, file, value string) error {
	id, err := parseID(dir)
	if err != nil {
		return err
	}
	c := t.Comms[id]
	switch file {
	case "addr_list":
		c.Addrs, err = parseAddrList(value)
	case "local":
		c.Local = strings.TrimSpace(value) == "1"
	case "mark":
		var m uint64
		m, err = strconv.ParseUint(strings.TrimSpace(value), 0, 32)
		c.Mark = uint32(m)
	}
	if err != nil {
		return err
	}
	t.Comms[id] = c
	return nil
}

func (t *Tree) parseSpace(ls string, p []string, value string) error {
	s, ok := t.Spaces[ls]
	if !ok {
		s.Members = map[uint32]Member{}
		t.Spaces[ls] = s
	}
	if len(p) != 3 || p[0] != "nodes" {
		return nil
	}
	id, err := parseID(p[1])
	if err != nil {
		return err
	}
	m := s.Members[id]
	if p[2] == "weight" {
		if m.Weight, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
			return fmt.Errorf("%w: %w", ErrParse, err)
		}
	}
	s.Members[id] = m
	return nil
}

func parseID(dir string) (uint32, error) {
	n, err := strconv.ParseUint(dir, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w: directory %q is no node id", ErrParse, dir)
	}
	return uint32(n), nil
}
