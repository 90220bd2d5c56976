package dlm

import (
	"fmt"
	"log/slog"
	"path"
	"strconv"
	"strings"
	"time"
)

// Bits of recover_status (fs/dlm/dlm_internal.h).
const (
	statusDone    = 0x40 // our own part
	statusDoneAll = 0x80 // all members', set at the one with the lowest id
)

// noticeLimit is how long after a start that removed or renewed members a stop
// waits for recoverd to take it up (S21). It is short, because recover_status
// also stays 0 while a member does not answer, as when it has just died, and
// because what may have been lost is told again by the next start.
const noticeLimit = 100 * time.Millisecond

// pollAfter are the pauses between two looks at recover_status; the last one is
// kept. The kernel's own barriers poll at 20 ms and more.
var pollAfter = [...]time.Duration{2, 5, 10, 20, 50}

func pause(look int) time.Duration {
	return pollAfter[min(look, len(pollAfter)-1)] * time.Millisecond
}

// ParseStatus reads recover_status, a hexadecimal number.
func ParseStatus(b []byte) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 16, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: recover_status %q", ErrParse, b)
	}
	return uint32(n), nil
}

func (d *Driver) status(ls string) (uint32, error) {
	b, err := d.o.Sysfs.Read(path.Join(sysfsName(ls), "recover_status"))
	if err != nil {
		return 0, err
	}
	return ParseStatus(b)
}

// watch polls a start's recovery until it is done or another call voids it.
func (d *Driver) watch(sp *space, j *StartJob, call uint64) {
	want := uint32(statusDone)
	if j.low(d.o.Self) {
		want |= statusDoneAll
	}
	d.side.Go(func() {
		for look := 0; ; look++ {
			st, err := d.status(sp.name)
			if err != nil {
				d.o.Log.Debug("recovery is not visible", slog.String("lockspace", sp.name), slog.Any("err", err))
				return
			}
			first, ok := d.seen(sp, call, st)
			if !ok {
				return
			}
			if first {
				d.emit(Noticed{Lockspace: sp.name, Token: j.Token})
			}
			if st&want == want {
				d.work.must(lockspaceKey(sp.name), "recovered", func() { d.recovered(sp, j, call, st) })
				return
			}
			if !d.sleep(pause(look)) {
				return
			}
		}
	})
}

// seen notes that the kernel is at the start, for the first time or again; not ok if
// it is not the last call.
func (d *Driver) seen(sp *space, call uint64, status uint32) (first, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sp.calls != call {
		return false, false
	}
	first = status != 0 && !sp.noticed
	sp.noticed = sp.noticed || first
	return first, true
}

// sleep pauses; false if the driver ended.
func (d *Driver) sleep(p time.Duration) bool {
	t := time.NewTimer(p)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-d.ctx.Done():
		return false
	}
}

// recovered answers a joiner's uevent and reports. It runs in the lockspace's
// queue, so that no stop is in between.
func (d *Driver) recovered(sp *space, j *StartJob, call uint64, status uint32) {
	d.mu.Lock()
	stale, took, online := sp.calls != call, time.Since(sp.started), sp.state == stateOnline
	if !stale {
		sp.changed = nil
	}
	d.mu.Unlock()
	if stale {
		return
	}
	var err error
	if online && !j.Hold {
		err = d.answer(sp, stateOnline, stateJoined, 0)
	}
	d.emit(Recovered{Lockspace: sp.name, Token: j.Token, Status: status, Took: took, Err: err})
}

// awaitNotice waits until recoverd has taken the last start up: before that a
// stop would lose what the start said of members gone and renewed. A start that
// only added some has nothing to lose.
func (d *Driver) awaitNotice(sp *space) {
	d.mu.Lock()
	need := sp.running && !sp.noticed && len(sp.changed) > 0
	until := sp.started.Add(noticeLimit)
	d.mu.Unlock()
	for look := 0; need && time.Now().Before(until); look++ {
		if st, err := d.status(sp.name); err != nil || st != 0 {
			d.update(func() { sp.noticed = err == nil })
			return
		}
		if !d.sleep(2 * time.Millisecond) {
			return
		}
	}
}
