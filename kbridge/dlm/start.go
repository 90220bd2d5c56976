package dlm

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/configfs"
	"github.com/quorate/quorate/membership"
)

// Member is one member of a start. A node whose incarnation or epoch is another
// than at the last start has left and come back: its entry is made anew.
type Member struct {
	Incarnation membership.Incarnation
	Epoch       uint64
}

// Gone is one incarnation that the kernel is to forget. The same node may be a
// member again.
type Gone struct {
	Incarnation membership.Incarnation
	// Failed: it was lost, and proved to be gone: its slot is recovered (journals replayed).
	Failed bool
	// ReleaseRecover: it left and asked for the same.
	ReleaseRecover bool
}

// StartJob is one start of a lockspace.
type StartJob struct {
	Lockspace string
	Token     uint64
	ID        uint32 // the same at all nodes, not 0, and of no other lockspace
	Members   []Member
	Gone      []Gone
	// Join: an online uevent that has not been answered is answered with success
	// when the recovery is done.
	Join bool
	// Hold: leave the answer to AnswerJoin.
	Hold bool
}

func (j *StartJob) check(self membership.NodeID) error {
	if err := CheckName(j.Lockspace); err != nil {
		return err
	}
	seen := map[membership.NodeID]bool{}
	for _, m := range j.Members {
		n := m.Incarnation.Node
		if n == 0 || seen[n] {
			return opError("start", j.Lockspace, fmt.Errorf("%w: node %d", ErrMembers, n))
		}
		seen[n] = true
	}
	if !seen[self] {
		return opError("start", j.Lockspace, fmt.Errorf("%w: this node (%d) is not one of them", ErrMembers, self))
	}
	if j.ID == 0 {
		return opError("start", j.Lockspace, fmt.Errorf("%w: 0 is reserved", ErrID))
	}
	return nil
}

// low says whether the node has the lowest id of the members: it polls the
// others for all, and alone shows when all are done.
func (j *StartJob) low(self membership.NodeID) bool {
	return !slices.ContainsFunc(j.Members, func(m Member) bool { return m.Incarnation.Node < self })
}

// Start writes the members and control=1; StartDone and then Recovered answer.
// The lockspace must be stopped.
func (d *Driver) Start(j StartJob) error {
	if err := j.check(d.o.Self); err != nil {
		return err
	}
	call := d.call(j.Lockspace)
	return d.work.post(lockspaceKey(j.Lockspace), "start", func() {
		t := time.Now()
		sp, err := d.start(&j)
		d.emit(StartDone{Lockspace: j.Lockspace, Token: j.Token, Took: time.Since(t), Err: err})
		if err == nil {
			d.watch(sp, &j, call)
		}
	})
}

func (d *Driver) start(j *StartJob) (*space, error) {
	states := []state{stateJoined, stateOffline}
	if j.Join {
		states = append(states, stateOnline)
	}
	sp, err := d.expect("start", j.Lockspace, states...)
	if err != nil {
		return nil, err
	}
	if sp.running {
		return nil, opError("start", sp.name, fmt.Errorf("%w: it runs; stop it first", ErrState))
	}
	if err := d.awaitPeers(j); err != nil {
		return nil, opError("start", sp.name, err)
	}
	if err := d.writeMembers(sp, j); err != nil {
		return nil, opError("start", sp.name, err)
	}
	if err := d.identify(sp, j); err != nil {
		return nil, opError("start", sp.name, err)
	}
	d.update(func() {
		sp.running, sp.noticed, sp.started = true, false, time.Now()
	})
	if err := d.sysWrite(sp.name, "control", "1"); err != nil {
		d.update(func() { sp.running = false })
		return nil, opError("start", sp.name, err)
	}
	return sp, nil
}

// writeMembers brings configfs to the members of the start, and looks at the
// result: the kernel answers control=1 with success whatever it finds there. It
// touches no more than it must, for all nodes should start within 20 ms.
func (d *Driver) writeMembers(sp *space, j *StartJob) error {
	ids, present, err := configfs.ReadMembers(d.o.Configfs, sp.name)
	if err != nil {
		return err
	}
	have := configured(ids)
	want, changed := d.wanted(sp, j, have)
	var h *configfs.Space
	if present {
		h = &have
	}
	ops, err := configfs.PlanSpace(sp.name, h, &want)
	if err != nil {
		return err
	}
	if present {
		ops = append(d.repeatGone(sp, have, want), ops...)
	}
	d.update(func() { sp.changed = changed })
	if err := configfs.Apply(d.o.Configfs, ops); err != nil {
		return err
	}
	got, _, err := configfs.ReadMembers(d.o.Configfs, sp.name)
	if err != nil {
		return err
	}
	if !slices.Equal(got, slices.Sorted(maps.Keys(want.Members))) {
		return fmt.Errorf("%w: configfs has %v", ErrMembers, got)
	}
	d.update(func() {
		sp.members = map[membership.NodeID]Member{}
		for _, m := range j.Members {
			sp.members[m.Incarnation.Node] = m
		}
	})
	return nil
}

