package sim

import "time"

// event is something that happens at a moment of the world's time.
type event struct {
	at  time.Duration
	seq uint64 // events of one moment happen in the order in which they were made
	do  func()
}

// queue is a binary heap of events.
type queue struct{ h []event }

func (q *queue) less(i, j int) bool {
	return q.h[i].at < q.h[j].at || q.h[i].at == q.h[j].at && q.h[i].seq < q.h[j].seq
}

func (q *queue) push(e event) {
	q.h = append(q.h, e)
	for i := len(q.h) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.less(i, up) {
			return
		}
		q.h[i], q.h[up] = q.h[up], q.h[i]
		i = up
	}
}

func (q *queue) pop() event {
	e := q.h[0]
	n := len(q.h) - 1
	q.h[0] = q.h[n]
	q.h[n] = event{}
	q.h = q.h[:n]
	for i := 0; ; {
		c := 2*i + 1
		if c >= n {
			return e
		}
		if c+1 < n && q.less(c+1, c) {
			c++
		}
		if !q.less(c, i) {
			return e
		}
		q.h[i], q.h[c] = q.h[c], q.h[i]
		i = c
	}
}
