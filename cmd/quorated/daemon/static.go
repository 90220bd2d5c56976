package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership/group/static"
)

// openStatic makes the group that orders by the word of a list. It has no log,
// so nothing of it can be broken.
func (d *Daemon) openStatic(opt *node.Options) error {
	l, err := newMemberList(d.cfg)
	if err != nil {
		return err
	}
	m, err := static.New(static.Config{Self: d.cfg.Self, Members: l.list.Nodes, Run: random64(), Name: d.cfg.Name})
	if err != nil {
		return err
	}
	d.vetted = func() bool { return true }
	d.fault = func() error { return nil }
	first := l.list
	opt.Group, opt.List = m, &first
	if d.cfg.MembersFile != "" {
		d.members = l
	}
	return nil
}

// lookEvery is how often the list of members is read. Reading it again finds
// every way in which a file can change (written, moved over, a link turned
// elsewhere, a file system mounted on it) without a watch that each of them would
// break; it costs an open and a read of a small file a second.
const lookEvery = time.Second

// memberList is the list of members as it was read last.
type memberList struct {
	cfg   config.Config
	list  node.List
	taken string // what list was made of
	seen  string // what the last look gave
}

// newMemberList reads the list for the first time: it must be whole.
func newMemberList(cfg config.Config) (*memberList, error) {
	ids, err := cfg.Members()
	if err != nil {
		return nil, err
	}
	from := cfg.MembersFile
	if from == "" {
		from = cfg.Path
	}
	return &memberList{cfg: cfg, list: node.List{Nodes: ids, From: from}}, nil
}

// look takes what reading the file gave. A change counts when two looks agree on
// it: a file that is being written in its place loses its end for a moment, and
// who is missing from it would be taken for dead. A list that cannot be used
// leaves the one before in force.
func (m *memberList) look(data []byte, err error) (node.List, bool) {
	now := "read " + string(data)
	if err != nil {
		now = "error " + err.Error()
	}
	settled := now == m.seen
	m.seen = now
	if !settled || now == m.taken {
		return m.list, false
	}
	m.taken = now
	ids, err := m.cfg.MembersFrom(data, err)
	if err != nil {
		m.list.Err = fmt.Sprintf("the list of members was not taken, the one before holds: %v", err)
	} else {
		m.list.Nodes, m.list.Err = ids, ""
	}
	return m.list, true
}

// watch posts every word of the list that counts, until ctx ends.
func (m *memberList) watch(ctx context.Context, read func() ([]byte, error), post func(node.Input)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if l, changed := m.look(read()); changed {
				post(node.Listed{List: l})
			}
		}
	}
}
