package dlm

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// queueLimit bounds the operations that wait for one lockspace or peer. The
// caller's own state machine has a few at most.
const queueLimit = 64

// Operation is one that is under way or waits, for status.
type Operation struct {
	Key   string        // "lockspace gfs", "peer 3"
	What  string        // start, stop, remove-peer, …
	Since time.Duration // how long it has been at it; 0 while it waits in the queue
}

// workers are queues by key, each worked off by one goroutine while there is
// something in it.
type workers struct {
	mu     sync.Mutex
	wg     sync.WaitGroup
	queues map[string]*queue
	closed bool
}

type queue struct {
	jobs  []job
	began time.Time     // of jobs[0]
	idle  chan struct{} // closed when the queue is empty
}

type job struct {
	what string
	do   func()
}

func newWorkers() *workers { return &workers{queues: map[string]*queue{}} }

// post appends a job to a queue. It never blocks; a full queue is ErrBusy.
func (w *workers) post(key, what string, do func()) error {
	return w.add(key, what, queueLimit, do)
}

// must appends what the kernel said or what was promised: it cannot be dropped.
func (w *workers) must(key, what string, do func()) {
	_ = w.add(key, what, math.MaxInt, do)
}

func (w *workers) add(key, what string, limit int, do func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return opError(what, key, ErrClosed)
	}
	q := w.queues[key]
	if q != nil {
		if len(q.jobs) >= limit {
			return opError(what, key, ErrBusy)
		}
		q.jobs = append(q.jobs, job{what, do})
		return nil
	}
	q = &queue{jobs: []job{{what, do}}, began: time.Now(), idle: make(chan struct{})}
	w.queues[key] = q
	w.wg.Go(func() { w.work(key, q) })
	return nil
}

func (w *workers) work(key string, q *queue) {
	for {
		w.mu.Lock()
		do := q.jobs[0].do
		q.began = time.Now()
		w.mu.Unlock()
		do()
		w.mu.Lock()
		q.jobs = q.jobs[1:]
		if len(q.jobs) == 0 {
			delete(w.queues, key)
			close(q.idle)
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// wait returns when what was posted to the key before is done.
func (w *workers) wait(ctx context.Context, key string) error {
	w.mu.Lock()
	q := w.queues[key]
	w.mu.Unlock()
	if q == nil {
		return nil
	}
	select {
	case <-q.idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close takes no more jobs; those under way and in the queues go on.
func (w *workers) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
}

// join waits until all queues are empty, at most for the limit.
func (w *workers) join(limit time.Duration) bool {
	done := make(chan struct{})
	go func() { w.wg.Wait(); close(done) }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// busy lists the operations, by key and in order.
func (w *workers) busy() []Operation {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ops []Operation
	for key, q := range w.queues {
		for i, j := range q.jobs {
			o := Operation{Key: key, What: j.what}
			if i == 0 {
				o.Since = time.Since(q.began)
			}
			ops = append(ops, o)
		}
	}
	slices.SortStableFunc(ops, func(a, b Operation) int { return strings.Compare(a.Key, b.Key) })
	return ops
}
