package dlm

import (
	"errors"
	"log/slog"
	"syscall"
	"time"
)

const releaseTick = 20 * time.Millisecond // between looks whether who was refused has gone

// Release is a Close that refuses who waits to join before: they are told errno. It is
// ErrHeld when a lockspace was started, or when one is still there after 5 s; Halt is
// left then.
func (d *Driver) Release(errno syscall.Errno) error {
	tick := time.NewTicker(releaseTick)
	defer tick.Stop()
	limit := time.NewTimer(haltLimit)
	defer limit.Stop()
	told := map[string]bool{}
	for {
		names, started := d.joining()
		for _, ls := range names {
			if !told[ls] {
				told[ls] = true
				d.o.Log.Warn("a join is refused: this driver ends", slog.String("lockspace", ls))
				if err := d.FailJoin(ls, errno, 0); err != nil {
					return err
				}
			}
		}
		err := d.Quiesce()
		if err == nil {
			return d.Close()
		}
		if started || !errors.Is(err, ErrHeld) {
			return err
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return err
		}
	}
}

// joining are the lockspaces that wait for the answer to their join, and were not
// started; started: some other was.
func (d *Driver) joining() (names []string, started bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, sp := range d.spaces {
		switch {
		case sp.state == stateOnline && !sp.running:
			names = append(names, sp.name)
		case sp.running || sp.state == stateJoined || sp.state == stateOffline:
			started = true
		}
	}
	return names, started
}
