package dlm

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strconv"
	"syscall"
	"time"

	"github.com/quorate/quorate/configfs"
	"github.com/quorate/quorate/membership"
)

// state is what the kernel waits for from us in one lockspace.
type state int

// The states. Each answer is written in exactly one of them (I6).
const (
	stateNone     state = iota // no object, or one that has not asked yet
	stateOnline                // an online uevent waits for its answer
	stateJoined                // it was answered with success
	stateOffline               // an offline uevent waits for its answer
	stateAnswered              // the last answer was given; the object is about to go
)

var states = [...]string{"none", "online", "joined", "offline", "answered"}

// String gives the word for errors and the log.
func (s state) String() string {
	if int(s) < len(states) {
		return states[s]
	}
	return "state(" + strconv.Itoa(int(s)) + ")"
}

// space is one lockspace. All of it is guarded by Driver.mu; besides the calls
// counter only the lockspace's own queue changes it.
type space struct {
	name  string
	state state
	calls uint64 // grows with each Stop, Start, …: what an older one started is void

	id      uint32 // written to the kernel; 0 not yet
	running bool   // control=1 was written, and no control=0 after it
	started time.Time
	noticed bool                         // recover_status has moved since
	members map[membership.NodeID]Member // as applied last
	// changed are the nodes that were removed or renewed (the value: with
	// release_recover) by starts that the kernel may not have noticed.
	changed map[membership.NodeID]bool
}

// state returns what is known of a lockspace; not known: it is none of ours.
func (d *Driver) state(ls string) (at state, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sp := d.spaces[ls]; sp != nil {
		return sp.state, true
	}
	return stateNone, false
}

func lockspaceKey(ls string) string { return "lockspace " + ls }

// call counts a call, which makes void what earlier ones have under way.
func (d *Driver) call(ls string) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	sp := d.spaces[ls]
	if sp == nil {
		return 0
	}
	sp.calls++
	return sp.calls
}

// expect returns the lockspace if it is in one of the states.
func (d *Driver) expect(op, ls string, states ...state) (*space, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sp, at := d.spaces[ls], stateNone
	if sp != nil {
		at = sp.state
	}
	for _, s := range states {
		if s == at && sp != nil {
			return sp, nil
		}
	}
	return nil, opError(op, ls, fmt.Errorf("%w: it is %s, must be one of %v", ErrState, at, states))
}

func (d *Driver) update(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// sysWrite writes one file of a lockspace in sysfs.
func (d *Driver) sysWrite(ls, file, value string) error {
	return d.o.Sysfs.Write(path.Join(sysfsName(ls), file), []byte(value))
}

// Stop makes the kernel stop a lockspace; StopDone answers.
func (d *Driver) Stop(ls string, token uint64) error {
	d.call(ls)
	return d.work.post(lockspaceKey(ls), "stop", func() {
		t := time.Now()
		err := d.stop(ls)
		d.emit(StopDone{Lockspace: ls, Token: token, Took: time.Since(t), Err: err})
	})
}

func (d *Driver) stop(ls string) error {
	sp, err := d.expect("stop", ls, stateOnline, stateJoined, stateOffline)
	if err != nil {
		return err
	}
	d.awaitNotice(sp)
	if err := d.sysWrite(ls, "control", "0"); err != nil {
		return opError("stop", ls, err)
	}
	d.update(func() {
		sp.running = false
		if sp.noticed {
			sp.changed = nil
		}
	})
	return nil
}

// answer writes event_done, once: from a state that waits for it to one that
// does not. If nothing was written the state is as before.
func (d *Driver) answer(sp *space, from, to state, result syscall.Errno) error {
	if _, err := d.expect("answer", sp.name, from); err != nil {
		return err
	}
	d.update(func() { sp.state = to })
	err := d.sysWrite(sp.name, "event_done", strconv.Itoa(-int(result)))
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		d.update(func() { sp.state = from })
	}
	return opError("answer", sp.name, err)
}

// AnswerJoin answers the online uevent of a start with Hold with success;
// JoinAnswered tells.
func (d *Driver) AnswerJoin(ls string, token uint64) error {
	return d.work.post(lockspaceKey(ls), "answer-join", func() {
		sp, err := d.expect("answer-join", ls, stateOnline)
		if err == nil {
			err = d.answer(sp, stateOnline, stateJoined, 0)
		}
		d.emit(JoinAnswered{Lockspace: ls, Token: token, Err: err})
	})
}

// FinishLeave stops the kernel's lockspace, clears its members and answers the
// offline uevent; LeaveDone tells.
func (d *Driver) FinishLeave(ls string, token uint64) error {
	d.call(ls)
	return d.work.post(lockspaceKey(ls), "leave", func() {
		d.emit(LeaveDone{Lockspace: ls, Token: token, Err: d.finish("leave", ls, stateOffline, 0)})
	})
}

// FailJoin clears the members and answers the online uevent with an error, which
// the mount or program gets; JoinFailed tells.
func (d *Driver) FailJoin(ls string, errno syscall.Errno, token uint64) error {
	if errno == 0 {
		return opError("fail-join", ls, fmt.Errorf("%w: 0 is no error", ErrState))
	}
	d.call(ls)
	return d.work.post(lockspaceKey(ls), "fail-join", func() {
		d.emit(JoinFailed{Lockspace: ls, Token: token, Err: d.finish("fail-join", ls, stateOnline, errno)})
	})
}

// finish is the end of a lockspace here. What cannot be cleared in configfs does
// not keep the answer back: the kernel's task waits without a limit.
func (d *Driver) finish(op, ls string, from state, errno syscall.Errno) error {
	sp, err := d.expect(op, ls, from)
	if err != nil {
		return err
	}
	if sp.running || from == stateOffline {
		if err := d.sysWrite(ls, "control", "0"); err != nil && !errors.Is(err, syscall.ENOENT) {
			return opError(op, ls, err)
		}
	}
	d.update(func() { sp.running = false })
	if err := d.clearSpace(ls); err != nil {
		d.o.Log.Warn("members of a lockspace are left in configfs", slog.String("lockspace", ls), slog.Any("err", err))
	}
	return d.answer(sp, from, stateAnswered, errno)
}

// clearSpace removes a lockspace's members from configfs.
func (d *Driver) clearSpace(ls string) error {
	have, ok, err := configfs.ReadSpace(d.o.Configfs, ls)
	if err != nil || !ok {
		return err
	}
	return configfs.Apply(d.o.Configfs, configfs.RemoveSpace(ls, have))
}
