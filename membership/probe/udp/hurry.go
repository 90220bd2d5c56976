package udp

import (
	"time"

	"github.com/quorate/quorate/membership"
)

// Hurry has a peer probed more often for so long, on all its links: there is a hint that
// something is wrong with it, or with a way to it. See probe.Hurry for what it does not do.
func (p *Prober) Hurry(peer membership.NodeID, long time.Duration) {
	wake := false
	for _, t := range p.table.Load().index[peer] {
		if t == nil {
			continue
		}
		t.mu.Lock()
		if t.hurry.Hint(now(), long) {
			t.hurried.Store(int64(t.hurry.Until()))
			wake = true
		}
		t.mu.Unlock()
	}
	if !wake {
		return
	}
	p.count(hurries)
	select {
	case p.retable <- struct{}{}:
	default:
	}
}

// turnAt says when the next probe of a target is due, and notes whether it is one between
// two intervals.
func (t *target) turnAt(at membership.Mono) membership.Mono {
	t.between = t.extra < t.due && at < membership.Mono(t.hurried.Load())
	if t.between {
		return t.extra
	}
	return t.due
}
