package dlm

import (
	"errors"
	"log/slog"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	dyingEvery = 100 * time.Millisecond // looks at an object that should be about to go
	dyingLimit = 2 * time.Second        // after which it is a new one
)

// listen takes uevents until the source ends.
func (d *Driver) listen() {
	for {
		b, err := d.o.Uevents.Next()
		switch {
		case d.ctx.Err() != nil:
			return
		case errors.Is(err, ErrOverrun):
			d.o.Log.Warn("uevents were lost; listing the lockspaces again")
			d.rescan(true)
			continue
		case err != nil:
			d.emit(Failed{Err: opError("uevents", "netlink", err)})
			return
		}
		u, err := ParseUevent(b)
		if err != nil {
			d.o.Log.Debug("uevent not understood", slog.Any("err", err))
			continue
		}
		d.dispatch(u.event())
	}
}

// dispatch hands an event of a lockspace to its queue, after what is under way
// there: a new life of a lockspace is reported after the end of the last.
func (d *Driver) dispatch(e Event) {
	switch e := e.(type) {
	case nil:
	case Added:
		d.inQueue(e.Lockspace, "add", func() { d.added(e) })
	case Online:
		d.inQueue(e.Lockspace, "online", func() { d.online(e) })
	case Offline:
		d.inQueue(e.Lockspace, "offline", func() { d.offline(e) })
	case Removed:
		d.inQueue(e.Lockspace, "remove", func() { d.removed(e) })
	default:
		d.emit(e)
	}
}

func (d *Driver) inQueue(ls, what string, do func()) { d.work.must(lockspaceKey(ls), what, do) }

// fresh begins a new life of a lockspace. Driver.mu is held.
func (d *Driver) fresh(ls string) *space {
	if old := d.spaces[ls]; old != nil {
		old.calls++
	}
	sp := &space{name: ls}
	d.spaces[ls] = sp
	return sp
}

func (d *Driver) added(e Added) {
	d.update(func() { d.fresh(e.Lockspace) })
	d.emit(e)
}

func (d *Driver) online(e Online) {
	var sp *space
	fresh := false
	d.update(func() {
		if sp = d.spaces[e.Lockspace]; sp == nil || sp.state == stateAnswered {
			sp = d.fresh(e.Lockspace)
		}
		if fresh = sp.state == stateNone; fresh {
			sp.state = stateOnline
		}
	})
	if !fresh {
		d.o.Log.Debug("online was known already", slog.String("lockspace", e.Lockspace))
		return
	}
	if err := CheckName(e.Lockspace); err != nil {
		if aerr := d.answer(sp, stateOnline, stateAnswered, syscall.EINVAL); aerr != nil {
			err = aerr
		}
		d.emit(JoinFailed{Lockspace: e.Lockspace, Err: err})
		return
	}
	d.emit(e)
}

func (d *Driver) offline(e Offline) {
	var was state
	d.update(func() {
		sp := d.spaces[e.Lockspace]
		if sp == nil {
			sp = d.fresh(e.Lockspace)
		}
		was, sp.state = sp.state, stateOffline
	})
	if was == stateOffline {
		return
	}
	if was != stateJoined {
		d.o.Log.Warn("offline came unexpectedly", slog.String("lockspace", e.Lockspace), slog.String("state", was.String()))
	}
	d.emit(e)
}

// removed forgets a lockspace. Without a farewell (release without events, as
// when no daemon was there) its members are cleared.
func (d *Driver) removed(e Removed) {
	was := stateNone
	d.update(func() {
		if sp := d.spaces[e.Lockspace]; sp != nil {
			was = sp.state
			sp.calls++
		}
		delete(d.spaces, e.Lockspace)
	})
	if was != stateNone && was != stateAnswered {
		d.o.Log.Warn("lockspace went without a farewell", slog.String("lockspace", e.Lockspace), slog.String("state", was.String()))
		if err := d.clearSpace(e.Lockspace); err != nil {
			d.o.Log.Warn("members of a lockspace are left in configfs", slog.String("lockspace", e.Lockspace), slog.Any("err", err))
		}
	}
	d.emit(e)
}

// rescan compares the lockspaces in sysfs with those known. An object without an
// id whose recovery was never started waits for the answer to its online.
func (d *Driver) rescan(lost bool) {
	names, err := d.held()
	if err != nil {
		d.o.Log.Error("cannot list lockspaces", slog.Any("err", err))
		return
	}
	var doubtful, vanished []string
	d.update(func() {
		for _, sp := range d.spaces {
			switch here := slices.Contains(names, sysfsName(sp.name)); {
			case !here:
				vanished = append(vanished, sp.name)
			case sp.state == stateJoined:
				doubtful = append(doubtful, sp.name)
			}
		}
	})
	slices.Sort(vanished)
	slices.Sort(doubtful)
	if lost {
		d.emit(Overrun{Doubtful: doubtful})
	}
	for _, ls := range vanished {
		d.inQueue(ls, "remove", func() { d.vanished(ls) })
	}
	for _, ls := range names {
		d.inQueue(ls, "look", func() { d.look(ls, time.Time{}) })
	}
}

// vanished is a remove that was not heard, unless the lockspace is back.
func (d *Driver) vanished(ls string) {
	if _, err := d.status(ls); errors.Is(err, syscall.ENOENT) {
		if _, known := d.state(ls); known {
			d.removed(Removed{Lockspace: ls})
		}
	}
}

// look decides whether an object found in sysfs waits for an answer. One that had
// its last answer should be about to go: it is looked at again for a while.
func (d *Driver) look(ls string, since time.Time) {
	at, _ := d.state(ls)
	if at != stateNone && at != stateAnswered || !d.waiting(ls) {
		return
	}
	if at == stateAnswered {
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) < dyingLimit {
			d.side.Go(func() {
				if d.sleep(dyingEvery) {
					d.inQueue(ls, "look", func() { d.look(ls, since) })
				}
			})
			return
		}
	}
	d.online(Online{Lockspace: ls})
}

// waiting: no id was ever written and no recovery has begun.
func (d *Driver) waiting(ls string) bool {
	id, err := d.o.Sysfs.Read(path.Join(sysfsName(ls), "id"))
	if err != nil || strings.TrimSpace(string(id)) != "0" {
		return false
	}
	st, err := d.status(ls)
	return err == nil && st == 0
}
