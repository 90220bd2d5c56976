package configfs

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
)

// attrOrder is the order in which cluster attributes are written: the ones that
// decide whether nodes can talk come first. Others follow by name.
var attrOrder = []string{"protocol", "tcp_port", "cluster_name", "recover_callbacks", "mark", "log_debug", "log_info"}

// Plan returns the operations that lead from one tree to the other: cluster and
// attributes, then what goes from the bottom up, then comms, then members.
//
// A wanted tree that is not Present is the removal of everything.
func Plan(have, want Tree) ([]Op, error) {
	if !want.Present {
		return planClear(have), nil
	}
	var ops []Op
	if !have.Present {
		ops = append(ops, Op{Kind: Mkdir, Path: clusterDir})
	}
	ops = append(ops, planAttrs(have.Attrs, want.Attrs)...)
	shrink, grow, err := planSpaces(have.Spaces, want.Spaces)
	if err != nil {
		return nil, err
	}
	ops = append(ops, shrink...)
	for _, id := range nodeIDs(have.Comms, want.Comms) {
		h, w := lookup(have.Comms, id), lookup(want.Comms, id)
		c, err := PlanComm(id, h, w)
		if err != nil {
			return nil, err
		}
		if h != nil && h.Local && len(have.Spaces) > 0 && removes(c, CommPath(id)) {
			return nil, fmt.Errorf("comm %d: %w", id, ErrLocalComm)
		}
		ops = append(ops, c...)
	}
	return append(ops, grow...), nil
}

// planClear removes everything from the bottom up, the local comm last.
func planClear(have Tree) []Op {
	if !have.Present {
		return nil
	}
	var ops []Op
	for _, ls := range slices.Sorted(maps.Keys(have.Spaces)) {
		ops = append(ops, RemoveSpace(ls, have.Spaces[ls])...)
	}
	var local []Op
	for _, id := range slices.Sorted(maps.Keys(have.Comms)) {
		o := Op{Kind: Rmdir, Path: CommPath(id)}
		if have.Comms[id].Local {
			local = append(local, o)
			continue
		}
		ops = append(ops, o)
	}
	ops = append(ops, local...)
	return append(ops, Op{Kind: Rmdir, Path: clusterDir})
}

