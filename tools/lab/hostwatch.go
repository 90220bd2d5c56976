package lab

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// HostWatch notices when a processor of this machine runs nothing for a while, as
// when the machine is a guest itself and its host is busy. A node of the lab stands
// still with it, and the others cannot know why.
type HostWatch struct {
	mu    sync.Mutex
	worst time.Duration
	at    time.Time
	stop  chan struct{}
	wg    sync.WaitGroup
}

// watchEvery is how often each processor is looked at.
const watchEvery = 20 * time.Millisecond

// WatchHost begins. It needs the right to real-time priority: without it a busy
// machine looks like one that stands still.
func WatchHost() *HostWatch {
	h := &HostWatch{stop: make(chan struct{})}
	var may unix.CPUSet
	if unix.SchedGetaffinity(0, &may) != nil {
		return h
	}
	for cpu := range len(may) * 64 {
		if may.IsSet(cpu) {
			h.wg.Go(func() { h.watch(cpu) })
		}
	}
	return h
}

func (h *HostWatch) watch(cpu int) {
	runtime.LockOSThread() // and not given back: the thread ends with its priority
	var one unix.CPUSet
	one.Set(cpu)
	if unix.SchedSetaffinity(0, &one) != nil || unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0) != nil {
		return
	}
	for {
		select {
		case <-h.stop:
			return
		default:
		}
		begin, ts := time.Now(), unix.NsecToTimespec(int64(watchEvery))
		_ = unix.Nanosleep(&ts, nil)
		h.note(begin, time.Since(begin)-watchEvery)
	}
}

func (h *HostWatch) note(at time.Time, late time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if late > h.worst {
		h.worst, h.at = late, at
	}
}

// String says so, and when.
func (h *HostWatch) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("a processor of this machine stood still for %v at %s", h.worst.Round(time.Millisecond), h.at.Format("15:04:05.000"))
}

// Close ends it.
func (h *HostWatch) Close() {
	close(h.stop)
	h.wg.Wait()
}