// weight is every member's share of the directory, the kernel's default.
const weight = 1

// configured is what configfs has for a lockspace with these members. Only this
// driver writes there: the attributes are those of the last start.
func configured(ids []uint32) configfs.Space {
	s := configfs.Space{Members: map[uint32]configfs.Member{}}
	for _, id := range ids {
		s.Members[id] = configfs.Member{Weight: weight}
	}
	return s
}

// wanted is the member list of the start, and which nodes it removes or renews.
// A node that goes without a word on how is taken for failed: a needless replay
// of its journal harms nobody, a missing one does.
func (d *Driver) wanted(sp *space, j *StartJob, have configfs.Space) (configfs.Space, map[membership.NodeID]bool) {
	want := configfs.Space{Members: map[uint32]configfs.Member{}, Recover: map[uint32]bool{}}
	changed := maps.Clone(sp.changed)
	if changed == nil {
		changed = map[membership.NodeID]bool{}
	}
	clean := map[membership.NodeID]bool{}
	for _, g := range j.Gone {
		n, replay := g.Incarnation.Node, g.Failed || g.ReleaseRecover
		if old, ok := sp.members[n]; ok && old.Incarnation == g.Incarnation {
			clean[n] = !replay
		}
	}
	for _, m := range j.Members {
		n := m.Incarnation.Node
		old, known := sp.members[n]
		_, again := sp.changed[n]
		want.Members[uint32(n)] = configfs.Member{Weight: weight, Renew: again || !known || old != m}
	}
	for id := range have.Members {
		n := membership.NodeID(id)
		w, stays := want.Members[id]
		_, again := sp.changed[n]
		if stays && (!w.Renew || again && slices.Contains(j.Members, sp.members[n])) {
			continue
		}
		c, said := clean[n]
		changed[n] = changed[n] || (!said || !c) && sp.members[n].Incarnation.Node != 0
	}
	if d.features.ReleaseRecover == configfs.Yes {
		for n, replay := range changed {
			want.Recover[uint32(n)] = replay
		}
	}
	return want, changed
}

// repeatGone tells again of nodes that were removed by a start which the kernel
// did not notice before the next stop: since Linux 6.18 it has forgotten them,
// and would fail the recovery (EFAULT). An entry is made and removed.
func (d *Driver) repeatGone(sp *space, have, want configfs.Space) []configfs.Op {
	if d.features.ReleaseRecover != configfs.Yes {
		return nil
	}
	var ops []configfs.Op
	for _, n := range slices.Sorted(maps.Keys(sp.changed)) {
		id := uint32(n)
		_, here := have.Members[id]
		if here {
			continue
		}
		dir := configfs.MemberPath(sp.name, id)
		ops = append(ops, configfs.Op{Kind: configfs.Mkdir, Path: dir})
		if want.Recover[id] {
			ops = append(ops, configfs.Op{Kind: configfs.Write, Path: dir + "/release_recover", Value: []byte("1")})
		}
		ops = append(ops, configfs.Op{Kind: configfs.Rmdir, Path: dir})
	}
	return ops
}

// identify gives a new lockspace its id, before control=1: messages of
// the other members are routed by the id.
func (d *Driver) identify(sp *space, j *StartJob) error {
	if sp.id != 0 {
		if sp.id != j.ID {
			return fmt.Errorf("%w: it has %d, not %d", ErrID, sp.id, j.ID)
		}
		return nil
	}
	d.mu.Lock()
	for _, o := range d.spaces {
		if o.id == j.ID {
			d.mu.Unlock()
			return fmt.Errorf("%w: %d is %s", ErrID, j.ID, o.name)
		}
	}
	sp.id = j.ID
	d.mu.Unlock()
	err := d.writeID(sp.name, j.ID)
	if err != nil {
		d.update(func() { sp.id = 0 })
	}
	return err
}

// writeID writes the id and reads it back.
func (d *Driver) writeID(ls string, want uint32) error {
	id := strconv.FormatUint(uint64(want), 10)
	if err := d.sysWrite(ls, "id", id); err != nil {
		return err
	}
	got, err := d.o.Sysfs.Read(path.Join(sysfsName(ls), "id"))
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(got)) != id {
		return fmt.Errorf("%w: wrote %s, reads %q", ErrID, id, got)
	}
	return nil
}
