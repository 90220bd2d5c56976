package sim

import (
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// talk begins a conversation, or goes on with it.
func (k *kernel) talk(o *kernel) {
	mine, its := k.comms[o.h.id], o.comms[k.h.id]
	if mine.talk == 0 && its.talk == 0 {
		k.w.talks++
		mine.talk, its.talk = k.w.talks, k.w.talks
		k.comms[o.h.id], o.comms[k.h.id] = mine, its
	}
	if mine.talk != its.talk {
		k.w.violate("conversation", "the kernels of nodes %d and %d ignore each other's messages: one began anew", k.h.id, o.h.id)
	}
}

// watchPaths tells a daemon, as long as it runs, to whom the kernel sends in vain.
func (k *kernel) watchPaths(d *daemon, last []membership.NodeID) {
	k.later(2*time.Second, func() {
		if k.h.d != d {
			return
		}
		var now []membership.NodeID
		for _, o := range k.w.hosts {
			if k.inVain(o) {
				now = append(now, o.id)
			}
		}
		if len(now) > 0 || len(last) > 0 {
			d.give(node.Unanswered{Peers: now})
		}
		k.watchPaths(d, now)
	})
}

// vain are data that a peer did not get: since when, and until when that was seen.
type vain struct{ since, until time.Duration }

// inVain says whether data to a peer are lost, or were and have not been sent again
// since. TCP doubles the time between two attempts, up to two minutes.
func (k *kernel) inVain(o *host) bool {
	if k.comms[o.id].talk == 0 {
		delete(k.vain, o.id)
		return false
	}
	v, was := k.vain[o.id]
	if !o.on || o.frozen > 0 || !k.w.net.dlmPath(k.h.id, o.id) {
		if !was {
			v.since = k.w.now
		}
		v.until = k.w.now
		k.vain[o.id] = v
		return true
	}
	again, wait := v.since, 200*time.Millisecond
	for again <= v.until {
		again, wait = again+wait, min(2*wait, 2*time.Minute)
	}
	if !was || again <= k.w.now {
		delete(k.vain, o.id)
		return false
	}
	return true
}

// hangUp ends all conversations when the last lockspace is gone. After a leave both
// ends know; a join that failed is not told to the others.
func (k *kernel) hangUp(told bool) {
	if len(k.spaces) > 0 {
		return
	}
	for id, c := range k.comms {
		if o := k.w.host(id); told && o != nil && o.on && o.boot == c.inc.Boot && o.kern.comms[k.h.id].talk == c.talk {
			its := o.kern.comms[k.h.id]
			its.talk = 0
			o.kern.comms[k.h.id] = its
		}
		c.talk = 0
		k.comms[id] = c
	}
}