func planAttrs(have, want map[string]string) []Op {
	names := slices.Clone(attrOrder)
	for _, n := range slices.Sorted(maps.Keys(want)) {
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	var ops []Op
	for _, n := range names {
		w, ok := want[n]
		if !ok {
			continue
		}
		if h, ok := have[n]; ok && sameValue(w, h) {
			continue
		}
		ops = append(ops, Op{Kind: Write, Path: clusterDir + "/" + n, Value: []byte(w)})
	}
	return ops
}

// PlanComm plans one node's comm; nil is none. An address can only be appended:
// any other difference makes the entry anew.
func PlanComm(id uint32, have, want *Comm) ([]Op, error) {
	dir := CommPath(id)
	if want == nil {
		if have == nil {
			return nil, nil
		}
		return []Op{{Kind: Rmdir, Path: dir}}, nil
	}
	if len(want.Addrs) == 0 {
		return nil, fmt.Errorf("comm %d: %w: none given", id, ErrAddr)
	}
	var ops []Op
	if have != nil && (want.Renew || !isPrefix(have.Addrs, want.Addrs) || have.Local && !want.Local) {
		ops = append(ops, Op{Kind: Rmdir, Path: dir})
		have = nil
	}
	if have == nil {
		have = &Comm{}
		ops = append(ops, Op{Kind: Mkdir, Path: dir}, setNodeID(dir, id))
	}
	for _, a := range want.Addrs[len(have.Addrs):] {
		b, err := Sockaddr(a)
		if err != nil {
			return nil, fmt.Errorf("comm %d: %w", id, err)
		}
		ops = append(ops, Op{Kind: Write, Path: dir + "/addr", Value: b})
	}
	if want.Mark != have.Mark {
		ops = append(ops, Op{Kind: Write, Path: dir + "/mark", Value: strconv.AppendUint(nil, uint64(want.Mark), 10)})
	}
	if want.Local && !have.Local {
		ops = append(ops, Op{Kind: Write, Path: dir + "/local", Value: []byte("1")})
	}
	return ops, nil
}

func isPrefix(have, want []netip.Addr) bool {
	if len(have) > len(want) {
		return false
	}
	for i := range have {
		if bare(have[i]) != bare(want[i]) {
			return false
		}
	}
	return true
}

// planSpaces returns what is to be removed and, apart, what is to be made: the
// comms stand between the two.
func planSpaces(have, want map[string]Space) (shrink, grow []Op, err error) {
	names := map[string]bool{}
	for n := range have {
		names[n] = true
	}
	for n := range want {
		names[n] = true
	}
	for _, ls := range slices.Sorted(maps.Keys(names)) {
		s, g, err := planSpace(ls, lookup(have, ls), lookup(want, ls))
		if err != nil {
			return nil, nil, err
		}
		shrink, grow = append(shrink, s...), append(grow, g...)
	}
	return shrink, grow, nil
}

// PlanSpace plans one lockspace's member list; nil is none. A list that stays is
// changed entry by entry: since Linux 6.18 the kernel remembers each entry
// removed, and would forget with the directory.
func PlanSpace(ls string, have, want *Space) ([]Op, error) {
	shrink, grow, err := planSpace(ls, have, want)
	return append(shrink, grow...), err
}

func planSpace(ls string, have, want *Space) (shrink, grow []Op, err error) {
	if err := CheckName(ls); err != nil {
		return nil, nil, err
	}
	if want == nil {
		if have == nil {
			return nil, nil, nil
		}
		return RemoveSpace(ls, *have), nil, nil
	}
	if have == nil {
		have = &Space{}
		grow = append(grow, Op{Kind: Mkdir, Path: SpacePath(ls)})
	}
	for _, id := range nodeIDs(have.Members, want.Members) {
		s, g := planMember(MemberPath(ls, id), id, lookup(have.Members, id), lookup(want.Members, id), want.Recover[id])
		shrink, grow = append(shrink, s...), append(grow, g...)
	}
	return shrink, grow, nil
}

func planMember(dir string, id uint32, have, want *Member, recover bool) (shrink, grow []Op) {
	if have != nil && (want == nil || want.Renew) {
		if recover {
			shrink = append(shrink, Op{Kind: Write, Path: dir + "/release_recover", Value: []byte("1")})
		}
		shrink = append(shrink, Op{Kind: Rmdir, Path: dir})
		have = nil
	}
	if want == nil {
		return shrink, nil
	}
	weight := Op{Kind: Write, Path: dir + "/weight", Value: strconv.AppendInt(nil, int64(want.Weight), 10)}
	switch {
	case have == nil:
		grow = append(grow, Op{Kind: Mkdir, Path: dir}, setNodeID(dir, id), weight)
	case have.Weight != want.Weight:
		grow = append(grow, weight)
	}
	return shrink, grow
}

// RemoveSpace removes a lockspace's members and then its directory.
func RemoveSpace(ls string, have Space) []Op {
	var ops []Op
	for _, id := range slices.Sorted(maps.Keys(have.Members)) {
		ops = append(ops, Op{Kind: Rmdir, Path: MemberPath(ls, id)})
	}
	return append(ops, Op{Kind: Rmdir, Path: SpacePath(ls)})
}

// setNodeID is needed up to Linux 6.12, where it is -1 until written, and is
// ignored from 6.17 on, where it is the directory's name.
func setNodeID(dir string, id uint32) Op {
	return Op{Kind: Write, Path: dir + "/nodeid", Value: strconv.AppendUint(nil, uint64(id), 10)}
}

func removes(ops []Op, path string) bool {
	return slices.ContainsFunc(ops, func(o Op) bool { return o.Kind == Rmdir && o.Path == path })
}

func nodeIDs[V any](have, want map[uint32]V) []uint32 {
	ids := map[uint32]bool{}
	for id := range have {
		ids[id] = true
	}
	for id := range want {
		ids[id] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

func lookup[K comparable, V any](m map[K]V, k K) *V {
	if v, ok := m[k]; ok {
		return &v
	}
	return nil
}
